//! From the state to the outputs: which packages are to be judged again, and which records differ from those sent.
//! It must never send a record that did not change, nor leave one behind whose reason is gone.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_schemas::words::usage;

use crate::artifact::Artifact;
use crate::cache::{Cell, PackageName, Scope, ScopeCache};
use crate::coverage::Facts;
use crate::entity::{Component, Emitted, EmittedKey, EntityKey, OutputTopic};
use crate::output::Output;
use crate::package::{Assessment, Known};
use crate::usage::{PossibleUse, Use, judge};

/// Name of the artifact's own entry among the emitted.
const ARTIFACT: &str = "artifact";
/// Room for most records while they are hashed, in bytes.
const HASHED_BYTES: usize = 2_048;
/// Begin of the keys of hosts.
const HOST_PREFIX: &str = "host/";

/// All that a record of one package in one scope says.
pub(crate) struct View<'a> {
    pub package: &'a Known<'a>,
    pub assessment: &'a Assessment<'a>,
    pub judged: &'a Use,
    pub facts: &'a Facts,
    pub held_by: &'a [String],
}

impl Artifact {
    /// The components that run or were scanned as the artifact. Workloads without any name belong to none.
    pub(crate) fn linked(&self) -> impl Iterator<Item = (&String, &Component)> {
        self.components.iter().filter(|(_, c)| {
            !(c.application.is_empty() && c.component.is_empty() && c.component_version.is_empty())
        })
    }

    pub(crate) fn emit(&mut self) -> Vec<Output> {
        if !self.cache.is_dirty() {
            return Vec::new();
        }
        let name = self.names().into_iter().next();
        if name != self.cache.name {
            self.cache.name = name;
            self.cache.all_dirty = true;
        }
        self.refresh_coverage();
        if self.cache.all_dirty || self.cache.needs.is_none() {
            self.cache.needs = Some(self.needs());
            self.cache.twins = Some(self.twins());
        }
        let packages = self.packages_to_judge();
        let mut build = packages.clone();
        let scopes: Vec<Scope> =
            std::iter::once(None).chain(self.linked().map(|(path, _)| Some(path.clone()))).collect();
        self.cache.scopes.retain(|scope, _| scopes.contains(scope));
        for scope in &scopes {
            build.extend(self.judge_scope(scope, &packages));
        }
        let mut outputs = Vec::new();
        for id in &build {
            let records = self.package_records(id, &scopes);
            self.send(&format!("package/{id}"), id, records, &mut outputs);
        }
        for id in self.alerts_to_build(&build) {
            let record = self.alert_record(&id).map(|record| Output::Alert(record.into()));
            let records = record.map(|record| (key(OutputTopic::Alert), record)).into_iter().collect();
            self.send(&format!("alert/{id}"), &id, records, &mut outputs);
        }
        let record = self.artifact_record().map(|record| Output::Artifact(record.into()));
        let records = record.map(|record| (key(OutputTopic::Artifact), record)).into_iter().collect();
        self.send(ARTIFACT, "", records, &mut outputs);
        self.cache.clean();
        outputs
    }

    /// Computes kept coverage again; if any of it changed, all packages are to be judged again.
    fn refresh_coverage(&mut self) {
        if !self.cache.coverage_dirty && !self.cache.all_dirty {
            return;
        }
        let mut kept: Vec<(Scope, String, Vec<String>)> = Vec::new();
        for (scope, cache) in &self.cache.scopes {
            for (ecosystem, coverage) in &cache.coverage {
                kept.extend(coverage.keys().map(|probes| (scope.clone(), ecosystem.clone(), probes.clone())));
            }
        }
        for (scope, ecosystem, probes) in kept {
            let facts = self.facts(scope.as_deref(), &ecosystem, &probes);
            let Some(cache) = self.cache.scopes.get_mut(&scope) else { continue };
            let coverage = cache.coverage.entry(ecosystem).or_default();
            if coverage.get(&probes) != Some(&facts) {
                coverage.insert(probes, facts);
                self.cache.all_dirty = true;
            }
        }
    }

    fn packages_to_judge(&self) -> BTreeSet<String> {
        if !self.cache.all_dirty {
            let mut packages = self.cache.dirty_packages.clone();
            packages.extend(self.copies_of(&self.cache.dirty_findings));
            return packages;
        }
        let emitted = self.emitted.keys().filter_map(|what| what.strip_prefix("package/"));
        self.known_ids().into_iter().chain(emitted.map(str::to_owned)).collect()
    }

