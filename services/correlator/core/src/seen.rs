//! Evidence read back, single items and sets of classes alike: by path, and by the package that it is credited to.
//! It must never credit metadata or documentation, nor keep a class from a package that may have loaded it.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use plimsoll_schemas::events::Owner;
use plimsoll_schemas::words::{path_role, usage_kind};

use crate::artifact::Artifact;
use crate::credit::{Attribution, rivals};
use crate::entity::{Classes, ClassesKey, Evidence, EvidenceKey, Ownership, PathKey, Span};
use crate::usage::Merged;

/// A piece of evidence.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen<'a> {
    Item(&'a EvidenceKey, &'a Evidence),
    Classes(&'a ClassesKey, &'a Classes),
}

/// A piece of evidence and how surely it is a package's.
#[derive(Clone, Debug)]
pub(crate) struct Credit<'a> {
    pub seen: Seen<'a>,
    /// The owners that it may be of instead; empty if it can only be the package's.
    pub rivals: Vec<&'a Owner>,
}

impl<'a> Seen<'a> {
    pub fn component(&self) -> &'a str {
        match self {
            Self::Item(key, _) => &key.component,
            Self::Classes(key, _) => &key.component,
        }
    }

    /// When it was first seen; `None` of nothing.
    pub fn first_ms(&self) -> Option<i64> {
        match self {
            Self::Item(_, evidence) => evidence.rungs.values().map(|span| span.first_ms).min(),
            Self::Classes(_, classes) => classes.by_name.values().map(|class| class.first_ms).min(),
        }
    }

    /// The binary name of the first class; `None` of what is none.
    pub fn first_class(&self) -> Option<String> {
        match self {
            Self::Item(..) => None,
            Self::Classes(key, classes) => {
                classes.by_name.keys().next().map(|name| format!("{}{name}", key.package))
            }
        }
    }

    /// The file, if it was read as a module may be.
    pub fn module(&self) -> Option<&'a [u8]> {
        match self {
            Self::Item(key, _) => (key.kind == usage_kind::MODULE).then_some(key.at.path.as_slice()),
            Self::Classes(..) => None,
        }
    }

    /// Whether a part of it stands on that rung or above.
    pub fn reaches(&self, rung: u8) -> bool {
        match self {
            Self::Item(_, evidence) => evidence.rungs.keys().any(|seen| *seen >= rung),
            Self::Classes(_, classes) => classes.by_name.values().any(|class| class.rung >= rung),
        }
    }

    /// Adds it to first and last times by rung.
    pub fn join_into(&self, rungs: &mut BTreeMap<u8, Span>) {
        let mut join = |rung: u8, span: Span| {
            rungs.entry(rung).and_modify(|kept| *kept = kept.join(span)).or_insert(span);
        };
        match self {
            Self::Item(_, evidence) => evidence.rungs.iter().for_each(|(rung, span)| join(*rung, *span)),
            Self::Classes(_, classes) => classes
                .by_name
                .values()
                .for_each(|c| join(c.rung, Span { first_ms: c.first_ms, last_ms: c.last_ms })),
        }
    }
}

/// A key of evidence, or the place before all keys of a path: so that a range need not own its begin.
trait Placed {
    /// The fields in the order in which keys compare.
    fn fields(&self) -> (&PathKey, &str, &str, &str);
}

impl Placed for EvidenceKey {
    fn fields(&self) -> (&PathKey, &str, &str, &str) {
        (&self.at, &self.component, &self.kind, &self.name)
    }
}

impl Placed for PathKey {
    fn fields(&self) -> (&PathKey, &str, &str, &str) {
        (self, "", "", "")
    }
}

impl<'a> Borrow<dyn Placed + 'a> for EvidenceKey {
    fn borrow(&self) -> &(dyn Placed + 'a) {
        self
    }
}

impl PartialEq for dyn Placed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.fields() == other.fields()
    }
}

impl Eq for dyn Placed + '_ {}

impl PartialOrd for dyn Placed + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Placed + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.fields().cmp(&other.fields())
    }
}

impl Artifact {
    /// All evidence of a path.
    pub(crate) fn evidence_at<'a>(&'a self, path: &'a PathKey) -> impl Iterator<Item = Seen<'a>> {
        self.items_at(path).chain(self.classes_below(path, ""))
    }

    fn items_at<'a>(&'a self, path: &'a PathKey) -> impl Iterator<Item = Seen<'a>> {
        let from: Bound<&dyn Placed> = Bound::Included(path);
        let items = self.evidence.range::<dyn Placed, _>((from, Bound::Unbounded));
        let items = items.take_while(move |(key, _)| key.at == *path);
        items.map(|(key, evidence)| Seen::Item(key, evidence))
    }

