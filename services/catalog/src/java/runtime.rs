//! Java runtimes: a directory with a `release` file and `lib/modules` (or `rt.jar` before Java 9), and what jlink put
//! into `lib/modules` beside the JDK's own modules.
//! Never names a runtime a second time that an OS package carries, and never guesses its version.

use super::IMAGES;
use super::archive::{ArchiveDigest, Facts};
use super::claims_of;
use super::coordinates::{self, Component, identified_by};
use super::properties::acceptable;
use crate::bounds::LeftOut;
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{FileKind, path};
use plimsoll_schemas::words::probe;
use std::collections::BTreeMap;

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
    let mut linked = linked_modules(survey, markers);
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
        if let Some(index) = &mut survey.index {
            index.watch(survey.tree, marker);
        }
        let classes = path::join(home, classes.as_bytes());
        let modules = linked.remove(&classes);
        // The distribution's package owns its files already, and is what its advisories speak of. But what an
        // application linked in must not get the JDK's own classes.
        let is_of_os = survey.os_owned.contains_key(&classes) || survey.os_owned.contains_key(marker);
        if modules.is_some() || !is_of_os {
            add(survey, home, &classes, &release);
        }
        if let Some(modules) = modules {
            add_modules(survey, &classes, &modules);
        }
    }
    for (classes, modules) in linked {
        add(survey, path::parent(path::parent(&classes)), &classes, &Release::default());
        add_modules(survey, &classes, &modules);
    }
    homes
}

/// The images of the tree into which modules were linked that are none of the JDK's.
fn linked_modules(survey: &mut Survey<'_>, markers: &[Vec<u8>]) -> BTreeMap<Vec<u8>, ArchiveDigest> {
    let mut linked = BTreeMap::new();
    for marker in markers.iter().filter(|marker| is_modules(marker)) {
        let is_file = survey.tree.metadata(marker).is_ok_and(|found| found.kind == FileKind::Regular);
        let digest = if is_file { survey.digest(marker, &IMAGES) } else { None };
        let Some(digest) = digest else { continue };
        if let Some(index) = &mut survey.index {
            index.watch(survey.tree, marker);
        }
        let Some(digest) = super::parse(survey, marker, &digest) else { continue };
        if !digest.archives.is_empty() {
            linked.insert(marker.clone(), digest);
        }
    }
    linked
}

/// Adds the modules that an application linked into an image: its classes are told as the image's.
fn add_modules(survey: &mut Survey<'_>, classes: &[u8], modules: &ArchiveDigest) {
    let mut found: Vec<Component> = Vec::new();
    let mut counts: Vec<usize> = Vec::new();
    for facts in &modules.archives {
        let mut left_out = facts.left_out.clone();
        let components = components(facts, &mut left_out);
        counts.push(components.len());
        found.extend(components);
        survey.left_out(&super::place_in(classes, &facts.path), &left_out);
    }
    let mut left_out = LeftOut::default();
    coordinates::bound_prefixes(&mut found, &mut left_out);
    survey.left_out(classes, &left_out);
    // Whatever could not be read of the index, the classes of any module may stand there.
    let is_index_whole = modules.notes.iter().all(|(place, _)| !place.is_empty());
    let mut found = found.into_iter();
    for (facts, count) in modules.archives.iter().zip(counts) {
        let components: Vec<Component> = found.by_ref().take(count).collect();
        let added = add_module(survey, classes, facts, components);
        // The loader of an image's modules takes no Java package from two of them (java.lang.ModuleLayer): what is not
        // known of one says nothing of the others.
        let is_whole = is_index_whole && facts.left_out.is_empty();
        super::claim_java_packages(survey, facts, is_whole, &added, METHOD);
    }
}

/// Adds the components of one module; which, and the prefixes of their classes.
fn add_module(
    survey: &mut Survey<'_>,
    classes: &[u8],
    facts: &Facts,
    components: Vec<Component>,
) -> Vec<(u32, Vec<String>)> {
    let mut added = Vec::new();
    for component in components {
        let mut record = super::describe(&component, facts);
        record.locations = vec![Location {
            path: classes.to_vec(),
            nested_path: facts.path.as_bytes().to_vec(),
            layer: survey.tree.layer_of(classes).unwrap_or_default().to_owned(),
        }];
        let Some(package) = survey.add_package(record) else { return added };
        if let Some(index) = &mut survey.index {
            index.own(&mut survey.canonicalizer, classes, package, METHOD);
            index.own_place(&super::place_in(classes, &facts.path), package, METHOD);
            index.set_class_prefixes(package, component.prefixes.clone());
        }
        added.push((package, component.prefixes));
    }
    added
}

/// The components of one module, each with the packages of its classes: the rest of the image is the JDK's.
fn components(facts: &Facts, left_out: &mut LeftOut) -> Vec<Component> {
    let (name, version) = match &facts.poms[..] {
        [pom] => (&pom.artifact, &pom.version),
        _ => (&facts.path, &facts.module_version),
    };
    let file_name = if version.is_empty() { format!("{name}.jar") } else { format!("{name}-{version}.jar") };
    let mut found = coordinates::identify(facts, &file_name, false, left_out);
    for component in &mut found {
        if component.identified_by == identified_by::FILE_NAME {
            component.identified_by = identified_by::MODULE;
        }
        if claims_of(&component.prefixes).is_empty() {
            let packages = facts.class_directories.keys().filter(|directory| !directory.is_empty());
            component.prefixes = packages.map(|name| format!("{}.", name.replace('/', "."))).collect();
        }
    }
    found
}

fn add(survey: &mut Survey<'_>, home: &[u8], classes: &[u8], release: &Release) {
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
    survey.set_provider(&mut record, classes);
    let Some(package) = survey.add_package(record) else { return };
    if let Some(index) = &mut survey.index {
        index.own(&mut survey.canonicalizer, classes, package, METHOD);
        let home = survey.canonicalizer.directory(home).to_vec();
        // Without a release file nothing but the image is known to be the runtime's.
        if !release.version.is_empty() {
            index.own_below(&home, package, METHOD);
        }
    }
}

#[derive(Default)]
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