    /// Judges packages in a scope and keeps what others depend on. Gives the packages of which, because of that,
    /// something else changed: what holds them.
    fn judge_scope(&mut self, scope: &Scope, packages: &BTreeSet<String>) -> Vec<String> {
        let mut kept: ScopeCache = self.cache.scopes.remove(scope).unwrap_or_default();
        let mut used_changed = self.cache.all_dirty;
        // What is unresolved changes only together with `all_dirty`.
        if self.cache.all_dirty || kept.unresolved.is_none() {
            kept.unresolved = Some(self.unresolved_in(scope.as_deref()));
            kept.copies.clear();
            kept.copy_names.clear();
        }
        // First what no scan lists: that a copy was used decides about what the scan lists.
        let (copies, listed): (Vec<&String>, Vec<&String>) =
            packages.iter().partition(|id| !self.is_scanned(id));
        let mut moved = BTreeSet::new();
        for id in copies {
            used_changed |= self.judge_in(scope, &mut kept, id);
            self.note_copy(&mut kept, id, &mut moved);
        }
        let again = self.scanned_ids_of(&moved);
        for id in again.iter().chain(listed.into_iter().filter(|id| !again.contains(*id))) {
            used_changed |= self.judge_in(scope, &mut kept, id);
        }
        let mut changed: Vec<String> = again.into_iter().collect();
        if used_changed && let Some(needs) = &self.cache.needs {
            let held = self.holds(needs, &kept.used);
            let ids: BTreeSet<&String> = held.keys().chain(kept.held.keys()).collect();
            changed.extend(ids.into_iter().filter(|id| held.get(*id) != kept.held.get(*id)).cloned());
            kept.held = held;
        }
        self.cache.scopes.insert(scope.clone(), kept);
        changed
    }

    /// Judges one package in a scope; whether that changed what counts as used.
    fn judge_in(&self, scope: &Scope, kept: &mut ScopeCache, id: &str) -> bool {
        let cell = self.known(id).map(|package| {
            if kept.facts(&package).is_none() {
                let facts = self.facts(scope.as_deref(), package.ecosystem, &package.observable_by);
                let coverage = kept.coverage.entry(package.ecosystem.to_owned()).or_default();
                coverage.insert(package.observable_by.to_vec(), facts);
            }
            let facts = &kept.coverage[package.ecosystem][&*package.observable_by];
            let judged = self.judge_package(facts, scope, &package, kept);
            let assessment = self.assess(&package);
            let cell = Cell {
                kind: package.kind.to_owned(),
                vulnerable: assessment.vulnerable,
                usage: judged.usage,
                finding_count: i64::try_from(assessment.findings.len()).unwrap_or(i64::MAX),
            };
            kept.judged.insert(id.to_owned(), judged);
            cell
        });
        let used = cell.as_ref().is_some_and(|cell| cell.usage == usage::USED);
        match cell {
            Some(cell) => drop(kept.cells.insert(id.to_owned(), cell)),
            None => drop(kept.cells.remove(id)),
        }
        if used { kept.used.insert(id.to_owned()) } else { kept.used.remove(id) }
    }

    /// Keeps whether a package that no scan lists is used; adds the names of which that changed to `moved`.
    fn note_copy(&self, kept: &mut ScopeCache, id: &str, moved: &mut BTreeSet<PackageName>) {
        if self.current.is_none() {
            return;
        }
        let used = self.known(id).filter(|_| kept.used.contains(id));
        let now = used.map(|package| (package.name_of_all_versions(), package.purl.to_owned()));
        let before = kept.copy_names.get(id).cloned();
        if before.as_ref() == now.as_ref().map(|(name, _)| name) {
            return;
        }
        if let Some(name) = before {
            kept.copy_names.remove(id);
            if let Some(purls) = kept.copies.get_mut(&name) {
                purls.remove(id);
                if purls.is_empty() {
                    kept.copies.remove(&name);
                }
            }
            moved.insert(name);
        }
        if let Some((name, purl)) = now {
            kept.copy_names.insert(id.to_owned(), name.clone());
            kept.copies.entry(name.clone()).or_default().insert(id.to_owned(), purl);
            moved.insert(name);
        }
    }

    fn judge_package(&self, facts: &Facts, scope: &Scope, package: &Known, kept: &ScopeCache) -> Use {
        let evidence = self.package_evidence(package, scope.as_deref());
        let possible =
            kept.unresolved.as_ref().map_or(PossibleUse::Nothing, |unresolved| unresolved.of(package));
        let judged = judge(package, &evidence, facts, possible);
        if package.scan.is_none() || judged.usage != usage::UNUSED || kept.copies.is_empty() {
            return judged;
        }
        match kept.copies.get(&package.name_of_all_versions()) {
            Some(purls) if purls.values().any(|purl| purl == package.purl) => judged.of_copied(),
            // Of a host each scan may list other versions. An image has the same ones for ever: another one is a
            // replica's own, and what the image lists is unused; a component's runs are told apart by their packages.
            Some(purls) if self.key.starts_with(HOST_PREFIX) => {
                judged.of_other_version(purls.values().min().map_or("", String::as_str))
            }
            _ => judged,
        }
    }

