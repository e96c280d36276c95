//! Which files a Python distribution owns: RECORD, installed-files.txt, else its top-level modules; editable projects.
//! Never claims a namespace package as a whole, since several distributions share it.

use super::metadata::{self, Metadata};
use super::{Distribution, Format, MAX_RECORD_BYTES, MAX_SMALL_FILE_BYTES, VENV_MARKER, is_site_directory};
use crate::role::{Role, is_shared_library, role_of};
use crate::survey::Survey;
use crate::tree::{FileKind, FileTree, Walk, path};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Most files kept of one distribution.
const MAX_FILES: usize = 500_000;
/// Most files looked at to count the modules of a directory.
const MAX_COUNTED_FILES: u64 = 100_000;
/// Most top-level modules of one distribution.
const MAX_TOP_LEVEL: usize = 1_000;

const METHOD_EDITABLE: &str = "direct-url";

/// What a distribution owns. Paths are relative to the root.
#[derive(Debug, Default)]
pub(crate) struct OwnedFiles {
    pub files: Vec<Vec<u8>>,
    /// Directories that are its own as a whole.
    pub directories: Vec<Vec<u8>>,
    /// Directory of the project of an editable install.
    pub project: Option<Vec<u8>>,
    /// Modules, shared libraries and scripts; bytecode is not counted.
    pub loadable_file_count: u64,
    pub has_shared_library: bool,
    /// Whether the installer or the build left some list to go by.
    pub is_listed: bool,
}

impl OwnedFiles {
    fn add(&mut self, path: Vec<u8>) {
        if self.files.len() < MAX_FILES {
            self.count(&path);
            self.files.push(path);
        }
    }

    fn count(&mut self, path: &[u8]) {
        let is_bytecode = path.ends_with(b".pyc") || path.ends_with(b".pyo");
        if !is_bytecode && role_of(path) == Role::Code {
            self.loadable_file_count += 1;
            self.has_shared_library |= is_shared_library(path::file_name(path));
        }
    }
}

/// Finds the files of one distribution by the best list that it has.
pub(crate) fn read(
    survey: &mut Survey<'_>,
    distribution: &Distribution<'_>,
    metadata: &Metadata,
) -> OwnedFiles {
    let mut owned = OwnedFiles::default();
    owned.files.push(distribution.marker.to_vec());
    let read = |survey: &mut Survey<'_>, name: &str, max_bytes| {
        let path = distribution.file(name)?;
        survey.read_optional(&path, max_bytes).map(Cow::into_owned)
    };
    let has_list = if let Some(record) = read(survey, "RECORD", MAX_RECORD_BYTES) {
        record_paths(&record, &mut |listed| owned.add(path::normalize_from(distribution.site, listed)));
        true
    } else if let Some(list) = read(survey, "installed-files.txt", MAX_RECORD_BYTES) {
        let lines = list.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        lines.for_each(|line| owned.add(path::normalize_from(distribution.info, line)));
        true
    } else {
        false
    };
    owned.is_listed = has_list;
    if distribution.format == Format::Egg {
        // The .egg directory holds this one distribution.
        owned.directories.push(distribution.site.to_vec());
        owned.is_listed = true;
    } else if !has_list {
        let top_level = read(survey, "top_level.txt", MAX_SMALL_FILE_BYTES);
        let namespaces = read(survey, "namespace_packages.txt", MAX_SMALL_FILE_BYTES).unwrap_or_default();
        let sources = read(survey, "SOURCES.txt", MAX_RECORD_BYTES).unwrap_or_default();
        let names = match &top_level {
            Some(text) => words(text),
            None => BTreeSet::from([metadata::normalize_name(&metadata.name).replace('-', "_").into_bytes()]),
        };
        own_top_level(survey.tree, distribution.site, &names, &words(&namespaces), &sources, &mut owned);
    }
    if let Some(json) = read(survey, "direct_url.json", MAX_SMALL_FILE_BYTES) {
        owned.project = editable_project(&json, survey.tree.root_path());
    }
    let roots: Vec<Vec<u8>> = owned.directories.iter().chain(&owned.project).cloned().collect();
    for directory in roots {
        count_below(survey.tree, &directory, &mut owned);
    }
    owned
}

/// Enters the files of a distribution into the index.
pub(crate) fn claim(
    survey: &mut Survey<'_>,
    distribution: &Distribution<'_>,
    package: u32,
    owned: &OwnedFiles,
) {
    let Some(index) = &mut survey.index else { return };
    let method = distribution.method();
    for path in &owned.files {
        index.own(&mut survey.canonicalizer, path, package, method);
    }
    for directory in &owned.directories {
        index.own_below(directory, package, method);
    }
    if distribution.format != Format::EggInfoFile {
        index.own_below(distribution.info, package, method);
    }
    if let Some(project) = &owned.project {
        let project = survey.canonicalizer.directory(project).to_vec();
        index.own_below(&project, package, METHOD_EDITABLE);
    }
}

/// The paths of a RECORD file: comma-separated values, the path first, quoted if it holds a comma or a quote.
fn record_paths(record: &[u8], visit: &mut dyn FnMut(&[u8])) {
    for line in record.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(quoted) = line.strip_prefix(b"\"") {
            visit(&unquote(quoted));
        } else {
            // The hash and the size behind the path hold no comma, but an unquoted path of a careless tool may.
            let end = memchr::memchr(b',', line).unwrap_or(line.len());
            if end > 0 {
                visit(&line[..end]);
            }
        }
    }
}

