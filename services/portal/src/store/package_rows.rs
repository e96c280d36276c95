//! Rows of packages, in either scope (artifact or component), the filters and the orders over them.
//! It must never let a filter word through that the contracts do not know.

use clickhouse::Row;
use plimsoll_schemas::words;
use serde::Deserialize;

use super::select::{Conditions, Keyed, Kind, Order};
use super::{json, some};
use crate::error::PortalError;
use crate::model::{Package, Recommendation, UsedFile};
use crate::time::rfc3339;

/// Which packages are wanted. Empty strings (of a form) mean no filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageFilter {
    /// `os` or `application`.
    pub kind: Option<String>,
    /// `yes`, `no` or `not_assessed`.
    pub vulnerable: Option<String>,
    /// `used`, `unused`, `not_measured` or `not_measurable`.
    pub usage: Option<String>,
    /// Worst severity.
    pub severity: Option<String>,
    /// Code of the recommendation.
    pub recommendation: Option<String>,
    /// Artifact key.
    pub artifact: Option<String>,
    /// Part of the name or the purl.
    pub text: Option<String>,
}

impl PackageFilter {
    /// Checks the words.
    ///
    /// # Errors
    /// [`PortalError::BadRequest`] naming the words that are known.
    pub fn check(self) -> Result<Self, PortalError> {
        known("kind", self.kind.as_deref(), words::package_kind::ALL)?;
        known("vulnerable", self.vulnerable.as_deref(), words::vulnerable::ALL)?;
        known("use", self.usage.as_deref(), words::usage::ALL)?;
        known("severity", self.severity.as_deref(), words::severity::ALL)?;
        known("recommendation", self.recommendation.as_deref(), words::recommendation::ALL)?;
        Ok(self)
    }

    pub(super) fn add_to(&self, conditions: Conditions) -> Conditions {
        conditions
            .equal_if("kind", self.kind.as_deref())
            .equal_if("vulnerable", self.vulnerable.as_deref())
            .equal_if("`use`", self.usage.as_deref())
            .equal_if("severity", self.severity.as_deref())
            .equal_if("recommendation_code", self.recommendation.as_deref())
            .equal_if("artifact", self.artifact.as_deref())
            .contains_if(&["name", "purl"], self.text.as_deref())
    }

    /// Whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The filters as parts of the question that a cursor belongs to.
    pub fn question(&self) -> String {
        format!("{self:?}")
    }
}

/// Refuses a word that is not one of `all`.
pub(super) fn known(name: &str, value: Option<&str>, all: &[&str]) -> Result<(), PortalError> {
    match value {
        Some(word) if !all.contains(&word) => Err(PortalError::bad_request(
            format!("{name} is {word:?}"),
            format!("{name} must be one of: {}", all.join(", ")),
        )),
        _ => Ok(()),
    }
}

/// The order of a list of packages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PackageSort {
    /// By name and version; it does not change while results come in.
    #[default]
    Name,
    /// What is exploited, used and severe first.
    Severity,
}

impl PackageSort {
    /// The order in SQL.
    pub(super) fn order(self) -> Order {
        match self {
            Self::Name => BY_NAME,
            Self::Severity => BY_SEVERITY,
        }
    }

    /// Reads the word of the API.
    ///
    /// # Errors
    /// [`PortalError::BadRequest`] for an unknown word.
    pub fn parse(word: Option<&str>, default: Self) -> Result<Self, PortalError> {
        match word {
            None => Ok(default),
            Some("name") => Ok(Self::Name),
            Some("severity") => Ok(Self::Severity),
            Some(other) => {
                known("sort", Some(other), &["name", "severity"])?;
                Ok(default)
            }
        }
    }

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Severity => "severity",
        }
    }
}

const BY_NAME: Order = Order {
    columns: &[
        ("name", Kind::Text),
        ("package_version", Kind::Text),
        ("artifact", Kind::Text),
        ("package_id", Kind::Text),
    ],
};

const BY_SEVERITY: Order = Order {
    columns: &[
        ("transform(toString(vulnerable), ['yes', 'not_assessed'], [0, 1], 2)", Kind::Integer),
        (
            "transform(toString(`use`), ['used', 'not_measured', 'not_measurable'], [0, 1, 2], 3)",
            Kind::Integer,
        ),
        ("if(known_exploited, 0, 1)", Kind::Integer),
        (
            "transform(toString(severity), ['critical', 'high', 'medium', 'low', 'unknown'], [0, 1, 2, 3, 4], 5)",
            Kind::Integer,
        ),
        ("name", Kind::Text),
        ("package_version", Kind::Text),
        ("artifact", Kind::Text),
        ("package_id", Kind::Text),
    ],
};

