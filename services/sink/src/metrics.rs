//! The sink's metrics.
//! It must never label by anything but topics and tables.

use plimsoll_kit::metrics::{Buckets, ByLabels, Counter, Gauge, Histogram, Metrics, SECONDS_BUCKETS};

/// Handles of all metrics.
#[derive(Clone)]
pub struct SinkMetrics {
    /// Records taken, by topic.
    pub records: ByLabels<Counter>,
    /// Records refused, by topic.
    pub dead_letters: ByLabels<Counter>,
    /// Rows inserted, by table.
    pub rows: ByLabels<Counter>,
    /// Bytes of rows inserted, by table.
    pub bytes: ByLabels<Counter>,
    /// Inserts that failed and are tried again, by table.
    pub failed_inserts: ByLabels<Counter>,
    /// Duration of successful inserts, by table.
    pub insert_seconds: ByLabels<Histogram, Buckets>,
    /// From a record's timestamp to its rows in ClickHouse, for the oldest record of each batch.
    pub delay_seconds: Histogram,
    /// Bytes of rows that wait.
    pub waiting_bytes: Gauge,
    /// 1 while consumption pauses.
    pub paused: Gauge,
}

impl SinkMetrics {
    /// Registers all metrics.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            records: metrics.counter_with("records", "Records taken", &["topic"]),
            dead_letters: metrics.counter_with("dead_letters", "Records refused", &["topic"]),
            rows: metrics.counter_with("rows", "Rows inserted", &["table"]),
            bytes: metrics.counter_with("row_bytes", "Bytes of rows inserted", &["table"]),
            failed_inserts: metrics.counter_with(
                "failed_inserts",
                "Inserts that failed and are tried again",
                &["table"],
            ),
            insert_seconds: metrics.histogram_with(
                "insert_seconds",
                "Duration of successful inserts",
                &["table"],
                &SECONDS_BUCKETS,
            ),
            delay_seconds: metrics.histogram(
                "delay_seconds",
                "From a record's timestamp to its rows in ClickHouse, for the oldest record of each batch",
                &SECONDS_BUCKETS,
            ),
            waiting_bytes: metrics.gauge("waiting_bytes", "Bytes of rows that wait for their insert"),
            paused: metrics.gauge("paused", "1 while consumption pauses because too much waits"),
        }
    }
}
