//! Helpers for the tests of this crate: small trees written down as lists of paths.
//! Never part of a build.

use crate::record::PackageRecord;
use crate::tree::{Contents, Entry, FileTree, Layer, MemoryTree};
use crate::{CatalogOutcome, OwnershipIndex, Wanted, wanted};
use std::borrow::Cow;

/// What stands at a path of a test tree.
pub(crate) enum Node<'a> {
    File(&'a [u8]),
    Link(&'a str),
    Directory,
}

/// Permission bits of all files: programs are looked into.
const MODE: u32 = 0o755;

/// Builds a tree as the scanner does: only wanted contents are kept.
pub(crate) fn tree(nodes: &[(&str, Node<'_>)]) -> MemoryTree {
    let mut tree = MemoryTree::new();
    let layer = tree.add_layer("sha256:layer").unwrap();
    add(&mut tree, nodes, layer);
    tree
}

pub(crate) fn add(tree: &mut MemoryTree, nodes: &[(&str, Node<'_>)], layer: Layer) {
    for (path, node) in nodes {
        let entry = match node {
            Node::Directory => Entry::Directory { mode: 0o755 },
            Node::Link(target) => Entry::Symlink { target: target.as_bytes() },
            Node::File(bytes) => {
                let contents = match wanted(path.as_bytes(), MODE) {
                    Wanted::Content { max_bytes } => {
                        let kept = &bytes[..bytes.len().min(max_bytes)];
                        Some(Contents { bytes: Cow::Borrowed(kept), truncated: kept.len() < bytes.len() })
                    }
                    Wanted::Digest | Wanted::MetadataOnly => None,
                };
                Entry::Regular { mode: MODE, size_bytes: bytes.len() as u64, contents }
            }
        };
        tree.insert(path.as_bytes(), entry, layer).unwrap();
        if let Node::File(bytes) = node
            && wanted(path.as_bytes(), MODE) == Wanted::Digest
        {
            let digests = crate::digest::digest_file(path.as_bytes(), MODE, &bytes.to_vec()).unwrap();
            tree.keep_digests(path.as_bytes(), digests).unwrap();
        }
    }
}

pub(crate) fn package<'o>(outcome: &'o CatalogOutcome, name: &str) -> &'o PackageRecord {
    let names: Vec<&str> = outcome.packages.iter().map(|package| package.name.as_str()).collect();
    outcome
        .packages
        .iter()
        .find(|package| package.name == name)
        .unwrap_or_else(|| panic!("no {name} in {names:?}"))
}

/// `name[, name] method role`, or `-` for a path without owner.
pub(crate) fn owners(index: &OwnershipIndex, path: &str) -> String {
    match index.lookup(path.as_bytes()) {
        None => "-".to_owned(),
        Some(found) => {
            let names: Vec<&str> = found.owners.iter().map(|owner| owner.package.name.as_str()).collect();
            format!("{} {} {}", names.join(","), found.method, found.role.as_str())
        }
    }
}

/// The catalog of a tree, which must be the same when made again and by any other way.
pub(crate) fn catalog(tree: &dyn FileTree) -> CatalogOutcome {
    let outcome = crate::catalog(tree);
    assert_eq!(outcome, crate::catalog(tree));
    assert_eq!(outcome, crate::catalog_with_ownership(tree).0);
    let mut ids: Vec<&str> = outcome.packages.iter().map(|package| package.package_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), outcome.packages.len(), "a package stands twice");
    outcome
}
