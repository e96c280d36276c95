//! Java runtimes: a directory with a `release` file and `lib/modules` (or `rt.jar` before Java 9).
//! Never names a runtime a second time that an OS package carries, and never guesses its version.

use super::properties::acceptable;
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{FileKind, path};
use plimsoll_schemas::words::probe;

/// Most of a `release` file that is read, in bytes.
pub(crate) const MAX_RELEASE_BYTES: usize = 64 * 1024;

const ECOSYSTEM: &str = "generic";
const METHOD: &str = "java-release";
/// Where a runtime keeps its classes.
const CLASSES: [&str; 3] = ["lib/modules", "jre/lib/rt.jar", "lib/rt.jar"];

pub(crate) fn is_release(path: &[u8]) -> bool {
    path::file_name(path) == b"release"
}

pub(crate) fn is_modules(path: &[u8]) -> bool {
    path.ends_with(b"/lib/modules") || path == b"lib/modules"
}

/// Adds the runtimes of the tree, and gives their directories, sorted.
pub(crate) fn survey(survey: &mut Survey<'_>, markers: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut homes = Vec::new();
    for marker in markers.iter().filter(|marker| is_release(marker)) {
        let home = path::parent(marker);
        let is_file = |name: &str| {
            let path = path::join(home, name.as_bytes());
            survey.tree.metadata(&path).is_ok_and(|found| found.kind == FileKind::Regular)
        };
        let Some(classes) = CLASSES.iter().find(|name| is_file(name)) else { continue };
        let Some(bytes) = survey.read_optional(marker, MAX_RELEASE_BYTES) else { continue };
        let Some(release) = Release::parse(&bytes) else { continue };
        homes.push(home.to_vec());
        add(survey, home, &path::join(home, classes.as_bytes()), marker, &release);
    }
    homes
}

fn add(survey: &mut Survey<'_>, home: &[u8], classes: &[u8], marker: &[u8], release: &Release) {
    if let Some(index) = &mut survey.index {
        index.watch(survey.tree, marker);
    }
    // The distribution's package owns its files already, and is what its advisories speak of.
    if survey.os_owned.contains_key(classes) || survey.os_owned.contains_key(marker) {
        return;
    }
    let name = if release.implementor.contains("GraalVM") { "graalvm" } else { "openjdk" };
    let mut record =
        PackageRecord::new(PackageKind::Application, ECOSYSTEM, name.to_owned(), release.version.clone());
    record.purl =
        Purl { package_type: "generic", name, version: &release.version, ..Purl::default() }.build();
    record.identified_by = "release file";
    record.installer = release.implementor.clone();
    record.observable_by = vec![probe::EBPF_FILES, probe::JVMTI];
    record.loadable_file_count = 1;
    record.locations = vec![Location {
        path: classes.to_vec(),
        nested_path: Vec::new(),
        layer: survey.tree.layer_of(classes).unwrap_or_default().to_owned(),
    }];
    let Some(package) = survey.add_package(record) else { return };
    if let Some(index) = &mut survey.index {
        index.own(&mut survey.canonicalizer, classes, package, METHOD);
        let home = survey.canonicalizer.directory(home).to_vec();
        index.own_below(&home, package, METHOD);
    }
}

struct Release {
    version: String,
    implementor: String,
}

impl Release {
    /// `KEY="value"` lines; `None` when it is no Java runtime's.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let value = |key: &str| {
            let found = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
            found.map(|value| value.trim().trim_matches('"').to_owned())
        };
        let version = acceptable(&value("JAVA_VERSION")?)?;
        let implementor = value("IMPLEMENTOR").unwrap_or_default();
        let is_plain = implementor.len() <= 100 && !implementor.chars().any(char::is_control);
        Some(Self { version, implementor: if is_plain { implementor } else { String::new() } })
    }
}
