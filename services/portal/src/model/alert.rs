//! Alerts: what a rule about runtime risks saw, with the owning packages.
//! It must never shorten evidence.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::package::Vulnerability;

/// A runtime risk.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Artifact.
    pub artifact: String,
    /// Stable identity of the alert.
    pub alert_id: String,
    /// Workload in which it was seen.
    pub workload_id: String,
    /// Application; empty if unknown.
    pub application: String,
    /// Component; empty if unknown.
    pub component: String,
    /// Version of the component; empty if unknown.
    pub version: String,
    /// Name of the rule.
    #[schema(example = "program-not-in-image")]
    pub rule: String,
    /// critical, high, medium or low.
    pub severity: String,
    /// One line for people.
    pub title: String,
    /// The process that broke the rule.
    #[schema(required)]
    pub process: Option<Process>,
    /// Path that the rule is about; empty if none.
    pub path: String,
    /// What the rule saw, by name.
    pub evidence: BTreeMap<String, String>,
    /// When it was seen, RFC 3339.
    #[schema(required)]
    pub raised_at: Option<String>,
    /// Packages that own the path, at most 500; of an unresolved path some of them.
    pub owners: Vec<Owner>,
    /// owned, unowned, unresolved; empty if the rule is about no path.
    pub ownership_state: String,
    /// Whether an owning package is vulnerable: yes, no or not_assessed.
    pub vulnerable: String,
    /// Vulnerabilities of the owning packages, at most 50.
    pub vulnerabilities: Vec<Vulnerability>,
}

/// A process as a runtime risk saw it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Process {
    /// Process id in the node's namespace.
    pub pid: i64,
    /// Process id of the parent.
    pub parent_pid: i64,
    /// Path of the executable.
    pub executable: String,
    /// Command line.
    pub command: Vec<String>,
    /// Numeric user id.
    pub user_id: i64,
    /// Path of the parent's executable.
    pub parent_executable: String,
    /// When it was started, milliseconds since the Unix epoch.
    pub started_at_ms: i64,
}

/// A package that owns a path.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Owner {
    /// Stable id.
    pub package_id: String,
    /// Package URL.
    pub purl: String,
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// `os` or `application`.
    pub kind: String,
    /// Ecosystem.
    pub ecosystem: String,
}
