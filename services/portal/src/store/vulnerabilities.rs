//! Who is affected by a vulnerability, and who executes the affected package.
//! It must never count what was not measured as not executed.

use clickhouse::Row;
use serde::Deserialize;

use super::Store;
use super::findings::{BY_PRIORITY, FindingRow, columns};
use super::select::{Conditions, Select, page_of, rows_wanted};
use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::{VulnerabilityDetail, VulnerabilityOccurrence};
use crate::time::rfc3339;

#[derive(Row, Deserialize)]
struct SummaryRow {
    aliases: Vec<String>,
    advisories: Vec<String>,
    severity: String,
    cvss_score: Option<f64>,
    cvss_vector: String,
    known_exploited: bool,
    epss: Option<f64>,
    summary: String,
    published_ms: i64,
    modified_ms: i64,
    artifact_count: u64,
    artifact_count_used: u64,
    finding_count: u64,
}

impl Store {
    /// A vulnerability with one page of what it affects; `None` if it affects nothing that is known here.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn vulnerability(
        &self,
        id: &str,
        page: &PageRequest,
    ) -> Result<Option<VulnerabilityDetail>, PortalError> {
        let select = Select::new(
            "SELECT arraySort(groupUniqArrayArray(f.aliases)) AS aliases, \
               arraySort(groupUniqArrayArray(f.advisories)) AS advisories, \
               argMin(toString(f.severity), transform(toString(f.severity), \
                 ['critical', 'high', 'medium', 'low', 'none'], [0, 1, 2, 3, 4], 5)) AS severity, \
               max(f.cvss_score) AS cvss_score, \
               argMax(f.cvss_vector, ifNull(f.cvss_score, -1)) AS cvss_vector, \
               max(f.known_exploited) AS known_exploited, max(f.epss) AS epss, \
               argMax(f.summary, length(f.summary)) AS summary, \
               minIf(f.published_ms, f.published_ms > 0) AS published_ms, max(f.modified_ms) AS modified_ms, \
               uniqExact(f.artifact) AS artifact_count, uniqExactIf(f.artifact, f.`use` = 'used') AS artifact_count_used, \
               count() AS finding_count \
             FROM findings_by_vulnerability AS f WHERE f.vulnerability_id = {id:String} \
             AND cityHash64(f.vulnerability_id) % 16 = cityHash64({id:String}) % 16 HAVING count() > 0",
        )
        .text("id", id);
        let Some(summary) = self.first::<SummaryRow>(select).await? else { return Ok(None) };
        let conditions =
            Conditions::new().equal_partition("vulnerability_id", id).after(&BY_PRIORITY, page)?;
        let select = Select::new(format!(
            "SELECT {columns}, {key} FROM findings_by_vulnerability WHERE {wanted} \
             ORDER BY {order} LIMIT {{limit:Int64}}",
            columns = columns(),
            key = BY_PRIORITY.key_column(),
            wanted = conditions.sql(),
            order = BY_PRIORITY.list(),
        ))
        .conditions(conditions)
        .integer("limit", rows_wanted(page));
        let rows: Vec<FindingRow> = self.all(select).await?;
        let keys: Vec<(String, String)> =
            rows.iter().map(|row| (row.artifact.clone(), row.package_id.clone())).collect();
        let around = self.surroundings(&keys).await?;
        let found = page_of(page, rows, |row| {
            let finding = row.into_finding()?;
            let (artifact_names, components) = around.of(&finding.artifact, &finding.package_id);
            Ok(VulnerabilityOccurrence { finding, artifact_names, components })
        })?;
        Ok(Some(VulnerabilityDetail {
            id: id.to_owned(),
            aliases: summary.aliases,
            advisories: summary.advisories,
            severity: summary.severity,
            cvss_score: summary.cvss_score,
            cvss_vector: summary.cvss_vector,
            known_exploited: summary.known_exploited,
            epss: summary.epss,
            summary: summary.summary,
            published: rfc3339(summary.published_ms),
            modified: rfc3339(summary.modified_ms),
            artifact_count: summary.artifact_count,
            artifact_count_used: summary.artifact_count_used,
            finding_count: summary.finding_count,
            items: found.items,
            next_cursor: found.next_cursor,
        }))
    }
}
