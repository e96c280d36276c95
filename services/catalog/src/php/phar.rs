//! Composer packages packed into phar archives: installed.json within one of PHP's own format (PHP manual, "Phar File
//! Format") or of ZIP's. Reads the manifest and these files; never unpacks an archive or runs its stub.

use crate::bounds::LeftOut;
use crate::digest::SliceAt;
use crate::tree::read_at::read_range;
use crate::tree::{ReadAt, path};
use crate::zip::{Archive, Budget, inflate};
use serde::{Deserialize, Serialize};

/// Longest stub, in bytes: the program in front of the archive; real ones have a few KiB.
const MAX_STUB_BYTES: usize = 1024 * 1024;
/// Longest manifest, in bytes; PHP takes none longer than 100 MiB.
const MAX_MANIFEST_BYTES: usize = 100 * 1024 * 1024;
/// Most of one installed.json that is read, in bytes.
const MAX_INSTALLED_BYTES: usize = 4 * 1024 * 1024;
/// Most lists of packages of one archive.
const MAX_LISTS: usize = 3;
/// What ends a stub.
const HALT: &[u8] = b"__HALT_COMPILER();";
/// Of a file's flags: how it is compressed.
const COMPRESSED: u32 = 0xf000;
const DEFLATED: u32 = 0x1000;
/// Bytes between the name and the metadata of a file's entry.
const ENTRY_BYTES: usize = 24;

/// What is kept of an archive.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Phar {
    /// Path and contents of each installed.json.
    pub lists: Vec<(String, String)>,
    /// Why something could not be read; empty if everything could.
    pub problem: String,
    pub left_out: LeftOut,
}

/// Tools that are installed as archives without the ending: looking into each program would cost every scan.
const TOOLS: [&[u8]; 12] = [
    b"box",
    b"composer",
    b"drush",
    b"phing",
    b"phive",
    b"php-cs-fixer",
    b"phpcbf",
    b"phpcs",
    b"phpstan",
    b"phpunit",
    b"psalm",
    b"wp",
];

/// By its ending, or a program called as tools are that come as archives.
pub(super) fn is_path(path: &[u8]) -> bool {
    let (directory, name) = path::split(path);
    // dpkg notes the alternatives of a program `phar.phar` in a file of this name.
    if directory == b"var/lib/dpkg/alternatives" {
        return false;
    }
    name.ends_with(b".phar") || (directory.ends_with(b"bin") && TOOLS.contains(&name))
}

/// A program of PHP's, or a ZIP archive.
pub(super) fn is_head(head: &[u8]) -> bool {
    let first = &head[..memchr::memchr(b'\n', head).unwrap_or(head.len())];
    let is_script = first.starts_with(b"#!") && memchr::memmem::find(first, b"php").is_some();
    is_script || head.starts_with(b"<?php") || head.starts_with(b"PK\x03\x04")
}

/// The digest function; empty for a script that is no archive.
pub(super) fn digest(file: &dyn ReadAt) -> Vec<u8> {
    let phar = match look_into(file) {
        Ok(Some(phar)) => phar,
        Ok(None) => return Vec::new(),
        Err(problem) => Phar { problem, ..Phar::default() },
    };
    // Writing a structure of strings cannot fail.
    serde_json::to_vec(&phar).unwrap_or_default()
}

fn look_into(file: &dyn ReadAt) -> Result<Option<Phar>, String> {
    let head = read_range(file, 0, MAX_STUB_BYTES).map_err(|error| error.to_string())?;
    if head.starts_with(b"PK") {
        return of_zip(file).map(Some);
    }
    let Some(at) = memchr::memmem::find(&head, HALT).map(|at| at + HALT.len()) else { return Ok(None) };
    let manifest_at = at + end_of_stub(&head[at..]);
    // Scripts with data behind them end so, too: an archive has a manifest of a length that it has room for.
    let length = read_range(file, manifest_at as u64, 4).map_err(|error| error.to_string())?;
    let Some(length) = u32_at(&length, 0).map(|length| length as usize) else { return Ok(None) };
    if length as u64 > file.size() || length < 14 {
        return Ok(None);
    }
    if length > MAX_MANIFEST_BYTES {
        return Err(format!("its manifest is longer than {MAX_MANIFEST_BYTES} bytes"));
    }
    let mut budget = Budget::of(file.size());
    budget.take(length).map_err(|error| error.to_string())?;
    let manifest = read_range(file, manifest_at as u64 + 4, length).map_err(|error| error.to_string())?;
    let mut phar = Phar::default();
    if read(file, &manifest, (manifest_at + 4 + length) as u64, &mut budget, &mut phar).is_none() {
        phar.problem = "its manifest is damaged; packages behind that are missing".to_owned();
    }
    Ok(Some(phar))
}

