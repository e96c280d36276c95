//! Configuration of the scanner service.
//! Every key has a default; it must never need a secret in a file that is not a secret's own.

use std::path::PathBuf;

use plimsoll_kit::config::{AdminConfig, DOCKER_HOST, KafkaConfig, SchemaRegistryConfig, TelemetryConfig};
use serde::{Deserialize, Serialize};

/// Configuration of the scanner service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ScannerConfig {
    /// The broker.
    pub kafka: KafkaConfig,
    /// The schema registry.
    pub schema_registry: SchemaRegistryConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Health, readiness and metrics.
    pub admin: AdminConfig,
    /// The container engine whose images are scanned.
    pub docker: DockerSection,
    /// The scanner's own keys.
    pub scanner: ScannerSection,
}

/// `docker.*`: the container engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerSection {
    /// Endpoint of the engine's API, `unix:///path`.
    pub host: String,
}

impl Default for DockerSection {
    fn default() -> Self {
        Self { host: DOCKER_HOST.to_owned() }
    }
}

/// The scanner's own keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ScannerSection {
    /// Vulnerability database, as built by `plimsoll db build`. Without it packages are not assessed.
    pub database: Option<PathBuf>,
    /// Stable name of this instance among the scanner's replicas: its place in the group and its transactional id.
    /// Each replica needs its own. Empty: the name of the machine.
    pub instance: String,
    /// How long requests wait for a container engine that does not answer, in milliseconds; then they go to the dead
    /// letters.
    pub engine_patience_ms: u64,
}

impl Default for ScannerSection {
    fn default() -> Self {
        Self { database: None, instance: String::new(), engine_patience_ms: 300_000 }
    }
}

plimsoll_kit::service_config!(ScannerConfig);
