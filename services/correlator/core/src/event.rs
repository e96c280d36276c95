//! What the core is told, and how it refuses.
//! An event must never be refused because of the order in which topics are read.

use plimsoll_schemas::events::{
    PackageOwnership, RuntimeAlert, RuntimeUsage, RuntimeWorkload, ScanArtifact, ScanFindings, ScanPackage,
};

/// An input of the join.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // Moved once per record; boxing would cost an allocation each.
pub enum Event {
    /// scan.artifacts: the manifest of a scan.
    Manifest(ScanArtifact),
    /// scan.packages.
    Package(ScanPackage),
    /// scan.findings.
    Findings(ScanFindings),
    /// package.ownership.
    Ownership(PackageOwnership),
    /// runtime.workloads.
    Workload(RuntimeWorkload),
    /// runtime.usage.
    Usage(RuntimeUsage),
    /// runtime.alerts.
    Alert(RuntimeAlert),
    /// The time, milliseconds since the Unix epoch. Written into the state when it has an effect.
    Tick {
        /// Now.
        now_ms: i64,
    },
}

/// Why an event, or a part of it, was not taken. The producer is at fault: the record goes to the dead letters.
/// Parts that were valid have been taken; taking them again later is harmless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// Stable name of the reason.
    pub code: &'static str,
    /// What is wrong, and where.
    pub detail: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}
