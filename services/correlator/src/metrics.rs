//! What the correlator counts.
//! No label may hold a key, a path or an id.

use plimsoll_kit::metrics::{ByLabels, Counter, Gauge, Histogram, Metrics, SECONDS_BUCKETS};

/// The correlator's metrics.
pub(crate) struct Meters {
    pub records: ByLabels<Counter>,
    pub outputs: ByLabels<Counter>,
    pub state_changes: Counter,
    pub dead_letters: ByLabels<Counter>,
    pub outputs_too_large: Counter,
    pub commits: Counter,
    pub commit_failures: Counter,
    pub commit_seconds: Histogram,
    pub left_open: ByLabels<Counter>,
    pub restored_records: Counter,
    pub restore_seconds: Histogram,
    pub cached_artifacts: Gauge,
    pub cached_entities: Gauge,
    pub partitions: Gauge,
}

impl Meters {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            records: metrics.counter_with("records", "Input records joined", &["topic"]),
            outputs: metrics.counter_with("outputs", "Output records, tombstones included", &["topic"]),
            state_changes: metrics.counter("state_changes", "State entities written"),
            dead_letters: metrics.counter_with("dead_letters", "Input records refused", &["topic", "reason"]),
            outputs_too_large: metrics.counter("outputs_too_large", "Outputs left out for their size"),
            commits: metrics.counter("commits", "Transactions committed"),
            commit_failures: metrics.counter("commit_failures", "Transactions that had to be done again"),
            commit_seconds: metrics.histogram("commit_seconds", "Time of a transaction", &SECONDS_BUCKETS),
            left_open: metrics.counter_with(
                "left_open",
                "Partitions in which a transaction that the brokers left open was ended",
                &["end"],
            ),
            restored_records: metrics.counter("restored_records", "State records read at assignments"),
            restore_seconds: metrics.histogram(
                "restore_seconds",
                "Time to restore one partition",
                &SECONDS_BUCKETS,
            ),
            cached_artifacts: metrics.gauge("cached_artifacts", "Artifacts in memory"),
            cached_entities: metrics.gauge("cached_entities", "State entities in memory"),
            partitions: metrics.gauge("partitions", "Partitions held by this instance"),
        }
    }
}
