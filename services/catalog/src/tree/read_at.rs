//! Access to any place of one big file without holding it: what parsers of archives and binaries are written over.
//! Never trusts a length or offset that the file itself names: a read behind its end is short, never an error.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// One regular file, read at any place.
pub trait ReadAt {
    /// Length in bytes; what lies behind it is never read.
    fn size(&self) -> u64;

    /// Reads into `buffer` from `offset` on, and says how many bytes; 0 at or behind the end. May be short elsewhere.
    ///
    /// # Errors
    /// What the operating system says of the file; never that `offset` lies behind its end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Fills `buffer` from `offset` on as far as the file goes, and says how far that was.
///
/// # Errors
/// As [`ReadAt::read_at`].
pub fn read_full_at(file: &dyn ReadAt, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(offset.saturating_add(filled as u64), &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The bytes from `offset` on, at most `max_bytes` and at most what there is; memory is taken only for what exists.
///
/// # Errors
/// As [`ReadAt::read_at`].
pub fn read_range(file: &dyn ReadAt, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
    let there = usize::try_from(file.size().saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; there.min(max_bytes)];
    let filled = read_full_at(file, offset, &mut bytes)?;
    bytes.truncate(filled);
    Ok(bytes)
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.get(start..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.as_slice().size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.as_slice().read_at(offset, buffer)
    }
}

impl ReadAt for File {
    fn size(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &[u8], offset: u64, max_bytes: usize, expect: &[u8]) {
        let file = file.to_vec();
        assert_eq!(read_range(&file, offset, max_bytes).unwrap(), expect);
    }

    #[test]
    fn reads_end_where_the_file_ends() {
        check(b"abcdef", 2, 3, b"cde");
        check(b"abcdef", 4, usize::MAX, b"ef");
        check(b"abcdef", 6, 1, b"");
        check(b"abcdef", u64::MAX, usize::MAX, b"");
        check(b"", 0, 9, b"");
    }
}
