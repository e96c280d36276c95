//! The build information that Go's linker leaves in a program: toolchain, main module, dependencies, replacements.
//! Both formats: pointers to strings (Go 1.13 to 1.17) and strings in place (since 1.18); see Go's debug/buildinfo.
//! Never takes a length from the file without cutting it to what is there and to a bound.

use crate::binary::elf::{Elf, Range};
use crate::binary::search::{Budget, windows};
use std::io;

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// The linker aligns the header so.
const ALIGNMENT: u64 = 16;
const HEADER_BYTES: usize = 32;
const POINTER_SIZE_AT: usize = 14;
const FLAGS_AT: usize = 15;
const FLAG_BIG_ENDIAN: u8 = 1;
const FLAG_IN_PLACE: u8 = 2;
/// Sentinels of this length stand before and behind the text with the modules.
const SENTINEL_BYTES: usize = 16;
/// Longest name of a toolchain, in bytes.
const MAX_TOOLCHAIN_BYTES: usize = 1024;
/// Longest text with the modules, in bytes; Kubernetes' is 30 KB.
const MAX_MODULES_BYTES: usize = 8 * 1024 * 1024;
/// Most dependencies of one program.
const MAX_DEPENDENCIES: usize = 20_000;
/// Longest module path or version; the rest of such a line is no module.
const MAX_FIELD_BYTES: usize = 1024;
const MAX_VARINT_BYTES: usize = 10;

/// One module as the build information names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Module {
    pub path: String,
    /// With its `v`; `(devel)` or empty where the build did not know it.
    pub version: String,
    /// What was compiled instead: path and version; a directory has none.
    pub replacement: Option<(String, String)>,
}

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BuildInfo {
    /// `go1.22.1`, as the toolchain calls itself.
    pub toolchain: String,
    /// Import path of the main package.
    pub main_package: String,
    pub main: Option<Module>,
    pub dependencies: Vec<Module>,
    pub vcs_revision: String,
    pub vcs_modified: bool,
    /// What it was built for; empty before Go 1.18.
    pub goos: String,
    pub goarch: String,
    /// Whether more modules stood there than are kept.
    pub is_cut: bool,
}

/// What was found where the build information should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No program of Go's linker, or older than Go 1.13.
    Nothing,
    /// The header is there, but what it names is not.
    Damaged,
    BuildInfo(Box<BuildInfo>),
}

/// Looks where Go's own tool looks: the section, else the segments of a file without sections.
///
/// # Errors
/// Only when the file cannot be read.
pub(crate) fn find(elf: &Elf<'_>, budget: &mut Budget) -> io::Result<Found> {
    if let Some(section) = elf.section(".go.buildinfo") {
        return Ok(match header_in(elf, section, budget)? {
            Some(header) => read(elf, header)?,
            None => Found::Damaged,
        });
    }
    if elf.has_sections() {
        return Ok(Found::Nothing);
    }
    for segment in elf.segments().iter().filter(|segment| !segment.is_executable) {
        if let Some(header) = header_in(elf, segment.range, budget)? {
            return read(elf, header);
        }
    }
    Ok(Found::Nothing)
}

/// The range from the header on.
fn header_in(elf: &Elf<'_>, range: Range, budget: &mut Budget) -> io::Result<Option<Range>> {
    let mut found = None;
    // Searched from the start of the range, whose address is aligned, not from the start of the file.
    let aligned = |offset: u64| {
        (range.address.wrapping_add(offset).wrapping_sub(range.offset)).is_multiple_of(ALIGNMENT)
    };
    windows(elf.file, range, HEADER_BYTES, budget, &mut |window, offset| {
        found = memchr::memmem::find_iter(window, MAGIC).map(|at| offset + at as u64).find(|at| aligned(*at));
        found.is_none()
    })?;
    Ok(found.and_then(|offset| range.after(offset - range.offset)))
}

fn read(elf: &Elf<'_>, at: Range) -> io::Result<Found> {
    let header = crate::binary::elf::read_part(elf.file, at, HEADER_BYTES)?;
    if header.len() < HEADER_BYTES {
        return Ok(Found::Damaged);
    }
    let texts = if header[FLAGS_AT] & FLAG_IN_PLACE != 0 {
        read_in_place(elf, at)?
    } else {
        read_by_pointers(elf, &header)?
    };
    let Some((toolchain, modules)) = texts.filter(|(toolchain, _)| !toolchain.is_empty()) else {
        return Ok(Found::Damaged);
    };
    let mut info = parse_modules(without_sentinels(&modules));
    info.toolchain = String::from_utf8_lossy(&toolchain).into_owned();
    Ok(Found::BuildInfo(Box::new(info)))
}

type Texts = Option<(Vec<u8>, Vec<u8>)>;

fn read_in_place(elf: &Elf<'_>, at: Range) -> io::Result<Texts> {
    let Some(first) = at.after(HEADER_BYTES as u64) else { return Ok(None) };
    let Some((toolchain, rest)) = read_counted(elf, first, MAX_TOOLCHAIN_BYTES)? else { return Ok(None) };
    let Some((modules, _)) = read_counted(elf, rest, MAX_MODULES_BYTES)? else { return Ok(None) };
    Ok(Some((toolchain, modules)))
}