/// ` ?>` and one end of line may follow.
fn end_of_stub(rest: &[u8]) -> usize {
    let tag = [b" ?>".as_slice(), b"?>", b"\n?>"].into_iter().find(|tag| rest.starts_with(tag));
    let after = tag.map_or(0, <[u8]>::len);
    let line = [b"\r\n".as_slice(), b"\n"].into_iter().find(|end| rest[after..].starts_with(end));
    after + line.filter(|_| tag.is_some()).map_or(0, <[u8]>::len)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Reads the lists of packages that the manifest names; `None` when it is damaged.
fn read(
    file: &dyn ReadAt,
    manifest: &[u8],
    contents_at: u64,
    budget: &mut Budget,
    phar: &mut Phar,
) -> Option<()> {
    let count = u32_at(manifest, 0)?;
    let skip =
        |at: usize| -> Option<usize> { at.checked_add(4)?.checked_add(u32_at(manifest, at)? as usize) };
    // Behind count, version and flags: alias and metadata.
    let mut at = skip(skip(10)?)?;
    let mut start = contents_at;
    for _ in 0..count {
        let end = skip(at)?;
        let name = manifest.get(at + 4..end)?;
        let field = |number: usize| u32_at(manifest, end + 4 * number);
        let (size, compressed, flags) = (field(0)?, field(2)?, field(4)?);
        if is_list(name) {
            let slice = SliceAt::new(file, start, u64::from(compressed));
            let wanted = (size as usize).min(MAX_INSTALLED_BYTES);
            phar.add(name, size as usize, || match (flags & COMPRESSED, slice) {
                (_, None) => Err("it lies outside of the archive".to_owned()),
                (0, Some(data)) => read_stored(&data, wanted, budget),
                (DEFLATED, Some(data)) => inflate(&data, wanted, budget).map_err(|error| error.to_string()),
                _ => Err("it is compressed by bzip2, which is not supported".to_owned()),
            });
        }
        start = start.checked_add(u64::from(compressed))?;
        at = end.checked_add(ENTRY_BYTES)?.checked_add(field(5)? as usize)?;
        if end + ENTRY_BYTES > manifest.len() {
            return None;
        }
    }
    Some(())
}

fn read_stored(data: &SliceAt<'_>, wanted: usize, budget: &mut Budget) -> Result<Vec<u8>, String> {
    budget.take(wanted).map_err(|error| error.to_string())?;
    read_range(data, 0, wanted).map_err(|error| error.to_string())
}

fn is_list(name: &[u8]) -> bool {
    name == b"composer/installed.json" || name.ends_with(b"/composer/installed.json")
}

fn of_zip(file: &dyn ReadAt) -> Result<Phar, String> {
    let mut budget = Budget::of(file.size());
    let archive = Archive::open(file, &mut budget).map_err(|error| error.to_string())?;
    let mut phar = Phar::default();
    for entry in archive.entries().filter(|entry| is_list(entry.name)) {
        let size = usize::try_from(entry.size_bytes).unwrap_or(usize::MAX);
        phar.add(entry.name, size, || {
            archive.read(&entry, MAX_INSTALLED_BYTES, &mut budget).map_err(|error| error.to_string())
        });
    }
    Ok(phar)
}

impl Phar {
    /// Adds one list of packages; beyond the bound none is read.
    fn add(&mut self, name: &[u8], size: usize, read: impl FnOnce() -> Result<Vec<u8>, String>) {
        if self.lists.len() >= MAX_LISTS {
            return self.left_out.beyond(MAX_LISTS, "files installed.json");
        }
        let name = String::from_utf8_lossy(name).into_owned();
        match read() {
            Ok(bytes) => {
                if size > MAX_INSTALLED_BYTES {
                    self.left_out.beyond(MAX_INSTALLED_BYTES, "bytes in installed.json");
                }
                self.lists.push((name, String::from_utf8_lossy(&bytes).into_owned()));
            }
            Err(error) if self.problem.is_empty() => self.problem = format!("{name}: {error}"),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zip::tests::{Keep, Writer};

    fn phar(stub: &[u8], files: &[(&str, &[u8])]) -> Vec<u8> {
        let number = |value: usize| (value as u32).to_le_bytes();
        let entry = |(name, contents): &(&str, &[u8])| {
            [
                &number(name.len())[..],
                name.as_bytes(),
                &number(contents.len()),
                &number(0),
                &number(contents.len()),
                &number(0),
                &number(0o644),
                &number(0),
            ]
            .concat()
        };
        let entries: Vec<u8> = files.iter().flat_map(entry).collect();
        let contents: Vec<u8> = files.iter().flat_map(|(_, contents)| contents.to_vec()).collect();
        let manifest =
            [&number(files.len())[..], &[0x11, 0], &number(0), &number(0), &number(0), &entries].concat();
        [stub, &number(manifest.len())[..], &manifest, &contents].concat()
    }

    /// A file that knows which of its bytes were read.
    struct Watched {
        bytes: Vec<u8>,
        read: std::cell::RefCell<Vec<std::ops::Range<usize>>>,
    }

    impl ReadAt for Watched {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.bytes.as_slice().read_at(offset, buffer)?;
            self.read.borrow_mut().push(offset as usize..offset as usize + count);
            Ok(count)
        }
    }

    #[track_caller]
    fn check(bytes: &[u8], lists: usize, problem: &str) {
        let found = look_into(&bytes.to_vec());
        let found =
            found.unwrap_or_else(|problem| Some(Phar { problem, ..Phar::default() })).unwrap_or_default();
        assert_eq!((found.lists.len(), found.problem.as_str()), (lists, problem));
    }

    #[test]
    fn stubs_and_damages() {
        const LIST: &str = "vendor/composer/installed.json";
        for stub in [
            "<?php __HALT_COMPILER(); ?>\r\n",
            "<?php __HALT_COMPILER(); ?>\n",
            "#!/x\n<?php\n__HALT_COMPILER();?>",
            "<?php __HALT_COMPILER();",
        ] {
            check(&phar(stub.as_bytes(), &[(LIST, b"[]")]), 1, "");
        }
        let whole = phar(b"<?php __HALT_COMPILER(); ?>\n", &[(LIST, b"[]")]);
        check(&whole[..whole.len() - 1], 0, &format!("{LIST}: it lies outside of the archive"));
        check(&phar(b"<?php __HALT_COMPILER(); ?>\n", &[("src/x.php", b"[]")]), 0, "");
        // More files than there are entries; and what is no archive.
        let mut more = whole.clone();
        more[32] = 2;
        check(&more, 1, "its manifest is damaged; packages behind that are missing");
        for other in [
            &b"<?php echo 1;"[..],
            b"<?php __HALT_COMPILER();",
            b"<?php __HALT_COMPILER(); ?>\nabcdefghijklmnopqrst",
            b"",
        ] {
            check(other, 0, "");
        }
    }

    #[test]
    fn lists_beyond_the_bound_are_not_read() {
        // Behind what is read in search of the end of the stub.
        let long = vec![b' '; MAX_STUB_BYTES];
        let last = b"[\"the last\"]";
        let names: Vec<String> =
            (0..=MAX_LISTS).map(|number| format!("{number}/composer/installed.json")).collect();
        let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &long[..])).collect();
        files[MAX_LISTS].1 = last;
        // Before what is read in search of a ZIP's directory.
        files.push(("x", &long));
        let zip = files
            .iter()
            .fold(Writer::default(), |zip, (name, contents)| zip.add(name, contents, Keep::Stored));
        for bytes in [phar(b"<?php __HALT_COMPILER(); ?>\n", &files), zip.finish()] {
            let at = memchr::memmem::find(&bytes, last).unwrap();
            let file = Watched { bytes, read: Default::default() };
            let found = look_into(&file).unwrap().unwrap();
            assert_eq!((found.lists.len(), found.problem.as_str()), (MAX_LISTS, ""));
            assert_eq!(found.left_out.text(), "more than 3 files installed.json");
            let is_read = file.read.borrow().iter().any(|range| range.contains(&at));
            assert!(!is_read, "its contents at {at} were read: {:?}", file.read.borrow());
        }
    }

    #[test]
    fn names_and_heads() {
        for (path, expect) in [
            ("a/b.phar", true),
            ("usr/bin/composer", true),
            ("usr/bin/x", false),
            ("bin/x.phar", true),
            ("lib/x", false),
            ("var/lib/dpkg/alternatives/phar.phar", false),
            ("x", false),
        ] {
            assert_eq!(is_path(path.as_bytes()), expect, "{path}");
        }
        for (head, expect) in
            [("#!/usr/bin/env php\n", true), ("<?php", true), ("#!/bin/sh\nphp", false), ("\x7fELF", false)]
        {
            assert_eq!(is_head(head.as_bytes()), expect, "{head}");
        }
    }
}
