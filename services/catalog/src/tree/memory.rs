//! An artifact's files held in memory: metadata of all, contents of the few that were wanted.
//! Never holds a string per file: names and nodes stand in arenas, so that 3 million files take less than 300 MB.

use super::node::{MODE_MASK, NONE, pack};
use super::nodes::{Nodes, ROOT};
use super::path::{self, MAX_PATH_BYTES};
use super::{
    Contents, DirectoryEntry, FileKind, FileTree, HardLinkIdentity, Metadata, Resolved, TreeError, Walk,
    WalkSummary,
};
use crate::digest::{Digest, Digested, Digester};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// A layer of an image within one [`MemoryTree`]; later ones lie above earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layer(u16);

impl Layer {
    /// Files that belong to no layer.
    pub const NONE: Self = Self(0);
}

/// What to put at a path.
#[derive(Debug)]
pub enum Entry<'a> {
    Directory {
        mode: u32,
    },
    Regular {
        mode: u32,
        size_bytes: u64,
        /// `None` when the contents are not wanted; reading the file is then an error.
        contents: Option<Contents<'a>>,
    },
    Symlink {
        target: &'a [u8],
    },
    /// Another name for the regular file at `target`, a path from the root.
    HardLink {
        target: &'a [u8],
    },
    /// A device, pipe or socket: known, never readable.
    Special {
        kind: FileKind,
        mode: u32,
    },
}

struct StoredContents {
    bytes: Box<[u8]>,
    truncated: bool,
}

/// See the module's documentation.
pub struct MemoryTree {
    nodes: Nodes,
    contents: HashMap<u32, StoredContents>,
    digests: HashMap<u32, Box<[Digest]>>,
    layers: Vec<String>,
    next_inode: u32,
    root_path: Vec<u8>,
    /// The directory that the last insert went into, found without following a link: archives are in order.
    last_directory: (Vec<u8>, u32),
    /// Directories whose lower layers were removed already by `cleared_in`.
    cleared: HashSet<u32>,
    cleared_in: Layer,
}

impl Default for MemoryTree {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryTree {
    /// An empty tree: only the root directory.
    pub fn new() -> Self {
        Self {
            nodes: Nodes::new(),
            contents: HashMap::new(),
            digests: HashMap::new(),
            layers: Vec::new(),
            next_inode: 1,
            root_path: b"/".to_vec(),
            last_directory: (Vec::new(), ROOT),
            cleared: HashSet::new(),
            cleared_in: Layer::NONE,
        }
    }

    /// Sets what [`FileTree::root_path`] answers.
    pub fn set_root_path(&mut self, root_path: &[u8]) {
        self.root_path = root_path.to_vec();
    }

    /// Opens a new layer above all present ones.
    ///
    /// # Errors
    /// [`TreeError::Full`] beyond 65,535 layers.
    pub fn add_layer(&mut self, diff_id: &str) -> Result<Layer, TreeError> {
        let index =
            u16::try_from(self.layers.len() + 1).map_err(|_| TreeError::Full { path: diff_id.into() })?;
        self.layers.push(diff_id.to_owned());
        Ok(Layer(index))
    }