/// Columns that both package tables have.
pub(super) const COMMON_COLUMNS: &str = "artifact, package_id, purl, name, package_version, kind, ecosystem, scanned, \
     vulnerable, not_assessed_reason, severity, known_exploited, vulnerability_count, vulnerabilities, locations, \
     `use`, use_reason, use_remedy, rung, first_used_ms, last_used_ms, coverage, recommendation_code, \
     recommendation_text, held_by, ambiguous_with";
/// Further columns of `package_usage`, and stand-ins for those that only the artifact's tables have.
pub(super) const USAGE_COLUMNS: &str = "file_count, class_count, files, classes, chunk_count, \
     '' AS source_name, '' AS source_version, '' AS architecture, CAST([], 'Array(String)') AS licenses, \
     toInt64(-1) AS component_count";
/// Further columns of the artifact's tables, and stand-ins for those that only `package_usage` has.
pub(super) const ARTIFACT_COLUMNS: &str = "toInt64(0) AS file_count, toInt64(0) AS class_count, '' AS files, \
     '' AS classes, toInt32(0) AS chunk_count, source_name, source_version, architecture, licenses, component_count";

/// One row of either table.
#[derive(Clone, Debug, Row, Deserialize)]
pub(super) struct PackageRow {
    pub artifact: String,
    pub package_id: String,
    pub purl: String,
    pub name: String,
    pub package_version: String,
    pub kind: String,
    pub ecosystem: String,
    pub scanned: bool,
    pub vulnerable: String,
    pub not_assessed_reason: String,
    pub severity: String,
    pub known_exploited: bool,
    pub vulnerability_count: i64,
    pub vulnerabilities: String,
    pub locations: String,
    #[serde(rename = "use")]
    pub usage: String,
    pub use_reason: String,
    pub use_remedy: String,
    pub rung: String,
    pub first_used_ms: i64,
    pub last_used_ms: i64,
    pub coverage: String,
    pub recommendation_code: String,
    pub recommendation_text: String,
    pub held_by: Vec<String>,
    pub ambiguous_with: Vec<String>,
    pub file_count: i64,
    pub class_count: i64,
    pub files: String,
    pub classes: String,
    pub chunk_count: i32,
    pub source_name: String,
    pub source_version: String,
    pub architecture: String,
    pub licenses: Vec<String>,
    pub component_count: i64,
    pub page_key: Vec<String>,
}

impl Keyed for PackageRow {
    fn page_key(&self) -> &[String] {
        &self.page_key
    }
}

impl PackageRow {
    pub(super) fn into_package(self) -> Result<Package, PortalError> {
        let files: Vec<UsedFile> = json("files", &self.files)?;
        let classes: Vec<UsedFile> = json("classes", &self.classes)?;
        let component_scope = self.component_count < 0;
        Ok(Package {
            files_complete: component_scope && self.chunk_count <= 1,
            vulnerabilities: json("vulnerabilities", &self.vulnerabilities)?,
            locations: json("locations", &self.locations)?,
            coverage: json("coverage", &self.coverage)?,
            rung: some(self.rung),
            first_used: rfc3339(self.first_used_ms),
            last_used: rfc3339(self.last_used_ms),
            recommendation: Recommendation {
                code: self.recommendation_code,
                text: self.recommendation_text,
                held_by: self.held_by,
            },
            component_count: (!component_scope).then_some(self.component_count),
            purl: self.purl,
            package_id: self.package_id,
            artifact: self.artifact,
            name: self.name,
            version: self.package_version,
            kind: self.kind,
            ecosystem: self.ecosystem,
            scanned: self.scanned,
            vulnerable: self.vulnerable,
            not_assessed_reason: self.not_assessed_reason,
            severity: self.severity,
            known_exploited: self.known_exploited,
            vulnerability_count: self.vulnerability_count,
            usage: self.usage,
            use_reason: self.use_reason,
            use_remedy: self.use_remedy,
            ambiguous_with: self.ambiguous_with,
            file_count: self.file_count,
            class_count: self.class_count,
            files,
            classes,
            identified_by: String::new(),
            source_name: self.source_name,
            source_version: self.source_version,
            architecture: self.architecture,
            licenses: self.licenses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_unknown_words() {
        let check = |filter: PackageFilter, ok: bool| assert_eq!(filter.check().is_ok(), ok);
        check(PackageFilter::default(), true);
        check(PackageFilter { usage: Some("unused".into()), ..PackageFilter::default() }, true);
        check(PackageFilter { usage: Some("not used".into()), ..PackageFilter::default() }, false);
        check(PackageFilter { severity: Some("severe".into()), ..PackageFilter::default() }, false);
        assert_eq!(PackageSort::parse(Some("severity"), PackageSort::Name).unwrap(), PackageSort::Severity);
        assert!(PackageSort::parse(Some("size"), PackageSort::Name).is_err());
    }
}
