//! What the daemon's metrics say, read from the events on their way out: an alert needs no second truth.
//! It must never hold an event back, nor count one that was not delivered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use plimsoll_kit::metrics::{ByLabels, Counter, Gauge, Metrics};
use plimsoll_schemas::events::RuntimeWorkload;

use crate::output::{Output, OutputError, RuntimeEvent};

/// Most workloads that are remembered; those that ended make room, and what is told of them again counts again.
const KNOWN_MAX: usize = 16_384;
/// A live workload is told of every 10 s: one of an earlier life of the agent, whose end nobody saw, is not.
const SILENT_AFTER: Duration = Duration::from_secs(60);

/// What is kept of a workload, so that its next event is counted by what is new in it.
struct Known {
    /// Lost observations by probe.
    lost: BTreeMap<String, u64>,
    /// Probes that could not observe it, or not all of it.
    unavailable: BTreeSet<String>,
    /// When it was last told of; `None` once it has ended.
    live_at: Option<Instant>,
}

/// An output that is counted.
pub struct Metered<O> {
    output: O,
    delivered: ByLabels<Counter>,
    undeliverable: Counter,
    failures: Counter,
    lost: ByLabels<Counter>,
    workloads: Gauge,
    unavailable: ByLabels<Gauge>,
    known: HashMap<String, Known>,
}

impl<O: Output> Metered<O> {
    /// Counts in these metrics what goes to `output`.
    pub fn new(output: O, metrics: &Metrics) -> Self {
        Self {
            output,
            delivered: metrics.counter_with("events_delivered", "Events that the broker took", &["kind"]),
            undeliverable: metrics.counter("events_refused", "Events that can never be delivered"),
            failures: metrics.counter("deliveries_failed", "Deliveries to be tried again; spooled meanwhile"),
            lost: metrics.counter_with(
                "observations_lost",
                "Observations that workloads lost; what they did not use is not measured",
                &["probe"],
            ),
            workloads: metrics.gauge("workloads", "Workloads that are observed and live"),
            unavailable: metrics.gauge_with(
                "workloads_not_fully_observed",
                "Live workloads that a probe could not observe, or not all of; the reasons stand in the reports",
                &["probe"],
            ),
            known: HashMap::new(),
        }
    }

    fn count(&mut self, event: &RuntimeEvent, now: Instant) {
        let kind = match event {
            RuntimeEvent::Workload(workload) => {
                self.look_at(workload, now);
                "workload"
            }
            RuntimeEvent::Usage(_) => "usage",
            RuntimeEvent::Alert(_) => "alert",
            RuntimeEvent::ScanRequest(_) => "scan-request",
        };
        self.delivered.with(&[kind]).inc();
    }

    fn look_at(&mut self, workload: &RuntimeWorkload, now: Instant) {
        let mut lost: BTreeMap<String, u64> = BTreeMap::new();
        for loss in &workload.losses {
            *lost.entry(loss.probe.clone()).or_default() += u64::try_from(loss.events_lost).unwrap_or(0);
        }
        let before = self.known.remove(&workload.workload_id);
        for (probe, lost) in &mut lost {
            let known = before.as_ref().and_then(|before| before.lost.get(probe)).copied().unwrap_or(0);
            self.lost.with(&[probe.as_str()]).inc_by(lost.saturating_sub(known));
            *lost = known.max(*lost);
        }
        // `jvmti:/usr/bin/java` is about one program.
        let probe_of = |key: &String| key.split(':').next().unwrap_or(key).to_owned();
        let unavailable = workload.unavailable_probes.keys().map(probe_of).collect();
        let live_at = (workload.stopped_at_ms == 0).then_some(now);
        if self.known.len() >= KNOWN_MAX {
            self.known.retain(|_, known| known.live_at.is_some());
        }
        if self.known.len() < KNOWN_MAX {
            self.known.insert(workload.workload_id.clone(), Known { lost, unavailable, live_at });
        }
    }

    /// What live workloads there are now.
    fn set_gauges(&mut self, now: Instant) {
        let (mut live, mut counts) = (0, BTreeMap::new());
        for known in self.known.values_mut() {
            known.live_at = known.live_at.filter(|at| now.duration_since(*at) < SILENT_AFTER);
            live += i64::from(known.live_at.is_some());
            for probe in &known.unavailable {
                *counts.entry(probe.as_str()).or_insert(0) += i64::from(known.live_at.is_some());
            }
        }
        self.workloads.set(live);
        for (probe, count) in counts {
            self.unavailable.with(&[probe]).set(count);
        }
    }
}

impl<O: Output> Output for Metered<O> {
    fn publish(&mut self, events: &[RuntimeEvent]) -> Result<Vec<RuntimeEvent>, OutputError> {
        let published = self.output.publish(events);
        if published.is_err() {
            self.failures.inc();
        }
        let refused = published?;
        self.undeliverable.inc_by(refused.len() as u64);
        let now = Instant::now();
        for event in events.iter().filter(|event| !refused.contains(event)) {
            self.count(event, now);
        }
        self.set_gauges(now);
        Ok(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_schemas::events::{Loss, RuntimeUsage};

    fn workload(id: &str, lost: i64, unavailable: &[&str], stopped_at_ms: i64) -> RuntimeEvent {
        let loss = Loss { probe: "ebpf-files".into(), events_lost: lost, ..Loss::default() };
        RuntimeEvent::Workload(RuntimeWorkload {
            workload_id: id.into(),
            losses: vec![loss],
            unavailable_probes: unavailable
                .iter()
                .map(|key| ((*key).into(), "why; what to do".into()))
                .collect(),
            stopped_at_ms,
            ..RuntimeWorkload::default()
        })
    }

    #[test]
    fn what_is_delivered_is_counted() {
        let metrics = Metrics::new("runtime-agent");
        let mut fails = true;
        let output = move |_: &[RuntimeEvent]| match std::mem::take(&mut fails) {
            true => Err(OutputError::Closed("away".into())),
            false => Ok(()),
        };
        let mut metered = Metered::new(output, &metrics);
        let java = ["jvmti:/a/java", "jvmti:/b/java"];
        let first = [workload("w", 2, &java, 0), workload("x", 0, &["jvmti"], 0)];
        assert!(metered.publish(&first).is_err());
        metered.publish(&first).unwrap();
        metered.publish(&[workload("w", 5, &java, 0), RuntimeEvent::Usage(RuntimeUsage::default())]).unwrap();
        // An end may be told more than once.
        metered.publish(&[workload("x", 3, &["jvmti"], 9)]).unwrap();
        metered.publish(&[workload("x", 3, &["jvmti"], 9)]).unwrap();
        let text = metrics.encode();
        for line in [
            "plimsoll_runtime_agent_events_delivered_total{kind=\"workload\"} 5",
            "plimsoll_runtime_agent_events_delivered_total{kind=\"usage\"} 1",
            "plimsoll_runtime_agent_events_refused_total 0",
            "plimsoll_runtime_agent_deliveries_failed_total 1",
            "plimsoll_runtime_agent_observations_lost_total{probe=\"ebpf-files\"} 8",
            "plimsoll_runtime_agent_workloads 1",
            "plimsoll_runtime_agent_workloads_not_fully_observed{probe=\"jvmti\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        // Nobody tells of the other one any more.
        metered.set_gauges(Instant::now() + SILENT_AFTER);
        let text = metrics.encode();
        assert!(text.lines().any(|line| line == "plimsoll_runtime_agent_workloads 0"), "{text}");
    }
}
