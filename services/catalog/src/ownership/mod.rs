//! Which packages own a path of an artifact: an index built once, then asked without touching the artifact again.
//! Never answers by guess: a path that no database, list or documented rule names has no owner.
//!
//! Several names of one file (hard links) need no care here: the kernel reports the name that was used.

pub(crate) mod builder;
mod class;
mod contents;
mod generated;
mod paths;

pub use contents::Content;
pub use generated::bytecode_source;

use crate::java::NESTED;
use crate::record::{PackageKind, PackageRecord};
use crate::role::{Role, role_of};
use crate::survey::Survey;
use crate::tree::{FileKind, FileTree, HardLinkIdentity, path};
use contents::Members;
use generated::Source;
use paths::{Claim, PathTable};
use std::collections::{BTreeMap, HashMap};

/// The method of answers that come from the table of generated files.
pub const METHOD_GENERATED: &str = "generated-table";
/// Most directory links applied to one path.
const MAX_ALIAS_STEPS: usize = 16;
/// Most places at which a path is taken apart into an archive and a member.
const MAX_NESTED_TRIED: usize = 16;
/// Directories that exist in `/` and below `/usr`, one of them by a link where /usr is merged.
const MERGED_DIRECTORIES: [&[u8]; 7] = [b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libx32", b"libo32"];

/// A package as ownership names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerPackage {
    pub package_id: String,
    pub purl: String,
    pub name: String,
    pub version: String,
    pub kind: PackageKind,
    pub ecosystem: &'static str,
    pub architecture: String,
}

impl OwnerPackage {
    pub(crate) fn from_record(record: &PackageRecord) -> Self {
        Self {
            package_id: record.package_id.clone(),
            purl: record.purl.clone(),
            name: record.name.clone(),
            version: record.version.clone(),
            kind: record.kind,
            ecosystem: record.ecosystem,
            architecture: record.architecture.clone(),
        }
    }
}

/// One owner of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'i> {
    pub package: &'i OwnerPackage,
    /// How this owner was found.
    pub method: &'static str,
    /// Class-name prefixes with a trailing dot that are its own in a place that several components share; empty:
    /// whatever no other owner claims more closely.
    pub class_prefixes: &'i [String],
}

/// The owners of a path: at least one, OS packages first, then by purl.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership<'i> {
    pub owners: Vec<Owner<'i>>,
    /// How the first owner was found: `dpkg`, `dist-info`, `egg-info`, `direct-url`, `alternatives`, `generated-table`.
    pub method: &'static str,
    pub role: Role,
}

/// State of a database file or directory when the index was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    identity: HardLinkIdentity,
    size_bytes: u64,
    changed_ms: Option<i64>,
}

impl Stamp {
    pub fn of(tree: &dyn FileTree, path: &[u8]) -> Option<Self> {
        let found = tree.metadata(path).ok()?;
        Some(Self { identity: found.identity, size_bytes: found.size_bytes, changed_ms: found.changed_ms })
    }
}

/// See the module's documentation. About 40 bytes per owned path.
pub struct OwnershipIndex {
    paths: PathTable,
    /// Directories whose whole contents belong to a package; empty claims are barriers.
    below: HashMap<Vec<u8>, Vec<Claim>>,
    /// Places within archives (`app.jar!/lib/x.jar`) and directories of classes.
    places: HashMap<Vec<u8>, Vec<Claim>>,
    class_prefixes: HashMap<u32, Vec<String>>,
    /// By the directory of a Java package, which packages have classes in it.
    java_packages: HashMap<Vec<u8>, Vec<Claim>>,
    java_package_bytes: usize,
    /// Packages whose directories of classes are not all known.
    any_java_package: Vec<Claim>,
    members: Members,
    methods: Vec<&'static str>,
    packages: Vec<OwnerPackage>,
    os_packages: HashMap<String, Vec<u32>>,
    /// Directory links: canonical parent and name → canonical directory.
    aliases: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Those of [`MERGED_DIRECTORIES`] that really are two different directories.
    unmerged: Vec<&'static [u8]>,
    watched: BTreeMap<Vec<u8>, Option<Stamp>>,
}

impl std::fmt::Debug for OwnershipIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (paths, packages) = (self.paths.len(), self.packages.len());
        f.debug_struct("OwnershipIndex").field("paths", &paths).field("packages", &packages).finish()
    }
}

impl OwnershipIndex {
    /// Reads the package databases of `tree`. What cannot be read is left out; `catalog` of the same tree says what.
    pub fn build(tree: &dyn FileTree) -> Self {
        Survey::run(tree, true).finish_with_index().1
    }

