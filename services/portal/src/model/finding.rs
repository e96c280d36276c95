//! Findings: a vulnerability of a package of an artifact, and whether the package is used there.
//! It must never show a severity as a priority: use and exploitation count too.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::package::{ComponentUse, Coverage};

/// A vulnerability of a package of an artifact.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Artifact.
    pub artifact: String,
    /// Stable id of the package.
    pub package_id: String,
    /// Identifier of the vulnerability, the CVE where there is one.
    #[schema(example = "CVE-2020-28493")]
    pub vulnerability_id: String,
    /// Package URL.
    pub purl: String,
    /// Name of the package.
    pub name: String,
    /// Version of the package.
    pub version: String,
    /// `os` or `application`.
    pub kind: String,
    /// Ecosystem.
    pub ecosystem: String,
    /// Other identifiers of the same vulnerability.
    pub aliases: Vec<String>,
    /// Advisory records that led to the finding.
    pub advisories: Vec<String>,
    /// critical, high, medium, low, none or unknown.
    pub severity: String,
    /// CVSS vector that the severity came from; empty if there is none.
    pub cvss_vector: String,
    /// CVSS base score from 0 to 10; null if there is no vector.
    #[schema(required)]
    pub cvss_score: Option<f64>,
    /// Whether CISA lists it as known to be exploited.
    pub known_exploited: bool,
    /// EPSS probability from 0 to 1; null if not known.
    #[schema(required)]
    pub epss: Option<f64>,
    /// Versions that fix it, lowest first.
    pub fixed_in: Vec<String>,
    /// Advisory source.
    pub source: String,
    /// Why the package matched, for people.
    pub match_reason: String,
    /// Import paths of the packages of a Go module that are affected; empty if all of them are, or it is not known.
    #[serde(default)]
    pub imports: Vec<String>,
    /// One-line summary from the advisory.
    pub summary: String,
    /// When it was published, RFC 3339.
    #[schema(required)]
    pub published: Option<String>,
    /// When it was last modified, RFC 3339.
    #[schema(required)]
    pub modified: Option<String>,
    /// `used`, `unused`, `not_measured` or `not_measurable`; of the component where the answer is about one.
    #[serde(rename = "use")]
    pub usage: String,
    /// Why the use is as it is.
    pub use_reason: String,
    /// What to attach or to do so that it can be measured; empty if it was.
    pub use_remedy: String,
    /// What was watched.
    pub coverage: Coverage,
    /// Highest rung seen; null if nothing was.
    #[schema(required)]
    pub rung: Option<String>,
    /// First use, RFC 3339.
    #[schema(required)]
    pub first_used: Option<String>,
    /// Last use, RFC 3339.
    #[schema(required)]
    pub last_used: Option<String>,
    /// From 0 to 100, over all components of the artifact: severity, exploitation and use taken together.
    pub priority: i32,
    /// Why the priority is what it is.
    pub priority_reason: String,
}

/// A vulnerability, as the feeds describe it, and everything that it affects.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VulnerabilityDetail {
    /// Identifier.
    pub id: String,
    /// Other identifiers.
    pub aliases: Vec<String>,
    /// Advisory records.
    pub advisories: Vec<String>,
    /// Worst severity among the findings.
    pub severity: String,
    /// Highest CVSS base score among the findings.
    #[schema(required)]
    pub cvss_score: Option<f64>,
    /// CVSS vector of that score.
    pub cvss_vector: String,
    /// Whether CISA lists it as known to be exploited.
    pub known_exploited: bool,
    /// EPSS probability.
    #[schema(required)]
    pub epss: Option<f64>,
    /// Summary.
    pub summary: String,
    /// When it was published, RFC 3339.
    #[schema(required)]
    pub published: Option<String>,
    /// When it was last modified, RFC 3339.
    #[schema(required)]
    pub modified: Option<String>,
    /// Artifacts with an affected package.
    pub artifact_count: u64,
    /// Artifacts in which an affected package is used.
    pub artifact_count_used: u64,
    /// Affected packages, over all artifacts.
    pub finding_count: u64,
    /// One page of what it affects, highest priority first.
    pub items: Vec<VulnerabilityOccurrence>,
    /// Give it as `cursor` for the next page; null on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// One package of one artifact that a vulnerability affects.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VulnerabilityOccurrence {
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// Names of the artifact.
    pub artifact_names: Vec<String>,
    /// Who runs the artifact, and whether they use the package.
    pub components: Vec<ComponentUse>,
}
