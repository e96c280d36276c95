//! Artifacts, the components and the workloads that run them.
//! It must never hide that an artifact was not scanned or not identified.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::observed::Observed;

/// What is scanned and run.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// Artifact key.
    #[schema(example = "component/backend/pythonapp/1.0")]
    pub artifact: String,
    /// Whether a scan is current; false means observed but not scanned.
    pub scanned: bool,
    /// The current scan.
    pub scan_id: String,
    /// fs, image or host; empty if not scanned.
    pub source: String,
    /// References by which people know it.
    pub names: Vec<String>,
    /// Other digests of the same artifact.
    pub aliases: Vec<String>,
    /// Distribution.
    pub os: OperatingSystem,
    /// Platform of an image.
    pub platform: Platform,
    /// Version of the scanner.
    pub scanner_version: String,
    /// Version of the vulnerability database; empty if there was none.
    pub database_version: String,
    /// When it was scanned, RFC 3339.
    #[schema(required)]
    pub scanned_at: Option<String>,
    /// Packages known.
    pub package_count: i64,
    /// Packages that are vulnerable.
    pub vulnerable_package_count: i64,
    /// Findings of all packages.
    pub finding_count: i64,
    /// Counts of each non-empty cell of the recommendation table, over all components.
    pub cells: Vec<Cell>,
    /// Components that run it.
    pub component_count: i64,
    /// Workloads that ran.
    pub workload_count: i64,
    /// Workloads that run now.
    pub live_workload_count: i64,
    /// Used paths that no package owns.
    pub unowned_path_count: i64,
    /// Used paths of which not all owners are known; those that stand for a Java package (`?!/` and `?/`) aside.
    pub unresolved_path_count: i64,
    /// Alerts raised.
    pub alert_count: i64,
    /// What the current scan could not read, at most 100.
    pub warnings: Vec<Warning>,
    /// Why a workload could not be identified; empty if it was.
    pub unidentified_reason: String,
    /// Key under which the workloads of an unidentified artifact continue; empty if none.
    pub moved_to: String,
}

/// Distribution of an artifact, from its os-release file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct OperatingSystem {
    /// ID of os-release; empty if there is none.
    pub id: String,
    /// VERSION_ID of os-release.
    pub version_id: String,
    /// VERSION_CODENAME of os-release.
    pub codename: String,
    /// PRETTY_NAME of os-release.
    pub pretty_name: String,
}

/// Platform that an image was built for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Platform {
    /// Operating system, for example linux; empty outside of images.
    pub os: String,
    /// Architecture, for example amd64.
    pub architecture: String,
    /// Variant of the architecture, for example v8; mostly empty.
    pub variant: String,
}

/// Packages in one cell of the recommendation table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cell {
    /// `os` or `application`.
    pub kind: String,
    /// `yes`, `no` or `not_assessed`.
    pub vulnerable: String,
    /// `used`, `unused`, `not_measured` or `not_measurable`.
    #[serde(rename = "use")]
    pub usage: String,
    /// Number of packages.
    pub package_count: i64,
}

/// Something that a scan could not read, and what to do about it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Warning {
    /// Stable name of the kind of warning.
    pub code: String,
    /// The input that the warning is about.
    pub subject: String,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// A component that runs an artifact, or whose version was scanned under its name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ArtifactComponent {
    /// Application; empty if the workloads name none.
    pub application: String,
    /// Component.
    pub component: String,
    /// Version of the component.
    pub version: String,
    /// Workloads that ran.
    pub workload_count: i64,
    /// Workloads that run now.
    pub live_workload_count: i64,
    /// Start of the first workload, RFC 3339; null if it never ran.
    #[schema(required)]
    pub first_seen: Option<String>,
    /// Until when one was seen alive, RFC 3339.
    #[schema(required)]
    pub last_seen: Option<String>,
}

/// One running or stopped instance.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Workload {
    /// Artifact.
    pub artifact: String,
    /// Identity of the workload.
    pub workload_id: String,
    /// Application; empty if unknown.
    pub application: String,
    /// Component; empty if unknown.
    pub component: String,
    /// Version of the component; empty if unknown.
    pub version: String,
    /// Identity of the node.
    pub node_id: String,
    /// Host name of the node.
    pub node_name: String,
    /// container, pod-container or process.
    pub kind: String,
    /// Container id; empty for processes.
    pub container_id: String,
    /// Container name; empty for processes.
    pub container_name: String,
    /// Image reference that the runtime was asked for.
    pub image_name: String,
    /// What the runtime called the image.
    pub image_aliases: Vec<String>,
    /// Kubernetes namespace; empty outside of Kubernetes.
    pub pod_namespace: String,
    /// Kubernetes pod; empty outside of Kubernetes.
    pub pod_name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Command line of the first process.
    pub command: Vec<String>,
    /// Start, RFC 3339.
    #[schema(required)]
    pub started_at: Option<String>,
    /// Stop, RFC 3339; null while it lives.
    #[schema(required)]
    pub stopped_at: Option<String>,
    /// What was watched.
    pub watched: Vec<WatchedInterval>,
    /// Events lost, those that a resync found again included.
    pub events_lost: i64,
    /// Losses by probe, with whether they were repaired.
    pub losses: Vec<Loss>,
    /// Key under which the workload was published before it was identified; empty if none.
    pub formerly_artifact: String,
    /// Whether it runs where no probe can look (gVisor, Kata).
    pub sandboxed: bool,
    /// Probes that did not run (behind a colon: in which part or program), with the reason and the remedy;
    /// `not-measurable:` and an ecosystem: why no probe can measure its packages here; `not-measured:` and an ecosystem:
    /// only tools of it ran, whose loads do not count.
    pub unavailable_probes: BTreeMap<String, String>,
    /// How the processes of each language were observed, by the agent that watched it last.
    pub observed: Vec<Observed>,
    /// Why the artifact could not be identified; empty if it was.
    pub unidentified_reason: String,
}

/// An interval in which a probe watched a workload.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct WatchedInterval {
    /// ebpf-files, ld-audit, python-import, jvmti, node-module, ruby-feature, php-include or resync.
    pub probe: String,
    /// Begin, milliseconds since the Unix epoch.
    pub from_ms: i64,
    /// Until when nothing can have been missed, milliseconds since the Unix epoch.
    pub until_ms: i64,
    /// Whether the watch began before the workload's first exec.
    pub from_first_exec: bool,
}

/// Events that a probe lost.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Loss {
    /// Probe that lost them.
    pub probe: String,
    /// Number of events lost.
    pub events_lost: i64,
    /// Whether a resync found again all that could have been lost.
    pub repaired: bool,
}
