//! The table from path to claims: each directory and each name stands once, a path takes 20 bytes and an index.
//! Never holds a path that was not given to it, and never looks at a file system.

use crate::tree::arena::Interner;
use crate::tree::path;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// That a package owns a path, and by which method this is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub package: u32,
    pub method: u8,
}

const NONE: u32 = u32::MAX;

struct Entry {
    directory: u32,
    name: u32,
    claim: Claim,
    /// Index into `more`; paths with several owners are rare.
    next: u32,
}

#[derive(Default)]
pub(crate) struct PathTable {
    directories: Interner,
    names: Interner,
    entries: Vec<Entry>,
    more: Vec<(Claim, u32)>,
    table: HashTable<u32>,
    hasher: RandomState,
}

/// A directory within one [`PathTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirectoryId(u32);

impl PathTable {
    /// `None` when the table is full.
    pub fn directory(&mut self, directory: &[u8]) -> Option<DirectoryId> {
        self.directories.intern(directory).map(DirectoryId)
    }

    /// Adds a claim; the same claim twice counts once. False when the table is full.
    pub fn add(&mut self, directory: DirectoryId, name: &[u8], claim: Claim) -> bool {
        let Some(name) = self.names.intern(name) else { return false };
        let key = (directory.0, name);
        let hash = self.hasher.hash_one(key);
        let entries = &self.entries;
        let same = |index: &u32| {
            let entry = &entries[*index as usize];
            (entry.directory, entry.name) == key
        };
        if let Some(index) = self.table.find(hash, same).copied() {
            self.add_to(index as usize, claim);
            return true;
        }
        let Ok(index) = u32::try_from(self.entries.len()) else { return false };
        self.entries.push(Entry { directory: directory.0, name, claim, next: NONE });
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.table.insert_unique(hash, index, |index| {
            let entry = &entries[*index as usize];
            hasher.hash_one((entry.directory, entry.name))
        });
        true
    }

    fn add_to(&mut self, index: usize, claim: Claim) {
        let known = self.claims_of(index).any(|present| present.package == claim.package);
        if known {
            return;
        }
        if let Ok(link) = u32::try_from(self.more.len()) {
            self.more.push((claim, self.entries[index].next));
            self.entries[index].next = link;
        }
    }

    fn claims_of(&self, index: usize) -> impl Iterator<Item = Claim> + '_ {
        let mut next = self.entries[index].next;
        std::iter::once(self.entries[index].claim).chain(std::iter::from_fn(move || {
            let (claim, after) = *self.more.get(next as usize)?;
            next = after;
            Some(claim)
        }))
    }

    /// The claims on a path, in no fixed order.
    pub fn claims(&self, path: &[u8]) -> impl Iterator<Item = Claim> + '_ {
        self.find(path).into_iter().flat_map(|index| self.claims_of(index))
    }

    fn find(&self, path: &[u8]) -> Option<usize> {
        let (directory, name) = path::split(path);
        let key = (self.directories.find(directory)?, self.names.find(name)?);
        let hash = self.hasher.hash_one(key);
        let same = |index: &u32| {
            let entry = &self.entries[*index as usize];
            (entry.directory, entry.name) == key
        };
        self.table.find(hash, same).map(|index| *index as usize)
    }

    /// Whether some path of the table lies directly in `directory`.
    pub fn is_directory(&self, directory: &[u8]) -> bool {
        self.directories.find(directory).is_some()
    }

    /// All paths, in no fixed order, each as its directory and its name.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8], impl Iterator<Item = Claim> + '_)> {
        self.entries.iter().enumerate().map(|(index, entry)| {
            (self.directories.get(entry.directory), self.names.get(entry.name), self.claims_of(index))
        })
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Gives back what growing reserved in vain.
    pub fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        self.more.shrink_to_fit();
    }

    pub fn allocated_bytes(&self) -> usize {
        self.directories.allocated_bytes()
            + self.names.allocated_bytes()
            + self.entries.capacity() * size_of::<Entry>()
            + self.more.capacity() * size_of::<(Claim, u32)>()
            + self.table.allocation_size()
    }
}
