//! Installed Python distributions (PyPA "Recording installed projects", older egg-info) and the files they own.
//! Never imports or evaluates anything; markers of dependencies are only searched for extras.

mod files;
mod metadata;

use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{FileKind, path};
use crate::{Ecosystem, Wanted};
use files::OwnedFiles;
use metadata::Metadata;
use plimsoll_schemas::words::probe;

const ECOSYSTEM: &str = "pypi";

/// Most of METADATA or PKG-INFO that is read, in bytes; the fields stand at its beginning.
const MAX_METADATA_BYTES: usize = 1024 * 1024;
/// Most of RECORD, installed-files.txt or SOURCES.txt that is read, in bytes.
const MAX_RECORD_BYTES: usize = 32 * 1024 * 1024;
/// Most of each other file of a dist-info directory that is read, in bytes.
const MAX_SMALL_FILE_BYTES: usize = 256 * 1024;

/// How a distribution recorded its installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// A `.dist-info` directory.
    DistInfo,
    /// A `.egg-info` directory.
    EggInfoDirectory,
    /// A `.egg-info` file, made by distutils.
    EggInfoFile,
    /// An `EGG-INFO` directory within an unpacked `.egg`.
    Egg,
}

/// One installed distribution, before anything of it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Distribution<'p> {
    format: Format,
    /// The file with name and version.
    marker: &'p [u8],
    /// The dist-info directory, or the egg-info directory or file.
    info: &'p [u8],
    /// The directory that is on Python's path.
    site: &'p [u8],
}

impl<'p> Distribution<'p> {
    fn of(marker: &'p [u8]) -> Option<Self> {
        let (info, name) = path::split(marker);
        let format = match name {
            b"METADATA" if info.ends_with(b".dist-info") => Format::DistInfo,
            b"PKG-INFO" if info.ends_with(b".egg-info") => Format::EggInfoDirectory,
            b"PKG-INFO" if info.ends_with(b".egg/EGG-INFO") => Format::Egg,
            _ if name.ends_with(b".egg-info") => Format::EggInfoFile,
            _ => return None,
        };
        let info = if format == Format::EggInfoFile { marker } else { info };
        Some(Self { format, marker, info, site: path::parent(info) })
    }

    /// A file beside the marker; none for a single-file egg-info.
    fn file(&self, name: &str) -> Option<Vec<u8>> {
        (self.format != Format::EggInfoFile).then(|| path::join(self.info, name.as_bytes()))
    }

    fn method(&self) -> &'static str {
        if self.format == Format::DistInfo { "dist-info" } else { "egg-info" }
    }

    /// Name and version as the directory is called: `name-version[-pyX.Y].dist-info`.
    fn name_and_version(&self) -> (&'p [u8], &'p [u8]) {
        let stem = if self.format == Format::Egg { self.site } else { self.info };
        let name = path::file_name(stem);
        let bare = &name[..memchr::memrchr(b'.', name).unwrap_or(name.len())];
        let mut parts = bare.split(|byte| *byte == b'-');
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    }
}

/// Marks the root of a virtual environment (PEP 405).
const VENV_MARKER: &[u8] = b"pyvenv.cfg";

pub(crate) struct Python;

impl Ecosystem for Python {
    fn wanted(&self, path: &[u8]) -> Option<Wanted> {
        let (info, name) = path::split(path);
        if Distribution::of(path).is_some() {
            return Some(Wanted::Content { max_bytes: MAX_METADATA_BYTES });
        }
        let is_info =
            info.ends_with(b".dist-info") || info.ends_with(b".egg-info") || info.ends_with(b".egg/EGG-INFO");
        let max_bytes = match name {
            b"RECORD" | b"installed-files.txt" | b"SOURCES.txt" => MAX_RECORD_BYTES,
            b"INSTALLER"
            | b"direct_url.json"
            | b"top_level.txt"
            | b"namespace_packages.txt"
            | b"requires.txt" => MAX_SMALL_FILE_BYTES,
            _ => return None,
        };
        is_info.then_some(Wanted::Content { max_bytes })
    }

    fn is_marker(&self, path: &[u8], kind: FileKind) -> bool {
        if kind == FileKind::Directory {
            return is_site_directory(path);
        }
        // Decided by the last byte for nearly every path.
        match path.last() {
            Some(b'A' | b'O' | b'o') => Distribution::of(path).is_some(),
            Some(b'g') => path::file_name(path) == VENV_MARKER,
            _ => false,
        }
    }

    fn database_of<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        path::ancestors(path).find(|up| is_site_directory(up))
    }

    fn is_database_entry(&self, _: &[u8], name: &[u8]) -> bool {
        [b"-info".as_slice(), b".egg", b".egg-link", b".pth"].iter().any(|end| name.ends_with(end))
    }

    fn survey(&self, survey: &mut Survey<'_>, markers: &[Vec<u8>]) {
        for marker in markers {
            let distribution = Distribution::of(marker);
            if let Some(index) = &mut survey.index {
                match &distribution {
                    Some(distribution) => index.watch(survey.tree, distribution.site),
                    None if is_site_directory(marker) => {
                        index.watch(survey.tree, marker);
                        index.barrier(marker);
                    }
                    None => index.barrier(path::parent(marker)),
                }
            }
            if let Some(distribution) = distribution {
                add(survey, &distribution);
            }
        }
    }
}

fn is_site_directory(directory: &[u8]) -> bool {
    matches!(path::file_name(directory), b"site-packages" | b"dist-packages")
}

fn add(survey: &mut Survey<'_>, distribution: &Distribution<'_>) {
    let Some(metadata) = metadata::read(survey, distribution) else { return };
    let owned = files::read(survey, distribution, &metadata);
    let record = describe(survey, distribution, metadata, &owned);
    if let Some(package) = survey.add_package(record) {
        files::claim(survey, distribution, package, &owned);
    }
}

fn describe(
    survey: &mut Survey<'_>,
    distribution: &Distribution<'_>,
    metadata: Metadata,
    owned: &OwnedFiles,
) -> PackageRecord {
    let name = metadata::normalize_name(&metadata.name);
    let mut record = PackageRecord::new(PackageKind::Application, ECOSYSTEM, name, metadata.version);
    record.purl =
        Purl { package_type: "pypi", name: &record.name, version: &record.version, ..Purl::default() }
            .build();
    record.licenses = metadata.licenses;
    record.dependencies = metadata.dependencies;
    record.locations = vec![Location {
        path: distribution.info.to_vec(),
        nested_path: Vec::new(),
        layer: survey.tree.layer_of(distribution.marker).unwrap_or_default().to_owned(),
    }];
    survey.set_provider(&mut record, distribution.marker);
    if let Some(path) = distribution.file("INSTALLER")
        && let Some(bytes) = survey.read_optional(&path, MAX_SMALL_FILE_BYTES)
    {
        let text = String::from_utf8_lossy(&bytes);
        record.installer = text.lines().next().unwrap_or_default().trim().to_owned();
    }
    record.loadable_file_count = owned.loadable_file_count;
    if owned.loadable_file_count > 0 {
        record.observable_by = vec![probe::EBPF_FILES, probe::PYTHON_IMPORT];
        if owned.has_shared_library {
            record.observable_by.push(probe::LD_AUDIT);
        }
    } else if owned.is_listed {
        record.not_measurable_reason = "it has no Python module, shared library or script".to_owned();
    } else {
        record.not_measurable_reason = "its installer left no list of its files".to_owned();
    }
    record
}

#[cfg(test)]
mod tests;
