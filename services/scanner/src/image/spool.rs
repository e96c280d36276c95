//! Holds one file of a layer while the catalogers look into it: in memory, or in a file without a name.
//! It must never hold two files at once, nor leave anything behind.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use plimsoll_catalog::digest::{FileAt, MAX_DIGESTED_FILE_BYTES, ReadAt};

use super::store::{nameless_file, temporary_directory};

/// Most bytes of a file that are held in memory; a longer one goes to the disk.
pub const SPOOL_MEMORY_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Most bytes of one file; longer ones are not looked into.
pub const SPOOL_MAX_BYTES: u64 = MAX_DIGESTED_FILE_BYTES;

/// See the module's documentation.
#[derive(Default)]
pub struct Spool {
    memory: Vec<u8>,
    disk: Option<Disk>,
}

struct Disk {
    file: File,
    size_bytes: u64,
}

/// There is no room for a file.
#[derive(Debug)]
pub struct SpoolFull {
    pub directory: PathBuf,
    pub source: io::Error,
}

impl Spool {
    /// Makes room for a file of `size_bytes`.
    ///
    /// # Errors
    /// [`SpoolFull`] if it must go to the disk and cannot.
    pub fn begin(&mut self, size_bytes: u64) -> Result<(), SpoolFull> {
        self.memory.clear();
        self.disk = None;
        if size_bytes > SPOOL_MEMORY_MAX_BYTES as u64 {
            let directory = temporary_directory();
            let file = nameless_file(&directory).map_err(|source| SpoolFull { directory, source })?;
            self.disk = Some(Disk { file, size_bytes: 0 });
        }
        Ok(())
    }

    /// Adds what comes next.
    ///
    /// # Errors
    /// [`SpoolFull`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SpoolFull> {
        match &mut self.disk {
            None => self.memory.extend_from_slice(bytes),
            Some(disk) => {
                disk.file
                    .write_all(bytes)
                    .map_err(|source| SpoolFull { directory: temporary_directory(), source })?;
                disk.size_bytes += bytes.len() as u64;
            }
        }
        Ok(())
    }

    /// Lets `look` read the file from any offset, then forgets it.
    pub fn look<T>(&mut self, look: impl FnOnce(&dyn ReadAt) -> T) -> T {
        let result = match &self.disk {
            None => look(&self.memory),
            Some(disk) => look(&FileAt::new(disk.file.as_fd(), disk.size_bytes)),
        };
        self.memory.clear();
        self.disk = None;
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_catalog::digest::read_range;

    #[track_caller]
    fn check(spool: &mut Spool, pieces: &[&[u8]], announced_bytes: u64) {
        spool.begin(announced_bytes).unwrap();
        pieces.iter().for_each(|piece| spool.push(piece).unwrap());
        let whole = pieces.concat();
        let read = spool.look(|file| (file.size(), read_range(file, 1, whole.len()).unwrap()));
        assert_eq!(read, (whole.len() as u64, whole[1..].to_vec()));
    }

    #[test]
    fn in_memory_and_on_disk_one_after_the_other() {
        let mut spool = Spool::default();
        check(&mut spool, &[b"abc", b"def"], 6);
        check(&mut spool, &[b"ab", b"cd"], SPOOL_MEMORY_MAX_BYTES as u64 + 1);
        check(&mut spool, &[b"x"], 1);
    }
}
