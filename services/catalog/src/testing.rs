//! Helpers for the tests of this crate: small trees written down as lists of paths.
//! Never part of a build.

use crate::record::PackageRecord;
use crate::tree::{Entry, FileKind, FileTree, Layer, MemoryTree, Near, Surroundings, Walk, path};
use crate::{CatalogOutcome, OwnershipIndex, fuzzing};

/// What stands at a path of a test tree.
pub(crate) enum Node<'a> {
    File(&'a [u8]),
    Link(&'a str),
    Directory,
}

/// Builds a tree as the scanner does: only wanted contents are kept.
pub(crate) fn tree(nodes: &[(&str, Node<'_>)]) -> MemoryTree {
    let mut tree = MemoryTree::new();
    let layer = tree.add_layer("sha256:layer").unwrap();
    add(&mut tree, nodes, layer);
    tree
}

pub(crate) fn add(tree: &mut MemoryTree, nodes: &[(&str, Node<'_>)], layer: Layer) {
    for (path, node) in nodes {
        let path = path.as_bytes();
        match node {
            Node::Directory => tree.insert(path, Entry::Directory { mode: 0o755 }, layer),
            Node::Link(target) => tree.insert(path, Entry::Symlink { target: target.as_bytes() }, layer),
            Node::File(bytes) => fuzzing::put(tree, path, bytes, layer),
        }
        .unwrap();
    }
}

/// [`tree`] of files whose paths were put together.
pub(crate) fn tree_of(files: &[(String, &[u8])]) -> MemoryTree {
    let nodes: Vec<_> = files.iter().map(|(path, bytes)| (path.as_str(), Node::File(bytes))).collect();
    tree(&nodes)
}

/// What [`owners`] says of each path.
#[track_caller]
pub(crate) fn check_owners(index: &OwnershipIndex, expected: &[(impl AsRef<str>, &str)]) {
    for (path, expect) in expected {
        let path = path.as_ref();
        assert_eq!(owners(index, path), *expect, "{path}");
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
    near_names_the_same_owners(tree);
    outcome
}

/// The ids of a path's owners.
fn ids<'i>(index: &'i OwnershipIndex, path: &str) -> Vec<&'i str> {
    let owners = index.lookup(path.as_bytes()).map(|found| found.owners).unwrap_or_default();
    owners.iter().map(|owner| owner.package.package_id.as_str()).collect()
}

/// Each path's owners are the same whether the whole tree is walked or only what lies near that path, unless it is said
/// that they may not be.
pub(crate) fn near_names_the_same_owners(tree: &dyn FileTree) {
    /// Bigger trees take too long.
    const MAX_FILES: usize = 100;
    let (outcome, index) = crate::catalog_with_ownership(tree);
    let mut paths = Vec::new();
    tree.walk(b"", &mut |path, kind| {
        if kind != FileKind::Directory && path::display(path).as_bytes() == path {
            paths.push(path.to_vec());
        }
        Walk::Continue
    })
    .unwrap();
    if paths.len() > MAX_FILES {
        return;
    }
    let places = outcome.packages.iter().flat_map(|package| &package.locations);
    paths.extend(places.map(|place| place.identity_bytes()));
    for path in paths {
        let Ok(path) = String::from_utf8(path) else { continue };
        let mut surroundings = Surroundings::default();
        surroundings.add(tree, path.as_bytes());
        let near = OwnershipIndex::build(&Near::new(tree, &surroundings));
        if surroundings.doubt(tree, &near, path.as_bytes()).is_none() {
            assert_eq!(ids(&near, &path), ids(&index, &path), "{path}");
        }
    }
}
