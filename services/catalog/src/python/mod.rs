//! Installed Python distributions (PyPA "Recording installed projects", older egg-info) and the files they own.
//! Never imports or evaluates anything; markers of dependencies are only searched for extras.

mod archive;
mod editable;
mod files;
mod metadata;
mod vendored;

use crate::binary;
use crate::digest::Digester;
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{FileKind, path};
use crate::{Ecosystem, Wanted};
use files::OwnedFiles;
use metadata::Metadata;

pub(crate) use archive::is_archive_path;

/// The method of what egg-info tells, that of sources among it.
pub(crate) const METHOD_EGG_INFO: &str = "egg-info";

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
        if self.format == Format::DistInfo { "dist-info" } else { METHOD_EGG_INFO }
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
        let is_site_file =
            name.ends_with(b".pth") || (name.starts_with(b"__editable___") && name.ends_with(b"_finder.py"));
        if vendored::is_list(path) || (is_site_file && is_site_directory(info)) {
            return Some(Wanted::Content { max_bytes: MAX_SMALL_FILE_BYTES });
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
            Some(b'g') => path::file_name(path) == VENV_MARKER || is_archive_path(path),
            Some(b'z' | b'x' | b'p') => is_archive_path(path),
            Some(b't') => vendored::is_list(path),
            _ => false,
        }
    }

    fn database_of<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        path::ancestors(path).find(|up| is_site_directory(up))
    }

    fn is_database_entry(&self, _: &[u8], name: &[u8]) -> bool {
        [b"-info".as_slice(), b".egg", b".egg-link", b".pth"].iter().any(|end| name.ends_with(end))
    }

    fn digesters(&self) -> &'static [Digester] {
        &archive::ARCHIVES
    }

    fn survey(&self, survey: &mut Survey<'_>, markers: &[Vec<u8>]) {
        // The egg-info of sources comes last: it is the same package as the dist-info of their editable install.
        let (later, first): (Vec<&Vec<u8>>, Vec<&Vec<u8>>) =
            markers.iter().partition(|marker| marker.ends_with(b".egg-info/PKG-INFO"));
        let mut editable = Vec::new();
        for marker in first.into_iter().chain(later) {
            if is_archive_path(marker) {
                archive::survey(survey, marker);
                continue;
            }
            if vendored::is_list(marker) {
                vendored::survey(survey, marker);
                continue;
            }
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
                add(survey, &distribution, &mut editable);
            }
        }
    }
}

fn is_site_directory(directory: &[u8]) -> bool {
    matches!(path::file_name(directory), b"site-packages" | b"dist-packages")
}

/// The normalised name of a distribution and a directory of its sources.
type EditableSource = (String, Vec<u8>);

fn add(survey: &mut Survey<'_>, distribution: &Distribution<'_>, editable: &mut Vec<EditableSource>) {
    let Some(metadata) = metadata::read(survey, distribution) else { return };
    let name = metadata::normalize_name(&metadata.name);
    let is_known = distribution.format == Format::EggInfoDirectory
        && editable.iter().any(|(known, sources)| {
            // A finder names the packages themselves, beside which the egg-info stands.
            let site = distribution.site;
            *known == name
                && (site == sources || path::is_below(site, sources) || site == path::parent(sources))
        });
    if is_known {
        return;
    }
    let owned = files::read(survey, distribution, &metadata);
    editable.extend(owned.projects().map(|sources| (name.clone(), sources.clone())));
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
    owned.say_what_sees_it(&mut record);
    let has_program = owned.files.iter().any(|file| survey.is_program(file))
        || owned.directories.iter().any(|directory| survey.has_program_below(directory, &[]));
    if has_program {
        binary::only_seen_by_the_kernel(&mut record);
    }
    record
}

#[cfg(test)]
mod tests;
