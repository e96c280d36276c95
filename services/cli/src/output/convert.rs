//! Events as the portal's model: one JSON for the API and for `-o json`.
//! It must never lose a distinction that the event makes.

use plimsoll_portal::model::{
    Artifact, Cell, Coverage, Location, Observed, OperatingSystem, Package, Platform, Recommendation, Totals,
    UsedFile, Vulnerability, Warning,
};
use plimsoll_portal::time::rfc3339;
use plimsoll_scanner::Component;
use plimsoll_schemas::events;
use plimsoll_schemas::not_measurable::remedy_of;
use plimsoll_schemas::words::{recommendation, usage, vulnerable};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn filled(word: &str) -> Option<String> {
    (!word.is_empty()).then(|| word.to_owned())
}

fn locations(locations: &[events::Location]) -> Vec<Location> {
    let convert = |location: &events::Location| Location {
        path: text(&location.path),
        layer: location.layer.clone(),
        nested_path: text(&location.nested_path),
    };
    locations.iter().map(convert).collect()
}

fn files(files: &[events::UsedFile]) -> Vec<UsedFile> {
    let convert = |file: &events::UsedFile| UsedFile {
        path: text(&file.path),
        kind: file.kind.clone(),
        name: file.name.clone(),
        rung: file.rung.clone(),
        first_seen_ms: file.first_seen_ms,
        last_seen_ms: file.last_seen_ms,
        ambiguous: file.ambiguous,
    };
    files.iter().map(convert).collect()
}

fn coverage(coverage: Option<&events::Coverage>) -> Coverage {
    let Some(coverage) = coverage else { return Coverage::default() };
    Coverage {
        probes: coverage.probes.clone(),
        since_ms: coverage.since_ms,
        until_ms: coverage.until_ms,
        from_first_exec: coverage.from_first_exec,
        watched_ms: coverage.watched_ms,
        workload_count: coverage.workload_count,
        workload_count_from_first_exec: coverage.workload_count_from_first_exec,
        events_lost: coverage.events_lost,
        unresolved_path_count: coverage.unresolved_path_count,
    }
}

/// A package of a component, from all chunks of its event, in their order.
pub fn package_from_usage(chunks: &[events::CorrelationUsage]) -> Option<Package> {
    let first = chunks.first()?;
    let summary = |v: &events::VulnerabilitySummary| Vulnerability {
        id: v.id.clone(),
        severity: v.severity.clone(),
        fixed_in: v.fixed_in.clone(),
        known_exploited: v.known_exploited,
        ..Vulnerability::default()
    };
    let mut package = Package {
        purl: first.purl.clone(),
        package_id: first.package_id.clone(),
        artifact: first.artifact.clone(),
        name: first.name.clone(),
        version: first.version.clone(),
        kind: first.kind.clone(),
        ecosystem: first.ecosystem.clone(),
        scanned: first.scanned,
        vulnerable: first.vulnerable.clone(),
        not_assessed_reason: first.not_assessed_reason.clone(),
        severity: first.severity.clone(),
        known_exploited: first.known_exploited,
        vulnerability_count: first.vulnerability_count,
        vulnerabilities: first.vulnerabilities.iter().map(summary).collect(),
        usage: first.r#use.clone(),
        use_reason: first.use_reason.clone(),
        use_remedy: first.use_remedy.clone(),
        coverage: coverage(first.coverage.as_ref()),
        rung: filled(&first.rung),
        first_used: rfc3339(first.first_used_ms),
        last_used: rfc3339(first.last_used_ms),
        file_count: first.file_count,
        class_count: first.class_count,
        files: chunks.iter().flat_map(|chunk| files(&chunk.files)).collect(),
        classes: chunks.iter().flat_map(|chunk| files(&chunk.classes)).collect(),
        ambiguous_with: first.ambiguous_with.clone(),
        recommendation: Recommendation {
            code: first.recommendation_code.clone(),
            text: first.recommendation_text.clone(),
            held_by: first.held_by.clone(),
        },
        locations: locations(&first.locations),
        ..Package::default()
    };
    package.files_complete = package.lists_all_files();
    Some(package)
}