/// Up to the closing quote; a doubled quote is one.
fn unquote(quoted: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = quoted.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'"' && bytes.next_if_eq(&b'"').is_none() {
            break;
        }
        out.push(byte);
    }
    out
}

fn words(text: &[u8]) -> BTreeSet<Vec<u8>> {
    text.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty() && *word != b".." && *word != b".")
        .take(MAX_TOP_LEVEL)
        .map(<[u8]>::to_vec)
        .collect()
}

/// Top-level modules as they stand beside the metadata: `name/`, `name.py`, `name.*.so`; of shared namespaces only
/// what SOURCES.txt names.
fn own_top_level(
    tree: &dyn FileTree,
    site: &[u8],
    names: &BTreeSet<Vec<u8>>,
    namespaces: &BTreeSet<Vec<u8>>,
    sources: &[u8],
    owned: &mut OwnedFiles,
) {
    let mut has_directory_listing = None;
    for name in names.difference(namespaces) {
        let base = path::join(site, name);
        if tree.metadata(&base).is_ok_and(|found| found.kind == FileKind::Directory) {
            owned.directories.push(base);
            owned.is_listed = true;
            continue;
        }
        let listing = has_directory_listing.get_or_insert_with(|| tree.list(site).unwrap_or_default());
        // A module by name, whatever its suffix: x.py, x.cpython-311-x86_64-linux-gnu.so, x.abi3.so.
        let prefix = [name.as_slice(), b"."].concat();
        let first = listing.partition_point(|entry| entry.name.as_slice() < prefix.as_slice());
        for entry in listing[first..].iter().take_while(|entry| entry.name.starts_with(&prefix)) {
            if entry.name.ends_with(b".py") || is_shared_library(&entry.name) {
                owned.add(path::join(site, &entry.name));
                owned.is_listed = true;
            }
        }
    }
    for line in sources.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if !line.ends_with(b".py") {
            continue;
        }
        // `src/zope/interface/x.py` was installed as `zope/interface/x.py`.
        let mut rest = line;
        while let Some((first, below)) = memchr::memchr(b'/', rest).map(|at| (&rest[..at], &rest[at + 1..])) {
            if namespaces.contains(first) {
                owned.add(path::normalize_from(site, rest));
                owned.is_listed = true;
                break;
            }
            rest = below;
        }
    }
}

/// Counts the modules below a directory; stops at other trees of packages.
fn count_below(tree: &dyn FileTree, directory: &[u8], owned: &mut OwnedFiles) {
    let mut seen = 0;
    // What cannot be walked counts nothing; the walk of the whole tree has warned of it.
    let _ = tree.walk(directory, &mut |path, kind| {
        seen += 1;
        if seen > MAX_COUNTED_FILES {
            return Walk::Stop;
        }
        if kind == FileKind::Directory {
            let is_other = is_site_directory(path)
                || path::file_name(path).starts_with(b".")
                || tree.metadata(&path::join(path, VENV_MARKER)).is_ok();
            return if is_other { Walk::SkipDirectory } else { Walk::Continue };
        }
        owned.count(path);
        Walk::Continue
    });
}

/// The project directory of an editable install (PEP 610), relative to the root; `None` if it lies outside.
fn editable_project(json: &[u8], root_path: &[u8]) -> Option<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    if value.get("dir_info")?.get("editable")?.as_bool() != Some(true) {
        return None;
    }
    let absolute = path::normalize(&percent_decode(value.get("url")?.as_str()?.strip_prefix("file://")?));
    let root = path::normalize(root_path);
    if root.is_empty() {
        return Some(absolute).filter(|path| !path.is_empty());
    }
    if absolute == root {
        return Some(Vec::new());
    }
    path::is_below(&absolute, &root).then(|| absolute[root.len() + 1..].to_vec())
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match digits.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if *first == b'%' => {
                out.push(byte);
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(record: &str, expect: &[&str]) {
        let mut found = Vec::new();
        record_paths(record.as_bytes(), &mut |path| found.push(path::display(path)));
        assert_eq!(found, expect);
    }

    #[test]
    fn records() {
        check(
            "six.py,sha256=abc,123\r\n../../../bin/x,,\n\n\"a,\"\"b\"\".py\",sha256=d,1\nbare\n",
            &["six.py", "../../../bin/x", "a,\"b\".py", "bare"],
        );
        check("\"", &[""]);
        check("", &[]);
    }

    #[test]
    fn editable_projects() {
        let json = |url: &str| format!(r#"{{"url": "{url}", "dir_info": {{"editable": true}}}}"#);
        let find = |url: &str, root: &str| {
            editable_project(json(url).as_bytes(), root.as_bytes()).map(|path| path::display(&path))
        };
        assert_eq!(find("file:///src/my%20app", "/").as_deref(), Some("src/my app"));
        assert_eq!(find("file:///home/u/app/lib", "/home/u/app").as_deref(), Some("lib"));
        assert_eq!(find("file:///home/u/app", "/home/u/app").as_deref(), Some(""));
        assert_eq!(find("file:///home/u/apple", "/home/u/app"), None);
        assert_eq!(find("https://example.org/x", "/"), None);
        assert_eq!(editable_project(br#"{"url":"file:///x","dir_info":{}}"#, b"/"), None);
        assert_eq!(editable_project(b"[", b"/"), None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            record_paths(&bytes, &mut |_| ());
            editable_project(&bytes, b"/");
            percent_decode(&String::from_utf8_lossy(&bytes));
        }
    }
}
