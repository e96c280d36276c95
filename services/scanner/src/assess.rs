//! Findings of packages: asks the vulnerability database, and keeps one thing from being counted twice.
//! It must never turn "not assessed" into "nothing found".

use std::collections::HashMap;

use plimsoll_catalog::OsRelease;
use plimsoll_schemas::events::{Finding, ScanFindings, ScanPackage};
use plimsoll_schemas::words::package_kind;
use plimsoll_vulndb::{Assessment, Database, PackageQuery};

/// Most findings of one record; longer lists are chunked.
pub const FINDINGS_PER_CHUNK: usize = 400;
/// Most bytes of findings of one record, which must stay below the codec's bound.
const CHUNK_MAX_BYTES: usize = 600 * 1024;
/// Stands in `feeds` where the distribution's own package was assessed instead.
const BY_OS_PACKAGE: &str = "by the operating system's package";

/// The complete findings of each package, in their order.
pub fn assess(
    packages: &[ScanPackage],
    distribution: Option<&OsRelease>,
    database: Option<&Database>,
    artifact: &str,
    scan_id: &str,
) -> Vec<ScanFindings> {
    let base = ScanFindings {
        artifact: artifact.to_owned(),
        scan_id: scan_id.to_owned(),
        ..ScanFindings::default()
    };
    let Some(database) = database else {
        return packages
            .iter()
            .map(|package| ScanFindings {
                package_id: package.package_id.clone(),
                not_assessed_reason: "no vulnerability database was given".to_owned(),
                not_assessed_remedy: "build one with `plimsoll db build` and scan again".to_owned(),
                ..base.clone()
            })
            .collect();
    };
    let base = ScanFindings { database_version: database.version().to_owned(), ..base };
    let assessments: Vec<Assessment> =
        packages.iter().map(|package| database.match_package(&query(package, distribution))).collect();
    let by_id: HashMap<&str, usize> =
        packages.iter().enumerate().map(|(index, package)| (package.package_id.as_str(), index)).collect();
    let mut out = Vec::with_capacity(packages.len());
    for (package, assessment) in packages.iter().zip(&assessments) {
        let base = ScanFindings { package_id: package.package_id.clone(), ..base.clone() };
        let carrier = by_id.get(package.provided_by.as_str()).copied();
        if carrier.is_some_and(|index| is_same_component(package, &packages[index], &assessments[index])) {
            out.push(ScanFindings { assessed: true, feeds: vec![BY_OS_PACKAGE.to_owned()], ..base });
            continue;
        }
        match assessment {
            Assessment::NotAssessed { reason, remedy, .. } => out.push(ScanFindings {
                not_assessed_reason: reason.clone(),
                not_assessed_remedy: remedy.clone(),
                ..base
            }),
            Assessment::Assessed { feeds, findings, .. } => {
                let base = ScanFindings { assessed: true, feeds: feeds.clone(), ..base };
                push_chunks(&mut out, &base, findings);
            }
        }
    }
    out
}

fn push_chunks(out: &mut Vec<ScanFindings>, base: &ScanFindings, findings: &[plimsoll_vulndb::Finding]) {
    let first = out.len();
    let mut chunk = ScanFindings { ..base.clone() };
    let mut chunk_bytes = 0;
    for found in findings {
        let found = finding(found);
        let size_bytes = size_bytes(&found);
        if chunk.findings.len() == FINDINGS_PER_CHUNK
            || (!chunk.findings.is_empty() && chunk_bytes + size_bytes > CHUNK_MAX_BYTES)
        {
            out.push(std::mem::replace(&mut chunk, ScanFindings { ..base.clone() }));
            chunk_bytes = 0;
        }
        chunk_bytes += size_bytes;
        chunk.findings.push(found);
    }
    out.push(chunk);
    let count = (out.len() - first) as i32;
    for (number, chunk) in (0..).zip(&mut out[first..]) {
        chunk.chunk = number;
        chunk.chunk_count = count;
    }
}

/// About what a finding takes in a record, in bytes.
fn size_bytes(finding: &Finding) -> usize {
    let lists = [&finding.aliases, &finding.advisories, &finding.fixed_versions];
    let texts = [
        &finding.id,
        &finding.severity,
        &finding.cvss_vector,
        &finding.source,
        &finding.match_reason,
        &finding.summary,
    ];
    lists.into_iter().flatten().chain(texts).map(|text| text.len() + 3).sum::<usize>() + 48
}

