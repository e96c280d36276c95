//! Distributions inside of ZIP archives on Python's path: zipped eggs, zipapps (`.pyz`, `.pex`) with the dist-info of
//! what was packed into them (zipimport, PEP 441), and plain archives of what `pip install --target` wrote (layers of
//! AWS Lambda, Spark's --py-files). Each archive is looked into in place and never unpacked.

use super::ECOSYSTEM;
use super::files::OwnedFiles;
use super::metadata::{self, Metadata};
use crate::bounds::LeftOut;
use crate::digest::{DigestedFiles, Digester};
use crate::not_measurable;
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{FileKind, ReadAt, path};
use crate::zip::{Archive, Budget, Entry, MAX_DIRECTORY_BYTES, ZipError};
use plimsoll_schemas::words::probe;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Most distributions of one archive.
const MAX_DISTRIBUTIONS: usize = 2_000;
/// Most of one METADATA or PKG-INFO that is read, in bytes: all of them are kept.
const MAX_ZIPPED_METADATA_BYTES: usize = 64 * 1024;
/// Most of one RECORD that is read, in bytes.
const MAX_RECORD_BYTES: usize = 4 * 1024 * 1024;
/// Most top-level names kept of one distribution.
const MAX_TOP_LEVEL: usize = 1_000;

const METHOD: &str = "zipped";
const EGG_MARKER: &[u8] = b"EGG-INFO/PKG-INFO";

/// Longest central directory of a plain archive that is read, in bytes: most of them have nothing to do with Python.
const MAX_PLAIN_DIRECTORY_BYTES: u64 = 16 * 1024 * 1024;
/// Most distributions without RECORD of one archive whose modules are looked for by name.
const MAX_WITHOUT_RECORD: usize = 64;
/// Most of a top_level.txt that is read, in bytes.
const MAX_TOP_LEVEL_BYTES: usize = 16 * 1024;

pub(super) static ARCHIVES: [Digester; 2] = [
    Digester {
        name: "python-archive",
        files: DigestedFiles::Named { by_path: is_own_path, by_head: is_archive_head },
        digest,
    },
    Digester {
        name: "python-zip",
        files: DigestedFiles::Named { by_path: is_plain_path, by_head: is_archive_head },
        digest: digest_plain,
    },
];

/// Archives that may hold distributions; a directory may be called so too.
pub(crate) fn is_archive_path(path: &[u8]) -> bool {
    is_own_path(path) || is_plain_path(path)
}

/// Eggs and zipapps.
fn is_own_path(path: &[u8]) -> bool {
    [b".egg".as_slice(), b".pyz", b".pex"].iter().any(|end| path.ends_with(end))
}

fn is_plain_path(path: &[u8]) -> bool {
    path.ends_with(b".zip")
}

/// Whether a member of a plain archive describes an installed distribution: at the top of it, in one directory of any
/// name, or in one that Python takes packages from. Sources, which carry an egg-info without a version, are none.
fn is_installed(member: &[u8]) -> bool {
    let (info, name) = path::split(member);
    let (site, info) = path::split(info);
    let is_info = match name {
        b"METADATA" => info.ends_with(b".dist-info"),
        b"PKG-INFO" => info.strip_suffix(b".egg-info").is_some_and(|stem| stem.contains(&b'-')),
        _ => false,
    };
    is_info && (!site.contains(&b'/') || super::is_site_directory(site))
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

/// Everything kept of one archive.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Found {
    distributions: Vec<Zipped>,
    /// The first thing that could not be read; empty if everything could.
    problem: String,
    /// Distributions that were left out.
    lost: u64,
    left_out: LeftOut,
}

impl Found {
    fn leave_out(&mut self, place: &[u8], reason: impl std::fmt::Display) {
        self.lost += 1;
        if self.problem.is_empty() {
            self.problem = format!("{}: {reason}", path::display(place));
        }
    }
}

fn digest(file: &dyn ReadAt) -> Vec<u8> {
    write(look_into(file, MAX_DIRECTORY_BYTES, is_marker))
}

fn is_marker(member: &[u8]) -> bool {
    member.ends_with(b".dist-info/METADATA")
}

