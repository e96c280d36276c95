//! Artifacts, the packages in them, and the components and workloads that run them.
//! It must never leave out an artifact that was observed but not scanned.

use std::collections::BTreeMap;

use clickhouse::Row;
use plimsoll_schemas::words;
use serde::Deserialize;

use super::component_packages::ComponentRef;
use super::package_rows::{ARTIFACT_COLUMNS, COMMON_COLUMNS, PackageFilter, PackageRow, PackageSort, known};
use super::select::{Conditions, Keyed, Kind, Order, Select, page_of, rows_wanted};
use super::{Store, json};
use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::{Artifact, ArtifactComponent, Cell, OperatingSystem, Package, Page, Platform, Workload};
use crate::time::rfc3339;

/// Most artifacts that are listed with one component version.
pub const COMPONENT_ARTIFACTS_MAX: i64 = 1_000;

/// Which artifacts are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArtifactFilter {
    /// Part of the key or of a name.
    pub text: Option<String>,
    /// `yes` or `no`: whether a scan is current.
    pub scanned: Option<String>,
}

impl ArtifactFilter {
    /// Checks the words.
    ///
    /// # Errors
    /// [`PortalError::BadRequest`] naming the words that are known.
    pub fn check(self) -> Result<Self, PortalError> {
        known("scanned", self.scanned.as_deref(), &[words::vulnerable::YES, words::vulnerable::NO])?;
        Ok(self)
    }
}

const ARTIFACTS: Order = Order { columns: &[("artifact", Kind::Text)] };
const WORKLOADS: Order = Order { columns: &[("workload_id", Kind::Text)] };
const COMPONENTS: Order = Order {
    columns: &[("application", Kind::Text), ("component", Kind::Text), ("component_version", Kind::Text)],
};

const COLUMNS: &str = "artifact, scanned, scan_id, source, names, aliases, os_id, os_version_id, os_codename, \
     os_pretty_name, platform_os, platform_architecture, platform_variant, scanner_version, database_version, scanned_at_ms, package_count, \
     vulnerable_package_count, finding_count, cells.kind AS cell_kinds, cells.vulnerable AS cell_vulnerable, \
     cells.use AS cell_uses, cells.package_count AS cell_counts, component_count, workload_count, \
     live_workload_count, unowned_path_count, unresolved_path_count, alert_count, warnings, unidentified_reason, \
     moved_to";

#[derive(Row, Deserialize)]
struct ArtifactRow {
    artifact: String,
    scanned: bool,
    scan_id: String,
    source: String,
    names: Vec<String>,
    aliases: Vec<String>,
    os_id: String,
    os_version_id: String,
    os_codename: String,
    os_pretty_name: String,
    platform_os: String,
    platform_architecture: String,
    platform_variant: String,
    scanner_version: String,
    database_version: String,
    scanned_at_ms: i64,
    package_count: i64,
    vulnerable_package_count: i64,
    finding_count: i64,
    cell_kinds: Vec<String>,
    cell_vulnerable: Vec<String>,
    cell_uses: Vec<String>,
    cell_counts: Vec<i64>,
    component_count: i64,
    workload_count: i64,
    live_workload_count: i64,
    unowned_path_count: i64,
    unresolved_path_count: i64,
    alert_count: i64,
    warnings: String,
    unidentified_reason: String,
    moved_to: String,
    page_key: Vec<String>,
}

impl Keyed for ArtifactRow {
    fn page_key(&self) -> &[String] {
        &self.page_key
    }
}

