//! The recommendation table of a component.
//! It must never show what was not measured or not assessed among the four cells.

use std::fmt::Write as _;

use plimsoll_portal::model::{Package, Report};
use plimsoll_schemas::words::{usage, vulnerable};

use super::convert::rank;
use super::evidence::{Files, how_observed, observed};
use super::scan::{reason, severity_colour};
use super::table::{Cell, Colour, Table};

/// The table; `left_out` packages were filtered away. With `files`, what was used of each package stands below it.
pub fn report_table(report: &Report, left_out: usize, files: Option<&Files>) -> String {
    let mut packages: Vec<&Package> = report.packages.iter().collect();
    packages.sort_by_key(|p| {
        (usage_rank(p), rank(&p.severity), p.kind.clone(), p.name.clone(), p.version.clone())
    });
    let mut out = cells(report);
    let mut table = Table::new(&["PACKAGE", "VERSION", "KIND", "VULNERABLE", "USED", "RECOMMENDATION"]);
    for package in &packages {
        table.row(vec![
            package.name.as_str().into(),
            package.version.as_str().into(),
            package.kind.as_str().into(),
            vulnerable_cell(package),
            use_cell(package),
            package.recommendation.text.as_str().into(),
        ]);
        if let Some(files) = files {
            // Of Go: whether what is affected of the module is in the program at all.
            let in_part = package.vulnerabilities.iter().filter(|entry| !entry.imports.is_empty());
            for line in in_part.map(reason).chain(files.lines(package)) {
                table.row(vec![Cell::coloured(format!("  {line}"), Colour::Dim)]);
            }
        }
    }
    out.push_str(&table.render());
    out.push('\n');
    out.push_str(&observed(&report.packages, &report.observed));
    if files.is_some() {
        out.push_str(&how_observed(&report.observed));
    }
    if left_out > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "\n{left_out} more packages are not shown: the filter leaves them out");
    }
    out
}

/// Used ones first, vulnerable before not.
fn usage_rank(package: &Package) -> usize {
    let vulnerable = match package.vulnerable.as_str() {
        vulnerable::YES => 0,
        vulnerable::NOT_ASSESSED => 1,
        _ => 2,
    };
    let used = match package.usage.as_str() {
        usage::USED => 0,
        usage::UNUSED => 1,
        _ => 2,
    };
    vulnerable * 3 + used
}

fn vulnerable_cell(package: &Package) -> Cell {
    match package.vulnerable.as_str() {
        vulnerable::YES => {
            let exploited = if package.known_exploited { ", exploited" } else { "" };
            let text = format!("yes: {} {}{exploited}", package.vulnerability_count, package.severity);
            Cell::coloured(text, severity_colour(&package.severity))
        }
        vulnerable::NO => "no".into(),
        _ => Cell::coloured("not assessed", Colour::Yellow),
    }
}

fn use_cell(package: &Package) -> Cell {
    match package.usage.as_str() {
        usage::USED => {
            let rung = package.rung.as_deref().unwrap_or("used");
            Cell::coloured(format!("yes: {rung}"), Colour::None)
        }
        usage::UNUSED => Cell::coloured("no", Colour::Green),
        usage::NOT_MEASURABLE => Cell::coloured("not measurable", Colour::Yellow),
        _ => Cell::coloured("not measured", Colour::Yellow),
    }
}

/// The four cells, and what belongs to none of them.
fn cells(report: &Report) -> String {
    let count =
        |v: &str, u: &str| report.totals.count(|cell| cell.vulnerable == v && cell.usage == u).to_string();
    let other = |wanted: &dyn Fn(&plimsoll_portal::model::Cell) -> bool| report.totals.count(wanted);
    let mut table = Table::new(&["", "used", "unused"]);
    for (label, word) in [("vulnerable", vulnerable::YES), ("not vulnerable", vulnerable::NO)] {
        table.row(vec![label.into(), count(word, usage::USED).into(), count(word, usage::UNUSED).into()]);
    }
    let mut out = format!(
        "{} / {} / {}: {} packages\n\n{}",
        report.application,
        report.component,
        report.version,
        report.totals.package_count,
        table.render()
    );
    let not_measured = other(&|cell| cell.usage == usage::NOT_MEASURED);
    let not_measurable = other(&|cell| cell.usage == usage::NOT_MEASURABLE);
    let not_assessed = other(&|cell| cell.vulnerable == vulnerable::NOT_ASSESSED);
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "not measured: {not_measured}, not measurable: {not_measurable}, not assessed: {not_assessed}\n"
    );
    out
}
