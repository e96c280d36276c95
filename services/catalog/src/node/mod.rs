//! Installed Node.js packages: every copy with a package.json in a `node_modules` directory (npm, pnpm, yarn), and
//! Debian's below `nodejs`; archives of yarn's Plug'n'Play. Lock files and the application's own package.json name nothing that is installed.

mod files;
mod manifest;
mod pnp;

use crate::binary;
use crate::bounds::LeftOut;
use crate::digest::{DigestedFiles, Digester};
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{FileKind, path};
use crate::{Ecosystem, Wanted, linked};
use files::{Counts, MAX_COUNTED_FILES};
use manifest::{Manifest, ManifestDigest};
use std::collections::{HashMap, HashSet};

pub(crate) use pnp::is_cached_archive;

const ECOSYSTEM: &str = "npm";
const METHOD: &str = "package.json";
const MODULES: &[u8] = b"node_modules";
const MANIFEST: &[u8] = b"package.json";

/// What package managers leave in the outermost `node_modules`.
const INSTALLER_MARKS: [(&[u8], &str); 4] = [
    (b".package-lock.json", "npm"),
    (b".modules.yaml", "pnpm"),
    (b".yarn-integrity", "yarn"),
    (b".yarn-state.yml", "yarn"),
];

/// Whether packages stand directly in `directory`: `node_modules`, or Debian's places (Debian Javascript Policy).
fn is_modules_directory(directory: &[u8]) -> bool {
    match path::file_name(directory) {
        b"node_modules" => true,
        b"nodejs" => {
            let place = path::parent(directory);
            place == b"usr/share" || place == b"usr/lib" || path::parent(place) == b"usr/lib"
        }
        _ => false,
    }
}

/// The modules directory that a package at `directory` would stand in, by its place alone.
fn modules_directory_of(directory: &[u8]) -> Option<&[u8]> {
    let (parent, name) = path::split(directory);
    // `.bin`, `.pnpm`, `.cache` and what npm moves away while it works.
    if name.is_empty() || name.starts_with(b".") || name.starts_with(b"@") {
        return None;
    }
    if is_modules_directory(parent) {
        return Some(parent);
    }
    let (above, scope) = path::split(parent);
    (scope.starts_with(b"@") && is_modules_directory(above)).then_some(above)
}

fn is_below_modules(path: &[u8]) -> bool {
    memchr::memmem::find(path, b"node_modules/").is_some()
}

/// package.json of installed packages, and those outside of `node_modules`: links lead to the packages of a workspace.
fn is_manifest_path(path: &[u8]) -> bool {
    path.ends_with(MANIFEST) && {
        let (directory, name) = path::split(path);
        name == MANIFEST && (modules_directory_of(directory).is_some() || !is_below_modules(path))
    }
}

/// Files of pnpm's store, called by their contents. Those of the packages are hard links to them, and an image's layer may
/// have the store first.
fn is_stored(path: &[u8]) -> bool {
    memchr::memmem::find(path, b"/store/v")
        .is_some_and(|at| memchr::memmem::find(&path[at..], b"/files/").is_some())
}

static DIGESTERS: [Digester; 3] = [
    Digester {
        name: "npm-manifest",
        files: DigestedFiles::Named { by_path: is_manifest_path, by_head: |_| true },
        digest: manifest::digest,
    },
    Digester {
        name: "npm-stored-manifest",
        files: DigestedFiles::Named { by_path: is_stored, by_head: |head| head.starts_with(b"{") },
        digest: manifest::digest_stored,
    },
    pnp::ARCHIVES,
];

pub(crate) struct Node;

impl Ecosystem for Node {
    fn wanted(&self, path: &[u8]) -> Option<Wanted> {
        pnp::is_pnp(path).then_some(Wanted::Content { max_bytes: pnp::MAX_PNP_BYTES })
    }

    fn is_marker(&self, path: &[u8], kind: FileKind) -> bool {
        let (directory, name) = path::split(path);
        if kind != FileKind::Directory && name.starts_with(b".pnp.") {
            return pnp::is_pnp(path);
        }
        if kind == FileKind::Directory || name == MODULES {
            return is_modules_directory(path);
        }
        // A link to a package stands where the package would.
        modules_directory_of(if name == MANIFEST { directory } else { path }).is_some()
    }