    /// All records of a package, whatever was sent before.
    fn package_records(&self, id: &str, scopes: &[Scope]) -> BTreeMap<EmittedKey, Output> {
        let mut records = BTreeMap::new();
        let Some(package) = self.known(id) else { return records };
        let assessment = self.assess(&package);
        for scope in scopes {
            // Nothing stands in a component's records of a host but what it used: the rest need not be judged again.
            if scope.as_ref().is_some_and(|path| !self.lists(id, path)) {
                continue;
            }
            let Some(kept) = self.cache.scopes.get(scope) else { continue };
            if kept.unresolved.is_none() {
                continue;
            }
            let (own_facts, own_judged);
            let facts = match kept.facts(&package) {
                Some(facts) => facts,
                None => {
                    own_facts = self.facts(scope.as_deref(), package.ecosystem, &package.observable_by);
                    &own_facts
                }
            };
            let judged = match kept.judged.get(id) {
                Some(judged) => judged,
                None => {
                    own_judged = self.judge_package(facts, scope, &package, kept);
                    &own_judged
                }
            };
            let held_by = kept.held.get(id).map(Vec::as_slice).unwrap_or_default();
            let view = View { package: &package, assessment: &assessment, judged, facts, held_by };
            match scope {
                None => {
                    let record = Output::Package(self.package_record(&view).into());
                    records.insert(key(OutputTopic::Package), record);
                    for record in self.finding_records(&view) {
                        let key =
                            EmittedKey { part: record.vulnerability_id.clone(), ..key(OutputTopic::Finding) };
                        records.insert(key, Output::Finding(record.into()));
                    }
                }
                Some(path) => {
                    for record in self.usage_records(&view, path) {
                        let key =
                            EmittedKey { part: path.clone(), chunk: record.chunk, ..key(OutputTopic::Usage) };
                        records.insert(key, Output::Usage(record.into()));
                    }
                }
            }
        }
        records
    }

    /// Whether correlation.usage of a component lists a package: of a host, only what the component used.
    fn lists(&self, package_id: &str, component: &str) -> bool {
        !self.key.starts_with(HOST_PREFIX) || self.evidence_of(package_id, Some(component)).next().is_some()
    }

    fn alerts_to_build(&self, packages: &BTreeSet<String>) -> BTreeSet<String> {
        let mut alerts = self.cache.dirty_alerts.clone();
        if self.cache.all_dirty {
            alerts.extend(self.alerts.keys().cloned());
            alerts.extend(self.emitted.keys().filter_map(|w| w.strip_prefix("alert/")).map(str::to_owned));
        } else if !packages.is_empty() {
            for (id, alert) in &self.alerts {
                let identity = crate::apply::identity_of(&alert.record.file_identity).to_owned();
                let at = crate::entity::PathKey { path: alert.record.path.clone(), identity };
                let owners = self.ownership.get(&at).into_iter().flat_map(|ownership| &ownership.owners);
                if owners.into_iter().any(|owner| packages.contains(&owner.package_id)) {
                    alerts.insert(id.clone());
                }
            }
        }
        alerts
    }

    /// Sends of `records` what differs from what was sent under `name` before, and tombstones for what is gone.
    fn send(
        &mut self,
        name: &str,
        id: &str,
        records: BTreeMap<EmittedKey, Output>,
        outputs: &mut Vec<Output>,
    ) {
        let nothing = Emitted::new();
        let sent = self.emitted.get(name).unwrap_or(&nothing);
        let mut buffer = Vec::with_capacity(HASHED_BYTES);
        let hashes: Vec<u64> = records.values().map(|record| record.hash(&mut buffer)).collect();
        if sent.len() == records.len() && sent.iter().eq(records.keys().zip(&hashes)) {
            return;
        }
        let mut now = Emitted::new();
        for ((key, record), hash) in records.into_iter().zip(hashes) {
            if sent.get(&key) != Some(&hash) {
                outputs.push(record);
            }
            now.insert(key, hash);
        }
        let gone = sent.keys().filter(|key| !now.contains_key(key));
        outputs.extend(gone.map(|key| Output::tombstone(id, key)));
        if now.is_empty() {
            self.emitted.remove(name);
        } else {
            self.emitted.insert(name.to_owned(), now);
        }
        self.touch(EntityKey::Emitted(name.to_owned()));
    }
}

fn key(topic: OutputTopic) -> EmittedKey {
    EmittedKey { topic, part: String::new(), chunk: 0 }
}