    /// Puts a file, replacing what was there. Missing parent directories are made; a directory put over a
    /// directory keeps its children. Parents that are links are followed inside the root.
    ///
    /// # Errors
    /// [`TreeError::UnsafePath`] for `..` in the path, [`TreeError::NotFound`] when a hard link's target is missing.
    pub fn insert(&mut self, path: &[u8], entry: Entry<'_>, layer: Layer) -> Result<(), TreeError> {
        check_path(path)?;
        // Read before the node is made, so that a link to itself is refused.
        let linked = match &entry {
            Entry::HardLink { target } => Some(*self.nodes.node(self.hard_link_target(path, target)?)),
            _ => None,
        };
        // Before anything is removed: the root stays a directory, whatever an archive says of it.
        if !matches!(entry, Entry::Directory { .. }) && path::components(path).next().is_none() {
            return Err(TreeError::UnsafePath { path: path::display(path) });
        }
        let node = self.make_node(path, layer)?;
        let replaced_directory = self.nodes.node(node).kind() == FileKind::Directory;
        let keeps_children = matches!(entry, Entry::Directory { .. });
        if replaced_directory && !keeps_children {
            self.nodes.remove_below(node, None);
        }
        let (mode_and_kind, size_bytes, link) = match entry {
            Entry::Directory { mode } => (pack(FileKind::Directory, mode), 0, 0),
            Entry::Special { kind, mode } => (pack(kind, mode), 0, 0),
            Entry::Symlink { target } => {
                if target.len() > MAX_PATH_BYTES {
                    return Err(TreeError::PathTooLong { path: path::display(path) });
                }
                let target_id = self.nodes.names.intern(target).ok_or_else(|| full(path))?;
                (pack(FileKind::Symlink, 0o777), target.len() as u64, target_id)
            }
            Entry::HardLink { .. } => {
                let target = linked.ok_or_else(|| TreeError::not_found(path))?;
                (target.mode_and_kind, target.size_bytes, target.link)
            }
            Entry::Regular { mode, size_bytes, contents } => {
                let inode = self.next_inode;
                self.next_inode = inode.checked_add(1).ok_or_else(|| full(path))?;
                if let Some(contents) = contents {
                    let stored = StoredContents {
                        bytes: contents.bytes.into_owned().into_boxed_slice(),
                        truncated: contents.truncated,
                    };
                    self.contents.insert(inode, stored);
                }
                (pack(FileKind::Regular, mode), size_bytes, inode)
            }
        };
        let node = self.nodes.node_mut(node);
        node.mode_and_kind = mode_and_kind;
        node.size_bytes = size_bytes;
        node.link = link;
        node.layer = layer.0;
        Ok(())
    }

    /// Keeps what [`crate::digest::digest_file`] made of the regular file that was just put at `path`.
    ///
    /// # Errors
    /// As [`FileTree::metadata`], and [`TreeError::NotRegular`].
    pub fn keep_digests(&mut self, path: &[u8], digests: Vec<Digest>) -> Result<(), TreeError> {
        let node = self.nodes.node(self.nodes.locate(path, false)?);
        if node.kind() != FileKind::Regular {
            return Err(TreeError::NotRegular { path: path::display(path), kind: node.kind() });
        }
        let inode = node.link;
        if !digests.is_empty() {
            self.digests.insert(inode, digests.into_boxed_slice());
        }
        Ok(())
    }

    /// Removes `path` and everything below it as far as it comes from layers below `layer` (an OCI whiteout).
    pub fn remove_lower(&mut self, path: &[u8], layer: Layer) {
        if let Ok(node) = self.nodes.locate(path, false) {
            self.clear_below(node, layer);
            if node != ROOT && self.nodes.node(node).layer < layer.0 && !self.nodes.has_children(node) {
                self.nodes.remove(node);
            }
        }
    }

    /// Removes what lies below the directory `path` and comes from layers below `layer` (an OCI opaque whiteout).
    pub fn clear_lower(&mut self, path: &[u8], layer: Layer) {
        if let Ok(node) = self.nodes.locate(path, false) {
            self.clear_below(node, layer);
        }
    }

    /// Once per directory and layer: lower layers do not grow, and an archive may say the same a million times.
    fn clear_below(&mut self, node: u32, layer: Layer) {
        if self.cleared_in != layer {
            self.cleared_in = layer;
            self.cleared.clear();
        }
        if self.cleared.insert(node) {
            self.nodes.remove_below(node, Some(layer.0));
        }
    }

    /// Forgets the contents of files that later layers replaced or removed.
    pub fn release_unreachable(&mut self) {
        let mut reachable: Vec<u32> = self
            .nodes
            .iter()
            .filter(|node| node.kind() == FileKind::Regular && node.is_present())
            .map(|node| node.link)
            .filter(|inode| self.contents.contains_key(inode) || self.digests.contains_key(inode))
            .collect();
        reachable.sort_unstable();
        self.contents.retain(|inode, _| reachable.binary_search(inode).is_ok());
        self.digests.retain(|inode, _| reachable.binary_search(inode).is_ok());
    }

