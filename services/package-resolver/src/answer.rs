//! Answers who owns a path of a root: the package databases, drift against the image, and the file's identity.
//! Never answers "unowned" when it could not look, and never follows a link out of the root.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Instant;

use plimsoll_catalog::ownership::{archive_of, place_in_archive};
use plimsoll_catalog::tree::{TreeError, path as paths};
use plimsoll_catalog::{DirectoryTree, FileTree, OwnershipIndex, PackageKind};
use plimsoll_schemas::events::{Owner, PackageOwnership};
use plimsoll_schemas::identity::Sha256Digest;
use plimsoll_schemas::resolver_protocol::PathQuery;
use plimsoll_schemas::words::classes_within;
use plimsoll_schemas::words::{
    COPY_OF_ANY_FILE, FILE_IDENTITY_IMAGE, PATH_MAX_BYTES, archive_elsewhere, copied_file_of, drift,
    java_package_of, ownership_state,
};

use crate::beneath;
use crate::contents::Contents;
use crate::copies::{Judged, Places, Used};
use crate::drift::{Facts, Lower, Upper, Verdict, decide};
use crate::index_cache::{Found, Indexed};
use crate::java_package;
use crate::roots::Root;

/// Most bytes of the owners of one path that are named, about 4,000 of them: programs are linked from thousands of crates
/// or modules, and the event has to fit into a record of 1 MiB, in the topic and in the correlator's state.
pub(crate) const OWNERS_MAX_BYTES: usize = 700 * 1024;
/// What an owner takes beside its texts: their lengths, in bytes.
const OWNER_FRAME_BYTES: usize = 32;

/// Digits that tell apart the packages of which files may be copies, where they are called the same.
const COPY_DIGITS: usize = 12;

/// One root, ready to be asked.
pub struct Question<'q> {
    /// Artifact key.
    pub artifact: &'q str,
    /// The root.
    pub root: &'q Root,
    /// Its tree.
    pub tree: &'q DirectoryTree,
    /// The host's root, of a component.
    pub host: Option<&'q Root>,
    /// Its index.
    pub found: &'q Found,
    /// What files hold.
    pub contents: &'q Contents,
    /// When the question arrived.
    pub asked_at: Instant,
    /// Time of the answer, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