/// The same for a plain archive, of which nothing is said where no distribution is seen.
fn digest_plain(file: &dyn ReadAt) -> Vec<u8> {
    let found = look_into(file, MAX_PLAIN_DIRECTORY_BYTES, is_installed);
    if found.distributions.is_empty() && found.lost == 0 { Vec::new() } else { write(found) }
}

fn write(found: Found) -> Vec<u8> {
    let is_nothing = found.distributions.is_empty() && found.problem.is_empty();
    // Writing a structure of strings and numbers cannot fail.
    if is_nothing { Vec::new() } else { serde_json::to_vec(&found).unwrap_or_default() }
}

fn look_into(file: &dyn ReadAt, max_directory_bytes: u64, is_marker: fn(&[u8]) -> bool) -> Found {
    let mut budget = Budget::of(file.size());
    let mut found = Found::default();
    let archive = match Archive::open_within(file, max_directory_bytes, &mut budget) {
        Ok(archive) => archive,
        // A script is none, and an egg that is none is warned of by its name.
        Err(ZipError::NoArchive) => return found,
        Err(error) => return Found { problem: error.to_string(), ..found },
    };
    if archive.is_damaged() {
        found.problem = "its central directory is damaged behind some members, which are missing".to_owned();
    }
    // One pass: an archive may have as many members as it likes. Of members called alike the first counts.
    let mut markers: Vec<Entry<'_>> = Vec::new();
    let mut records: HashMap<&[u8], Entry<'_>> = HashMap::new();
    let mut names: HashMap<&[u8], Entry<'_>> = HashMap::new();
    let mut has_egg = false;
    for entry in archive.entries() {
        let is_egg = entry.name == EGG_MARKER && !has_egg;
        has_egg |= is_egg;
        if is_egg || is_marker(entry.name) {
            if markers.len() < MAX_DISTRIBUTIONS {
                markers.push(entry);
            } else {
                found.leave_out(entry.name, format!("there are more than {MAX_DISTRIBUTIONS} distributions"));
            }
        } else if entry.name.ends_with(b".dist-info/RECORD") {
            records.entry(path::parent(entry.name)).or_insert(entry);
        } else if entry.name.ends_with(b"-info/top_level.txt") {
            names.entry(path::parent(entry.name)).or_insert(entry);
        }
    }
    let mut without_record = 0;
    for entry in markers {
        let info = path::parent(entry.name);
        let Ok(info_text) = std::str::from_utf8(info) else {
            found.leave_out(entry.name, "its name is no UTF-8");
            continue;
        };
        let metadata = match archive.read(&entry, MAX_ZIPPED_METADATA_BYTES, &mut budget) {
            Ok(metadata) => metadata,
            Err(error) => {
                found.leave_out(entry.name, error);
                continue;
            }
        };
        if entry.size_bytes > MAX_ZIPPED_METADATA_BYTES as u64 && !metadata::has_description(&metadata) {
            found.left_out.beyond(MAX_ZIPPED_METADATA_BYTES, "bytes in METADATA or PKG-INFO");
        }
        let mut owned = OwnedFiles::default();
        let mut top_level = Vec::new();
        if info == b"EGG-INFO" {
            archive.entries().filter(|entry| !entry.is_directory()).for_each(|entry| owned.count(entry.name));
        } else {
            let record =
                match records.get(info).map(|entry| archive.read(entry, MAX_RECORD_BYTES, &mut budget)) {
                    Some(Ok(record)) => record,
                    Some(Err(error)) => {
                        if found.problem.is_empty() {
                            found.problem = format!("{}/RECORD: {error}", path::display(info));
                        }
                        Vec::new()
                    }
                    None => Vec::new(),
                };
            if records.get(info).is_some_and(|entry| entry.size_bytes > MAX_RECORD_BYTES as u64) {
                found.left_out.beyond(MAX_RECORD_BYTES, "bytes in RECORD");
            }
            let base = path::parent(info);
            super::files::record_paths(&record, &mut |listed| {
                let file = path::normalize_from(base, listed);
                owned.count(&file);
                let below =
                    if base.is_empty() { &file[..] } else { &file[(base.len() + 1).min(file.len())..] };
                let first = below.split(|byte| *byte == b'/').next().unwrap_or_default();
                if let Ok(first) = String::from_utf8(path::join(base, first))
                    && top_level.len() <= MAX_TOP_LEVEL
                    && top_level.last() != Some(&first)
                {
                    top_level.push(first);
                }
            });
            if top_level.is_empty() && without_record < MAX_WITHOUT_RECORD {
                without_record += 1;
                let named = names
                    .get(info)
                    .and_then(|entry| archive.read(entry, MAX_TOP_LEVEL_BYTES, &mut budget).ok())
                    .unwrap_or_else(|| own_name(&metadata));
                let members = archive.entries().filter(|entry| !entry.is_directory());
                modules_of(members, base, &named, &mut owned, &mut top_level);
            }
            found.left_out.keep(&mut top_level, MAX_TOP_LEVEL, "top-level modules of one distribution");
            top_level.sort();
            top_level.dedup();
            if top_level.is_empty() {
                top_level.push(info_text.to_owned());
            }
        }
        let loadable_file_count = owned.loadable_file_count;
        found.distributions.push(Zipped {
            info: info_text.to_owned(),
            metadata,
            top_level,
            loadable_file_count,
        });
    }
    found
}