    fn database_of<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        path::ancestors(path).find(|up| path::file_name(up) == MODULES)
    }

    fn is_database_entry(&self, database: &[u8], name: &[u8]) -> bool {
        let is_scope = path::file_name(database).starts_with(b"@");
        (is_scope || is_modules_directory(database)) && !name.starts_with(b".")
    }

    fn digesters(&self) -> &'static [Digester] {
        &DIGESTERS
    }

    fn survey(&self, survey: &mut Survey<'_>, markers: &[Vec<u8>]) {
        let mut run = Run { modules: HashSet::new(), installers: HashMap::new(), linked: HashSet::new() };
        if path::file_name(survey.tree.root_path()) == MODULES {
            run.add_below(survey, b"");
        }
        for marker in markers {
            match path::file_name(marker) {
                _ if pnp::is_pnp(marker) => pnp::survey(survey, marker),
                MANIFEST => run.add(survey, path::parent(marker), marker),
                _ if is_modules_directory(marker) => {
                    enter(survey, marker);
                    run.follow_modules(survey, marker);
                }
                _ => run.follow(survey, marker),
            }
        }
    }
}

/// A tree of packages begins: nothing of it belongs to a package around it.
fn enter(survey: &mut Survey<'_>, modules: &[u8]) {
    let modules = survey.canonicalizer.directory(modules).to_vec();
    if let Some(index) = &mut survey.index {
        index.watch(survey.tree, &modules);
        index.barrier(&modules);
    }
}

/// What one survey remembers from package to package.
struct Run {
    /// Directories that hold packages as a `node_modules` does, which their paths do not tell: the root of the tree, and
    /// what links of that name lead to.
    modules: HashSet<Vec<u8>>,
    /// Outermost modules directory → what installed it.
    installers: HashMap<Vec<u8>, &'static str>,
    /// Directories outside of any `node_modules` that links led to.
    linked: HashSet<Vec<u8>>,
}

impl Run {
    /// A link in place of a whole `node_modules`.
    fn follow_modules(&mut self, survey: &mut Survey<'_>, marker: &[u8]) {
        if !survey.tree.metadata(marker).is_ok_and(|found| found.kind == FileKind::Symlink) {
            return;
        }
        // One that leads out of the tree is warned of for all ecosystems.
        let Some(target) = linked::directory_of(survey.tree, marker) else { return };
        if !target.is_empty() && !is_modules_directory(&target) && !self.modules.contains(&target) {
            enter(survey, &target);
            self.add_below(survey, &target);
        }
    }

    /// The packages that stand directly in a directory.
    fn add_below(&mut self, survey: &mut Survey<'_>, directory: &[u8]) {
        self.modules.insert(directory.to_vec());
        let tree = survey.tree;
        if let Some(index) = &mut survey.index {
            index.watch(tree, directory);
        }
        // What cannot be listed was warned of by the walk.
        for entry in tree.list(directory).unwrap_or_default() {
            let place = path::join(directory, &entry.name);
            let places = if entry.name.starts_with(b"@") {
                let scoped = tree.list(&place).unwrap_or_default();
                scoped.iter().map(|inner| path::join(&place, &inner.name)).collect()
            } else {
                vec![place]
            };
            for place in places {
                let marker = path::join(&place, MANIFEST);
                match tree.metadata(&place).map(|found| found.kind) {
                    Ok(FileKind::Symlink) => self.follow(survey, &place),
                    Ok(FileKind::Directory)
                        if self.modules_of(&place).is_some() && tree.metadata(&marker).is_ok() =>
                    {
                        self.add(survey, &place, &marker);
                    }
                    _ => {}
                }
            }
        }
    }

