//! Files to look into that are no file of their own: an open descriptor of known length, a part of another file.
//! Never reads beyond the end that it was given.

use crate::tree::ReadAt;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::io;

/// An open regular file.
#[derive(Debug, Clone, Copy)]
pub struct FileAt<'f> {
    file: BorrowedFd<'f>,
    size_bytes: u64,
}

impl<'f> FileAt<'f> {
    /// `size_bytes` as the file system says; what is appended later is not seen.
    pub fn new(file: BorrowedFd<'f>, size_bytes: u64) -> Self {
        Self { file, size_bytes }
    }
}

impl ReadAt for FileAt<'_> {
    fn size(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size_bytes.saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        loop {
            match rustix::io::pread(self.file, &mut buffer[..wanted], offset) {
                Err(Errno::INTR) => {}
                read => return Ok(read?),
            }
        }
    }
}

/// A part of another file: a member that is stored without compression.
#[derive(Clone, Copy)]
pub struct SliceAt<'r> {
    inner: &'r dyn ReadAt,
    start: u64,
    size_bytes: u64,
}

impl<'r> SliceAt<'r> {
    /// `size_bytes` from `start` on; `None` when the file has not so many.
    pub fn new(inner: &'r dyn ReadAt, start: u64, size_bytes: u64) -> Option<Self> {
        (start.checked_add(size_bytes)? <= inner.size()).then_some(Self { inner, start, size_bytes })
    }
}

impl ReadAt for SliceAt<'_> {
    fn size(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size_bytes.saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        self.inner.read_at(self.start + offset, &mut buffer[..wanted])
    }
}
