//! What the archives within archives hold, by size and CRC-32, as the directories of those around them say: so that a file
//! that was unpacked from one can be told. Never reads an archive; that two are equal is as sure as a CRC-32 is.

use crate::tree::ReadAt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// Most archives within archives of one artifact whose contents are known.
const MAX_MEMBERS: usize = 300_000;
/// Most archives of one content that are kept; an artifact with more has that one library in every archive.
const MAX_EQUAL_MEMBERS: usize = 256;
/// Bytes of a file that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// Tells whether two files are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Content {
    pub size_bytes: u64,
    pub crc32: u32,
}

impl Content {
    /// Reads a whole file; `None` where it has more than `max_bytes`, or ends before its size.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(file: &dyn ReadAt, max_bytes: u64) -> io::Result<Option<Self>> {
        let size_bytes = file.size();
        if size_bytes > max_bytes {
            return Ok(None);
        }
        let (mut crc, mut at, mut buffer) = (flate2::Crc::new(), 0, vec![0; READ_BYTES]);
        while at < size_bytes {
            let read = file.read_at(at, &mut buffer)?;
            if read == 0 {
                return Ok(None);
            }
            crc.update(&buffer[..read]);
            at += read as u64;
        }
        Ok((at == size_bytes).then(|| Self { size_bytes, crc32: crc.sum() }))
    }
}

/// The places of archives within archives, by their contents.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_content: BTreeMap<Content, Vec<Vec<u8>>>,
    count: usize,
    size_bytes: usize,
}

impl Members {
    /// The archive at `place` has this content; several components of one archive may say so.
    pub fn add(&mut self, place: &[u8], content: Content) {
        if self.count >= MAX_MEMBERS {
            return;
        }
        let places = self.by_content.entry(content).or_default();
        if places.len() < MAX_EQUAL_MEMBERS && places.last().is_none_or(|last| last != place) {
            places.push(place.to_vec());
            self.count += 1;
            self.size_bytes += place.len() + size_of::<Vec<u8>>() + size_of::<Content>();
        }
    }

    pub fn has_size(&self, size_bytes: u64) -> bool {
        let of_size = |crc32| Content { size_bytes, crc32 };
        self.by_content.range(of_size(0)..=of_size(u32::MAX)).next().is_some()
    }

    pub fn with(&self, content: Content) -> &[Vec<u8>] {
        self.by_content.get(&content).map_or(&[], Vec::as_slice)
    }

    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_of_files() {
        for (bytes, max_bytes, expected) in [
            // The check value of CRC-32/ISO-HDLC.
            (&b"123456789"[..], 9, Some(0xcbf4_3926)),
            (b"123456789", 8, None),
            (b"", 0, Some(0)),
        ] {
            let found = Content::of(&bytes.to_vec(), max_bytes).unwrap();
            assert_eq!(found, expected.map(|crc32| Content { size_bytes: bytes.len() as u64, crc32 }));
        }
        let long = vec![7; 3 * READ_BYTES + 1];
        let mut crc = flate2::Crc::new();
        crc.update(&long);
        let found = Content::of(&long, u64::MAX).unwrap().unwrap();
        assert_eq!((found.size_bytes, found.crc32), (long.len() as u64, crc.sum()));
    }

    #[test]
    fn members_are_found_by_size_and_content_up_to_the_bound() {
        let content = |size_bytes, crc32| Content { size_bytes, crc32 };
        let mut members = Members::default();
        members.add(b"a.war!/x.jar", content(10, 1));
        members.add(b"a.war!/x.jar", content(10, 1));
        members.add(b"b.war!/x.jar", content(10, 1));
        members.add(b"b.war!/y.jar", content(10, u32::MAX));
        assert_eq!(members.with(content(10, 1)), [b"a.war!/x.jar".to_vec(), b"b.war!/x.jar".to_vec()]);
        assert!(members.has_size(10) && !members.has_size(9) && !members.has_size(11));
        assert!(members.with(content(10, 2)).is_empty());
        for number in 0..2 * MAX_EQUAL_MEMBERS {
            members.add(format!("{number}.war!/z.jar").as_bytes(), content(1, 1));
        }
        assert_eq!(members.with(content(1, 1)).len(), MAX_EQUAL_MEMBERS);
    }
}
