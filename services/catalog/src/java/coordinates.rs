//! Which components one archive is made of, and how that is known: `pom.properties`, `pom.xml`, manifest, file name.
//! Never invents a version, and says of each component by what it was identified.

use super::archive::{Facts, Pom};
use super::classes::{self, Directories};
use super::group;
use super::properties::acceptable;
use crate::bounds::LeftOut;

/// By what a component was identified, the surest first.
pub(crate) mod identified_by {
    pub const POM_PROPERTIES: &str = "pom.properties";
    pub const POM_DIRECTORY: &str = "directory of pom.xml";
    pub const MANIFEST: &str = "manifest";
    pub const FILE_NAME: &str = "file name";
    pub const MODULE: &str = "module name";
}

/// Most class prefixes of one archive, over all components.
const MAX_PREFIXES: usize = 1_000;
/// Most bytes of them.
const MAX_PREFIX_BYTES: usize = 64 * 1024;
/// Parts of a prefix from which shortening begins.
const MAX_PREFIX_PARTS: usize = 12;

/// One component of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Component {
    pub group: String,
    pub artifact: String,
    /// Empty if nothing tells.
    pub version: String,
    pub identified_by: &'static str,
    /// Class-name prefixes that are its own; empty for the only component, and for those that nothing tells of. The list of
    /// the main one, which owns the rest, begins with the empty prefix.
    pub prefixes: Vec<String>,
}

/// Words that follow a version in a file name: classifiers, and qualifiers of versions.
const TAILS: &[&str] = &[
    "aarch_64",
    "all",
    "alpha",
    "android",
    "beta",
    "boot",
    "bom",
    "classes",
    "cr",
    "dependencies",
    "dev",
    "dist",
    "exec",
    "fat",
    "final",
    "ga",
    "incubating",
    "jar",
    "javadoc",
    "jdk15on",
    "jdk5",
    "jdk8",
    "jre",
    "jre11",
    "jre17",
    "jre7",
    "jre8",
    "linux",
    "m",
    "milestone",
    "native",
    "nodep",
    "osx",
    "preview",
    "rc",
    "release",
    "runner",
    "scala",
    "sec",
    "shaded",
    "snapshot",
    "sources",
    "sp",
    "standalone",
    "test",
    "tests",
    "uber",
    "windows",
    "with",
    "x86_32",
    "x86_64",
];

/// The components of an archive that is called `file_name`; at least one.
///
/// `groups_in_names`: the files beside it are called `group.artifact-version.jar`, as Quarkus does.
pub(crate) fn identify(
    facts: &Facts,
    file_name: &str,
    groups_in_names: bool,
    left_out: &mut LeftOut,
) -> Vec<Component> {
    let directories = Directories::new(&facts.class_directories);
    if facts.poms.len() > 1 && directories.has_deeper {
        left_out
            .beyond(classes::MAX_PARTS, "parts in the package of a class, of which the first are compared");
    }
    let name = FileName::parse(file_name);
    let claims: Vec<Vec<&str>> =
        facts.poms.iter().map(|pom| classes::directories_of(pom, &directories)).collect();
    let main = main_pom(facts, &name);
    let manifest = &facts.manifest;
    let main_class =
        if manifest.start_class.is_empty() { &manifest.main_class } else { &manifest.start_class };
    let mut found: Vec<Component> = facts
        .poms
        .iter()
        .zip(&claims)
        .enumerate()
        .map(|(index, (pom, claimed))| {
            let is_main = main == Some(index);
            Component {
                group: pom.group.clone(),
                artifact: pom.artifact.clone(),
                version: version_of(pom, is_main, facts, &name),
                identified_by: if pom.by_directory {
                    identified_by::POM_DIRECTORY
                } else {
                    identified_by::POM_PROPERTIES
                },
                prefixes: if is_main {
                    classes::main_prefixes(claimed, left_out)
                } else {
                    classes::prefixes(claimed, left_out)
                },
            }
        })
        .collect();
    if main.is_none() {
        let claimed: Vec<&str> = claims.iter().flatten().copied().collect();
        let unclaimed = directories.classes_outside(&claimed);
        let names_itself = !name.version.is_empty() || !facts.manifest.version().is_empty();
        // Another version in the file's name is that of something around the component.
        let may_be_it = |pom: &Pom| {
            [&pom.version, &name.version].iter().any(|version| version.is_empty())
                || pom.version == name.version
        };
        let only_renamed =
            found.len() == 1 && (!names_itself || (claimed.is_empty() && may_be_it(&facts.poms[0])));
        if found.is_empty() || (unclaimed > 0 && !only_renamed) {
            let mut whole = fallback(facts, &name, &claimed, groups_in_names);
            let pom = Pom { group: whole.group.clone(), artifact: whole.artifact.clone(), ..Pom::default() };
            let own = classes::own_directories(&pom, true, main_class, &directories);
            whole.prefixes = classes::main_prefixes(&own, left_out);
            found.push(whole);
        }
    }
    if found.len() == 1 {
        found[0].prefixes.clear();
    }
    bound_prefixes(&mut found, left_out);
    found
}

