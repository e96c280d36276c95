//! What is kept of one jar, war or ear and of the archives in it: manifests, Maven's coordinates, class directories.
//! Pure over the archive's bytes, and bounded whatever these claim; it never sees the archive's name.

use super::manifest::{MAX_MANIFEST_BYTES, Manifest};
use super::properties::{self, MAX_PROPERTIES_BYTES};
use crate::bounds::{LeftOut, bound};
use crate::ownership::Content;
use crate::tree::read_at::read_range;
use crate::tree::{MAX_PATH_BYTES, ReadAt};
use crate::zip::{Archive, Budget, Entry, ZipError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How deep archives within archives are followed; the outer one has depth 0 (real ones stay below 4).
pub(crate) const MAX_DEPTH: usize = 8;
/// Most archives within one file.
pub(crate) const MAX_ARCHIVES: usize = bound(10_000, 1_000);
/// Most Maven coordinates in one archive (a shaded jar has one for each component).
pub(crate) const MAX_POMS: usize = 2_000;
/// Most class directories kept of one archive; more are folded into their parents.
pub(crate) const MAX_CLASS_DIRECTORIES: usize = bound(8_000, 800);
/// Most class directories kept of one file.
pub(super) const MAX_ALL_CLASS_DIRECTORIES: usize = bound(60_000, 2_000);
/// Largest compressed archive within an archive, in bytes: it is inflated into memory.
const MAX_INFLATED_ARCHIVE_BYTES: usize = 256 * 1024 * 1024;
/// Most notes of what could not be read.
pub(super) const MAX_NOTES: usize = 100;

/// Directories in an archive below which its own classes stand.
pub(crate) const CLASS_ROOTS: [&str; 2] = ["BOOT-INF/classes", "WEB-INF/classes"];

/// In front of a `.jmod`'s ZIP archive (JEP 261), in which modules' files stand below `classes`.
pub(super) const JMOD_HEAD: &[u8] = b"JM\x01\x00";
const JMOD_CLASSES: &str = "classes/";

/// Endings of archives that hold classes or other such archives.
pub(crate) const EXTENSIONS: [&str; 6] = [".jar", ".war", ".ear", ".rar", ".sar", ".par"];

/// Maven's coordinates of one component.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Pom {
    pub group: String,
    pub artifact: String,
    pub version: String,
    /// Known by the place of a `pom.xml` only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_directory: bool,
}

/// One archive, the outer one or one within it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Path within the outer archive, nested ones joined by `!/`; empty for the outer one.
    pub path: String,
    pub manifest: Manifest,
    pub poms: Vec<Pom>,
    /// Directories that hold classes, seen from their root (`org/slf4j`), with the number of classes in each.
    pub class_directories: BTreeMap<String, u64>,
    pub class_count: u64,
    /// Sources that a JVM's language compiles when they are used: their classes come from no archive.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_scripts: bool,
    /// Whether it is a `.jmod`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_jmod: bool,
    /// Those of [`CLASS_ROOTS`] that are in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_roots: Vec<String>,
    /// Whether other archives lie in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_archives: bool,
    /// Of an archive within another, as the directory of that one says; `None` for the outer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    #[serde(default, skip_serializing_if = "LeftOut::is_empty")]
    pub left_out: LeftOut,
    /// Version of a module that was linked into a runtime image; empty if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub module_version: String,
}

/// Everything kept of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArchiveDigest {
    pub archives: Vec<Facts>,
    /// What could not be read: place within the file (empty: the file itself), and why.
    pub notes: Vec<(String, String)>,
    /// Notes beyond those kept.
    #[serde(default)]
    pub more_notes: u64,
}

/// The digest function. Empty only when nothing at all can be told.
pub(crate) fn digest(file: &dyn ReadAt) -> Vec<u8> {
    // Writing a structure of strings and numbers cannot fail.
    serde_json::to_vec(&look_into(file)).unwrap_or_default()
}

