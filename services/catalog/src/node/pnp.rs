//! Packages that yarn's Plug'n'Play keeps in ZIP archives: those that `.pnp.cjs` names, each looked into in place.
//! Never runs `.pnp.cjs`: only the texts of its fields `packageLocation` are read. An archive that is merely cached is
//! no installed package.

use super::files::Counts;
use super::manifest::{self, Manifest};
use super::{ECOSYSTEM, MANIFEST, METHOD, modules_directory_of};
use crate::bounds::{LeftOut, bound};
use crate::digest::{DigestedFiles, Digester};
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{ReadAt, path};
use crate::zip::{Archive, Budget};
use plimsoll_schemas::words::probe;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most of one `.pnp.cjs` that is read, in bytes.
pub(super) const MAX_PNP_BYTES: usize = 32 * 1024 * 1024;
/// Most places that one `.pnp.cjs` names.
const MAX_LOCATIONS: usize = bound(100_000, 1_000);
/// Most packages of one archive; yarn puts one into each.
const MAX_ARCHIVED: usize = 64;
/// Most members of one archive of which is told that they cannot be read.
const MAX_PROBLEMS: usize = 20;
/// Most of a package.json within an archive that is read, in bytes.
const MAX_MANIFEST_BYTES: usize = 1024 * 1024;

pub(super) const ARCHIVES: Digester = Digester {
    name: "npm-archive",
    files: DigestedFiles::Named {
        by_path: is_cached_archive,
        by_head: |head| head.starts_with(b"PK\x03\x04"),
    },
    digest,
};

/// `.pnp.cjs`, and `.pnp.js` of yarn 2.
pub(super) fn is_pnp(path: &[u8]) -> bool {
    matches!(path::file_name(path), b".pnp.cjs" | b".pnp.js" | b".pnp.data.json")
}

/// Archives in yarn's caches: the project's `.yarn/cache`, or `.yarn/berry/cache` of the user.
pub(crate) fn is_cached_archive(path: &[u8]) -> bool {
    path.ends_with(b".zip") && {
        let directory = path::parent(path);
        directory.ends_with(b".yarn/cache") || directory.ends_with(b"yarn/berry/cache")
    }
}

/// One package within an archive.
#[derive(Debug, Serialize, Deserialize)]
struct Archived {
    /// Its directory within the archive.
    place: String,
    name: String,
    version: String,
    licenses: Vec<String>,
    dependencies: Vec<String>,
    counts: Counts,
}

/// Everything kept of one archive.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Found {
    packages: Vec<Archived>,
    /// What of it could not be read, and why; the survey warns of it.
    problems: Vec<String>,
    left_out: LeftOut,
}

impl Found {
    fn problem(&mut self, place: &[u8], what: impl std::fmt::Display) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(format!("{}: {what}", path::display(place)));
        } else {
            self.left_out.beyond(MAX_PROBLEMS, "members that cannot be read");
        }
    }
}

fn digest(file: &dyn ReadAt) -> Vec<u8> {
    // Writing a structure of strings and numbers cannot fail.
    serde_json::to_vec(&look_into(file)).unwrap_or_default()
}