/// A package of a scan: its use is not measured, which says what to do next.
pub fn package_from_scan(package: &events::ScanPackage, findings: &[&events::ScanFindings]) -> Package {
    let found: Vec<&events::Finding> = findings.iter().flat_map(|chunk| &chunk.findings).collect();
    let assessed = findings.iter().all(|chunk| chunk.assessed) && !findings.is_empty();
    let refusal = findings.iter().find(|chunk| !chunk.assessed);
    let mut vulnerabilities: Vec<Vulnerability> = found
        .iter()
        .map(|finding| Vulnerability {
            id: finding.id.clone(),
            severity: finding.severity.clone(),
            fixed_in: finding.fixed_versions.clone(),
            known_exploited: finding.known_exploited,
            match_reason: finding.match_reason.clone(),
            imports: finding.imports.clone(),
        })
        .collect();
    vulnerabilities.sort_by(|a, b| (rank(&a.severity), &a.id).cmp(&(rank(&b.severity), &b.id)));
    let not_assessed_reason = refusal
        .map(|chunk| format!("{}; {}", chunk.not_assessed_reason, chunk.not_assessed_remedy))
        .unwrap_or_default();
    let measurable = package.not_measurable_reason.is_empty();
    let recommendation = if assessed {
        let text = if measurable {
            "observe first: run it with `plimsoll run`".to_owned()
        } else {
            format!("its use cannot be measured: {}", remedy_of(&package.not_measurable_reason))
        };
        (recommendation::OBSERVE, text)
    } else {
        (recommendation::NO_FEED, not_assessed_reason.clone())
    };
    Package {
        purl: package.purl.clone(),
        package_id: package.package_id.clone(),
        artifact: package.artifact.clone(),
        name: package.name.clone(),
        version: package.version.clone(),
        kind: package.kind.clone(),
        ecosystem: package.ecosystem.clone(),
        scanned: true,
        vulnerable: match (assessed, vulnerabilities.is_empty()) {
            (false, _) => vulnerable::NOT_ASSESSED,
            (true, true) => vulnerable::NO,
            (true, false) => vulnerable::YES,
        }
        .to_owned(),
        severity: match (assessed, vulnerabilities.first()) {
            (false, _) => "unknown".to_owned(),
            (true, None) => "none".to_owned(),
            (true, Some(worst)) => worst.severity.clone(),
        },
        not_assessed_reason,
        known_exploited: found.iter().any(|finding| finding.known_exploited),
        vulnerability_count: vulnerabilities.len() as i64,
        vulnerabilities,
        usage: if measurable { usage::NOT_MEASURED } else { usage::NOT_MEASURABLE }.to_owned(),
        use_reason: if measurable {
            "a scan does not look at use".to_owned()
        } else {
            package.not_measurable_reason.clone()
        },
        use_remedy: if measurable {
            "run it with `plimsoll run`, or let the agent watch it"
        } else {
            remedy_of(&package.not_measurable_reason)
        }
        .to_owned(),
        files_complete: true,
        recommendation: Recommendation {
            code: recommendation.0.to_owned(),
            text: recommendation.1,
            held_by: Vec::new(),
        },
        locations: locations(&package.locations),
        identified_by: package.identified_by.clone(),
        source_name: package.source_name.clone(),
        source_version: package.source_version.clone(),
        architecture: package.architecture.clone(),
        licenses: package.licenses.clone(),
        ..Package::default()
    }
}

/// Rank of a severity, worst first; unknown words come last.
pub(super) fn rank(severity: &str) -> usize {
    ["critical", "high", "medium", "low", "unknown", "none"]
        .iter()
        .position(|known| *known == severity)
        .unwrap_or(9)
}

/// Totals of packages.
pub fn totals(packages: &[Package]) -> Totals {
    let mut totals = Totals { package_count: packages.len() as i64, ..Totals::default() };
    let mut cells = std::collections::BTreeMap::<(&str, &str, &str), i64>::new();
    for package in packages {
        *cells.entry((&package.kind, &package.vulnerable, &package.usage)).or_default() += 1;
        *totals.recommendations.entry(package.recommendation.code.clone()).or_default() += 1;
        totals.known_exploited_package_count += i64::from(package.known_exploited);
        if package.vulnerable == vulnerable::YES {
            *totals.severities.entry(package.severity.clone()).or_default() += 1;
        }
    }
    let cell = |((kind, vulnerable, usage), package_count): ((&str, &str, &str), i64)| Cell {
        kind: kind.to_owned(),
        vulnerable: vulnerable.to_owned(),
        usage: usage.to_owned(),
        package_count,
    };
    totals.cells = cells.into_iter().map(cell).collect();
    totals
}

/// How a component was observed, by all artifacts that it runs.
pub fn observed(component: &Component, artifacts: &[events::CorrelationArtifact]) -> Vec<Observed> {
    let of = |summary: &&events::ComponentSummary| {
        summary.application == component.application()
            && summary.component == component.component()
            && summary.component_version == component.version()
    };
    let convert = |one: &events::ObservedSummary| Observed {
        ecosystem: one.ecosystem.clone(),
        probe: one.probe.clone(),
        how: one.how.clone(),
        processes: one.processes,
        workload_count: one.workload_count,
        counts: one.counts.clone(),
        reasons: one.reasons.clone(),
    };
    Observed::join(artifacts.iter().flat_map(|artifact| {
        let summaries = artifact.components.iter().filter(of);
        summaries.map(|s| (artifact.artifact.clone(), s.observed.iter().map(convert).collect()))
    }))
}

/// An artifact.
pub fn artifact(event: &events::CorrelationArtifact) -> Artifact {
    let os = event.os.clone().unwrap_or_default();
    let platform = event.platform.clone().unwrap_or_default();
    let cell = |cell: &events::Cell| Cell {
        kind: cell.kind.clone(),
        vulnerable: cell.vulnerable.clone(),
        usage: cell.r#use.clone(),
        package_count: cell.package_count,
    };
    let warning = |warning: &events::Warning| Warning {
        code: warning.code.clone(),
        subject: warning.subject.clone(),
        message: warning.message.clone(),
        remedy: warning.remedy.clone(),
    };
    Artifact {
        artifact: event.artifact.clone(),
        scanned: event.scanned,
        scan_id: event.scan_id.clone(),
        source: event.source.clone(),
        names: event.names.clone(),
        aliases: event.aliases.clone(),
        os: OperatingSystem {
            id: os.id,
            version_id: os.version_id,
            codename: os.codename,
            pretty_name: os.pretty_name,
        },
        platform: Platform {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant,
        },
        scanner_version: event.scanner_version.clone(),
        database_version: event.database_version.clone(),
        scanned_at: rfc3339(event.scanned_at_ms),
        package_count: event.package_count,
        vulnerable_package_count: event.vulnerable_package_count,
        finding_count: event.finding_count,
        cells: event.cells.iter().map(cell).collect(),
        component_count: event.component_count,
        workload_count: event.workload_count,
        live_workload_count: event.live_workload_count,
        unowned_path_count: event.unowned_path_count,
        unresolved_path_count: event.unresolved_path_count,
        alert_count: event.alert_count,
        warnings: event.warnings.iter().map(warning).collect(),
        unidentified_reason: event.unidentified_reason.clone(),
        moved_to: event.moved_to.clone(),
    }
}