/// A language package inside an OS package is that package's matter only if the OS package is the distribution's
/// own, its feed covers the release, and both are the same component (DESIGN, section 9).
fn is_same_component(package: &ScanPackage, carrier: &ScanPackage, assessment: &Assessment) -> bool {
    let covered = matches!(assessment, Assessment::Assessed { .. });
    let prefix = match package.ecosystem.as_str() {
        "pypi" => "python3-",
        _ => return false,
    };
    let normal = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-");
    let name = normal(&package.name);
    let same_name = |candidate: &str| {
        let candidate = normal(candidate);
        let bare = candidate
            .strip_prefix(prefix)
            .or_else(|| candidate.strip_prefix("python-"))
            .unwrap_or(&candidate);
        // Debian writes PyYAML as python3-yaml and keeps the source package pyyaml.
        bare == name || name.strip_prefix("py") == Some(bare) || name.strip_prefix("python-") == Some(bare)
    };
    covered
        && carrier.kind == package_kind::OS
        && (same_name(&carrier.name) || same_name(&carrier.source_name))
}

fn query<'a>(package: &'a ScanPackage, distribution: Option<&'a OsRelease>) -> PackageQuery<'a> {
    let os = package.kind == package_kind::OS;
    PackageQuery {
        ecosystem: &package.ecosystem,
        name: &package.name,
        version: &package.version,
        source_name: &package.source_name,
        source_version: &package.source_version,
        distro_id: distribution.filter(|_| os).map_or("", |release| release.id.as_str()),
        distro_version: distribution.filter(|_| os).map_or("", |release| release.version_id.as_str()),
    }
}

fn finding(found: &plimsoll_vulndb::Finding) -> Finding {
    Finding {
        id: found.id.clone(),
        aliases: found.aliases.clone(),
        advisories: found.advisories.clone(),
        severity: found.severity.as_str().to_owned(),
        cvss_vector: found.cvss_vector.clone(),
        cvss_score: found.cvss_score,
        known_exploited: found.known_exploited,
        epss: found.epss,
        fixed_versions: found.fixed_versions.clone(),
        source: found.source.clone(),
        match_reason: found.match_reason.clone(),
        summary: found.summary.clone(),
        published_ms: found.published_ms,
        modified_ms: found.modified_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(kind: &str, ecosystem: &str, name: &str, source: &str) -> ScanPackage {
        ScanPackage {
            kind: kind.into(),
            ecosystem: ecosystem.into(),
            name: name.into(),
            source_name: source.into(),
            package_id: name.into(),
            ..ScanPackage::default()
        }
    }

    fn assessed() -> Assessment {
        Assessment::Assessed { database_version: String::new(), feeds: Vec::new(), findings: Vec::new() }
    }

    #[test]
    fn the_same_component_is_matched_once() {
        let cases = [
            ("pyyaml", "python3-yaml", "pyyaml", true),
            ("requests", "python3-requests", "requests", true),
            ("python-dateutil", "python3-dateutil", "python-dateutil", true),
            ("zope-interface", "python3-zope.interface", "zope.interface", true),
            // A copy inside somebody else's package keeps its own findings.
            ("urllib3", "vendor-agent", "vendor-agent", false),
            ("urllib3", "python3-pip", "python-pip", false),
        ];
        for (name, carrier, source, expected) in cases {
            let carrier = package("os", "debian", carrier, source);
            let inner = package("application", "pypi", name, "");
            assert_eq!(
                is_same_component(&inner, &carrier, &assessed()),
                expected,
                "{name} in {}",
                carrier.name
            );
        }
    }

    #[test]
    fn without_a_feed_the_inner_package_keeps_its_findings() {
        let not_assessed = Assessment::NotAssessed {
            code: plimsoll_vulndb::NotAssessedCode::NoFeed,
            reason: String::new(),
            remedy: String::new(),
        };
        let carrier = package("os", "debian", "python3-yaml", "pyyaml");
        assert!(!is_same_component(&package("application", "pypi", "pyyaml", ""), &carrier, &not_assessed));
    }

    #[test]
    fn without_a_database_nothing_is_assessed() {
        let found = assess(&[package("os", "debian", "a", "a")], None, None, "host/x", "s");
        assert!(!found[0].assessed && !found[0].not_assessed_reason.is_empty());
    }

    #[test]
    fn long_lists_are_chunked() {
        let findings = vec![plimsoll_vulndb::Finding::default(); FINDINGS_PER_CHUNK + 1];
        let mut out = Vec::new();
        push_chunks(&mut out, &ScanFindings::default(), &findings);
        assert_eq!(out.iter().map(|f| f.findings.len()).collect::<Vec<_>>(), [FINDINGS_PER_CHUNK, 1]);
        assert!(out.iter().all(|f| f.chunk_count == 2));
        assert_eq!(out.iter().map(|f| f.chunk).collect::<Vec<_>>(), [0, 1]);
        out.clear();
        push_chunks(&mut out, &ScanFindings::default(), &[]);
        assert_eq!((out.len(), out[0].chunk_count), (1, 1));
        out.clear();
        let long =
            plimsoll_vulndb::Finding { summary: "x".repeat(CHUNK_MAX_BYTES / 2), ..Default::default() };
        push_chunks(&mut out, &ScanFindings::default(), &[long.clone(), long.clone(), long]);
        assert_eq!(out.iter().map(|f| f.findings.len()).collect::<Vec<_>>(), [1, 1, 1]);
    }
}
