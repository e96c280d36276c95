//! Extensions and libraries that `pecl install` and `pear install` put there, by PEAR's registry
//! (`php/.registry/.channel.pecl.php.net/redis.reg`), and the files that these records list.

use super::registry;
use crate::not_measurable;
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::role::is_shared_library;
use crate::survey::Survey;
use crate::tree::{FileKind, path};
use plimsoll_schemas::words::probe;

/// The package URL type for packages of PEAR's channels, PECL among them.
const ECOSYSTEM: &str = "pear";
const METHOD: &str = "pear";
/// Of records that name no channel.
const DEFAULT_CHANNEL: &str = "pear.php.net";
/// Most of one record that is read, in bytes; real ones stay below 200 KiB.
pub(super) const MAX_RECORD_BYTES: usize = 4 * 1024 * 1024;

/// A record in the registry: of PEAR's own channel, or in the directory of another.
pub(super) fn is_record(record: &[u8]) -> bool {
    if !record.ends_with(b".reg") {
        return false;
    }
    let directory = path::parent(record);
    let is_channel = path::file_name(directory).starts_with(b".channel.");
    path::file_name(if is_channel { path::parent(directory) } else { directory }) == b".registry"
}

pub(super) fn add(survey: &mut Survey<'_>, marker: &[u8]) {
    if let Some(index) = &mut survey.index {
        index.watch(survey.tree, marker);
    }
    let Some(bytes) = survey.read_optional(marker, MAX_RECORD_BYTES) else { return };
    let (registered, problem) = registry::parse(&bytes);
    if let Some(problem) = problem {
        let remedy = "install the package again; what its record does not name is missing";
        survey.warnings.push("damaged-metadata", &path::display(marker), problem, remedy);
    }
    let Some(registered) = registered else { return };
    survey.left_out(marker, &registered.left_out);
    let channel = if registered.channel.is_empty() { DEFAULT_CHANNEL } else { &registered.channel };
    let mut record = PackageRecord::new(
        PackageKind::Application,
        ECOSYSTEM,
        format!("{channel}/{}", registered.name),
        registered.version.clone(),
    );
    record.purl = Purl {
        package_type: ECOSYSTEM,
        namespace: channel,
        name: &registered.name,
        version: &registered.version,
        ..Purl::default()
    }
    .build();
    record.licenses =
        Some(registered.license.clone()).filter(|license| !license.is_empty()).into_iter().collect();
    record.installer = if channel == DEFAULT_CHANNEL { "pear" } else { "pecl" }.to_owned();
    record.locations = vec![Location {
        path: marker.to_vec(),
        nested_path: Vec::new(),
        layer: survey.tree.layer_of(marker).unwrap_or_default().to_owned(),
    }];
    survey.set_provider(&mut record, marker);
    let files: Vec<&Vec<u8>> = registered
        .files
        .iter()
        .filter(|file| survey.tree.resolve(file).is_ok_and(|found| found.metadata.kind == FileKind::Regular))
        .collect();
    let count = |is_it: &dyn Fn(&[u8]) -> bool| files.iter().filter(|file| is_it(file)).count() as u64;
    let libraries = count(&|file| is_shared_library(path::file_name(file)));
    let sources = count(&|file| file.ends_with(b".php") || file.ends_with(b".inc"));
    record.loadable_file_count = libraries + sources;
    // Only probes that see every kind of its use.
    record.observable_by = match (libraries, sources) {
        (0, 0) => Vec::new(),
        (_, 0) => vec![probe::EBPF_FILES, probe::LD_AUDIT],
        (0, _) => vec![probe::EBPF_FILES, probe::PHP_INCLUDE],
        _ => vec![probe::EBPF_FILES],
    };
    if record.observable_by.is_empty() {
        record.not_measurable_reason = not_measurable::NO_LOADABLE_FILE.to_owned();
    }
    let owned: Vec<Vec<u8>> = files.into_iter().cloned().collect();
    let Some(package) = survey.add_package(record) else { return };
    if let Some(index) = &mut survey.index {
        index.own(&mut survey.canonicalizer, marker, package, METHOD);
        for file in &owned {
            index.own(&mut survey.canonicalizer, file, package, METHOD);
        }
    }
}
