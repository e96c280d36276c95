//! A package as the scan describes it, or, if no scan does, as its owner entry names it; and its assessment.
//! A package that was not assessed must never look like one without vulnerabilities.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use plimsoll_schemas::events::{Finding, Owner, ScanPackage, VulnerabilitySummary};
use plimsoll_schemas::words::{package_kind, severity, vulnerable};

use crate::artifact::Artifact;
use crate::cache::PackageName;
use crate::limits::VULNERABILITIES_MAX;
use crate::place;
use crate::usage::default_observable_by;

/// What is known of a package apart from findings and use.
#[derive(Clone, Debug)]
pub(crate) struct Known<'a> {
    pub id: &'a str,
    pub purl: &'a str,
    pub name: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub ecosystem: &'a str,
    /// `None` if it was only observed.
    pub scan: Option<&'a ScanPackage>,
    pub observable_by: Cow<'a, [String]>,
    pub not_measurable_reason: &'a str,
    /// How to watch the artifact.
    pub how_to_observe: Cow<'static, str>,
}

fn name_of(ecosystem: &str, name: &str) -> PackageName {
    PackageName { ecosystem: ecosystem.to_owned(), name: name.to_owned() }
}

impl Known<'_> {
    pub fn name_of_all_versions(&self) -> PackageName {
        name_of(self.ecosystem, self.name)
    }

    /// Whether one of these paths of unknown owner could be one of the package.
    pub fn may_hold_any(&self, paths: &BTreeSet<Vec<u8>>) -> bool {
        let Some(scan) = self.scan else { return true };
        scan.locations.iter().any(|location| place::may_hold_any(self.ecosystem, location, paths))
    }
}

/// Whether a package is vulnerable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assessment<'a> {
    pub vulnerable: &'static str,
    /// Why it was not assessed, with what to do.
    pub not_assessed_reason: String,
    /// Worst first.
    pub findings: Vec<&'a Finding>,
    /// The version at which nothing is left that has a fix, and how many vulnerabilities are left all the same; empty if none
    /// is known.
    pub upgrade: (&'a str, i32),
    pub emitted_at_ms: i64,
    /// Where the scan found the same package, of a copy that it does not list.
    pub taken_from: Option<String>,
}

impl Assessment<'_> {
    pub fn severity(&self) -> &'static str {
        match (self.vulnerable, self.findings.first()) {
            (vulnerable::NOT_ASSESSED, _) => severity::UNKNOWN,
            (_, None) => severity::NONE,
            (_, Some(worst)) => severity::ALL
                .iter()
                .find(|word| **word == worst.severity)
                .copied()
                .unwrap_or(severity::UNKNOWN),
        }
    }

    pub fn known_exploited(&self) -> bool {
        self.findings.iter().any(|finding| finding.known_exploited)
    }

    pub fn summaries(&self) -> Vec<VulnerabilitySummary> {
        let summary = |finding: &&Finding| VulnerabilitySummary {
            id: finding.id.clone(),
            severity: finding.severity.clone(),
            fixed_in: finding.fixed_versions.clone(),
            known_exploited: finding.known_exploited,
        };
        self.findings.iter().take(VULNERABILITIES_MAX).map(summary).collect()
    }
}

/// Number of a severity, the worst highest. An unknown one stands above low: it may be anything.
pub(crate) fn severity_rank(word: &str) -> u8 {
    match word {
        severity::CRITICAL => 5,
        severity::HIGH => 4,
        severity::MEDIUM => 3,
        severity::LOW => 1,
        severity::NONE => 0,
        _ => 2,
    }
}

fn not_assessed(reason: String) -> Assessment<'static> {
    Assessment { vulnerable: vulnerable::NOT_ASSESSED, not_assessed_reason: reason, ..Assessment::default() }
}

/// Where a package lies, for people.
fn place_of(package: &ScanPackage) -> String {
    let Some(location) = package.locations.first() else { return package.purl.clone() };
    let path = String::from_utf8_lossy(&location.path);
    if location.nested_path.is_empty() {
        path.into_owned()
    } else {
        format!("{path}!/{}", String::from_utf8_lossy(&location.nested_path))
    }
}

