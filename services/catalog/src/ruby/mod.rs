//! Installed Ruby gems by their gemspecs: RubyGems' and Bundler's directories, default and bundled gems, gems from git,
//! Debian's ruby-* packages. A gemspec is a program; it is read, never run.

mod files;
mod gemspec;

use crate::binary;
use crate::not_measurable;
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{FileKind, path};
use crate::{Ecosystem, Wanted};
use gemspec::GemSpec;
use plimsoll_schemas::words::probe;

const ECOSYSTEM: &str = "gem";
const METHOD: &str = "gem";
const SPECIFICATIONS: &[u8] = b"specifications";

/// Most of one gemspec that is read, in bytes; lists of files make them long.
const MAX_GEMSPEC_BYTES: usize = 4 * 1024 * 1024;
/// Most of a version.rb that is read, in bytes.
const MAX_VERSION_BYTES: usize = 64 * 1024;

/// Where a gemspec stands, which says where the gem's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'p> {
    /// `ROOT/specifications`: the files are in `ROOT/gems/FULL_NAME`.
    Installed { root: &'p [u8] },
    /// `ROOT/specifications/default`: the files are part of Ruby's own library.
    Default { root: &'p [u8] },
    /// `bundler/gems/NAME-REVISION`, checked out from git.
    Git { directory: &'p [u8] },
}

impl<'p> Place<'p> {
    fn of(gemspec: &'p [u8]) -> Option<Self> {
        let (directory, name) = path::split(gemspec);
        if !name.ends_with(b".gemspec") {
            return None;
        }
        let (above, last) = path::split(directory);
        if last == SPECIFICATIONS {
            return Some(Self::Installed { root: above });
        }
        if last == b"default" && path::file_name(above) == SPECIFICATIONS {
            return Some(Self::Default { root: path::parent(above) });
        }
        is_git_gems(above).then_some(Self::Git { directory })
    }
}

/// Bundler's directory of checkouts.
fn is_git_gems(directory: &[u8]) -> bool {
    directory == b"bundler/gems" || directory.ends_with(b"/bundler/gems")
}

pub(crate) struct Ruby;

impl Ecosystem for Ruby {
    fn wanted(&self, path: &[u8]) -> Option<Wanted> {
        if Place::of(path).is_some() {
            return Some(Wanted::Content { max_bytes: MAX_GEMSPEC_BYTES });
        }
        let is_version =
            path.ends_with(b"/version.rb") && memchr::memmem::find(path, b"bundler/gems/").is_some();
        is_version.then_some(Wanted::Content { max_bytes: MAX_VERSION_BYTES })
    }

    fn is_marker(&self, path: &[u8], kind: FileKind) -> bool {
        match kind {
            FileKind::Directory => path.ends_with(SPECIFICATIONS) && path::file_name(path) == SPECIFICATIONS,
            _ => Place::of(path).is_some(),
        }
    }

    fn database_of<'p>(&self, _: &'p [u8]) -> Option<&'p [u8]> {
        // A directory of gems is not told from others by its name, so nothing can be said to be missing.
        None
    }

    fn is_database_entry(&self, database: &[u8], name: &[u8]) -> bool {
        name.ends_with(b".gemspec") || (path::file_name(database) == SPECIFICATIONS && name == b"default")
    }

    fn survey(&self, survey: &mut Survey<'_>, markers: &[Vec<u8>]) {
        let mut libraries = files::Libraries::default();
        for marker in markers {
            match Place::of(marker) {
                Some(place) => add(survey, &mut libraries, marker, place),
                None => {
                    if let Some(index) = &mut survey.index {
                        index.watch(survey.tree, marker);
                        index.watch(survey.tree, &path::join(marker, b"default"));
                    }
                }
            }
        }
    }
}

