//! The record of the artifact: its scan, the cells of the table, components and workloads.
//! A scan that arrived in part must be said here, and never replace the one before.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_schemas::events::{Cell, ComponentSummary, CorrelationArtifact, Warning};
use plimsoll_schemas::words::vulnerable;

use crate::artifact::Artifact;
use crate::coverage::NO_COMPONENT;
use crate::entity::{Component, Folded, Workload};
use crate::limits::{COMPONENTS_MAX, MINUTE_MS, NAMES_MAX, WARNINGS_MAX};
use crate::merge::earlier;
use crate::observed::summaries;
use crate::output::PRODUCER_ID;
use crate::records::count;

impl Artifact {
    /// References by which people know the artifact, of the current scan and of its workloads.
    pub(crate) fn names(&self) -> Vec<String> {
        let scanned = self.current_manifest().into_iter().flat_map(|manifest| &manifest.record.names);
        let run = self.workloads.values().map(|workload| &workload.image_name);
        bounded(scanned.chain(run))
    }

    /// The totals; `None` while nothing is known that would be shown.
    pub(crate) fn artifact_record(&self) -> Option<CorrelationArtifact> {
        let manifests: Vec<_> =
            self.staged().filter_map(|(id, scan)| scan.entity.manifest.as_ref().map(|m| (id, m))).collect();
        let nothing = self.current.is_none()
            && manifests.is_empty()
            && self.components.is_empty()
            && self.workloads.is_empty()
            && self.evidence.is_empty()
            && self.classes.is_empty()
            && self.alerts.is_empty();
        if nothing {
            return None;
        }
        let mut record = CorrelationArtifact {
            artifact: self.key.clone(),
            producer_id: PRODUCER_ID.to_owned(),
            names: self.names(),
            alert_count: count(self.alerts.len()) + self.overflow.alerts,
            unowned_path_count: count(self.cache.unowned.len()),
            unresolved_path_count: count(self.cache.unresolved.len() + self.cache.waiting.len()),
            ..CorrelationArtifact::default()
        };
        let aliases = self.workloads.values().flat_map(|workload| &workload.image_aliases);
        if let Some(manifest) = self.current_manifest() {
            let scan = &manifest.record;
            record.emitted_at_ms = manifest.emitted_at_ms;
            record.scanned = true;
            record.scan_id.clone_from(&scan.scan_id);
            record.source.clone_from(&scan.source);
            record.aliases = bounded(scan.aliases.iter().chain(aliases));
            record.os.clone_from(&scan.os);
            record.platform.clone_from(&scan.platform);
            record.scanner_version.clone_from(&scan.scanner_version);
            record.database_version.clone_from(&scan.database_version);
            record.scanned_at_ms = scan.completed_at_ms;
            record.warnings.clone_from(&scan.warnings);
        } else {
            record.aliases = bounded(aliases);
        }
        let newest = self.current_manifest().map(|manifest| manifest.order);
        for (id, manifest) in manifests {
            if newest.is_none_or(|newest| manifest.order > newest) {
                record.emitted_at_ms = record.emitted_at_ms.max(manifest.emitted_at_ms);
                record.warnings.insert(0, incomplete(id, manifest.record.package_count));
            }
        }
        record.warnings.truncate(WARNINGS_MAX);
        self.count_packages(&mut record);
        self.count_workloads(&mut record);
        let raised = self.alerts.values().map(|alert| alert.record.raised_at_ms).max().unwrap_or(0);
        record.emitted_at_ms = record.emitted_at_ms.max(raised);
        Some(record)
    }

