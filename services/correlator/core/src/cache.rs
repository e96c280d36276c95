//! What is derived from the entities and kept, so that a batch costs what it changed and not the whole artifact.
//! It must never decide anything: with `all_dirty` everything comes out the same from nothing.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_schemas::events::Owner;
use plimsoll_schemas::words::{copied_file_of, java_package_of, ownership_state};

use crate::coverage::Facts;
use crate::credit::Credits;
use crate::entity::PathKey;
use crate::hold::Needs;
use crate::package::Known;
use crate::usage::{Unresolved, Use};

/// Whose use is looked at: the whole artifact's (`None`) or one component's, by its path.
pub(crate) type Scope = Option<String>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    /// Paths by owning package.
    pub owned: BTreeMap<String, BTreeSet<PathKey>>,
    /// Used paths without ownership.
    pub waiting: BTreeSet<PathKey>,
    /// Used paths whose owner could not be found out.
    pub unresolved: BTreeSet<PathKey>,
    /// Java packages of classes from nobody can tell where, and possible copies of packages, as the paths that stand for
    /// them.
    pub placeless: BTreeSet<PathKey>,
    /// Used paths that no package owns.
    pub unowned: BTreeSet<PathKey>,
    /// Who gets the classes of a path that several application packages own.
    pub credits: BTreeMap<PathKey, Credits>,
    /// Classes in all entities of evidence.
    pub class_count: usize,
    pub scopes: BTreeMap<Scope, ScopeCache>,
    /// Which packages of the current scan need which; kept until everything is computed anew.
    pub needs: Option<Needs>,
    /// Ids of the current scan's packages by purl, as `needs` kept: a copy that it does not list is assessed as they are.
    pub twins: Option<BTreeMap<String, Vec<String>>>,
    /// Everything is to be computed anew.
    pub all_dirty: bool,
    /// Coverage may have changed.
    pub coverage_dirty: bool,
    /// The record of the artifact may have changed.
    pub artifact_dirty: bool,
    /// The name that texts call the artifact by.
    pub name: Option<String>,
    pub dirty_packages: BTreeSet<String>,
    /// Packages of the current scan whose findings may have changed.
    pub dirty_findings: BTreeSet<String>,
    pub dirty_alerts: BTreeSet<String>,
}

/// What all versions of a package have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PackageName {
    pub ecosystem: String,
    pub name: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ScopeCache {
    /// By the ecosystem of a package, and the probes that could observe it.
    pub coverage: BTreeMap<String, BTreeMap<Vec<String>, Facts>>,
    /// Kept until everything is computed anew.
    pub unresolved: Option<Unresolved>,
    pub used: BTreeSet<String>,
    /// Purls, by id, of used packages that the scan does not list, by name: copies, or other versions, of those that it
    /// lists.
    pub copies: BTreeMap<PackageName, BTreeMap<String, String>>,
    /// The name under which each of them stands in `copies`.
    pub copy_names: BTreeMap<String, PackageName>,
    /// Names of holders by package.
    pub held: BTreeMap<String, Vec<String>>,
    pub cells: BTreeMap<String, Cell>,
    /// What was judged since the last batch.
    pub judged: BTreeMap<String, Use>,
}

impl ScopeCache {
    /// The kept coverage by which a package is judged.
    pub fn facts(&self, package: &Known) -> Option<&Facts> {
        self.coverage.get(package.ecosystem)?.get(&*package.observable_by)
    }
}

/// The cell of the recommendation table in which a package stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub kind: String,
    pub vulnerable: &'static str,
    pub usage: &'static str,
    pub finding_count: i64,
}

/// Whether a path is no file's, but names what may be of several packages.
fn stands_for_packages(path: &[u8]) -> bool {
    java_package_of(path).is_some() || copied_file_of(path).is_some()
}

impl Cache {
    /// Puts a used path where its ownership says.
    pub fn sort_path(&mut self, path: &PathKey, state: Option<&str>) {
        if stands_for_packages(&path.path) {
            if !self.placeless.contains(path) {
                self.placeless.insert(path.clone());
            }
            return;
        }
        let set = match state {
            None => &mut self.waiting,
            Some(ownership_state::OWNED) => {
                self.forget_path(path);
                return;
            }
            Some(ownership_state::UNOWNED) => &mut self.unowned,
            Some(_) => &mut self.unresolved,
        };
        if set.contains(path) {
            return;
        }
        self.forget_path(path);
        match state {
            None => self.waiting.insert(path.clone()),
            Some(ownership_state::UNOWNED) => self.unowned.insert(path.clone()),
            Some(_) => self.unresolved.insert(path.clone()),
        };
    }

    /// Takes in who owns a path; whose it only may be stands nowhere but in the ownership.
    pub fn own_path(&mut self, path: &PathKey, owners: &[Owner]) {
        if stands_for_packages(&path.path) {
            return;
        }
        match Credits::of(owners) {
            Some(credits) => drop(self.credits.insert(path.clone(), credits)),
            None => drop(self.credits.remove(path)),
        }
        for owner in owners {
            self.owned.entry(owner.package_id.clone()).or_default().insert(path.clone());
        }
    }

    fn forget_path(&mut self, path: &PathKey) {
        self.unresolved.remove(path);
        self.waiting.remove(path);
        self.unowned.remove(path);
    }

    /// Whether anything is to be looked at.
    pub fn is_dirty(&self) -> bool {
        self.all_dirty
            || self.coverage_dirty
            || self.artifact_dirty
            || !self.dirty_packages.is_empty()
            || !self.dirty_alerts.is_empty()
    }

    pub fn clean(&mut self) {
        self.all_dirty = false;
        self.coverage_dirty = false;
        self.artifact_dirty = false;
        self.dirty_packages.clear();
        self.dirty_findings.clear();
        self.dirty_alerts.clear();
        self.scopes.values_mut().for_each(|scope| scope.judged.clear());
    }
}
