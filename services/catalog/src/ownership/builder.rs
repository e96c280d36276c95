//! Collects the claims of all ecosystems while an artifact is surveyed, and makes the index of them.
//! Never reads the contents of a file; the ecosystems do, each its own databases.

use super::contents::{Content, Members};
use super::paths::{Claim, DirectoryId, PathTable};
use super::{OwnerPackage, OwnershipIndex, Stamp, unmerged_directories};
use crate::canonical::Canonicalizer;
use crate::record::PackageRecord;
use crate::tree::{FileTree, path};
use std::collections::{BTreeMap, HashMap};

/// Most paths that one index holds.
pub const MAX_INDEXED_PATHS: usize = 20_000_000;

/// Most places within archives, and directories of classes.
const MAX_PLACES: usize = 2_000_000;
/// Most prefixes of the classes of one package in all places together.
const MAX_CLASS_PREFIXES: usize = 1_000;
/// Most Java packages of all archives together.
const MAX_JAVA_PACKAGES: usize = 300_000;

/// See the module's documentation.
pub(crate) struct IndexBuilder {
    paths: PathTable,
    below: HashMap<Vec<u8>, Vec<Claim>>,
    places: HashMap<Vec<u8>, Vec<Claim>>,
    class_prefixes: HashMap<u32, Vec<String>>,
    java_packages: HashMap<Vec<u8>, Vec<Claim>>,
    any_java_package: Vec<Claim>,
    members: Members,
    directories: HashMap<Vec<u8>, DirectoryId>,
    methods: Vec<&'static str>,
    watched: BTreeMap<Vec<u8>, Option<Stamp>>,
    /// Whether a bound was reached and paths were left out.
    pub is_full: bool,
}

impl IndexBuilder {
    pub fn new() -> Self {
        Self {
            paths: PathTable::default(),
            below: HashMap::new(),
            places: HashMap::new(),
            class_prefixes: HashMap::new(),
            java_packages: HashMap::new(),
            any_java_package: Vec::new(),
            members: Members::default(),
            directories: HashMap::new(),
            methods: Vec::new(),
            watched: BTreeMap::new(),
            is_full: false,
        }
    }

    fn claim(&mut self, package: u32, method: &'static str) -> Claim {
        let index = self.methods.iter().position(|known| *known == method).unwrap_or_else(|| {
            self.methods.push(method);
            self.methods.len() - 1
        });
        Claim { package, method: index as u8 }
    }

    /// `package` owns the file at `path`, whose directories may be spelled through links.
    pub fn own(
        &mut self,
        canonicalizer: &mut Canonicalizer<'_>,
        path: &[u8],
        package: u32,
        method: &'static str,
    ) {
        let (directory, name) = path::split(path);
        if name.is_empty() || path.len() > path::MAX_PATH_BYTES {
            return;
        }
        if self.paths.len() >= MAX_INDEXED_PATHS {
            self.is_full = true;
            return;
        }
        let claim = self.claim(package, method);
        let known = self.directories.get(directory).copied();
        let directory = match known {
            Some(id) => Some(id),
            None => {
                let id = self.paths.directory(canonicalizer.directory(directory));
                if let Some(id) = id {
                    self.directories.insert(directory.to_vec(), id);
                }
                id
            }
        };
        let added = directory.is_some_and(|directory| self.paths.add(directory, name, claim));
        self.is_full |= !added;
    }

    /// `package` owns everything below the directory `path`, except below a barrier or a nearer such directory.
    pub fn own_below(&mut self, path: &[u8], package: u32, method: &'static str) {
        let claim = self.claim(package, method);
        let claims = self.below.entry(path.to_vec()).or_default();
        if !claims.contains(&claim) {
            claims.push(claim);
        }
    }

    /// Classes that come from the place `path` (within an archive, or a directory of classes) are `package`'s.
    pub fn own_place(&mut self, path: &[u8], package: u32, method: &'static str) {
        if self.places.len() >= MAX_PLACES {
            self.is_full = true;
            return;
        }
        let claim = self.claim(package, method);
        let claims = self.places.entry(path.to_vec()).or_default();
        if !claims.contains(&claim) {
            claims.push(claim);
        }
    }