impl Artifact {
    /// The package, from the current scan or else from the owner entry of a used path.
    pub(crate) fn known(&self, package_id: &str) -> Option<Known<'_>> {
        if let Some((id, package)) = self.current_package(package_id) {
            let record = &package.record;
            return Some(Known {
                id,
                purl: &record.purl,
                name: &record.name,
                version: &record.version,
                kind: &record.kind,
                ecosystem: &record.ecosystem,
                scan: Some(record),
                observable_by: Cow::Borrowed(&record.observable_by),
                not_measurable_reason: &record.not_measurable_reason,
                how_to_observe: self.how_to_observe(),
            });
        }
        let owner = self.observed(package_id)?;
        Some(Known {
            id: &owner.package_id,
            purl: &owner.purl,
            name: &owner.name,
            version: &owner.version,
            kind: if owner.kind.is_empty() { package_kind::OS } else { &owner.kind },
            ecosystem: &owner.ecosystem,
            scan: None,
            observable_by: Cow::Owned(default_observable_by(&owner.ecosystem)),
            not_measurable_reason: "",
            how_to_observe: self.how_to_observe(),
        })
    }

    fn current_package(&self, package_id: &str) -> Option<(&str, &crate::entity::Package)> {
        let scan = self.scans.get(self.current.as_ref()?)?;
        scan.packages.get_key_value(package_id).map(|(id, package)| (id.as_str(), package))
    }

    pub(crate) fn is_scanned(&self, package_id: &str) -> bool {
        self.current_package(package_id).is_some()
    }

    /// The packages of the current scan that have one of these names.
    pub(crate) fn scanned_ids_of(&self, names: &BTreeSet<PackageName>) -> BTreeSet<String> {
        if names.is_empty() {
            return BTreeSet::new();
        }
        let scan = self.current.as_ref().and_then(|id| self.scans.get(id));
        let packages = scan.into_iter().flat_map(|scan| &scan.packages);
        packages
            .filter(|(_, package)| names.contains(&name_of(&package.record.ecosystem, &package.record.name)))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// The owner entry of a package of which a counting path was used; the latest one, if several name it. None if it is only
    /// a copy of what the scan lists, and owns the path with that.
    fn observed(&self, package_id: &str) -> Option<&Owner> {
        self.evidence_of(package_id, None).next()?;
        let paths = self.cache.owned.get(package_id)?;
        let ownerships = paths.iter().filter_map(|path| self.ownership.get(path));
        let newest = ownerships.max_by_key(|ownership| ownership.order)?;
        let owner = newest.owners.iter().find(|owner| owner.package_id == package_id)?;
        (!self.is_unlisted_copy(owner, newest)).then_some(owner)
    }

    /// All packages that the current scan lists or of which a use was seen.
    pub(crate) fn known_ids(&self) -> Vec<String> {
        let scan = self.current.as_ref().and_then(|id| self.scans.get(id));
        let mut ids: Vec<String> =
            scan.map(|scan| scan.packages.keys().cloned().collect()).unwrap_or_default();
        for id in self.cache.owned.keys() {
            if scan.is_none_or(|scan| !scan.packages.contains_key(id)) && self.observed(id).is_some() {
                ids.push(id.clone());
            }
        }
        ids
    }

    pub(crate) fn assess(&self, package: &Known) -> Assessment<'_> {
        if package.scan.is_some() {
            return self.assess_scanned(package.id);
        }
        if let Some((twin, assessment)) = self.assess_twin(package) {
            return Assessment { taken_from: Some(place_of(twin)), ..assessment };
        }
        not_assessed(match (self.current_manifest(), self.key.split_once('/')) {
            (None, _) => format!("the artifact was not scanned: {}", self.how_to_scan()),
            (Some(_), Some(("component", _))) => {
                format!("the scan does not list it: scan the directory again: {}", self.how_to_scan())
            }
            (Some(_), Some(("host", _))) => format!(
                "the scan does not list it; it was installed or upgraded after the scan: {}",
                self.how_to_scan()
            ),
            (Some(_), _) => {
                "the scan does not list it; it was installed or upgraded after the image was built: \
                             build the image with it and scan it again"
                    .to_owned()
            }
        })
    }

    /// What the scan found of the same package elsewhere: of several the first one by id that was assessed, else the first.
    fn assess_twin(&self, copy: &Known) -> Option<(&ScanPackage, Assessment<'_>)> {
        let twins = self.cache.twins.as_ref()?.get(copy.purl)?;
        let mut found = twins.iter().filter_map(|id| {
            let (id, package) = self.current_package(id)?;
            Some((&package.record, self.assess_scanned(id)))
        });
        let first = found.next()?;
        let is_assessed = |(_, assessment): &(&ScanPackage, Assessment<'_>)| {
            assessment.vulnerable != vulnerable::NOT_ASSESSED
        };
        if is_assessed(&first) {
            return Some(first);
        }
        Some(found.find(is_assessed).unwrap_or(first))
    }

    /// Ids of the current scan's packages that may have copies elsewhere, by purl.
    pub(crate) fn twins(&self) -> BTreeMap<String, Vec<String>> {
        let mut twins: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let scan = self.current.as_ref().and_then(|id| self.scans.get(id));
        for (id, package) in scan.into_iter().flat_map(|scan| &scan.packages) {
            let record = &package.record;
            // Without a version nothing tells that it is the same.
            if record.kind == package_kind::APPLICATION && !record.version.is_empty() {
                twins.entry(record.purl.clone()).or_default().push(id.clone());
            }
        }
        twins
    }

    /// The packages that no scan lists and whose assessment is that of one of these.
    pub(crate) fn copies_of(&self, package_ids: &BTreeSet<String>) -> Vec<String> {
        let purls: BTreeSet<&str> = package_ids
            .iter()
            .filter_map(|id| self.current_package(id))
            .map(|(_, package)| package.record.purl.as_str())
            .collect();
        if purls.is_empty() {
            return Vec::new();
        }
        let is_copy = |id: &&String| {
            !self.is_scanned(id) && self.observed(id).is_some_and(|owner| purls.contains(owner.purl.as_str()))
        };
        self.cache.owned.keys().filter(is_copy).cloned().collect()
    }

    /// The assessment of a package of the current scan.
    fn assess_scanned(&self, package_id: &str) -> Assessment<'_> {
        let scan = self.current.as_ref().and_then(|id| self.scans.get(id));
        let chunks = scan.and_then(|scan| scan.findings.get(package_id));
        let Some(newest) = chunks.and_then(|chunks| chunks.values().max_by_key(|chunk| chunk.order)) else {
            return not_assessed("its findings have not arrived yet".to_owned());
        };
        if !newest.record.assessed {
            let (reason, remedy) = (&newest.record.not_assessed_reason, &newest.record.not_assessed_remedy);
            let reason = if reason.is_empty() { "no feed covers it" } else { reason };
            let mut assessment = not_assessed(if remedy.is_empty() {
                reason.to_owned()
            } else {
                format!("{reason}: {remedy}")
            });
            assessment.emitted_at_ms = newest.record.emitted_at_ms;
            return assessment;
        }
        let count = newest.record.chunk_count.max(1);
        let mut findings: Vec<&Finding> = chunks
            .into_iter()
            .flat_map(|chunks| chunks.range(..count))
            // Chunks of an earlier list do not count.
            .filter(|(_, chunk)| chunk.record.database_version == newest.record.database_version)
            .flat_map(|(_, chunk)| &chunk.record.findings)
            .collect();
        findings.sort_by(|a, b| {
            let rank = |finding: &Finding| (severity_rank(&finding.severity), finding.known_exploited);
            rank(b).cmp(&rank(a)).then_with(|| a.id.cmp(&b.id))
        });
        findings.dedup_by(|a, b| a.id == b.id);
        Assessment {
            vulnerable: if findings.is_empty() { vulnerable::NO } else { vulnerable::YES },
            not_assessed_reason: String::new(),
            findings,
            upgrade: (&newest.record.upgrade_to, newest.record.upgrade_left),
            emitted_at_ms: newest.record.emitted_at_ms,
            taken_from: None,
        }
    }

    /// The command that scans the artifact.
    pub(crate) fn how_to_scan(&self) -> String {
        match (self.key.split_once('/'), self.cache.name.as_ref()) {
            (Some(("image", _)), Some(name)) => format!("plimsoll scan -s image {name}"),
            (Some(("image", _)), None) => "plimsoll scan -s image IMAGE".to_owned(),
            (Some(("host", _)), _) => "plimsoll scan -s host".to_owned(),
            (Some(("component", _)), _) => {
                format!("plimsoll scan -s fs {}DIRECTORY", self.component_flags())
            }
            _ => "let the agent identify its image first, then scan that".to_owned(),
        }
    }

    /// How to have it watched.
    fn how_to_observe(&self) -> Cow<'static, str> {
        match self.key.split_once('/') {
            Some(("component", _)) => {
                format!("run it under observation: plimsoll run {}-- COMMAND", self.component_flags()).into()
            }
            _ => "start the runtime agent on the node, then restart the workload; or plimsoll run -- docker run …"
                .into(),
        }
    }

    fn component_flags(&self) -> String {
        let own = self.key.strip_prefix("component/").and_then(|path| self.components.get(path));
        own.map(|c| format!("-a {} -c {} -V {} ", c.application, c.component, c.component_version))
            .unwrap_or_default()
    }
}