impl ArtifactRow {
    fn into_artifact(self) -> Result<Artifact, PortalError> {
        let mut cells: Vec<Cell> = Vec::new();
        let words = self.cell_kinds.into_iter().zip(self.cell_vulnerable).zip(self.cell_uses);
        for (((kind, vulnerable), usage), package_count) in words.zip(self.cell_counts) {
            cells.push(Cell { kind, vulnerable, usage, package_count });
        }
        Ok(Artifact {
            warnings: json("warnings", &self.warnings)?,
            artifact: self.artifact,
            scanned: self.scanned,
            scan_id: self.scan_id,
            source: self.source,
            names: self.names,
            aliases: self.aliases,
            os: OperatingSystem {
                id: self.os_id,
                version_id: self.os_version_id,
                codename: self.os_codename,
                pretty_name: self.os_pretty_name,
            },
            platform: Platform {
                os: self.platform_os,
                architecture: self.platform_architecture,
                variant: self.platform_variant,
            },
            scanner_version: self.scanner_version,
            database_version: self.database_version,
            scanned_at: rfc3339(self.scanned_at_ms),
            package_count: self.package_count,
            vulnerable_package_count: self.vulnerable_package_count,
            finding_count: self.finding_count,
            cells,
            component_count: self.component_count,
            workload_count: self.workload_count,
            live_workload_count: self.live_workload_count,
            unowned_path_count: self.unowned_path_count,
            unresolved_path_count: self.unresolved_path_count,
            alert_count: self.alert_count,
            unidentified_reason: self.unidentified_reason,
            moved_to: self.moved_to,
        })
    }
}

#[derive(Row, Deserialize)]
struct ArtifactComponentRow {
    application: String,
    component: String,
    component_version: String,
    workloads: i64,
    live_workloads: i64,
    first_seen: i64,
    last_seen: i64,
    page_key: Vec<String>,
}

impl Keyed for ArtifactComponentRow {
    fn page_key(&self) -> &[String] {
        &self.page_key
    }
}

#[derive(Row, Deserialize)]
struct WorkloadRow {
    artifact: String,
    workload_id: String,
    application: String,
    component: String,
    component_version: String,
    node_id: String,
    node_name: String,
    kind: String,
    container_id: String,
    container_name: String,
    image_name: String,
    image_aliases: Vec<String>,
    pod_namespace: String,
    pod_name: String,
    labels: Vec<(String, String)>,
    command: Vec<String>,
    started_at_ms: i64,
    stopped_at_ms: i64,
    watched: String,
    events_lost: i64,
    losses: String,
    formerly_artifact: String,
    sandboxed: bool,
    unavailable_probes: Vec<(String, String)>,
    observed: String,
    unidentified_reason: String,
    page_key: Vec<String>,
}

impl Keyed for WorkloadRow {
    fn page_key(&self) -> &[String] {
        &self.page_key
    }
}

impl WorkloadRow {
    fn into_workload(self) -> Result<Workload, PortalError> {
        Ok(Workload {
            watched: json("watched", &self.watched)?,
            losses: json("losses", &self.losses)?,
            observed: json("observed", &self.observed)?,
            formerly_artifact: self.formerly_artifact,
            sandboxed: self.sandboxed,
            artifact: self.artifact,
            workload_id: self.workload_id,
            application: self.application,
            component: self.component,
            version: self.component_version,
            node_id: self.node_id,
            node_name: self.node_name,
            kind: self.kind,
            container_id: self.container_id,
            container_name: self.container_name,
            image_name: self.image_name,
            image_aliases: self.image_aliases,
            pod_namespace: self.pod_namespace,
            pod_name: self.pod_name,
            labels: self.labels.into_iter().collect::<BTreeMap<_, _>>(),
            command: self.command,
            started_at: rfc3339(self.started_at_ms),
            stopped_at: rfc3339(self.stopped_at_ms),
            events_lost: self.events_lost,
            unavailable_probes: self.unavailable_probes.into_iter().collect(),
            unidentified_reason: self.unidentified_reason,
        })
    }
}

