//! Prometheus metrics by handles; names are `plimsoll_<service>_<name>`.
//! Never takes a label whose values are unbounded (paths, keys, ids): that is the caller's duty.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter as Inner;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge as InnerGauge;
use prometheus_client::metrics::histogram::Histogram as InnerHistogram;
use prometheus_client::registry::Registry;

/// Buckets for durations in seconds, 1 ms to 30 s.
pub const SECONDS_BUCKETS: [f64; 12] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Buckets for sizes in bytes, 256 B to 64 MiB.
pub const BYTES_BUCKETS: [f64; 10] = [
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

type Labels = Vec<(String, String)>;

/// A counter. Cheap to clone and to count.
pub type Counter = Inner<u64, AtomicU64>;
/// A gauge of whole numbers.
pub type Gauge = InnerGauge;
/// A histogram; observe in the unit that its name ends in.
pub type Histogram = InnerHistogram;

/// The metrics of a process. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// No metrics yet; names get the prefix `plimsoll_<service>_`.
    pub fn new(service: &str) -> Self {
        let prefix = format!("plimsoll_{}", service.replace('-', "_"));
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix(prefix))) }
    }

    fn register<M: prometheus_client::registry::Metric + Clone>(&self, name: &str, help: &str, metric: &M) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register(name, help.trim_end_matches('.'), metric.clone());
    }

    /// A counter; `_total` is added to its name.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.register(name, help, &counter);
        counter
    }

    /// Counters by labels; `_total` is added to their name.
    pub fn counter_with(&self, name: &str, help: &str, labels: &'static [&'static str]) -> ByLabels<Counter> {
        let family = Family::<Labels, Counter>::default();
        self.register(name, help, &family);
        ByLabels { family, labels }
    }

    /// A gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.register(name, help, &gauge);
        gauge
    }

    /// Gauges by labels.
    pub fn gauge_with(&self, name: &str, help: &str, labels: &'static [&'static str]) -> ByLabels<Gauge> {
        let family = Family::<Labels, Gauge>::default();
        self.register(name, help, &family);
        ByLabels { family, labels }
    }

    /// A histogram with these upper bounds.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let histogram = Histogram::new(buckets.iter().copied());
        self.register(name, help, &histogram);
        histogram
    }

    /// Histograms by labels.
    pub fn histogram_with(
        &self,
        name: &str,
        help: &str,
        labels: &'static [&'static str],
        buckets: &'static [f64],
    ) -> ByLabels<Histogram, Buckets> {
        let family = Family::<Labels, Histogram, Buckets>::new_with_constructor(Buckets(buckets));
        self.register(name, help, &family);
        ByLabels { family, labels }
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        if encode(&mut text, &registry).is_err() {
            text.clear();
        }
        text
    }
}

/// Upper bounds of histograms by labels.
#[derive(Clone)]
pub struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// Metrics of one name, told apart by labels.
#[derive(Clone)]
pub struct ByLabels<M, C = fn() -> M> {
    family: Family<Labels, M, C>,
    labels: &'static [&'static str],
}

impl<M: Clone, C: MetricConstructor<M>> ByLabels<M, C> {
    /// The metric with these values of the labels, in the order they were declared.
    pub fn with(&self, values: &[&str]) -> M {
        debug_assert_eq!(values.len(), self.labels.len(), "one value for each label");
        let pairs = self.labels.iter().zip(values).map(|(label, value)| ((*label).into(), (*value).into()));
        self.family.get_or_create(&pairs.collect()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_and_values() {
        let metrics = Metrics::new("package-resolver");
        metrics.counter("records", "Records taken.").inc_by(3);
        let by_topic = metrics.counter_with("dead_letters", "Records refused", &["topic"]);
        by_topic.with(&["a.b"]).inc();
        by_topic.with(&["a.b"]).inc();
        metrics.gauge("lag_records", "Records behind").set(7);
        metrics.histogram("commit_seconds", "Commits", &SECONDS_BUCKETS).observe(0.02);
        let text = metrics.encode();
        for line in [
            "plimsoll_package_resolver_records_total 3",
            "plimsoll_package_resolver_dead_letters_total{topic=\"a.b\"} 2",
            "plimsoll_package_resolver_lag_records 7",
            "plimsoll_package_resolver_commit_seconds_bucket{le=\"0.03\"} 1",
            "plimsoll_package_resolver_commit_seconds_bucket{le=\"0.01\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} missing in:\n{text}");
        }
    }
}
