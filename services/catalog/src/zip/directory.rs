//! The central directory of a ZIP archive: where it stands (ZIP64 and prefixed archives too) and what it lists.
//! Never trusts its count of members: the bytes decide.

use super::ZipError;
use crate::tree::ReadAt;
use crate::tree::read_at::{read_full_at, read_range};

const END_BYTES: usize = 22;
const MAX_COMMENT_BYTES: usize = u16::MAX as usize;
const LOCATOR_BYTES: u64 = 20;
const END64_BYTES: usize = 56;
const HEADER_BYTES: usize = 46;
const EXTRA_ZIP64: u16 = 1;

/// Where the central directory stands.
pub(super) struct Place {
    pub start: u64,
    pub size_bytes: u64,
    pub shift: u64,
}

/// One member, as the central directory describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub name: &'a [u8],
    pub flags: u16,
    pub method: u16,
    pub crc32: u32,
    pub compressed_bytes: u64,
    pub size_bytes: u64,
    pub header_offset: u64,
}

impl Entry<'_> {
    pub fn is_directory(&self) -> bool {
        self.name.ends_with(b"/")
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Looks for the record at the end of the archive, behind which only a comment may stand.
pub(super) fn find(file: &dyn ReadAt) -> Result<Place, ZipError> {
    let size = file.size();
    let tail_start = size.saturating_sub((END_BYTES + MAX_COMMENT_BYTES) as u64);
    let tail = read_range(file, tail_start, END_BYTES + MAX_COMMENT_BYTES)?;
    let mut damaged = false;
    for at in memchr::memmem::rfind_iter(&tail, b"PK\x05\x06") {
        let Some(comment_bytes) = u16_at(&tail, at + 20) else { continue };
        if at + END_BYTES + usize::from(comment_bytes) > tail.len() {
            continue;
        }
        match place(file, &tail[at..], tail_start + at as u64)? {
            Some(place) => return Ok(place),
            None => damaged = true,
        }
    }
    Err(if damaged { ZipError::Directory } else { ZipError::NoArchive })
}

/// The directory that the end record at `end_at` names, if it is there.
fn place(file: &dyn ReadAt, end: &[u8], end_at: u64) -> Result<Option<Place>, ZipError> {
    let (Some(size_bytes), Some(offset)) = (u32_at(end, 12), u32_at(end, 16)) else { return Ok(None) };
    let (size_bytes, offset) = (u64::from(size_bytes), u64::from(offset));
    let needs_zip64 = size_bytes == u64::from(u32::MAX)
        || offset == u64::from(u32::MAX)
        || u16_at(end, 10) == Some(u16::MAX);
    if needs_zip64 && let Some(place) = place64(file, end_at)? {
        return Ok(Some(place));
    }
    plausible(file, end_at, size_bytes, offset)
}

fn place64(file: &dyn ReadAt, end_at: u64) -> Result<Option<Place>, ZipError> {
    let Some(locator_at) = end_at.checked_sub(LOCATOR_BYTES) else { return Ok(None) };
    let mut locator = [0; LOCATOR_BYTES as usize];
    read_full_at(file, locator_at, &mut locator)?;
    let Some(named_at) = u64_at(&locator, 8).filter(|_| locator.starts_with(b"PK\x06\x07")) else {
        return Ok(None);
    };
    // Where the locator says, or right in front of it when something was prepended to the archive.
    for at in [Some(named_at), locator_at.checked_sub(END64_BYTES as u64)].into_iter().flatten() {
        let mut end = [0; END64_BYTES];
        if at >= locator_at
            || read_full_at(file, at, &mut end)? < END64_BYTES
            || !end.starts_with(b"PK\x06\x06")
        {
            continue;
        }
        if let (Some(size_bytes), Some(offset)) = (u64_at(&end, 40), u64_at(&end, 48))
            && let Some(place) = plausible(file, at, size_bytes, offset)?
        {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// The directory ends where its end record begins; what its offset lacks was prepended.
fn plausible(
    file: &dyn ReadAt,
    end_at: u64,
    size_bytes: u64,
    offset: u64,
) -> Result<Option<Place>, ZipError> {
    let Some(start) = end_at.checked_sub(size_bytes) else { return Ok(None) };
    let Some(shift) = start.checked_sub(offset) else { return Ok(None) };
    let mut signature = [0; 4];
    let is_empty = size_bytes == 0;
    if !is_empty {
        read_full_at(file, start, &mut signature)?;
    }
    Ok((is_empty || &signature == b"PK\x01\x02").then_some(Place { start, size_bytes, shift }))
}

/// Iterates over the bytes of a central directory.
pub(super) struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    pub fn new(directory: &'a [u8]) -> Self {
        Self { rest: directory }
    }

    /// Whether everything was read.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn parse(bytes: &'a [u8]) -> Option<(Entry<'a>, usize)> {
        if !bytes.starts_with(b"PK\x01\x02") {
            return None;
        }
        let length = |at| u16_at(bytes, at).map(usize::from);
        let (name_end, extra_bytes, comment_bytes) = (HEADER_BYTES + length(28)?, length(30)?, length(32)?);
        let extra_end = name_end + extra_bytes;
        let mut entry = Entry {
            name: bytes.get(HEADER_BYTES..name_end)?,
            flags: u16_at(bytes, 8)?,
            method: u16_at(bytes, 10)?,
            crc32: u32_at(bytes, 16)?,
            compressed_bytes: u64::from(u32_at(bytes, 20)?),
            size_bytes: u64::from(u32_at(bytes, 24)?),
            header_offset: u64::from(u32_at(bytes, 42)?),
        };
        entry.apply_zip64(bytes.get(name_end..extra_end)?);
        Some((entry, extra_end + comment_bytes))
    }
}

impl Entry<'_> {
    /// Values that did not fit into 32 bits stand in the extra field, in this order.
    fn apply_zip64(&mut self, mut extra: &[u8]) {
        let is_absent = |value: u64| value == u64::from(u32::MAX);
        while let (Some(id), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
            let end = 4 + usize::from(length);
            let Some(field) = extra.get(4..end) else { return };
            if id == EXTRA_ZIP64 {
                let mut at = 0;
                for value in [&mut self.size_bytes, &mut self.compressed_bytes, &mut self.header_offset] {
                    if is_absent(*value)
                        && let Some(wide) = u64_at(field, at)
                    {
                        *value = wide;
                        at += 8;
                    }
                }
                return;
            }
            extra = &extra[end..];
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (entry, length) = Self::parse(self.rest)?;
        // A comment that ends behind the directory is cut by it.
        self.rest = self.rest.get(length..).unwrap_or_default();
        Some(entry)
    }
}
