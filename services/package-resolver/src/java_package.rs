//! Whose a class may be of which only its Java package is known: the packages whose archives have classes in that package.
//! Never says that one of them is the owner, nor that none is while archives may have been overlooked.

use std::sync::Arc;

use plimsoll_catalog::OwnershipIndex;
use plimsoll_catalog::tree::path as paths;
use plimsoll_schemas::events::{Owner, PackageOwnership};
use plimsoll_schemas::words::ownership_state;

use crate::answer::{OWNERS_MAX_BYTES, bound_owners, owner_of, unresolved};
use crate::index_cache::Indexed;

/// The ecosystem of archives whose Java packages are known.
const MAVEN: &str = "maven";

/// The answer for `path`, which stands for the Java package in the directory `directory`: by `indexed`, and by `former`
/// indexes with archives that may be gone.
pub fn answer(
    artifact: &str,
    indexed: &Indexed,
    former: &[Arc<Indexed>],
    path: &[u8],
    directory: &[u8],
    now_ms: i64,
) -> PackageOwnership {
    let unresolved = |reason: &str| unresolved(artifact, path, reason, now_ms);
    if let Some(reason) = indexed.lacks_archives() {
        return unresolved(&reason);
    }
    let all = std::iter::once(indexed).chain(former.iter().map(Arc::as_ref));
    let found: Vec<_> = all.filter_map(|indexed| indexed.index.lookup_java_package(directory)).collect();
    let Some(first) = found.first() else {
        return PackageOwnership { state: ownership_state::UNOWNED.into(), ..unresolved("") };
    };
    let mut owners: Vec<Owner> = found.iter().flat_map(|found| &found.owners).map(owner_of).collect();
    // In one order, whichever index names them.
    owners.sort_by(|a, b| (&a.purl, &a.package_id).cmp(&(&b.purl, &b.package_id)));
    owners.dedup_by(|a, b| a.package_id == b.package_id);
    // Without some of them it may be anyone's.
    if bound_owners(&mut owners, OWNERS_MAX_BYTES) > 0 {
        return unresolved("more archives have this Java package than can be named");
    }
    let reason =
        format!("the packages with classes in {}: it may be of any, or none", paths::display(directory));
    PackageOwnership {
        owners,
        method: first.method.into(),
        role: first.role.as_str().into(),
        ..unresolved(&reason)
    }
}

/// Whether the archive at one of these places (the first that is known) has classes in the Java package's directory: a class
/// that names it as its source may be defined from what another has. `path` is the question.
pub fn within(
    artifact: &str,
    index: &OwnershipIndex,
    places: [&[u8]; 2],
    path: &[u8],
    directory: &[u8],
    now_ms: i64,
) -> PackageOwnership {
    let archive = places.iter().find_map(|place| index.lookup(place));
    let of_archive = |owner: &&plimsoll_catalog::Owner<'_>| owner.package.ecosystem == MAVEN;
    // Of others it is not known which Java packages they have.
    let owners: Vec<&str> = archive
        .iter()
        .flat_map(|found| found.owners.iter().filter(of_archive))
        .map(|owner| owner.package.package_id.as_str())
        .collect();
    let found = index.lookup_java_package(directory);
    let has = || {
        let mut all = found.iter().flat_map(|found| &found.owners);
        all.any(|owner| owners.contains(&owner.package.package_id.as_str()))
    };
    let state = if owners.is_empty() || has() { ownership_state::OWNED } else { ownership_state::UNOWNED };
    PackageOwnership { state: state.into(), ..unresolved(artifact, path, "", now_ms) }
}
