//! A package and its use.
//! It must never claim to hold all files where it does not: `files_complete` says so.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A package of an artifact, with its vulnerabilities, its use and what to do.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Package {
    /// Package URL with all qualifiers.
    #[schema(example = "pkg:pypi/jinja2@2.11.2")]
    pub purl: String,
    /// Stable id of the package within its artifact: two versions, architectures or copies are two packages.
    pub package_id: String,
    /// Artifact that contains it.
    pub artifact: String,
    /// Name.
    #[schema(example = "jinja2")]
    pub name: String,
    /// Version of the package.
    #[schema(example = "2.11.2")]
    pub version: String,
    /// `os` or `application`.
    #[schema(example = "application")]
    pub kind: String,
    /// Ecosystem, for example `debian` or `pypi`.
    #[schema(example = "pypi")]
    pub ecosystem: String,
    /// Whether the current scan lists it; false if it was only observed at run time.
    pub scanned: bool,
    /// `yes`, `no` or `not_assessed`.
    #[schema(example = "yes")]
    pub vulnerable: String,
    /// Why it was not assessed, with what to do; empty if it was.
    pub not_assessed_reason: String,
    /// Worst severity of its vulnerabilities: critical, high, medium, low, none or unknown.
    #[schema(example = "high")]
    pub severity: String,
    /// Whether one of its vulnerabilities is known to be exploited.
    pub known_exploited: bool,
    /// Number of its vulnerabilities.
    pub vulnerability_count: i64,
    /// Its vulnerabilities, worst first, at most 200.
    pub vulnerabilities: Vec<Vulnerability>,
    /// `used`, `unused`, `not_measured` or `not_measurable`.
    #[serde(rename = "use")]
    #[schema(example = "used")]
    pub usage: String,
    /// Why the use is as it is, for people.
    pub use_reason: String,
    /// What to attach or to do so that it can be measured; empty if it was.
    pub use_remedy: String,
    /// What was watched.
    pub coverage: Coverage,
    /// Highest rung of evidence seen: deployed, accessed, loaded, executed or symbol_executed; null if nothing was.
    #[schema(required)]
    pub rung: Option<String>,
    /// First use at or above the threshold of the ecosystem, RFC 3339; null if there was none.
    #[schema(required)]
    pub first_used: Option<String>,
    /// Last use at or above the threshold of the ecosystem, RFC 3339; null if there was none.
    #[schema(required)]
    pub last_used: Option<String>,
    /// Number of used files. 0 where the answer is about an artifact: files are kept for each component.
    pub file_count: i64,
    /// Number of used classes and modules.
    pub class_count: i64,
    /// Used files; all of them only if `files_complete`.
    pub files: Vec<UsedFile>,
    /// Used classes and modules; all of them only if `files_complete`.
    pub classes: Vec<UsedFile>,
    /// Package URLs of the other packages that the files and classes marked ambiguous may belong to, at most 10.
    #[serde(default)]
    pub ambiguous_with: Vec<String>,
    /// Whether `files` and `classes` are all there is. Where it is false, ask for the package's `/files`.
    pub files_complete: bool,
    /// What to do.
    pub recommendation: Recommendation,
    /// Where it stands in the artifact, at most 100.
    pub locations: Vec<Location>,
    /// By what a scan identified it where that may be wrong: pom.properties, directory of pom.xml, manifest, file name
    /// or release file. In the answer of `plimsoll scan` only; findings say it in their `match_reason`.
    #[serde(default)]
    pub identified_by: String,
    /// Source package; empty outside of OS packages, and in answers about a component.
    pub source_name: String,
    /// Version of the source package.
    pub source_version: String,
    /// Architecture of the package, of a Go module the platform of the program (`linux/amd64`).
    pub architecture: String,
    /// Licences as declared; empty in answers about a component.
    pub licenses: Vec<String>,
    /// Components in which the artifact runs; null in answers about a component.
    #[schema(required)]
    pub component_count: Option<i64>,
}

impl Package {
    /// Whether as many files and classes are listed as were counted.
    pub fn lists_all_files(&self) -> bool {
        i64::try_from(self.files.len() + self.classes.len())
            .is_ok_and(|listed| listed >= self.file_count + self.class_count)
    }
}

/// Why vulnerabilities matched, and the packages of a Go module that they affect; by artifact, id of the package, and id of
/// the vulnerability.
pub type MatchReasons = HashMap<(String, String, String), (String, Vec<String>)>;