/// A text with its length before it (unsigned LEB128), and what comes behind it.
fn read_counted(elf: &Elf<'_>, at: Range, max_bytes: usize) -> io::Result<Option<(Vec<u8>, Range)>> {
    let start = crate::binary::elf::read_part(elf.file, at, MAX_VARINT_BYTES)?;
    let Some((length, used)) = varint(&start) else { return Ok(None) };
    let Some(text) = at.after(used as u64) else { return Ok(None) };
    if length > max_bytes as u64 || length > text.size_bytes {
        return Ok(None);
    }
    let bytes = crate::binary::elf::read_part(elf.file, text, length as usize)?;
    Ok(text.after(length).map(|rest| (bytes, rest)))
}

/// An unsigned LEB128 number and how many bytes it takes.
pub(crate) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (number, byte) in bytes.iter().take(MAX_VARINT_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * number as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, number + 1));
        }
    }
    None
}

fn read_by_pointers(elf: &Elf<'_>, header: &[u8]) -> io::Result<Texts> {
    let pointer_bytes = usize::from(header[POINTER_SIZE_AT]);
    let is_big_endian = header[FLAGS_AT] & FLAG_BIG_ENDIAN != 0;
    if !matches!(pointer_bytes, 4 | 8) {
        return Ok(None);
    }
    let number = |bytes: &[u8], at: usize| {
        let raw = bytes.get(at..at + pointer_bytes)?;
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if is_big_endian { raw.iter().fold(0, fold) } else { raw.iter().rev().fold(0, fold) })
    };
    let text = |pointer: Option<u64>, max_bytes: usize| -> io::Result<Option<Vec<u8>>> {
        let Some(pointer) = pointer else { return Ok(None) };
        let string = elf.read_address(pointer, 2 * pointer_bytes)?;
        let (Some(data), Some(length)) = (number(&string, 0), number(&string, pointer_bytes)) else {
            return Ok(None);
        };
        if length > max_bytes as u64 {
            return Ok(None);
        }
        let bytes = elf.read_address(data, length as usize)?;
        Ok(Some(bytes).filter(|bytes| bytes.len() as u64 == length))
    };
    let Some(toolchain) = text(number(header, SENTINEL_BYTES), MAX_TOOLCHAIN_BYTES)? else {
        return Ok(None);
    };
    let modules = text(number(header, SENTINEL_BYTES + pointer_bytes), MAX_MODULES_BYTES)?;
    Ok(Some((toolchain, modules.unwrap_or_default())))
}

/// Empty where the sentinels are not: then it is no text with modules.
fn without_sentinels(text: &[u8]) -> &[u8] {
    let is_framed =
        text.len() > 2 * SENTINEL_BYTES && text.get(text.len() - SENTINEL_BYTES - 1) == Some(&b'\n');
    if is_framed { &text[SENTINEL_BYTES..text.len() - SENTINEL_BYTES] } else { b"" }
}

/// Names of systems and architectures are plain words.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The module that the last line named.
enum Last {
    Main,
    Dependency,
    LeftOut,
}

/// Lines of tab-separated fields; see runtime/debug.BuildInfo. Unknown lines are passed over.
fn parse_modules(text: &[u8]) -> BuildInfo {
    let mut info = BuildInfo::default();
    // What a following `=>` line replaces.
    let mut last = Last::LeftOut;
    for line in String::from_utf8_lossy(text).split('\n') {
        let mut fields = line.split('\t');
        let (kind, first) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let version = fields.next().unwrap_or_default();
        if first.len() > MAX_FIELD_BYTES || version.len() > MAX_FIELD_BYTES {
            if matches!(kind, "mod" | "dep" | "=>") {
                last = Last::LeftOut;
                info.is_cut = true;
            }
            continue;
        }
        let module = || Module { path: first.to_owned(), version: version.to_owned(), replacement: None };
        match kind {
            "path" => info.main_package = first.to_owned(),
            "mod" if !first.is_empty() => {
                info.main = Some(module());
                last = Last::Main;
            }
            "dep" if !first.is_empty() => {
                if info.dependencies.len() < MAX_DEPENDENCIES {
                    info.dependencies.push(module());
                    last = Last::Dependency;
                } else {
                    info.is_cut = true;
                    last = Last::LeftOut;
                }
            }
            "=>" => {
                let replaced = match last {
                    Last::Main => info.main.as_mut(),
                    Last::Dependency => info.dependencies.last_mut(),
                    Last::LeftOut => None,
                };
                if let Some(replaced) = replaced {
                    replaced.replacement = Some((first.to_owned(), version.to_owned()));
                }
            }
            "build" => {
                if let Some((key, value)) = first.split_once('=') {
                    match key {
                        "vcs.revision" => info.vcs_revision = value.to_owned(),
                        "vcs.modified" => info.vcs_modified = value == "true",
                        "GOOS" if is_word(value) => info.goos = value.to_owned(),
                        "GOARCH" if is_word(value) => info.goarch = value.to_owned(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_were_built_for() {
        for (settings, expect) in [
            ("build\tGOARCH=amd64\nbuild\tGOOS=linux\n", "linux/amd64"),
            ("build\tGOOS=windows/../x\nbuild\tGOARCH=\n", "/"),
            ("build\tCGO_ENABLED=0\n", "/"),
        ] {
            let info = parse_modules(settings.as_bytes());
            assert_eq!(format!("{}/{}", info.goos, info.goarch), expect, "{settings:?}");
        }
    }
}
