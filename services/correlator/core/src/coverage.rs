//! What was watched, for one scope and one set of probes that could have seen a package's use.
//! Watching that began late, or lost events, must never count as watching from the first exec.

use std::collections::BTreeMap;

use plimsoll_schemas::events::Coverage;
use plimsoll_schemas::identity::component_path;
use plimsoll_schemas::words::{measured_as, ownership_state, probe};

use crate::artifact::Artifact;
use crate::entity::{Interval, Ownership, PathKey, Workload};
use crate::limits::{HOUR_MS, MINUTE_MS, OWNERSHIP_WAIT_MS};
use crate::merge::earlier;

/// Begin of the keys of directories that belong to a component.
const COMPONENT_PREFIX: &str = "component/";
/// Begin of the keys of images.
const IMAGE_PREFIX: &str = "image/";
/// Path of the component of workloads that name none.
pub(crate) const NO_COMPONENT: &str = "//";

/// Coverage with what decides about use but is not on the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    pub coverage: Coverage,
    /// Workloads in sandboxes that no probe can look into.
    pub sandboxed_count: i64,
    /// Some workload was watched by a probe that counts, and more than tools of the ecosystem could run in it.
    pub watched: bool,
    /// Some workload was watched from its first exec, but events were lost.
    pub lossy: bool,
    /// Some workload was watched from its first exec, but with a gap.
    pub gap: bool,
    /// Some workload was watched from its first exec, but ran on other packages than those scanned.
    pub other_root: bool,
    /// Why a probe that counts did not run, by the agent.
    pub unavailable: String,
    /// Why events of a probe that counts were lost, by the agent.
    pub lost_reason: String,
    /// Usage items dropped because of a bound.
    pub overflow: i64,
    /// Why packages of an ecosystem could not be measured in some workload, by ecosystem.
    pub not_measurable: BTreeMap<String, String>,
    /// Why a watched workload proves nothing about the ecosystem: only tools of it ran there. Empty if none was such.
    pub only_tools: String,
}

/// Keeps the first reason in the order of text, so that the order of workloads does not matter.
pub(crate) fn keep_first(kept: &mut BTreeMap<String, String>, ecosystem: &str, reason: &str) {
    let known = kept.entry(ecosystem.to_owned()).or_insert_with(|| reason.to_owned());
    if reason < known.as_str() {
        *known = reason.to_owned();
    }
}

/// The same for one reason; an empty one is none.
pub(crate) fn keep_reason(kept: &mut String, reason: &str) {
    if kept.is_empty() || reason < kept.as_str() {
        reason.clone_into(kept);
    }
}

/// How finely a duration of a live watch is shown: so that a heartbeat does not send all packages again.
/// Each step is a multiple of the one before, so that what is shown never goes back.
pub(crate) fn coarse_ms(duration_ms: i64) -> i64 {
    let step = if duration_ms < 10 * MINUTE_MS {
        MINUTE_MS
    } else if duration_ms < 2 * HOUR_MS {
        10 * MINUTE_MS
    } else if duration_ms < 48 * HOUR_MS {
        HOUR_MS
    } else {
        6 * HOUR_MS
    };
    duration_ms - duration_ms.rem_euclid(step)
}

/// How finely a number of paths is shown: rounded up to a power of two, so that one path more or less does not send
/// all packages of an artifact again.
fn coarse_count(count: usize) -> i64 {
    let shown = if count < 2 { count } else { count.checked_next_power_of_two().unwrap_or(usize::MAX) };
    i64::try_from(shown).unwrap_or(i64::MAX)
}

/// Whether all watching by one probe began with the first exec: a later begin means a gap before it.
fn gapless(intervals: &[Interval]) -> bool {
    intervals.iter().all(|interval| interval.from_first_exec)
}

/// Total length of the union of intervals.
fn union_ms(mut intervals: Vec<Interval>) -> i64 {
    intervals.sort();
    let (mut total, mut end) = (0, i64::MIN);
    for interval in intervals {
        let from = interval.from_ms.max(end);
        total += (interval.until_ms - from).max(0);
        end = end.max(interval.until_ms);
    }
    total
}

impl Workload {
    pub(crate) fn component_path(&self) -> String {
        component_path(&self.application, &self.component, &self.component_version)
    }

    /// Ecosystems whose packages could not be measured in it, with the reason and the remedy.
    pub(crate) fn not_measurable(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unavailable_probes.iter().filter_map(|(key, reason)| {
            Some((key.strip_prefix(probe::NOT_MEASURABLE_PREFIX)?, reason.as_str()))
        })
    }

    /// Ecosystems of which only tools ran in it, whose loads do not count, with the reason and the remedy.
    pub(crate) fn not_measured(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unavailable_probes.iter().filter_map(|(key, reason)| {
            Some((key.strip_prefix(probe::NOT_MEASURED_PREFIX)?, reason.as_str()))
        })
    }

