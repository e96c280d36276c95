//! The few facts of an ELF file (System V ABI, gABI chapter 4 and 5) that tell what was linked into it.
//! Never takes memory by what a header says, and never fails on a damaged table: what cannot be read is absent.

use crate::tree::read_at::{ReadAt, read_range};
use std::io;

/// Most sections looked at; an executable has about 40.
const MAX_SECTIONS: usize = 4_096;
/// Most program headers looked at; an executable has about 12.
const MAX_SEGMENTS: usize = 512;
/// Most bytes of section names.
const MAX_SECTION_NAMES_BYTES: usize = 1024 * 1024;
/// Longest name of a section; longer ones, which may overlap, are none that is asked for.
const MAX_SECTION_NAME_BYTES: usize = 64;

/// Read at once from the beginning: the header, and the program headers of nearly all files.
const HEAD_BYTES: usize = 1024;
const MAGIC: &[u8] = b"\x7fELF";
const SECTION_WITHOUT_BYTES: u32 = 8;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_DYNAMIC: u32 = 2;
const SEGMENT_INTERPRETER: u32 = 3;
/// Entries for the dynamic linker: the tag DT_FLAGS_1, and in its value the flag of a program (DF_1_PIE).
const DYNAMIC_FLAGS_1: u64 = 0x6fff_fffb;
const FLAG_PROGRAM: u64 = 0x0800_0000;
/// Most bytes of these entries; a program has about 500.
const MAX_DYNAMIC_BYTES: usize = 64 * 1024;
const FLAG_EXECUTABLE: u32 = 1;
const TYPE_EXECUTABLE: u16 = 2;
const TYPE_SHARED: u16 = 3;
/// Section number that says "the real one stands in section 0".
const SECTION_NUMBER_ESCAPE: u16 = 0xffff;

/// Bytes of the file, and where they are in memory when the program runs. Cut to what the file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub offset: u64,
    pub size_bytes: u64,
    pub address: u64,
}

impl Range {
    /// What lies `start` bytes and more behind the beginning.
    pub fn after(self, start: u64) -> Option<Self> {
        let size_bytes = self.size_bytes.checked_sub(start)?;
        Some(Self { offset: self.offset + start, size_bytes, address: self.address.wrapping_add(start) })
    }
}

#[derive(Debug)]
struct Section {
    name: Vec<u8>,
    range: Range,
}

/// A part of the file that is mapped when the program runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub range: Range,
    pub is_executable: bool,
}

/// An executable or shared library.
pub(crate) struct Elf<'f> {
    pub file: &'f dyn ReadAt,
    pub is_64: bool,
    pub is_big_endian: bool,
    /// Whether it names a dynamic linker, so that hooks of that linker see it.
    pub has_interpreter: bool,
    /// Whether it is linked to fixed addresses, as no library is.
    is_fixed: bool,
    /// Where what the dynamic linker is told stands in the file.
    dynamic: Option<Range>,
    /// Whether it has more sections or segments than are looked at.
    pub is_cut: bool,
    sections: Vec<Section>,
    segments: Vec<Segment>,
}

impl<'f> Elf<'f> {
    /// `None` for anything but an executable or a shared library.
    ///
    /// # Errors
    /// Only when the file cannot be read.
    pub fn parse(file: &'f dyn ReadAt) -> io::Result<Option<Self>> {
        let header = read_range(file, 0, HEAD_BYTES)?;
        if !header.starts_with(MAGIC) || header.len() < 52 {
            return Ok(None);
        }
        let is_64 = header[4] == 2;
        let is_big_endian = header[5] == 2;
        let mut elf = Self {
            file,
            is_64,
            is_big_endian,
            has_interpreter: false,
            is_fixed: false,
            dynamic: None,
            is_cut: false,
            sections: vec![],
            segments: vec![],
        };
        let kind = elf.u16(&header, 16);
        if (is_64 && header.len() < 64) || !matches!(kind, TYPE_EXECUTABLE | TYPE_SHARED) {
            return Ok(None);
        }
        let tables = if is_64 { 32 } else { 28 };
        elf.is_fixed = kind == TYPE_EXECUTABLE;
        let program_offset = elf.word(&header, tables);
        let section_offset = elf.word(&header, tables + elf.word_bytes());
        let counts = if is_64 { 54 } else { 42 };
        let program_size = elf.u16(&header, counts);
        let program_count = elf.u16(&header, counts + 2);
        let section_size = elf.u16(&header, counts + 4);
        let section_count = elf.u16(&header, counts + 6);
        let names_index = elf.u16(&header, counts + 8);
        elf.read_segments(&header, program_offset, program_size, program_count)?;
        elf.read_sections(section_offset, section_size, section_count, names_index)?;
        Ok(Some(elf))
    }

