//! The files of a [`super::MemoryTree`] as a graph: nodes, their names, and who is whose child.
//! Never frees a node: what is removed stays linked, so that adding it again reuses it.

use super::arena::Interner;
use super::node::{KIND_SHIFT, NONE, Node, REMOVED, pack};
use super::path::{self, MAX_PATH_BYTES};
use super::{FileKind, MAX_SYMLINKS, TreeError};
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// Most files that one tree holds.
pub const MAX_NODES: usize = 64_000_000;

pub(super) const ROOT: u32 = 0;
const NODES_PER_CHUNK: usize = 1 << 14;

/// See the module's documentation. A node's number never changes.
pub(super) struct Nodes {
    // Chunks of fixed size: a doubling vector would hold three times the memory while it grows.
    chunks: Vec<Vec<Node>>,
    /// Names of files and targets of links.
    pub names: Interner,
    children: HashTable<u32>,
    hasher: RandomState,
}

impl Nodes {
    /// Only the root directory.
    pub fn new() -> Self {
        let root = Node {
            size_bytes: 0,
            parent: NONE,
            name: NONE,
            first_child: NONE,
            next_sibling: NONE,
            link: 0,
            mode_and_kind: pack(FileKind::Directory, 0o755),
            layer: 0,
        };
        Self {
            chunks: vec![vec![root]],
            names: Interner::default(),
            children: HashTable::new(),
            hasher: RandomState::new(),
        }
    }

    /// All nodes, removed ones included.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.chunks.iter().flatten()
    }

    /// Bytes that nodes, names and the table of children occupy.
    pub fn allocated_bytes(&self) -> usize {
        let nodes: usize = self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<Node>()).sum();
        nodes + self.names.allocated_bytes() + self.children.allocation_size()
    }

    pub fn node(&self, index: u32) -> &Node {
        &self.chunks[index as usize / NODES_PER_CHUNK][index as usize % NODES_PER_CHUNK]
    }

    pub fn node_mut(&mut self, index: u32) -> &mut Node {
        &mut self.chunks[index as usize / NODES_PER_CHUNK][index as usize % NODES_PER_CHUNK]
    }

    fn node_count(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::len);
        self.chunks.len().saturating_sub(1) * NODES_PER_CHUNK + last
    }

    /// Child by name, removed ones included.
    fn raw_child(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let name = self.names.find(name)?;
        let hash = self.hasher.hash_one((parent, name));
        self.children
            .find(hash, |index| {
                let node = self.node(*index);
                node.parent == parent && node.name == name
            })
            .copied()
    }

    pub fn child(&self, parent: u32, name: &[u8]) -> Option<u32> {
        self.raw_child(parent, name).filter(|index| self.node(*index).is_present())
    }

    pub fn add_child(&mut self, parent: u32, name: &[u8], layer: u16) -> Option<u32> {
        let mode_and_kind = pack(FileKind::Directory, 0o755);
        if let Some(index) = self.raw_child(parent, name) {
            let node = self.node_mut(index);
            node.mode_and_kind = mode_and_kind;
            node.layer = layer;
            return Some(index);
        }
        if self.node_count() >= MAX_NODES {
            return None;
        }
        let name = self.names.intern(name)?;
        let index = u32::try_from(self.node_count()).ok()?;
        let next_sibling = self.node(parent).first_child;
        if self.chunks.last().is_none_or(|chunk| chunk.len() == NODES_PER_CHUNK) {
            self.chunks.push(Vec::with_capacity(NODES_PER_CHUNK));
        }
        self.chunks.last_mut()?.push(Node {
            size_bytes: 0,
            parent,
            name,
            first_child: NONE,
            next_sibling,
            link: 0,
            mode_and_kind,
            layer,
        });
        self.node_mut(parent).first_child = index;
        let hash = self.hasher.hash_one((parent, name));
        let (chunks, hasher) = (&self.chunks, &self.hasher);
        self.children.insert_unique(hash, index, |index| {
            let node = &chunks[*index as usize / NODES_PER_CHUNK][*index as usize % NODES_PER_CHUNK];
            hasher.hash_one((node.parent, node.name))
        });
        Some(index)
    }

    pub fn children_of(&self, parent: u32) -> impl Iterator<Item = u32> + '_ {
        let mut next = self.node(parent).first_child;
        std::iter::from_fn(move || {
            while next != NONE {
                let current = next;
                next = self.node(current).next_sibling;
                if self.node(current).is_present() {
                    return Some(current);
                }
            }
            None
        })
    }

    pub fn has_children(&self, node: u32) -> bool {
        self.children_of(node).next().is_some()
    }

    /// Marks a node as removed.
    pub fn remove(&mut self, index: u32) {
        self.node_mut(index).mode_and_kind = REMOVED << KIND_SHIFT;
    }

    /// Removes descendants; with `below_layer` only those of lower layers and the directories this empties.
    pub fn remove_below(&mut self, start: u32, below_layer: Option<u16>) {
        let mut order = vec![start];
        let mut next = 0;
        while next < order.len() {
            let children: Vec<u32> = self.children_of(order[next]).collect();
            order.extend(children);
            next += 1;
        }
        for index in order.into_iter().skip(1).rev() {
            let lower = below_layer.is_none_or(|layer| self.node(index).layer < layer);
            if lower && !self.has_children(index) {
                self.remove(index);
            }
        }
    }

    pub fn path_of(&self, index: u32) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut current = index;
        while current != ROOT {
            let node = self.node(current);
            parts.push(self.names.get(node.name));
            current = node.parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// Finds a node, following links in directories and, with `follow_last`, in the last component.
    pub fn locate(&self, path: &[u8], follow_last: bool) -> Result<u32, TreeError> {
        if path.len() > MAX_PATH_BYTES {
            return Err(TreeError::PathTooLong { path: path::display(path) });
        }
        // Components still to go, last first.
        let mut pending: Vec<&[u8]> = path::components(path).rev().collect();
        let mut current = ROOT;
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part == b".." {
                current = if current == ROOT { ROOT } else { self.node(current).parent };
                continue;
            }
            if self.node(current).kind() != FileKind::Directory {
                return Err(TreeError::NotDirectory { path: path::display(path) });
            }
            let child = self.child(current, part).ok_or_else(|| TreeError::not_found(path))?;
            let node = self.node(child);
            if node.kind() != FileKind::Symlink || (pending.is_empty() && !follow_last) {
                current = child;
                continue;
            }
            links += 1;
            if links > MAX_SYMLINKS {
                return Err(TreeError::TooManySymlinks { path: path::display(path) });
            }
            let target = self.names.get(node.link);
            if target.first() == Some(&b'/') {
                current = ROOT;
            }
            pending.extend(path::components(target).rev());
        }
        Ok(current)
    }
}
