//! Guesses the Maven group of an archive that does not name it, from tables, its manifest and its classes' packages.
//! Never calls a guess known: what else tells whose the archive is goes along, so that other groups are matched too.

use super::archive::Facts;
use super::coordinates::{Component, identified_by};
use super::known::{GROUPS_BY_ARTIFACT, GROUPS_BY_PACKAGE};
use super::properties::acceptable;

/// An archive is of the package above its largest one where that has less than so much of its classes, in percent.
const SCATTERED_BELOW_PERCENT: u64 = 60;
/// Most packages of classes that tell whose an archive with a guessed group may be, the largest first.
const MAX_HINTS: usize = 20;

/// The likeliest group, and whether the manifest names it.
pub(super) fn guess(facts: &Facts, artifact: &str, claimed: &[&str]) -> (String, bool) {
    let manifest = &facts.manifest;
    // Scala's artifacts end in the version of the language that they were compiled for.
    let plain = artifact
        .rsplit_once('_')
        .filter(|(_, scala)| is_scala_version(scala))
        .map_or(artifact, |(name, _)| name);
    let by_artifact = GROUPS_BY_ARTIFACT.binary_search_by_key(&plain, |(known, _)| known);
    if let Ok(at) = by_artifact {
        return (GROUPS_BY_ARTIFACT[at].1.to_owned(), false);
    }
    let own = dominant_package(facts, claimed, "", 3);
    let closer = dominant_package(facts, claimed, &own, 4);
    let is_domain = |text: &str| text.matches('.').count() >= 1 && acceptable(text).is_some();
    let known = GROUPS_BY_PACKAGE.iter().filter(|(package, _)| {
        closer.strip_prefix(package).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if let Some((_, group)) = known.max_by_key(|(package, _)| package.len()) {
        if is_own_vendor(facts, plain) {
            return (manifest.implementation_vendor_id.clone(), true);
        }
        let bundle = manifest.bundle_symbolic_name.strip_suffix(artifact);
        let bundle = bundle.and_then(|group| group.strip_suffix('.'));
        if let Some(bundle) = bundle.filter(|bundle| is_within(bundle, group) && acceptable(bundle).is_some())
        {
            return (bundle.to_owned(), true);
        }
        let module = group_of_bundle(&manifest.automatic_module_name, plain);
        return module
            .filter(|module| moved(group, module))
            .map_or_else(|| ((*group).to_owned(), false), |module| (module.to_owned(), true));
    }
    let vendor = &manifest.implementation_vendor_id;
    // `org.apache` says whose it is, not which project.
    if is_domain(vendor) && vendor != "org.apache" {
        return (vendor.clone(), true);
    }
    let symbolic = &manifest.bundle_symbolic_name;
    if is_domain(symbolic) {
        let group = symbolic.strip_suffix(artifact).and_then(|rest| rest.strip_suffix('.'));
        if let Some(group) = group.filter(|group| group.contains('.')) {
            return (group.to_owned(), true);
        }
        if plain.contains(['-', '_'])
            && let Some(group) = group_of_bundle(symbolic, plain)
        {
            return (group.to_owned(), true);
        }
    }
    let own = whole_package(facts, &own).unwrap_or(&own);
    let parts: Vec<&str> = own.split('/').filter(|part| !part.is_empty()).take(3).collect();
    let group = if parts.len() < 2 { String::new() } else { parts.join(".") };
    (acceptable(&group).unwrap_or_default(), false)
}

/// Whether the manifest's vendor is a group that the archive's classes or its name agree with: Maven writes the project's
/// own there, while most of the classes may be those of a library that was merged into it.
fn is_own_vendor(facts: &Facts, artifact: &str) -> bool {
    let vendor = &facts.manifest.implementation_vendor_id;
    // `org.apache` and `com.sun` say whose it is, not which project.
    let Some((_, project)) = vendor.rsplit_once('.').filter(|(above, _)| above.contains('.')) else {
        return false;
    };
    let directory = vendor.replace('.', "/");
    let has_classes = facts.class_directories.keys().any(|name| {
        name.strip_prefix(directory.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let is_called_so = artifact.split(['-', '_']).next() == Some(project);
    acceptable(vendor).is_some() && (has_classes || is_called_so)
}

/// Whether a group lies below another.
fn is_within(group: &str, above: &str) -> bool {
    group.strip_prefix(above).is_some_and(|rest| rest.starts_with('.'))
}

/// The group in the name of a bundle or module that ends in the words of its artifact, of which the first one is the
/// project's: `org.apache.groovy` of `org.apache.groovy.ant` for `groovy-ant`.
fn group_of_bundle<'n>(name: &'n str, artifact: &str) -> Option<&'n str> {
    let mut rest = name;
    let mut words = artifact.rsplit(['-', '_']).peekable();
    while let Some(word) = words.next() {
        let (above, last) = rest.rsplit_once('.')?;
        if !last.eq_ignore_ascii_case(word) {
            return None;
        }
        if words.peek().is_none() {
            return (above.contains('.') && acceptable(rest).is_some()).then_some(rest);
        }
        rest = above;
    }
    None
}

/// Whether two groups are one project's under another roof: `org.codehaus.groovy`, `org.apache.groovy`.
fn moved(before: &str, after: &str) -> bool {
    let parts = |group: &str| -> Option<[String; 3]> {
        let mut parts = group.split('.').map(str::to_owned);
        Some([parts.next()?, parts.next()?, parts.next_back()?])
    };
    match (parts(before), parts(after)) {
        (Some(before), Some(after)) => {
            before[0] == after[0] && before[1] != after[1] && before[2] == after[2]
        }
        _ => false,
    }
}

/// The package above one of three parts, where the archive is all of that package rather than of the one within it:
/// the manifest is called after it, it has classes of its own, or they are scattered over what is within it.
fn whole_package<'p>(facts: &Facts, own: &'p str) -> Option<&'p str> {
    let (above, _) = own.rsplit_once('/').filter(|(above, _)| above.matches('/').count() == 1)?;
    let count = |package: &str| -> u64 {
        let is_below = |directory: &str| {
            directory.strip_prefix(package).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        facts.class_directories.iter().filter(|(name, _)| is_below(name)).map(|(_, count)| count).sum()
    };
    let name = above.replace('/', ".");
    let manifest = &facts.manifest;
    let is_named = [&manifest.bundle_symbolic_name, &manifest.automatic_module_name].contains(&&name);
    // The house of many projects is none.
    let is_scattered = above != "org/apache" && count(own) * 100 < count(above) * SCATTERED_BELOW_PERCENT;
    (is_named || facts.class_directories.contains_key(above) || is_scattered).then_some(above)
}

/// What an archive tells of whose it is, apart from its group; `None` where that is no guess.
pub(super) fn hints(component: &Component, facts: &Facts) -> Option<Vec<String>> {
    if ![identified_by::MANIFEST, identified_by::FILE_NAME].contains(&component.identified_by) {
        return None;
    }
    let mut classes: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    for (directory, count) in &facts.class_directories {
        let parts: Vec<&str> = directory.splitn(3, '/').take(2).collect();
        *classes.entry(parts.join(".")).or_insert(0) += count;
    }
    let mut packages: Vec<(String, u64)> = classes.into_iter().collect();
    packages.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let manifest = &facts.manifest;
    let names =
        [&manifest.bundle_symbolic_name, &manifest.automatic_module_name, &manifest.implementation_vendor_id];
    let names = names.into_iter().filter(|name| name.contains('.')).cloned();
    Some(names.chain(packages.into_iter().take(MAX_HINTS).map(|(package, _)| package)).collect())
}

/// `2.13` or `3`.
fn is_scala_version(text: &str) -> bool {
    text.starts_with(['2', '3']) && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// The package of up to so many parts, below `above`, that most of the classes are in which nobody else claims.
fn dominant_package(facts: &Facts, claimed: &[&str], above: &str, parts: usize) -> String {
    let mut counts: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for (directory, count) in facts.class_directories.iter().filter(|(name, _)| name.starts_with(above)) {
        let is_claimed = claimed.iter().any(|claim| {
            directory.strip_prefix(claim).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if !is_claimed {
            let end = directory.match_indices('/').nth(parts - 1).map_or(directory.len(), |(at, _)| at);
            *counts.entry(&directory[..end]).or_insert(0) += count;
        }
    }
    // The first of equals, so that the answer is the same each time.
    let best = counts.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)));
    best.map(|(package, _)| (*package).to_owned()).unwrap_or_default()
}