fn look_into(file: &dyn ReadAt) -> Found {
    let mut found = Found::default();
    let mut budget = Budget::of(file.size());
    let archive = match Archive::open(file, &mut budget) {
        Ok(archive) => archive,
        Err(error) => {
            found.problems.push(error.to_string());
            return found;
        }
    };
    if archive.is_damaged() {
        let problem = "its central directory is damaged behind some members, which are missing";
        found.problems.push(problem.to_owned());
    }
    let manifests = archive.entries().filter(|entry| {
        let (directory, name) = path::split(entry.name);
        name == MANIFEST && modules_directory_of(directory).is_some()
    });
    let mut left_out = LeftOut::default();
    for entry in left_out.first(manifests, MAX_ARCHIVED, "packages") {
        let bytes = match archive.read(&entry, MAX_MANIFEST_BYTES, &mut budget) {
            Ok(bytes) => bytes,
            Err(error) => {
                found.problem(entry.name, error);
                continue;
            }
        };
        let (manifest, problem) = manifest::parse(&bytes);
        let directory = path::parent(entry.name);
        let Ok(place) = std::str::from_utf8(directory) else {
            found.problem(entry.name, "its name is no UTF-8, so it is left out");
            continue;
        };
        let is_usable = !manifest.name.is_empty() && !manifest.version.is_empty();
        let problem = match (entry.size_bytes > MAX_MANIFEST_BYTES as u64, is_usable) {
            (true, _) => Some(format!("is longer than the {MAX_MANIFEST_BYTES} bytes that are read of it")),
            (false, false) => Some("names no package and version, so it is left out".to_owned()),
            (false, true) => problem,
        };
        problem.into_iter().for_each(|problem| found.problem(entry.name, problem));
        if !manifest.left_out.is_empty() {
            found.problem(entry.name, format!("there are {}", manifest.left_out.text()));
        }
        if !is_usable {
            continue;
        }
        let names = archive.entries().filter(|entry| !entry.is_directory()).map(|entry| entry.name);
        let counts =
            Counts::of_names(names.filter(|name| path::is_below(name, directory)), directory, &manifest);
        let Manifest { name, version, licenses, dependencies, .. } = manifest;
        found.packages.push(Archived {
            place: place.to_owned(),
            name,
            version,
            licenses,
            dependencies,
            counts,
        });
    }
    found.left_out.join(left_out);
    found
}

/// Adds the packages of the archives that one `.pnp.cjs` names.
pub(super) fn survey(survey: &mut Survey<'_>, marker: &[u8]) {
    let Some(text) = survey.read_optional(marker, MAX_PNP_BYTES) else { return };
    if let Some(index) = &mut survey.index {
        index.watch(survey.tree, marker);
    }
    let project = path::parent(marker);
    let mut left_out = LeftOut::default();
    let locations = locations(&text, &mut left_out);
    survey.left_out(marker, &left_out);
    for location in locations {
        let spelling = if location.starts_with(b"/") {
            let root = path::normalize(survey.tree.root_path());
            let absolute = path::normalize(&location);
            match (root.is_empty(), path::is_below(&absolute, &root)) {
                (true, _) => absolute,
                (false, true) => absolute[root.len() + 1..].to_vec(),
                (false, false) => continue,
            }
        } else {
            path::normalize_from(project, &location)
        };
        add(survey, marker, &spelling);
    }
}

/// `archive` as `.pnp.cjs` spells it, perhaps through yarn's virtual directories.
fn add(survey: &mut Survey<'_>, marker: &[u8], spelling: &[u8]) {
    let archive = without_virtual(spelling);
    if !is_cached_archive(&archive) || survey.tree.metadata(&archive).is_err() {
        return;
    }
    let digest = survey.digest(&archive, &ARCHIVES);
    let mut found: Found = digest.and_then(|digest| serde_json::from_slice(&digest).ok()).unwrap_or_default();
    if found.packages.is_empty() && found.problems.is_empty() {
        found.problems.push("no package was found in it".to_owned());
    }
    for problem in found.problems {
        let remedy = "run yarn install --check-cache";
        survey.warnings.push("unreadable-archive", &path::display(&archive), problem, remedy);
    }
    survey.left_out(&archive, &found.left_out);
    for package in found.packages {
        let place = package.place.clone().into_bytes();
        let record = describe(survey, marker, &archive, package);
        let Some(number) = survey.add_package(record) else { return };
        let Some(index) = &mut survey.index else { continue };
        index.own(&mut survey.canonicalizer, &archive, number, METHOD);
        // As Node.js spells what it loads from there.
        for outer in [archive.as_slice(), spelling] {
            index.own_below(&path::join(outer, &place), number, METHOD);
        }
    }
}