    /// Bytes that the tree occupies, kept contents included.
    pub fn allocated_bytes(&self) -> usize {
        let contents: usize = self.contents.values().map(|stored| stored.bytes.len() + 48).sum();
        let digests: usize = self.digests.values().flatten().map(|digest| digest.bytes.len() + 72).sum();
        self.nodes.allocated_bytes() + contents + digests
    }

    /// The node for `path`, made as a directory if it is new.
    fn make_node(&mut self, path: &[u8], layer: Layer) -> Result<u32, TreeError> {
        let (directory, name) = path::split(path);
        let is_plain = !matches!(name, b"" | b"." | b"..");
        if is_plain && directory == self.last_directory.0 {
            // A directory that was removed or replaced meanwhile is none any more.
            let parent = self.last_directory.1;
            if self.nodes.node(parent).kind() == FileKind::Directory {
                return self.child_or_new(parent, name, path, layer);
            }
        }
        let (mut current, mut parent, mut followed_link) = (ROOT, ROOT, false);
        for part in path::components(path) {
            parent = self.enter(current, layer)?;
            followed_link |= parent != current;
            current = self.child_or_new(parent, part, path, layer)?;
        }
        if is_plain && !followed_link {
            self.last_directory.0.clear();
            self.last_directory.0.extend_from_slice(directory);
            self.last_directory.1 = parent;
        }
        Ok(current)
    }

    fn child_or_new(
        &mut self,
        parent: u32,
        name: &[u8],
        path: &[u8],
        layer: Layer,
    ) -> Result<u32, TreeError> {
        match self.nodes.child(parent, name) {
            Some(child) => Ok(child),
            None => self.nodes.add_child(parent, name, layer.0).ok_or_else(|| full(path)),
        }
    }

    /// The directory that `child` is or leads to; what is neither becomes a directory.
    fn enter(&mut self, child: u32, layer: Layer) -> Result<u32, TreeError> {
        match self.nodes.node(child).kind() {
            FileKind::Directory => return Ok(child),
            FileKind::Symlink => {
                let path = self.nodes.path_of(child);
                if let Ok(target) = self.nodes.locate(&path, true)
                    && self.nodes.node(target).kind() == FileKind::Directory
                {
                    return Ok(target);
                }
            }
            _ => {}
        }
        let node = self.nodes.node_mut(child);
        node.mode_and_kind = pack(FileKind::Directory, 0o755);
        node.size_bytes = 0;
        node.layer = layer.0;
        Ok(child)
    }

    fn hard_link_target(&self, path: &[u8], target: &[u8]) -> Result<u32, TreeError> {
        let node = self.nodes.locate(target, false)?;
        match self.nodes.node(node).kind() {
            FileKind::Directory => {
                Err(TreeError::NotRegular { path: path::display(path), kind: FileKind::Directory })
            }
            _ => Ok(node),
        }
    }

    fn metadata_of(&self, index: u32) -> Metadata {
        let node = self.nodes.node(index);
        let kind = node.kind();
        // Files share an inode only by hard links; everything else is its own file.
        let inode = match kind {
            FileKind::Regular => u64::from(node.link),
            _ => (1 << 32) | u64::from(index),
        };
        Metadata {
            kind,
            size_bytes: node.size_bytes,
            mode: u32::from(node.mode_and_kind & MODE_MASK),
            identity: HardLinkIdentity { device: 0, inode },
            symlink_target: (kind == FileKind::Symlink).then(|| self.nodes.names.get(node.link).to_vec()),
            changed_ms: None,
        }
    }
}

fn full(path: &[u8]) -> TreeError {
    TreeError::Full { path: path::display(path) }
}

fn check_path(path: &[u8]) -> Result<(), TreeError> {
    if path.len() > MAX_PATH_BYTES {
        return Err(TreeError::PathTooLong { path: path::display(path) });
    }
    if path.contains(&0) || path::components(path).any(|part| part == b"..") {
        return Err(TreeError::UnsafePath { path: path::display(path) });
    }
    Ok(())
}

impl FileTree for MemoryTree {
    fn metadata(&self, path: &[u8]) -> Result<Metadata, TreeError> {
        self.nodes.locate(path, false).map(|node| self.metadata_of(node))
    }