impl Question<'_> {
    /// The answer for one path. May take as long as the file system does.
    pub fn answer(&self, asked: &PathQuery) -> PackageOwnership {
        let path = asked.path.as_slice();
        if let Some(refused) = refuse(self.artifact, path, self.now_ms) {
            return refused;
        }
        if let Some(used) = copied_file_of(path) {
            return self.possible_copy(asked, used);
        }
        if let Some((archive, directory)) = classes_within(path) {
            let resolved = self.tree.resolve(archive).ok().map(|resolved| resolved.path);
            let place =
                resolved.or_else(|| place_in_archive(self.tree, archive).map(|place| place.canonical));
            let index = &self.found.current.index;
            let places = [place.as_deref().unwrap_or(archive), archive];
            return java_package::within(self.artifact, index, places, path, directory, self.now_ms);
        }
        if let Some(used) = archive_elsewhere(path) {
            return self.used_elsewhere(path, used);
        }
        self.answer_own(path)
    }

    pub(crate) fn answer_own(&self, path: &[u8]) -> PackageOwnership {
        if let Some(directory) = java_package_of(path) {
            return self.java_package(path, directory);
        }
        match self.tree.resolve(path) {
            Ok(resolved) => {
                let entry = self.present(path, &resolved.path, &resolved.path);
                self.as_unpacked(entry, &resolved.path, b"")
            }
            Err(error) if error.is_not_found() => match place_in_archive(self.tree, path) {
                // What an archive holds changes with the archive.
                Some(place) => {
                    let entry = self.present(path, &place.canonical, &place.archive);
                    self.as_unpacked(entry, &place.archive, &place.canonical[place.archive.len()..])
                }
                None => self.gone(path),
            },
            Err(error) => self.unreadable(path, &error),
        }
    }

    /// A file was used at a place that no scan lists.
    fn possible_copy(&self, asked: &PathQuery, path: &[u8]) -> PackageOwnership {
        // It may be on a volume, and hide what the image has there. Nobody can look behind it.
        let hides = !self.root.component
            && !matches!(self.root.layers().map(|layers| layers.has(path)), Some(Ok(false)));
        let drift = if hides { drift::MODIFIED } else { drift::UNKNOWN };
        let unresolved = |path: &[u8], reason: &str| PackageOwnership {
            drift: drift.into(),
            ..unresolved(self.artifact, path, reason, self.now_ms)
        };
        let used_in = match (self.root.component, self.host) {
            (false, _) => self.root,
            (true, Some(host)) => host,
            (true, None) => return unresolved(&asked.path, "the host's root is not open"),
        };
        // A container that was removed leaves an empty root: of that no index tells anything.
        if self.tree.list(b"").map_or(true, |names| names.is_empty()) {
            return unresolved(&asked.path, "the workload's root is gone");
        }
        let used = Used { path, inode: asked.inode, changed_ms: asked.changed_ms };
        let places = Places { own: self.root.directory(), used: used_in.directory() };
        let copies = match places.judge(self.found.current.files(self.tree), &used) {
            Judged::Own(own) => return self.answer_own(&own),
            Judged::Copies(copies) => copies,
            Judged::Nothing => Vec::new(),
            Judged::Unknown(reason) => return unresolved(&asked.path, reason),
        };
        let index = &self.found.current.index;
        let found: Vec<_> = copies.iter().filter_map(|own| index.lookup(own)).collect();
        let of_application =
            |owner: &&plimsoll_catalog::Owner<'_>| owner.package.kind == PackageKind::Application;
        let owners = found.iter().flat_map(|found| &found.owners).filter(of_application).map(owner_of);
        // Each package once, in one order, whichever of its files was used.
        let owners: BTreeMap<(String, String), Owner> =
            owners.map(|owner| ((owner.purl.clone(), owner.package_id.clone()), owner)).collect();
        let mut owners: Vec<Owner> = owners.into_values().collect();
        let Some(first) = owners.first() else {
            return PackageOwnership {
                state: ownership_state::UNOWNED.into(),
                ..unresolved(&asked.path, "")
            };
        };
        let ids: Vec<&str> = owners.iter().map(|owner| owner.package_id.as_str()).collect();
        let digest = Sha256Digest::of(ids.join(" ").as_bytes()).to_string();
        let name = format!("{}#{}", first.purl, &digest[digest.len() - COPY_DIGITS..]);
        if bound_owners(&mut owners, OWNERS_MAX_BYTES) > 0 {
            return unresolved(&asked.path, "it may be a copy of files of more packages than can be named");
        }
        let reason = format!("/{} was used", paths::display(path));
        PackageOwnership { owners, ..unresolved(&[COPY_OF_ANY_FILE, name.as_bytes()].concat(), &reason) }
    }

    /// The path stands for the Java package in `directory`.
    fn java_package(&self, path: &[u8], directory: &[u8]) -> PackageOwnership {
        let since = self.root.asked.since(path, self.asked_at);
        if !self.found.has_archives_until(self.root, since) {
            self.root.asked.waits(path, since);
            let reason =
                "archives may have been added since the packages were looked at; they are looked at again";
            return unresolved(self.artifact, path, reason, self.now_ms);
        }
        self.root.asked.answered(path);
        // An archive of the image or of the list may have been deleted since a class came from it.
        let base = self.found.base.clone().filter(|_| self.root.is_replica);
        let first = self.root.first.get().and_then(Weak::upgrade);
        let former: Vec<Arc<Indexed>> = base.into_iter().chain(first).collect();
        java_package::answer(self.artifact, &self.found.current, &former, path, directory, self.now_ms)
    }

    /// `file` is the file that tells whether something changed: `canonical` itself, or the archive that it lies in.
    fn present(&self, path: &[u8], canonical: &[u8], file: &[u8]) -> PackageOwnership {
        let mut entry = self.owned(path, canonical);
        let base = self.found.base.as_ref().filter(|_| self.root.is_replica);
        let in_image = base.map(|base| {
            let mut owners = self.owners(&base.index, path, canonical).unwrap_or_default();
            // As the entry's are.
            bound_owners(&mut owners, OWNERS_MAX_BYTES);
            owners
        });
        let (upper, content) = match self.upper(file) {
            Ok(known) => known,
            Err(error) => return self.cannot_read(path, &error),
        };
        let facts = Facts {
            upper,
            same_owners_as_image: in_image.as_ref().map(|in_image| *in_image == entry.owners),
            owned_in_image: in_image.is_some_and(|in_image| !in_image.is_empty()),
        };
        let Verdict { drift, by_content } = decide(facts);
        entry.drift = drift.into();
        if by_content {
            let digest = match content {
                Some(digest) => Ok(Some(digest)),
                None => beneath::open_regular(self.root.directory(), file)
                    .and_then(|file| self.contents.digest(file)),
            };
            match digest {
                Ok(Some(digest)) => entry.file_identity = digest.to_string(),
                Ok(None) => {}
                Err(error) => return self.cannot_read(path, &error),
            }
        }
        entry
    }

    /// What the container did to the file, and its digest if that took reading it.
    fn upper(&self, canonical: &[u8]) -> io::Result<(Upper, Option<Sha256Digest>)> {
        let Some(upper) = self.root.upper() else { return Ok((Upper::Unknown, None)) };
        let Some(stat) = beneath::look(upper, canonical)? else { return Ok((Upper::Untouched, None)) };
        if !beneath::is_regular(&stat) {
            // Classes may lie unpacked in a directory that the container made.
            let is_new = beneath::is_directory(&stat)
                && self.root.layers().is_some_and(|layers| matches!(layers.has(canonical), Ok(false)));
            return Ok((if is_new { Upper::Written(Lower::Absent) } else { Upper::Unknown }, None));
        }
        let content = self.contents.written(self.artifact, self.root, canonical, &stat)?;
        Ok(content
            .map_or((Upper::Unknown, None), |content| (Upper::Written(content.lower), Some(content.digest))))
    }

    /// No such file any more: judged by its name.
    fn gone(&self, path: &[u8]) -> PackageOwnership {
        let mut entry = self.owned(path, path);
        entry.drift = drift::UNKNOWN.into();
        // Made by the container and deleted since.
        let layers = self.root.upper().and_then(|_| self.root.layers());
        if layers.is_some_and(|layers| matches!(layers.open_regular(archive_of(path)), Ok(None))) {
            entry.drift = drift::NEW.into();
        }
        if entry.reason.is_empty() {
            entry.reason = "the file is gone; judged by its name".into();
        }
        entry
    }

    /// It stands there but could not be opened. Its name may still tell; another mount hides the image's file.
    fn unreadable(&self, path: &[u8], error: &TreeError) -> PackageOwnership {
        let entry = self.owned(path, path);
        if entry.state == ownership_state::OWNED && !matches!(error, TreeError::OtherMount { .. }) {
            return PackageOwnership { drift: drift::UNKNOWN.into(), reason: error.to_string(), ..entry };
        }
        unresolved(self.artifact, path, &error.to_string(), self.now_ms)
    }

    fn cannot_read(&self, path: &[u8], error: &io::Error) -> PackageOwnership {
        let reason =
            format!("{}: its contents cannot be compared with the image's: {error}", paths::display(path));
        unresolved(self.artifact, path, &reason, self.now_ms)
    }

    fn owned(&self, path: &[u8], canonical: &[u8]) -> PackageOwnership {
        let current = &self.found.current;
        let owners = self.owners(&current.index, path, canonical);
        let mut entry = by_index(self.artifact, current, owners, path, canonical, self.now_ms);
        if entry.state == ownership_state::UNOWNED
            && let Some(gap) = current.gap(canonical)
        {
            entry = unresolved(self.artifact, path, &gap, self.now_ms);
        } else if let Some(doubt) = current.doubt(self.root, self.tree, path) {
            self.root.doubted.waits(path, self.asked_at);
            // The operating system's own database speaks of all paths, and was read: the role says so.
            entry.owners.retain(|owner| owner.kind == PackageKind::Os.as_str());
            entry.state = ownership_state::UNRESOLVED.into();
            entry.reason = format!(
                "{doubt}; of the host outside the component's root only what lies near the used files is looked at"
            );
        }
        entry
    }

    fn owners(&self, index: &OwnershipIndex, path: &[u8], canonical: &[u8]) -> Option<Vec<Owner>> {
        owners(index, path, canonical, self.root.component)
    }
}

