//! Evidence about classes: one entity per Java package and place, since a JVM loads tens of thousands of them.
//! A bound must never drop a class silently: what is not kept lowers coverage.

use plimsoll_schemas::words::Rung;

use crate::artifact::Artifact;
use crate::entity::{ClassUse, Classes, ClassesKey, EntityKey, PathKey, Span};
use crate::limits::{CLASSES_MAX, CLASSES_MAX_BYTES, EVIDENCE_MAX_ENTRIES, EVIDENCE_WAITING_MAX_ENTRIES};

/// A class that was used.
pub(crate) struct ClassItem<'a> {
    pub at: PathKey,
    /// Component path.
    pub component: &'a str,
    /// Binary name with dots.
    pub name: &'a str,
    pub rung: Rung,
    pub span: Span,
    pub probe: &'a str,
}

/// The Java package, with its trailing dot, and the rest of a binary name.
pub(crate) fn split_name(name: &str) -> (&str, &str) {
    name.split_at(name.rfind('.').map_or(0, |dot| dot + 1))
}

impl Classes {
    /// Adds one observation. `true` if anything changed.
    pub fn join(&mut self, name: &str, new: ClassUse, probe: &str) -> bool {
        let mut changed = false;
        match self.by_name.get_mut(name) {
            Some(kept) => {
                let joined = ClassUse {
                    rung: kept.rung.max(new.rung),
                    first_ms: kept.first_ms.min(new.first_ms),
                    last_ms: kept.last_ms.max(new.last_ms),
                };
                changed |= *kept != joined;
                *kept = joined;
            }
            None => {
                self.by_name.insert(name.to_owned(), new);
                changed = true;
            }
        }
        if !probe.is_empty() && !self.probes.contains(probe) {
            self.probes.insert(probe.to_owned());
            changed = true;
        }
        changed
    }

    fn has_room(&self, name: &str) -> bool {
        // Counting the bytes is only worth it where there are many or long names.
        self.by_name.len() < CLASSES_MAX
            && (self.by_name.len() < CLASSES_MAX_BYTES / crate::limits::NAME_MAX_BYTES
                || self.by_name.keys().map(String::len).sum::<usize>() + name.len() <= CLASSES_MAX_BYTES)
    }
}

impl Artifact {
    pub(crate) fn apply_class(&mut self, item: ClassItem<'_>) {
        let (package, name) = split_name(item.name);
        let owner = self.ownership.get(&item.at);
        let key =
            ClassesKey { at: item.at, package: package.to_owned(), component: item.component.to_owned() };
        let kept = self.classes.get(&key);
        let is_first = kept.is_none();
        let new = kept.is_none_or(|kept| !kept.by_name.contains_key(name));
        if new {
            let waits = owner.is_none() && !self.cache.waiting.contains(&key.at);
            if self.evidence_count() >= EVIDENCE_MAX_ENTRIES
                || (waits && self.cache.waiting.len() >= EVIDENCE_WAITING_MAX_ENTRIES)
                || kept.is_some_and(|kept| !kept.has_room(name))
            {
                self.count_overflow();
                return;
            }
            self.cache.class_count += 1;
        }
        let used =
            ClassUse { rung: item.rung as u8, first_ms: item.span.first_ms, last_ms: item.span.last_ms };
        // Looked for before it is made: most classes come in sets that exist.
        let changed = match self.classes.get_mut(&key) {
            Some(kept) => kept.join(name, used, item.probe),
            None => self.classes.entry(key.clone()).or_default().join(name, used, item.probe),
        };
        if !changed {
            return;
        }
        let credits = self.cache.credits.get(&key.at).map(|credits| (credits, credits.attribute(package)));
        for owner in owner.iter().flat_map(|ownership| &ownership.owners) {
            let id = owner.package_id.as_str();
            // The first of a Java package may be held against those that it is not credited to.
            if is_first
                || credits.as_ref().is_none_or(|(credits, attribution)| {
                    !credits.contends(id) || attribution.credited.contains(&id)
                })
            {
                self.cache.dirty_packages.insert(owner.package_id.clone());
            }
        }
        self.cache.sort_path(&key.at, owner.map(|owner| owner.state.as_str()));
        self.cache.artifact_dirty = true;
        // What has no known owner may belong to any package.
        self.cache.all_dirty |= self.is_unresolved(&key.at);
        self.touch(EntityKey::Classes(key));
    }

    /// Entries of evidence, classes among them.
    pub(crate) fn evidence_count(&self) -> usize {
        self.evidence.len() + self.cache.class_count
    }

    pub(crate) fn count_overflow(&mut self) {
        self.overflow.items = self.overflow.items.saturating_add(1);
        self.cache.coverage_dirty = true;
        self.touch(EntityKey::Overflow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_behind_the_last_dot() {
        for (name, expect) in
            [("org.x.Y$Z", ("org.x.", "Y$Z")), ("Main", ("", "Main")), ("x.", ("x.", "")), ("", ("", ""))]
        {
            assert_eq!(split_name(name), expect);
        }
    }

    #[test]
    fn a_set_is_bounded_in_number_and_bytes() {
        let fill = |name_bytes: usize| {
            let mut classes = Classes::default();
            for number in 0..2 * CLASSES_MAX {
                let name = format!("{number:0name_bytes$}");
                if classes.has_room(&name) {
                    classes.join(&name, ClassUse::default(), "jvmti");
                }
            }
            let used = ClassUse { rung: 3, first_ms: i64::MAX, last_ms: i64::MAX };
            classes.by_name.values_mut().for_each(|class| *class = used);
            (classes.by_name.len(), crate::entity::encode(&classes).len())
        };
        let (count, size_bytes) = fill(12);
        assert_eq!(count, CLASSES_MAX);
        assert!(size_bytes < 900_000, "{size_bytes}");
        let (count, size_bytes) = fill(1000);
        assert_eq!(count, CLASSES_MAX_BYTES / 1000);
        assert!(size_bytes < 900_000, "{size_bytes}");
    }
}
