//! A workload as events: what it is, what watched it, and its uses in batches.
//! It must never make an event larger than the bounds below.

use plimsoll_schemas::events::{Loss, RuntimeUsage, RuntimeWorkload, UsageItem, WatchedInterval};

use super::Workload;

/// Most items of one usage event.
const BATCH_MAX_ITEMS: usize = 1_000;
/// Most bytes of paths and names in one usage event.
const BATCH_MAX_BYTES: usize = 512 * 1024;

/// What stands for a program where the reason is that processes ran on.
const RAN_ON: &str = "processes that ran on";

impl Workload {
    /// The workload's events, one per artifact.
    pub fn events(&self) -> Vec<RuntimeWorkload> {
        let event = self.event();
        self.artifacts
            .iter()
            .map(|artifact| RuntimeWorkload { artifact: artifact.key.clone(), ..event.clone() })
            .collect()
    }

    /// The last event under the key that it was unidentified by, once it is identified.
    pub fn take_move(&mut self) -> Option<RuntimeWorkload> {
        self.moved.take()
    }

    /// The workload as it is now, without its artifact.
    pub(super) fn event(&self) -> RuntimeWorkload {
        let watched = self.watches.iter().map(|watch| WatchedInterval {
            probe: watch.probe.to_owned(),
            boot_id: watch.boot_id.clone(),
            from_ms: watch.from_ms,
            until_ms: watch.until_ms,
            from_first_exec: watch.from_first_exec,
        });
        let (mut lost, mut unavailable_probes) = (self.losses.clone(), self.unavailable_probes());
        if let Some(run_on) = &self.run_on {
            for watch in &self.watches {
                let known = lost.entry((watch.probe.to_owned(), watch.boot_id.clone())).or_default();
                *known = known.saturating_add(run_on.processes);
                unavailable_probes.insert(format!("{}:{RAN_ON}", watch.probe), run_on.reason());
            }
        }
        let losses = lost.iter().map(|((probe, boot_id), events_lost)| Loss {
            probe: probe.clone(),
            boot_id: boot_id.clone(),
            events_lost: i64::try_from(*events_lost).unwrap_or(i64::MAX),
            repaired: false,
        });
        RuntimeWorkload {
            workload_id: self.id.clone(),
            watched: watched.collect(),
            losses: losses.collect(),
            unavailable_probes,
            observed: self.observed_events(),
            ..self.base.clone()
        }
    }

    /// Usage events of items that belong to the artifact at `index`, each within the bounds.
    pub fn usage_events(&self, index: usize, items: Vec<UsageItem>) -> Vec<RuntimeUsage> {
        let Some(artifact) = self.artifacts.get(index) else { return Vec::new() };
        let mut events: Vec<RuntimeUsage> = Vec::new();
        let mut size_bytes = 0;
        for item in items {
            let item_bytes = item.path.len() + item.name.len() + item.process.len() + 128;
            let full = events.last().is_none_or(|last| {
                last.items.len() >= BATCH_MAX_ITEMS || size_bytes + item_bytes > BATCH_MAX_BYTES
            });
            if full {
                size_bytes = 0;
                events.push(RuntimeUsage {
                    artifact: artifact.key.clone(),
                    application: self.base.application.clone(),
                    component: self.base.component.clone(),
                    component_version: self.base.component_version.clone(),
                    workload_id: self.id.clone(),
                    ..RuntimeUsage::default()
                });
            }
            size_bytes += item_bytes;
            if let Some(last) = events.last_mut() {
                last.items.push(item);
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::workload;
    use super::super::{ArtifactView, RunOn, Watch};
    use super::*;
    use plimsoll_schemas::words::probe;

    #[test]
    fn what_runs_on_is_a_loss_of_all_that_watched() {
        let mut workload = workload();
        workload.watches = [probe::LD_AUDIT, probe::PYTHON_IMPORT]
            .map(|probe| Watch { probe, boot_id: "b".into(), from_ms: 1, until_ms: 2, from_first_exec: true })
            .into();
        workload.set_loss(probe::LD_AUDIT, "b", 3);
        workload.run_on = Some(RunOn { processes: 2, first: 7, name: "python3".into(), in_container: false });
        let event = workload.event();
        let losses: Vec<_> =
            event.losses.iter().map(|loss| (loss.probe.as_str(), loss.events_lost)).collect();
        assert_eq!(losses, [(probe::LD_AUDIT, 5), (probe::PYTHON_IMPORT, 2)]);
        let reasons: Vec<_> = event.unavailable_probes.values().collect();
        assert!(reasons.len() == 2 && reasons[0].starts_with("2 processes ran on"), "{reasons:?}");
        assert!(reasons[0].contains("(first: python3, pid 7)"), "{reasons:?}");
    }

    #[test]
    fn batches_are_bounded() {
        let mut workload = workload();
        workload.identified(vec![ArtifactView { key: "image/x".into(), root: Vec::new() }]);
        let item = |bytes: usize| UsageItem { path: vec![b'a'; bytes], ..UsageItem::default() };
        for (count, bytes, expected) in [(1, 10, 1), (1_000, 10, 1), (1_001, 10, 2), (300, 4_000, 3)] {
            let events = workload.usage_events(0, vec![item(bytes); count]);
            assert_eq!(events.len(), expected, "{count} items of {bytes} bytes");
            assert_eq!(events.iter().map(|event| event.items.len()).sum::<usize>(), count);
        }
        assert!(workload.usage_events(7, vec![item(1)]).is_empty());
    }
}
