//! What the agent can be told: for its own use, and the sections of the service's configuration.
//! It must never hold a secret; the broker's are in kit's sections.

use std::path::PathBuf;
use std::time::Duration;

use plimsoll_kit::config::{
    AdminConfig, DOCKER_HOST, KafkaConfig, SchemaRegistryConfig, StateConfig, TelemetryConfig,
};
use serde::{Deserialize, Serialize};

use crate::ebpf::PinConfig;
use crate::java::JavaConfig;

/// Default size of the kernel's ring buffer, in bytes.
pub const RING_BYTES: u32 = 8 * 1024 * 1024;

/// Whether to use eBPF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UseEbpf {
    /// Refuse to start without.
    Required,
    /// Fall back to hooks, and say so.
    #[default]
    Preferred,
    /// Do not even try.
    Off,
}

/// How an agent works.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Identity of the node, as in `host/<machine-id>`.
    pub node_id: String,
    /// Name of the node, for people.
    pub node_name: String,
    /// Identity of this producer of events.
    pub producer_id: String,
    /// Watch containers wherever they start.
    pub watch_containers: bool,
    /// Only containers with this label and value.
    pub only_label: Option<(String, String)>,
    /// Whether to use eBPF.
    pub ebpf: UseEbpf,
    /// Pin the programs, to go on observing while the agent restarts.
    pub pins: Option<PinConfig>,
    /// Size of the kernel's ring buffer in bytes, a power of two of at least a page.
    pub ring_bytes: u32,
    /// Docker's endpoint.
    pub docker_endpoint: Option<String>,
    /// Ask for a scan of each image first seen running.
    pub request_scans: bool,
    /// The package-resolver's socket.
    pub resolver_socket: Option<PathBuf>,
    /// The same use is reported once per this span.
    pub epoch: Duration,
    /// Wait between two hand-outs.
    pub flush_interval: Duration,
    /// A live workload is published again after this.
    pub republish_interval_ms: i64,
    /// After this a container that the runtime does not tell about is published as unidentified.
    pub identify_timeout_ms: i64,
    /// How long a stop may take.
    pub stop_timeout: Duration,
    /// Directory and bound (bytes) of what waits for the broker.
    pub spool: Option<(PathBuf, u64)>,
    /// How JVMs are observed.
    pub java: JavaConfig,
}

impl AgentConfig {
    /// The defaults for a node.
    pub fn new(node_id: impl Into<String>, node_name: impl Into<String>) -> Self {
        let node_id = node_id.into();
        Self {
            producer_id: format!("runtime-agent/{node_id}"),
            node_id,
            node_name: node_name.into(),
            watch_containers: false,
            only_label: None,
            ebpf: UseEbpf::default(),
            pins: None,
            ring_bytes: RING_BYTES,
            docker_endpoint: None,
            request_scans: false,
            resolver_socket: None,
            epoch: Duration::from_secs(3_600),
            flush_interval: Duration::from_millis(100),
            republish_interval_ms: 10_000,
            identify_timeout_ms: 5_000,
            stop_timeout: Duration::from_secs(5),
            spool: None,
            java: JavaConfig::default(),
        }
    }
}

/// The service's configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeAgentConfig {
    /// Broker.
    pub kafka: KafkaConfig,
    /// Schema registry.
    pub schema_registry: SchemaRegistryConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Health, metrics and shutdown.
    pub admin: AdminConfig,
    /// eBPF.
    pub ebpf: EbpfSection,
    /// Docker.
    pub docker: DockerSection,
    /// package-resolver.
    pub resolver: ResolverSection,
    /// Where the spool lies, in `runtime-agent/spool` below; unset: `/var/lib/plimsoll`.
    pub state: StateConfig,
    /// What waits for the broker.
    pub spool: SpoolSection,
    /// JVMs.
    pub java: JavaSection,
}

plimsoll_kit::service_config!(RuntimeAgentConfig);

impl RuntimeAgentConfig {
    /// Where events lie that wait for the broker.
    pub fn spool_directory(&self) -> PathBuf {
        let state = self.state.directory.clone().unwrap_or_else(|| PathBuf::from("/var/lib/plimsoll"));
        state.join("runtime-agent/spool")
    }
}

/// `ebpf.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct EbpfSection {
    /// Pin programs and maps, so that a restart leaves no gap.
    pub pin: bool,
    /// Directory on bpffs.
    pub pin_root: PathBuf,
    /// Name of this agent on this host.
    pub instance: String,
    /// The same use is reported once per this span, in milliseconds.
    pub epoch_ms: u64,
    /// Size of the kernel's ring buffer in bytes, a power of two of at least a page.
    pub ring_bytes: u32,
    /// Remove the pins at an orderly end: watching ends with the agent.
    pub unpin_at_end: bool,
}

impl Default for EbpfSection {
    fn default() -> Self {
        Self {
            pin: true,
            pin_root: PathBuf::from("/sys/fs/bpf/plimsoll"),
            instance: "node".into(),
            epoch_ms: 3_600_000,
            ring_bytes: RING_BYTES,
            unpin_at_end: false,
        }
    }
}

/// `docker.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerSection {
    /// Endpoint of the engine's API, `unix:///path`; unset: containers stay unidentified.
    pub host: Option<String>,
    /// Ask the scanner for each image first seen running; it needs the same Docker.
    pub request_scans: bool,
}

impl Default for DockerSection {
    fn default() -> Self {
        Self { host: Some(DOCKER_HOST.to_owned()), request_scans: true }
    }
}

/// `java.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct JavaSection {
    /// Observe the classes of JVMs at all.
    pub enabled: bool,
    /// Attach to JVMs that run.
    pub attach: bool,
    /// Attach to those from JDK 21 on, too: these print a warning on their standard error.
    pub attach_from_21: bool,
}

impl Default for JavaSection {
    fn default() -> Self {
        let JavaConfig { enabled, attach, attach_from_21, .. } = JavaConfig::default();
        Self { enabled, attach, attach_from_21 }
    }
}

/// `resolver.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct ResolverSection {
    /// The package-resolver's socket; unset: uses go out without file identities, and drift is not seen.
    pub socket: Option<PathBuf>,
}

impl Default for ResolverSection {
    fn default() -> Self {
        Self { socket: Some(PathBuf::from("/run/plimsoll/resolver.sock")) }
    }
}

/// `spool.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct SpoolSection {
    /// Most bytes on disk.
    pub budget_bytes: u64,
}

impl Default for SpoolSection {
    fn default() -> Self {
        Self { budget_bytes: 256 * 1024 * 1024 }
    }
}
