//! Remembers which ownerships were published, so that each goes out once and again only when it changed.
//! Never lets "unresolved" follow what was known: who could not look has nothing to say against who could.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use plimsoll_schemas::events::PackageOwnership;
use plimsoll_schemas::words::ownership_state;

use crate::bounded::BoundedMap;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Known {
    content: u64,
    resolved: bool,
}

/// See the module's documentation.
pub struct Published {
    known: Mutex<BoundedMap<u64, Known>>,
    keys: RandomState,
    contents: RandomState,
}

impl Published {
    /// Remembers at most `max_entries`.
    pub fn new(max_entries: usize) -> Self {
        Self {
            known: Mutex::new(BoundedMap::new(max_entries)),
            keys: RandomState::new(),
            contents: RandomState::new(),
        }
    }

    /// Those of `entries` that say something new; they count as published from now on.
    pub fn take_new<'e>(
        &self,
        entries: impl IntoIterator<Item = &'e PackageOwnership>,
    ) -> Vec<PackageOwnership> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |entry: &&PackageOwnership| {
            let (key, says) = (self.key(entry), self.known_of(entry));
            match known.get(&key) {
                Some(before) if before == says || (before.resolved && !says.resolved) => false,
                _ => {
                    known.insert(key, says);
                    true
                }
            }
        };
        entries.into_iter().filter(is_new).cloned().collect()
    }

    /// They could not be queued after all, or are no longer known.
    pub fn take_back<'e>(&self, entries: impl IntoIterator<Item = &'e PackageOwnership>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        entries.into_iter().for_each(|entry| known.remove(&self.key(entry)));
    }

    fn key(&self, entry: &PackageOwnership) -> u64 {
        self.keys.hash_one((&entry.artifact, &entry.path, &entry.file_identity))
    }

    fn known_of(&self, entry: &PackageOwnership) -> Known {
        let owners: Vec<&str> = entry.owners.iter().map(|owner| owner.package_id.as_str()).collect();
        let says = (&entry.path, &entry.state, owners, &entry.method, &entry.role);
        // Who names some owners knew more than who could not look.
        let resolved = entry.state != ownership_state::UNRESOLVED || !entry.owners.is_empty();
        Known { content: self.contents.hash_one(says), resolved }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_schemas::events::Owner;

    fn entry(path: &str, identity: &str, state: &str, owner: &str) -> PackageOwnership {
        PackageOwnership {
            artifact: "host/m".into(),
            path: path.as_bytes().to_vec(),
            file_identity: identity.into(),
            state: state.into(),
            owners: owner
                .split_whitespace()
                .map(|id| Owner { package_id: id.into(), ..Owner::default() })
                .collect(),
            ..PackageOwnership::default()
        }
    }

    #[test]
    fn once_each_and_again_when_changed() {
        let published = Published::new(100);
        let check = |path, identity, state, owner, expect: bool| {
            let new = published.take_new(&[entry(path, identity, state, owner)]);
            assert_eq!(!new.is_empty(), expect, "{path} {identity} {state} {owner}");
        };
        check("a", "image", "unresolved", "", true);
        check("a", "image", "unresolved", "", false);
        check("a", "image", "owned", "1", true);
        check("a", "image", "owned", "1", false);
        check("a", "image", "unresolved", "", false);
        check("a", "image", "owned", "2", true);
        check("a", "sha256:0", "owned", "2", true);
        // So many that only some could be named: that is more than nothing.
        check("c", "image", "unresolved", "1", true);
        check("c", "image", "unresolved", "", false);
        check("c", "image", "unresolved", "1 2", true);
        check("b", "image", "unowned", "", true);
        published.take_back(&[entry("b", "image", "unowned", "")]);
        check("b", "image", "unowned", "", true);
    }
}
