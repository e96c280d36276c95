//! Configuration of the package-resolver: its socket and its bounds.
//! It must never hold a default that needs a particular machine.

use std::path::PathBuf;
use std::time::Duration;

use plimsoll_kit::config::{AdminConfig, KafkaConfig, SchemaRegistryConfig, TelemetryConfig};
use serde::{Deserialize, Serialize};

/// All keys of the service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PackageResolverConfig {
    /// The broker.
    pub kafka: KafkaConfig,
    /// The schema registry.
    pub schema_registry: SchemaRegistryConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Health, metrics and shutdown.
    pub admin: AdminConfig,
    /// The resolver's own.
    pub resolver: ResolverSettings,
}

plimsoll_kit::service_config!(PackageResolverConfig);

/// `resolver.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct ResolverSettings {
    /// Unix socket on which agents ask; made with mode 0600.
    pub socket: PathBuf,
    /// How long one request may take, in milliseconds; then its paths are answered as unresolved.
    pub request_deadline_ms: u64,
    /// Most roots that are held open, one or two descriptors each.
    pub max_roots: usize,
    /// Most threads that look into roots, one for each root, those stuck in a file system included.
    pub max_workers: usize,
    /// Most bytes of ownership indexes that are kept; the one in use is kept in any case.
    pub index_cache_max_bytes: usize,
    /// Most ownerships remembered as published; forgetting one costs publishing it again.
    pub published_max_entries: usize,
    /// Most events that wait for the broker; above, requests fail and are to be asked again.
    pub queue_max_events: usize,
    /// Of a host, look only at what lies near the paths that are asked for, instead of walking all of it once: right where
    /// little is asked for, in a short life. What an installation far away may name is unresolved, and late answers are
    /// logged as information only.
    pub near: bool,
    /// Longest file whose contents are compared with the image's, in bytes.
    pub compared_file_max_bytes: u64,
}

impl Default for ResolverSettings {
    fn default() -> Self {
        Self {
            socket: "/run/plimsoll/resolver.sock".into(),
            request_deadline_ms: 10_000,
            max_roots: 4_096,
            max_workers: 64,
            index_cache_max_bytes: 256 * 1024 * 1024,
            published_max_entries: 400_000,
            queue_max_events: 100_000,
            near: false,
            compared_file_max_bytes: 1024 * 1024 * 1024,
        }
    }
}

impl ResolverSettings {
    /// [`Self::request_deadline_ms`] as a duration.
    pub fn request_deadline(&self) -> Duration {
        Duration::from_millis(self.request_deadline_ms)
    }
}
