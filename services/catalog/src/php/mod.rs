//! Installed Composer packages by vendor/composer/installed.json, and the files below their directories.
//! The application's own composer.json and lock file name nothing that is installed; extensions (PECL) belong to whoever
//! installed their shared library, which is an OS package or nobody.

mod installed;

use crate::binary;
use crate::bounds::{LeftOut, bound};
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::role::{Role, role_of};
use crate::survey::Survey;
use crate::tree::{FileKind, Walk, path};
use crate::{Ecosystem, Wanted};
use installed::Installed;
use plimsoll_schemas::words::probe;

use installed::parse;

const ECOSYSTEM: &str = "composer";
const METHOD: &str = "composer";
/// Composer's default name for the directory of packages; another may be configured.
const VENDOR: &[u8] = b"vendor";

/// Most of one installed.json that is read, in bytes.
const MAX_INSTALLED_BYTES: usize = 32 * 1024 * 1024;
/// Most files looked at to count those of one package.
const MAX_COUNTED_FILES: usize = bound(200_000, 2_000);

pub(crate) struct Php;

impl Ecosystem for Php {
    fn wanted(&self, path: &[u8]) -> Option<Wanted> {
        is_installed_json(path).then_some(Wanted::Content { max_bytes: MAX_INSTALLED_BYTES })
    }

    fn is_marker(&self, path: &[u8], kind: FileKind) -> bool {
        match kind {
            FileKind::Directory => path.ends_with(VENDOR) && path::file_name(path) == VENDOR,
            _ => is_installed_json(path),
        }
    }

    fn database_of<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        if !path.ends_with(b".php") {
            return None;
        }
        path::ancestors(path).find(|up| path::file_name(up) == VENDOR)
    }

    fn is_database_entry(&self, database: &[u8], name: &[u8]) -> bool {
        path::file_name(database) == VENDOR && name == b"composer"
    }

    fn survey(&self, survey: &mut Survey<'_>, markers: &[Vec<u8>]) {
        for marker in markers {
            if !is_installed_json(marker) {
                if let Some(index) = &mut survey.index {
                    index.watch(survey.tree, marker);
                }
                continue;
            }
            let composer = path::parent(marker);
            if let Some(index) = &mut survey.index {
                index.watch(survey.tree, marker);
                // The autoloader that Composer writes beside it is no package's, nor is anything else around packages.
                index.barrier(path::parent(composer));
            }
            for installed in read(survey, marker) {
                if !installed.left_out.is_empty() {
                    let subject = format!("{}: {}", path::display(marker), installed.name);
                    survey.warnings.left_out(&subject, &installed.left_out);
                }
                add(survey, marker, &installed);
            }
        }
    }
}

fn is_installed_json(path: &[u8]) -> bool {
    path.ends_with(b"composer/installed.json") && path::file_name(path::parent(path)) == b"composer"
}

fn read(survey: &mut Survey<'_>, marker: &[u8]) -> Vec<Installed> {
    let contents = match survey.tree.read(marker, MAX_INSTALLED_BYTES) {
        Ok(contents) => contents,
        Err(error) => {
            survey.warnings.unreadable(&error);
            return Vec::new();
        }
    };
    let (packages, mut problem) = parse(&contents.bytes);
    if contents.truncated {
        problem = Some(format!("is longer than the {MAX_INSTALLED_BYTES} bytes that are read of it"));
    }
    if let Some(problem) = problem {
        let remedy = "run composer install again; packages that it does not name are missing";
        survey.warnings.push("damaged-metadata", &path::display(marker), problem, remedy);
    }
    packages
}

/// Where a package stands: at its install path, else (Composer 1) at `vendor/NAME`.
fn directory_of(marker: &[u8], installed: &Installed) -> Option<Vec<u8>> {
    let composer = path::parent(marker);
    let vendor = path::parent(composer);
    let directory = match &installed.install_path {
        Some(install_path) => path::normalize_from(composer, install_path.as_bytes()),
        None => path::join(vendor, installed.name.as_bytes()),
    };
    // The application itself, or a directory around it, is no package; `..` may lead there.
    let is_around = vendor == directory.as_slice() || path::is_below(vendor, &directory);
    (!is_around && !directory.is_empty()).then_some(directory)
}