/// The name of a distribution as that of its module.
fn own_name(metadata: &[u8]) -> Vec<u8> {
    let name = metadata::of(metadata, &mut LeftOut::default()).map(|(metadata, _)| metadata.name);
    metadata::normalize_name(&name.unwrap_or_default()).replace('-', "_").into_bytes()
}

/// Counts the members of the top-level modules that are named, and notes these as they stand in the archive.
fn modules_of<'e>(
    members: impl Iterator<Item = Entry<'e>>,
    base: &[u8],
    named: &[u8],
    owned: &mut OwnedFiles,
    top_level: &mut Vec<String>,
) {
    let named: Vec<&[u8]> = named.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty()).collect();
    let prefix = if base.is_empty() { Vec::new() } else { path::join(base, b"") };
    for member in members {
        let Some(below) = member.name.strip_prefix(&prefix[..]) else { continue };
        let first = below.split(|byte| *byte == b'/').next().unwrap_or_default();
        let module = if first.len() < below.len() {
            first
        } else {
            first.split(|b| *b == b'.').next().unwrap_or(first)
        };
        if !named.contains(&module) {
            continue;
        }
        owned.count(member.name);
        if let Ok(place) = String::from_utf8(path::join(base, first))
            && top_level.len() <= MAX_TOP_LEVEL
            && !top_level.contains(&place)
        {
            top_level.push(place);
        }
    }
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
    let digester = usize::from(is_plain_path(marker));
    let found = survey.digest(marker, &ARCHIVES[digester]);
    let is_kept = found.is_some();
    let found = found.and_then(|digest| serde_json::from_slice::<Found>(&digest).ok());
    let Some(found) = found else {
        if marker.ends_with(b".egg") || is_kept {
            // What is too long to be kept whole cannot be read.
            let problem = if is_kept {
                "it holds more than is kept of one archive"
            } else {
                "no distribution was found in it"
            };
            let remedy = "check whether the file is damaged";
            survey.warnings.push("unreadable-archive", &path::display(marker), problem, remedy);
        }
        return;
    };
    if !found.problem.is_empty() {
        let lost = match found.lost {
            0 => String::new(),
            count => format!("; {count} of its distributions are left out"),
        };
        let remedy = "check whether the archive is damaged; build it again";
        survey.warnings.push("unreadable-archive", &path::display(marker), found.problem + &lost, remedy);
    }
    survey.left_out(marker, &found.left_out);
    for zipped in found.distributions {
        let subject = [marker, b"!/", zipped.info.as_bytes()].concat();
        let mut left_out = LeftOut::default();
        let Some((metadata, problem)) = metadata::of(&zipped.metadata, &mut left_out) else {
            let remedy = "build the archive again";
            let problem = "it names no distribution and version, so it is left out";
            survey.warnings.push("damaged-metadata", &path::display(&subject), problem, remedy);
            continue;
        };
        survey.left_out(&subject, &left_out);
        if let Some(problem) = problem {
            survey.warnings.push(
                "damaged-metadata",
                &path::display(&subject),
                problem,
                "build the archive again",
            );
        }
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
        record.not_measurable_reason = not_measurable::NO_PYTHON_FILE.to_owned();
    }
    record
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
