//! Copies of distributions inside another (`pip/_vendor`), by the vendor.txt beside them; owned by both.
//! Never lists what vendor.txt names but nobody copied, nor what has a dist-info of its own.

use super::files::OwnedFiles;
use super::metadata::{is_name, is_version, normalize_name};
use super::{ECOSYSTEM, MAX_SMALL_FILE_BYTES};
use crate::bounds::{LeftOut, bound};
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{DirectoryEntry, FileKind, Walk, path};
use std::collections::BTreeSet;

/// Most lines of one vendor.txt that are read.
const MAX_LINES: usize = 2_000;
/// Most files of one copy.
const MAX_FILES: usize = bound(50_000, 1_000);

const METHOD: &str = "vendor.txt";

/// Distributions whose module is called otherwise (normalised name, module).
const MODULES: [(&str, &str); 8] = [
    ("attrs", "attr"),
    ("beautifulsoup4", "bs4"),
    ("msgpack-python", "msgpack"),
    ("pyjwt", "jwt"),
    ("python-dateutil", "dateutil"),
    ("pyyaml", "yaml"),
    ("setuptools", "pkg_resources"),
    ("python-dotenv", "dotenv"),
];

/// Whether the file at `path` says what was copied into its directory.
pub(super) fn is_list(path: &[u8]) -> bool {
    let (directory, name) = path::split(path);
    matches!(name, b"vendor.txt" | b"vendored.txt")
        && matches!(path::file_name(directory), b"_vendor" | b"vendor" | b"vendored" | b"_vendored")
}

pub(super) fn survey(survey: &mut Survey<'_>, marker: &[u8]) {
    let Some(text) = survey.read_optional(marker, MAX_SMALL_FILE_BYTES) else { return };
    let directory = path::parent(marker);
    let entries = survey.tree.list(directory).unwrap_or_default();
    let recorded: BTreeSet<String> = entries.iter().filter_map(|entry| recorded_name(&entry.name)).collect();
    let mut left_out = LeftOut::default();
    let requirements = requirements(&text, &mut left_out);
    survey.left_out(marker, &left_out);
    for (name, version) in requirements {
        if recorded.contains(&name) {
            continue;
        }
        if let Some(entry) = find_module(&entries, &name) {
            add(survey, marker, entry, name, version);
        }
    }
}

fn add(survey: &mut Survey<'_>, marker: &[u8], entry: &DirectoryEntry, name: String, version: String) {
    let place = path::join(path::parent(marker), &entry.name);
    let mut owned = OwnedFiles { is_listed: true, ..OwnedFiles::default() };
    if entry.kind == FileKind::Directory {
        // What cannot be walked is not owned; the walk of the whole tree has warned of it.
        let _ = survey.tree.walk(&place, &mut |path, kind| {
            if kind != FileKind::Directory {
                owned.add(path.to_vec());
            }
            if owned.files.len() > MAX_FILES { Walk::Stop } else { Walk::Continue }
        });
        let mut left_out = LeftOut::default();
        left_out.keep(&mut owned.files, MAX_FILES, "files of the copied distribution");
        survey.left_out(&place, &left_out);
        owned.is_cut = !left_out.is_empty();
    } else {
        owned.add(place.clone());
    }
    let mut record = PackageRecord::new(PackageKind::Application, ECOSYSTEM, name, version);
    record.purl =
        Purl { package_type: "pypi", name: &record.name, version: &record.version, ..Purl::default() }
            .build();
    record.locations = vec![Location {
        path: place,
        nested_path: Vec::new(),
        layer: survey.tree.layer_of(marker).unwrap_or_default().to_owned(),
    }];
    survey.set_provider(&mut record, marker);
    owned.say_what_sees_it(&mut record);
    let Some(package) = survey.add_package(record) else { return };
    let Some(index) = &mut survey.index else { return };
    // One by one, beside the distribution around it, whose list names the same files.
    for file in &owned.files {
        index.own(&mut survey.canonicalizer, file, package, METHOD);
    }
}

/// `name==version` lines, comments and markers left out; normalised names.
fn requirements(text: &[u8], left_out: &mut LeftOut) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(text);
    let mut found = Vec::new();
    for line in left_out.first(text.lines(), MAX_LINES, "lines") {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let Some((name, version)) = line.split_once("==") else { continue };
        let name = name.split('[').next().unwrap_or_default().trim();
        let version = version.trim_start_matches('=').trim();
        if is_name(name) && is_version(version) {
            found.push((normalize_name(name), version.to_owned()));
        }
    }
    found
}

/// The name of the distribution whose dist-info or egg-info this is.
fn recorded_name(entry: &[u8]) -> Option<String> {
    let stem = entry.strip_suffix(b".dist-info").or_else(|| entry.strip_suffix(b".egg-info"))?;
    let name = stem.split(|byte| *byte == b'-').next()?;
    Some(normalize_name(&String::from_utf8_lossy(name)))
}

/// The directory or file that a distribution was copied to.
fn find_module<'e>(entries: &'e [DirectoryEntry], name: &str) -> Option<&'e DirectoryEntry> {
    let known = MODULES.iter().find(|(distribution, _)| *distribution == name).map(|(_, module)| *module);
    let is_called = |entry: &DirectoryEntry, module: &str| {
        let stem = entry.name.strip_suffix(b".py").filter(|_| entry.kind != FileKind::Directory);
        let stem = match stem {
            Some(stem) => stem,
            None if entry.kind == FileKind::Directory => &entry.name,
            None => return false,
        };
        normalize_name(&String::from_utf8_lossy(stem)) == normalize_name(module)
    };
    let find = |module: &str| entries.iter().find(|entry| is_called(entry, module));
    find(name).or_else(|| known.and_then(find))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let text = b"CacheControl==0.12.6  # a comment\n    urllib3==1.26.17\nrich[extra] == 13.4.2 ; python_version > '3'\n-e .\nbad name==1\nx>=1\npytoml===1\n";
        let expect =
            [("cachecontrol", "0.12.6"), ("urllib3", "1.26.17"), ("rich", "13.4.2"), ("pytoml", "1")];
        let expect: Vec<(String, String)> =
            expect.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect();
        assert_eq!(requirements(text, &mut LeftOut::default()), expect);
        assert_eq!(recorded_name(b"jaraco.text-3.12.1.dist-info").as_deref(), Some("jaraco-text"));
        assert!(is_list(b"pip/_vendor/vendor.txt") && is_list(b"wheel/vendored/vendor.txt"));
        assert!(!is_list(b"docs/vendor.txt"));
    }
}
