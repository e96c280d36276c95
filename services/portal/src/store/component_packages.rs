//! Packages of one component version, from `package_usage`: pages, one package, its files, totals, and the whole.
//! Metadata is read from chunk 0 alone; the chunks behind it only add files.

use clickhouse::Row;
use serde::Deserialize;

use super::package_rows::{COMMON_COLUMNS, PackageFilter, PackageRow, PackageSort, USAGE_COLUMNS};
use super::select::{Conditions, Keyed, Kind, Order, Select, page_of, rows_wanted};
use super::{Store, json};
use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::{Cell, CoverageGroup, Package, Page, Totals, UsedFile};

/// Most groups of equal coverage that are told apart.
pub const COVERAGE_GROUPS_MAX: i64 = 200;

/// Most packages of a report that are held at once.
const BATCH_PACKAGES: usize = 200;
/// Files, classes and modules from which on no further package is added to those held at once.
const BATCH_FILES: usize = 20_000;

/// Follows from the equalities before it; ClickHouse leaves 15 of 16 partitions unread only when it is written down
/// (measured on 8 million rows: 134 ms became 48 ms).
const SAME_PARTITION: &str = "cityHash64(application, component, component_version) % 16 = \
     cityHash64({p0:String}, {p1:String}, {p2:String}) % 16";

/// One version of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentRef {
    /// Application.
    pub application: String,
    /// Component.
    pub component: String,
    /// Version.
    pub version: String,
}

impl ComponentRef {
    /// Conditions on the primary key of `package_usage`. The first three parameters are the component's names.
    pub(super) fn conditions(&self) -> Conditions {
        Conditions::new()
            .equal("application", &self.application)
            .equal("component", &self.component)
            .equal("component_version", &self.version)
            .always(SAME_PARTITION)
    }

    /// The parts as those of the question that a cursor belongs to.
    pub fn question(&self) -> String {
        format!("{self:?}")
    }
}

const FILES_ORDER: Order = Order { columns: &[("chunk", Kind::Integer), ("position", Kind::Integer)] };

#[derive(Row, Deserialize)]
struct FileRow {
    file: String,
    page_key: Vec<String>,
}

impl Keyed for FileRow {
    fn page_key(&self) -> &[String] {
        &self.page_key
    }
}

#[derive(Row, Deserialize)]
struct TotalRow {
    kind: String,
    vulnerable: String,
    #[serde(rename = "use")]
    usage: String,
    recommendation_code: String,
    severity: String,
    package_count: u64,
    known_exploited_count: u64,
}

#[derive(Row, Deserialize)]
struct CoverageRow {
    artifact: String,
    kind: String,
    ecosystem: String,
    coverage: String,
    package_count: u64,
}