/// Gives each vulnerability its reason, which the findings say.
pub fn add_match_reasons<'p>(packages: impl IntoIterator<Item = &'p mut Package>, mut reasons: MatchReasons) {
    for package in packages {
        for entry in &mut package.vulnerabilities {
            let key = (package.artifact.clone(), package.package_id.clone(), entry.id.clone());
            if let Some((match_reason, imports)) = reasons.remove(&key) {
                entry.match_reason = match_reason;
                entry.imports = imports;
            }
        }
    }
}

/// A vulnerability of a package, in short.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Vulnerability {
    /// Identifier, the CVE where there is one.
    #[schema(example = "CVE-2020-28493")]
    pub id: String,
    /// critical, high, medium, low, none or unknown.
    pub severity: String,
    /// Versions that fix it.
    pub fixed_in: Vec<String>,
    /// Whether CISA lists it as known to be exploited.
    pub known_exploited: bool,
    /// Why the package matched, for people: the versions compared, whether its group or its name was guessed, and for Go
    /// whether functions of the affected packages are linked in. Left out while its finding has not arrived.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(example = "jinja2 2.11.2 < fixed 2.11.3 (GHSA-g3rq-g295-4j3m)")]
    pub match_reason: String,
    /// Import paths of the packages of a Go module that are affected; left out if all are, or it is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<String>,
}

/// What was watched, beside every use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Coverage {
    /// Probes that watched and could have seen the package's use.
    pub probes: Vec<String>,
    /// Begin of the first watched interval, milliseconds since the Unix epoch; 0 if none.
    pub since_ms: i64,
    /// End of the last watched interval, milliseconds since the Unix epoch; 0 if none.
    pub until_ms: i64,
    /// Whether at least one workload was watched from its first exec without unrepaired loss.
    pub from_first_exec: bool,
    /// Sum of the watched intervals over the workloads, in milliseconds.
    pub watched_ms: i64,
    /// Workloads that ran.
    pub workload_count: i64,
    /// Workloads that were watched from their first exec.
    pub workload_count_from_first_exec: i64,
    /// Events that were lost and not found again.
    pub events_lost: i64,
    /// Paths that were used but whose owner is not resolved, rounded up to a power of two.
    pub unresolved_path_count: i64,
}

/// A used file, class or module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct UsedFile {
    /// Path relative to the artifact's root; inside of an archive behind `!/` (`a.jar!/b.jar`).
    pub path: String,
    /// executable, library, file, class or module.
    pub kind: String,
    /// Name of the class or module; empty for files.
    pub name: String,
    /// Highest rung seen.
    pub rung: String,
    /// First seen, milliseconds since the Unix epoch.
    pub first_seen_ms: i64,
    /// Last seen, milliseconds since the Unix epoch.
    pub last_seen_ms: i64,
    /// Whether it may be of another package instead, one of those in the package's `ambiguous_with`.
    pub ambiguous: bool,
}

/// Where a package stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Location {
    /// Path relative to the artifact's root.
    pub path: String,
    /// Diff ID of the image layer that last wrote the path; empty outside of images.
    pub layer: String,
    /// Path inside the archive at `path`; empty otherwise.
    pub nested_path: String,
}

/// What to do with a package.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Recommendation {
    /// upgrade, remove, no_action, observe or no_feed.
    #[schema(example = "upgrade")]
    pub code: String,
    /// For people, with what holds the package where something does.
    pub text: String,
    /// Names of used packages that depend on it, or `essential`: it is then not to be removed by itself.
    pub held_by: Vec<String>,
}

/// The use of a package by one component.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ComponentUse {
    /// Application.
    pub application: String,
    /// Component.
    pub component: String,
    /// Version of the component.
    pub version: String,
    /// `used`, `unused`, `not_measured` or `not_measurable`.
    #[serde(rename = "use")]
    pub usage: String,
    /// Highest rung seen; null if nothing was.
    #[schema(required)]
    pub rung: Option<String>,
    /// First use, RFC 3339.
    #[schema(required)]
    pub first_used: Option<String>,
    /// Last use, RFC 3339.
    #[schema(required)]
    pub last_used: Option<String>,
}

/// A package in one artifact, with the components that run the artifact.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PackageOccurrence {
    /// The package there.
    #[serde(flatten)]
    pub package: Package,
    /// Names of the artifact.
    pub artifact_names: Vec<String>,
    /// Who runs the artifact, and whether they use the package.
    pub components: Vec<ComponentUse>,
}
