//! Digests of files on disk, kept in memory so that an index built again does not look into unchanged files again.
//! Never answers for a file that may have changed: its device, inode, size and time of change are the key.

use rustix::fs::Stat;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Most bytes of digests kept in each of two generations.
const MAX_GENERATION_BYTES: usize = 32 * 1024 * 1024;
/// What an entry costs besides its bytes.
const ENTRY_BYTES: usize = 128;
/// A file that changed this shortly before may change again without a new time: clock ticks are coarse.
const SETTLED_AFTER_SECONDS: i64 = 2;

/// One state of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileState {
    device: u64,
    inode: u64,
    size_bytes: i64,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl FileState {
    /// `None` while the file may still be changing.
    pub fn of(stat: &Stat) -> Option<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs() as i64;
        (stat.st_ctime + SETTLED_AFTER_SECONDS < now).then_some(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size_bytes: stat.st_size,
            changed: (stat.st_ctime, stat.st_ctime_nsec as i64),
            modified: (stat.st_mtime, stat.st_mtime_nsec as i64),
        })
    }
}

type Key = (&'static str, FileState);

#[derive(Default)]
struct Generations {
    young: HashMap<Key, Box<[u8]>>,
    old: HashMap<Key, Box<[u8]>>,
    young_bytes: usize,
}

static KNOWN: Mutex<Option<Generations>> = Mutex::new(None);

/// The digest of the file in this state, made by `make` if it is not known.
pub(crate) fn cached<E>(
    digester: &'static str,
    state: Option<FileState>,
    make: impl FnOnce() -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let Some(state) = state else { return make() };
    let key = (digester, state);
    if let Some(bytes) = look(&key) {
        return Ok(bytes.into_vec());
    }
    let bytes = make()?;
    keep(key, &bytes);
    Ok(bytes)
}

fn look(key: &Key) -> Option<Box<[u8]>> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.as_mut()?;
    if let Some(bytes) = known.young.get(key) {
        return Some(bytes.clone());
    }
    let bytes = known.old.remove(key)?;
    insert(known, *key, bytes.clone());
    Some(bytes)
}

fn keep(key: Key, bytes: &[u8]) {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    insert(known.get_or_insert_default(), key, bytes.into());
}

fn insert(known: &mut Generations, key: Key, bytes: Box<[u8]>) {
    known.young_bytes += bytes.len() + ENTRY_BYTES;
    known.young.insert(key, bytes);
    if known.young_bytes > MAX_GENERATION_BYTES {
        known.old = std::mem::take(&mut known.young);
        known.young_bytes = 0;
    }
}
