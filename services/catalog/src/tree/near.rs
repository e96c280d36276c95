//! A tree of which a walk sees only what lies near given paths: the databases that could name their owners.
//! It must never leave out a database that a walk of the whole tree would find for one of these paths.

use super::{
    Contents, DirectoryEntry, FileKind, FileTree, MAX_UNREADABLE, Metadata, Resolved, TreeError, Walk,
    WalkSummary, path,
};
use crate::bounds::bound;
use crate::digest::{Digested, DigestedFiles, Digester};
use crate::{ECOSYSTEMS, Owner, OwnershipIndex, java, node, python};
use std::collections::BTreeSet;

/// Where Debian's packages record their gems, far from the files of these: here, and below each architecture's libraries.
const GEMS_OF_PACKAGES: &[u8] = b"rubygems-integration";
/// Most paths that are taken in, in their spellings.
const MAX_PATHS: usize = bound(100_000, 100);
/// Sources that an installation can name one by one, or by a directory in which nothing tells of a project.
const NAMED_ALONE: [&[u8]; 4] = [b".py", b".pyc", b".pyi", b".php"];
/// Where Debian's PHP records what `pecl install` put below `usr/lib/php`.
const PEAR_REGISTRY: &[u8] = b"usr/share/php/.registry";

/// What lies near the paths that were asked for: all directories above them, and the files themselves.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    directories: BTreeSet<Vec<u8>>,
    files: BTreeSet<Vec<u8>>,
    /// Directories in which an archive of Java was asked for: how those beside it are called tells what it is.
    directories_of_java: BTreeSet<Vec<u8>>,
    /// Whether databases that are near none of their packages were taken in: they are the same for all paths.
    has_far: bool,
    /// Rises with each [`Self::add`] that brought databases: an index built at a lower one lacks these.
    pub generation: u32,
}

impl Surroundings {
    /// Takes in a path, as asked and as it is once links are followed.
    /// Beyond [`MAX_PATHS`] it is left out, and its owner is in doubt.
    pub fn add(&mut self, tree: &dyn FileTree, asked: &[u8]) {
        if self.files.len() >= MAX_PATHS {
            return;
        }
        let (walked, resolved) = spellings(tree, asked);
        for path in resolved.iter().chain([&walked]) {
            self.generation += u32::from(self.add_spelling(tree, path));
        }
    }

    /// Takes in the directory of an interpreter's packages in which `file` lies, if it does: these can name files far away.
    pub fn add_site_of(&mut self, tree: &dyn FileTree, file: &[u8]) {
        if let Some(site) = site_of(file).filter(|site| !self.directories.contains(*site)) {
            self.add(tree, site);
        }
    }

    /// Why what lies far away may own `asked`, which no index of what lies near it tells: an installation can name files of
    /// a project anywhere. `None`: `index`, built after [`Self::add`] took the path in, tells its owners for certain.
    pub fn doubt(&self, tree: &dyn FileTree, index: &OwnershipIndex, asked: &[u8]) -> Option<String> {
        // The egg-info of a project's sources is no package of its own where an installation leads to them.
        let is_settled = |owner: &Owner<'_>| owner.method != python::METHOD_EGG_INFO;
        if index.lookup(asked).is_some_and(|found| found.owners.iter().all(is_settled)) {
            return None;
        }
        let (walked, resolved) = spellings(tree, asked);
        let file = resolved.unwrap_or(walked);
        if !self.files.contains(&file) {
            return Some(format!(
                "only the places of the first {MAX_PATHS} used files of a host are looked at"
            ));
        }
        // What an interpreter's own directories of packages hold is recorded beside it.
        if site_of(&file).is_some() {
            return None;
        }
        let above = |is_it: &dyn Fn(&[u8]) -> bool| {
            path::ancestors(&file).filter(|directory| !directory.is_empty()).find_map(|directory| {
                let entries = tree.list(directory).ok()?;
                let entry = entries.into_iter().find(|entry| is_it(&entry.name))?;
                Some(path::display(&path::join(directory, &entry.name)))
            })
        };
        // Packages in a user's cache are those of projects anywhere.
        if std::iter::once(&file[..]).chain(path::ancestors(&file)).any(node::is_cached_archive) {
            return Some("a package in a cache is that of a project that may lie anywhere".to_owned());
        }
        let is_named_alone = |file: &[u8]| NAMED_ALONE.iter().any(|end| file.ends_with(end));
        let is_named_alone = is_named_alone(&file) || is_named_alone(asked);
        // Python's own library is no project.
        if is_named_alone && above(&|name| name == b"os.py").is_some() {
            return None;
        }
        match above(&is_manifest) {
            Some(manifest) => {
                Some(format!("an installation elsewhere on the host may name the project of /{manifest}"))
            }
            None if is_named_alone => Some(
                "an installation elsewhere on the host may name it (a .pth file, an install-path)".into(),
            ),
            None => None,
        }
    }