    /// The owners of `path` (relative to the root, in any spelling of a merged /usr); `None` when nobody owns it.
    pub fn lookup(&self, path: &[u8]) -> Option<Ownership<'_>> {
        let path = self.canonical(path);
        if let Some(claims) = self.places.get(&path) {
            return Some(self.in_place(&path, claims));
        }
        if let Some(at) = memchr::memmem::rfind(&path, NESTED) {
            // A place that no package names belongs to the archive that it is in.
            let mut found = self.lookup(&path[..at])?;
            class::narrow(&mut found.owners, &path[at + NESTED.len()..]);
            return Some(found);
        }
        if path.is_empty() || self.paths.is_directory(&path) || self.aliases.contains_key(&path) {
            return None;
        }
        let mut found: Vec<(u32, &'static str)> = self.exact(&path);
        if let Some(source) = generated::bytecode_source(&path) {
            found.extend(self.exact(&source).into_iter().map(|(package, _)| (package, METHOD_GENERATED)));
        }
        found.extend(self.below(&path, &found));
        let mut role = None;
        if found.is_empty()
            && let Some(rule) = generated::rule_for(&path)
        {
            role = rule.role;
            found = self.generated(&path, rule);
        }
        if found.is_empty() {
            return None;
        }
        let (owners, method) = self.sorted(found);
        Some(Ownership { owners, method, role: role.unwrap_or_else(|| role_of(&path)) })
    }

