//! Which class-name prefixes of an archive belong to which of the components merged into it, relocated ones too.
//! Never splits what two components claim alike: both get the prefix, and a use stays ambiguous.

use super::archive::Pom;
use super::known::PACKAGES;
use crate::bounds::LeftOut;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most parts of a directory that are compared.
pub(crate) const MAX_PARTS: usize = 20;
/// Most prefixes of one component; more are folded into common parents.
pub(crate) const MAX_PREFIXES: usize = 16;

/// Every run of parts of every class directory, with the beginnings of directories that end in it.
pub(crate) struct Directories<'a> {
    runs: HashMap<&'a str, BTreeSet<&'a str>>,
    all: &'a BTreeMap<String, u64>,
    /// Whether some have more than [`MAX_PARTS`].
    pub has_deeper: bool,
}

impl<'a> Directories<'a> {
    pub fn new(all: &'a BTreeMap<String, u64>) -> Self {
        let mut runs: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        let mut has_deeper = false;
        for directory in all.keys().filter(|directory| !directory.is_empty()) {
            let ends: Vec<usize> = directory
                .match_indices('/')
                .map(|(at, _)| at)
                .chain([directory.len()])
                .take(MAX_PARTS)
                .collect();
            has_deeper |= ends.len() == MAX_PARTS && ends[MAX_PARTS - 1] < directory.len();
            let mut start = 0;
            for (first, next) in ends.iter().enumerate() {
                for end in &ends[first..] {
                    runs.entry(&directory[start..*end]).or_default().insert(&directory[..*end]);
                }
                start = next + 1;
            }
        }
        Self { runs, all, has_deeper }
    }

    /// Beginnings of class directories that end in `package` (`org/slf4j`): itself, and relocated copies.
    fn ending_in(&self, package: &str) -> Vec<&'a str> {
        self.runs.get(package).into_iter().flatten().copied().collect()
    }

    /// How many classes lie below none of the given directories.
    pub fn classes_outside(&self, claimed: &[&str]) -> u64 {
        let is_claimed = |directory: &str| claimed.iter().any(|claim| is_within(directory, claim));
        self.all.iter().filter(|(directory, _)| !is_claimed(directory)).map(|(_, count)| count).sum()
    }
}

fn is_within(directory: &str, above: &str) -> bool {
    directory.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The directories that hold the component's classes in this archive; empty when its coordinates do not tell.
pub(crate) fn directories_of<'a>(pom: &Pom, directories: &Directories<'a>) -> Vec<&'a str> {
    if let Some((_, known)) = PACKAGES.iter().find(|(artifact, _)| *artifact == pom.artifact) {
        let found: Vec<&str> = known.iter().flat_map(|package| directories.ending_in(package)).collect();
        if !found.is_empty() {
            return outermost(found);
        }
    }
    for candidate in candidates(pom) {
        let found = directories.ending_in(&candidate);
        if !found.is_empty() {
            return outermost(found);
        }
    }
    Vec::new()
}

/// Those of the archive's main component, as far as its coordinates tell; of guessed ones, the group tells only where the
/// main class is of it, since it may be guessed from classes of what is merged into the archive.
pub(crate) fn own_directories<'a>(
    pom: &Pom,
    is_guess: bool,
    main_class: &str,
    directories: &Directories<'a>,
) -> Vec<&'a str> {
    let mut found = directories_of(pom, directories);
    let is_of_group = !pom.group.is_empty() && main_class.starts_with(&format!("{}.", pom.group));
    if is_guess && !is_of_group {
        let group = pom.group.replace('.', "/");
        found.retain(|directory| !directory.ends_with(&group));
    }
    found
}

/// What a component claims: nothing, if it is the main one, whose list begins with the empty prefix; the rest of that list
/// says only which Java packages are its own beyond doubt, and it gets whatever nobody else claims.
pub(crate) fn claims_of(prefixes: &[String]) -> &[String] {
    if prefixes.first().is_some_and(String::is_empty) { &[] } else { prefixes }
}

/// The list of the main component: the empty prefix and its own ones; empty if none is its own.
pub(crate) fn main_prefixes(own: &[&str], left_out: &mut LeftOut) -> Vec<String> {
    let own = prefixes(own, left_out);
    if own.is_empty() { own } else { std::iter::once(String::new()).chain(own).collect() }
}

/// Drops directories that lie within others of the list.
pub(crate) fn outermost(mut found: Vec<&str>) -> Vec<&str> {
    found.sort_unstable();
    found.dedup();
    let mut kept: Vec<&str> = Vec::new();
    for directory in found {
        if !kept.iter().any(|above| is_within(directory, above)) {
            kept.push(directory);
        }
    }
    kept
}

