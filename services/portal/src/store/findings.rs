//! Findings of an artifact and of a component version.
//! A component's findings must carry the component's own use, not that of the artifact's other users.

use clickhouse::Row;
use plimsoll_schemas::words;
use serde::Deserialize;

use super::component_packages::ComponentRef;
use super::package_rows::known;
use super::select::{Conditions, Keyed, Kind, Order, Select, page_of, rows_wanted};
use super::{Store, json, some};
use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::{Finding, Page};
use crate::time::rfc3339;

/// Which findings are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FindingFilter {
    /// `os` or `application`.
    pub kind: Option<String>,
    /// `used`, `unused`, `not_measured` or `not_measurable`.
    pub usage: Option<String>,
    /// Severity.
    pub severity: Option<String>,
    /// Part of the vulnerability's id, the package's name or its purl.
    pub text: Option<String>,
}

impl FindingFilter {
    /// Checks the words.
    ///
    /// # Errors
    /// [`PortalError::BadRequest`] naming the words that are known.
    pub fn check(self) -> Result<Self, PortalError> {
        known("kind", self.kind.as_deref(), words::package_kind::ALL)?;
        known("use", self.usage.as_deref(), words::usage::ALL)?;
        known("severity", self.severity.as_deref(), words::severity::ALL)?;
        Ok(self)
    }

    fn add_to(&self, conditions: Conditions) -> Conditions {
        conditions
            .equal_if("kind", self.kind.as_deref())
            .equal_if("`use`", self.usage.as_deref())
            .equal_if("severity", self.severity.as_deref())
            .contains_if(&["vulnerability_id", "name", "purl"], self.text.as_deref())
    }
}

/// The order of a list of findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FindingSort {
    /// By vulnerability and package; it does not change while results come in.
    #[default]
    Id,
    /// Highest priority first.
    Priority,
}

impl FindingSort {
    fn order(self) -> Order {
        match self {
            Self::Id => BY_ID,
            Self::Priority => BY_PRIORITY,
        }
    }

    /// Reads the word of the API.
    ///
    /// # Errors
    /// [`PortalError::BadRequest`] for an unknown word.
    pub fn parse(word: Option<&str>, default: Self) -> Result<Self, PortalError> {
        known("sort", word, &["id", "priority"])?;
        Ok(match word {
            None => default,
            Some("priority") => Self::Priority,
            Some(_) => Self::Id,
        })
    }

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Priority => "priority",
        }
    }
}

const BY_ID: Order = Order {
    columns: &[("vulnerability_id", Kind::Text), ("artifact", Kind::Text), ("package_id", Kind::Text)],
};
pub(super) const BY_PRIORITY: Order = Order {
    columns: &[
        ("-toInt64(priority)", Kind::Integer),
        ("vulnerability_id", Kind::Text),
        ("artifact", Kind::Text),
        ("package_id", Kind::Text),
    ],
};

const OWN_COLUMNS: &str = "artifact, package_id, vulnerability_id, purl, name, package_version, kind, ecosystem, \
     aliases, advisories, severity, cvss_vector, cvss_score, known_exploited, epss, fixed_versions, source, \
     match_reason, imports, summary, published_ms, modified_ms, priority, priority_reason";
const USE_COLUMNS: &str = "`use`, use_reason, use_remedy, rung, first_used_ms, last_used_ms, coverage";

pub(super) fn columns() -> String {
    format!("{OWN_COLUMNS}, {USE_COLUMNS}")
}

#[derive(Row, Deserialize)]
pub(super) struct FindingRow {
    pub artifact: String,
    pub package_id: String,
    vulnerability_id: String,
    purl: String,
    name: String,
    package_version: String,
    kind: String,
    ecosystem: String,
    aliases: Vec<String>,
    advisories: Vec<String>,
    severity: String,
    cvss_vector: String,
    cvss_score: Option<f64>,
    known_exploited: bool,
    epss: Option<f64>,
    fixed_versions: Vec<String>,
    source: String,
    match_reason: String,
    imports: Vec<String>,
    summary: String,
    published_ms: i64,
    modified_ms: i64,
    priority: i32,
    priority_reason: String,
    #[serde(rename = "use")]
    usage: String,
    use_reason: String,
    use_remedy: String,
    rung: String,
    first_used_ms: i64,
    last_used_ms: i64,
    coverage: String,
    page_key: Vec<String>,
}