    fn add_spelling(&mut self, tree: &dyn FileTree, file: &[u8]) -> bool {
        if !self.files.insert(file.to_vec()) {
            return false;
        }
        let is_known =
            java::is_archive_path(file) && !self.directories_of_java.insert(path::parent(file).to_vec());
        let mut changes = !is_known && is_database(tree, file);
        // A class directory may be named itself.
        for directory in std::iter::once(file).chain(path::ancestors(file)) {
            if self.directories.contains(directory) {
                continue;
            }
            let is_directory = directory != file || is_kind(tree, file, FileKind::Directory);
            if is_directory && self.directories.insert(directory.to_vec()) {
                changes |= self.has_databases(tree, directory);
            }
        }
        let is_first = !std::mem::replace(&mut self.has_far, true);
        for directory in if is_first { far_databases(tree) } else { Vec::new() } {
            if self.directories.insert(directory.clone()) {
                changes |= self.has_databases(tree, &directory);
            }
        }
        changes
    }

    fn has_databases(&self, tree: &dyn FileTree, directory: &[u8]) -> bool {
        let mut found = false;
        let mut summary = WalkSummary::default();
        self.visit(tree, directory, &mut summary, &mut |path, kind| {
            let kind = if kind == FileKind::Symlink { FileKind::Regular } else { kind };
            found = found || ECOSYSTEMS.iter().any(|ecosystem| ecosystem.is_marker(path, kind));
            if found { Walk::Stop } else { Walk::Continue }
        });
        found
    }

    /// Other archives are other packages, and looking into each takes long.
    fn is_looked_into(&self, directory: &[u8], path: &[u8]) -> bool {
        let is_java = java::is_archive_path(path);
        !(is_java || python::is_archive_path(path))
            || self.files.contains(path)
            || (is_java && self.directories_of_java.contains(directory))
    }

    /// The entries of a directory, and of those below it that hold databases of packages; false: enough was seen.
    fn visit(
        &self,
        tree: &dyn FileTree,
        directory: &[u8],
        summary: &mut WalkSummary,
        visit: &mut dyn FnMut(&[u8], FileKind) -> Walk,
    ) -> bool {
        let entries = match tree.list(directory) {
            Ok(entries) => entries,
            // What lies on another mount is none of a walk's matter, nor is what is not there.
            Err(error) if error.is_not_found() || matches!(error, TreeError::OtherMount { .. }) => {
                return true;
            }
            Err(error) => {
                summary.unreadable_count += 1;
                if summary.unreadable.len() < MAX_UNREADABLE {
                    summary.unreadable.push(error);
                }
                return true;
            }
        };
        for DirectoryEntry { name, kind } in entries {
            let path = path::join(directory, &name);
            if kind != FileKind::Directory && !self.is_looked_into(directory, &path) {
                continue;
            }
            summary.entries += 1;
            match visit(&path, kind) {
                Walk::Stop => return false,
                Walk::SkipDirectory => continue,
                Walk::Continue => {}
            }
            // Those above a path have their own turn.
            let is_below = kind == FileKind::Directory
                && holds_databases(directory, &name)
                && !self.directories.contains(&path);
            if is_below && !self.visit(tree, &path, summary, visit) {
                return false;
            }
        }
        true
    }
}

/// Whether databases of packages, or what they are told by, lie in this directory, which is near none of its packages.
fn holds_databases(parent: &[u8], name: &[u8]) -> bool {
    let above = path::file_name(parent);
    let ends_with = |ends: &[&[u8]]| ends.iter().any(|end| name.ends_with(end));
    match name {
        // Of `bin/x` and `share/x` in a prefix, the record lies in its `lib/python3/site-packages`.
        b"site-packages" | b"dist-packages" | b"node_modules" | b"vendor" | b"specifications"
        | b"META-INF" | b"EGG-INFO" | b".registry" => true,
        _ if is_library(name) => true,
        b"ruby" => is_library(above),
        b"composer" => above == b"vendor",
        b"default" => above == b"specifications",
        b"gems" => above == b"ruby",
        _ if name.starts_with(b".channel.") => above == b".registry",
        _ => {
            ends_with(&[b".dist-info", b".egg-info", b".egg"])
                || above == GEMS_OF_PACKAGES
                || (is_library(above) && (name.starts_with(b"python") || name.starts_with(b"pypy")))
                || parent.ends_with(b"ruby/gems")
                || (above == b"node_modules" && name.starts_with(b"@"))
                || path::components(parent).any(|part| part == b"META-INF")
        }
    }
}

/// Directories of databases that are near none of their packages.
fn far_databases(tree: &dyn FileTree) -> Vec<Vec<u8>> {
    let libraries = tree.list(b"usr/lib").unwrap_or_default();
    let of_architectures =
        libraries.iter().filter(|entry| memchr::memmem::find(&entry.name, b"-linux-").is_some());
    let parents = of_architectures.map(|entry| path::join(b"usr/lib", &entry.name));
    let gems = parents.chain([b"usr/share".to_vec()]).map(|parent| path::join(&parent, GEMS_OF_PACKAGES));
    gems.chain([PEAR_REGISTRY.to_vec()]).collect()
}

