//! Configuration of the sink: where ClickHouse is, and how rows are batched.
//! It must never hold a default that needs a particular machine.

use std::time::Duration;

use plimsoll_kit::config::{
    AdminConfig, ClickHouseServer, KafkaConfig, SchemaRegistryConfig, TelemetryConfig,
};
use serde::{Deserialize, Serialize};

use crate::history::{BLOCK_MAX_BYTES, BLOCK_MAX_ROWS};

/// All keys of the sink.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkConfig {
    /// The broker.
    pub kafka: KafkaConfig,
    /// The schema registry.
    pub schema_registry: SchemaRegistryConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Health, metrics and shutdown.
    pub admin: AdminConfig,
    /// The database.
    pub clickhouse: ClickHouseConfig,
    /// The consumer group.
    pub group: GroupConfig,
    /// How rows are gathered.
    pub batch: BatchConfig,
}

plimsoll_kit::service_config!(SinkConfig);

/// `clickhouse.*`: the database, which is created when it is missing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct ClickHouseConfig {
    /// How to reach it.
    #[serde(flatten)]
    pub server: ClickHouseServer,
    /// How long one insert or query may take, in milliseconds, before it is tried again.
    pub request_timeout_ms: u64,
    /// Most inserts under way at once.
    pub concurrent_inserts: usize,
}

impl Default for ClickHouseConfig {
    fn default() -> Self {
        Self { server: ClickHouseServer::default(), request_timeout_ms: 30_000, concurrent_inserts: 4 }
    }
}

impl ClickHouseConfig {
    /// `request_timeout_ms` as a duration.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }
}

/// `group.*`: the consumer group whose committed offsets say what is in ClickHouse.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupConfig {
    /// Group id; empty: `<kafka.topic_prefix>.sink`. Another group reads everything again, which doubles the history
    /// tables of the same database.
    pub id: String,
    /// Which of the group's instances this is, stable over restarts; each running sink needs its own.
    pub instance: String,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self { id: String::new(), instance: "0".into() }
    }
}

/// `batch.*`: how rows are gathered before they are inserted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchConfig {
    /// Longest time that a row waits for others, in milliseconds, while there is little to do.
    pub linger_ms: u64,
    /// Shortest time between the starts of two batches, in milliseconds, unless one is full: each insert makes parts
    /// that ClickHouse has to merge.
    pub interval_ms: u64,
    /// Rows after which a batch is full; at most 1,000,000.
    pub max_rows: usize,
    /// Bytes of rows after which a batch is full, at most 200 MiB; as many again may be under way. Consumption pauses
    /// beyond.
    pub max_bytes: usize,
    /// Most bytes fetched ahead from the broker.
    pub prefetch_max_bytes: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            linger_ms: 150,
            interval_ms: 1_000,
            max_rows: 200_000,
            max_bytes: 32 * 1024 * 1024,
            prefetch_max_bytes: 32 * 1024 * 1024,
        }
    }
}

impl BatchConfig {
    /// Refuses what would break the guarantees.
    ///
    /// # Errors
    /// The text names the key and its bound.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("batch.max_rows", self.max_rows, BLOCK_MAX_ROWS),
            ("batch.max_bytes", self.max_bytes, BLOCK_MAX_BYTES),
        ];
        for (key, value, max) in bounds {
            if value == 0 || value > max {
                return Err(format!(
                    "{key}={value} must be from 1 to {max}: ClickHouse would split larger inserts, and no longer \
                     recognise them when they are sent again"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_stay_whole() {
        assert!(BatchConfig::default().check().is_ok());
        for (max_rows, max_bytes, key) in
            [(0, 1, "max_rows"), (2_000_000, 1, "max_rows"), (1, usize::MAX, "max_bytes")]
        {
            let config = BatchConfig { max_rows, max_bytes, ..BatchConfig::default() };
            assert!(config.check().unwrap_err().contains(key));
        }
    }
}
