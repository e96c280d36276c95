//! What a program says of itself in its tables: names of sections, and of symbols that it offers (System V ABI, chapters 4
//! and 5; the GNU hash table of symbols). Only 64-bit programs of this machine's byte order.
//! It must never read more than the bounds below, whatever the tables say.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Most that is read of a program's table of sections, and of their names, in bytes each.
const SECTIONS_MAX_BYTES: usize = 64 << 10;
/// Symbols of one bucket of the hash table that are looked at.
const CHAIN_MAX: u64 = 64;

/// An opened program.
pub(super) struct Elf<'f> {
    file: &'f File,
    /// Offset and size of each section, by name.
    sections: Vec<(Vec<u8>, u64, u64)>,
}

impl<'f> Elf<'f> {
    /// `None` for whatever is no such program.
    pub fn open(file: &'f File) -> Option<Self> {
        let header = read(file, 0, 64).filter(|header| header.starts_with(b"\x7fELF\x02\x01"))?;
        let (table, size) = (long(&header, 40)?, usize::from(short(&header, 58)?));
        let (count, names) = (usize::from(short(&header, 60)?), usize::from(short(&header, 62)?));
        let table = read(file, table, (size * count).min(SECTIONS_MAX_BYTES))?;
        let entry = |index: usize| table.get(index.checked_mul(size)?..)?.get(..64);
        let names = entry(names)?;
        let names =
            read(file, long(names, 24)?, usize::try_from(long(names, 32)?).ok()?.min(SECTIONS_MAX_BYTES))?;
        let named = |index: usize| {
            let entry = entry(index)?;
            let name = names.get(usize::try_from(word(entry, 0)?).ok()?..)?;
            let name = name.split(|byte| *byte == 0).next()?.to_vec();
            Some((name, long(entry, 24)?, long(entry, 32)?))
        };
        Some(Self { file, sections: (0..count).filter_map(named).collect() })
    }

    /// Whether it has a section of this name.
    pub fn has_section(&self, name: &[u8]) -> bool {
        self.section(name).is_some()
    }

    fn section(&self, name: &[u8]) -> Option<u64> {
        self.sections.iter().find(|(of, _, _)| of == name).map(|(_, offset, _)| *offset)
    }

    /// Whether it offers a symbol of this name to the libraries that it loads.
    pub fn offers(&self, name: &str) -> bool {
        self.find(name.as_bytes()).is_some()
    }

    fn find(&self, name: &[u8]) -> Option<()> {
        let (hashes, symbols, strings) =
            (self.section(b".gnu.hash")?, self.section(b".dynsym")?, self.section(b".dynstr")?);
        let hash =
            name.iter().fold(5_381_u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(u32::from(*byte)));
        let header = read(self.file, hashes, 16)?;
        let (buckets, first, bloom) = (word(&header, 0)?, word(&header, 4)?, word(&header, 8)?);
        let buckets_at = hashes.checked_add(16)?.checked_add(u64::from(bloom) * 8)?;
        let chains_at = buckets_at.checked_add(u64::from(buckets) * 4)?;
        let bucket = read(self.file, buckets_at + u64::from(hash.checked_rem(buckets)?) * 4, 4)?;
        let begin = u64::from(word(&bucket, 0)?.checked_sub(first)?);
        for index in begin..begin + CHAIN_MAX {
            let chained = word(&read(self.file, chains_at.checked_add(index * 4)?, 4)?, 0)?;
            if chained | 1 == hash | 1 {
                let symbol = symbols.checked_add((index + u64::from(first)) * 24)?;
                let symbol = read(self.file, symbol, 24)?;
                let found =
                    read(self.file, strings.checked_add(u64::from(word(&symbol, 0)?))?, name.len() + 1)?;
                if found.strip_suffix(b"\0") == Some(name) {
                    return Some(());
                }
            }
            if chained & 1 == 1 {
                break;
            }
        }
        None
    }
}

fn read(file: &File, offset: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length.min(SECTIONS_MAX_BYTES)];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