impl Store {
    /// One page of a component's packages.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn component_packages(
        &self,
        of: &ComponentRef,
        filter: &PackageFilter,
        sort: PackageSort,
        page: &PageRequest,
    ) -> Result<Page<Package>, PortalError> {
        let order = sort.order();
        let conditions = filter.add_to(of.conditions().always("chunk = 0")).after(&order, page)?;
        // The inner query sorts narrow columns and picks a page; the outer one reads the wide ones of that page alone.
        let select = Select::new(format!(
            "SELECT {COMMON_COLUMNS}, {USAGE_COLUMNS}, {key} FROM package_usage \
             WHERE {of} AND chunk = 0 AND (artifact, package_id) IN (\
               SELECT artifact, package_id FROM package_usage WHERE {wanted} ORDER BY {order} LIMIT {{limit:Int64}}) \
             ORDER BY {order}",
            key = order.key_column(),
            of = of.conditions().sql(),
            wanted = conditions.sql(),
            order = order.list(),
        ))
        .conditions(conditions)
        .integer("limit", rows_wanted(page));
        let mut found = page_of(page, self.all(select).await?, PackageRow::into_package)?;
        self.add_reasons(&mut found.items.iter_mut().collect::<Vec<_>>()).await?;
        Ok(found)
    }

    /// Number of packages that a filter takes.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn component_package_count(
        &self,
        of: &ComponentRef,
        filter: &PackageFilter,
    ) -> Result<u64, PortalError> {
        let conditions = filter.add_to(of.conditions().always("chunk = 0"));
        let select = Select::new(format!("SELECT count() FROM package_usage WHERE {}", conditions.sql()))
            .conditions(conditions);
        Ok(self.first(select).await?.unwrap_or(0))
    }

    /// One package of a component, with the files of its first chunk.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn component_package(
        &self,
        of: &ComponentRef,
        artifact: &str,
        package_id: &str,
    ) -> Result<Option<Package>, PortalError> {
        let conditions =
            of.conditions().equal("artifact", artifact).equal("package_id", package_id).always("chunk = 0");
        let select = Select::new(format!(
            "SELECT {COMMON_COLUMNS}, {USAGE_COLUMNS}, CAST([], 'Array(String)') AS page_key FROM package_usage \
             WHERE {}",
            conditions.sql()
        ))
        .conditions(conditions);
        let mut found = self.first::<PackageRow>(select).await?.map(PackageRow::into_package).transpose()?;
        self.add_reasons(&mut found.iter_mut().collect::<Vec<_>>()).await?;
        Ok(found)
    }

    /// One page of the used files, classes and modules of a package: of each chunk the files, then the classes. With a
    /// text only those whose path or name contains it, whatever its case.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn component_package_files(
        &self,
        of: &ComponentRef,
        artifact: &str,
        package_id: &str,
        text: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<UsedFile>, PortalError> {
        let conditions = files_matching(of, artifact, package_id, text);
        let behind = Conditions::new().after(&FILES_ORDER, page)?;
        let select = Select::new(format!(
            "SELECT file, {key} FROM (\
               SELECT toInt64(chunk) AS chunk, toInt64(number) AS position, file FROM package_usage {ALL_FILES} \
               WHERE {of}) \
             WHERE {behind} ORDER BY {order} LIMIT {{limit:Int64}}",
            key = FILES_ORDER.key_column(),
            of = conditions.sql(),
            behind = behind.sql(),
            order = FILES_ORDER.list(),
        ))
        .conditions(conditions)
        .conditions(behind)
        .integer("limit", rows_wanted(page));
        page_of(page, self.all::<FileRow>(select).await?, |row| json("files", &row.file))
    }

    /// Number of the used files, classes and modules of a package whose path or name contains a text.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn component_package_file_count(
        &self,
        of: &ComponentRef,
        artifact: &str,
        package_id: &str,
        text: Option<&str>,
    ) -> Result<u64, PortalError> {
        let conditions = files_matching(of, artifact, package_id, text);
        let select =
            Select::new(format!("SELECT count() FROM package_usage {ALL_FILES} WHERE {}", conditions.sql()))
                .conditions(conditions);
        Ok(self.first(select).await?.unwrap_or(0))
    }

    /// Totals of a component version.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn component_totals(&self, of: &ComponentRef) -> Result<Totals, PortalError> {
        let conditions = of.conditions().always("chunk = 0");
        let select = Select::new(format!(
            "SELECT kind, vulnerable, `use`, recommendation_code, severity, count() AS package_count, \
             countIf(known_exploited) AS known_exploited_count FROM package_usage WHERE {} \
             GROUP BY kind, vulnerable, `use`, recommendation_code, severity \
             ORDER BY kind, vulnerable, `use`, recommendation_code, severity",
            conditions.sql()
        ))
        .conditions(conditions);
        Ok(totals(self.all(select).await?))
    }

    /// What was watched: packages of equal artifact, ecosystem and coverage together.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn component_coverage(&self, of: &ComponentRef) -> Result<Vec<CoverageGroup>, PortalError> {
        let conditions = of.conditions().always("chunk = 0");
        let select = Select::new(format!(
            "SELECT artifact, kind, ecosystem, coverage, count() AS package_count FROM package_usage WHERE {} \
             GROUP BY artifact, kind, ecosystem, coverage \
             ORDER BY artifact, kind, ecosystem, package_count DESC, coverage LIMIT {{limit:Int64}}",
            conditions.sql()
        ))
        .conditions(conditions)
        .integer("limit", COVERAGE_GROUPS_MAX);
        self.all::<CoverageRow>(select)
            .await?
            .into_iter()
            .map(|row| {
                Ok(CoverageGroup {
                    coverage: json("coverage", &row.coverage)?,
                    artifact: row.artifact,
                    kind: row.kind,
                    ecosystem: row.ecosystem,
                    package_count: row.package_count,
                })
            })
            .collect()
    }

    /// All packages of a component version with all their files, one after the other.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn component_package_stream(&self, of: &ComponentRef) -> Result<PackageStream, PortalError> {
        let conditions = of.conditions();
        let select = Select::new(format!(
            "SELECT {COMMON_COLUMNS}, {USAGE_COLUMNS}, [toString(chunk)] AS page_key FROM package_usage WHERE {} \
             ORDER BY application, component, component_version, artifact, package_id, chunk",
            conditions.sql()
        ))
        .conditions(conditions);
        let (rows, slot) = self.stream(select).await?;
        Ok(PackageStream { rows, waiting: None, ended: false, _slot: slot })
    }
}

/// Packages as they come, their chunks merged.
pub struct PackageStream {
    rows: clickhouse::query::RowCursor<PackageRow>,
    waiting: Option<Package>,
    ended: bool,
    _slot: tokio::sync::OwnedSemaphorePermit,
}