/// `Lib` is Jython's.
fn is_library(name: &[u8]) -> bool {
    matches!(name, b"lib" | b"lib64" | b"Lib")
}

/// The asked path, or that of the archive that it leads into, as a walk of the whole tree spells it: links in its
/// directories are followed, as far as these are there. And where it leads once a link at its end is followed, too.
fn spellings(tree: &dyn FileTree, asked: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let asked = path::normalize(java::outer(asked));
    let canonical = |up: &[u8]| Some((up.len(), tree.resolve(up).ok()?.path));
    let walked = match path::ancestors(&asked).find_map(canonical) {
        Some((0, _)) | None => asked.clone(),
        Some((length, directory)) => path::join(&directory, &asked[length + 1..]),
    };
    (walked, tree.resolve(&asked).ok().map(|resolved| resolved.path))
}

/// The directory of an interpreter's packages that a file lies in, the outermost one.
fn site_of(file: &[u8]) -> Option<&[u8]> {
    let is_site = |directory: &[u8]| {
        matches!(path::file_name(directory), b"site-packages" | b"dist-packages") && !directory.is_empty()
    };
    path::ancestors(file).filter(|directory| is_site(directory)).last()
}

/// What a project has that can be installed in place: editable (Python), by a link (Node.js, Composer), by path (Bundler).
fn is_manifest(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] =
        [b"pyproject.toml", b"setup.py", b"setup.cfg", b"package.json", b"composer.json"];
    NAMES.contains(&name) || [b".gemspec".as_slice(), b".egg-info"].iter().any(|end| name.ends_with(end))
}

fn is_kind(tree: &dyn FileTree, file: &[u8], kind: FileKind) -> bool {
    tree.metadata(file).is_ok_and(|found| found.kind == kind)
}

/// Whether the file is a database itself: an archive, or a program with a list of what is linked in.
fn is_database(tree: &dyn FileTree, file: &[u8]) -> bool {
    if ECOSYSTEMS.iter().any(|ecosystem| ecosystem.is_marker(file, FileKind::Regular)) {
        return true;
    }
    let mut digesters = ECOSYSTEMS.iter().flat_map(|ecosystem| ecosystem.digesters());
    tree.is_binary(file)
        && digesters.any(|digester| {
            matches!(digester.files, DigestedFiles::Binaries)
                && tree.digest(file, digester).is_ok_and(|digest| digest.is_some())
        })
}

/// A tree as far as it lies near some paths. Reading and listing know no such bounds.
pub struct Near<'t> {
    tree: &'t dyn FileTree,
    surroundings: &'t Surroundings,
}

impl<'t> Near<'t> {
    /// Looks at `tree` near these paths.
    pub fn new(tree: &'t dyn FileTree, surroundings: &'t Surroundings) -> Self {
        Self { tree, surroundings }
    }
}

impl FileTree for Near<'_> {
    fn metadata(&self, path: &[u8]) -> Result<Metadata, TreeError> {
        self.tree.metadata(path)
    }

    fn read(&self, path: &[u8], max_bytes: usize) -> Result<Contents<'_>, TreeError> {
        self.tree.read(path, max_bytes)
    }

    fn list(&self, path: &[u8]) -> Result<Vec<DirectoryEntry>, TreeError> {
        self.tree.list(path)
    }

    fn digest(&self, path: &[u8], digester: &Digester) -> Result<Digested<'_>, TreeError> {
        self.tree.digest(path, digester)
    }

    fn is_binary(&self, path: &[u8]) -> bool {
        self.surroundings.files.contains(path) && self.tree.is_binary(path)
    }

    fn resolve(&self, path: &[u8]) -> Result<Resolved, TreeError> {
        self.tree.resolve(path)
    }

    fn walk(
        &self,
        start: &[u8],
        visit: &mut dyn FnMut(&[u8], FileKind) -> Walk,
    ) -> Result<WalkSummary, TreeError> {
        if !start.is_empty() {
            return self.tree.walk(start, visit);
        }
        let mut summary = WalkSummary { partial: true, ..WalkSummary::default() };
        let mut skipped: Vec<Vec<u8>> = Vec::new();
        // Sorted, so that a directory is skipped before those below it.
        for directory in &self.surroundings.directories {
            if skipped.iter().any(|above| directory == above || path::is_below(directory, above)) {
                continue;
            }
            let mut noting = |path: &[u8], kind: FileKind| {
                let next = visit(path, kind);
                if next == Walk::SkipDirectory {
                    skipped.push(path.to_vec());
                }
                next
            };
            if !self.surroundings.visit(self.tree, directory, &mut summary, &mut noting) {
                break;
            }
        }
        Ok(summary)
    }

    fn layer_of(&self, path: &[u8]) -> Option<&str> {
        self.tree.layer_of(path)
    }

    fn root_path(&self) -> &[u8] {
        self.tree.root_path()
    }
}

#[cfg(test)]
#[path = "near_tests.rs"]
mod tests;