    /// As [`modules_directory_of`], for the packages in [`Run::modules`], too.
    fn modules_of<'d>(&self, directory: &'d [u8]) -> Option<&'d [u8]> {
        modules_directory_of(directory).or_else(|| {
            let (parent, name) = path::split(directory);
            let (above, scope) = path::split(parent);
            let holder = if scope.starts_with(b"@") { above } else { parent };
            let is_package = !name.is_empty() && !name.starts_with(b".") && !name.starts_with(b"@");
            (is_package && self.modules.contains(holder)).then_some(holder)
        })
    }

    /// A link in place of a package: pnpm's, a workspace's, or one by `npm link`.
    fn follow(&mut self, survey: &mut Survey<'_>, link: &[u8]) {
        if !survey.tree.metadata(link).is_ok_and(|found| found.kind == FileKind::Symlink) {
            return;
        }
        let target = survey.canonicalizer.directory(link).to_vec();
        let is_copy = self.modules_of(&target).is_some();
        if target.is_empty() || target == link || is_copy || !self.linked.insert(target.clone()) {
            return;
        }
        let marker = path::join(&target, MANIFEST);
        if survey.tree.metadata(&marker).is_ok() {
            self.add(survey, &target, &marker);
        }
    }

    fn add(&mut self, survey: &mut Survey<'_>, directory: &[u8], marker: &[u8]) {
        let modules = self.modules_of(directory);
        let Some(manifest) = read(survey, directory, marker, modules.is_none()) else { return };
        let record = self.describe(survey, directory, marker, &manifest);
        let Some(package) = survey.add_package(record) else { return };
        let Some(index) = &mut survey.index else { return };
        index.own_below(directory, package, METHOD);
        let Some(modules) = modules else { return };
        if path::parent(directory) != modules {
            index.watch(survey.tree, path::parent(directory));
        }
        for program in &manifest.programs {
            let link = path::normalize_from(&path::join(modules, b".bin"), program.as_bytes());
            index.own(&mut survey.canonicalizer, &link, package, METHOD);
        }
    }

    fn describe(
        &mut self,
        survey: &mut Survey<'_>,
        directory: &[u8],
        marker: &[u8],
        manifest: &Manifest,
    ) -> PackageRecord {
        let mut record = PackageRecord::new(
            PackageKind::Application,
            ECOSYSTEM,
            manifest.name.clone(),
            manifest.version.clone(),
        );
        let (namespace, name) = manifest.name.rsplit_once('/').unwrap_or(("", &manifest.name));
        record.purl =
            Purl { package_type: "npm", namespace, name, version: &manifest.version, ..Purl::default() }
                .build();
        record.licenses = manifest.licenses.clone();
        record.dependencies = manifest.dependencies.clone();
        record.locations = vec![Location {
            path: directory.to_vec(),
            nested_path: Vec::new(),
            layer: survey.tree.layer_of(marker).unwrap_or_default().to_owned(),
        }];
        survey.set_provider(&mut record, marker);
        record.installer = self.installer(survey, directory).to_owned();
        let counts = Counts::of(survey.tree, directory, manifest);
        if counts.is_cut {
            let mut left_out = LeftOut::default();
            left_out.beyond(MAX_COUNTED_FILES, "files in the package");
            survey.left_out(directory, &left_out);
        }
        record.loadable_file_count = counts.loadable();
        record.observable_by = counts.observable_by();
        record.not_measurable_reason = counts.not_measurable_reason().to_owned();
        if survey.has_program_below(directory, &[MODULES, b".git"]) {
            binary::only_seen_by_the_kernel(&mut record);
        }
        record
    }

    fn installer(&mut self, survey: &Survey<'_>, directory: &[u8]) -> &'static str {
        let is_outermost = |up: &&[u8]| path::file_name(up) == MODULES || self.modules.contains(*up);
        let outermost = path::ancestors(directory).filter(is_outermost).last();
        let Some(outermost) = outermost else { return "" };
        if let Some(known) = self.installers.get(outermost) {
            return known;
        }
        let has = |name: &[u8]| survey.tree.metadata(&path::join(outermost, name)).is_ok();
        let found = INSTALLER_MARKS.iter().find(|(mark, _)| has(mark)).map_or("", |(_, installer)| installer);
        self.installers.insert(outermost.to_vec(), found);
        found
    }
}

/// Reads one package.json; a warning names what is damaged in it.
fn read(survey: &mut Survey<'_>, directory: &[u8], marker: &[u8], is_linked: bool) -> Option<Manifest> {
    let digest = match survey.digest(marker, &DIGESTERS[0]) {
        Some(digest) => Some(digest),
        None => survey.digest(marker, &DIGESTERS[1]),
    };
    let digest = digest.and_then(|digest| serde_json::from_slice(&digest).ok());
    let ManifestDigest { mut manifest, mut problem } = digest.unwrap_or_else(|| ManifestDigest {
        problem: Some("cannot be read".to_owned()),
        ..ManifestDigest::default()
    });
    // The part of a workspace that no registry knows is the application itself.
    if is_linked && manifest.is_private {
        return None;
    }
    if manifest.name.is_empty() {
        let (parent, name) = path::split(directory);
        let scope = path::file_name(parent);
        let placed = if scope.starts_with(b"@") { path::join(scope, name) } else { name.to_vec() };
        manifest.name =
            String::from_utf8(placed).ok().filter(|name| manifest::is_name(name)).unwrap_or_default();
        problem.get_or_insert_with(|| "has no usable name; taken from its directory".to_owned());
    }
    survey.left_out(marker, &manifest.left_out);
    let is_usable = !manifest.name.is_empty() && !manifest.version.is_empty();
    if !is_usable {
        let what = problem.take().unwrap_or_else(|| "has no usable version".to_owned());
        problem = Some(format!("{what}; the package is left out"));
    }
    if let Some(problem) = problem {
        let remedy = "reinstall the package (npm ci)";
        survey.warnings.push("damaged-metadata", &path::display(marker), problem, remedy);
    }
    is_usable.then_some(manifest)
}

#[cfg(test)]
mod tests;