impl Store {
    /// One page of the artifacts.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn artifacts(
        &self,
        filter: &ArtifactFilter,
        page: &PageRequest,
    ) -> Result<Page<Artifact>, PortalError> {
        let mut conditions = Conditions::new()
            .contains_if(&["artifact", "arrayStringConcat(names, ' ')"], filter.text.as_deref());
        if let Some(scanned) = &filter.scanned {
            conditions = conditions.always(if scanned == "yes" { "scanned" } else { "NOT scanned" });
        }
        let conditions = conditions.after(&ARTIFACTS, page)?;
        let select = Select::new(format!(
            "SELECT {COLUMNS}, {key} FROM artifacts WHERE {wanted} ORDER BY {order} LIMIT {{limit:Int64}}",
            key = ARTIFACTS.key_column(),
            wanted = conditions.sql(),
            order = ARTIFACTS.list(),
        ))
        .conditions(conditions)
        .integer("limit", rows_wanted(page));
        page_of(page, self.all(select).await?, ArtifactRow::into_artifact)
    }

    /// One artifact.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn artifact(&self, key: &str) -> Result<Option<Artifact>, PortalError> {
        let select = Select::new(format!(
            "SELECT {COLUMNS}, CAST([], 'Array(String)') AS page_key FROM artifacts WHERE artifact = {{key:String}}"
        ))
        .text("key", key);
        self.first::<ArtifactRow>(select).await?.map(ArtifactRow::into_artifact).transpose()
    }

    /// The artifacts that a component version runs, at most [`COMPONENT_ARTIFACTS_MAX`].
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn component_artifacts(&self, of: &ComponentRef) -> Result<Vec<Artifact>, PortalError> {
        let conditions = of.conditions();
        let select = Select::new(format!(
            "SELECT {COLUMNS}, CAST([], 'Array(String)') AS page_key FROM artifacts \
             WHERE artifact IN (SELECT artifact FROM package_usage WHERE {wanted} AND chunk = 0) \
               OR arrayExists(summary -> JSONExtractString(summary, 'application') = {{p0:String}} \
                    AND JSONExtractString(summary, 'component') = {{p1:String}} \
                    AND JSONExtractString(summary, 'component_version') = {{p2:String}}, \
                  JSONExtractArrayRaw(components)) \
             ORDER BY artifact LIMIT {{limit:Int64}}",
            wanted = conditions.sql(),
        ))
        .conditions(conditions)
        .integer("limit", COMPONENT_ARTIFACTS_MAX);
        self.all::<ArtifactRow>(select).await?.into_iter().map(ArtifactRow::into_artifact).collect()
    }

    /// One page of the packages of an artifact.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn artifact_packages(
        &self,
        artifact: &str,
        filter: &PackageFilter,
        sort: PackageSort,
        page: &PageRequest,
    ) -> Result<Page<Package>, PortalError> {
        let order = sort.order();
        let conditions =
            filter.add_to(Conditions::new().equal_partition("artifact", artifact)).after(&order, page)?;
        let select = Select::new(format!(
            "SELECT {COMMON_COLUMNS}, {ARTIFACT_COLUMNS}, {key} FROM artifact_packages \
             WHERE artifact = {{p0:String}} AND package_id IN (\
               SELECT package_id FROM artifact_packages WHERE {wanted} ORDER BY {order} LIMIT {{limit:Int64}}) \
             ORDER BY {order}",
            key = order.key_column(),
            wanted = conditions.sql(),
            order = order.list(),
        ))
        .conditions(conditions)
        .integer("limit", rows_wanted(page));
        let mut found = page_of(page, self.all(select).await?, PackageRow::into_package)?;
        self.add_reasons(&mut found.items.iter_mut().collect::<Vec<_>>()).await?;
        Ok(found)
    }

    /// Number of packages of an artifact that a filter takes.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn artifact_package_count(
        &self,
        artifact: &str,
        filter: &PackageFilter,
    ) -> Result<u64, PortalError> {
        let conditions = filter.add_to(Conditions::new().equal_partition("artifact", artifact));
        let select = Select::new(format!("SELECT count() FROM artifact_packages WHERE {}", conditions.sql()))
            .conditions(conditions);
        Ok(self.first(select).await?.unwrap_or(0))
    }

    /// One page of the components that run an artifact: the correlator's list, and all that workloads name.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn artifact_components(
        &self,
        artifact: &str,
        page: &PageRequest,
    ) -> Result<Page<ArtifactComponent>, PortalError> {
        let conditions = Conditions::new().after(&COMPONENTS, page)?;
        let select = Select::new(format!(
            "SELECT application, component, component_version, \
               if(countIf(listed) > 0, maxIf(workload_count, listed), max(workload_count)) AS workloads, \
               if(countIf(listed) > 0, maxIf(live_workload_count, listed), max(live_workload_count)) AS live_workloads, \
               minIf(first_seen_ms, first_seen_ms > 0) AS first_seen, max(last_seen_ms) AS last_seen, {key} \
             FROM (\
               SELECT true AS listed, JSONExtractString(summary, 'application') AS application, \
                 JSONExtractString(summary, 'component') AS component, \
                 JSONExtractString(summary, 'component_version') AS component_version, \
                 JSONExtractInt(summary, 'workload_count') AS workload_count, \
                 JSONExtractInt(summary, 'live_workload_count') AS live_workload_count, \
                 JSONExtractInt(summary, 'first_seen_ms') AS first_seen_ms, \
                 JSONExtractInt(summary, 'last_seen_ms') AS last_seen_ms \
               FROM (SELECT arrayJoin(JSONExtractArrayRaw(components)) AS summary FROM artifacts \
                     WHERE artifact = {{artifact:String}}) \
               UNION ALL \
               SELECT false AS listed, application, component, component_version, toInt64(count()) AS workload_count, \
                 toInt64(countIf(stopped_at_ms = 0)) AS live_workload_count, \
                 minIf(started_at_ms, started_at_ms > 0) AS first_seen_ms, \
                 max(if(stopped_at_ms = 0, emitted_at_ms, stopped_at_ms)) AS last_seen_ms \
               FROM workloads WHERE artifact = {{artifact:String}} \
               GROUP BY application, component, component_version) \
             WHERE {wanted} GROUP BY application, component, component_version \
             ORDER BY {order} LIMIT {{limit:Int64}}",
            key = COMPONENTS.key_column(),
            wanted = conditions.sql(),
            order = COMPONENTS.list(),
        ))
        .text("artifact", artifact)
        .conditions(conditions)
        .integer("limit", rows_wanted(page));
        page_of(page, self.all::<ArtifactComponentRow>(select).await?, |row| {
            Ok(ArtifactComponent {
                application: row.application,
                component: row.component,
                version: row.component_version,
                workload_count: row.workloads,
                live_workload_count: row.live_workloads,
                first_seen: rfc3339(row.first_seen),
                last_seen: rfc3339(row.last_seen),
            })
        })
    }

    /// One page of the workloads of an artifact.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn artifact_workloads(
        &self,
        artifact: &str,
        page: &PageRequest,
    ) -> Result<Page<Workload>, PortalError> {
        let conditions = Conditions::new().equal_partition("artifact", artifact).after(&WORKLOADS, page)?;
        let select = Select::new(format!(
            "SELECT artifact, workload_id, application, component, component_version, node_id, node_name, kind, \
             container_id, container_name, image_name, image_aliases, pod_namespace, pod_name, labels, command, \
             started_at_ms, stopped_at_ms, watched, events_lost, losses, formerly_artifact, \
             sandboxed, unavailable_probes, observed, unidentified_reason, {key} \
             FROM workloads WHERE {wanted} ORDER BY {order} LIMIT {{limit:Int64}}",
            key = WORKLOADS.key_column(),
            wanted = conditions.sql(),
            order = WORKLOADS.list(),
        ))
        .conditions(conditions)
        .integer("limit", rows_wanted(page));
        page_of(page, self.all(select).await?, WorkloadRow::into_workload)
    }
}