pub(crate) fn look_into(file: &dyn ReadAt) -> ArchiveDigest {
    let mut looking = Looking {
        found: ArchiveDigest::default(),
        budget: Budget::of(file.size()),
        class_directories: 0,
        memory_bytes: MAX_INFLATED_ARCHIVE_BYTES,
    };
    looking.look(file, "", None, 0);
    looking.found
}

struct Looking {
    found: ArchiveDigest,
    budget: Budget,
    class_directories: usize,
    /// What archives that are being looked into may still take in memory.
    memory_bytes: usize,
}

impl Looking {
    fn note(&mut self, place: &str, reason: impl std::fmt::Display) {
        if self.found.notes.len() < MAX_NOTES {
            self.found.notes.push((place.to_owned(), reason.to_string()));
        } else {
            self.found.more_notes += 1;
        }
    }

    fn look(&mut self, file: &dyn ReadAt, path: &str, content: Option<Content>, depth: usize) {
        let archive = match Archive::open(file, &mut self.budget) {
            Ok(archive) => archive,
            Err(error) => return self.note(path, error),
        };
        if self.found.archives.len() >= MAX_ARCHIVES {
            return self.note(path, format!("there are more than {MAX_ARCHIVES} archives in one file"));
        }
        let at = self.found.archives.len();
        self.found.archives.push(Facts { path: path.to_owned(), content, ..Facts::default() });
        if archive.is_damaged() {
            self.note(path, "its central directory is damaged behind some members, which are missing");
        }
        let is_jmod = read_range(file, 0, JMOD_HEAD.len()).is_ok_and(|head| head == JMOD_HEAD);
        let mut facts = Facts { path: path.to_owned(), content, is_jmod, ..Facts::default() };
        let mut poms_by_directory: Vec<(String, String)> = Vec::new();
        let mut replaced_names = 0;
        for entry in archive.entries().filter(|entry| !entry.is_directory()) {
            let name = String::from_utf8_lossy(entry.name);
            let name = name.as_ref();
            let is_text = name.len() == entry.name.len() && name.as_bytes() == entry.name;
            replaced_names += u64::from(!is_text);
            let name = if is_jmod { name.strip_prefix(JMOD_CLASSES).unwrap_or(name) } else { name };
            if !is_text && is_archive_name(name) {
                self.note(&inner(path, name), "its name is no UTF-8, so it was not looked into");
            } else if let Some(class) = name.strip_suffix(".class") {
                add_class(&mut facts, class);
            } else if let Some(class) = hidden_class(name) {
                add_class(&mut facts, class);
            } else if is_script(name) {
                facts.has_scripts = true;
            } else if name.eq_ignore_ascii_case("META-INF/MANIFEST.MF") {
                match archive.read(&entry, MAX_MANIFEST_BYTES, &mut self.budget) {
                    Ok(bytes) => facts.manifest = Manifest::parse(&bytes, &mut facts.left_out),
                    Err(error) => self.note(&inner(path, name), error),
                }
            } else if name.ends_with("/pom.properties") {
                self.add_pom(&archive, &entry, name, path, &mut facts);
            } else if let Some((group, artifact)) = properties::directory_of(name, "pom.xml") {
                if poms_by_directory.len() < MAX_POMS {
                    poms_by_directory.push((group.to_owned(), artifact.to_owned()));
                } else {
                    facts.left_out.beyond(MAX_POMS, "files pom.xml");
                }
            } else if is_archive_name(name) {
                facts.has_archives = true;
                self.look_into_member(&archive, &entry, &inner(path, name), depth + 1);
            }
        }
        if replaced_names > 0 {
            let what = "of its members have names that are no UTF-8; the bad bytes were replaced";
            self.note(path, format!("{replaced_names} {what}"));
        }
        for (group, artifact) in poms_by_directory {
            add_pom_of_directory(&mut facts, &group, &artifact);
        }
        facts.poms.sort();
        facts.poms.dedup();
        move_class_path_up(&mut facts);
        let left = MAX_ALL_CLASS_DIRECTORIES.saturating_sub(self.class_directories).max(1);
        let bounds = [
            (MAX_CLASS_DIRECTORIES, "directories of classes, so the deepest are told apart no more"),
            (
                left,
                "directories of classes left to this archive in its file, so the deepest are told apart no more",
            ),
        ];
        for (max, what) in bounds {
            if facts.class_directories.len() > max {
                fold(&mut facts.class_directories, max);
                facts.left_out.beyond(max, what);
            }
        }
        self.class_directories += facts.class_directories.len();
        self.found.archives[at] = facts;
    }