    pub fn word_bytes(&self) -> usize {
        if self.is_64 { 8 } else { 4 }
    }

    /// 0 where `bytes` end before.
    pub fn u16(&self, bytes: &[u8], at: usize) -> u16 {
        let raw = array(bytes, at);
        if self.is_big_endian { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) }
    }

    /// 0 where `bytes` end before.
    pub fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let raw = array(bytes, at);
        if self.is_big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) }
    }

    /// 0 where `bytes` end before.
    pub fn u64(&self, bytes: &[u8], at: usize) -> u64 {
        let raw = array(bytes, at);
        if self.is_big_endian { u64::from_be_bytes(raw) } else { u64::from_le_bytes(raw) }
    }

    /// A number as wide as a pointer of the program.
    pub fn word(&self, bytes: &[u8], at: usize) -> u64 {
        if self.is_64 { self.u64(bytes, at) } else { u64::from(self.u32(bytes, at)) }
    }

    fn read_segments(&mut self, head: &[u8], offset: u64, entry_bytes: u16, count: u16) -> io::Result<()> {
        let entry_bytes = usize::from(entry_bytes);
        let least = if self.is_64 { 56 } else { 32 };
        if entry_bytes < least {
            return Ok(());
        }
        self.is_cut |= usize::from(count) > MAX_SEGMENTS;
        let count = usize::from(count).min(MAX_SEGMENTS);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let table = match head.get(start..start.saturating_add(count * entry_bytes)) {
            Some(table) => table.to_vec(),
            None => read_range(self.file, offset, count * entry_bytes)?,
        };
        for entry in table.chunks_exact(entry_bytes) {
            let (flags_at, first) = if self.is_64 { (4, 8) } else { (24, 4) };
            let word = self.word_bytes();
            let kind = self.u32(entry, 0);
            self.has_interpreter |= kind == SEGMENT_INTERPRETER;
            // p_offset, p_vaddr, p_paddr, p_filesz
            let field = |number: usize| self.word(entry, first + number * word);
            let range = self.range(field(0), field(3), field(1));
            if kind == SEGMENT_DYNAMIC {
                self.dynamic = range;
            }
            if kind == SEGMENT_LOAD
                && let Some(range) = range
            {
                let is_executable = self.u32(entry, flags_at) & FLAG_EXECUTABLE != 0;
                self.segments.push(Segment { range, is_executable });
            }
        }
        Ok(())
    }

    fn read_sections(
        &mut self,
        offset: u64,
        entry_bytes: u16,
        count: u16,
        names_index: u16,
    ) -> io::Result<()> {
        let entry_bytes = usize::from(entry_bytes);
        let least = if self.is_64 { 64 } else { 40 };
        if entry_bytes < least || offset == 0 {
            return Ok(());
        }
        // What does not fit into the header's fields stands in the first entry.
        let is_in_first = count == 0 || names_index == SECTION_NUMBER_ESCAPE;
        let first = if is_in_first { read_range(self.file, offset, least)? } else { Vec::new() };
        let (size_at, link_at) = if self.is_64 { (32, 40) } else { (20, 24) };
        let count = match count {
            0 => usize::try_from(self.word(&first, size_at)).unwrap_or(usize::MAX),
            count => usize::from(count),
        };
        let names_index = match names_index {
            SECTION_NUMBER_ESCAPE => self.u32(&first, link_at) as usize,
            index => usize::from(index),
        };
        self.is_cut |= count > MAX_SECTIONS;
        let table = read_range(self.file, offset, count.min(MAX_SECTIONS) * entry_bytes)?;
        let entries: Vec<&[u8]> = table.chunks_exact(entry_bytes).collect();
        let location = |entry: &[u8]| {
            let word = self.word_bytes();
            // sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size
            let field = |number: usize| self.word(entry, 8 + number * word);
            if self.u32(entry, 4) == SECTION_WITHOUT_BYTES {
                return None;
            }
            self.range(field(2), field(3), field(1))
        };
        let Some(names) = entries.get(names_index).and_then(|entry| location(entry)) else { return Ok(()) };
        let names = read_range(
            self.file,
            names.offset,
            usize::try_from(names.size_bytes).unwrap_or(usize::MAX).min(MAX_SECTION_NAMES_BYTES),
        )?;
        let has_more_names = names.len() == MAX_SECTION_NAMES_BYTES;
        let sections: Vec<Section> = entries
            .iter()
            .filter_map(|entry| {
                let name = names.get(self.u32(entry, 0) as usize..)?;
                let end = memchr::memchr(0, &name[..name.len().min(MAX_SECTION_NAME_BYTES + 1)]).unwrap_or(0);
                Some(Section { name: name[..end].to_vec(), range: location(entry)? })
            })
            .collect();
        self.is_cut |= has_more_names;
        self.sections = sections;
        Ok(())
    }

    /// Cut to the file; `None` if nothing of it is there.
    fn range(&self, offset: u64, size_bytes: u64, address: u64) -> Option<Range> {
        let size_bytes = size_bytes.min(self.file.size().checked_sub(offset)?);
        (size_bytes > 0).then_some(Range { offset, size_bytes, address })
    }

    /// Whether it is made to be run, dynamic or static, and not only to be loaded.
    ///
    /// # Errors
    /// Only when the file cannot be read.
    pub fn is_program(&self) -> io::Result<bool> {
        if self.is_fixed || self.has_interpreter {
            return Ok(true);
        }
        let Some(dynamic) = self.dynamic else { return Ok(false) };
        let entries = read_part(self.file, dynamic, MAX_DYNAMIC_BYTES)?;
        Ok(entries.chunks_exact(2 * self.word_bytes()).any(|entry| {
            self.word(entry, 0) == DYNAMIC_FLAGS_1 && self.word(entry, self.word_bytes()) & FLAG_PROGRAM != 0
        }))
    }

    pub fn has_sections(&self) -> bool {
        !self.sections.is_empty()
    }

    /// The first section of this name that has bytes.
    pub fn section(&self, name: &str) -> Option<Range> {
        self.sections.iter().find(|section| section.name == name.as_bytes()).map(|section| section.range)
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// At most `max_bytes` of what is in memory at `address` when the program starts; empty if nothing of the file is.
    ///
    /// # Errors
    /// Only when the file cannot be read.
    pub fn read_address(&self, address: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
        let sections = self.sections.iter().map(|section| section.range).filter(|range| range.address != 0);
        let ranges = self.segments.iter().map(|segment| segment.range).chain(sections);
        for range in ranges {
            let start = address.wrapping_sub(range.address);
            if address >= range.address
                && let Some(rest) = range.after(start).filter(|rest| rest.size_bytes > 0)
            {
                return read_part(self.file, rest, max_bytes);
            }
        }
        Ok(Vec::new())
    }
}

/// The first `max_bytes` of a range.
///
/// # Errors
/// Only when the file cannot be read.
pub(crate) fn read_part(file: &dyn ReadAt, range: Range, max_bytes: usize) -> io::Result<Vec<u8>> {
    read_range(file, range.offset, usize::try_from(range.size_bytes).unwrap_or(usize::MAX).min(max_bytes))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}
