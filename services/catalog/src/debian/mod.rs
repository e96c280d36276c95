//! Packages of dpkg (Debian, Ubuntu and relatives), distroless images included, and which files they own.
//! Never counts a package whose files are gone (config-files state), and never lets one damaged stanza hide another.

mod copyright;
mod files;
mod status;

use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{FileKind, path};
use crate::{Ecosystem, Wanted};
use plimsoll_schemas::words::probe;
use status::{StatusPackage, StatusSource};

const DATABASE: &[u8] = b"var/lib/dpkg";
const STATUS: &[u8] = b"var/lib/dpkg/status";
/// Distroless images have one file per package here, and their md5sums beside it.
const STATUS_DIRECTORY: &[u8] = b"var/lib/dpkg/status.d";
const INFO: &[u8] = b"var/lib/dpkg/info";
const ALTERNATIVES: &[u8] = b"var/lib/dpkg/alternatives";
const DIVERSIONS: &[u8] = b"var/lib/dpkg/diversions";

/// Most of the status file that is read, in bytes (10,000 packages take some 10 MB).
const MAX_STATUS_BYTES: usize = 64 * 1024 * 1024;
/// Most of one file in `status.d` that is read, in bytes.
const MAX_STATUS_PART_BYTES: usize = 1024 * 1024;
/// Most files in `status.d`.
const MAX_STATUS_PARTS: usize = 100_000;
/// Most of one list of files that is read, in bytes.
const MAX_LIST_BYTES: usize = 32 * 1024 * 1024;
/// Most of `diversions`, or of one file in `alternatives`, that is read, in bytes.
const MAX_SMALL_FILE_BYTES: usize = 4 * 1024 * 1024;

const ECOSYSTEM: &str = "debian";
const METHOD: &str = "dpkg";
const METHOD_ALTERNATIVES: &str = "alternatives";

pub(crate) struct Debian;

impl Ecosystem for Debian {
    fn wanted(&self, path: &[u8]) -> Option<Wanted> {
        if copyright::is_copyright_path(path) {
            return Some(Wanted::Content { max_bytes: copyright::MAX_COPYRIGHT_BYTES });
        }
        let below = path.strip_prefix(DATABASE)?.strip_prefix(b"/")?;
        let (directory, name) = path::split(below);
        let max_bytes = match (directory, name) {
            (b"", b"status") => MAX_STATUS_BYTES,
            (b"", b"diversions") | (b"alternatives", _) => MAX_SMALL_FILE_BYTES,
            (b"status.d", _) if name.ends_with(b".md5sums") => MAX_LIST_BYTES,
            (b"status.d", _) => MAX_STATUS_PART_BYTES,
            (b"info", _)
                if [b".list".as_slice(), b".md5sums", b".conffiles"]
                    .iter()
                    .any(|end| name.ends_with(end)) =>
            {
                MAX_LIST_BYTES
            }
            _ => return None,
        };
        Some(Wanted::Content { max_bytes })
    }

    fn is_marker(&self, _: &[u8], _: FileKind) -> bool {
        // The database has one fixed place.
        false
    }

    fn database_of<'p>(&self, _: &'p [u8]) -> Option<&'p [u8]> {
        None
    }

    fn is_database_entry(&self, database: &[u8], _: &[u8]) -> bool {
        path::is_below(database, DATABASE)
    }

    fn survey(&self, survey: &mut Survey<'_>, _: &[Vec<u8>]) {
        let sources = find_sources(survey);
        if sources.is_empty() {
            return;
        }
        let diversions = files::read_diversions(survey);
        let mut licenses = copyright::LicenseCache::default();
        for source in sources {
            let packages = status::read(survey, &source);
            for package in packages {
                let (record, owned) = describe(survey, &source, &package, &mut licenses);
                if let Some(index) = survey.add_package(record) {
                    files::claim(survey, index, &package.name, &owned, &diversions);
                }
            }
        }
        files::claim_alternatives(survey);
        if let Some(index) = &mut survey.index {
            for database in [STATUS, STATUS_DIRECTORY, INFO, DIVERSIONS, ALTERNATIVES] {
                index.watch(survey.tree, database);
            }
        }
    }
}