impl PackageStream {
    /// The next packages, at most [`BATCH_PACKAGES`] and hardly more than [`BATCH_FILES`] files; none behind the last.
    ///
    /// # Errors
    /// [`PortalError::Unavailable`] if ClickHouse stops answering in the middle.
    pub async fn next(&mut self, store: &Store) -> Result<Vec<Package>, PortalError> {
        let (mut batch, mut files) = (Vec::new(), 0);
        while batch.len() < BATCH_PACKAGES && files < BATCH_FILES {
            let Some(package) = self.next_package().await? else { break };
            files += package.files.len() + package.classes.len();
            batch.push(package);
        }
        store.add_reasons_within_slot(&mut batch.iter_mut().collect::<Vec<_>>()).await?;
        Ok(batch)
    }

    async fn next_package(&mut self) -> Result<Option<Package>, PortalError> {
        while !self.ended {
            let row = self.rows.next().await.map_err(|error| PortalError::Unavailable {
                detail: format!("ClickHouse stopped answering within a report: {error}"),
                remedy: "ask again".into(),
            })?;
            self.ended = row.is_none();
            let Some(row) = row else { return Ok(done(self.waiting.take())) };
            if let Some(done) = self.take_row(row)? {
                return Ok(Some(done));
            }
        }
        Ok(None)
    }

    fn take_row(&mut self, row: PackageRow) -> Result<Option<Package>, PortalError> {
        let first_chunk = row.page_key.first().is_some_and(|chunk| chunk == "0");
        let mut package = row.into_package()?;
        if first_chunk {
            return Ok(done(self.waiting.replace(package)));
        }
        // A chunk without its first one is a leftover that the sink is about to remove.
        if let Some(waiting) = &mut self.waiting
            && (&waiting.artifact, &waiting.package_id) == (&package.artifact, &package.package_id)
        {
            waiting.files.append(&mut package.files);
            waiting.classes.append(&mut package.classes);
        }
        Ok(None)
    }
}

/// A package of which all chunks have come.
fn done(package: Option<Package>) -> Option<Package> {
    package.map(|package| Package { files_complete: package.lists_all_files(), ..package })
}

/// Every used file, class and module of the rows, each as its own row with its number.
const ALL_FILES: &str = "ARRAY JOIN arrayConcat(JSONExtractArrayRaw(files), JSONExtractArrayRaw(classes)) AS file, \
     arrayEnumerate(arrayConcat(JSONExtractArrayRaw(files), JSONExtractArrayRaw(classes))) AS number";

fn files_matching(of: &ComponentRef, artifact: &str, package_id: &str, text: Option<&str>) -> Conditions {
    of.conditions()
        .equal("artifact", artifact)
        .equal("package_id", package_id)
        .contains_if(&["JSONExtractString(file, 'name')", "JSONExtractString(file, 'path')"], text)
}

fn totals(rows: Vec<TotalRow>) -> Totals {
    let mut totals = Totals::default();
    for row in rows {
        let count = i64::try_from(row.package_count).unwrap_or(i64::MAX);
        totals.package_count += count;
        totals.known_exploited_package_count += i64::try_from(row.known_exploited_count).unwrap_or(i64::MAX);
        *totals.recommendations.entry(row.recommendation_code).or_default() += count;
        if row.vulnerable == plimsoll_schemas::words::vulnerable::YES {
            *totals.severities.entry(row.severity).or_default() += count;
        }
        let cell = totals.cells.iter_mut().find(|cell| {
            (&cell.kind, &cell.vulnerable, &cell.usage) == (&row.kind, &row.vulnerable, &row.usage)
        });
        match cell {
            Some(cell) => cell.package_count += count,
            None => totals.cells.push(Cell {
                kind: row.kind,
                vulnerable: row.vulnerable,
                usage: row.usage,
                package_count: count,
            }),
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_lose_no_package() {
        let row = |vulnerable: &str, usage: &str, code: &str, severity: &str, count: u64| TotalRow {
            kind: "os".into(),
            vulnerable: vulnerable.into(),
            usage: usage.into(),
            recommendation_code: code.into(),
            severity: severity.into(),
            package_count: count,
            known_exploited_count: 0,
        };
        let totals = totals(vec![
            row("yes", "used", "upgrade", "high", 2),
            row("yes", "used", "upgrade", "low", 3),
            row("not_assessed", "used", "no_feed", "unknown", 4),
            row("no", "not_measured", "observe", "none", 5),
        ]);
        assert_eq!(totals.package_count, 14);
        assert_eq!(totals.cells.iter().map(|cell| cell.package_count).sum::<i64>(), 14);
        assert_eq!(totals.cells.len(), 3);
        assert_eq!(totals.severities.values().sum::<i64>(), 5);
        assert_eq!(totals.recommendations["upgrade"], 5);
    }
}
