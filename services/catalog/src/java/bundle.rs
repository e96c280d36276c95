//! Which classes of an OSGi bundle are those of the archives on its Bundle-ClassPath (OSGi Core 3.9): frameworks name the
//! bundle as the source of them all. Never takes a Java package from any that has it: what several have is ambiguous.

use super::archive::ArchiveDigest;
use super::classes::{MAX_PARTS, main_prefixes, outermost, prefixes};
use super::{METHOD, claims_of, components_with, place_in};
use crate::bounds::LeftOut;
use crate::survey::Survey;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most single Java packages that one component claims where the prefixes of two cross; beyond, they share a prefix.
const MAX_CROSSING: usize = 64;

/// The components of one archive, with the class-name prefixes that they claim in it.
type Components = Vec<(u32, Vec<String>)>;

/// One archive: in which directories it has classes, and its components.
#[derive(Clone, Copy)]
struct Part<'a> {
    directories: &'a BTreeMap<String, u64>,
    components: &'a [(u32, Vec<String>)],
}

/// Makes the components of archives on the class path of a bundle owners of the bundle's file as well, each of its own
/// Java packages. `added` are the components of each archive of the file.
pub(super) fn claim_class_paths(
    survey: &mut Survey<'_>,
    path: &[u8],
    digest: &ArchiveDigest,
    added: &[Components],
) {
    if digest.archives.iter().all(|facts| facts.manifest.class_path_archives.is_empty()) {
        return;
    }
    let parts: HashMap<&str, Part<'_>> = digest
        .archives
        .iter()
        .zip(added)
        .map(|(facts, components)| {
            (facts.path.as_str(), Part { directories: &facts.class_directories, components })
        })
        .collect();
    for facts in &digest.archives {
        // Each once, whatever the bundle says.
        let entries: BTreeSet<&String> = facts.manifest.class_path_archives.iter().collect();
        let nested: Vec<Part<'_>> = entries
            .into_iter()
            .filter_map(|entry| parts.get(join(&facts.path, entry).as_str()).copied())
            .filter(|part| !part.components.is_empty())
            .collect();
        let Some(own) = parts.get(facts.path.as_str()).filter(|_| !nested.is_empty()) else { continue };
        let place = place_in(path, &facts.path);
        let mut left_out = LeftOut::default();
        let mut claims = claims(*own, &nested, &mut left_out);
        if let [(package, prefixes)] = own.components
            && claims_of(prefixes).is_empty()
            && !claims.contains_key(package)
        {
            // Its own classes are known, so they are no rest that may be anyone's.
            let directories = directories_of(*own).remove(package).unwrap_or_default();
            claims.insert(*package, main_prefixes(&outermost(directories), &mut left_out));
        }
        survey.left_out(&place, &left_out);
        let Some(index) = &mut survey.index else { return };
        for (package, prefixes) in claims {
            if facts.path.is_empty() {
                index.own(&mut survey.canonicalizer, path, package, METHOD);
            } else {
                index.own_place(&place, package, METHOD);
            }
            index.set_class_prefixes(package, prefixes);
        }
    }
}

/// The path of an entry of a class path, as archives within archives are named.
fn join(bundle: &str, entry: &str) -> String {
    if bundle.is_empty() { entry.to_owned() } else { format!("{bundle}!/{entry}") }
}

/// By package, which class-name prefixes are its own where classes of all these archives come from one place. The bundle's
/// own components that claim nothing stay out of it, and get the rest, unless others' claims cross their classes.
fn claims(bundle: Part<'_>, nested: &[Part<'_>], left_out: &mut LeftOut) -> BTreeMap<u32, Vec<String>> {
    let mut owners: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let mut by_prefix: HashMap<String, BTreeSet<u32>> = HashMap::new();
    let mut claim = |by_prefix: &mut HashMap<String, BTreeSet<u32>>, package: u32, directories: Vec<&str>| {
        for prefix in prefixes(&outermost(directories), left_out) {
            by_prefix.entry(prefix).or_default().insert(package);
        }
    };
    for (package, directories) in nested.iter().flat_map(|part| directories_of(*part)) {
        for directory in &directories {
            owners.entry(directory).or_default().insert(package);
        }
        claim(&mut by_prefix, package, directories);
    }
    for (package, prefixes) in bundle.components {
        for prefix in claims_of(prefixes) {
            by_prefix.entry(prefix.clone()).or_default().insert(*package);
        }
    }
    for (package, directories) in directories_of(bundle) {
        for directory in &directories {
            owners.entry(directory).or_default().insert(package);
        }
        let claims_nothing =
            bundle.components.iter().any(|(other, own)| *other == package && claims_of(own).is_empty());
        let is_crossed = |directory: &&str| longest(&by_prefix, directory).is_some();
        if claims_nothing && directories.iter().any(is_crossed) {
            claim(&mut by_prefix, package, directories);
        }
    }
    share_crossing(&owners, &mut by_prefix);
    let mut found: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (prefix, packages) in by_prefix {
        packages.into_iter().for_each(|package| found.entry(package).or_default().push(prefix.clone()));
    }
    found.values_mut().for_each(|prefixes| prefixes.sort());
    found
}

