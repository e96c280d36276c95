//! How each event merges into the entities.
//! A merge must never depend on what other topics have said already, except to refuse room to what was superseded.

use std::collections::BTreeSet;

use plimsoll_schemas::events::{
    Owner, PackageOwnership, RuntimeAlert, RuntimeUsage, RuntimeWorkload, ScanArtifact, ScanFindings,
    ScanPackage, UsageItem,
};
use plimsoll_schemas::identity::component_path;
use plimsoll_schemas::words::{
    FILE_IDENTITY_IMAGE, PATH_MAX_BYTES, Rung, copied_file_of, java_package_of, mount, ownership_state,
    path_role, usage_kind,
};

use crate::Order;
use crate::artifact::Artifact;
use crate::classes::ClassItem;
use crate::entity::{
    Component, EntityKey, Evidence, EvidenceKey, Findings, Manifest, Ownership, Package, PathKey, Span,
};
use crate::event::Refusal;
use crate::limits::{
    ALERTS_MAX, EVIDENCE_MAX_ENTRIES, EVIDENCE_WAITING_MAX_ENTRIES, INCOMPLETE_PRODUCERS_MAX,
    JAVA_PACKAGE_OWNERS_MAX_BYTES, NAME_MAX_BYTES, WARNINGS_MAX,
};
use crate::merge::earlier;

impl Artifact {
    pub(crate) fn apply_manifest(&mut self, mut record: ScanArtifact, order: Order) -> Result<(), Refusal> {
        required("scan_id", &record.scan_id)?;
        self.link_component(&record.application, &record.component, &record.component_version, true);
        let id = record.scan_id.clone();
        let emitted_at_ms = record.emitted_at_ms;
        let scan = self.scans.entry(id.clone()).or_default();
        if scan.entity.superseded {
            return Ok(());
        }
        scan.entity.staged_since_ms = earlier(scan.entity.staged_since_ms, emitted_at_ms);
        if scan.entity.manifest.as_ref().is_none_or(|manifest| manifest.order <= order) {
            record.layers.clear();
            record.warnings.truncate(WARNINGS_MAX);
            clear_envelope(&mut record);
            scan.entity.manifest = Some(Manifest { order, emitted_at_ms, record });
            scan.complete = None;
        }
        self.cache.all_dirty |= self.current.as_ref() == Some(&id);
        self.touch(EntityKey::Scan(id));
        self.cache.artifact_dirty = true;
        Ok(())
    }

    pub(crate) fn apply_package(&mut self, mut record: ScanPackage, order: Order) -> Result<(), Refusal> {
        required("scan_id", &record.scan_id)?;
        required("package_id", &record.package_id)?;
        let (scan_id, package_id) = (record.scan_id.clone(), record.package_id.clone());
        let is_current = self.current.as_ref() == Some(&scan_id);
        let scan = self.scans.entry(scan_id.clone()).or_default();
        if scan.entity.superseded {
            return Ok(());
        }
        if is_current && !scan.packages.contains_key(&package_id) {
            let detail = format!(
                "package {package_id} is not one of those that the manifest of scan {scan_id} counts"
            );
            return Err(Refusal::new("package-not-in-scan", detail));
        }
        let since = earlier(scan.entity.staged_since_ms, record.emitted_at_ms);
        let staged = since != scan.entity.staged_since_ms;
        scan.entity.staged_since_ms = since;
        if scan.packages.get(&package_id).is_none_or(|kept| kept.order <= order) {
            if !scan.packages.contains_key(&package_id) {
                scan.complete = None;
            }
            record.artifact.clear();
            record.scan_id.clear();
            clear_envelope(&mut record);
            scan.packages.insert(package_id.clone(), Package { order, record });
            if is_current {
                self.cache.dirty_packages.insert(package_id.clone());
                // Names or dependencies may have changed.
                self.cache.all_dirty = true;
            }
            self.touch(EntityKey::Package(scan_id.clone(), package_id));
        }
        if staged {
            self.touch(EntityKey::Scan(scan_id));
        }
        Ok(())
    }

