//! Why each vulnerability of listed packages matched: their findings say it, so it is kept once and joined here.
//! It must never ask about a package that has no vulnerability.

use clickhouse::Row;
use serde::Deserialize;

use super::Store;
use super::select::Select;
use crate::error::PortalError;
use crate::model::{Package, add_match_reasons};

/// By package and vulnerability, as `findings` is sorted.
const OF_PACKAGES: &str = "SELECT artifact, package_id, vulnerability_id, match_reason, imports FROM findings \
     WHERE artifact IN (SELECT arrayJoin({distinct:Array(String)})) AND (artifact, package_id) IN (\
       SELECT arrayJoin(arrayZip({artifacts:Array(String)}, {package_ids:Array(String)})))";

#[derive(Row, Deserialize)]
struct ReasonRow {
    artifact: String,
    package_id: String,
    vulnerability_id: String,
    match_reason: String,
    imports: Vec<String>,
}

impl Store {
    /// Adds to the vulnerabilities of packages why each matched, and which packages of a Go module it affects.
    pub(super) async fn add_reasons(&self, packages: &mut [&mut Package]) -> Result<(), PortalError> {
        let Some(select) = of_packages(packages) else { return Ok(()) };
        add(packages, self.all(select).await?);
        Ok(())
    }

    /// As [`Store::add_reasons`], for a caller that holds a slot already: waiting for another one could end with all of
    /// them waiting.
    pub(super) async fn add_reasons_within_slot(
        &self,
        packages: &mut [&mut Package],
    ) -> Result<(), PortalError> {
        let Some(select) = of_packages(packages) else { return Ok(()) };
        add(packages, self.all_within_slot(select).await?);
        Ok(())
    }
}

/// The question for those that have vulnerabilities; `None` if none has.
fn of_packages(packages: &[&mut Package]) -> Option<Select> {
    let keys = packages.iter().filter(|package| !package.vulnerabilities.is_empty());
    let (artifacts, package_ids): (Vec<String>, Vec<String>) =
        keys.map(|package| (package.artifact.clone(), package.package_id.clone())).unzip();
    let mut distinct = artifacts.clone();
    distinct.sort();
    distinct.dedup();
    let select = Select::new(OF_PACKAGES)
        .texts("distinct", distinct)
        .texts("artifacts", artifacts)
        .texts("package_ids", package_ids.clone());
    (!package_ids.is_empty()).then_some(select)
}

fn add(packages: &mut [&mut Package], rows: Vec<ReasonRow>) {
    let reasons = rows
        .into_iter()
        .map(|row| ((row.artifact, row.package_id, row.vulnerability_id), (row.match_reason, row.imports)));
    add_match_reasons(packages.iter_mut().map(|package| &mut **package), reasons.collect());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Vulnerability;

    fn package(artifact: &str, package_id: &str, ids: &[&str]) -> Package {
        let entry = |id: &&str| Vulnerability { id: (*id).to_owned(), ..Vulnerability::default() };
        Package {
            artifact: artifact.into(),
            package_id: package_id.into(),
            vulnerabilities: ids.iter().map(entry).collect(),
            ..Package::default()
        }
    }

    #[test]
    fn reasons_go_to_their_own_package() {
        let row = |artifact: &str, id: &str, reason: &str| ReasonRow {
            artifact: artifact.into(),
            package_id: "p".into(),
            vulnerability_id: id.into(),
            match_reason: reason.into(),
            imports: Vec::new(),
        };
        let mut packages =
            [package("a", "p", &["1", "2"]), package("b", "p", &["1"]), package("a", "q", &["1"])];
        let mut all: Vec<&mut Package> = packages.iter_mut().collect();
        add(&mut all, vec![row("a", "1", "a1"), row("b", "1", "b1"), row("a", "3", "a3")]);
        let reasons: Vec<&str> = packages
            .iter()
            .flat_map(|package| &package.vulnerabilities)
            .map(|entry| entry.match_reason.as_str())
            .collect();
        assert_eq!(reasons, ["a1", "", "b1", ""]);
    }

    #[test]
    fn without_vulnerabilities_nothing_is_asked() {
        let mut packages = [package("a", "p", &[])];
        let all: Vec<&mut Package> = packages.iter_mut().collect();
        assert!(of_packages(&all).is_none());
    }
}
