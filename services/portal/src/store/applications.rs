//! Applications and their component versions, found through the artifacts that they run.
//! It must never count a workload twice that is published under its component and under its host.

use std::collections::HashMap;

use clickhouse::Row;
use serde::Deserialize;

use super::Store;
use super::component_packages::ComponentRef;
use super::select::{Conditions, Keyed, Kind, Order, Select, page_of, rows_wanted};
use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::{Application, Cell, Component, Page};
use crate::time::rfc3339;

/// Links between artifacts and component versions. An artifact's list is complete as long as it names all of its
/// components; for the few artifacts with more, the workloads are read.
const LINKS: &str = "\
  SELECT artifact, JSONExtractString(summary, 'application') AS application, \
    JSONExtractString(summary, 'component') AS component, \
    JSONExtractString(summary, 'component_version') AS component_version, \
    JSONExtractInt(summary, 'workload_count') AS workload_count, \
    JSONExtractInt(summary, 'live_workload_count') AS live_workload_count, \
    JSONExtractInt(summary, 'first_seen_ms') AS first_seen_ms, \
    JSONExtractInt(summary, 'last_seen_ms') AS last_seen_ms \
  FROM (SELECT artifact, arrayJoin(JSONExtractArrayRaw(components)) AS summary FROM artifacts \
        WHERE length(JSONExtractArrayRaw(components)) >= component_count) \
  UNION ALL \
  SELECT artifact, application, component, component_version, toInt64(count()) AS workload_count, \
    toInt64(countIf(stopped_at_ms = 0)) AS live_workload_count, \
    minIf(started_at_ms, started_at_ms > 0) AS first_seen_ms, \
    max(if(stopped_at_ms = 0, emitted_at_ms, stopped_at_ms)) AS last_seen_ms \
  FROM workloads WHERE artifact IN (\
    SELECT artifact FROM artifacts WHERE length(JSONExtractArrayRaw(components)) < component_count) \
  GROUP BY artifact, application, component, component_version";

/// Workloads of plain processes stand under the component's artifact and under the host's: the host's count only
/// where there is nothing else.
const WORKLOAD_COUNTS: &str = "\
  greatest(sumIf(workload_count, NOT startsWith(artifact, 'host/')), maxIf(workload_count, startsWith(artifact, 'host/'))) AS workloads, \
  greatest(sumIf(live_workload_count, NOT startsWith(artifact, 'host/')), maxIf(live_workload_count, startsWith(artifact, 'host/'))) AS live_workloads, \
  minIf(first_seen_ms, first_seen_ms > 0) AS first_seen, max(last_seen_ms) AS last_seen";

const APPLICATIONS: Order = Order { columns: &[("application", Kind::Text)] };
const COMPONENTS: Order = Order { columns: &[("component", Kind::Text), ("component_version", Kind::Text)] };

#[derive(Row, Deserialize)]
struct ApplicationRow {
    application: String,
    component_count: u64,
    component_version_count: u64,
    artifact_count: u64,
    vulnerable_count: i64,
    vulnerable_used_count: i64,
    live_workloads: i64,
    alert_count: u64,
    first_seen: i64,
    last_seen: i64,
    page_key: Vec<String>,
}

impl Keyed for ApplicationRow {
    fn page_key(&self) -> &[String] {
        &self.page_key
    }
}

#[derive(Row, Deserialize)]
pub(super) struct ComponentRow {
    component: String,
    component_version: String,
    artifact_count: u64,
    workloads: i64,
    live_workloads: i64,
    first_seen: i64,
    last_seen: i64,
    page_key: Vec<String>,
}

impl Keyed for ComponentRow {
    fn page_key(&self) -> &[String] {
        &self.page_key
    }
}

impl From<ComponentRow> for Component {
    fn from(row: ComponentRow) -> Self {
        Self {
            component: row.component,
            version: row.component_version,
            artifact_count: row.artifact_count,
            workload_count: row.workloads,
            live_workload_count: row.live_workloads,
            first_seen: rfc3339(row.first_seen),
            last_seen: rfc3339(row.last_seen),
            cells: Vec::new(),
        }
    }
}

#[derive(Row, Deserialize)]
struct CellRow {
    component: String,
    component_version: String,
    kind: String,
    vulnerable: String,
    #[serde(rename = "use")]
    usage: String,
    package_count: u64,
}

