//! Applications and libraries unpacked to directories: `META-INF/maven` beside classes, `WEB-INF/classes`,
//! `BOOT-INF/classes`. Never goes beyond the directory that `META-INF` stands in.

use super::archive::{CLASS_ROOTS, Facts};
use super::coordinates;
use super::manifest::{MAX_MANIFEST_BYTES, Manifest};
use super::properties::{self, MAX_PROPERTIES_BYTES};
use crate::bounds::bound;
use crate::record::Location;
use crate::survey::Survey;
use crate::tree::{FileKind, Walk, path};
use std::collections::BTreeMap;

const METHOD: &str = "jar-directory";
/// Most files looked at to find the classes of one directory.
const MAX_FILES: usize = bound(200_000, 2_000);

pub(crate) fn is_properties(path: &[u8]) -> bool {
    path.ends_with(b"/pom.properties") && memchr::memmem::find(path, b"META-INF/maven/").is_some()
}

/// Whether the manifest may be that of an unpacked application: it lies in a directory `META-INF`.
pub(crate) fn is_manifest_of_application(path: &[u8]) -> bool {
    path.ends_with(b"/META-INF/MANIFEST.MF") || path == b"META-INF/MANIFEST.MF"
}

/// What stands in one directory.
#[derive(Default)]
struct Exploded {
    properties: Vec<Vec<u8>>,
    manifest: Option<Vec<u8>>,
}

pub(crate) fn survey(survey: &mut Survey<'_>, markers: &[Vec<u8>]) {
    let mut found: BTreeMap<Vec<u8>, Exploded> = BTreeMap::new();
    for marker in markers {
        if is_properties(marker) {
            let at = memchr::memmem::rfind(marker, b"META-INF/maven/").unwrap_or(0);
            let directory = marker[..at].strip_suffix(b"/").unwrap_or(&marker[..at]);
            found.entry(directory.to_vec()).or_default().properties.push(marker.clone());
        } else if is_manifest_of_application(marker) {
            let directory = path::parent(path::parent(marker));
            found.entry(directory.to_vec()).or_default().manifest = Some(marker.clone());
        }
    }
    for (directory, exploded) in found {
        add(survey, &directory, &exploded);
    }
}

fn add(survey: &mut Survey<'_>, directory: &[u8], exploded: &Exploded) {
    let roots: Vec<Vec<u8>> = CLASS_ROOTS
        .iter()
        .map(|root| path::join(directory, root.as_bytes()))
        .filter(|root| survey.tree.metadata(root).is_ok_and(|found| found.kind == FileKind::Directory))
        .collect();
    // A manifest alone says nothing without an application beside it.
    if exploded.properties.is_empty() && roots.is_empty() {
        return;
    }
    let mut facts = Facts::default();
    if let Some(bytes) =
        exploded.manifest.as_ref().and_then(|path| survey.read_optional(path, MAX_MANIFEST_BYTES))
    {
        facts.manifest = Manifest::parse(&bytes, &mut facts.left_out);
    }
    for file in &exploded.properties {
        let Some(bytes) = survey.read_optional(file, MAX_PROPERTIES_BYTES) else { continue };
        let text = String::from_utf8_lossy(file).into_owned();
        let Some(directory) = properties::directory_of(&text, "pom.properties") else { continue };
        facts.poms.extend(properties::parse(&bytes, directory, &mut facts.left_out));
    }
    facts.poms.sort();
    facts.poms.dedup();
    let class_roots = if roots.is_empty() { vec![directory.to_vec()] } else { roots };
    for root in &class_roots {
        count_classes(survey, root, &mut facts);
    }
    if let Some(index) = &mut survey.index {
        exploded.properties.iter().chain(&exploded.manifest).for_each(|file| index.watch(survey.tree, file));
    }
    let file = exploded.properties.first().or(exploded.manifest.as_ref());
    let Some(file) = file.cloned() else { return };
    let location = Location {
        path: file.clone(),
        nested_path: Vec::new(),
        layer: survey.tree.layer_of(&file).unwrap_or_default().to_owned(),
    };
    // `webapps/shop`: the directory is called after the archive that it was.
    let name = format!("{}.war", path::display(path::file_name(directory)));
    let mut left_out = std::mem::take(&mut facts.left_out);
    let is_whole = left_out.is_empty();
    let mut added: Vec<(u32, Vec<String>)> = Vec::new();
    let components = coordinates::identify(&facts, &name, false, &mut left_out);
    survey.left_out(directory, &left_out);
    for component in components {
        let mut record = super::describe(&component, &facts);
        record.locations = vec![location.clone()];
        let Some(package) = survey.add_package(record) else { return };
        added.push((package, component.prefixes.clone()));
        let Some(index) = &mut survey.index else { continue };
        for place in exploded.properties.iter().chain(&exploded.manifest) {
            index.own(&mut survey.canonicalizer, place, package, METHOD);
        }
        for root in &class_roots {
            let root = survey.canonicalizer.directory(root).to_vec();
            index.own_place(&root, package, METHOD);
            // The root of the artifact holds other things than classes.
            if !root.is_empty() {
                index.own_below(&root, package, METHOD);
            }
        }
        index.set_class_prefixes(package, component.prefixes);
    }
    super::claim_java_packages(survey, &facts, is_whole, &added, METHOD);
}

fn count_classes(survey: &Survey<'_>, root: &[u8], facts: &mut Facts) {
    let mut files = 0;
    // A directory that cannot be read has been warned of by the walk that found it.
    let _ = survey.tree.walk(root, &mut |found, kind| {
        files += 1;
        if files > MAX_FILES {
            facts.left_out.beyond(MAX_FILES, "files in the directory, so classes may be missing");
            return Walk::Stop;
        }
        let below = &found[root.len()..];
        let below = below.strip_prefix(b"/").unwrap_or(below);
        if kind == FileKind::Directory
            && matches!(below, b"META-INF" | b"WEB-INF" | b"BOOT-INF" | b"node_modules")
        {
            return Walk::SkipDirectory;
        }
        if kind == FileKind::Regular && below.ends_with(b".class") {
            let directory = String::from_utf8_lossy(path::parent(below)).into_owned();
            *facts.class_directories.entry(directory).or_insert(0) += 1;
            facts.class_count += 1;
        }
        Walk::Continue
    });
}