    pub(crate) fn unrepaired(&self, probe: &str) -> i64 {
        let losses = self.losses.get(probe).into_iter().flat_map(|boots| boots.values());
        losses.filter(|loss| !loss.repaired).map(|loss| loss.events_lost).sum()
    }
}

impl Artifact {
    /// Whether what workloads of the component `of` did counts for `component`; for `None`, the whole artifact, all does.
    /// A container that names no component counts for each one that a scan named its image for.
    pub(crate) fn counts_for(&self, of: &str, component: Option<&str>) -> bool {
        let is_named = |component| self.components.get(component).is_some_and(|known| known.named_by_scan);
        component.is_none_or(|component| {
            of == component || of == NO_COMPONENT && self.key.starts_with(IMAGE_PREFIX) && is_named(component)
        })
    }

    /// Coverage of the artifact, or of one component of it, for packages of an ecosystem that the probes `observable_by`
    /// can see.
    pub(crate) fn facts(&self, component: Option<&str>, ecosystem: &str, observable_by: &[String]) -> Facts {
        let ecosystem = measured_as(ecosystem);
        let mut facts = Facts { overflow: self.overflow.items, ..Facts::default() };
        let mut coverage = Coverage { events_lost: self.overflow.items, ..Coverage::default() };
        let mut live = false;
        let scanned_root = self.scanned_root();
        let mut from_first_exec_count = 0;
        for workload in self.workloads.values() {
            if !self.counts_for(&workload.component_path(), component) {
                continue;
            }
            coverage.workload_count += 1;
            if workload.sandboxed {
                facts.sandboxed_count += 1;
                continue;
            }
            live |= workload.stopped_at_ms == 0;
            for (ecosystem, reason) in workload.not_measurable() {
                keep_first(&mut facts.not_measurable, ecosystem, reason);
            }
            let only_tools =
                workload.not_measured().find(|(of, _)| *of == ecosystem).map(|(_, reason)| reason);
            let mut intervals = Vec::new();
            let mut from_first_exec = false;
            for probe in observable_by {
                let lost = workload.unrepaired(probe);
                coverage.events_lost += lost;
                if let Some(reason) = workload.unavailable_probes.get(probe) {
                    keep_reason(&mut facts.unavailable, reason);
                }
                let Some(watched) = workload.watched.get(probe).filter(|watched| !watched.is_empty()) else {
                    continue;
                };
                if !coverage.probes.contains(probe) {
                    coverage.probes.push(probe.clone());
                }
                intervals.extend(watched.iter().copied());
                if only_tools.is_some() {
                    continue;
                }
                if watched[0].from_first_exec || watched.iter().any(|interval| interval.from_first_exec) {
                    facts.lossy |= lost > 0;
                    if let Some(reason) = workload.reasons(probe).min().filter(|_| lost > 0) {
                        keep_reason(&mut facts.lost_reason, reason);
                    }
                    facts.gap |= !gapless(watched);
                    let same_root = scanned_root.is_none_or(|hash| hash == workload.root_package_hash);
                    facts.other_root |= !same_root;
                    from_first_exec |= lost == 0 && gapless(watched) && same_root;
                }
            }
            match only_tools {
                Some(reason) if !intervals.is_empty() => keep_reason(&mut facts.only_tools, reason),
                _ => facts.watched |= !intervals.is_empty(),
            }
            from_first_exec_count += i64::from(from_first_exec);
            for interval in &intervals {
                coverage.since_ms = earlier(coverage.since_ms, interval.from_ms);
                coverage.until_ms = coverage.until_ms.max(interval.until_ms);
            }
            coverage.watched_ms += union_ms(intervals);
        }
        from_first_exec_count +=
            self.add_folded(component, ecosystem, observable_by, &mut coverage, &mut facts);
        coverage.probes.sort();
        coverage.workload_count_from_first_exec = from_first_exec_count;
        coverage.from_first_exec = from_first_exec_count > 0 && self.overflow.items == 0;
        if live {
            coverage.until_ms = coverage.since_ms + coarse_ms((coverage.until_ms - coverage.since_ms).max(0));
            coverage.watched_ms = coarse_ms(coverage.watched_ms);
        }
        let unresolved = self.unresolved_paths().filter(|path| self.used_by(path, component)).count();
        coverage.unresolved_path_count = coarse_count(unresolved);
        facts.coverage = coverage;
        facts
    }

    /// Hash of the packages that the current scan of a component's directory found. A workload of the component whose
    /// root held others was not watched using these: the scan may be of another directory.
    fn scanned_root(&self) -> Option<&str> {
        let scan = self.scans.get(self.current.as_ref()?)?;
        let manifest = scan.entity.manifest.as_ref()?;
        self.key.starts_with(COMPONENT_PREFIX).then_some(manifest.record.package_hash.as_str())
    }

