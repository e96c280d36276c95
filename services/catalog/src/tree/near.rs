//! A tree of which a walk sees only what lies near given paths: the databases that could name their owners.
//! It must never leave out a database that a walk of the whole tree would find for one of these paths.

use super::{
    Contents, DirectoryEntry, FileKind, FileTree, Metadata, Resolved, TreeError, Walk, WalkSummary, path,
};
use crate::digest::{Digested, DigestedFiles, Digester};
use crate::{ECOSYSTEMS, OwnershipIndex};
use std::collections::BTreeSet;

/// Where Debian's packages record their gems, far from the files of these: here, and below each architecture's libraries.
const GEMS_OF_PACKAGES: &[u8] = b"rubygems-integration";

/// What lies near the paths that were asked for: all directories above them, and the files themselves.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    directories: BTreeSet<Vec<u8>>,
    files: BTreeSet<Vec<u8>>,
    /// How many indexes were built of them; counted by who builds them.
    pub builds: u32,
}

impl Surroundings {
    /// Takes in a path, as asked and as it is once links are followed. Tells whether an index that was built before has
    /// to be built again, since a database lies near this path that did not lie near the others.
    pub fn add(&mut self, tree: &dyn FileTree, asked: &[u8]) -> bool {
        // Within an archive: the archive is what lies in the tree.
        let outer = memchr::memmem::find(asked, b"!/").map_or(asked, |at| &asked[..at]);
        let resolved = tree.resolve(outer).map(|resolved| resolved.path).ok();
        let mut changes = false;
        for path in resolved.iter().map(Vec::as_slice).chain([outer]) {
            changes |= self.add_spelling(tree, path);
        }
        changes
    }

    /// Whether an index of what lies near `asked` tells its owners for certain, having been asked to [`Self::add`] it: an
    /// installation that lies far away can name files of a project, which nothing near them tells.
    pub fn is_certain(&self, tree: &dyn FileTree, index: &OwnershipIndex, asked: &[u8]) -> bool {
        if index.lookup(asked).is_some() {
            return true;
        }
        let outer = memchr::memmem::find(asked, b"!/").map_or(asked, |at| &asked[..at]);
        let resolved = tree.resolve(outer).map_or_else(|_| outer.to_vec(), |resolved| resolved.path);
        let above = |is_it: &dyn Fn(&[u8]) -> bool| {
            path::ancestors(&resolved).filter(|directory| !directory.is_empty()).any(|directory| {
                tree.list(directory).is_ok_and(|entries| entries.iter().any(|entry| is_it(&entry.name)))
            })
        };
        // What an interpreter's own directories of packages hold is recorded beside it.
        let is_site = |part: &[u8]| part == b"site-packages" || part == b"dist-packages";
        if path::components(&resolved).any(is_site) {
            return true;
        }
        if is_source(&resolved) { above(&|name| name == b"os.py") } else { !above(&is_manifest) }
    }

    fn add_spelling(&mut self, tree: &dyn FileTree, file: &[u8]) -> bool {
        if !self.files.insert(file.to_vec()) {
            return false;
        }
        let mut changes = is_database(tree, file);
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
        // Once is enough.
        let gems = if self.files.len() == 1 { gems_of_packages(tree) } else { Vec::new() };
        for directory in gems {
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
                summary.unreadable.push(error);
                return true;
            }
        };
        for DirectoryEntry { name, kind } in entries {
            let path = path::join(directory, &name);
            // Other archives are other packages; looking into each takes long.
            if kind != FileKind::Directory && is_archive(&path) && !self.files.contains(&path) {
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
        b"lib" | b"lib64" | b"site-packages" | b"dist-packages" | b"node_modules" | b"vendor"
        | b"specifications" | b"META-INF" | b"EGG-INFO" => true,
        b"ruby" => is_library(above),
        b"composer" => above == b"vendor",
        b"default" => above == b"specifications",
        b"gems" => above == b"ruby",
        _ => {
            ends_with(&[b".dist-info", b".egg-info", b".egg"])
                || above == GEMS_OF_PACKAGES
                || (is_library(above) && name.starts_with(b"python"))
                || parent.ends_with(b"ruby/gems")
                || (above == b"node_modules" && name.starts_with(b"@"))
                || path::components(parent).any(|part| part == b"META-INF")
        }
    }
}

fn gems_of_packages(tree: &dyn FileTree) -> Vec<Vec<u8>> {
    let libraries = tree.list(b"usr/lib").unwrap_or_default();
    let of_architectures =
        libraries.iter().filter(|entry| memchr::memmem::find(&entry.name, b"-linux-").is_some());
    let parents = of_architectures.map(|entry| path::join(b"usr/lib", &entry.name));
    parents.chain([b"usr/share".to_vec()]).map(|parent| path::join(&parent, GEMS_OF_PACKAGES)).collect()
}

fn is_library(directory: &[u8]) -> bool {
    directory == b"lib" || directory == b"lib64"
}

/// Code of a language in which a project can be installed in place. Python's own library has an `os.py` above it.
fn is_source(file: &[u8]) -> bool {
    const ENDINGS: [&[u8]; 9] = [b".py", b".pyc", b".pyi", b".js", b".cjs", b".mjs", b".ts", b".rb", b".php"];
    ENDINGS.iter().any(|end| file.ends_with(end))
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

/// An archive, which is looked into where it stands.
fn is_archive(file: &[u8]) -> bool {
    const ENDINGS: [&[u8]; 8] = [b".jar", b".war", b".ear", b".zip", b".egg", b".whl", b".pyz", b".pex"];
    ENDINGS.iter().any(|end| file.ends_with(end))
}

/// Whether the file is a database itself: an archive, or a program with a list of what is linked in.
fn is_database(tree: &dyn FileTree, file: &[u8]) -> bool {
    if ECOSYSTEMS.iter().any(|ecosystem| ecosystem.is_marker(file, FileKind::Regular)) || is_archive(file) {
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
