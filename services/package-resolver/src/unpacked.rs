//! Archives that an application has unpacked from the artifact's archives since it was started (Tomcat, Flink, WildFly): no
//! scan can have listed them, so they are what they were unpacked from. Never takes a file for one that was there before.

use std::collections::BTreeMap;
use std::fs::File;

use plimsoll_catalog::ownership::{archive_of, is_archive, is_managed_content};
use plimsoll_catalog::tree::{FileKind, path as paths};
use plimsoll_catalog::{FileTree, PackageKind};
use plimsoll_schemas::events::{Owner, PackageOwnership};
use plimsoll_schemas::identity::{self, Sha256Digest};
use plimsoll_schemas::words::{
    PATH_MAX_BYTES, VIRTUAL_FILES, drift, ownership_state, package_kind, path_role,
};
use rustix::fs::Stat;

use crate::answer::{OWNERS_MAX_BYTES, Question, bound_owners, owner_of, unresolved};
use crate::beneath;
use crate::copies::{changed_ms, open_used, size_of_file};
use crate::virtual_files;

/// What stands between an archive and a place within it.
const NESTED: &[u8] = b"!/";
/// Endings of archives that are unpacked to directories called like them.
const UNPACKED: [&[u8]; 5] = [b".war", b".ear", b".rar", b".sar", b".jar"];