    fn add_pom(
        &mut self,
        archive: &Archive<'_>,
        entry: &Entry<'_>,
        name: &str,
        path: &str,
        facts: &mut Facts,
    ) {
        let Some(directory) = properties::directory_of(name, "pom.properties") else { return };
        if facts.poms.len() >= MAX_POMS {
            return facts.left_out.beyond(MAX_POMS, "files pom.properties");
        }
        match archive.read(entry, MAX_PROPERTIES_BYTES, &mut self.budget) {
            Ok(bytes) => match properties::parse(&bytes, directory, &mut facts.left_out) {
                Some(pom) => facts.poms.push(pom),
                None => self.note(&inner(path, name), properties::NO_ARTIFACT),
            },
            Err(error) => self.note(&inner(path, name), error),
        }
    }

    fn look_into_member(&mut self, archive: &Archive<'_>, entry: &Entry<'_>, path: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return self.note(path, format!("it lies more than {MAX_DEPTH} archives deep"));
        }
        if path.len() > MAX_PATH_BYTES {
            return self.note(&path[..path.floor_char_boundary(200)], "its path is too long");
        }
        let content = Some(Content { size_bytes: entry.size_bytes, crc32: entry.crc32 });
        match archive.stored(entry) {
            Ok(Some(member)) => self.look(&member, path, content, depth),
            Ok(None) => match self.inflate(archive, entry) {
                Ok(member) => {
                    self.memory_bytes -= member.len();
                    self.look(&member, path, content, depth);
                    self.memory_bytes += member.len();
                }
                Err(error) => self.note(path, error),
            },
            Err(error) => self.note(path, error),
        }
    }

    fn inflate(&mut self, archive: &Archive<'_>, entry: &Entry<'_>) -> Result<Vec<u8>, ZipError> {
        if entry.size_bytes > self.memory_bytes as u64 {
            return Err(ZipError::TooLong);
        }
        archive.read(entry, self.memory_bytes, &mut self.budget)
    }
}

/// A path within the archive at `path`, which is itself one within the outer one.
fn inner(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}!/{name}") }
}

/// A class that a monitoring agent (OpenTelemetry, Datadog, Elastic) keeps from the application: its archive has it under
/// another ending, in a directory from which the agent's own loader sees it.
fn hidden_class(name: &str) -> Option<&str> {
    const ENDINGS: [&str; 2] = [".classdata", ".esclazz"];
    let class = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))?;
    class.split_once('/').map(|(_, class)| class)
}

/// Of Clojure, JRuby and Jython; not the settings for tools that libraries carry, too.
fn is_script(name: &str) -> bool {
    const ENDINGS: [&str; 4] = [".clj", ".cljc", ".rb", ".py"];
    const NOT_LOADED: [&str; 4] = ["META-INF/", "clj-kondo", "data_readers.clj", "project.clj"];
    ENDINGS.iter().any(|ending| name.ends_with(ending))
        && !NOT_LOADED.iter().any(|begin| name.starts_with(begin))
}

pub(crate) fn is_archive_name(name: &str) -> bool {
    let start = name.len().saturating_sub(4);
    name.get(start..)
        .is_some_and(|end| EXTENSIONS.iter().any(|extension| end.eq_ignore_ascii_case(extension)))
}

