//! Package catalogers and file ownership, one folder per ecosystem, pure over a [`FileTree`].
//! Never runs, writes or fetches anything, and never trusts a size, count or path found in an artifact.
//!
//! A new ecosystem is one folder with an [`Ecosystem`] in it, and one line in [`ECOSYSTEMS`].

mod binary;
mod bounds;
mod canonical;
mod debian;
pub mod digest;
#[doc(hidden)]
pub mod fuzzing;
mod golang;
mod java;
mod json;
mod linked;
mod node;
mod os_release;
pub mod ownership;
mod percent;
mod php;
mod purl;
mod python;
mod record;
mod role;
mod ruby;
mod rust;
mod stanza;
mod survey;
#[cfg(test)]
mod testing;
pub mod tree;
mod warning;
mod zip;

use digest::Digester;
use serde::Serialize;
use survey::Survey;
use tree::FileKind;

pub use java::is_java_library_of;
pub use os_release::OsRelease;
pub use ownership::{Owner, OwnerPackage, Ownership, OwnershipIndex};
pub(crate) use plimsoll_schemas::not_measurable;
pub use record::{Location, PackageKind, PackageRecord};
pub use role::{Role, role_of};
pub use tree::{DirectoryOptions, DirectoryTree, FileTree, MemoryTree};
pub use warning::Warning;

/// What a reader of an image should keep of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Keep at most the first `max_bytes` of its contents, and its metadata.
    Content {
        max_bytes: usize,
    },
    /// Let [`digest::digest_file`] look into it where [`digest::is_recognised`], and keep what that gives.
    Digest,
    MetadataOnly,
}

/// One kind of packages: how its databases are recognised, cataloged and turned into ownership.
pub(crate) trait Ecosystem: Sync {
    /// The contents that its cataloger will read of a regular file at `path`; `None` for all others.
    fn wanted(&self, path: &[u8]) -> Option<Wanted>;

    /// Whether the regular file or directory at `path` is one of its databases, wherever it stands in the tree. Asked
    /// for every file, so it must be cheap.
    fn is_marker(&self, path: &[u8], kind: FileKind) -> bool;

    /// The directory that must have been known for the owner of `path` to be found; `None` if `path` is not its matter.
    fn database_of<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]>;

    /// Whether an entry of the directory `database` says which packages there are. Every entry unless it is known not to.
    fn is_database_entry(&self, database: &[u8], name: &[u8]) -> bool;

    /// How it looks into files that are too big to keep; [`Survey::digest`] gives what was found.
    fn digesters(&self) -> &'static [Digester] {
        &[]
    }

    /// Adds its packages and, where an index is wanted, their claims. `markers` are the marked paths, sorted.
    fn survey(&self, survey: &mut Survey<'_>, markers: &[Vec<u8>]);
}

/// All ecosystems; OS packages first, since application packages may lie in them.
pub(crate) const ECOSYSTEMS: &[&dyn Ecosystem] = &[
    &debian::Debian,
    &python::Python,
    &node::Node,
    &golang::Go,
    &rust::Rust,
    &java::Java,
    &php::Php,
    &ruby::Ruby,
];

/// Everything that a catalog of an artifact found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CatalogOutcome {
    /// `None` when the artifact has no os-release file.
    pub os_release: Option<OsRelease>,
    /// Sorted by purl, then package id; no package twice.
    pub packages: Vec<PackageRecord>,
    /// What could not be read; everything else is complete.
    pub warnings: Vec<Warning>,
}

/// What [`catalog`] and [`OwnershipIndex::build`] need of the regular file at `path` with the permission bits `mode`.
pub fn wanted(path: &[u8], mode: u32) -> Wanted {
    os_release::wanted(path)
        .or_else(|| ECOSYSTEMS.iter().find_map(|ecosystem| ecosystem.wanted(path)))
        .or_else(|| digest::is_wanted(path, mode).then_some(Wanted::Digest))
        .unwrap_or(Wanted::MetadataOnly)
}

/// Finds all packages of an artifact. The same tree always gives the same outcome.
#[must_use]
pub fn catalog(tree: &dyn FileTree) -> CatalogOutcome {
    Survey::run(tree, false).finish()
}

/// [`catalog`] and [`OwnershipIndex::build`] in one pass, for those who need both.
#[must_use]
pub fn catalog_with_ownership(tree: &dyn FileTree) -> (CatalogOutcome, OwnershipIndex) {
    Survey::run(tree, true).finish_with_index()
}