    pub(crate) fn apply_findings(&mut self, mut record: ScanFindings, order: Order) -> Result<(), Refusal> {
        required("scan_id", &record.scan_id)?;
        required("package_id", &record.package_id)?;
        let (scan_id, package_id, chunk) = (record.scan_id.clone(), record.package_id.clone(), record.chunk);
        let is_current = self.current.as_ref() == Some(&scan_id);
        let scan = self.scans.entry(scan_id.clone()).or_default();
        if scan.entity.superseded {
            return Ok(());
        }
        let since = earlier(scan.entity.staged_since_ms, record.emitted_at_ms);
        let staged = since != scan.entity.staged_since_ms;
        scan.entity.staged_since_ms = since;
        let chunks = scan.findings.entry(package_id.clone()).or_default();
        if chunks.get(&chunk).is_none_or(|kept| kept.order <= order) {
            record.artifact.clear();
            record.scan_id.clear();
            let emitted_at_ms = record.emitted_at_ms;
            clear_envelope(&mut record);
            record.emitted_at_ms = emitted_at_ms;
            chunks.insert(chunk, Findings { order, record });
            if is_current {
                self.cache.dirty_packages.insert(package_id.clone());
                self.cache.dirty_findings.insert(package_id.clone());
            }
            self.touch(EntityKey::Findings(scan_id.clone(), package_id, chunk));
        }
        if staged {
            self.touch(EntityKey::Scan(scan_id));
        }
        Ok(())
    }

    pub(crate) fn apply_ownership(
        &mut self,
        mut record: PackageOwnership,
        order: Order,
    ) -> Result<(), Refusal> {
        let path = path_key(std::mem::take(&mut record.path), std::mem::take(&mut record.file_identity))?;
        known("state", &record.state, ownership_state::ALL)?;
        if !record.role.is_empty() {
            known("role", &record.role, path_role::ALL)?;
        }
        if record.owners.iter().any(|owner| owner.package_id.is_empty()) {
            return Err(Refusal::new("owner-without-package", display(&path)));
        }
        if java_package_of(&path.path).is_some() {
            self.join_java_package(path, record, order);
            return Ok(());
        }
        // What could not be found out never replaces what was, whichever came later.
        let rank = |state: &str, owners: &[Owner], order: Order| {
            (state != ownership_state::UNRESOLVED || !owners.is_empty(), order)
        };
        let new_rank = rank(&record.state, &record.owners, order);
        let old_rank = self.ownership.get(&path).map(|kept| rank(&kept.state, &kept.owners, kept.order));
        if old_rank.is_some_and(|old_rank| old_rank > new_rank) {
            return Ok(());
        }
        // Unresolved with owners: these are some of them, and the use is theirs.
        let owned = record.state != ownership_state::UNOWNED;
        let ownership = Ownership {
            order,
            state: record.state,
            reason: record.reason,
            owners: if owned { record.owners } else { Vec::new() },
            role: record.role,
            drift: record.drift,
            resolved_at_ms: record.resolved_at_ms,
            ..Ownership::default()
        };
        let used = self.evidence_at(&path).next().is_some();
        if used {
            // What has no known owner may belong to any package.
            self.cache.all_dirty |=
                ownership.state == ownership_state::UNRESOLVED || self.is_unresolved(&path);
            self.cache.sort_path(&path, Some(&ownership.state));
            self.cache.artifact_dirty = true;
        }
        self.cache.own_path(&path, &ownership.owners);
        self.cache.dirty_packages.extend(ownership.owners.iter().map(|owner| owner.package_id.clone()));
        let old = self.ownership.insert(path.clone(), ownership);
        let now: Vec<String> = self.ownership[&path].owners.iter().map(|o| o.package_id.clone()).collect();
        for gone in old.iter().flat_map(|o| &o.owners).filter(|o| !now.contains(&o.package_id)) {
            if let Some(paths) = self.cache.owned.get_mut(&gone.package_id) {
                paths.remove(&path);
            }
            self.cache.dirty_packages.insert(gone.package_id.clone());
        }
        self.dirty_alerts_at(&path);
        self.touch(EntityKey::Ownership(path));
        Ok(())
    }