fn describe(survey: &Survey<'_>, marker: &[u8], archive: &[u8], package: Archived) -> PackageRecord {
    let mut record = PackageRecord::new(PackageKind::Application, ECOSYSTEM, package.name, package.version);
    let (namespace, name) = record.name.rsplit_once('/').unwrap_or(("", &record.name));
    record.purl =
        Purl { package_type: "npm", namespace, name, version: &record.version, ..Purl::default() }.build();
    record.licenses = package.licenses;
    record.dependencies = package.dependencies;
    record.installer = "yarn".to_owned();
    record.locations = vec![Location {
        path: archive.to_vec(),
        nested_path: package.place.into_bytes(),
        layer: survey.tree.layer_of(archive).unwrap_or_default().to_owned(),
    }];
    survey.set_provider(&mut record, marker);
    record.loadable_file_count = package.counts.loadable();
    // The kernel sees an archive read, not which module of it, nor whether any.
    if package.counts.loadable() > 0 {
        record.observable_by = vec![probe::NODE_MODULE];
    }
    record.not_measurable_reason = package.counts.not_measurable_reason().to_owned();
    record
}

/// The archives in the fields `packageLocation`, each once, in order.
fn locations(text: &[u8], left_out: &mut LeftOut) -> BTreeSet<Vec<u8>> {
    const FIELD: &[u8] = b"\"packageLocation\":";
    let fields = memchr::memmem::find_iter(text, FIELD);
    left_out
        .first(fields, MAX_LOCATIONS, "places of packages")
        .into_iter()
        .filter_map(|at| {
            let value = text[at + FIELD.len()..].trim_ascii_start().strip_prefix(b"\"")?;
            let value = &value[..memchr::memchr(b'"', value)?];
            let end = memchr::memmem::find(value, b".zip/")? + b".zip".len();
            if end > path::MAX_PATH_BYTES {
                left_out.beyond(path::MAX_PATH_BYTES, "bytes in the path of a package");
            }
            let is_path = end <= path::MAX_PATH_BYTES && !value[..end].contains(&b'\\');
            is_path.then(|| value[..end].to_vec())
        })
        .collect()
}

/// `a/__virtual__/HASH/N/b` stands for `b` seen from N directories above `a` (yarn's virtual packages).
fn without_virtual(spelling: &[u8]) -> Vec<u8> {
    for word in [b"/__virtual__/".as_slice(), b"/$$virtual/"] {
        let Some(at) = memchr::memmem::find(spelling, word) else { continue };
        let mut rest = spelling[at + word.len()..].splitn(3, |byte| *byte == b'/');
        let (Some(_), Some(depth), Some(below)) = (rest.next(), rest.next(), rest.next()) else { continue };
        let depth: usize = std::str::from_utf8(depth).ok().and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut base = &spelling[..at];
        for _ in 0..depth.min(path::MAX_PATH_BYTES) {
            base = path::parent(base);
        }
        return path::join(base, below);
    }
    spelling.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_packages() {
        let text = br#"'{ "packageLocation": "./.yarn/cache/a-npm-1.0.0-x.zip/node_modules/a/", \
            "packageLocation": "./", "packageLocation": "../r/.yarn/berry/cache/b.zip/node_modules/@s/b/",
            "packageLocation": "./.yarn/__virtual__/c-virtual-1/0/cache/c.zip/node_modules/c/",
            "packageLocation": "./bad\\n.zip/", "packageLocation": "./.yarn/cache/cut.zip/"#;
        let found: Vec<String> =
            locations(text, &mut LeftOut::default()).iter().map(|place| path::display(place)).collect();
        assert_eq!(
            found,
            [
                "../r/.yarn/berry/cache/b.zip",
                "./.yarn/__virtual__/c-virtual-1/0/cache/c.zip",
                "./.yarn/cache/a-npm-1.0.0-x.zip"
            ]
        );
    }

    #[test]
    fn virtual_packages() {
        for (spelling, expect) in [
            ("app/.yarn/__virtual__/c-virtual-1/0/cache/c.zip", "app/.yarn/cache/c.zip"),
            (
                "app/.yarn/__virtual__/c-virtual-1/3/root/.yarn/berry/cache/c.zip",
                "root/.yarn/berry/cache/c.zip",
            ),
            ("app/.yarn/cache/c.zip", "app/.yarn/cache/c.zip"),
            ("app/.yarn/__virtual__/x", "app/.yarn/__virtual__/x"),
        ] {
            assert_eq!(path::display(&without_virtual(spelling.as_bytes())), expect);
        }
    }
}
