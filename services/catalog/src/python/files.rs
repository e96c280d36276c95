//! Which files a Python distribution owns: RECORD, installed-files.txt, else its top-level modules; editable projects.
//! Never claims a namespace package as a whole, since several distributions share it.

use super::editable::{self, Sources};
use super::metadata::{self, Metadata};
use super::{Distribution, Format, MAX_RECORD_BYTES, MAX_SMALL_FILE_BYTES, VENV_MARKER, is_site_directory};
use crate::bounds::{LeftOut, bound};
use crate::not_measurable;
use crate::record::PackageRecord;
use crate::role::{Role, is_shared_library, role_of};
use crate::survey::Survey;
use crate::tree::{FileKind, FileTree, Walk, path};
use plimsoll_schemas::words::probe;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Most files kept of one distribution.
const MAX_FILES: usize = bound(500_000, 5_000);
/// Most files looked at to count the modules of a directory.
const MAX_COUNTED_FILES: usize = bound(100_000, 2_000);
/// Most top-level modules of one distribution.
const MAX_TOP_LEVEL: usize = 1_000;

const METHOD_DIRECT_URL: &str = "direct-url";
const METHOD_EDITABLE: &str = "editable";

/// What a distribution owns. Paths are relative to the root.
#[derive(Debug, Default)]
pub(crate) struct OwnedFiles {
    pub files: Vec<Vec<u8>>,
    /// Directories that are its own as a whole.
    pub directories: Vec<Vec<u8>>,
    /// Directory of the project of an editable install, by direct_url.json.
    pub project: Option<Vec<u8>>,
    /// Where else its sources stand, by .pth files and finders.
    pub sources: Sources,
    /// Modules, shared libraries and scripts; bytecode is not counted.
    pub loadable_file_count: u64,
    pub shared_library_count: u64,
    /// Whether the installer or the build left some list to go by.
    pub is_listed: bool,
    /// Whether a bound was reached, so that it may have more files than were counted.
    pub is_cut: bool,
    pub left_out: LeftOut,
}

impl OwnedFiles {
    pub fn add(&mut self, path: Vec<u8>) {
        if self.files.len() < MAX_FILES {
            self.count(&path);
            self.files.push(path);
        } else {
            self.is_cut = true;
            self.left_out.beyond(MAX_FILES, "files of the distribution");
        }
    }

    pub fn count(&mut self, path: &[u8]) {
        let is_bytecode = path.ends_with(b".pyc") || path.ends_with(b".pyo");
        if !is_bytecode && role_of(path) == Role::Code {
            self.loadable_file_count += 1;
            self.shared_library_count += u64::from(is_shared_library(path::file_name(path)));
        }
    }

    /// Where the sources of an editable install stand.
    pub fn projects(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.project.iter().chain(&self.sources.directories)
    }

    /// Sets what could see a use of these files, or why nothing could.
    pub fn say_what_sees_it(&self, record: &mut PackageRecord) {
        record.loadable_file_count = self.loadable_file_count;
        if self.loadable_file_count > 0 {
            record.observable_by = vec![probe::EBPF_FILES, probe::PYTHON_IMPORT];
            // It sees no Python source: only of a package without any could it tell that nothing was used.
            if self.shared_library_count == self.loadable_file_count && !self.is_cut {
                record.observable_by.push(probe::LD_AUDIT);
            }
        } else if self.is_listed {
            record.not_measurable_reason = not_measurable::NO_PYTHON_FILE.to_owned();
        } else {
            record.not_measurable_reason = not_measurable::NO_PYTHON_LIST.to_owned();
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
            Some(text) => words(text, &mut owned.left_out),
            None => BTreeSet::from([metadata::normalize_name(&metadata.name).replace('-', "_").into_bytes()]),
        };
        let namespaces = words(&namespaces, &mut owned.left_out);
        own_top_level(survey.tree, distribution.site, &names, &namespaces, &sources, &mut owned);
    }
    if let Some(json) = read(survey, "direct_url.json", MAX_SMALL_FILE_BYTES) {
        owned.project = editable::project(&json, survey.tree.root_path());
    }
    owned.sources = editable::follow(survey, distribution.site, &owned.files);
    let project = owned.project.clone();
    owned.sources.directories.retain(|directory| {
        !project.as_ref().is_some_and(|project| directory == project || path::is_below(directory, project))
    });
    for file in owned.sources.files.clone() {
        owned.count(&file);
    }
    let roots: Vec<Vec<u8>> = owned.directories.iter().chain(owned.projects()).cloned().collect();
    for directory in roots {
        count_below(survey.tree, &directory, &mut owned);
    }
    survey.left_out(distribution.marker, &owned.left_out);
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
        index.own_below(&project, package, METHOD_DIRECT_URL);
    }
    for directory in &owned.sources.directories {
        let directory = survey.canonicalizer.directory(directory).to_vec();
        index.own_below(&directory, package, METHOD_EDITABLE);
    }
    for file in &owned.sources.files {
        index.own(&mut survey.canonicalizer, file, package, METHOD_EDITABLE);
    }
}

/// The paths of a RECORD file: comma-separated values, the path first, quoted if it holds a comma or a quote.
pub(super) fn record_paths(record: &[u8], visit: &mut dyn FnMut(&[u8])) {
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

fn words(text: &[u8], left_out: &mut LeftOut) -> BTreeSet<Vec<u8>> {
    let words = text
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty() && *word != b".." && *word != b".");
    left_out.first(words, MAX_TOP_LEVEL, "top-level modules").into_iter().map(<[u8]>::to_vec).collect()
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
            owned.is_cut = true;
            owned.left_out.beyond(MAX_COUNTED_FILES, "files in one directory");
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

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            record_paths(&bytes, &mut |_| ());
        }
    }
}
