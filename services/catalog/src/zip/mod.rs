//! Reads ZIP archives in place (PKWARE APPNOTE 6.3.10, as Java's `ZipFile` and Python's `zipimport` do): the central
//! directory is the truth. Never believes a size, count or offset of the archive, and never inflates beyond a bound.

mod directory;
mod inflate;

use crate::digest::SliceAt;
use crate::tree::ReadAt;
use crate::tree::read_at::{read_full_at, read_range};

pub(crate) use directory::Entry;
pub(crate) use inflate::{Budget, inflate, inflate_zlib};

/// Longest central directory that is read, in bytes.
pub(crate) const MAX_DIRECTORY_BYTES: u64 = 128 * 1024 * 1024;
/// Most members of one archive that are looked at.
pub(crate) const MAX_ENTRIES: usize = 2_000_000;

const LOCAL_HEADER_BYTES: usize = 30;
const FLAG_ENCRYPTED: u16 = 1;
const METHOD_STORED: u16 = 0;
const METHOD_DEFLATED: u16 = 8;

/// Why an archive or a member of it cannot be read. The archive is at fault, except for [`ZipError::Io`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum ZipError {
    #[error("it is no ZIP archive, or its end is missing")]
    NoArchive,
    #[error("its central directory is damaged")]
    Directory,
    #[error("its central directory has {0} bytes, which is over the bound of {MAX_DIRECTORY_BYTES}")]
    DirectoryTooLong(u64),
    #[error("it lies outside of the archive or its header is damaged")]
    Place,
    #[error("it is encrypted")]
    Encrypted,
    #[error("it is compressed by method {0}, which is not supported")]
    Method(u16),
    #[error("its compressed data are damaged")]
    Data,
    #[error("it inflates beyond what an archive of this size may")]
    TooLong,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// An archive whose central directory was read. Holds that directory and nothing else.
pub(crate) struct Archive<'r> {
    file: &'r dyn ReadAt,
    directory: Vec<u8>,
    /// Bytes in front of the archive (a start script), by which all offsets are shifted.
    shift: u64,
}

impl<'r> Archive<'r> {
    /// Reads the central directory, whose length is taken from `budget`.
    ///
    /// # Errors
    /// See [`ZipError`].
    pub fn open(file: &'r dyn ReadAt, budget: &mut Budget) -> Result<Self, ZipError> {
        Self::open_within(file, MAX_DIRECTORY_BYTES, budget)
    }

    /// [`Archive::open`] with a lower bound on the length of the central directory.
    ///
    /// # Errors
    /// See [`ZipError`].
    pub fn open_within(file: &'r dyn ReadAt, max_bytes: u64, budget: &mut Budget) -> Result<Self, ZipError> {
        let place = directory::find(file)?;
        budget.take(usize::try_from(place.size_bytes).unwrap_or(usize::MAX))?;
        if place.size_bytes > max_bytes.min(MAX_DIRECTORY_BYTES) {
            return Err(ZipError::DirectoryTooLong(place.size_bytes));
        }
        let directory = read_range(file, place.start, usize::try_from(place.size_bytes).unwrap_or(0))?;
        if (directory.len() as u64) < place.size_bytes {
            return Err(ZipError::Directory);
        }
        Ok(Self { file, directory, shift: place.shift })
    }

    /// The members, in the order of the directory. Ends early where the directory is damaged:
    /// [`Archive::is_damaged`] tells.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        directory::Entries::new(&self.directory).take(MAX_ENTRIES)
    }

    /// Whether the directory cannot be read to its end, or has too many members.
    pub fn is_damaged(&self) -> bool {
        let mut entries = directory::Entries::new(&self.directory);
        let count = entries.by_ref().take(MAX_ENTRIES).count();
        !entries.is_at_end() || count >= MAX_ENTRIES
    }

    /// At most `max_bytes` of a member's contents, taken from `budget`.
    ///
    /// # Errors
    /// See [`ZipError`]; a member longer than `max_bytes` is cut, not refused.
    pub fn read(
        &self,
        entry: &Entry<'_>,
        max_bytes: usize,
        budget: &mut Budget,
    ) -> Result<Vec<u8>, ZipError> {
        let data = self.data(entry)?;
        let wanted = usize::try_from(entry.size_bytes).unwrap_or(usize::MAX).min(max_bytes);
        match entry.method {
            METHOD_STORED => Ok(read_range(&data, 0, budget.take(wanted)?)?),
            METHOD_DEFLATED => inflate(&data, wanted, budget),
            other => Err(ZipError::Method(other)),
        }
    }

    /// A member that is stored without compression, in place; `None` when it must be inflated.
    ///
    /// # Errors
    /// See [`ZipError`].
    pub fn stored(&self, entry: &Entry<'_>) -> Result<Option<SliceAt<'_>>, ZipError> {
        match entry.method {
            METHOD_STORED => self.data(entry).map(Some),
            METHOD_DEFLATED => Ok(None),
            other => Err(ZipError::Method(other)),
        }
    }

    /// The member's data as they stand in the archive.
    fn data(&self, entry: &Entry<'_>) -> Result<SliceAt<'_>, ZipError> {
        if entry.flags & FLAG_ENCRYPTED != 0 {
            return Err(ZipError::Encrypted);
        }
        let at = entry.header_offset.checked_add(self.shift).ok_or(ZipError::Place)?;
        let mut header = [0; LOCAL_HEADER_BYTES];
        if read_full_at(self.file, at, &mut header)? < header.len() || &header[..4] != b"PK\x03\x04" {
            return Err(ZipError::Place);
        }
        let length = |offset: usize| u64::from(u16::from_le_bytes([header[offset], header[offset + 1]]));
        let start = at + LOCAL_HEADER_BYTES as u64 + length(26) + length(28);
        SliceAt::new(self.file, start, entry.compressed_bytes).ok_or(ZipError::Place)
    }
}

#[cfg(test)]
pub(crate) mod tests;
