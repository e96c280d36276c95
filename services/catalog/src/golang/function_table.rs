//! Names of the functions that are linked into a Go program, from the table that its runtime cannot do without
//! (pclntab; layouts of Go 1.2, 1.16, 1.18 and 1.20; see Go's debug/gosym). Stripped programs have it too.
//! Never follows the table further than it goes, and never keeps a name.
//!
//! From 1.16 on the names stand in one block, with those of inlined functions, so that a module of which only inlined
//! code is left is seen. Before, names stand beside the functions, and inlined ones cannot be told.

use crate::binary::elf::{Elf, Range, read_part};
use crate::binary::search::{Budget, windows};
use std::io;

/// Most functions of one program; Kubernetes' have about 200,000.
const MAX_FUNCTIONS: u64 = 16_000_000;
/// Longest name of a function that is carried on; of a longer one the beginning counts, which names its package.
const MAX_NAME_BYTES: usize = 64 * 1024;
/// Longest header: 8 bytes and 8 numbers of 8 bytes.
const HEADER_BYTES: usize = 72;
/// Bytes of the old table held at a time.
const BLOCK_BYTES: usize = 256 * 1024;

/// Sections of the table, by how the program was linked.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Names beside functions.
    Go12,
    Go116,
    /// 1.18 and 1.20 differ only in what is not read here.
    Go118,
}

const MAGICS: [(u32, Layout); 4] = [
    (0xffff_fffb, Layout::Go12),
    (0xffff_fffa, Layout::Go116),
    (0xffff_fff0, Layout::Go118),
    (0xffff_fff1, Layout::Go118),
];

/// The table's place and shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FunctionTable {
    layout: Layout,
    range: Range,
    pointer_bytes: usize,
    function_count: u64,
    /// From the start of the table; empty for Go 1.2.
    names: (u64, u64),
}