fn add(survey: &mut Survey<'_>, marker: &[u8], installed: &Installed) {
    let is_metapackage = installed.package_type == "metapackage";
    let directory = directory_of(marker, installed).filter(|directory| {
        survey.tree.resolve(directory).is_ok_and(|found| found.metadata.kind == FileKind::Directory)
    });
    if directory.is_none() && !is_metapackage {
        survey.warnings.push(
            "missing-package",
            &path::display(marker),
            format!(
                "names {} {}, whose directory is not there; it is left out",
                installed.name, installed.version
            ),
            "run composer install again",
        );
        return;
    }
    let directory = directory.filter(|_| !is_metapackage);
    let mut record = describe(survey, marker, installed, directory.as_deref());
    survey.set_provider(&mut record, marker);
    let count = directory.as_deref().map_or(0, |directory| count_loadable(survey, directory));
    record.loadable_file_count = count;
    if count > 0 {
        record.observable_by = vec![probe::EBPF_FILES, probe::PHP_INCLUDE];
    } else if is_metapackage {
        record.not_measurable_reason = "a metapackage: it has no files".to_owned();
    } else {
        record.not_measurable_reason = "it has no loadable file".to_owned();
    }
    let but: [&[u8]; 3] = [VENDOR, b"node_modules", b".git"];
    if directory.as_deref().is_some_and(|directory| survey.has_program_below(directory, &but)) {
        binary::only_seen_by_the_kernel(&mut record);
    }
    let Some(package) = survey.add_package(record) else { return };
    let (Some(index), Some(directory)) = (&mut survey.index, directory) else { return };
    let directory = survey.canonicalizer.directory(&directory).to_vec();
    index.own_below(&directory, package, METHOD);
    let programs = path::join(path::parent(path::parent(marker)), b"bin");
    for program in &installed.programs {
        let proxy = path::join(&programs, path::file_name(program.as_bytes()));
        index.own(&mut survey.canonicalizer, &proxy, package, METHOD);
    }
}

fn describe(
    survey: &Survey<'_>,
    marker: &[u8],
    installed: &Installed,
    directory: Option<&[u8]>,
) -> PackageRecord {
    let mut record = PackageRecord::new(
        PackageKind::Application,
        ECOSYSTEM,
        installed.name.to_ascii_lowercase(),
        installed.version.clone(),
    );
    let (namespace, name) = record.name.split_once('/').unwrap_or(("", &record.name));
    record.purl =
        Purl { package_type: "composer", namespace, name, version: &installed.version, ..Purl::default() }
            .build();
    record.licenses = installed.licenses.clone();
    record.dependencies = installed.dependencies.iter().map(|name| name.to_ascii_lowercase()).collect();
    record.installer = "composer".to_owned();
    record.locations = vec![Location {
        path: directory.unwrap_or(marker).to_vec(),
        nested_path: Vec::new(),
        layer: survey.tree.layer_of(marker).unwrap_or_default().to_owned(),
    }];
    record
}

/// PHP sources and programs; other trees of packages within are not counted.
fn count_loadable(survey: &mut Survey<'_>, directory: &[u8]) -> u64 {
    let (mut seen, mut count) = (0, 0);
    let mut left_out = LeftOut::default();
    // What cannot be walked counts nothing; the walk of the whole tree has warned of it.
    let _ = survey.tree.walk(directory, &mut |path, kind| {
        seen += 1;
        if seen > MAX_COUNTED_FILES {
            left_out.beyond(MAX_COUNTED_FILES, "files in the package");
            return Walk::Stop;
        }
        if kind == FileKind::Directory {
            let name = path::file_name(path);
            return if name == VENDOR || name == b"node_modules" || name == b".git" {
                Walk::SkipDirectory
            } else {
                Walk::Continue
            };
        }
        let name = path::file_name(path);
        let is_source = [b".php".as_slice(), b".inc", b".phtml", b".phar", b".php5", b".module"]
            .iter()
            .any(|end| name.ends_with(end));
        let is_program = path::file_name(path::parent(path)) == b"bin" && role_of(path) == Role::Code;
        count += u64::from(is_source || is_program);
        Walk::Continue
    });
    survey.left_out(directory, &left_out);
    count
}

#[cfg(test)]
mod tests;