/// Keeps the prefixes of one archive within what an event may carry: all are shortened alike, none is dropped.
pub(crate) fn bound_prefixes(components: &mut [Component], left_out: &mut LeftOut) {
    let is_within = |components: &[Component]| {
        let all = || components.iter().flat_map(|component| &component.prefixes);
        all().count() <= MAX_PREFIXES && all().map(String::len).sum::<usize>() <= MAX_PREFIX_BYTES
    };
    if is_within(components) {
        return;
    }
    left_out.beyond(
        MAX_PREFIXES,
        "prefixes of classes or too long ones, so components are told apart by shorter ones",
    );
    for parts in (1..MAX_PREFIX_PARTS).rev() {
        if is_within(components) {
            return;
        }
        for component in components.iter_mut() {
            for prefix in &mut component.prefixes {
                if let Some((end, _)) = prefix.match_indices('.').nth(parts - 1) {
                    prefix.truncate(end + 1);
                }
            }
            component.prefixes.sort();
            component.prefixes.dedup();
        }
    }
    if !is_within(components) {
        // Nobody's classes are told apart then: a use stays ambiguous.
        components.iter_mut().for_each(|component| component.prefixes.clear());
    }
}

fn version_of(pom: &Pom, is_main: bool, facts: &Facts, name: &FileName) -> String {
    if !pom.version.is_empty() || !is_main {
        return pom.version.clone();
    }
    if !name.version.is_empty() {
        return name.version.clone();
    }
    acceptable(facts.manifest.version()).unwrap_or_default()
}

/// Which of the coordinates are those of the archive itself, the others being merged into it.
fn main_pom(facts: &Facts, name: &FileName) -> Option<usize> {
    let poms = &facts.poms;
    let by = |matches: &dyn Fn(&Pom) -> bool| -> Option<usize> {
        let mut found = poms.iter().enumerate().filter(|(_, pom)| matches(pom));
        let first = found.next()?.0;
        // Several that fit: none is known to be it.
        found.next().is_none().then_some(first)
    };
    let version =
        |pom: &Pom| pom.version.is_empty() || name.version.is_empty() || pom.version == name.version;
    // `artifact-version-classifier`, whatever the classifier is.
    let has_classifier = |pom: &Pom| {
        let rest = name.whole.strip_prefix(pom.artifact.as_str()).and_then(|rest| rest.strip_prefix('-'));
        let rest = rest.and_then(|rest| rest.strip_prefix(pom.version.as_str()));
        !pom.version.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    // As the file is called, as a bundle is called, as the manifest says, as the main class is called.
    by(&|pom| pom.artifact == name.artifact && version(pom))
        .or_else(|| by(&has_classifier))
        .or_else(|| by(&|pom| pom.artifact == name.artifact))
        .or_else(|| by(&|pom| name.whole.ends_with(&format!(".{}", pom.artifact)) && version(pom)))
        .or_else(|| {
            let title = facts.manifest.implementation_title.to_ascii_lowercase();
            by(&|pom| !title.is_empty() && pom.artifact.to_ascii_lowercase() == title)
        })
        .or_else(|| {
            let symbolic = &facts.manifest.bundle_symbolic_name;
            by(&|pom| {
                !symbolic.is_empty()
                    && (*symbolic == pom.artifact || *symbolic == format!("{}.{}", pom.group, pom.artifact))
            })
        })
        .or_else(|| {
            let manifest = &facts.manifest;
            let class =
                if manifest.start_class.is_empty() { &manifest.main_class } else { &manifest.start_class };
            by(&|pom| pom.group.contains('.') && class.starts_with(&format!("{}.", pom.group)))
        })
        // A name with another spelling but the very version.
        .or_else(|| {
            (poms.len() == 1 && !name.version.is_empty()).then(|| by(&|pom| pom.version == name.version))?
        })
}

/// The archive itself, of which nothing of Maven's is in it.
fn fallback(facts: &Facts, name: &FileName, claimed: &[&str], groups_in_names: bool) -> Component {
    let manifest = &facts.manifest;
    if groups_in_names && let Some((group, artifact)) = name.split_group() {
        return Component {
            group,
            artifact,
            version: name.version.clone(),
            identified_by: identified_by::FILE_NAME,
            prefixes: Vec::new(),
        };
    }
    let title =
        acceptable(&manifest.implementation_title).filter(|title| !title.contains(['(', ',', '@', '[']));
    // The title is the better name only where the file's says nothing of itself.
    let artifact = match title {
        Some(title) if name.version.is_empty() && !name.artifact.contains('-') => title,
        _ => acceptable(&name.artifact).unwrap_or_else(|| "unknown".to_owned()),
    };
    let version = if name.version.is_empty() {
        acceptable(manifest.version()).unwrap_or_default()
    } else {
        name.version.clone()
    };
    let (group, group_of_manifest) = group::guess(facts, &artifact, claimed);
    let version_of_manifest = !manifest.version().is_empty() && manifest.version() == version;
    Component {
        group,
        artifact,
        version,
        identified_by: if version_of_manifest || group_of_manifest {
            identified_by::MANIFEST
        } else {
            identified_by::FILE_NAME
        },
        prefixes: Vec::new(),
    }
}

/// A file name taken apart: `artifact-version-classifier.jar`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FileName {
    /// Without the ending.
    whole: String,
    artifact: String,
    version: String,
}