    /// Which packages of archives have classes in the directory of a Java package (`org/example`), so that one of that
    /// package may be of any of them; `None` where no archive has that directory.
    pub fn lookup_java_package(&self, directory: &[u8]) -> Option<Ownership<'_>> {
        let claims = self.java_packages.get(directory).into_iter().flatten().chain(&self.any_java_package);
        let (owners, method) =
            self.sorted(claims.map(|claim| (claim.package, self.method(*claim))).collect());
        (!owners.is_empty()).then_some(Ownership { owners, method, role: Role::Code })
    }

    /// The owners of a place, and the OS packages that carry the archive that it is in.
    fn in_place(&self, path: &[u8], claims: &[Claim]) -> Ownership<'_> {
        let mut found: Vec<(u32, &'static str)> =
            claims.iter().map(|claim| (claim.package, self.method(*claim))).collect();
        if let Some(end) = memchr::memmem::find(path, NESTED) {
            let is_os = |package: u32| self.packages[package as usize].kind == PackageKind::Os;
            found.extend(self.exact(&path[..end]).into_iter().filter(|(package, _)| is_os(*package)));
        }
        let (owners, method) = self.sorted(found);
        Ownership { owners, method, role: Role::Code }
    }

    /// Owners in their order, each once, and the method of the first.
    fn sorted(&self, found: Vec<(u32, &'static str)>) -> (Vec<Owner<'_>>, &'static str) {
        let mut owners: Vec<Owner<'_>> = found
            .into_iter()
            .map(|(package, method)| Owner {
                package: &self.packages[package as usize],
                method,
                class_prefixes: self.class_prefixes.get(&package).map_or(&[][..], Vec::as_slice),
            })
            .collect();
        owners.sort_by(|a, b| {
            let key = |owner: &Owner<'_>| {
                (owner.package.kind, owner.package.purl.clone(), owner.package.package_id.clone())
            };
            key(a).cmp(&key(b))
        });
        owners.dedup_by(|a, b| a.package.package_id == b.package.package_id);
        let method = owners.first().map_or("", |owner| owner.method);
        (owners, method)
    }

    /// The owners of the file that `path` leads to in `tree`, links of any kind followed; else those of the name itself.
    pub fn lookup_in(&self, tree: &dyn FileTree, path: &[u8]) -> Option<Ownership<'_>> {
        let canonical = tree.resolve(path).ok().map(|found| found.path);
        let canonical = canonical.or_else(|| place_in_archive(tree, path).map(|place| place.canonical));
        canonical.and_then(|canonical| self.lookup(&canonical)).or_else(|| self.lookup(path))
    }

    /// Whether the databases still are as they were when the index was built. Costs one look per database.
    pub fn is_current(&self, tree: &dyn FileTree) -> bool {
        self.watched.iter().all(|(path, stamp)| Stamp::of(tree, path) == *stamp)
    }

    /// [`OwnershipIndex::is_current`] for another instance of the same image: its mount has another device number.
    pub fn is_current_in_replica(&self, tree: &dyn FileTree) -> bool {
        let same_file = |stamp: &Stamp| (stamp.identity.inode, stamp.size_bytes, stamp.changed_ms);
        self.watched.iter().all(|(path, stamp)| {
            Stamp::of(tree, path).as_ref().map(same_file) == stamp.as_ref().map(same_file)
        })
    }

    /// The databases, and directories of databases, that the index was built from or that were looked for in vain.
    pub fn databases(&self) -> impl Iterator<Item = &[u8]> {
        self.watched.keys().map(Vec::as_slice)
    }

    /// Whether the database that would name the owner of `path` was there when the index was built; if not, packages
    /// were installed since (a new virtual environment), and the index should be built again.
    pub fn covers(&self, path: &[u8]) -> bool {
        let path = self.canonical(path);
        let mut databases = crate::ECOSYSTEMS.iter().filter_map(|ecosystem| ecosystem.database_of(&path));
        databases.all(|database| self.watched.contains_key(database))
    }

    /// Whether the entry `name` of a directory among [`OwnershipIndex::databases`] says which packages there are; the
    /// others (bytecode, modules) can come and go without changing the answers.
    pub fn is_database_entry(database: &[u8], name: &[u8]) -> bool {
        crate::ECOSYSTEMS.iter().any(|ecosystem| ecosystem.is_database_entry(database, name))
    }

    /// All packages of the artifact.
    pub fn packages(&self) -> &[OwnerPackage] {
        &self.packages
    }

    /// Whether an archive within another has this size, in bytes.
    pub fn has_members_of_size(&self, size_bytes: u64) -> bool {
        self.members.has_size(size_bytes)
    }

    /// The places of the archives within others that have this content, in their order (`app.war!/WEB-INF/lib/x.jar`).
    pub fn members_with(&self, content: Content) -> &[Vec<u8>] {
        self.members.with(content)
    }

    /// The places within archives, and directories of classes, in no order.
    pub fn places(&self) -> impl Iterator<Item = &[u8]> {
        self.places.keys().map(Vec::as_slice)
    }

    /// Directories that belong to application packages as a whole.
    pub fn application_directories(&self) -> impl Iterator<Item = &[u8]> {
        let directories =
            self.below.iter().filter(|(_, claims)| self.is_any_application(claims.iter().copied()));
        directories.map(|(directory, _)| directory.as_slice())
    }

    /// Files that application packages list one by one.
    pub fn application_files(&self) -> impl Iterator<Item = Vec<u8>> {
        self.paths.iter().filter_map(|(directory, name, claims)| {
            self.is_any_application(claims).then(|| path::join(directory, name))
        })
    }

    fn is_any_application(&self, mut claims: impl Iterator<Item = Claim>) -> bool {
        claims.any(|claim| self.packages[claim.package as usize].kind == PackageKind::Application)
    }

    /// Number of paths that packages list.
    pub fn path_count(&self) -> usize {
        self.paths.len()
    }

    /// Bytes that the tables of paths and of Java packages occupy.
    pub fn allocated_bytes(&self) -> usize {
        self.paths.allocated_bytes() + self.java_package_bytes + self.members.size_bytes()
    }

    fn exact(&self, path: &[u8]) -> Vec<(u32, &'static str)> {
        let listed = |path: &[u8]| -> Vec<(u32, &'static str)> {
            self.paths.claims(path).map(|claim| (claim.package, self.method(claim))).collect()
        };
        let found = listed(path);
        match self.other_spelling(path) {
            Some(other) if found.is_empty() => listed(&other),
            _ => found,
        }
    }

    /// `lib/x` for `usr/lib/x` and the other way round, unless these are two different files.
    fn other_spelling(&self, path: &[u8]) -> Option<Vec<u8>> {
        merged_directory(path).filter(|directory| !self.unmerged.contains(directory))?;
        Some(match path.strip_prefix(b"usr/") {
            Some(rest) => rest.to_vec(),
            None => path::join(b"usr", path),
        })
    }

    fn method(&self, claim: Claim) -> &'static str {
        self.methods[usize::from(claim.method)]
    }

    /// Owners of the nearest directory that belongs to a package as a whole, for ecosystems not answered yet.
    fn below(&self, path: &[u8], found: &[(u32, &'static str)]) -> Vec<(u32, &'static str)> {
        let Some(claims) = path::ancestors(path).find_map(|up| self.below.get(up)) else { return Vec::new() };
        let ecosystem = |package: u32| self.packages[package as usize].ecosystem;
        claims
            .iter()
            .filter(|claim| found.iter().all(|(package, _)| ecosystem(*package) != ecosystem(claim.package)))
            .map(|claim| (claim.package, self.method(*claim)))
            .collect()
    }

    fn generated(&self, path: &[u8], rule: &generated::Rule) -> Vec<(u32, &'static str)> {
        let owners = match rule.source {
            Source::Sibling(name) => self
                .exact(&path::join(path::parent(path), name.as_bytes()))
                .into_iter()
                .map(|(p, _)| p)
                .collect(),
            // dpkg's own notes on one package belong to that package.
            Source::Packages(names) => match dpkg_info_package(path) {
                Some((name, architecture)) => self.os_package(&name, architecture.as_deref()),
                None => names
                    .iter()
                    .map(|name| self.os_package(name, None))
                    .find(|f| !f.is_empty())
                    .unwrap_or_default(),
            },
        };
        owners.into_iter().map(|package| (package, METHOD_GENERATED)).collect()
    }

    /// One package of this name: of the architecture asked for, else the first.
    fn os_package(&self, name: &str, architecture: Option<&str>) -> Vec<u32> {
        let candidates = self.os_packages.get(name).map_or(&[][..], Vec::as_slice);
        let wanted = candidates.iter().find(|index| {
            architecture.is_none_or(|wanted| self.packages[**index as usize].architecture == wanted)
        });
        wanted.into_iter().copied().collect()
    }

    /// Normal form, with the known directory links followed.
    fn canonical(&self, path: &[u8]) -> Vec<u8> {
        let mut canonical = path::normalize(path);
        if self.aliases.is_empty() {
            return canonical;
        }
        for _ in 0..MAX_ALIAS_STEPS {
            // The outermost link first, as the kernel does.
            let mut ancestors: Vec<&[u8]> = path::ancestors(&canonical).filter(|up| !up.is_empty()).collect();
            ancestors.reverse();
            let Some((link, target)) =
                ancestors.into_iter().find_map(|up| Some((up.len(), self.aliases.get(up)?)))
            else {
                break;
            };
            canonical = path::join(target, &canonical[link + 1..]);
        }
        canonical
    }
}

/// A place within an archive that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceInArchive {
    /// Canonical path of the archive.
    pub archive: Vec<u8>,
    /// The place, its archive's path being canonical.
    pub canonical: Vec<u8>,
}

