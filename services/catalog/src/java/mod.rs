//! Java, Kotlin and Scala: jars, wars, ears and what is packed or merged into them, exploded directories, JDKs.
//! Never unpacks an archive; each is looked into in place, and says by what each of its components was identified.

mod archive;
mod bundle;
mod classes;
mod coordinates;
mod exploded;
mod group;
mod jimage;
mod known;
mod manifest;
mod properties;
mod runtime;

use crate::digest::{DigestedFiles, Digester};
use crate::not_measurable;
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{FileKind, MAX_PATH_BYTES, path};
use crate::{Ecosystem, Wanted};
use archive::{ArchiveDigest, Facts};
pub(crate) use classes::claims_of;
use coordinates::Component;
use manifest::MAX_MANIFEST_BYTES;
use plimsoll_schemas::words::probe;
use properties::MAX_PROPERTIES_BYTES;

const ECOSYSTEM: &str = "maven";
const METHOD: &str = "jar";
/// What joins the path of an archive and a path within it.
pub(crate) const NESTED: &[u8] = b"!/";

static DIGESTERS: [Digester; 2] = [ARCHIVES, IMAGES];

const ARCHIVES: Digester = Digester {
    name: "java-archive",
    files: DigestedFiles::Named { by_path: is_archive_path, by_head: is_archive_head },
    digest: archive::digest,
};

const IMAGES: Digester = Digester {
    name: "java-modules",
    files: DigestedFiles::Named { by_path: runtime::is_modules, by_head: jimage::is_head },
    digest: jimage::digest,
};

/// Decided by the last byte for nearly every path.
pub(crate) fn is_archive_path(path: &[u8]) -> bool {
    match path.last() {
        Some(b'r' | b'R') => {
            path.len().checked_sub(4).and_then(|start| std::str::from_utf8(&path[start..]).ok()).is_some_and(
                |end| archive::EXTENSIONS.iter().any(|extension| end.eq_ignore_ascii_case(extension)),
            )
        }
        Some(b'd') => path.ends_with(b".jmod"),
        Some(b't') => is_managed_content(path),
        _ => false,
    }
}

/// The content of a deployment that WildFly or JBoss manages, which has no ending: `data/content/XX/X…X/content`, with the
/// digits of its SHA-1.
pub(crate) fn is_managed_content(path: &[u8]) -> bool {
    let is_hex = |part: &[u8], length: usize| part.len() == length && part.iter().all(u8::is_ascii_hexdigit);
    let mut parts = path.rsplit(|byte| *byte == b'/');
    parts.next() == Some(b"content")
        && parts.next().is_some_and(|rest| is_hex(rest, 38))
        && parts.next().is_some_and(|begin| is_hex(begin, 2))
        && parts.next() == Some(b"content")
        && parts.next() == Some(b"data")
}

/// A ZIP archive, a script in front of one (Spring Boot's executable jars), or a `.jmod`.
fn is_archive_head(head: &[u8]) -> bool {
    let heads: [&[u8]; 4] = [b"PK\x03\x04", b"PK\x05\x06", b"#!", archive::JMOD_HEAD];
    heads.iter().any(|known| head.starts_with(known))
}

/// The class that a member of an archive is, as the JVM names it: `org.x.Y` of `BOOT-INF/classes/org/x/Y.class`.
pub(crate) fn class_name(member: &[u8]) -> Option<String> {
    let class = std::str::from_utf8(member).ok()?.strip_suffix(".class")?;
    Some(archive::without_root(class).1.replace('/', "."))
}

/// The archive of this file system within a path that may lead into it: `app.jar` of `app.jar!/lib/x.jar`.
pub(crate) fn outer(path: &[u8]) -> &[u8] {
    &path[..memchr::memmem::find(path, NESTED).unwrap_or(path.len())]
}

pub(crate) struct Java;

impl Ecosystem for Java {
    fn wanted(&self, path: &[u8]) -> Option<Wanted> {
        let max_bytes = match path.last() {
            Some(b's') if exploded::is_properties(path) => MAX_PROPERTIES_BYTES,
            Some(b'F') if path.ends_with(b"META-INF/MANIFEST.MF") => MAX_MANIFEST_BYTES,
            Some(b'e') if runtime::is_release(path) => runtime::MAX_RELEASE_BYTES,
            _ => return None,
        };
        Some(Wanted::Content { max_bytes })
    }

    fn is_marker(&self, path: &[u8], kind: FileKind) -> bool {
        kind == FileKind::Regular
            && match path.last() {
                Some(b'r' | b'R' | b'd' | b't') => is_archive_path(path),
                Some(b's') => exploded::is_properties(path) || runtime::is_modules(path),
                Some(b'F') => exploded::is_manifest_of_application(path),
                Some(b'e') => runtime::is_release(path),
                _ => false,
            }
    }