fn add(survey: &mut Survey<'_>, libraries: &mut files::Libraries, marker: &[u8], place: Place<'_>) {
    let Some(spec) = read(survey, marker, place) else { return };
    let mut record = describe(survey, marker, &spec);
    let provider = survey.set_provider(&mut record, marker);
    let owned = files::find(survey, libraries, &spec, place, provider);
    survey.left_out(marker, &spec.left_out);
    survey.left_out(marker, &owned.left_out);
    record.loadable_file_count = owned.loadable_file_count;
    if owned.loadable_file_count > 0 {
        record.observable_by = vec![probe::EBPF_FILES, probe::RUBY_FEATURE];
    } else if owned.is_found {
        record.not_measurable_reason = not_measurable::NO_LOADABLE_FILE.to_owned();
    } else {
        record.not_measurable_reason = not_measurable::NOT_WHERE_GEMSPEC_SAYS.to_owned();
    }
    let has_program = owned.files.iter().any(|file| survey.is_program(file))
        || owned.directories.iter().any(|directory| survey.has_program_below(directory, &[]));
    if has_program {
        binary::only_seen_by_the_kernel(&mut record);
    }
    let Some(package) = survey.add_package(record) else { return };
    let Some(index) = &mut survey.index else { return };
    index.own(&mut survey.canonicalizer, marker, package, METHOD);
    for file in &owned.files {
        index.own(&mut survey.canonicalizer, file, package, METHOD);
    }
    for directory in &owned.directories {
        let directory = survey.canonicalizer.directory(directory).to_vec();
        index.own_below(&directory, package, METHOD);
    }
}

fn read(survey: &mut Survey<'_>, marker: &[u8], place: Place<'_>) -> Option<GemSpec> {
    let contents = match survey.tree.read(marker, MAX_GEMSPEC_BYTES) {
        Ok(contents) => contents,
        Err(error) => {
            survey.warnings.unreadable(&error);
            return None;
        }
    };
    let mut spec = gemspec::parse(&contents.bytes);
    let mut problem = None;
    if contents.truncated {
        problem = Some(format!("is longer than the {MAX_GEMSPEC_BYTES} bytes that are read of it"));
    }
    let stem = path::file_name(marker).strip_suffix(b".gemspec").unwrap_or_default();
    if let Place::Git { directory } = place {
        if spec.version.is_empty() && !spec.name.is_empty() {
            spec.version = version_of_checkout(survey, directory, &spec.name).unwrap_or_default();
        }
    } else if !spec.is_usable() {
        spec.complete_from(stem);
        problem = Some("names no gem and version that can be read; taken from the file's name".to_owned());
    }
    if !spec.is_usable() {
        problem = Some("names no gem and version that can be read, so it is left out".to_owned());
    }
    if let Some(problem) = problem {
        let remedy = "reinstall the gem (gem pristine, bundle install --redownload)";
        survey.warnings.push("damaged-metadata", &path::display(marker), problem, remedy);
    }
    spec.is_usable().then_some(spec)
}

/// A gemspec from git computes its version; the constant that it names stands in lib/NAME/version.rb by convention.
fn version_of_checkout(survey: &mut Survey<'_>, directory: &[u8], name: &str) -> Option<String> {
    [name.replace('-', "/"), name.replace('-', "_"), name.to_owned()].iter().find_map(|place| {
        let file = path::join(directory, format!("lib/{place}/version.rb").as_bytes());
        let contents = survey.tree.read(&file, MAX_VERSION_BYTES).ok()?;
        gemspec::version_constant(&contents.bytes)
    })
}

fn describe(survey: &Survey<'_>, marker: &[u8], spec: &GemSpec) -> PackageRecord {
    let mut record =
        PackageRecord::new(PackageKind::Application, ECOSYSTEM, spec.name.clone(), spec.version.clone());
    record.purl = Purl {
        package_type: "gem",
        name: &spec.name,
        version: &spec.version,
        qualifiers: vec![("platform", spec.platform.clone())],
        ..Purl::default()
    }
    .build();
    record.licenses = spec.licenses.clone();
    record.dependencies = spec.dependencies.clone();
    record.locations = vec![Location {
        path: marker.to_vec(),
        nested_path: Vec::new(),
        layer: survey.tree.layer_of(marker).unwrap_or_default().to_owned(),
    }];
    record
}

#[cfg(test)]
mod tests;
