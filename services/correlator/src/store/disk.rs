//! The store on disk, in fjall: one keyspace, atomic batches, written to the operating system at each batch.
//! It must never be needed: whatever happens to it, the state topic rebuilds it.

use std::path::Path;
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

use super::{Store, StoreError, Write};

/// How long to wait for a predecessor that is just ending.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Wait between two tries.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Blocks kept in memory, in bytes.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// A directory held by fjall.
pub struct DiskStore {
    database: Database,
    entries: Keyspace,
    directory: String,
}

impl DiskStore {
    /// Opens or creates the store in `directory`.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process holds it for longer than a moment, [`StoreError::Damaged`] if it
    /// cannot be read or made.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let name = directory.display().to_string();
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match Self::try_open(directory, &name) {
                Err(StoreError::Locked(_)) if Instant::now() < deadline => {
                    std::thread::sleep(LOCK_RETRY_INTERVAL);
                }
                done => return done,
            }
        }
    }

    fn try_open(directory: &Path, name: &str) -> Result<Self, StoreError> {
        let failed = |error: fjall::Error| match error {
            fjall::Error::Locked => StoreError::Locked(name.to_owned()),
            other => StoreError::Damaged { directory: name.to_owned(), reason: other.to_string() },
        };
        let database = Database::builder(directory).cache_size(CACHE_BYTES).open().map_err(failed)?;
        let entries = database.keyspace("state", KeyspaceCreateOptions::default).map_err(failed)?;
        Ok(Self { database, entries, directory: name.to_owned() })
    }

    fn failed(&self, error: &fjall::Error) -> StoreError {
        StoreError::Damaged { directory: self.directory.clone(), reason: error.to_string() }
    }
}

impl Store for DiskStore {
    fn write(&self, writes: &[Write]) -> Result<(), StoreError> {
        // To the operating system, so that a killed process loses nothing of it.
        let mut batch = OwnedWriteBatch::with_capacity(self.database.clone(), writes.len());
        batch = batch.durability(Some(PersistMode::Buffer));
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(&self.entries, key.as_slice(), value.as_slice()),
                None => batch.remove(&self.entries, key.as_slice()),
            }
        }
        batch.commit().map_err(|error| self.failed(&error))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.entries.get(key).map_err(|error| self.failed(&error))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StoreError> {
        for entry in self.entries.range(from..) {
            let (key, value) = entry.into_inner().map_err(|error| self.failed(&error))?;
            if !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncAll).map_err(|error| self.failed(&error))
    }
}
