//! Applications, components and their totals.
//! It must never fold what was not measured or not assessed into the four cells of the table.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::artifact::{Artifact, Cell};
use super::observed::Observed;
use super::package::{Coverage, Package};

/// An application, in short.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Application {
    /// Name.
    #[schema(example = "backend")]
    pub application: String,
    /// Components.
    pub component_count: u64,
    /// Versions of all components.
    pub component_version_count: u64,
    /// Artifacts that they run.
    pub artifact_count: u64,
    /// Vulnerable packages in those artifacts, hosts not counted.
    pub vulnerable_package_count: i64,
    /// Vulnerable packages that are used in those artifacts by any component, hosts not counted.
    pub vulnerable_used_package_count: i64,
    /// Workloads that run now.
    pub live_workload_count: i64,
    /// Alerts raised.
    pub alert_count: u64,
    /// Start of the first workload, RFC 3339; null if none ever ran.
    #[schema(required)]
    pub first_seen: Option<String>,
    /// Until when one was seen alive, RFC 3339.
    #[schema(required)]
    pub last_seen: Option<String>,
}

/// An application with one page of its component versions.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApplicationDetail {
    /// Name.
    pub application: String,
    /// Versions of components, by name and version.
    pub components: Vec<Component>,
    /// Give it as `cursor` for the next page; null on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// One version of a component, in short.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Component {
    /// Component.
    #[schema(example = "pythonapp")]
    pub component: String,
    /// Version.
    #[schema(example = "1.0")]
    pub version: String,
    /// Artifacts that it runs.
    pub artifact_count: u64,
    /// Workloads that ran.
    pub workload_count: i64,
    /// Workloads that run now.
    pub live_workload_count: i64,
    /// Start of the first workload, RFC 3339; null if none ever ran.
    #[schema(required)]
    pub first_seen: Option<String>,
    /// Until when one was seen alive, RFC 3339.
    #[schema(required)]
    pub last_seen: Option<String>,
    /// Counts of each non-empty cell of the recommendation table.
    pub cells: Vec<Cell>,
}

/// One version of a component: totals and artifacts.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ComponentDetail {
    /// Application.
    pub application: String,
    /// Component.
    pub component: String,
    /// Version.
    pub version: String,
    /// Totals.
    pub totals: Totals,
    /// What was watched, one entry for each artifact, ecosystem and coverage.
    pub coverage: Vec<CoverageGroup>,
    /// How the processes of each language were observed, one entry for each ecosystem, probe and how.
    pub observed: Vec<Observed>,
    /// Artifacts that it runs.
    pub artifacts: Vec<Artifact>,
    /// Workloads that ran.
    pub workload_count: i64,
    /// Workloads that run now.
    pub live_workload_count: i64,
    /// Start of the first workload, RFC 3339; null if none ever ran.
    #[schema(required)]
    pub first_seen: Option<String>,
    /// Until when one was seen alive, RFC 3339.
    #[schema(required)]
    pub last_seen: Option<String>,
    /// Alerts raised.
    pub alert_count: u64,
}

/// Counts of packages.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    /// All packages: the sum of the cells.
    pub package_count: i64,
    /// Packages with a vulnerability that is known to be exploited.
    pub known_exploited_package_count: i64,
    /// Each non-empty cell of the recommendation table, those not measured or not assessed among them.
    pub cells: Vec<Cell>,
    /// Number of packages by the code of their recommendation.
    pub recommendations: std::collections::BTreeMap<String, i64>,
    /// Number of vulnerable packages by their worst severity.
    pub severities: std::collections::BTreeMap<String, i64>,
}

impl Totals {
    /// Packages of the cells that `wanted` takes.
    pub fn count(&self, wanted: impl Fn(&Cell) -> bool) -> i64 {
        self.cells.iter().filter(|cell| wanted(cell)).map(|cell| cell.package_count).sum()
    }
}

/// Packages of one artifact and ecosystem that were watched alike.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CoverageGroup {
    /// Artifact.
    pub artifact: String,
    /// `os` or `application`.
    pub kind: String,
    /// Ecosystem.
    pub ecosystem: String,
    /// Number of packages.
    pub package_count: u64,
    /// What was watched.
    pub coverage: Coverage,
}

/// Everything about one version of a component. It is streamed: the fields come in this order.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Application.
    pub application: String,
    /// Component.
    pub component: String,
    /// Version.
    pub version: String,
    /// When the report was made, RFC 3339.
    pub generated_at: String,
    /// Totals.
    pub totals: Totals,
    /// Artifacts that it runs.
    pub artifacts: Vec<Artifact>,
    /// How the processes of each language were observed, one entry for each ecosystem, probe and how.
    #[serde(default)]
    pub observed: Vec<Observed>,
    /// All packages, by artifact and package id, with all files.
    pub packages: Vec<Package>,
}