/// Packages in which the classes of these coordinates may stand, the likeliest first.
fn candidates(pom: &Pom) -> Vec<String> {
    let artifact = pom.artifact.split('_').next().unwrap_or_default().to_ascii_lowercase();
    let tokens: Vec<&str> = artifact.split(['-', '.']).filter(|token| !token.is_empty()).collect();
    let mut group = pom.group.to_ascii_lowercase().replace('-', "_");
    // Old Apache artifacts are their own group: commons-io:commons-io.
    if pom.group.starts_with("commons-") {
        group = "org.apache.commons".to_owned();
    }
    let parts: Vec<&str> = group.split('.').filter(|part| !part.is_empty()).collect();
    let mut found: Vec<String> = Vec::new();
    let mut add = |base: &[&str], tokens: &[&str], separator: &str| {
        let tail = tokens.join(separator);
        let mut candidate = base.join("/");
        if !tail.is_empty() {
            candidate = format!("{candidate}/{tail}");
        }
        if !found.contains(&candidate) {
            found.push(candidate);
        }
    };
    // A base of one part (`junit`) only when that is the whole group.
    for length in (2.min(parts.len())..=parts.len()).rev().filter(|length| *length > 0) {
        let base = &parts[..length];
        for skip in 0..tokens.len() {
            // Only what the base says already may be left out of the artifact's name.
            let says = |token: &str| base.iter().any(|part| *part == token || alike(part, token));
            if !tokens[..skip].iter().all(|token| says(token)) {
                break;
            }
            let rest = &tokens[skip..];
            for separator in ["/", "", "_"] {
                add(base, rest, separator);
            }
            // `spring-kafka-core` may stand in `kafka`.
            if rest.len() > 1 && length == parts.len() {
                add(base, &rest[..rest.len() - 1], "/");
            }
        }
    }
    // The group alone says the least: other artifacts of it are merged into the same archive as often as not.
    if !parts.is_empty() {
        add(&parts, &[], "/");
    }
    found
}

/// `log4j2` and `log4j`, `lang3` and `lang`.
fn alike(part: &str, token: &str) -> bool {
    let bare = |word: &str| word.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    !bare(part).is_empty() && bare(part) == bare(token)
}

/// Class-name prefixes of directories: `org/slf4j` gives `org.slf4j.`; at most [`MAX_PREFIXES`].
pub(crate) fn prefixes(directories: &[&str], left_out: &mut LeftOut) -> Vec<String> {
    if directories.len() > MAX_PREFIXES {
        left_out.beyond(MAX_PREFIXES, "packages of one component, so their common parents count as its own");
    }
    let mut kept: Vec<&str> = directories.to_vec();
    let mut parts = MAX_PARTS;
    while kept.len() > MAX_PREFIXES && parts > 1 {
        parts -= 1;
        let cut = |directory: &'_ str| {
            directory.match_indices('/').nth(parts - 1).map_or(directory.len(), |(at, _)| at)
        };
        kept = outermost(kept.iter().map(|directory| &directory[..cut(directory)]).collect());
    }
    kept.truncate(MAX_PREFIXES);
    kept.iter().map(|directory| format!("{}.", directory.replace('/', "."))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(coordinates: &str, directories: &[&str], expect: &[&str]) {
        let (group, artifact) = coordinates.split_once(':').unwrap();
        let pom = Pom { group: group.into(), artifact: artifact.into(), ..Pom::default() };
        let all: BTreeMap<String, u64> = directories.iter().map(|name| ((*name).to_owned(), 1)).collect();
        let found = directories_of(&pom, &Directories::new(&all));
        assert_eq!(
            prefixes(&found, &mut LeftOut::default()),
            expect,
            "{coordinates}: {:?}",
            candidates(&pom)
        );
    }

    #[test]
    fn natural_packages() {
        check("org.slf4j:slf4j-api", &["org/slf4j", "org/slf4j/spi", "a"], &["org.slf4j."]);
        let log4j = ["org/apache/logging/log4j", "org/apache/logging/log4j/core/net"];
        check("org.apache.logging.log4j:log4j-core", &log4j, &["org.apache.logging.log4j.core."]);
        check("org.apache.logging.log4j:log4j-api", &log4j, &["org.apache.logging.log4j."]);
        check(
            "com.fasterxml.jackson.core:jackson-databind",
            &["com/fasterxml/jackson/databind/ser", "com/fasterxml/jackson/core"],
            &["com.fasterxml.jackson.databind."],
        );
        check(
            "org.apache.commons:commons-lang3",
            &["org/apache/commons/lang3/math"],
            &["org.apache.commons.lang3."],
        );
        check("commons-io:commons-io", &["org/apache/commons/io"], &["org.apache.commons.io."]);
        check("io.netty:netty-buffer", &["io/netty/buffer", "io/netty/util"], &["io.netty.buffer."]);
        check("com.google.guava:guava", &["com/google/common/base"], &["com.google.common."]);
        check("junit:junit", &["junit/framework", "org/junit/runner"], &["junit.", "org.junit."]);
    }

    #[test]
    fn relocated_packages() {
        check(
            "org.apache.logging.log4j:log4j-core",
            &["com/acme/shaded/org/apache/logging/log4j/core/net", "com/acme"],
            &["com.acme.shaded.org.apache.logging.log4j.core."],
        );
        check(
            "commons-net:commons-net",
            &["org/apache/kafka/shaded/org/apache/commons/net/util"],
            &["org.apache.kafka.shaded.org.apache.commons.net."],
        );
    }

    #[test]
    fn what_coordinates_do_not_tell() {
        check("com.acme:thing", &["net/elsewhere"], &[]);
        check(":", &["a/b"], &[]);
        check("a:b", &[], &[]);
    }

    #[test]
    fn many_prefixes_are_folded() {
        let names: Vec<String> = (0..100).map(|number| format!("com/acme/x{number}/org/slf4j")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        check("org.slf4j:slf4j-api", &names, &["com.acme."]);
    }
}
