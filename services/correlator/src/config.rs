//! Configuration of the correlator.
//! Nothing here may change what the outputs say: two correlators of other configurations come to the same end state.

use std::path::PathBuf;

use plimsoll_kit::config::{AdminConfig, KafkaConfig, SchemaRegistryConfig, StateConfig, TelemetryConfig};
use serde::{Deserialize, Serialize};

/// Configuration of the correlator service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CorrelatorConfig {
    /// The broker.
    pub kafka: KafkaConfig,
    /// The schema registry.
    pub schema_registry: SchemaRegistryConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Health, readiness and metrics.
    pub admin: AdminConfig,
    /// Where the local state lies, in `correlator` below; it may be lost at any time. Unset: in memory, read from the
    /// state topic anew at each start.
    pub state: StateConfig,
    /// The correlator's own keys.
    pub correlator: CorrelatorSection,
}

/// The correlator's own keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CorrelatorSection {
    /// Stable name of this instance among the replicas: its place in the group and its transactional id. Two
    /// instances of one name fence each other.
    pub instance: String,
    /// No key: the directory of the local state itself, which the service derives from `state.directory`.
    #[serde(skip)]
    pub state_directory: Option<PathBuf>,
    /// How long inputs are gathered into one transaction, in milliseconds.
    pub commit_interval_ms: u64,
    /// Inputs of one transaction, at most.
    pub batch_max_records: usize,
    /// Bytes of the inputs of one transaction, at most.
    pub batch_max_bytes: usize,
    /// How long a commit may take, in milliseconds, before its outcome counts as unknown.
    pub commit_timeout_ms: u64,
    /// How long a transaction may stay open in state and outputs, in milliseconds, before it counts as left open by the
    /// brokers and is closed: a beginning waits as long, and each of the two rounds of looks after a commit takes as
    /// long, so that it is closed after one to two of these. More than a transaction may last (10 s) and the brokers
    /// take to notice (10 s).
    pub left_open_after_ms: u64,
    /// Longest wait between two tries after a failure, in milliseconds.
    pub retry_max_ms: u64,
    /// How often expiry is looked at, in milliseconds; 0: never.
    pub tick_interval_ms: u64,
    /// State entities held in memory, at most; what lies unused goes first.
    pub cache_max_entities: usize,
}

impl Default for CorrelatorSection {
    fn default() -> Self {
        Self {
            instance: "0".to_owned(),
            state_directory: None,
            commit_interval_ms: 100,
            batch_max_records: 10_000,
            batch_max_bytes: 32 * 1024 * 1024,
            commit_timeout_ms: 10_000,
            left_open_after_ms: 25_000,
            retry_max_ms: 5_000,
            tick_interval_ms: 60_000,
            cache_max_entities: 2_000_000,
        }
    }
}

plimsoll_kit::service_config!(CorrelatorConfig);
