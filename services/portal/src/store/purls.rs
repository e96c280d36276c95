//! Where a package is, and who uses it: the rows sorted by purl, joined with each component's own use.
//! It must never scan a table that is not sorted by what is asked.

use std::collections::HashMap;

use clickhouse::Row;
use serde::Deserialize;

use super::package_rows::{ARTIFACT_COLUMNS, COMMON_COLUMNS, PackageRow};
use super::select::{Conditions, Kind, Order, Select, page_of, rows_wanted};
use super::{Store, some};
use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::{ComponentUse, PackageOccurrence, Page};
use crate::time::rfc3339;

const BY_PURL: Order =
    Order { columns: &[("purl", Kind::Text), ("artifact", Kind::Text), ("package_id", Kind::Text)] };

#[derive(Row, Deserialize)]
struct ComponentUseRow {
    artifact: String,
    package_id: String,
    application: String,
    component: String,
    component_version: String,
    #[serde(rename = "use")]
    usage: String,
    rung: String,
    first_used_ms: i64,
    last_used_ms: i64,
}

#[derive(Row, Deserialize)]
struct NamesRow {
    artifact: String,
    names: Vec<String>,
}

/// What stands beside a package of an artifact: the artifact's names, and who uses the package.
#[derive(Default)]
pub(super) struct Surroundings {
    names: HashMap<String, Vec<String>>,
    components: HashMap<(String, String), Vec<ComponentUse>>,
}

impl Surroundings {
    pub(super) fn of(&self, artifact: &str, package_id: &str) -> (Vec<String>, Vec<ComponentUse>) {
        let names = self.names.get(artifact).cloned().unwrap_or_default();
        let components =
            self.components.get(&(artifact.to_owned(), package_id.to_owned())).cloned().unwrap_or_default();
        (names, components)
    }
}

/// Takes a purl, and what lacks a version or qualifiers as the beginning of one.
fn purl_condition(purl: &str) -> Conditions {
    let exact = Conditions::new().equal("purl", purl);
    let beginnings = ["@", "?"].into_iter().filter(|mark| !purl.contains(mark));
    let mut parts = vec![exact.sql()];
    // The marks are constants, so the text holds nothing of the reader's.
    parts.extend(beginnings.map(|mark| format!("startsWith(purl, concat({{p0:String}}, '{mark}'))")));
    let sql = format!("({})", parts.join(" OR "));
    exact.replaced(sql)
}

impl Store {
    /// One page of the artifacts that contain a package, with the components that run each.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn package_occurrences(
        &self,
        purl: &str,
        page: &PageRequest,
    ) -> Result<Page<PackageOccurrence>, PortalError> {
        let conditions = purl_condition(purl).after(&BY_PURL, page)?;
        let select = Select::new(format!(
            "SELECT {COMMON_COLUMNS}, {ARTIFACT_COLUMNS}, {key} FROM artifact_packages_by_purl WHERE {wanted} \
             ORDER BY {order} LIMIT {{limit:Int64}}",
            key = BY_PURL.key_column(),
            wanted = conditions.sql(),
            order = BY_PURL.list(),
        ))
        .conditions(conditions)
        .integer("limit", rows_wanted(page));
        let rows: Vec<PackageRow> = self.all(select).await?;
        let keys: Vec<(String, String)> =
            rows.iter().map(|row| (row.artifact.clone(), row.package_id.clone())).collect();
        let around = self.surroundings(&keys).await?;
        let mut found = page_of(page, rows, |row| {
            let package = row.into_package()?;
            let (artifact_names, components) = around.of(&package.artifact, &package.package_id);
            Ok(PackageOccurrence { package, artifact_names, components })
        })?;
        self.add_reasons(&mut found.items.iter_mut().map(|item| &mut item.package).collect::<Vec<_>>())
            .await?;
        Ok(found)
    }

    /// Names of the artifacts, and each component's own use of the packages.
    pub(super) async fn surroundings(&self, keys: &[(String, String)]) -> Result<Surroundings, PortalError> {
        if keys.is_empty() {
            return Ok(Surroundings::default());
        }
        let (artifacts, package_ids): (Vec<String>, Vec<String>) = keys.iter().cloned().unzip();
        let mut distinct = artifacts.clone();
        distinct.sort();
        distinct.dedup();
        let names = Select::new(
            "SELECT artifact, names FROM artifacts WHERE artifact IN (SELECT arrayJoin({artifacts:Array(String)}))",
        )
        .texts("artifacts", distinct.clone());
        let names: Vec<NamesRow> = self.all(names).await?;
        let uses = Select::new(
            "SELECT artifact, package_id, application, component, component_version, `use`, rung, first_used_ms, \
             last_used_ms FROM package_usage \
             WHERE chunk = 0 AND (application, component, component_version) IN (\
               SELECT JSONExtractString(summary, 'application'), JSONExtractString(summary, 'component'), \
                 JSONExtractString(summary, 'component_version') \
               FROM (SELECT arrayJoin(JSONExtractArrayRaw(components)) AS summary FROM artifacts \
                     WHERE artifact IN (SELECT arrayJoin({distinct:Array(String)})))) \
             AND (artifact, package_id) IN (\
               SELECT arrayJoin(arrayZip({artifacts:Array(String)}, {package_ids:Array(String)}))) \
             ORDER BY artifact, package_id, application, component, component_version",
        )
        .texts("distinct", distinct)
        .texts("artifacts", artifacts)
        .texts("package_ids", package_ids);
        let mut components: HashMap<(String, String), Vec<ComponentUse>> = HashMap::new();
        for row in self.all::<ComponentUseRow>(uses).await? {
            components.entry((row.artifact, row.package_id)).or_default().push(ComponentUse {
                application: row.application,
                component: row.component,
                version: row.component_version,
                usage: row.usage,
                rung: some(row.rung),
                first_used: rfc3339(row.first_used_ms),
                last_used: rfc3339(row.last_used_ms),
            });
        }
        let names = names.into_iter().map(|row| (row.artifact, row.names)).collect();
        Ok(Surroundings { names, components })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purl_without_version_or_qualifiers_is_a_beginning() {
        let check = |purl: &str, expect: &str| assert_eq!(purl_condition(purl).sql(), expect);
        check("pkg:deb/debian/curl@8.5.0?arch=amd64", "(purl = {p0:String})");
        check(
            "pkg:deb/debian/curl@8.5.0",
            "(purl = {p0:String} OR startsWith(purl, concat({p0:String}, '?')))",
        );
        check(
            "pkg:pypi/six",
            "(purl = {p0:String} OR startsWith(purl, concat({p0:String}, '@')) OR \
             startsWith(purl, concat({p0:String}, '?')))",
        );
    }
}