impl Question<'_> {
    /// `entry` with the owners of what the file was unpacked from, if it was. `rest` leads on from there into the archive.
    pub(crate) fn as_unpacked(&self, entry: PackageOwnership, file: &[u8], rest: &[u8]) -> PackageOwnership {
        if !self.root.component && !self.root.is_replica {
            return entry;
        }
        let Ok(metadata) = self.tree.metadata(file) else { return entry };
        let is_new = entry.drift == drift::NEW
            || metadata.changed_ms.is_some_and(|changed_ms| changed_ms >= self.root.started_at_ms);
        if !is_new {
            return entry;
        }
        let members = match metadata.kind {
            FileKind::Regular => {
                let opened = beneath::open_regular(self.root.directory(), file).ok().flatten();
                let opened = opened.and_then(|opened| Some((rustix::fs::fstat(&opened).ok()?, opened)));
                let members = opened.map(|(stat, opened)| {
                    if is_managed_content(file) {
                        return self.equal_archives(&opened, &stat);
                    }
                    self.equal_members(&opened, &stat)
                });
                match named_by(file, members.unwrap_or_default()) {
                    // A class or a page; of another archive nothing is known.
                    none if none.is_empty() && !is_archive(file) => self.archive_of_directory(file),
                    members => members,
                }
            }
            FileKind::Directory => self.archive_of_directory(file),
            _ => Vec::new(),
        };
        let places: Vec<Vec<u8>> = members.iter().map(|member| [member, rest].concat()).collect();
        let Some((mut owners, method)) = self.owners_of(&places) else { return entry };
        // A scan of now lists the copy, too, and must not find it unused.
        let copies = owners.iter().flat_map(|owner| {
            members.iter().filter_map(|member| copied_to(file, member, rest, owner)).collect::<Vec<_>>()
        });
        let copies: BTreeMap<String, Owner> = copies.map(|copy| (copy.package_id.clone(), copy)).collect();
        owners.extend(copies.into_values());
        if bound_owners(&mut owners, OWNERS_MAX_BYTES) > 0 {
            return entry;
        }
        let reason = format!("unpacked from {}", paths::display(&places[0]));
        let state = ownership_state::OWNED.into();
        PackageOwnership {
            owners,
            method: method.into(),
            role: path_role::CODE.into(),
            state,
            reason,
            ..entry
        }
    }

    /// The answer of which of the artifact's archives one is that lies elsewhere. `path` is the question.
    pub(crate) fn used_elsewhere(&self, path: &[u8], used: &[u8]) -> PackageOwnership {
        let unresolved = |reason: &str| unresolved(self.artifact, path, reason, self.now_ms);
        if self.tree.list(b"").map_or(true, |names| names.is_empty()) {
            return unresolved("the workload's root is gone");
        }
        let places = if used.starts_with(VIRTUAL_FILES) {
            let places = virtual_files::candidates(self.tree, &self.found.current.index, used);
            let old: Vec<Vec<u8>> = places.iter().filter(|place| self.is_old(place)).cloned().collect();
            if old.is_empty() { places } else { old }
        } else {
            let Some(host) = self.host.filter(|_| self.root.component) else {
                return unresolved("the host's root is not open");
            };
            let archive = archive_of(used);
            let opened = open_used(host.directory(), archive);
            // One that was there before is no copy that was made of this.
            let made = opened.filter(|(_, stat)| changed_ms(stat) >= self.root.started_at_ms);
            let members = made.map(|(file, stat)| self.equal_members(&file, &stat)).unwrap_or_default();
            let rest = &used[archive.len()..];
            named_by(archive, members).into_iter().map(|place| [&place, rest].concat()).collect()
        };
        match places.as_slice() {
            [] => PackageOwnership { state: ownership_state::UNOWNED.into(), ..unresolved("") },
            [place] => self.answer_own(place),
            [first, ..] => match self.owners_of(&places) {
                // Not the first one itself, whose owners are known: whichever of these it is.
                Some((owners, method)) => PackageOwnership {
                    path: first.clone(),
                    file_identity: Sha256Digest::of(&places.join(&0)).to_string(),
                    state: ownership_state::OWNED.into(),
                    owners,
                    method: method.into(),
                    role: path_role::CODE.into(),
                    ..unresolved(&format!("one of {} equal archives", places.len()))
                },
                None => unresolved("its owners are too many to be named"),
            },
        }
    }

    /// The places of the artifact's archives within archives that are equal to a file, if it was not one of them itself.
    pub(crate) fn equal_members(&self, file: &File, stat: &Stat) -> Vec<Vec<u8>> {
        let index = &self.found.current.index;
        if !index.has_members_of_size(size_of_file(stat)) {
            return Vec::new();
        }
        // A file that cannot be read is compared with nothing.
        let Ok(Some(checksum)) = self.contents.checksum(file, stat) else { return Vec::new() };
        index.members_with(checksum).iter().filter(|place| self.is_old(place)).cloned().collect()
    }

    /// The artifact's archives of which a server keeps this copy.
    fn equal_archives(&self, file: &File, stat: &Stat) -> Vec<Vec<u8>> {
        let Ok(Some(checksum)) = self.contents.checksum(file, stat) else { return Vec::new() };
        let is_equal = |path: &Vec<u8>| {
            let size_bytes = self.tree.metadata(path).map(|found| found.size_bytes);
            let own = || beneath::open_regular(self.root.directory(), path).ok().flatten();
            is_archive(path)
                && self.is_old(path)
                && size_bytes.is_ok_and(|size_bytes| size_bytes == checksum.size_bytes)
                && own().is_some_and(|own| {
                    let stat = rustix::fs::fstat(&own);
                    stat.is_ok_and(|stat| matches!(self.contents.checksum(&own, &stat), Ok(Some(own)) if own == checksum))
                })
        };
        self.found.current.index.application_files().filter(is_equal).collect()
    }

    /// A package of the host that may be what the component has unpacked: made since it was started, and no OS package's.
    pub(crate) fn made_on_host(&self, entry: &PackageOwnership) -> Option<(File, Stat)> {
        let is_host = !self.root.component && !self.root.is_replica;
        let is_package = entry.state == ownership_state::OWNED
            && entry.owners.iter().all(|owner| owner.kind == package_kind::APPLICATION);
        if !is_host || !is_package || entry.path.starts_with(b"?") {
            return None;
        }
        let opened = open_used(self.root.directory(), archive_of(&entry.path));
        opened.filter(|(_, stat)| changed_ms(stat) >= self.root.started_at_ms)
    }

    /// Whether a place lies in an archive that was there when the workload started.
    fn is_old(&self, place: &[u8]) -> bool {
        let metadata = self.tree.metadata(archive_of(place));
        let changed_ms = metadata.ok().and_then(|metadata| metadata.changed_ms);
        changed_ms.is_some_and(|changed_ms| changed_ms < self.root.started_at_ms)
    }

    /// The place in the archive that a directory, or a file in one, was unpacked from: `a.war!/WEB-INF/classes` of `a/WEB-INF/classes`.
    fn archive_of_directory(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let index = &self.found.current.index;
        let archives = |above: &[u8]| {
            let named = UNPACKED.iter().map(|ending| [above, ending].concat());
            named
                .filter(|archive| index.lookup(archive).is_some() && self.is_old(archive))
                .collect::<Vec<_>>()
        };
        let above = std::iter::once(directory).chain(paths::ancestors(directory));
        let mut found = above.filter(|above| !above.is_empty()).flat_map(|above| {
            let rest = directory[above.len()..].strip_prefix(b"/").unwrap_or_default();
            let place = move |archive: Vec<u8>| match rest {
                [] => archive,
                rest => [&archive, NESTED, rest].concat(),
            };
            archives(above).into_iter().map(place)
        });
        found.next().into_iter().collect()
    }

    /// The application packages at these places, each once, and how the first was found.
    fn owners_of(&self, places: &[Vec<u8>]) -> Option<(Vec<Owner>, &'static str)> {
        let index = &self.found.current.index;
        let found: Vec<_> = places.iter().filter_map(|place| index.lookup(place)).collect();
        let owners = found.iter().flat_map(|found| &found.owners);
        let owners = owners.filter(|owner| owner.package.kind == PackageKind::Application);
        let method = owners.clone().next()?.method;
        let owners: BTreeMap<(String, String), Owner> = owners
            .map(owner_of)
            .map(|owner| ((owner.purl.clone(), owner.package_id.clone()), owner))
            .collect();
        let mut owners: Vec<Owner> = owners.into_values().collect();
        (bound_owners(&mut owners, OWNERS_MAX_BYTES) == 0).then_some((owners, method))
    }
}