    /// A class from nobody can tell where may be of each package that any answer names: runs and machines of one artifact
    /// have different archives, and a class is told only once of each Java package.
    fn join_java_package(&mut self, path: PathKey, record: PackageOwnership, order: Order) {
        let kept = self.ownership.get(&path);
        let is_latest = kept.is_none_or(|kept| kept.order <= order);
        let mut joined = kept.cloned().unwrap_or_default();
        if is_latest {
            joined.order = order;
            (joined.reason, joined.role, joined.drift) = (record.reason, record.role, record.drift);
            joined.resolved_at_ms = record.resolved_at_ms;
            // A machine's answer says nothing about the archives of others.
            if record.state == ownership_state::UNRESOLVED && record.owners.is_empty() {
                joined.incomplete.insert(record.producer_id);
            } else {
                joined.incomplete.remove(&record.producer_id);
            }
        }
        let named = if record.state == ownership_state::UNOWNED { Vec::new() } else { record.owners };
        let ids = joined.owners.into_iter().chain(named).map(|owner| owner.package_id);
        let ids: BTreeSet<String> = ids.collect();
        joined.any_archive |= ids.iter().map(String::len).sum::<usize>() > JAVA_PACKAGE_OWNERS_MAX_BYTES
            || joined.incomplete.len() > INCOMPLETE_PRODUCERS_MAX;
        if joined.any_archive {
            joined.incomplete.clear();
            joined.owners = Vec::new();
        } else {
            let owner = |package_id| Owner { package_id, ..Owner::default() };
            joined.owners = ids.into_iter().map(owner).collect();
        }
        let is_nobodys = joined.owners.is_empty() && joined.incomplete.is_empty() && !joined.any_archive;
        let state = if is_nobodys { ownership_state::UNOWNED } else { ownership_state::UNRESOLVED };
        state.clone_into(&mut joined.state);
        if self.ownership.get(&path) == Some(&joined) {
            return;
        }
        if self.evidence_at(&path).next().is_some() {
            self.cache.all_dirty = true;
            self.cache.sort_path(&path, Some(&joined.state));
            self.cache.artifact_dirty = true;
        }
        self.cache.dirty_packages.extend(joined.owners.iter().map(|owner| owner.package_id.clone()));
        self.ownership.insert(path.clone(), joined);
        self.dirty_alerts_at(&path);
        self.touch(EntityKey::Ownership(path));
    }

    pub(crate) fn apply_workload(&mut self, record: RuntimeWorkload, order: Order) -> Result<(), Refusal> {
        required("workload_id", &record.workload_id)?;
        self.link_component(&record.application, &record.component, &record.component_version, false);
        let id = record.workload_id.clone();
        let new = !self.workloads.contains_key(&id);
        if self.workloads.entry(id.clone()).or_default().join(order, record) || new {
            self.touch(EntityKey::Workload(id));
            self.cache.coverage_dirty = true;
            self.cache.artifact_dirty = true;
        }
        Ok(())
    }

    pub(crate) fn apply_usage(&mut self, record: RuntimeUsage) -> Result<(), Refusal> {
        required("workload_id", &record.workload_id)?;
        self.link_component(&record.application, &record.component, &record.component_version, false);
        let component = component_path(&record.application, &record.component, &record.component_version);
        let mut refused: Option<Refusal> = None;
        for item in record.items {
            if let Err(refusal) = self.apply_item(&component, record.emitted_at_ms, item) {
                refused.get_or_insert(refusal);
            }
        }
        refused.map_or(Ok(()), Err)
    }

    fn apply_item(&mut self, component: &str, emitted_at_ms: i64, item: UsageItem) -> Result<(), Refusal> {
        let rung = Rung::parse(&item.rung)
            .ok_or_else(|| Refusal::new("unknown-rung", format!("{:?} is no rung", item.rung)))?;
        match item.mount.as_str() {
            // An empty word comes from a producer older than the field.
            mount::ROOT | "" => {}
            // Paths of volumes belong to no package of the artifact.
            mount::OTHER => return Ok(()),
            other => return Err(Refusal::new("unknown-mount", format!("{other:?} is no mount kind"))),
        }
        if item.path.is_empty() {
            // Built-in modules and generated classes: nothing of the artifact holds them.
            return Ok(());
        }
        let at = path_key(item.path, item.file_identity)?;
        let first_ms = if item.first_seen_ms == 0 { emitted_at_ms } else { item.first_seen_ms };
        let span = Span { first_ms, last_ms: item.last_seen_ms.max(first_ms) };
        let name = bounded_name(item.name);
        if item.kind == usage_kind::CLASS && rung >= Rung::Loaded {
            self.apply_class(ClassItem { at, component, name: &name, rung, span, probe: &item.probe });
            return Ok(());
        }
        let key = EvidenceKey { at, component: component.to_owned(), kind: item.kind, name };
        let owner = self.ownership.get(&key.at);
        if let Some(known) = self.evidence.get_mut(&key) {
            if !known.join(rung as u8, span, &item.probe) {
                return Ok(());
            }
        } else {
            let waits = owner.is_none() && !self.cache.waiting.contains(&key.at);
            if self.evidence_count() >= EVIDENCE_MAX_ENTRIES
                || (waits && self.cache.waiting.len() >= EVIDENCE_WAITING_MAX_ENTRIES)
            {
                self.count_overflow();
                return Ok(());
            }
            let mut new = Evidence::default();
            new.join(rung as u8, span, &item.probe);
            self.evidence.insert(key.clone(), new);
        }
        for package in owner.iter().flat_map(|owner| &owner.owners) {
            if !self.cache.dirty_packages.contains(&package.package_id) {
                self.cache.dirty_packages.insert(package.package_id.clone());
            }
        }
        self.cache.sort_path(&key.at, owner.map(|owner| owner.state.as_str()));
        self.cache.artifact_dirty = true;
        // What has no known owner, or is a copy, may belong to any package.
        self.cache.all_dirty |= self.is_unresolved(&key.at) || copied_file_of(&key.at.path).is_some();
        self.touch(EntityKey::Evidence(key));
        Ok(())
    }

