//! Which artifacts were scanned lately and by which versions, as the topic of manifests says.
//! It must never grow over its bound, nor count a scan that is not committed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_kit::broker::{Broker, BrokerError, IncomingRecord, ReaderOptions, TopicPartition, read_to_end};
use plimsoll_schemas::codec::Codec;
use plimsoll_schemas::event::Event;
use plimsoll_schemas::events::ScanArtifact;
use plimsoll_schemas::topics::TOPICS;

/// Most artifacts remembered; beyond it the older half is forgotten, so those may be scanned once more.
pub const RECENT_MAX: usize = 50_000;
/// Longest reading of one partition of manifests.
const READ_MAX: Duration = Duration::from_secs(20);

/// A scan that is still in the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RecentScan {
    completed_at_ms: i64,
    database_version: String,
    scanner_version: String,
}

/// What was scanned within the retention of the manifests' topic, by any replica or command.
pub struct RecentScans {
    broker: Arc<dyn Broker>,
    codec: Arc<Codec>,
    scans: HashMap<String, RecentScan>,
    /// Up to where each partition was read.
    read_to: HashMap<u32, i64>,
    retention_ms: i64,
    bound: usize,
}

impl RecentScans {
    pub fn new(broker: Arc<dyn Broker>, codec: Arc<Codec>) -> Self {
        let topic = TOPICS.iter().find(|topic| topic.name == ScanArtifact::TOPIC);
        Self {
            broker,
            codec,
            scans: HashMap::new(),
            read_to: HashMap::new(),
            retention_ms: topic.map_or(0, |topic| topic.retention_ms),
            bound: RECENT_MAX,
        }
    }

    /// Whether `artifact` was scanned within the retention, by this version of the scanner and of the database.
    ///
    /// # Errors
    /// The broker's, when the manifests cannot be read; nothing is known then.
    pub fn is_scanned(
        &mut self,
        artifact: &str,
        database_version: &str,
        now_ms: i64,
    ) -> Result<bool, BrokerError> {
        self.read_on(self.codec.partition(artifact))?;
        Ok(self.scans.get(artifact).is_some_and(|scan| {
            now_ms - scan.completed_at_ms < self.retention_ms
                && scan.database_version == database_version
                && scan.scanner_version == env!("CARGO_PKG_VERSION")
        }))
    }

    /// Notes a scan that was committed: a reader of the topic sees it only a moment later.
    pub fn remember(&mut self, manifest: &ScanArtifact) {
        let scan = RecentScan {
            completed_at_ms: manifest.completed_at_ms,
            database_version: manifest.database_version.clone(),
            scanner_version: manifest.scanner_version.clone(),
        };
        if self
            .scans
            .get(&manifest.artifact)
            .is_none_or(|known| known.completed_at_ms <= scan.completed_at_ms)
        {
            self.scans.insert(manifest.artifact.clone(), scan);
        }
        if self.scans.len() > self.bound {
            let mut times: Vec<i64> = self.scans.values().map(|scan| scan.completed_at_ms).collect();
            let middle = times.len() / 2;
            let (_, oldest_kept, _) = times.select_nth_unstable(middle);
            let oldest_kept = *oldest_kept;
            self.scans.retain(|_, scan| scan.completed_at_ms > oldest_kept);
        }
    }

    fn read_on(&mut self, partition: u32) -> Result<(), BrokerError> {
        let place = TopicPartition::new(self.codec.topic::<ScanArtifact>(), partition);
        let from = self.read_to.get(&partition).copied().unwrap_or(0);
        let (broker, codec) = (self.broker.clone(), self.codec.clone());
        let deadline = Instant::now() + READ_MAX;
        let take = |record: IncomingRecord| {
            let (Some(key), Some(value)) = (record.key.as_deref(), record.value.as_deref()) else { return };
            match codec.decode::<ScanArtifact>(key, value) {
                Ok(manifest) => self.remember(&manifest),
                // The correlator puts it into the dead letters; here it only means that a scan may be repeated.
                Err(error) => tracing::debug!("{place} at {}: {error}", record.offset),
            }
        };
        let end = read_to_end(&*broker, &place, from, ReaderOptions::default(), deadline, take)?;
        self.read_to.insert(partition, end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_kit::transport::Connections;

    fn manifest(artifact: &str, database: &str, completed_at_ms: i64) -> ScanArtifact {
        ScanArtifact {
            artifact: artifact.into(),
            database_version: database.into(),
            scanner_version: env!("CARGO_PKG_VERSION").into(),
            completed_at_ms,
            ..ScanArtifact::default()
        }
    }

    fn recent() -> RecentScans {
        let connections = Connections::memory();
        connections.prepare_once().unwrap();
        RecentScans::new(connections.broker.clone(), connections.codec())
    }

    #[test]
    fn a_scan_counts_for_its_versions_and_its_time() {
        let mut recent = recent();
        recent.remember(&manifest("host/a", "db1", 1_000));
        let week_ms = recent.retention_ms;
        for (artifact, database, now_ms, expected) in [
            ("host/a", "db1", 2_000, true),
            ("host/a", "db2", 2_000, false),
            ("host/b", "db1", 2_000, false),
            ("host/a", "db1", 1_000 + week_ms, false),
        ] {
            assert_eq!(
                recent.is_scanned(artifact, database, now_ms).unwrap(),
                expected,
                "{artifact} {database}"
            );
        }
        recent.remember(&manifest("host/a", "db0", 500));
        assert!(recent.is_scanned("host/a", "db1", 2_000).unwrap(), "an older scan replaced a newer one");
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent = recent();
        recent.bound = 100;
        for number in 0..1_000 {
            recent.remember(&manifest(&format!("host/{number}"), "db", number));
            assert!(recent.scans.len() <= 100);
        }
        assert!(recent.scans.contains_key("host/999"));
    }
}
