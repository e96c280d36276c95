//! A scan as JSON and as a table.
//! It must never differ between two scans of one input, times and scan id aside.

use std::collections::HashMap;
use std::fmt::Write as _;

use plimsoll_portal::model::{Package, Vulnerability};
use plimsoll_portal::time::rfc3339;
use plimsoll_scanner::Scan;
use plimsoll_schemas::events::ScanFindings;
use serde::Serialize;

use super::convert::{package_from_scan, rank};
use super::table::{Cell, Colour, Table};

/// The JSON of `plimsoll scan -o json`.
#[derive(Debug, Serialize)]
pub struct ScanResult {
    pub artifact: String,
    pub scan_id: String,
    pub source: String,
    pub names: Vec<String>,
    pub aliases: Vec<String>,
    pub os: String,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
    pub scanner_version: String,
    pub database_version: String,
    pub warnings: Vec<plimsoll_schemas::events::Warning>,
    pub packages: Vec<Package>,
}

/// The result of a scan, its packages in the scan's order.
pub fn scan_json(scan: &Scan) -> ScanResult {
    let mut findings: HashMap<&str, Vec<&ScanFindings>> = HashMap::new();
    for chunk in &scan.findings {
        findings.entry(&chunk.package_id).or_default().push(chunk);
    }
    let none = Vec::new();
    let manifest = &scan.manifest;
    ScanResult {
        artifact: manifest.artifact.clone(),
        scan_id: manifest.scan_id.clone(),
        source: manifest.source.clone(),
        names: manifest.names.clone(),
        aliases: manifest.aliases.clone(),
        os: manifest.os.as_ref().map(|os| os.pretty_name.clone()).unwrap_or_default(),
        started_at: rfc3339(manifest.started_at_ms),
        completed_at: rfc3339(manifest.completed_at_ms),
        scanner_version: manifest.scanner_version.clone(),
        database_version: manifest.database_version.clone(),
        warnings: manifest.warnings.clone(),
        packages: scan
            .packages
            .iter()
            .map(|package| {
                package_from_scan(package, findings.get(package.package_id.as_str()).unwrap_or(&none))
            })
            .collect(),
    }
}

/// Colour of a severity.
pub(super) fn severity_colour(severity: &str) -> Colour {
    match severity {
        "critical" | "high" => Colour::Red,
        "medium" => Colour::Yellow,
        _ => Colour::None,
    }
}

/// Why a vulnerability was found in a package, and in which part of it.
pub(super) fn reason(entry: &Vulnerability) -> String {
    let imports = if entry.imports.is_empty() {
        String::new()
    } else {
        format!("; affected packages: {}", entry.imports.join(", "))
    };
    format!("{} ({}): {}{imports}", entry.id, entry.severity, entry.match_reason)
}

/// The vulnerable packages as a table, with a line of totals; with `reasons`, what was found in each and why stands
/// below it.
pub fn scan_table(result: &ScanResult, reasons: bool) -> String {
    let mut vulnerable: Vec<&Package> =
        result.packages.iter().filter(|p| p.vulnerability_count > 0).collect();
    vulnerable
        .sort_by_key(|package| (rank(&package.severity), package.name.clone(), package.version.clone()));
    let mut out = String::new();
    if !vulnerable.is_empty() {
        let mut table = Table::new(&["PACKAGE", "VERSION", "KIND", "SEVERITY", "FOUND", "WORST", "FIXED IN"]);
        for package in vulnerable {
            let worst = package.vulnerabilities.first();
            table.row(vec![
                package.name.as_str().into(),
                package.version.as_str().into(),
                package.kind.as_str().into(),
                Cell::coloured(package.severity.as_str(), severity_colour(&package.severity)),
                package.vulnerability_count.to_string().into(),
                worst.map(|v| v.id.as_str()).unwrap_or_default().into(),
                worst.map(|v| v.fixed_in.join(", ")).unwrap_or_default().into(),
            ]);
            for entry in package.vulnerabilities.iter().filter(|_| reasons) {
                table.row(vec![Cell::coloured(format!("  {}", reason(entry)), Colour::Dim)]);
            }
        }
        out = table.render() + "\n";
    }
    let count = |wanted: &dyn Fn(&&Package) -> bool| result.packages.iter().filter(wanted).count();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{}: {} packages, {} vulnerable, {} not assessed",
        result.artifact,
        result.packages.len(),
        count(&|package| package.vulnerable == "yes"),
        count(&|package| package.vulnerable == "not_assessed"),
    );
    out
}