    pub(crate) fn apply_alert(&mut self, record: RuntimeAlert, order: Order) -> Result<(), Refusal> {
        required("alert_id", &record.alert_id)?;
        let id = record.alert_id.clone();
        if self.alerts.get(&id).is_some_and(|kept| kept.order > order) {
            return Ok(());
        }
        if self.alerts.len() >= ALERTS_MAX && !self.alerts.contains_key(&id) {
            // The history keeps it all the same; the count says that more were raised.
            self.overflow.alerts = self.overflow.alerts.saturating_add(1);
            self.cache.artifact_dirty = true;
            self.touch(EntityKey::Overflow);
            return Ok(());
        }
        self.alerts.insert(id.clone(), crate::entity::Alert { order, record });
        self.cache.dirty_alerts.insert(id.clone());
        self.cache.artifact_dirty = true;
        self.touch(EntityKey::Alert(id));
        Ok(())
    }

    fn link_component(&mut self, application: &str, component: &str, version: &str, by_scan: bool) {
        if application.is_empty() && component.is_empty() && version.is_empty() {
            return;
        }
        let path = component_path(application, component, version);
        let known = self.components.get(&path);
        if known.is_some_and(|known| known.named_by_scan || !by_scan) {
            return;
        }
        let entry = self.components.entry(path.clone()).or_insert_with(|| Component {
            application: application.to_owned(),
            component: component.to_owned(),
            component_version: version.to_owned(),
            ..Component::default()
        });
        entry.named_by_scan |= by_scan;
        self.cache.all_dirty = true;
        self.touch(EntityKey::Component(path));
    }

    fn dirty_alerts_at(&mut self, path: &PathKey) {
        for (id, alert) in &self.alerts {
            if alert.record.path == path.path && identity_of(&alert.record.file_identity) == path.identity {
                self.cache.dirty_alerts.insert(id.clone());
            }
        }
    }
}

/// A name cut to [`NAME_MAX_BYTES`], with a mark that it was.
fn bounded_name(mut name: String) -> String {
    if name.len() > NAME_MAX_BYTES {
        name.truncate(name.floor_char_boundary(NAME_MAX_BYTES));
        name.push('…');
    }
    name
}

/// An empty identity means that the file is the image's.
pub(crate) fn identity_of(identity: &str) -> &str {
    if identity.is_empty() { FILE_IDENTITY_IMAGE } else { identity }
}

fn path_key(path: Vec<u8>, identity: String) -> Result<PathKey, Refusal> {
    let identity = identity_of(&identity).to_owned();
    let key = PathKey { path, identity };
    if key.path.is_empty() || key.path.len() > PATH_MAX_BYTES || key.path[0] == b'/' {
        let detail = format!("{}: a path is relative and has 1 to {PATH_MAX_BYTES} bytes", display(&key));
        return Err(Refusal::new("bad-path", detail));
    }
    Ok(key)
}

fn display(key: &PathKey) -> String {
    String::from_utf8_lossy(&key.path[..key.path.len().min(256)]).into_owned()
}

fn required(field: &str, value: &str) -> Result<(), Refusal> {
    if value.is_empty() {
        return Err(Refusal::new("missing-field", format!("{field} is empty")));
    }
    Ok(())
}

fn known(field: &str, value: &str, words: &[&str]) -> Result<(), Refusal> {
    if words.contains(&value) {
        return Ok(());
    }
    Err(Refusal::new("unknown-word", format!("{field}: {value:?} is none of {}", words.join(", "))))
}

fn clear_envelope<E: plimsoll_schemas::event::Event>(event: &mut E) {
    if let Some(envelope) = event.envelope_mut() {
        envelope.producer_id.clear();
        envelope.boot_id.clear();
        *envelope.sequence = 0;
        *envelope.emitted_at_ms = 0;
    }
}