impl FileName {
    /// `org.acme.things` and `thing-one` of `org.acme.things.thing-one`.
    fn split_group(&self) -> Option<(String, String)> {
        let name = self.artifact.strip_prefix("modified-").unwrap_or(&self.artifact);
        let (group, artifact) = name.rsplit_once('.')?;
        Some((acceptable(group)?, acceptable(artifact)?))
    }

    fn parse(file_name: &str) -> Self {
        let whole = file_name.rsplit_once('.').map_or(file_name, |(stem, _)| stem);
        for (at, separator) in whole.char_indices() {
            // Eclipse's bundles have an underscore; Scala's have one in the artifact.
            let is_separator = separator == '-' || (separator == '_' && whole[..at].contains('.'));
            let rest = &whole[at + separator.len_utf8()..];
            if is_separator
                && at > 0
                && rest.starts_with(|c: char| c.is_ascii_digit())
                && let Some(version) = version_in(rest)
                && let Some(version) = acceptable(version)
            {
                return Self { whole: whole.to_owned(), artifact: whole[..at].to_owned(), version };
            }
        }
        Self { whole: whole.to_owned(), artifact: whole.to_owned(), version: String::new() }
    }
}

/// Whether an archive of these coordinates is called `group.artifact-version`.
pub(crate) fn names_its_group(facts: &Facts, file_name: &str) -> bool {
    facts.poms.iter().any(|pom| {
        let rest = file_name.strip_prefix(pom.group.as_str()).and_then(|rest| rest.strip_prefix('.'));
        let rest = rest.and_then(|rest| rest.strip_prefix(pom.artifact.as_str()));
        pom.group.contains('.') && rest.is_some_and(|rest| rest.starts_with('-'))
    })
}

/// The version at the beginning of `text`, if nothing but qualifiers and classifiers follows.
fn version_in(text: &str) -> Option<&str> {
    let mut end = 0;
    let mut in_version = true;
    for (index, token) in text.split('-').enumerate() {
        let length = token.len() + usize::from(index > 0);
        let bare = token.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').to_ascii_lowercase();
        let is_number = token.starts_with(|c: char| c.is_ascii_digit());
        let is_tail = TAILS.contains(&bare.as_str()) || TAILS.contains(&token.to_ascii_lowercase().as_str());
        if !is_number && !is_tail {
            return None;
        }
        let is_qualifier = matches!(
            bare.as_str(),
            "alpha"
                | "beta"
                | "rc"
                | "m"
                | "cr"
                | "sp"
                | "final"
                | "ga"
                | "release"
                | "snapshot"
                | "jre"
                | "android"
                | "incubating"
                | "preview"
                | "milestone"
                | "scala"
                | "sec"
        );
        in_version &= is_number || is_qualifier;
        if in_version {
            end += length;
        }
    }
    (end > 0).then(|| &text[..end])
}

#[cfg(test)]
#[path = "coordinates_tests.rs"]
mod tests;