/// A package of an archive, or of one within it, as the one that it is in the copy of that archive; `rest` leads into it.
fn copied_to(copy: &[u8], archive: &[u8], rest: &[u8], owner: &Owner) -> Option<Owner> {
    let ends = memchr::memmem::find_iter(rest, NESTED).chain([rest.len()]);
    // Where the package lies stands in its id alone.
    let id = |of: &[u8], end: usize| identity::package_id(&owner.purl, Some(&[of, &rest[..end]].concat()));
    let end = ends.into_iter().find(|end| id(archive, *end) == owner.package_id)?;
    Some(Owner { package_id: id(copy, end), ..owner.clone() })
}

/// Those of equal archives that the path of the unpacked one tells: most of the archives around them are called as parts
/// of it are (`webapps/one/…` and `tmp/jetty-8080-one_war-…` name `one.war`).
fn named_by(used: &[u8], places: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let score = |place: &Vec<u8>| {
        let end = memchr::memmem::rfind(place, NESTED).unwrap_or(0);
        let around =
            place[..end].split(|byte| *byte == b'/').map(|part| part.strip_suffix(b"!").unwrap_or(part));
        let archives =
            around.filter_map(|part| UNPACKED.iter().find_map(|ending| part.strip_suffix(*ending)));
        let named = archives.filter(|name| !name.is_empty() && has_word(used, name)).count();
        // The very directory beside it.
        let beside = stem(archive_of(place));
        let is_beside = used.strip_prefix(beside).is_some_and(|rest| rest.starts_with(b"/"));
        (is_beside, named)
    };
    let best = places.iter().map(score).max();
    places.into_iter().filter(|place| Some(score(place)) == best && place.len() <= PATH_MAX_BYTES).collect()
}

fn stem(archive: &[u8]) -> &[u8] {
    UNPACKED.iter().find_map(|ending| archive.strip_suffix(*ending)).unwrap_or(archive)
}

/// Whether `word` stands in `text`, and not as a part of a longer one.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
    memchr::memmem::find_iter(text, word)
        .any(|at| is_end(text[..at].last()) && is_end(text.get(at + word.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_tells_which_of_equal_archives_was_unpacked() {
        const BOTH: [&str; 2] = ["webapps/one.war!/WEB-INF/lib/x.jar", "webapps/two.war!/WEB-INF/lib/x.jar"];
        for (used, expected) in [
            ("webapps/one/WEB-INF/lib/x.jar", &BOTH[..1]),
            ("tmp/jetty-0_0_0_0-8080-two_war-_two-any-123/webapp/WEB-INF/lib/x.jar", &BOTH[1..]),
            ("tmp/vfs/x.jar-1f/x.jar", &BOTH),
            ("tmp/twofold/x.jar", &BOTH),
            ("elsewhere/one/two/x.jar", &BOTH),
        ] {
            let places = BOTH.iter().map(|place| place.as_bytes().to_vec()).collect();
            let found: Vec<String> =
                named_by(used.as_bytes(), places).iter().map(|place| paths::display(place)).collect();
            assert_eq!(found, expected, "{used}");
        }
        let nested = vec![b"a.ear!/one.war!/lib/x.jar".to_vec(), b"a.ear!/two.war!/lib/x.jar".to_vec()];
        assert_eq!(named_by(b"work/a/two/lib/x.jar", nested.clone()), nested[1..]);
        assert!(named_by(b"a", Vec::new()).is_empty());
    }
}