impl Keyed for FindingRow {
    fn page_key(&self) -> &[String] {
        &self.page_key
    }
}

impl FindingRow {
    pub(super) fn into_finding(self) -> Result<Finding, PortalError> {
        Ok(Finding {
            artifact: self.artifact,
            package_id: self.package_id,
            vulnerability_id: self.vulnerability_id,
            purl: self.purl,
            name: self.name,
            version: self.package_version,
            kind: self.kind,
            ecosystem: self.ecosystem,
            aliases: self.aliases,
            advisories: self.advisories,
            severity: self.severity,
            cvss_vector: self.cvss_vector,
            cvss_score: self.cvss_score,
            known_exploited: self.known_exploited,
            epss: self.epss,
            fixed_in: self.fixed_versions,
            source: self.source,
            match_reason: self.match_reason,
            imports: self.imports,
            summary: self.summary,
            published: rfc3339(self.published_ms),
            modified: rfc3339(self.modified_ms),
            usage: self.usage,
            use_reason: self.use_reason,
            use_remedy: self.use_remedy,
            coverage: json("coverage", &self.coverage)?,
            rung: some(self.rung),
            first_used: rfc3339(self.first_used_ms),
            last_used: rfc3339(self.last_used_ms),
            priority: self.priority,
            priority_reason: self.priority_reason,
        })
    }
}

impl Store {
    /// One page of the findings of an artifact.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn artifact_findings(
        &self,
        artifact: &str,
        filter: &FindingFilter,
        sort: FindingSort,
        page: &PageRequest,
    ) -> Result<Page<Finding>, PortalError> {
        let order = sort.order();
        let conditions =
            filter.add_to(Conditions::new().equal_partition("artifact", artifact)).after(&order, page)?;
        let select = Select::new(format!(
            "SELECT {columns}, {key} FROM findings WHERE {wanted} ORDER BY {order} LIMIT {{limit:Int64}}",
            columns = columns(),
            key = order.key_column(),
            wanted = conditions.sql(),
            order = order.list(),
        ))
        .conditions(conditions)
        .integer("limit", rows_wanted(page));
        page_of(page, self.all(select).await?, FindingRow::into_finding)
    }

    /// One page of the findings of a component version, with the component's own use.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn component_findings(
        &self,
        of: &ComponentRef,
        filter: &FindingFilter,
        sort: FindingSort,
        page: &PageRequest,
    ) -> Result<Page<Finding>, PortalError> {
        let order = sort.order();
        let component = of.conditions();
        let mine = format!("{} AND chunk = 0 AND vulnerable = 'yes'", component.sql());
        // Parameters of the filter are numbered behind those of the component.
        let wanted = filter.add_to(component).after(&order, page)?;
        let behind = wanted.sql().replacen(&of.conditions().sql(), "1", 1);
        let select = Select::new(format!(
            "SELECT {OWN_COLUMNS}, {USE_COLUMNS}, {key} FROM (\
               SELECT {OWN_COLUMNS} FROM findings \
               WHERE (artifact, package_id) IN (SELECT artifact, package_id FROM package_usage WHERE {mine})\
             ) AS found INNER JOIN (\
               SELECT artifact, package_id, {USE_COLUMNS} FROM package_usage WHERE {mine}\
             ) AS mine USING (artifact, package_id) \
             WHERE {behind} ORDER BY {order} LIMIT {{limit:Int64}}",
            key = order.key_column(),
            order = order.list(),
        ))
        .conditions(wanted)
        .integer("limit", rows_wanted(page));
        page_of(page, self.all(select).await?, FindingRow::into_finding)
    }
}