/// Owners by the canonical path, else by the path as given.
fn owners(index: &OwnershipIndex, path: &[u8], canonical: &[u8], component: bool) -> Option<Vec<Owner>> {
    let found = index.lookup(canonical).or_else(|| index.lookup(path))?;
    let counts =
        |owner: &&plimsoll_catalog::Owner<'_>| !component || owner.package.kind == PackageKind::Application;
    let owners: Vec<Owner> = found.owners.iter().filter(counts).map(owner_of).collect();
    (!owners.is_empty()).then_some(owners)
}

/// An owner as events name it.
pub(crate) fn owner_of(owner: &plimsoll_catalog::Owner<'_>) -> Owner {
    Owner {
        package_id: owner.package.package_id.clone(),
        purl: owner.package.purl.clone(),
        name: owner.package.name.clone(),
        version: owner.package.version.clone(),
        kind: owner.package.kind.as_str().into(),
        ecosystem: owner.package.ecosystem.into(),
        class_prefixes: owner.class_prefixes.to_vec(),
    }
}

/// Leaves out owners beyond `max_bytes`; how many. Those of the crowd's ecosystem go first: the program of a package must
/// not lose its package to the crates that are linked into it.
pub(crate) fn bound_owners(owners: &mut Vec<Owner>, max_bytes: usize) -> usize {
    let size = |owner: &Owner| -> usize {
        let texts =
            [&owner.package_id, &owner.purl, &owner.name, &owner.version, &owner.kind, &owner.ecosystem];
        let prefixes = owner.class_prefixes.iter().map(|prefix| prefix.len() + 4).sum::<usize>();
        texts.into_iter().map(String::len).sum::<usize>() + prefixes + OWNER_FRAME_BYTES
    };
    if owners.iter().map(size).sum::<usize>() <= max_bytes {
        return 0;
    }
    let mut crowds: HashMap<String, usize> = HashMap::new();
    owners.iter().for_each(|owner| *crowds.entry(owner.ecosystem.clone()).or_default() += 1);
    owners.sort_by_key(|owner| crowds[&owner.ecosystem]);
    let mut left = max_bytes;
    let fits = |owner: &&Owner| {
        let rest = left.checked_sub(size(owner));
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    let kept = owners.iter().take_while(fits).count();
    let cut = owners.len() - kept;
    owners.truncate(kept);
    cut
}

fn by_index(
    artifact: &str,
    indexed: &Indexed,
    owners: Option<Vec<Owner>>,
    path: &[u8],
    canonical: &[u8],
    now_ms: i64,
) -> PackageOwnership {
    let mut entry = PackageOwnership {
        artifact: artifact.to_owned(),
        path: path.to_vec(),
        file_identity: FILE_IDENTITY_IMAGE.into(),
        state: ownership_state::UNOWNED.into(),
        resolved_at_ms: now_ms,
        ..PackageOwnership::default()
    };
    let Some(mut owners) = owners else {
        entry.role = plimsoll_catalog::role_of(canonical).as_str().into();
        return entry;
    };
    let found = indexed.index.lookup(canonical).or_else(|| indexed.index.lookup(path));
    if let Some(found) = found {
        let first = found.owners.iter().find(|owner| owner.package.package_id == owners[0].package_id);
        entry.method = first.map_or(found.method, |owner| owner.method).into();
        entry.role = found.role.as_str().into();
    }
    entry.state = ownership_state::OWNED.into();
    match bound_owners(&mut owners, OWNERS_MAX_BYTES) {
        0 => {}
        cut => {
            // The owners that are named are; but any package may be one of those that are not.
            entry.state = ownership_state::UNRESOLVED.into();
            entry.reason = format!(
                "it has {} owners, of which the {} that fit into {OWNERS_MAX_BYTES} bytes are named",
                owners.len() + cut,
                owners.len()
            );
        }
    }
    entry.owners = owners;
    entry
}

/// The answer for a root that cannot be looked at, from what is known of the same image.
pub fn without_root(
    artifact: &str,
    indexed: Option<&Arc<Indexed>>,
    path: &[u8],
    reason: &str,
    now_ms: i64,
) -> PackageOwnership {
    if let Some(refused) = refuse(artifact, path, now_ms) {
        return refused;
    }
    let needs_root = copied_file_of(path).is_some() || archive_elsewhere(path).is_some();
    let Some(indexed) = indexed.filter(|_| !needs_root) else {
        return unresolved(artifact, path, reason, now_ms);
    };
    if let Some((archive, directory)) = classes_within(path) {
        return java_package::within(artifact, &indexed.index, [archive; 2], path, directory, now_ms);
    }
    if let Some(directory) = java_package_of(path) {
        return java_package::answer(artifact, indexed, &[], path, directory, now_ms);
    }
    match owners(&indexed.index, path, path, false) {
        Some(owners) => PackageOwnership {
            drift: drift::UNKNOWN.into(),
            reason: format!("{reason}; judged by another container of the image"),
            ..by_index(artifact, indexed, Some(owners), path, path, now_ms)
        },
        None => {
            let reason = format!("{reason}, and no package of the image lists this path");
            unresolved(artifact, path, &reason, now_ms)
        }
    }
}

/// An answer that says that there is none, and why.
pub fn unresolved(artifact: &str, path: &[u8], reason: &str, now_ms: i64) -> PackageOwnership {
    PackageOwnership {
        artifact: artifact.to_owned(),
        path: path.to_vec(),
        file_identity: FILE_IDENTITY_IMAGE.into(),
        state: ownership_state::UNRESOLVED.into(),
        reason: reason.to_owned(),
        drift: drift::UNKNOWN.into(),
        resolved_at_ms: now_ms,
        ..PackageOwnership::default()
    }
}

/// A path that no event may carry.
fn refuse(artifact: &str, path: &[u8], now_ms: i64) -> Option<PackageOwnership> {
    let reason = if path.is_empty() {
        "the path is empty"
    } else if path.len() > PATH_MAX_BYTES {
        "the path is longer than 4096 bytes"
    } else if path.contains(&0) {
        "the path contains a NUL byte"
    } else {
        return None;
    };
    Some(unresolved(artifact, path, reason, now_ms))
}

/// Whether an event may carry the path of this answer. That a file is no copy is no news but to who asked.
pub fn is_publishable(entry: &PackageOwnership) -> bool {
    let is_news = copied_file_of(&entry.path).is_none() || !entry.owners.is_empty();
    let is_news =
        is_news && classes_within(&entry.path).is_none() && archive_elsewhere(&entry.path).is_none();
    is_news && !entry.path.is_empty() && entry.path.len() <= PATH_MAX_BYTES && !entry.path.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(crates: usize, max_bytes: usize, kept: usize) {
        let owner = |ecosystem: &str, number: usize| Owner {
            package_id: format!("{number:064}"),
            ecosystem: ecosystem.into(),
            ..Owner::default()
        };
        let mut owners: Vec<Owner> = (0..crates).map(|number| owner("cargo", number)).collect();
        owners.extend([owner("pypi", crates), owner("debian", crates + 1)]);
        let cut = bound_owners(&mut owners, max_bytes);
        assert_eq!((owners.len(), cut), (kept, crates + 2 - kept), "{crates} {max_bytes}");
        for ecosystem in ["pypi", "debian"] {
            assert!(owners.iter().any(|owner| owner.ecosystem == ecosystem), "{crates}: {ecosystem} is cut");
        }
    }

    #[test]
    fn the_crowd_is_cut_before_what_carries_it() {
        check(532, OWNERS_MAX_BYTES, 534);
        check(4_000, OWNERS_MAX_BYTES, 4_002);
        // 64 + 5 + 32 bytes for each crate, 3 less and 3 less for the others.
        check(4_000, 10_202 - 1, 101);
        check(4_000, 10_202, 101);
        check(100_000, OWNERS_MAX_BYTES, 7_097);
    }
}
