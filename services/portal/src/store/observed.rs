//! How the processes of a component version were observed: from the artifacts that it runs.
//! It must never leave out a component because its artifact has more of them than it names.

use clickhouse::Row;
use plimsoll_schemas::words::observed;
use plimsoll_schemas::words::probe::is_about;
use serde::Deserialize;

use super::component_packages::ComponentRef;
use super::select::Select;
use super::{Store, json};
use crate::error::PortalError;
use crate::model::Observed;

#[derive(Row, Deserialize)]
struct ObservedRow {
    artifact: String,
    observed: String,
    unavailable_probes: Vec<(String, String)>,
}

impl ObservedRow {
    /// What an artifact says of the component, or, where it names too few of them, what a workload says.
    fn into_observed(self) -> Result<(String, Vec<Observed>), PortalError> {
        let mut found: Vec<Observed> = json("observed", &self.observed)?;
        for one in &mut found {
            one.workload_count = one.workload_count.max(1);
            if one.how == observed::REFUSED && one.reasons.is_empty() {
                let reasons = self.unavailable_probes.iter().filter(|(key, _)| is_about(key, &one.probe));
                one.reasons = reasons.map(|(_, reason)| reason.clone()).collect();
            }
        }
        Ok((self.artifact, found))
    }
}

impl Store {
    /// How the processes of each language were observed in all workloads of a component version.
    ///
    /// # Errors
    /// [`PortalError`] if ClickHouse does not answer.
    pub async fn component_observed(&self, of: &ComponentRef) -> Result<Vec<Observed>, PortalError> {
        let select = Select::new(
            "SELECT artifact, JSONExtractRaw(summary, 'observed') AS observed, \
               CAST([], 'Array(Tuple(String, String))') AS unavailable_probes \
             FROM (SELECT artifact, arrayJoin(JSONExtractArrayRaw(components)) AS summary FROM artifacts \
                   WHERE length(JSONExtractArrayRaw(components)) >= component_count) \
             WHERE JSONExtractString(summary, 'application') = {application:String} \
               AND JSONExtractString(summary, 'component') = {component:String} \
               AND JSONExtractString(summary, 'component_version') = {version:String} \
             UNION ALL \
             SELECT artifact, observed, CAST(unavailable_probes, 'Array(Tuple(String, String))') \
             FROM workloads WHERE application = {application:String} AND component = {component:String} \
               AND component_version = {version:String} AND artifact IN (\
                 SELECT artifact FROM artifacts WHERE length(JSONExtractArrayRaw(components)) < component_count)",
        )
        .text("application", &of.application)
        .text("component", &of.component)
        .text("version", &of.version);
        let rows = self.all::<ObservedRow>(select).await?;
        let found: Vec<_> = rows.into_iter().map(ObservedRow::into_observed).collect::<Result<_, _>>()?;
        Ok(Observed::join(found))
    }
}