    fn database_of<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let outer = outer(path);
        is_archive_path(outer).then_some(outer)
    }

    fn is_database_entry(&self, _: &[u8], _: &[u8]) -> bool {
        false
    }

    fn digesters(&self) -> &'static [Digester] {
        &DIGESTERS
    }

    fn survey(&self, survey: &mut Survey<'_>, markers: &[Vec<u8>]) {
        let homes = runtime::survey(survey, markers);
        exploded::survey(survey, markers);
        let mut archives: Vec<(&[u8], ArchiveDigest)> = Vec::new();
        for marker in markers.iter().filter(|marker| is_archive_path(marker)) {
            if let Some(index) = &mut survey.index {
                index.watch(survey.tree, marker);
            }
            let is_file = survey.tree.metadata(marker).is_ok_and(|found| found.kind == FileKind::Regular);
            // A link's target is found by its own path; the runtime's own jars belong to the runtime.
            if is_file
                && !homes.iter().any(|home| path::is_below(marker, home))
                && let Some(digest) = read(survey, marker)
            {
                // By directory, since files beside each other are named alike; markers are sorted.
                if archives.first().is_some_and(|(first, _)| path::parent(first) != path::parent(marker)) {
                    add_archives(survey, &std::mem::take(&mut archives));
                }
                archives.push((marker, digest));
            }
        }
        add_archives(survey, &archives);
    }
}

/// Adds what the archives of one directory hold.
fn add_archives(survey: &mut Survey<'_>, archives: &[(&[u8], ArchiveDigest)]) {
    let names_its_group = |(path, digest): &(&[u8], ArchiveDigest)| {
        let file_name = path::display(path::file_name(path));
        digest.archives.first().is_some_and(|facts| coordinates::names_its_group(facts, &file_name))
    };
    let groups_in_names = archives.iter().any(names_its_group);
    for (path, digest) in archives {
        let add =
            |facts: &Facts| add_components(survey, path, facts, groups_in_names && facts.path.is_empty());
        let added: Vec<_> = digest.archives.iter().map(add).collect();
        bundle::claim_class_paths(survey, path, digest, &added);
    }
}

/// What is kept of one archive; that it cannot be read is a warning.
fn read(survey: &mut Survey<'_>, path: &[u8]) -> Option<ArchiveDigest> {
    let Some(bytes) = survey.digest(path, &ARCHIVES) else {
        // Other kinds of archives are called .rar as well, and not all that is deployed is one.
        if !path.ends_with(b".rar") && !is_managed_content(path) {
            survey.warnings.push(
                "unreadable-archive",
                &path::display(path),
                "it is no ZIP archive, so the packages in it are not known",
                "check whether the file is damaged or a placeholder for another",
            );
        }
        return None;
    };
    parse(survey, path, &bytes)
}

/// What was kept of an archive or image; what of it could not be read becomes warnings.
fn parse(survey: &mut Survey<'_>, path: &[u8], bytes: &[u8]) -> Option<ArchiveDigest> {
    let Ok(digest) = serde_json::from_slice::<ArchiveDigest>(bytes) else {
        survey.warnings.push(
            "unreadable-archive",
            &path::display(path),
            "it holds more than is kept of one archive",
            "split it, or scan its parts",
        );
        return None;
    };
    warn(survey, path, &digest);
    Some(digest)
}

fn warn(survey: &mut Survey<'_>, path: &[u8], digest: &ArchiveDigest) {
    let remedy = "check whether the archive is damaged; packages in it may be missing";
    for (place, reason) in &digest.notes {
        let subject = path::display(&place_in(path, place));
        survey.warnings.push("unreadable-archive", &subject, reason.clone(), remedy);
    }
    if digest.more_notes > 0 {
        let message = format!("{} more parts of it could not be read", digest.more_notes);
        survey.warnings.push("unreadable-archive", &path::display(path), message, remedy);
    }
}

/// `outer` for the empty path, else `outer!/nested`.
fn place_in(outer: &[u8], nested: &str) -> Vec<u8> {
    if nested.is_empty() { outer.to_vec() } else { [outer, NESTED, nested.as_bytes()].concat() }
}

/// Adds the packages of one archive, the outer one or one within it; which, and the prefixes of their classes in it.
fn add_components(
    survey: &mut Survey<'_>,
    path: &[u8],
    facts: &Facts,
    groups_in_names: bool,
) -> Vec<(u32, Vec<String>)> {
    let place = place_in(path, &facts.path);
    if place.len() > MAX_PATH_BYTES {
        let message = "the path of an archive within it is too long, so that archive is left out";
        survey.warnings.push("unreadable-archive", &path::display(path), message, "shorten it");
        return Vec::new();
    }
    let own_name = facts.path.rsplit('/').next().filter(|name| !name.is_empty());
    let file_name = own_name.map_or_else(|| path::display(path::file_name(path)), str::to_owned);
    let carrier = survey.os_owned.get(path).copied();
    let location = Location {
        path: path.to_vec(),
        nested_path: facts.path.as_bytes().to_vec(),
        layer: survey.tree.layer_of(path).unwrap_or_default().to_owned(),
    };
    let mut left_out = facts.left_out.clone();
    let components = coordinates::identify(facts, &file_name, groups_in_names, &mut left_out);
    survey.left_out(&place, &left_out);
    let is_alone = components.len() == 1 && facts.path.is_empty();
    let mut added: Vec<(u32, Vec<String>)> = Vec::new();
    for component in components {
        let mut record = describe(&component, facts);
        record.locations = vec![location.clone()];
        if let Some(carrier) = carrier.filter(|_| is_alone) {
            let carrier = survey.package(carrier);
            if is_own_component(path, carrier, &component) {
                record.provided_by = carrier.package_id.clone();
                record.provided_by_name = carrier.name.clone();
            }
        }
        let Some(package) = survey.add_package(record) else { return added };
        claim(survey, path, &place, facts, package, component.prefixes.clone());
        added.push((package, component.prefixes));
    }
    let is_whole = facts.left_out.is_empty();
    claim_java_packages(survey, facts, is_whole, &added, METHOD);
    added
}

