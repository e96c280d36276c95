//! Places in the virtual file system of JBoss and WildFly (`vfs:/content/app.war/WEB-INF/lib/x.jar`), which names deployments
//! by their names and not by their files. Never takes another deployment's member while one of that name has it.

use std::collections::BTreeSet;

use plimsoll_catalog::ownership::{archive_of, is_archive, is_managed_content};
use plimsoll_catalog::tree::path as paths;
use plimsoll_catalog::{FileTree, OwnershipIndex};
use plimsoll_schemas::words::VIRTUAL_FILES;

/// Most places that one can stand for; where there are more, nobody can tell.
const CANDIDATES_MAX: usize = 256;

/// Where the deployment may lie of which this is a place, in order.
pub fn candidates(tree: &dyn FileTree, index: &OwnershipIndex, used: &[u8]) -> Vec<Vec<u8>> {
    let Some((deployment, member)) = split(used) else { return Vec::new() };
    let within = |place: &[u8]| place[archive_of(place).len()..] == member[..];
    let is_named = |path: &[u8]| paths::split(path).1 == deployment;
    let mut named: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut managed: BTreeSet<Vec<u8>> = BTreeSet::new();
    if member.is_empty() {
        named.extend(index.application_files().filter(|path| is_named(path)));
    } else {
        // A deployment can be a directory.
        let unpacked = [b"/", deployment, &member[1..]].concat();
        let is_unpacked = |path: &[u8]| path.ends_with(&unpacked) || path == &unpacked[1..];
        for place in index.places() {
            let archive = archive_of(place);
            if (is_named(archive) && within(place)) || is_unpacked(place) {
                named.insert(place.to_vec());
            } else if is_managed_content(archive) && within(place) {
                managed.insert(place.to_vec());
            }
        }
        named.extend(index.application_files().filter(|path| is_unpacked(path)));
    }
    // The server keeps a copy of what it was given, under a name that tells nothing.
    let size_bytes = |place: &Vec<u8>| tree.metadata(archive_of(place)).ok().map(|found| found.size_bytes);
    let sizes: BTreeSet<Option<u64>> = named.iter().map(size_bytes).collect();
    managed.retain(|place| named.is_empty() || sizes.contains(&size_bytes(place)));
    named.extend(managed);
    if named.len() > CANDIDATES_MAX { Vec::new() } else { named.into_iter().collect() }
}

/// The deployment's name, and the place within it, beginning with `!/` or empty: archives in it end with `!`.
fn split(used: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let path = used.strip_prefix(VIRTUAL_FILES)?;
    let mut parts = path.split(|byte| *byte == b'/').skip_while(|part| !is_archive(part)).peekable();
    let deployment = parts.next()?;
    let mut member = Vec::new();
    let mut is_archive_above = true;
    for part in parts.filter(|part| !part.is_empty()) {
        member.extend_from_slice(if is_archive_above { b"!/" } else { b"/" });
        member.extend_from_slice(part);
        is_archive_above = is_archive(part);
    }
    Some((deployment, member))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_deployments() {
        for (used, expected) in [
            ("vfs:/content/a.war/WEB-INF/lib/x-1.jar", Some(("a.war", "!/WEB-INF/lib/x-1.jar"))),
            ("vfs:/content/a.war/WEB-INF/classes", Some(("a.war", "!/WEB-INF/classes"))),
            ("vfs:/content/a.ear/b.war/WEB-INF/lib/x.jar", Some(("a.ear", "!/b.war!/WEB-INF/lib/x.jar"))),
            ("vfs:/opt/as/deploy/a.ear/lib/x.jar", Some(("a.ear", "!/lib/x.jar"))),
            ("vfs:/content/a.jar", Some(("a.jar", ""))),
            ("vfs:/content/a", None),
            ("vfs:/", None),
            ("tmp/a.jar", None),
        ] {
            let found = split(used.as_bytes());
            let found = found.map(|(name, member)| (paths::display(name), paths::display(&member)));
            assert_eq!(found, expected.map(|(name, member)| (name.into(), member.into())), "{used}");
        }
    }
}