    fn add_folded(
        &self,
        component: Option<&str>,
        ecosystem: &str,
        observable_by: &[String],
        coverage: &mut Coverage,
        facts: &mut Facts,
    ) -> i64 {
        let mut count = 0;
        for (path, entity) in &self.components {
            let folded = &entity.folded;
            if !self.counts_for(path, component) || folded.workload_count == 0 {
                continue;
            }
            coverage.workload_count += folded.workload_count;
            facts.sandboxed_count += folded.sandboxed_count;
            for (ecosystem, reason) in &folded.not_measurable {
                keep_first(&mut facts.not_measurable, ecosystem, reason);
            }
            let (mut from_first_exec, mut watched_ms) = (0, 0);
            let only_tools = folded.only_tools.get(ecosystem);
            for probe in observable_by {
                let Some(share) = folded.probes.get(probe) else { continue };
                let tools = only_tools.and_then(|only_tools| only_tools.probes.get(probe));
                let tools_of = |root: &String| {
                    let roots = tools.map(|tools| &tools.workload_count_from_first_exec);
                    roots.and_then(|roots| roots.get(root)).copied().unwrap_or(0)
                };
                if let (Some(_), Some(only_tools)) = (tools, only_tools) {
                    keep_reason(&mut facts.only_tools, &only_tools.reason);
                }
                if !coverage.probes.contains(probe) {
                    coverage.probes.push(probe.clone());
                }
                coverage.since_ms = earlier(coverage.since_ms, share.since_ms);
                coverage.until_ms = coverage.until_ms.max(share.until_ms);
                coverage.events_lost += share.events_lost;
                // The probes watched the same workloads: the best one counts.
                watched_ms = watched_ms.max(share.watched_ms);
                let counts = share.workload_count_from_first_exec.iter();
                let counts = counts.map(|(root, count)| (root, count - tools_of(root)));
                let all: i64 = counts.clone().map(|(_, count)| count).sum();
                let same_root = match self.scanned_root() {
                    Some(hash) => counts.filter(|(root, _)| *root == hash).map(|(_, count)| count).sum(),
                    None => all,
                };
                // States from before tools were told apart do not count the workloads.
                facts.watched |=
                    all > 0 || tools.is_none_or(|tools| share.workload_count > tools.workload_count);
                facts.other_root |= same_root < all;
                from_first_exec = from_first_exec.max(same_root);
            }
            coverage.watched_ms += watched_ms;
            count += from_first_exec;
        }
        count
    }

    /// Used paths whose owner could not be found out, or did not come in time.
    pub(crate) fn unresolved_paths(&self) -> impl Iterator<Item = &PathKey> {
        let late = self.cache.waiting.iter().filter(|path| self.waits_too_long(path, self.clock_ms));
        self.cache.unresolved.iter().chain(late)
    }

    pub(crate) fn is_unresolved(&self, path: &PathKey) -> bool {
        let is_unowned = |ownership: &Ownership| ownership.state == ownership_state::UNOWNED;
        self.cache.unresolved.contains(path)
            || self.cache.placeless.contains(path) && !self.ownership.get(path).is_some_and(is_unowned)
            || self.cache.waiting.contains(path) && self.waits_too_long(path, self.clock_ms)
    }

    pub(crate) fn waits_too_long(&self, path: &PathKey, now_ms: i64) -> bool {
        if now_ms == 0 {
            return false;
        }
        let first = self.evidence_at(path).filter_map(|seen| seen.first_ms()).min();
        first.is_some_and(|first_ms| first_ms + OWNERSHIP_WAIT_MS < now_ms)
    }

    fn used_by(&self, path: &PathKey, component: Option<&str>) -> bool {
        self.evidence_at(path).any(|seen| self.counts_for(seen.component(), component))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_durations_are_coarse_and_never_go_back() {
        for (duration_ms, expect) in [
            (59_999, 0),
            (9 * MINUTE_MS + 59_999, 9 * MINUTE_MS),
            (10 * MINUTE_MS, 10 * MINUTE_MS),
            (2 * HOUR_MS - 1, 110 * MINUTE_MS),
            (2 * HOUR_MS, 2 * HOUR_MS),
            (48 * HOUR_MS - 1, 47 * HOUR_MS),
            (48 * HOUR_MS, 48 * HOUR_MS),
        ] {
            assert_eq!(coarse_ms(duration_ms), expect, "{duration_ms}");
        }
        let mut last = 0;
        for minute in 0..(50 * 60) {
            let shown = coarse_ms(minute * MINUTE_MS);
            assert!(shown >= last);
            last = shown;
        }
    }

    #[test]
    fn shown_counts_are_coarse_and_zero_only_for_none() {
        for (count, expect) in [(0, 0), (1, 1), (2, 2), (3, 4), (5, 8), (1_000, 1_024)] {
            assert_eq!(coarse_count(count), expect);
        }
    }

    #[test]
    fn overlaps_count_once() {
        let interval = |from_ms, until_ms| Interval { from_ms, until_ms, from_first_exec: true };
        assert_eq!(union_ms(vec![interval(0, 10), interval(5, 12), interval(20, 21)]), 13);
    }
}