    fn read(&self, path: &[u8], max_bytes: usize) -> Result<Contents<'_>, TreeError> {
        let node = self.nodes.node(self.nodes.locate(path, true)?);
        if node.kind() != FileKind::Regular {
            return Err(TreeError::NotRegular { path: path::display(path), kind: node.kind() });
        }
        let Some(stored) = self.contents.get(&node.link) else {
            if node.size_bytes == 0 {
                return Ok(Contents { bytes: Cow::Borrowed(b""), truncated: false });
            }
            return Err(TreeError::NotKept { path: path::display(path) });
        };
        let kept = stored.bytes.len().min(max_bytes);
        Ok(Contents {
            bytes: Cow::Borrowed(&stored.bytes[..kept]),
            truncated: stored.truncated || kept < stored.bytes.len(),
        })
    }

    fn digest(&self, path: &[u8], digester: &Digester) -> Result<Digested<'_>, TreeError> {
        let node = self.nodes.node(self.nodes.locate(path, true)?);
        if node.kind() != FileKind::Regular {
            return Err(TreeError::NotRegular { path: path::display(path), kind: node.kind() });
        }
        let digests = self.digests.get(&node.link).map_or(&[][..], |digests| digests);
        let found = digests.iter().find(|digest| digest.digester == digester.name);
        Ok(found.map(|digest| Cow::Borrowed(&*digest.bytes)))
    }

    fn is_binary(&self, path: &[u8]) -> bool {
        !self.digests.is_empty()
            && self.nodes.locate(path, false).is_ok_and(|node| {
                let node = self.nodes.node(node);
                node.kind() == FileKind::Regular && self.digests.contains_key(&node.link)
            })
    }

    fn list(&self, path: &[u8]) -> Result<Vec<DirectoryEntry>, TreeError> {
        let directory = self.nodes.locate(path, true)?;
        if self.nodes.node(directory).kind() != FileKind::Directory {
            return Err(TreeError::NotDirectory { path: path::display(path) });
        }
        let mut entries: Vec<DirectoryEntry> = self
            .nodes
            .children_of(directory)
            .map(|child| {
                let node = self.nodes.node(child);
                DirectoryEntry { name: self.nodes.names.get(node.name).to_vec(), kind: node.kind() }
            })
            .collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn resolve(&self, path: &[u8]) -> Result<Resolved, TreeError> {
        let node = self.nodes.locate(path, true)?;
        Ok(Resolved { path: self.nodes.path_of(node), metadata: self.metadata_of(node) })
    }

    fn walk(
        &self,
        start: &[u8],
        visit: &mut dyn FnMut(&[u8], FileKind) -> Walk,
    ) -> Result<WalkSummary, TreeError> {
        let start = self.nodes.locate(start, true)?;
        let mut summary = WalkSummary::default();
        let mut path = self.nodes.path_of(start);
        // Each level: the next child to visit, and how long the path is above it.
        let mut levels = vec![(self.nodes.node(start).first_child, path.len())];
        while let Some((next, length)) = levels.last_mut() {
            path.truncate(*length);
            if *next == NONE {
                levels.pop();
                continue;
            }
            let index = *next;
            let node = self.nodes.node(index);
            *next = node.next_sibling;
            if !node.is_present() {
                continue;
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(self.nodes.names.get(node.name));
            summary.entries += 1;
            match visit(&path, node.kind()) {
                Walk::Stop => break,
                Walk::SkipDirectory => {}
                Walk::Continue if node.kind() == FileKind::Directory => {
                    levels.push((node.first_child, path.len()));
                }
                Walk::Continue => {}
            }
        }
        Ok(summary)
    }

    fn layer_of(&self, path: &[u8]) -> Option<&str> {
        let node = self.nodes.node(self.nodes.locate(path, false).ok()?);
        let index = usize::from(node.layer).checked_sub(1)?;
        self.layers.get(index).map(String::as_str)
    }

    fn root_path(&self) -> &[u8] {
        &self.root_path
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
