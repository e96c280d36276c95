//! Distributions inside of ZIP archives on Python's path: zipped eggs, and zipapps (`.pyz`, `.pex`) with the dist-info of
//! what was packed into them (zipimport, PEP 441). Each archive is looked into in place and never unpacked.

use super::files::OwnedFiles;
use super::metadata::{self, Metadata};
use super::{ECOSYSTEM, MAX_METADATA_BYTES};
use crate::digest::{DigestedFiles, Digester};
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{FileKind, ReadAt, path};
use crate::zip::{Archive, Budget};
use plimsoll_schemas::words::probe;
use serde::{Deserialize, Serialize};

/// Most distributions of one archive.
const MAX_DISTRIBUTIONS: usize = 2_000;
/// Most of one RECORD that is read, in bytes.
const MAX_RECORD_BYTES: usize = 4 * 1024 * 1024;
/// Most top-level names kept of one distribution.
const MAX_TOP_LEVEL: usize = 1_000;

const METHOD: &str = "zipped";

pub(super) static ARCHIVES: [Digester; 1] = [Digester {
    name: "python-archive",
    files: DigestedFiles::Named { by_path: is_archive_path, by_head: is_archive_head },
    digest,
}];

/// Eggs and zipapps; a directory may be called `.egg` too.
pub(super) fn is_archive_path(path: &[u8]) -> bool {
    [b".egg".as_slice(), b".pyz", b".pex"].iter().any(|end| path.ends_with(end))
}

/// A ZIP archive, or a line that names an interpreter in front of one.
fn is_archive_head(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"#!")
}

/// One distribution within an archive.
#[derive(Debug, Serialize, Deserialize)]
struct Zipped {
    /// The directory of its metadata within the archive.
    info: String,
    /// METADATA or PKG-INFO.
    metadata: Vec<u8>,
    /// Its modules and packages as they stand in the archive; empty: everything in it.
    top_level: Vec<String>,
    loadable_file_count: u64,
}

fn digest(file: &dyn ReadAt) -> Vec<u8> {
    let found = look_into(file);
    if found.is_empty() { Vec::new() } else { serde_json::to_vec(&found).unwrap_or_default() }
}

/// What cannot be read is left out.
fn look_into(file: &dyn ReadAt) -> Vec<Zipped> {
    let mut budget = Budget::of(file.size());
    let Ok(archive) = Archive::open(file, &mut budget) else { return Vec::new() };
    let is_marker = |name: &[u8]| name == b"EGG-INFO/PKG-INFO" || name.ends_with(b".dist-info/METADATA");
    let mut found = Vec::new();
    for entry in archive.entries().filter(|entry| is_marker(entry.name)).take(MAX_DISTRIBUTIONS) {
        let Ok(metadata) = archive.read(&entry, MAX_METADATA_BYTES / 16, &mut budget) else { continue };
        let info = path::parent(entry.name);
        let Ok(info_text) = std::str::from_utf8(info) else { continue };
        let mut owned = OwnedFiles::default();
        let mut top_level = Vec::new();
        if info == b"EGG-INFO" {
            archive.entries().filter(|entry| !entry.is_directory()).for_each(|entry| owned.count(entry.name));
        } else {
            let record = path::join(info, b"RECORD");
            let listed = archive.entries().find(|entry| entry.name == record);
            let record = listed.and_then(|entry| archive.read(&entry, MAX_RECORD_BYTES, &mut budget).ok());
            let base = path::parent(info);
            super::files::record_paths(&record.unwrap_or_default(), &mut |listed| {
                let file = path::normalize_from(base, listed);
                owned.count(&file);
                let below =
                    if base.is_empty() { &file[..] } else { &file[(base.len() + 1).min(file.len())..] };
                let first = below.split(|byte| *byte == b'/').next().unwrap_or_default();
                if let Ok(first) = String::from_utf8(path::join(base, first))
                    && top_level.len() < MAX_TOP_LEVEL
                    && top_level.last() != Some(&first)
                {
                    top_level.push(first);
                }
            });
            top_level.sort();
            top_level.dedup();
            if top_level.is_empty() {
                top_level.push(info_text.to_owned());
            }
        }
        let loadable_file_count = owned.loadable_file_count;
        found.push(Zipped { info: info_text.to_owned(), metadata, top_level, loadable_file_count });
    }
    found
}

/// Adds the distributions in the archive at `marker`.
pub(super) fn survey(survey: &mut Survey<'_>, marker: &[u8]) {
    if !survey.tree.metadata(marker).is_ok_and(|found| found.kind == FileKind::Regular) {
        return;
    }
    if let Some(index) = &mut survey.index {
        index.watch(survey.tree, marker);
    }
    // Scripts without an archive, and zipapps without any dist-info, hold nothing of interest.
    let found = survey.digest(marker, &ARCHIVES[0]);
    let found = found.and_then(|digest| serde_json::from_slice::<Vec<Zipped>>(&digest).ok());
    let Some(found) = found else {
        if marker.ends_with(b".egg") {
            let problem = "no distribution was found in it";
            let remedy = "check whether the file is damaged";
            survey.warnings.push("unreadable-archive", &path::display(marker), problem, remedy);
        }
        return;
    };
    for zipped in found {
        let subject = [marker, b"!/", zipped.info.as_bytes()].concat();
        let Some(metadata) = metadata::of(&zipped.metadata) else {
            let remedy = "build the archive again";
            let problem = "it names no distribution and version, so it is left out";
            survey.warnings.push("damaged-metadata", &path::display(&subject), problem, remedy);
            continue;
        };
        let record = describe(survey, marker, &zipped, metadata);
        let Some(package) = survey.add_package(record) else { return };
        let Some(index) = &mut survey.index else { continue };
        index.own(&mut survey.canonicalizer, marker, package, METHOD);
        if zipped.top_level.is_empty() {
            index.own_below(marker, package, METHOD);
        }
        for name in &zipped.top_level {
            let place = path::join(marker, name.as_bytes());
            index.own_below(&place, package, METHOD);
            index.own(&mut survey.canonicalizer, &place, package, METHOD);
        }
    }
}

fn describe(survey: &Survey<'_>, marker: &[u8], zipped: &Zipped, metadata: Metadata) -> PackageRecord {
    let name = metadata::normalize_name(&metadata.name);
    let mut record = PackageRecord::new(PackageKind::Application, ECOSYSTEM, name, metadata.version);
    record.purl =
        Purl { package_type: "pypi", name: &record.name, version: &record.version, ..Purl::default() }
            .build();
    record.licenses = metadata.licenses;
    record.dependencies = metadata.dependencies;
    record.locations = vec![Location {
        path: marker.to_vec(),
        nested_path: zipped.info.clone().into_bytes(),
        layer: survey.tree.layer_of(marker).unwrap_or_default().to_owned(),
    }];
    survey.set_provider(&mut record, marker);
    record.loadable_file_count = zipped.loadable_file_count;
    // The kernel sees an archive read, not which module of it.
    if zipped.loadable_file_count > 0 {
        record.observable_by = vec![probe::PYTHON_IMPORT];
    } else {
        record.not_measurable_reason = "it has no Python module, shared library or script".to_owned();
    }
    record
}
