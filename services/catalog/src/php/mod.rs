//! Installed Composer packages by vendor/composer/installed.json, and the files below their directories; those packed
//! into phar archives; extensions and libraries that `pecl install` and `pear install` put there.
//! The application's own composer.json and lock file name nothing that is installed.

mod installed;
mod pear;
mod phar;
mod registry;

use crate::binary;
use crate::bounds::{LeftOut, bound};
use crate::digest::{DigestedFiles, Digester};
use crate::not_measurable;
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::role::{Role, role_of};
use crate::survey::Survey;
use crate::tree::{FileKind, Walk, path};
use crate::{Ecosystem, Wanted};
use installed::Installed;
use phar::Phar;
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

static DIGESTERS: [Digester; 1] = [Digester {
    name: "phar",
    files: DigestedFiles::Named { by_path: phar::is_path, by_head: phar::is_head },
    digest: phar::digest,
}];

pub(crate) struct Php;

impl Ecosystem for Php {
    fn wanted(&self, path: &[u8]) -> Option<Wanted> {
        if pear::is_record(path) {
            return Some(Wanted::Content { max_bytes: pear::MAX_RECORD_BYTES });
        }
        is_installed_json(path).then_some(Wanted::Content { max_bytes: MAX_INSTALLED_BYTES })
    }

    fn is_marker(&self, path: &[u8], kind: FileKind) -> bool {
        match kind {
            FileKind::Directory => path.ends_with(VENDOR) && path::file_name(path) == VENDOR,
            _ => is_installed_json(path) || pear::is_record(path) || phar::is_path(path),
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

    fn digesters(&self) -> &'static [Digester] {
        &DIGESTERS
    }

    fn survey(&self, survey: &mut Survey<'_>, markers: &[Vec<u8>]) {
        for marker in markers {
            if pear::is_record(marker) {
                pear::add(survey, marker);
                continue;
            }
            if phar::is_path(marker) {
                add_phar(survey, marker);
                continue;
            }
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

/// Adds the packages that are packed into an archive. PHP reads them from there without a trace.
fn add_phar(survey: &mut Survey<'_>, marker: &[u8]) {
    let subject = path::display(marker);
    // A link's target is found by its own path.
    if !survey.tree.metadata(marker).is_ok_and(|found| found.kind == FileKind::Regular) {
        return;
    }
    if let Some(index) = &mut survey.index {
        index.watch(survey.tree, marker);
    }
    let remedy = "check whether the archive is damaged; packages in it may be missing";
    let Some(bytes) = survey.digest(marker, &DIGESTERS[0]) else {
        if marker.ends_with(b".phar") {
            let message =
                "it is no phar of PHP's own format or of ZIP's, so the packages in it are not known";
            survey.warnings.push("unreadable-archive", &subject, message, remedy);
        }
        return;
    };
    let Ok(phar) = serde_json::from_slice::<Phar>(&bytes) else {
        survey.warnings.push(
            "unreadable-archive",
            &subject,
            "it holds more than is kept of one archive",
            remedy,
        );
        return;
    };
    if !phar.problem.is_empty() {
        survey.warnings.push("unreadable-archive", &subject, phar.problem, remedy);
    }
    survey.left_out(marker, &phar.left_out);
    for (list, contents) in &phar.lists {
        let place = format!("{subject}!/{list}");
        let (packages, problem) = parse(contents.as_bytes());
        if let Some(problem) = problem {
            survey.warnings.push("damaged-metadata", &place, problem, remedy);
        }
        for installed in packages {
            survey.left_out(place.as_bytes(), &installed.left_out);
            let nested =
                directory_of(list.as_bytes(), &installed).unwrap_or_else(|| list.as_bytes().to_vec());
            let mut record = describe(survey, marker, &installed, Some(marker));
            record.locations[0].nested_path = nested;
            record.not_measurable_reason = if installed.package_type == "metapackage" {
                not_measurable::METAPACKAGE.to_owned()
            } else {
                not_measurable::IN_PHAR.to_owned()
            };
            survey.set_provider(&mut record, marker);
            if survey.add_package(record).is_none() {
                return;
            }
        }
    }
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
        record.not_measurable_reason = not_measurable::METAPACKAGE.to_owned();
    } else {
        record.not_measurable_reason = not_measurable::NO_LOADABLE_FILE.to_owned();
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
