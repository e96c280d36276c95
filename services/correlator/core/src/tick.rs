//! What time alone changes: staged scans expire, stopped workloads fold, silent ones live no more.
//! A tick must never take away what an input within its retention could still repeat.

use crate::artifact::Artifact;
use crate::coverage::{keep_first, keep_reason};
use crate::entity::{Component, EntityKey, PathKey, Workload};
use crate::limits::{
    ALERT_MAX_AGE_MS, ROOTS_MAX, STAGED_SCAN_MAX_AGE_MS, SUPERSEDED_SCAN_MAX_AGE_MS, WORKLOAD_FOLD_AFTER_MS,
    WORKLOAD_SILENT_AFTER_MS,
};
use crate::merge::earlier;

impl Workload {
    /// Whether it runs, as far as was heard at `now_ms` (0: no tick has passed).
    pub(crate) fn is_live(&self, now_ms: i64) -> bool {
        self.stopped_at_ms == 0 && self.moved_to.is_empty() && !self.is_silent(now_ms)
    }

    fn is_silent(&self, now_ms: i64) -> bool {
        self.last_seen_ms + WORKLOAD_SILENT_AFTER_MS < now_ms
    }

    /// When it ended, if it did.
    fn ended_at_ms(&self, now_ms: i64) -> Option<i64> {
        if self.stopped_at_ms != 0 {
            return Some(self.stopped_at_ms);
        }
        self.is_silent(now_ms).then_some(self.last_seen_ms)
    }
}

impl Artifact {
    pub(crate) fn apply_tick(&mut self, now_ms: i64) {
        if now_ms <= self.clock_ms {
            return;
        }
        let mut effect = self.expire_scans(now_ms);
        effect |= self.fold_workloads(now_ms);
        effect |= self.expire_alerts(now_ms);
        if self.workloads.values().any(|w| w.is_live(self.clock_ms) != w.is_live(now_ms)) {
            self.cache.artifact_dirty = true;
            effect = true;
        }
        let late =
            |path: &PathKey| self.waits_too_long(path, now_ms) && !self.waits_too_long(path, self.clock_ms);
        if self.cache.waiting.iter().any(late) {
            self.cache.all_dirty = true;
            effect = true;
        }
        if effect {
            self.clock_ms = now_ms;
            self.touch(EntityKey::Clock);
        }
    }

    /// Keeps the mark that a tick may have an effect.
    pub(crate) fn settle_open(&mut self) {
        let open = self.scans.len() > usize::from(self.current.is_some())
            || !self.workloads.is_empty()
            || !self.alerts.is_empty()
            || !self.cache.waiting.is_empty();
        if open != self.open {
            self.open = open;
            self.touch(EntityKey::Open);
        }
    }

    fn expire_scans(&mut self, now_ms: i64) -> bool {
        let undated =
            |scan: &crate::artifact::ScanState| scan.entity.staged_since_ms == 0 && !scan.entity.superseded;
        let mut effect = false;
        let undated: Vec<String> =
            self.scans.iter().filter(|(_, scan)| undated(scan)).map(|(id, _)| id.clone()).collect();
        for id in undated {
            if let Some(scan) = self.scans.get_mut(&id) {
                scan.entity.staged_since_ms = now_ms;
            }
            self.touch(EntityKey::Scan(id));
            effect = true;
        }
        let expired: Vec<String> = self
            .scans
            .iter()
            .filter(|(id, scan)| {
                if scan.entity.superseded {
                    let manifest = scan.entity.manifest.as_ref();
                    return manifest.is_none_or(|m| m.emitted_at_ms + SUPERSEDED_SCAN_MAX_AGE_MS < now_ms);
                }
                self.current.as_ref() != Some(*id)
                    && scan.entity.staged_since_ms + STAGED_SCAN_MAX_AGE_MS < now_ms
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in &expired {
            self.drop_scan(id);
        }
        effect || !expired.is_empty()
    }

    fn expire_alerts(&mut self, now_ms: i64) -> bool {
        let old = self.alerts.iter().filter(|(_, a)| a.record.raised_at_ms + ALERT_MAX_AGE_MS < now_ms);
        let old: Vec<String> = old.map(|(id, _)| id.clone()).collect();
        for id in &old {
            self.alerts.remove(id);
            self.cache.dirty_alerts.insert(id.clone());
            self.cache.artifact_dirty = true;
            self.touch(EntityKey::Alert(id.clone()));
        }
        !old.is_empty()
    }

    fn fold_workloads(&mut self, now_ms: i64) -> bool {
        let done =
            |w: &Workload| w.ended_at_ms(now_ms).is_some_and(|at| at + WORKLOAD_FOLD_AFTER_MS < now_ms);
        let done: Vec<String> =
            self.workloads.iter().filter(|(_, w)| done(w)).map(|(id, _)| id.clone()).collect();
        for id in &done {
            let Some(workload) = self.workloads.remove(id) else { continue };
            let path = workload.component_path();
            // Workloads without any name fold into the component without any, which is shown nowhere.
            let component = self.components.entry(path.clone()).or_insert_with(|| Component {
                application: workload.application.clone(),
                component: workload.component.clone(),
                component_version: workload.component_version.clone(),
                ..Component::default()
            });
            fold(component, &workload);
            self.cache.coverage_dirty = true;
            self.cache.artifact_dirty = true;
            self.touch(EntityKey::Workload(id.clone()));
            self.touch(EntityKey::Component(path));
        }
        !done.is_empty()
    }
}

fn fold(component: &mut Component, workload: &Workload) {
    let folded = &mut component.folded;
    folded.workload_count += 1;
    folded.sandboxed_count += i64::from(workload.sandboxed);
    for (ecosystem, reason) in workload.not_measurable() {
        keep_first(&mut folded.not_measurable, ecosystem, reason);
    }
    for (ecosystem, reason) in workload.not_measured() {
        keep_reason(&mut folded.only_tools.entry(ecosystem.to_owned()).or_default().reason, reason);
    }
    folded.fold_observed(workload);
    folded.first_seen_ms = earlier(folded.first_seen_ms, workload.started_at_ms);
    folded.last_seen_ms = folded.last_seen_ms.max(workload.last_seen_ms);
    for (probe, intervals) in &workload.watched {
        let (Some(first), Some(last)) = (intervals.first(), intervals.last()) else { continue };
        let lost = workload.unrepaired(probe);
        let share = folded.probes.entry(probe.clone()).or_default();
        share.since_ms = earlier(share.since_ms, first.from_ms);
        share.until_ms = share.until_ms.max(last.until_ms);
        share.watched_ms += intervals.iter().map(|i| i.until_ms - i.from_ms).sum::<i64>();
        share.events_lost += lost;
        share.workload_count += 1;
        let from_first_exec = !workload.sandboxed && lost == 0 && intervals.iter().all(|i| i.from_first_exec);
        let roots = &mut share.workload_count_from_first_exec;
        let known = roots.len() < ROOTS_MAX || roots.contains_key(&workload.root_package_hash);
        let counts = from_first_exec && known;
        if counts {
            *roots.entry(workload.root_package_hash.clone()).or_default() += 1;
        }
        for (ecosystem, _) in workload.not_measured() {
            let Some(tools) = folded.only_tools.get_mut(ecosystem) else { continue };
            let share = tools.probes.entry(probe.clone()).or_default();
            share.workload_count += 1;
            if counts {
                let roots = &mut share.workload_count_from_first_exec;
                *roots.entry(workload.root_package_hash.clone()).or_default() += 1;
            }
        }
    }
}
