//! What the JSON API answers, and what the pages render: one type per thing, named as in the schemas.
//! It must never lose a distinction that the data makes: not measured is not unused, not assessed is not safe.

mod alert;
mod application;
mod artifact;
mod finding;
mod observed;
mod package;

pub use alert::{Alert, Owner, Process};
pub use application::{
    Application, ApplicationDetail, Component, ComponentDetail, CoverageGroup, Report, Totals,
};
pub use artifact::{
    Artifact, ArtifactComponent, Cell, Loss, OperatingSystem, Platform, Warning, WatchedInterval, Workload,
};
pub use finding::{Finding, VulnerabilityDetail, VulnerabilityOccurrence};
pub use observed::Observed;
pub use package::{
    ComponentUse, Coverage, Location, MatchReasons, Package, PackageOccurrence, Recommendation, UsedFile,
    Vulnerability, add_match_reasons,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items of this page, in a stable order.
    pub items: Vec<T>,
    /// Give it as `cursor` for the next page; null on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// An error, in the form of RFC 9457, with what to do about it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable name of the kind of problem, as a URI reference.
    #[serde(rename = "type")]
    #[schema(example = "urn:plimsoll:problem:not-found")]
    pub kind: String,
    /// One line for people, the same for every problem of this kind.
    #[schema(example = "There is no such thing here")]
    pub title: String,
    /// HTTP status.
    #[schema(example = 404)]
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
}