/// Says in which Java packages the components of an archive, or of a directory, have classes; whether all are known.
fn claim_java_packages(
    survey: &mut Survey<'_>,
    facts: &Facts,
    is_whole: bool,
    components: &[(u32, Vec<String>)],
    method: &'static str,
) {
    let Some(index) = &mut survey.index else { return };
    if !is_whole {
        components.iter().for_each(|(package, _)| index.has_classes_in(None, *package, method));
    }
    for directory in facts.class_directories.keys() {
        for package in components_with(directory, components) {
            index.has_classes_in(Some(directory), package, method);
        }
    }
}

/// The components that classes of this directory can be of: those that claim it, else those that claim nothing, else all.
fn components_with(directory: &str, components: &[(u32, Vec<String>)]) -> Vec<u32> {
    let name = directory.replace('/', ".") + ".";
    let of = |is_it: &dyn Fn(&[String]) -> bool| -> Vec<u32> {
        components
            .iter()
            .filter(|(_, prefixes)| is_it(claims_of(prefixes)))
            .map(|(package, _)| *package)
            .collect()
    };
    let claiming = of(&|prefixes| prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())));
    let rest = if claiming.is_empty() { of(&<[String]>::is_empty) } else { claiming };
    if rest.is_empty() { of(&|_| true) } else { rest }
}

fn describe(component: &Component, facts: &Facts) -> PackageRecord {
    let name = if component.group.is_empty() {
        component.artifact.clone()
    } else {
        format!("{}:{}", component.group, component.artifact)
    };
    let mut record = PackageRecord::new(PackageKind::Application, ECOSYSTEM, name, component.version.clone());
    record.purl = Purl {
        package_type: "maven",
        namespace: &component.group,
        name: &component.artifact,
        version: &component.version,
        ..Purl::default()
    }
    .build();
    record.identified_by = component.identified_by;
    record.group_hints = group::hints(component, facts);
    record.loadable_file_count = facts.class_count;
    if facts.class_count > 0 && !facts.is_jmod {
        record.observable_by = vec![probe::JVMTI];
    }
    let reason = match facts {
        facts if facts.is_jmod => not_measurable::JMOD,
        facts if facts.has_scripts => not_measurable::JVM_SOURCES,
        facts if facts.class_count == 0 => not_measurable::NO_CLASS,
        _ => "",
    };
    record.not_measurable_reason = reason.to_owned();
    record
}

fn claim(
    survey: &mut Survey<'_>,
    path: &[u8],
    place: &[u8],
    facts: &Facts,
    package: u32,
    prefixes: Vec<String>,
) {
    let Some(index) = &mut survey.index else { return };
    if facts.path.is_empty() {
        index.own(&mut survey.canonicalizer, path, package, METHOD);
    } else {
        index.own_place(place, package, METHOD);
        if let Some(content) = facts.content {
            index.holds(place, content);
        }
    }
    for root in &facts.class_roots {
        index.own_place(&[place, NESTED, root.as_bytes()].concat(), package, METHOD);
    }
    index.set_class_prefixes(package, prefixes);
}

/// Whether an OS package that carries a jar is the distribution's own build of the very component: it lies where the
/// distribution keeps Java libraries, and one is called after the other (Debian Java policy: `libfoo-java`).
fn is_own_component(path: &[u8], carrier: &PackageRecord, component: &Component) -> bool {
    let is_library_place = [b"usr/share/java/".as_slice(), b"usr/share/maven-repo/"]
        .iter()
        .any(|directory| path.starts_with(directory));
    if !is_library_place {
        return false;
    }
    [&carrier.name, &carrier.source_name].iter().any(|name| is_java_library_of(&component.artifact, name))
}

/// Whether an OS package (or its source package) is called as Debian's Java policy calls the one of this artifact (with
/// or without its group): `libARTIFACT-java`, often with the major version behind the name, and that of several artifacts
/// of one project after the project (`liblog4j2-java`, from `apache-log4j2`).
pub fn is_java_library_of(artifact: &str, carrier: &str) -> bool {
    let letters = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect()
    };
    let artifact = letters(artifact.rsplit(':').next().unwrap_or(artifact));
    let project = carrier.strip_prefix("lib").and_then(|name| name.strip_suffix("-java")).unwrap_or(carrier);
    let project = letters(project.trim_start_matches("apache-").trim_end_matches("-java"));
    project.len() > 2 && artifact.starts_with(&project)
}

#[cfg(test)]
mod tests;