/// Whether a file is called like an archive of Java, of this kind or within another.
pub fn is_archive(path: &[u8]) -> bool {
    crate::java::is_archive_path(path)
}

/// Whether a path is that of a deployment's content as WildFly and JBoss keep it, under its checksum.
pub fn is_managed_content(path: &[u8]) -> bool {
    crate::java::is_managed_content(path)
}

/// The archive that `path` leads into by its spelling, or `path` itself.
pub fn archive_of(path: &[u8]) -> &[u8] {
    crate::java::outer(path)
}

/// Takes `path` as one that leads into an archive (`app.jar!/lib/x.jar`); `None` when there is no such archive. Whether
/// the archive holds such a member is not looked at.
pub fn place_in_archive(tree: &dyn FileTree, path: &[u8]) -> Option<PlaceInArchive> {
    // The first `!/` behind which a file ends; a directory's name may end in an exclamation mark, too.
    memchr::memmem::find_iter(path, NESTED).take(MAX_NESTED_TRIED).find_map(|end| {
        let archive = tree.resolve(&path[..end]).ok()?;
        let is_file = archive.metadata.kind == FileKind::Regular;
        is_file.then(|| PlaceInArchive {
            canonical: [archive.path.as_slice(), &path[end..]].concat(),
            archive: archive.path,
        })
    })
}

/// `lib` of `lib/x` and of `usr/lib/x`, if it is one that a merged /usr has only once.
fn merged_directory(path: &[u8]) -> Option<&'static [u8]> {
    let below = path.strip_prefix(b"usr/").unwrap_or(path);
    let first = &below[..memchr::memchr(b'/', below)?];
    MERGED_DIRECTORIES.into_iter().find(|directory| *directory == first)
}

/// The directories that `tree` has both in the root and below /usr, none of them a link.
pub(crate) fn unmerged_directories(tree: &dyn FileTree) -> Vec<&'static [u8]> {
    let is_real = |path: &[u8]| tree.metadata(path).is_ok_and(|found| found.kind == FileKind::Directory);
    let is_unmerged =
        |directory: &&'static [u8]| is_real(directory) && is_real(&path::join(b"usr", directory));
    MERGED_DIRECTORIES.into_iter().filter(is_unmerged).collect()
}

/// Name and architecture of the package that a file in `var/lib/dpkg/info` is about.
fn dpkg_info_package(path: &[u8]) -> Option<(String, Option<String>)> {
    let file = std::str::from_utf8(path.strip_prefix(b"var/lib/dpkg/info/")?).ok()?;
    // Package names may hold dots, extensions do not.
    let (stem, _) = file.rsplit_once('.')?;
    Some(match stem.split_once(':') {
        Some((name, architecture)) => (name.to_owned(), Some(architecture.to_owned())),
        None => (stem.to_owned(), None),
    })
}
