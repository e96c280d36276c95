//! What files hold that containers have written, so that each state of a file is read once.
//! It must never give the digest of another state than the one that was seen.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use plimsoll_catalog::ownership::Content as Checksum;
use plimsoll_schemas::identity::Sha256Digest;
use rustix::fs::Stat;

use crate::beneath;
use crate::bounded::BoundedMap;
use crate::drift::Lower;
use crate::roots::Root;

/// Longest archive that is compared with those within others, in bytes.
const COMPARED_ARCHIVE_MAX_BYTES: u64 = 512 * 1024 * 1024;
/// Most digests of files remembered.
const CONTENTS_MAX_ENTRIES: usize = 50_000;

/// Which state of which file: device, inode, size, and time of the last change in seconds and nanoseconds.
type FileState = (u64, u64, i64, i64, i64);

fn state_of(stat: &Stat) -> FileState {
    (stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime, stat.st_ctime_nsec as i64)
}

/// Artifact, canonical path, and state of the file that the container wrote.
type ContentKey = (String, Vec<u8>, FileState);

/// What one state of a file holds.
#[derive(Clone, Copy)]
pub struct Content {
    pub digest: Sha256Digest,
    pub lower: Lower,
}

/// What files hold, so that each state of a file is read once.
pub struct Contents {
    known: Mutex<BoundedMap<ContentKey, Content>>,
    checksums: Mutex<BoundedMap<FileState, Checksum>>,
    max_bytes: u64,
}

impl Contents {
    /// Reads files of at most `max_bytes`.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            known: Mutex::new(BoundedMap::new(CONTENTS_MAX_ENTRIES)),
            checksums: Mutex::new(BoundedMap::new(CONTENTS_MAX_ENTRIES)),
            max_bytes,
        }
    }

    /// Digest of an opened file; `None` of none.
    ///
    /// # Errors
    /// If it cannot be read, or is too long.
    pub fn digest(&self, file: Option<File>) -> io::Result<Option<Sha256Digest>> {
        match file {
            None => Ok(None),
            Some(mut file) => match beneath::digest(&mut file, self.max_bytes)? {
                Some(digest) => Ok(Some(digest)),
                None => Err(io::Error::other(format!(
                    "it is longer than {} bytes; raise resolver.compared_file_max_bytes",
                    self.max_bytes
                ))),
            },
        }
    }

    /// Size and checksum of an opened file; `None` if it is too long to be compared.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn checksum(&self, file: &File, stat: &Stat) -> io::Result<Option<Checksum>> {
        let state = state_of(stat);
        let known = self.checksums.lock().unwrap_or_else(PoisonError::into_inner).get(&state);
        if let Some(checksum) = known {
            return Ok(Some(checksum));
        }
        let found = Checksum::of(file, COMPARED_ARCHIVE_MAX_BYTES)?;
        // Of a file that changes under our hands it says nothing.
        let is_settled = state_of(&rustix::fs::fstat(file)?) == state;
        if let Some(checksum) = found.filter(|_| is_settled) {
            self.checksums.lock().unwrap_or_else(PoisonError::into_inner).insert(state, checksum);
        }
        Ok(found.filter(|_| is_settled))
    }

    /// Digest of a file that the container has written, and how it compares with the image's; `None`: no regular file.
    ///
    /// # Errors
    /// If it cannot be read, or is too long.
    pub fn written(
        &self,
        artifact: &str,
        root: &Root,
        path: &[u8],
        upper: &Stat,
    ) -> io::Result<Option<Content>> {
        let layers = root.layers();
        let key = (artifact.to_owned(), path.to_vec(), state_of(upper));
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key);
        if let Some(content) = known
            && (content.lower != Lower::Unknown || layers.is_none())
        {
            return Ok(Some(content));
        }
        // Through the root, not the upper directory: overlayfs may have copied up no more than the metadata.
        let file = beneath::open_regular(root.directory(), path)?;
        let Some(digest) = self.digest(file)? else { return Ok(None) };
        let lower = match layers.map(|layers| layers.open_regular(path).and_then(|file| self.digest(file))) {
            None | Some(Err(_)) => Lower::Unknown,
            Some(Ok(None)) => Lower::Absent,
            Some(Ok(Some(image))) if image == digest => Lower::Same,
            Some(Ok(Some(_))) => Lower::Different,
        };
        let content = Content { digest, lower };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, content);
        Ok(Some(content))
    }
}
