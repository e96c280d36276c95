//! Canonical spellings of directories (merged /usr, `lib64`), each asked of the tree once.
//! Never follows the last component of a path: a link is a file of its package.

use crate::tree::{FileKind, FileTree, path};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// Links found by a walk, 8 bytes each: what is not among them needs no question to the file system.
#[derive(Default)]
pub(crate) struct KnownLinks {
    hashes: HashSet<u64>,
    hasher: RandomState,
    /// Whether the walk saw everything.
    pub complete: bool,
}

impl KnownLinks {
    pub fn add(&mut self, path: &[u8]) {
        self.hashes.insert(self.hasher.hash_one(path));
    }

    fn may_be_link(&self, path: &[u8]) -> bool {
        !self.complete || self.hashes.contains(&self.hasher.hash_one(path))
    }
}

/// See the module's documentation.
pub(crate) struct Canonicalizer<'t> {
    tree: &'t dyn FileTree,
    links: KnownLinks,
    directories: HashMap<Vec<u8>, Vec<u8>>,
    aliases: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<'t> Canonicalizer<'t> {
    pub fn new(tree: &'t dyn FileTree, links: KnownLinks) -> Self {
        let mut new = Self { tree, links, directories: HashMap::new(), aliases: BTreeMap::new() };
        // The links of a merged /usr, which the lists of a current Debian no longer name.
        for entry in tree.list(b"").unwrap_or_default() {
            if entry.kind == FileKind::Symlink {
                new.directory(&entry.name);
            }
        }
        new
    }

    /// The canonical spelling of a directory; as given where the tree has no such directory.
    pub fn directory(&mut self, directory: &[u8]) -> &[u8] {
        // Ends because each step asks for the parent.
        if !self.directories.contains_key(directory) {
            let canonical = self.find(directory);
            self.directories.insert(directory.to_vec(), canonical);
        }
        &self.directories[directory]
    }

    fn find(&mut self, directory: &[u8]) -> Vec<u8> {
        // From the nearest known ancestor downwards, so that depth costs no stack.
        let known =
            path::ancestors(directory).find(|up| self.directories.contains_key(*up)).map_or(0, <[u8]>::len);
        let mut canonical =
            if known == 0 { Vec::new() } else { self.directories[&directory[..known]].clone() };
        for part in path::components(&directory[known..]) {
            canonical = self.step(&path::join(&canonical, part));
        }
        canonical
    }

    /// `candidate`, whose parent is canonical, with a link at its end followed.
    fn step(&mut self, candidate: &[u8]) -> Vec<u8> {
        if let Some(target) = self.aliases.get(candidate) {
            return target.clone();
        }
        if self.links.may_be_link(candidate)
            && self.tree.metadata(candidate).is_ok_and(|found| found.kind == FileKind::Symlink)
            && let Ok(target) = self.tree.resolve(candidate)
            && target.metadata.kind == FileKind::Directory
        {
            self.aliases.insert(candidate.to_vec(), target.path.clone());
            return target.path;
        }
        candidate.to_vec()
    }

    /// `path` with its directory part canonical.
    pub fn file(&mut self, path: &[u8]) -> Vec<u8> {
        let (directory, name) = path::split(path);
        path::join(self.directory(directory), name)
    }

    /// Directory links found so far, with what they lead to.
    pub fn take_aliases(&mut self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        std::mem::take(&mut self.aliases)
    }
}
