//! Alerts, newest first, of everything or of one component or artifact.
//! It must never leave an alert out because its workload is unknown.

use clickhouse::Row;
use plimsoll_schemas::words;
use serde::Deserialize;

use super::package_rows::known;
use super::select::{Conditions, Keyed, Kind, Order, Select, page_of, rows_wanted};
use super::{Store, json};
use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::{Alert, Page};
use crate::time::rfc3339;

/// Which alerts are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertFilter {
    /// Application.
    pub application: Option<String>,
    /// Component.
    pub component: Option<String>,
    /// Version of the component.
    pub version: Option<String>,
    /// Artifact key.
    pub artifact: Option<String>,
    /// Severity.
    pub severity: Option<String>,
    /// Name of the rule.
    pub rule: Option<String>,
    /// Part of the title or the path.
    pub text: Option<String>,
}

impl AlertFilter {
    /// Checks the words.
    ///
    /// # Errors
    /// [`PortalError::BadRequest`] naming the words that are known.
    pub fn check(self) -> Result<Self, PortalError> {
        known("severity", self.severity.as_deref(), words::severity::ALL)?;
        Ok(self)
    }

    fn conditions(&self) -> Conditions {
        Conditions::new()
            .equal_if("application", self.application.as_deref())
            .equal_if("component", self.component.as_deref())
            .equal_if("component_version", self.version.as_deref())
            .equal_if("artifact", self.artifact.as_deref())
            .equal_if("severity", self.severity.as_deref())
            .equal_if("rule", self.rule.as_deref())
            .contains_if(&["title", "path"], self.text.as_deref())
    }
}

const NEWEST_FIRST: Order = Order {
    columns: &[("-raised_at_ms", Kind::Integer), ("artifact", Kind::Text), ("alert_id", Kind::Text)],
};

#[derive(Row, Deserialize)]
struct AlertRow {
    artifact: String,
    alert_id: String,
    workload_id: String,
    application: String,
    component: String,
    component_version: String,
    rule: String,
    severity: String,
    title: String,
    process: String,
    path: String,
    evidence: Vec<(String, String)>,
    raised_at_ms: i64,
    owners: String,
    ownership_state: String,
    vulnerable: String,
    vulnerabilities: String,
    page_key: Vec<String>,
}

impl Keyed for AlertRow {
    fn page_key(&self) -> &[String] {
        &self.page_key
    }
}

impl AlertRow {
    fn into_alert(self) -> Result<Alert, PortalError> {
        Ok(Alert {
            process: json("process", &self.process)?,
            owners: json("owners", &self.owners)?,
            vulnerabilities: json("vulnerabilities", &self.vulnerabilities)?,
            artifact: self.artifact,
            alert_id: self.alert_id,
            workload_id: self.workload_id,
            application: self.application,
            component: self.component,
            version: self.component_version,
            rule: self.rule,
            severity: self.severity,
            title: self.title,
            path: self.path,
            evidence: self.evidence.into_iter().collect(),
            raised_at: rfc3339(self.raised_at_ms),
            ownership_state: self.ownership_state,
            vulnerable: self.vulnerable,
        })
    }
}

impl Store {
    /// One page of the alerts, newest first.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn alerts(&self, filter: &AlertFilter, page: &PageRequest) -> Result<Page<Alert>, PortalError> {
        let conditions = filter.conditions().after(&NEWEST_FIRST, page)?;
        // A path is bytes; what is no UTF-8 is replaced for people and JSON.
        let select = Select::new(format!(
            "SELECT artifact, alert_id, workload_id, application, component, component_version, rule, severity, title, \
             process, toValidUTF8(path) AS path, evidence, raised_at_ms, owners, ownership_state, vulnerable, \
             vulnerabilities, {key} FROM alerts WHERE {wanted} ORDER BY {order} LIMIT {{limit:Int64}}",
            key = NEWEST_FIRST.key_column(),
            wanted = conditions.sql(),
            order = NEWEST_FIRST.list(),
        ))
        .conditions(conditions)
        .integer("limit", rows_wanted(page));
        page_of(page, self.all(select).await?, AlertRow::into_alert)
    }

    /// Number of alerts that a filter takes.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn alert_count(&self, filter: &AlertFilter) -> Result<u64, PortalError> {
        let conditions = filter.conditions();
        let select = Select::new(format!("SELECT count() FROM alerts WHERE {}", conditions.sql()))
            .conditions(conditions);
        Ok(self.first(select).await?.unwrap_or(0))
    }
}