/// The status file, then the parts in `status.d`.
fn find_sources(survey: &mut Survey<'_>) -> Vec<StatusSource> {
    let mut sources = Vec::new();
    if survey.tree.metadata(STATUS).is_ok() {
        sources.push(StatusSource { path: STATUS.to_vec(), is_part: false, max_bytes: MAX_STATUS_BYTES });
    }
    let parts = survey.tree.list(STATUS_DIRECTORY).unwrap_or_default();
    for part in parts.iter().take(MAX_STATUS_PARTS) {
        if part.kind != FileKind::Directory && !part.name.ends_with(b".md5sums") {
            let path = path::join(STATUS_DIRECTORY, &part.name);
            sources.push(StatusSource { path, is_part: true, max_bytes: MAX_STATUS_PART_BYTES });
        }
    }
    if parts.len() > MAX_STATUS_PARTS {
        let message = format!("more than {MAX_STATUS_PARTS} files; the rest is left out");
        survey.warnings.push(
            "too-many-files",
            &path::display(STATUS_DIRECTORY),
            message,
            "remove what is no package",
        );
    }
    sources
}

/// The record of one package, and the files it lists.
fn describe(
    survey: &mut Survey<'_>,
    source: &StatusSource,
    package: &StatusPackage,
    licenses: &mut copyright::LicenseCache,
) -> (PackageRecord, files::OwnedFiles) {
    let owned = files::read_owned(survey, source, package);
    let mut record =
        PackageRecord::new(PackageKind::Os, ECOSYSTEM, package.name.clone(), package.version.clone());
    record.purl = purl(survey, package);
    record.source_name = package.source_name.clone();
    record.source_version = package.source_version.clone();
    record.architecture = package.architecture.clone();
    record.essential = package.is_essential;
    record.dependencies = package.dependencies.clone();
    record.provides = package.provides.clone();
    record.licenses = licenses.read(survey, &package.name);
    record.locations = std::iter::once(source.path.as_slice())
        .chain(
            (!owned.list_path.is_empty() && owned.list_path != source.path)
                .then_some(owned.list_path.as_slice()),
        )
        .map(|path| Location {
            path: path.to_vec(),
            nested_path: Vec::new(),
            layer: survey.tree.layer_of(path).unwrap_or_default().to_owned(),
        })
        .collect();
    let measured = files::measure(survey, &owned);
    record.loadable_file_count = measured.loadable_file_count;
    record.not_measurable_reason = measured.not_measurable_reason.to_owned();
    if measured.not_measurable_reason.is_empty() {
        record.observable_by.push(probe::EBPF_FILES);
        // Whatever observes a package must see each kind of its use, else it would call a used one unused.
        if measured.only_shared_libraries {
            record.observable_by.push(probe::LD_AUDIT);
        }
    }
    (record, owned)
}

/// purl type `deb`; the qualifier `upstream` names the source package where it differs, as syft writes it.
fn purl(survey: &Survey<'_>, package: &StatusPackage) -> String {
    let (namespace, distro) = match &survey.os_release {
        Some(release) => (release.id.as_str(), release.distro()),
        None => ("", String::new()),
    };
    let upstream = if package.source_version != package.version {
        format!("{}@{}", package.source_name, package.source_version)
    } else if package.source_name != package.name {
        package.source_name.clone()
    } else {
        String::new()
    };
    Purl {
        package_type: "deb",
        namespace,
        name: &package.name,
        version: &package.version,
        qualifiers: vec![("arch", package.architecture.clone()), ("distro", distro), ("upstream", upstream)],
    }
    .build()
}

#[cfg(test)]
mod tests;