/// Until every owner of a directory is among those with the longest prefix of it. Directories come before those in them.
fn share_crossing(owners: &BTreeMap<&str, BTreeSet<u32>>, by_prefix: &mut HashMap<String, BTreeSet<u32>>) {
    let mut added: HashMap<u32, usize> = HashMap::new();
    for (directory, packages) in owners {
        let Some(prefix) = longest(by_prefix, directory) else { continue };
        if packages.is_subset(&by_prefix[&prefix]) {
            continue;
        }
        let has_room = packages.iter().all(|package| added.get(package).is_none_or(|n| *n < MAX_CROSSING));
        let shared = if has_room { class_prefix(directory) } else { prefix };
        packages.iter().for_each(|package| *added.entry(*package).or_default() += 1);
        by_prefix.entry(shared).or_default().extend(packages);
    }
}

/// Which directories each component of an archive has classes in; those of the default package have no prefix.
fn directories_of<'a>(part: Part<'a>) -> BTreeMap<u32, Vec<&'a str>> {
    let mut found: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for directory in part.directories.keys().filter(|directory| !directory.is_empty()) {
        for package in components_with(directory, part.components) {
            found.entry(package).or_default().push(directory);
        }
    }
    found
}

/// The longest claimed prefix of the classes in a directory; as everywhere, only its first parts are compared.
fn longest(by_prefix: &HashMap<String, BTreeSet<u32>>, directory: &str) -> Option<String> {
    let ends = directory.match_indices('/').map(|(at, _)| at).chain([directory.len()]);
    let candidates: Vec<String> = ends.take(MAX_PARTS).map(|end| class_prefix(&directory[..end])).collect();
    candidates.into_iter().rev().find(|prefix| by_prefix.contains_key(prefix))
}

fn class_prefix(directory: &str) -> String {
    format!("{}.", directory.replace('/', "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive of one component that has classes in these directories.
    fn check(bundle: &[&str], nested: &[&[&str]], expect: &[(u32, &[&str])]) {
        let directories = |names: &[&str]| -> BTreeMap<String, u64> {
            names.iter().map(|name| ((*name).to_owned(), 1)).collect()
        };
        let all: Vec<(BTreeMap<String, u64>, Components)> = [bundle]
            .iter()
            .chain(nested)
            .zip(0..)
            .map(|(names, package)| (directories(names), vec![(package, Vec::new())]))
            .collect();
        let parts: Vec<Part<'_>> =
            all.iter().map(|(directories, components)| Part { directories, components }).collect();
        let found = claims(parts[0], &parts[1..], &mut LeftOut::default());
        let found: Vec<(u32, Vec<&str>)> = found
            .iter()
            .map(|(package, prefixes)| (*package, prefixes.iter().map(String::as_str).collect()))
            .collect();
        let expect: Vec<(u32, Vec<&str>)> = expect.iter().map(|(one, of)| (*one, of.to_vec())).collect();
        assert_eq!(found, expect, "{bundle:?} {nested:?}");
    }

    #[test]
    fn each_archive_has_its_own_java_packages() {
        check(&["org/own"], &[&["org/a", "org/a/x"], &["org/b"]], &[(1, &["org.a."]), (2, &["org.b."])]);
        check(&[], &[&["org/a"]], &[(1, &["org.a."])]);
        // Classes of the default package are the bundle's.
        check(&[""], &[&[""]], &[]);
    }

    #[test]
    fn what_several_have_is_of_all_of_them() {
        check(&["org/a"], &[&["org/a"]], &[(0, &["org.a."]), (1, &["org.a."])]);
        check(&["org/own"], &[&["org/a"], &["org/a"]], &[(1, &["org.a."]), (2, &["org.a."])]);
    }

    #[test]
    fn packages_within_packages_of_others() {
        check(&["org/a/own"], &[&["org/a"]], &[(0, &["org.a.own."]), (1, &["org.a."])]);
        check(&["org"], &[&["org/a"]], &[(1, &["org.a."])]);
        check(
            &[],
            &[&["org/a", "org/a/x/y"], &["org/a/x"]],
            &[(1, &["org.a.", "org.a.x.y."]), (2, &["org.a.x."])],
        );
        check(
            &[],
            &[&["org/a", "org/a/x"], &["org/a/x"]],
            &[(1, &["org.a.", "org.a.x."]), (2, &["org.a.x."])],
        );
    }

    #[test]
    fn beyond_the_bound_they_share_a_prefix() {
        let mut all: Vec<String> = (0..=MAX_CROSSING).map(|number| format!("a/{number:03}/z")).collect();
        let mut outer: Vec<String> = (0..=MAX_CROSSING).map(|number| format!("a/{number:03}")).collect();
        all.push("a".to_owned());
        outer.push("a".to_owned());
        let map = |names: &[String]| names.iter().map(|name| (name.clone(), 1)).collect();
        let (one, two): (BTreeMap<String, u64>, BTreeMap<String, u64>) = (map(&all), map(&outer));
        let (of_one, of_two) = ([(1, Vec::new())], [(2, vec!["a.".to_owned()])]);
        let none = BTreeMap::new();
        let parts = [
            Part { directories: &none, components: &[] },
            Part { directories: &one, components: &of_one },
            Part { directories: &two, components: &of_two },
        ];
        let found = claims(parts[0], &parts[1..], &mut LeftOut::default());
        assert!(found.values().all(|prefixes| prefixes.len() <= MAX_CROSSING + 17), "{found:?}");
    }
}