/// The root below which a class stands, if any, and its place seen from there; in multi-release jars the part for later
/// versions of Java is no root of its own (JAR File Specification).
pub(super) fn without_root(class: &str) -> (Option<&'static str>, &str) {
    let below = |root: &str| class.strip_prefix(root).and_then(|rest| rest.strip_prefix('/'));
    let root = CLASS_ROOTS.into_iter().find(|root| below(root).is_some());
    let name = root.and_then(below).unwrap_or(class);
    let of_version = name.strip_prefix("META-INF/versions/").and_then(|rest| rest.split_once('/'));
    (root, of_version.map_or(name, |(_, rest)| rest))
}

/// Counts one class, named without its ending.
pub(super) fn add_class(facts: &mut Facts, class: &str) {
    let (root, name) = without_root(class);
    if let Some(root) = root.filter(|root| !facts.class_roots.iter().any(|known| known == root)) {
        facts.class_roots.push(root.to_owned());
    }
    if name.starts_with("META-INF/") || name.ends_with("module-info") {
        return;
    }
    facts.class_count += 1;
    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
    if let Some(count) = facts.class_directories.get_mut(directory) {
        *count += 1;
    } else if facts.class_directories.len() >= 2 * MAX_CLASS_DIRECTORIES {
        facts.left_out.beyond(2 * MAX_CLASS_DIRECTORIES, "directories of classes");
    } else if directory.len() > MAX_PATH_BYTES {
        facts.left_out.beyond(MAX_PATH_BYTES, "bytes in the name of a class");
    } else {
        facts.class_directories.insert(directory.to_owned(), 1);
    }
}

/// A `pom.xml` without `pom.properties` beside it (reproducible builds leave that out) still names its directory.
fn add_pom_of_directory(facts: &mut Facts, group: &str, artifact: &str) {
    let known = facts.poms.iter().any(|pom| pom.artifact == artifact && pom.group == group);
    if let (false, Some(group), Some(artifact)) =
        (known, properties::acceptable(group), properties::acceptable(artifact))
    {
        if facts.poms.len() >= MAX_POMS {
            return facts.left_out.beyond(MAX_POMS, "components");
        }
        facts.poms.push(Pom { group, artifact, version: String::new(), by_directory: true });
    }
}

/// Classes below a directory of a bundle's class path are named as seen from there.
fn move_class_path_up(facts: &mut Facts) {
    // The deepest first: one may lie within another.
    let mut roots = facts.manifest.class_path.clone();
    roots.sort_by_key(|root| std::cmp::Reverse(root.len()));
    for root in roots {
        let is_below = |directory: &str| {
            directory.strip_prefix(root.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let (below, kept) =
            std::mem::take(&mut facts.class_directories).into_iter().partition(|(name, _)| is_below(name));
        let below: BTreeMap<String, u64> = below;
        facts.class_directories = kept;
        if !below.is_empty() && !facts.class_roots.contains(&root) {
            facts.class_roots.push(root.clone());
        }
        for (directory, count) in below {
            let name = directory[root.len()..].trim_start_matches('/').to_owned();
            *facts.class_directories.entry(name).or_insert(0) += count;
        }
    }
}

/// Folds the deepest directories into their parents until at most `max` are left.
fn fold(directories: &mut BTreeMap<String, u64>, max: usize) {
    let mut depth = 12;
    while directories.len() > max && depth > 0 {
        let mut folded = BTreeMap::new();
        for (directory, count) in std::mem::take(directories) {
            let end = directory.match_indices('/').nth(depth - 1).map_or(directory.len(), |(at, _)| at);
            *folded.entry(directory[..end].to_owned()).or_insert(0) += count;
        }
        *directories = folded;
        depth -= 1;
    }
    while directories.len() > max {
        directories.pop_last();
    }
}