impl Store {
    /// One page of the applications.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn applications(
        &self,
        text: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Application>, PortalError> {
        let conditions = Conditions::new()
            .always("application != ''")
            .contains_if(&["application"], text)
            .after(&APPLICATIONS, page)?;
        let select = Select::new(format!(
            "WITH links AS ({LINKS}), counts AS (\
               SELECT artifact, \
                 arraySum(arrayMap((v, n) -> if(v = 'yes', n, 0), cells.vulnerable, cells.package_count)) AS vulnerable, \
                 arraySum(arrayMap((v, u, n) -> if(v = 'yes' AND u = 'used', n, 0), cells.vulnerable, cells.use, cells.package_count)) AS vulnerable_used \
               FROM artifacts), \
             linked AS (\
               SELECT application, uniqExact(component) AS component_count, \
                 uniqExact((component, component_version)) AS component_version_count, \
                 uniqExact(artifact) AS artifact_count, \
                 arraySum(a -> a.2, groupUniqArrayIf((artifact, vulnerable), NOT startsWith(artifact, 'host/'))) AS vulnerable_count, \
                 arraySum(a -> a.2, groupUniqArrayIf((artifact, vulnerable_used), NOT startsWith(artifact, 'host/'))) AS vulnerable_used_count, \
                 {WORKLOAD_COUNTS} \
               FROM links LEFT JOIN counts USING (artifact) WHERE {wanted} GROUP BY application), \
             raised AS (SELECT application, count() AS alert_count FROM alerts GROUP BY application) \
             SELECT application, component_count, component_version_count, artifact_count, \
               toInt64(vulnerable_count) AS vulnerable_count, toInt64(vulnerable_used_count) AS vulnerable_used_count, \
               toInt64(live_workloads) AS live_workloads, alert_count, \
               toInt64(first_seen) AS first_seen, toInt64(last_seen) AS last_seen, {key} \
             FROM linked LEFT JOIN raised USING (application) ORDER BY {order} LIMIT {{limit:Int64}}",
            wanted = conditions.sql(),
            key = APPLICATIONS.key_column(),
            order = APPLICATIONS.list(),
        ))
        .conditions(conditions)
        .integer("limit", rows_wanted(page));
        page_of(page, self.all::<ApplicationRow>(select).await?, |row| {
            Ok(Application {
                application: row.application,
                component_count: row.component_count,
                component_version_count: row.component_version_count,
                artifact_count: row.artifact_count,
                vulnerable_package_count: row.vulnerable_count,
                vulnerable_used_package_count: row.vulnerable_used_count,
                live_workload_count: row.live_workloads,
                alert_count: row.alert_count,
                first_seen: rfc3339(row.first_seen),
                last_seen: rfc3339(row.last_seen),
            })
        })
    }

    /// One page of the component versions of an application, each with its cells.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn components(
        &self,
        application: &str,
        page: &PageRequest,
    ) -> Result<Page<Component>, PortalError> {
        let conditions = Conditions::new().equal("application", application).after(&COMPONENTS, page)?;
        let select = Select::new(format!(
            "SELECT component, component_version, uniqExact(artifact) AS artifact_count, {WORKLOAD_COUNTS}, {key} \
             FROM ({LINKS}) WHERE {wanted} GROUP BY component, component_version \
             ORDER BY {order} LIMIT {{limit:Int64}}",
            key = COMPONENTS.key_column(),
            wanted = conditions.sql(),
            order = COMPONENTS.list(),
        ))
        .conditions(conditions)
        .integer("limit", rows_wanted(page));
        let mut found = page_of(page, self.all::<ComponentRow>(select).await?, |row| Ok(row.into()))?;
        self.add_cells(application, &mut found.items).await?;
        Ok(found)
    }

    /// One component version, without its cells; `None` if no artifact names it.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn component(&self, of: &ComponentRef) -> Result<Option<Component>, PortalError> {
        let conditions = of.conditions();
        let select = Select::new(format!(
            "SELECT component, component_version, uniqExact(artifact) AS artifact_count, {WORKLOAD_COUNTS}, \
             CAST([], 'Array(String)') AS page_key FROM ({LINKS}) WHERE {wanted} GROUP BY component, component_version",
            wanted = conditions.sql(),
        ))
        .conditions(conditions);
        Ok(self.first::<ComponentRow>(select).await?.map(Component::from))
    }

    async fn add_cells(&self, application: &str, components: &mut [Component]) -> Result<(), PortalError> {
        if components.is_empty() {
            return Ok(());
        }
        let names = components.iter().map(|component| component.component.clone()).collect();
        let versions = components.iter().map(|component| component.version.clone()).collect();
        let select = Select::new(
            "SELECT component, component_version, kind, vulnerable, `use`, count() AS package_count \
             FROM package_usage WHERE application = {application:String} AND chunk = 0 \
             AND (component, component_version) IN \
               (SELECT arrayJoin(arrayZip({names:Array(String)}, {versions:Array(String)}))) \
             GROUP BY component, component_version, kind, vulnerable, `use` \
             ORDER BY component, component_version, kind, vulnerable, `use`",
        )
        .text("application", application)
        .texts("names", names)
        .texts("versions", versions);
        let mut cells: HashMap<(String, String), Vec<Cell>> = HashMap::new();
        for row in self.all::<CellRow>(select).await? {
            cells.entry((row.component, row.component_version)).or_default().push(Cell {
                kind: row.kind,
                vulnerable: row.vulnerable,
                usage: row.usage,
                package_count: i64::try_from(row.package_count).unwrap_or(i64::MAX),
            });
        }
        for component in components {
            let key = (component.component.clone(), component.version.clone());
            component.cells = cells.remove(&key).unwrap_or_default();
        }
        Ok(())
    }
}