    fn count_packages(&self, record: &mut CorrelationArtifact) {
        let mut cells: BTreeMap<(&str, &str, &str), i64> = BTreeMap::new();
        for cell in self.cache.scopes.get(&None).into_iter().flat_map(|scope| scope.cells.values()) {
            *cells.entry((&cell.kind, cell.vulnerable, cell.usage)).or_default() += 1;
            record.package_count += 1;
            record.vulnerable_package_count += i64::from(cell.vulnerable == vulnerable::YES);
            record.finding_count += cell.finding_count;
        }
        let cell = |((kind, vulnerable, usage), package_count): ((&str, &str, &str), i64)| Cell {
            kind: kind.to_owned(),
            vulnerable: vulnerable.to_owned(),
            r#use: usage.to_owned(),
            package_count,
        };
        record.cells = cells.into_iter().map(cell).collect();
    }

    fn count_workloads(&self, record: &mut CorrelationArtifact) {
        let mut newest: Option<&Workload> = None;
        let mut by_component: BTreeMap<String, Vec<&Workload>> = BTreeMap::new();
        for workload in self.workloads.values() {
            record.workload_count += 1;
            record.live_workload_count += i64::from(workload.is_live(self.clock_ms));
            record.emitted_at_ms = record.emitted_at_ms.max(last_shown_ms(workload));
            by_component.entry(workload.component_path()).or_default().push(workload);
            if newest.is_none_or(|newest| newest.order < workload.order) {
                newest = Some(workload);
            }
        }
        record.workload_count += self.components.values().map(|c| c.folded.workload_count).sum::<i64>();
        if let Some(newest) = newest {
            record.unidentified_reason.clone_from(&newest.unidentified_reason);
            record.moved_to.clone_from(&newest.moved_to);
        }
        record.component_count = count(self.linked().count());
        record.components = self
            .linked()
            .take(COMPONENTS_MAX)
            .map(|(path, component)| self.summary(path, component, &by_component))
            .collect();
    }

    fn summary(
        &self,
        path: &str,
        component: &Component,
        by_component: &BTreeMap<String, Vec<&Workload>>,
    ) -> ComponentSummary {
        let counted = [path, NO_COMPONENT].into_iter().filter(|of| self.counts_for(of, Some(path)));
        let workloads: Vec<&Workload> =
            counted.clone().filter_map(|of| by_component.get(of)).flatten().copied().collect();
        let folded: Vec<&Folded> =
            counted.filter_map(|of| self.components.get(of)).map(|known| &known.folded).collect();
        let mut summary = ComponentSummary {
            application: component.application.clone(),
            component: component.component.clone(),
            component_version: component.component_version.clone(),
            observed: summaries(&folded, &workloads),
            ..ComponentSummary::default()
        };
        for folded in folded.iter().filter(|folded| folded.workload_count > 0) {
            summary.workload_count += folded.workload_count;
            summary.first_seen_ms = earlier(summary.first_seen_ms, folded.first_seen_ms);
            summary.last_seen_ms = summary.last_seen_ms.max(folded.last_seen_ms);
        }
        for workload in workloads {
            summary.workload_count += 1;
            summary.live_workload_count += i64::from(workload.is_live(self.clock_ms));
            summary.first_seen_ms = earlier(summary.first_seen_ms, workload.started_at_ms);
            summary.last_seen_ms = summary.last_seen_ms.max(last_shown_ms(workload));
        }
        summary
    }
}

/// Until when a workload was seen: by the minute while it lives, so that not each heartbeat is a new record.
fn last_shown_ms(workload: &Workload) -> i64 {
    if workload.stopped_at_ms != 0 {
        return workload.last_seen_ms;
    }
    (workload.last_seen_ms - workload.last_seen_ms.rem_euclid(MINUTE_MS)).max(workload.started_at_ms)
}

fn incomplete(scan_id: &str, package_count: i64) -> Warning {
    Warning {
        code: "scan-incomplete".to_owned(),
        subject: scan_id.to_owned(),
        message: format!(
            "the scan's {package_count} packages have not all arrived; what stands here is older"
        ),
        remedy: "wait a moment; if this stays, scan again".to_owned(),
    }
}

fn bounded<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let names: BTreeSet<&String> = names.filter(|name| !name.is_empty()).collect();
    names.into_iter().take(NAMES_MAX).cloned().collect()
}