    /// The archive at the place `path`, within another, has this content.
    pub fn holds(&mut self, path: &[u8], content: Content) {
        self.members.add(path, content);
    }

    /// Which classes are `package`'s in a place that it shares with others; it may have several such places.
    pub fn set_class_prefixes(&mut self, package: u32, prefixes: Vec<String>) {
        if prefixes.is_empty() {
            return;
        }
        let known = self.class_prefixes.entry(package).or_default();
        // What it claims in one place is no rest of another: a main component's list says less.
        let is_main = |list: &[String]| list.first().is_some_and(String::is_empty);
        if !known.is_empty() && is_main(known) != is_main(&prefixes) {
            if is_main(&prefixes) {
                return;
            }
            known.clear();
        }
        known.extend(prefixes);
        known.sort();
        known.dedup();
        self.is_full |= known.len() > MAX_CLASS_PREFIXES;
        known.truncate(MAX_CLASS_PREFIXES);
    }

    /// `package` has classes in this directory (`org/example`); `None`: in any, since not all of its own are known.
    pub fn has_classes_in(&mut self, directory: Option<&str>, package: u32, method: &'static str) {
        let claim = self.claim(package, method);
        let has_room = self.java_packages.len() < MAX_JAVA_PACKAGES;
        let claims = match directory {
            Some(directory) if has_room || self.java_packages.contains_key(directory.as_bytes()) => {
                self.java_packages.entry(directory.as_bytes().to_vec()).or_default()
            }
            // Its Java packages cannot all be told apart: it may have any.
            _ => &mut self.any_java_package,
        };
        // Packages come one after the other.
        if claims.last() != Some(&claim) {
            claims.push(claim);
        }
    }

    /// Claims on directories above `path` end here: another tree of packages begins.
    pub fn barrier(&mut self, path: &[u8]) {
        self.below.entry(path.to_vec()).or_default();
    }

    /// Remembers the state of a database, so that [`OwnershipIndex::is_current`] sees when it changes.
    pub fn watch(&mut self, tree: &dyn FileTree, path: &[u8]) {
        if !self.watched.contains_key(path) {
            self.watched.insert(path.to_vec(), Stamp::of(tree, path));
        }
    }

    /// Packages that own `path` so far.
    pub fn owners(&self, path: &[u8]) -> Vec<u32> {
        let mut owners: Vec<u32> = self.paths.claims(path).map(|claim| claim.package).collect();
        owners.sort_unstable();
        owners
    }

    pub fn finish(
        mut self,
        tree: &dyn FileTree,
        packages: &[PackageRecord],
        aliases: BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> OwnershipIndex {
        self.paths.shrink();
        let packages: Vec<OwnerPackage> = packages.iter().map(OwnerPackage::from_record).collect();
        let mut os_packages: HashMap<String, Vec<u32>> = HashMap::new();
        for (index, package) in packages.iter().enumerate() {
            if package.kind == crate::PackageKind::Os {
                os_packages.entry(package.name.clone()).or_default().push(index as u32);
            }
        }
        let bytes_of = |(directory, claims): (&Vec<u8>, &Vec<Claim>)| {
            directory.capacity() + size_of::<(Vec<u8>, Vec<Claim>)>() + claims.capacity() * size_of::<Claim>()
        };
        OwnershipIndex {
            java_package_bytes: self.java_packages.iter().map(bytes_of).sum(),
            paths: self.paths,
            below: self.below,
            places: self.places,
            class_prefixes: self.class_prefixes,
            java_packages: self.java_packages,
            any_java_package: self.any_java_package,
            members: self.members,
            methods: self.methods,
            packages,
            os_packages,
            aliases,
            unmerged: unmerged_directories(tree),
            watched: self.watched,
        }
    }
}