    /// The classes of a path whose Java packages begin with a prefix.
    fn classes_below<'s: 'a, 'a>(
        &'s self,
        path: &'s PathKey,
        prefix: &'a str,
    ) -> impl Iterator<Item = Seen<'s>> {
        // Most artifacts have none, and asking for each path of each package costs.
        let sets = (!self.classes.is_empty()).then(|| {
            let from = ClassesKey { at: path.clone(), package: prefix.to_owned(), component: String::new() };
            self.classes.range((Bound::Included(from), Bound::Unbounded))
        });
        sets.into_iter()
            .flatten()
            .take_while(move |(key, _)| key.at == *path && key.package.starts_with(prefix))
            .map(|(key, classes)| Seen::Classes(key, classes))
    }

    /// The evidence that counts for a package: on paths that it owns and that are neither metadata nor documentation.
    pub(crate) fn evidence_of<'s: 'a, 'a>(
        &'s self,
        package_id: &'a str,
        component: Option<&'a str>,
    ) -> impl Iterator<Item = Credit<'s>> {
        let paths = self.cache.owned.get(package_id).into_iter().flatten();
        paths
            .filter_map(|path| self.ownership.get(path).map(|ownership| (path, ownership)))
            .filter(|(_, ownership)| counts(&ownership.role))
            .flat_map(move |(path, ownership)| {
                let items = self.items_at(path).map(move |seen| Credit {
                    seen,
                    rivals: rivals(&ownership.owners, package_id)
                        .filter(|rival| !self.is_its_copy(rival, package_id, ownership))
                        .collect(),
                });
                items.chain(self.classes_of(package_id, path, ownership))
            })
            .filter(move |credit| self.counts_for(credit.seen.component(), component))
    }

    /// Classes that are not credited to a package, and that may be its own: which of merged components a class is of is a
    /// guess.
    pub(crate) fn merged_classes_of(&self, package_id: &str, component: Option<&str>) -> Option<Merged<'_>> {
        let paths = self.cache.owned.get(package_id).into_iter().flatten();
        paths
            .filter_map(|path| {
                let credits = self.cache.credits.get(path)?;
                self.classes_below(path, "").find_map(|seen| {
                    let Seen::Classes(key, _) = seen else { return None };
                    let may_be = self.counts_for(&key.component, component)
                        && credits.may_be_its(package_id, &key.package);
                    let others = credits.count().saturating_sub(1);
                    may_be.then_some(Merged { archive: &path.path, java_package: &key.package, others })
                })
            })
            .next()
    }

    /// The classes of a path that are credited to one of its owners.
    fn classes_of<'s: 'a, 'a>(
        &'s self,
        package_id: &'a str,
        path: &'s PathKey,
        ownership: &'s Ownership,
    ) -> impl Iterator<Item = Credit<'s>> {
        // Without a choice, all of them.
        let credits = self.cache.credits.get(path).filter(|credits| credits.contends(package_id));
        let prefixes = credits.map_or_else(|| vec![""], |credits| credits.reach(package_id));
        prefixes.into_iter().flat_map(move |prefix| {
            self.classes_below(path, prefix).filter_map(move |seen| {
                let Seen::Classes(key, _) = seen else { return None };
                let Some(credits) = credits else { return Some(Credit { seen, rivals: Vec::new() }) };
                let Attribution { prefix: closest, credited, named } = credits.attribute(&key.package);
                // Of nested claims each class is the longest one's.
                if !credited.contains(&package_id) || !(prefix.is_empty() || prefix == closest) {
                    return None;
                }
                let others = named.into_iter().filter(|id| *id != package_id);
                let find = |id: &str| ownership.owners.iter().find(|owner| owner.package_id == id);
                let others = others.filter_map(find);
                let rivals = others.filter(|rival| !self.is_its_copy(rival, package_id, ownership)).collect();
                Some(Credit { seen, rivals })
            })
        })
    }

    /// Whether an owner is only the same package at the place that this one was copied to, where no scan lists it.
    fn is_its_copy(&self, other: &Owner, package_id: &str, ownership: &Ownership) -> bool {
        let is_own = |owner: &&Owner| owner.package_id == package_id && owner.purl == other.purl;
        other.package_id != package_id
            && !self.is_scanned(&other.package_id)
            && self.is_scanned(package_id)
            && ownership.owners.iter().any(|owner| is_own(&owner))
    }

    /// Whether the scan lists the package of which an owner is a copy, but not this copy.
    pub(crate) fn is_unlisted_copy(&self, owner: &Owner, ownership: &Ownership) -> bool {
        ownership.owners.iter().any(|other| self.is_its_copy(owner, &other.package_id, ownership))
    }
}

/// Whether a read of such a path is a use of its package.
fn counts(role: &str) -> bool {
    role != path_role::METADATA && role != path_role::DOCUMENTATION
}