impl FunctionTable {
    /// The table of a program; `None` if it has none that can be read.
    ///
    /// # Errors
    /// Only when the file cannot be read.
    pub fn find(elf: &Elf<'_>, budget: &mut Budget) -> io::Result<Option<Self>> {
        if let Some(section) = SECTIONS.iter().find_map(|name| elf.section(name)) {
            let header = read_part(elf.file, section, HEADER_BYTES)?;
            return Ok(Self::parse(elf, &header, section));
        }
        // Without sections, or with them renamed: by the magic number, in constant data first.
        let mut segments: Vec<_> = elf.segments().to_vec();
        segments.sort_by_key(|segment| segment.is_executable);
        for segment in segments {
            let mut found = None;
            let mut failed = None;
            windows(elf.file, segment.range, HEADER_BYTES, budget, &mut |window, offset| {
                for (at, header) in candidates(elf, window) {
                    let start = offset + at as u64 - segment.range.offset;
                    let Some(range) = segment.range.after(start) else { continue };
                    let Some(table) = Self::parse(elf, header, range) else { continue };
                    match table.is_plausible(elf) {
                        Ok(true) => found = Some(table),
                        Ok(false) => continue,
                        Err(error) => failed = Some(error),
                    }
                    return false;
                }
                true
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn parse(elf: &Elf<'_>, header: &[u8], range: Range) -> Option<Self> {
        let magic = elf.u32(header, 0);
        let layout = MAGICS.iter().find(|(known, _)| *known == magic)?.1;
        let [0, 0, 1 | 2 | 4, pointer_bytes @ (4 | 8)] = header.get(4..8)? else { return None };
        let pointer_bytes = usize::from(*pointer_bytes);
        let number = |index: usize| {
            let at = 8 + index * pointer_bytes;
            if pointer_bytes == 8 { elf.u64(header, at) } else { u64::from(elf.u32(header, at)) }
        };
        let function_count = number(0);
        // nfunc, nfiles, (textStart,) funcnameOffset, cuOffset
        let names = match layout {
            Layout::Go12 => (0, 0),
            Layout::Go116 => (number(2), number(3)),
            Layout::Go118 => (number(3), number(4)),
        };
        let is_sound = function_count > 0
            && function_count <= MAX_FUNCTIONS.min(range.size_bytes)
            && (layout == Layout::Go12 || (names.0 < names.1 && names.1 <= range.size_bytes));
        is_sound.then_some(Self { layout, range, pointer_bytes, function_count, names })
    }

    /// Whether the names begin as Go's do; the magic number alone can stand anywhere.
    fn is_plausible(&self, elf: &Elf<'_>) -> io::Result<bool> {
        let mut budget = Budget(4 * BLOCK_BYTES as u64);
        let mut looked_at = 0;
        let mut seen = false;
        let mut one = *self;
        one.function_count = one.function_count.min(1_000);
        one.names.1 = one.names.1.min(one.names.0 + BLOCK_BYTES as u64);
        one.names(elf, &mut budget, &mut |name| {
            looked_at += 1;
            seen |=
                [b"runtime.".as_slice(), b"internal/", b"go:", b"main."].iter().any(|p| name.starts_with(p));
            !seen && looked_at < 1_000
        })?;
        Ok(seen)
    }

    /// Whether inlined functions are among the names.
    pub fn lists_inlined(&self) -> bool {
        self.layout != Layout::Go12
    }

    /// Calls `visit` with the name of every function, until it answers false. False if the table is damaged or longer
    /// than the budget.
    ///
    /// # Errors
    /// Only when the file cannot be read.
    pub fn names(
        &self,
        elf: &Elf<'_>,
        budget: &mut Budget,
        visit: &mut dyn FnMut(&[u8]) -> bool,
    ) -> io::Result<bool> {
        if self.layout == Layout::Go12 {
            self.scattered(elf, budget, visit)
        } else {
            self.block(elf, budget, visit)
        }
    }

    /// One block of names, each ended by a zero byte.
    fn block(
        &self,
        elf: &Elf<'_>,
        budget: &mut Budget,
        visit: &mut dyn FnMut(&[u8]) -> bool,
    ) -> io::Result<bool> {
        let Some(mut range) = self.range.after(self.names.0) else { return Ok(false) };
        range.size_bytes = range.size_bytes.min(self.names.1 - self.names.0);
        // The beginning of a name that the window before cut off.
        let mut carried: Vec<u8> = Vec::new();
        windows(elf.file, range, 0, budget, &mut |window, _| {
            let mut rest = window;
            while let Some(end) = memchr::memchr(0, rest) {
                let (name, after) = (&rest[..end], &rest[end + 1..]);
                rest = after;
                let goes_on = if carried.is_empty() {
                    name.is_empty() || visit(name)
                } else {
                    carried.extend_from_slice(name);
                    let goes_on = visit(&carried);
                    carried.clear();
                    goes_on
                };
                if !goes_on {
                    return false;
                }
            }
            // Beyond the bound only the length counts, so nothing more is kept.
            let room = (MAX_NAME_BYTES + 1).saturating_sub(carried.len());
            carried.extend_from_slice(&rest[..rest.len().min(room)]);
            true
        })
    }

    /// A table of (address, offset of the function's record), the name's offset in each record.
    fn scattered(
        &self,
        elf: &Elf<'_>,
        budget: &mut Budget,
        visit: &mut dyn FnMut(&[u8]) -> bool,
    ) -> io::Result<bool> {
        let word = self.pointer_bytes;
        let number = |bytes: &[u8]| if word == 8 { elf.u64(bytes, 0) } else { u64::from(elf.u32(bytes, 0)) };
        let mut entries = Block::new(self.range);
        let mut records = Block::new(self.range);
        let mut names = Block::new(self.range);
        for index in 0..self.function_count {
            let at = (8 + word) as u64 + index * 2 * word as u64 + word as u64;
            let Some(entry) = entries.at(elf, at, word, budget)?.filter(|bytes| bytes.len() == word) else {
                return Ok(false);
            };
            let Some(name_at) = number(entry).checked_add(word as u64) else { return Ok(false) };
            let Some(record) = records.at(elf, name_at, 4, budget)?.filter(|bytes| bytes.len() == 4) else {
                return Ok(false);
            };
            let offset = u64::from(elf.u32(record, 0));
            let Some(name) = names.at(elf, offset, MAX_NAME_BYTES, budget)? else { return Ok(false) };
            let end = memchr::memchr(0, name).unwrap_or(name.len());
            if end > 0 && !visit(&name[..end]) {
                return Ok(true);
            }
        }
        Ok(true)
    }
}

/// Places of a window where the header could begin: a magic number and two zeros.
fn candidates<'w>(elf: &Elf<'_>, window: &'w [u8]) -> impl Iterator<Item = (usize, &'w [u8])> {
    let is_big_endian = elf.is_big_endian;
    MAGICS.into_iter().flat_map(move |(magic, _)| {
        let magic = if is_big_endian { magic.to_be_bytes() } else { magic.to_le_bytes() };
        let places: Vec<usize> = memchr::memmem::find_iter(window, &[&magic[..], &[0, 0]].concat()).collect();
        places.into_iter().filter_map(|at| Some((at, window.get(at..at + HEADER_BYTES)?)))
    })
}

/// A part of the table that is held, for reads that mostly go forward.
struct Block {
    range: Range,
    start: u64,
    bytes: Vec<u8>,
}

impl Block {
    fn new(range: Range) -> Self {
        Self { range, start: 0, bytes: Vec::new() }
    }

    /// At most `max_bytes` from `at` on, fewer at the end of the table; `None` behind it or beyond the budget.
    fn at(
        &mut self,
        elf: &Elf<'_>,
        at: u64,
        max_bytes: usize,
        budget: &mut Budget,
    ) -> io::Result<Option<&[u8]>> {
        let Some(rest) = self.range.after(at).filter(|rest| rest.size_bytes > 0) else { return Ok(None) };
        let wanted = usize::try_from(rest.size_bytes).unwrap_or(usize::MAX).min(max_bytes);
        let within = at.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let is_held = within.is_some_and(|skip| skip.saturating_add(wanted) <= self.bytes.len());
        if !is_held {
            if budget.0 < BLOCK_BYTES as u64 {
                return Ok(None);
            }
            self.bytes = read_part(elf.file, rest, BLOCK_BYTES)?;
            self.start = at;
            budget.0 -= self.bytes.len() as u64;
        }
        let skip = (at - self.start) as usize;
        Ok(self.bytes.get(skip..self.bytes.len().min(skip + wanted)))
    }
}

/// Whether there is a section of that name, at no cost.
pub(crate) fn has_section(elf: &Elf<'_>) -> bool {
    SECTIONS.iter().any(|name| elf.section(name).is_some())
}
