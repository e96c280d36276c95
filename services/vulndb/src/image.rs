//! Read access to a mapped database: every read is bounds-checked and its blocks' checksums are verified
//! before first use. Never trusts a number of the file, never panics on damaged bytes.

use crate::error::{Damage, DatabaseError};
use crate::format::{
    BLOCK_BYTES, FORMAT_VERSION, HEADER_BYTES, Header, HeaderError, Row, SECTION_COUNT, Section, u32_at,
};
use memmap2::Mmap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) type Read<T> = Result<T, Damage>;

pub(crate) struct Image {
    path: PathBuf,
    map: Mmap,
    header: Header,
    /// Start and length of each section in the file; inside of it, as the header's check found.
    extents: [(usize, usize); SECTION_COUNT],
    /// One per block: its checksum was compared. Only ever set, so relaxed order is enough.
    verified: Vec<AtomicBool>,
}

impl Image {
    pub fn open(path: &Path) -> Result<Image, DatabaseError> {
        let io = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => DatabaseError::Missing { path: path.to_owned() },
            _ => DatabaseError::Io { path: path.to_owned(), source },
        };
        let file = File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(DatabaseError::NotADatabase { path: path.to_owned() });
        }
        // SAFETY: the builder replaces the file by rename and never writes into or shortens it, so the
        // mapping stays as it is; every byte is still treated as untrusted (bounds, checksum, UTF-8).
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let header = Header::decode(&map).map_err(|error| match error {
            HeaderError::NotADatabase => DatabaseError::NotADatabase { path: path.to_owned() },
            HeaderError::OtherFormat(found) => {
                DatabaseError::OtherFormat { path: path.to_owned(), found, expected: FORMAT_VERSION }
            }
            HeaderError::Damaged(what) => DatabaseError::damaged(path, Damage(what)),
        })?;
        let blocks = (header.blocks.length / 4) as usize;
        let image = Image {
            path: path.to_owned(),
            verified: (0..blocks).map(|_| AtomicBool::new(false)).collect(),
            extents: header.sections.map(|e| (e.offset as usize, e.length as usize)),
            map,
            header,
        };
        let table =
            image.block_table().ok_or(Damage("checksums")).map_err(|d| DatabaseError::damaged(path, d))?;
        if crc32fast::hash(table) != image.header.blocks_crc {
            return Err(DatabaseError::damaged(path, Damage("checksum of the checksums")));
        }
        Ok(image)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Verifies all blocks, not only those that were read.
    pub fn verify_all(&self) -> Read<()> {
        (0..self.verified.len()).try_for_each(|block| self.verify_block(block))
    }

    fn block_table(&self) -> Option<&[u8]> {
        let start = usize::try_from(self.header.blocks.offset).ok()?;
        self.map.get(start..start.checked_add(self.header.blocks.length as usize)?)
    }

    #[cold]
    fn verify_block(&self, block: usize) -> Read<()> {
        const DAMAGE: Damage = Damage("content does not match its checksum");
        let seen = self.verified.get(block).ok_or(DAMAGE)?;
        if seen.load(Ordering::Relaxed) {
            return Ok(());
        }
        let start = HEADER_BYTES + block * BLOCK_BYTES;
        let end = (start + BLOCK_BYTES).min(self.header.blocks.offset as usize);
        let content = self.map.get(start..end).ok_or(DAMAGE)?;
        let expected = u32_at(self.block_table().ok_or(DAMAGE)?, block * 4);
        if crc32fast::hash(content) != expected {
            return Err(DAMAGE);
        }
        seen.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// `length` bytes of a section, from `offset` within it.
    #[inline]
    fn bytes(&self, section: Section, offset: usize, length: usize) -> Read<&[u8]> {
        const DAMAGE: Damage = Damage("reference outside of its section");
        let (section_start, section_length) = self.extents[section as usize];
        let end = offset.checked_add(length).ok_or(DAMAGE)?;
        if end > section_length {
            return Err(DAMAGE);
        }
        let start = section_start + offset;
        if length > 0 {
            let first = (start - HEADER_BYTES) / BLOCK_BYTES;
            let last = (start + length - 1 - HEADER_BYTES) / BLOCK_BYTES;
            for block in first..=last {
                if !self.verified.get(block).is_some_and(|seen| seen.load(Ordering::Relaxed)) {
                    self.verify_block(block)?;
                }
            }
        }
        self.map.get(start..start + length).ok_or(DAMAGE)
    }

    /// Number of rows.
    pub fn count<R: Row>(&self) -> usize {
        self.extents[R::SECTION as usize].1 / R::BYTES
    }

    #[inline]
    pub fn row<R: Row>(&self, index: usize) -> Read<R> {
        let offset = index.checked_mul(R::BYTES).ok_or(Damage("row number"))?;
        Ok(R::decode(self.bytes(R::SECTION, offset, R::BYTES)?))
    }

    /// The first row for which `before` is false; rows are sorted by what `before` looks at.
    pub fn partition_point<R: Row>(&self, before: impl Fn(&R) -> bool) -> Read<usize> {
        let (mut low, mut high) = (0, self.count::<R>());
        while low < high {
            let middle = low + (high - low) / 2;
            if before(&self.row::<R>(middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn string_count(&self) -> usize {
        (self.extents[Section::StringOffsets as usize].1 / 4).saturating_sub(1)
    }

    #[inline]
    fn string_bytes(&self, id: usize) -> Read<&[u8]> {
        let offsets = self.bytes(Section::StringOffsets, id.checked_mul(4).ok_or(Damage("string id"))?, 8)?;
        let (start, end) = (u32_at(offsets, 0) as usize, u32_at(offsets, 4) as usize);
        let length = end.checked_sub(start).ok_or(Damage("string offsets"))?;
        self.bytes(Section::StringBytes, start, length)
    }

    pub fn string(&self, id: u32) -> Read<&str> {
        std::str::from_utf8(self.string_bytes(id as usize)?).map_err(|_| Damage("string that is not UTF-8"))
    }

    /// The id of a string, if the database knows it.
    pub fn find_string(&self, text: &str) -> Read<Option<u32>> {
        let (mut low, mut high) = (0, self.string_count());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.string_bytes(middle)?.cmp(text.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(u32::try_from(middle).ok()),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    pub fn list(&self, reference: u32) -> Read<List<'_>> {
        let at = (reference as usize).checked_mul(4).ok_or(Damage("list reference"))?;
        let count = u32_at(self.bytes(Section::Lists, at, 4)?, 0) as usize;
        let length = count.checked_mul(4).ok_or(Damage("list length"))?;
        Ok(List(self.bytes(Section::Lists, at + 4, length)?))
    }
}

/// A list of words in the mapped file.
#[derive(Clone, Copy)]
pub(crate) struct List<'a>(&'a [u8]);

impl<'a> List<'a> {
    pub fn len(self) -> usize {
        self.0.len() / 4
    }

    pub fn get(self, index: usize) -> Option<u32> {
        (index < self.len()).then(|| u32_at(self.0, index * 4))
    }

    pub fn iter(self) -> impl Iterator<Item = u32> + 'a {
        self.0.chunks_exact(4).map(|word| u32_at(word, 0))
    }

    /// Whether a sorted list holds `wanted`.
    pub fn contains_sorted(self, wanted: u32) -> bool {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match u32_at(self.0, middle * 4).cmp(&wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        false
    }
}
