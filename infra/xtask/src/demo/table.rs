//! The recommendation table of a component's report, for the terminal.
//! It never folds what was not measured or not assessed into the four cells, nor hides that rows were left out.

use serde_json::Value;
use std::fmt::Write as _;

/// Packages of the operating system that are listed; an image has many.
const SYSTEM_ROWS_MAX: usize = 15;

/// How many packages each cell of the table has, and the packages.
pub fn recommendations(report: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut packages: Vec<&Value> =
        report["packages"].as_array().map(|list| list.iter().collect()).unwrap_or_default();
    packages.sort_by_key(|package| (text(&package["kind"]), order(package), text(&package["name"])));
    let mut out = format!(
        "{} / {} / {}\n",
        text(&report["application"]),
        text(&report["component"]),
        text(&report["version"])
    );
    let rows: Vec<[String; 7]> = packages
        .iter()
        .map(|package| {
            [
                &package["kind"],
                &package["name"],
                &package["version"],
                &package["vulnerable"],
                &package["use"],
                &package["rung"],
                &package["recommendation"]["text"],
            ]
            .map(text)
        })
        .collect();
    let heads =
        ["KIND", "PACKAGE", "VERSION", "VULNERABLE", "USE", "EVIDENCE", "RECOMMENDATION"].map(str::to_owned);
    let (system, application): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row[0] == "os");
    let hidden = system.len().saturating_sub(SYSTEM_ROWS_MAX);
    let shown: Vec<&[String; 7]> =
        std::iter::once(&heads).chain(application).chain(system.into_iter().take(SYSTEM_ROWS_MAX)).collect();
    let widths: [usize; 7] =
        std::array::from_fn(|column| shown.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in &shown {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(out, "  {}", cells.join("  ").trim_end());
    }
    if hidden > 0 {
        let _ = writeln!(out, "  … and {hidden} more packages of the operating system: see the dashboard");
    }
    for kind in ["application", "os"] {
        let mut counts: Vec<(String, String, usize)> = Vec::new();
        for package in packages.iter().filter(|package| package["kind"] == kind) {
            let (vulnerable, usage) = (text(&package["vulnerable"]), text(&package["use"]));
            match counts.iter_mut().find(|(v, u, _)| *v == vulnerable && *u == usage) {
                Some((_, _, count)) => *count += 1,
                None => counts.push((vulnerable, usage, 1)),
            }
        }
        let counts: Vec<String> =
            counts.iter().map(|(v, u, count)| format!("vulnerable {v}, {u}: {count}")).collect();
        if !counts.is_empty() {
            let _ = writeln!(out, "  {kind} packages: {}", counts.join(" · "));
        }
    }
    out
}

/// What needs attention first.
fn order(package: &Value) -> (u8, u8) {
    let place = |value: &Value, words: &[&str]| {
        words.iter().position(|word| value == word).unwrap_or(words.len()).try_into().unwrap_or(u8::MAX)
    };
    (
        place(&package["vulnerable"], &["yes", "no", "not_assessed"]),
        place(&package["use"], &["used", "unused", "not_measured", "not_measurable"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_what_is_vulnerable_and_used_first() {
        let package = |kind: &str, name: &str, vulnerable: &str, usage: &str| {
            json!({"kind": kind, "name": name, "version": "1", "vulnerable": vulnerable, "use": usage,
                   "rung": null, "recommendation": {"text": "do"}})
        };
        let mut packages = vec![
            package("application", "b", "no", "unused"),
            package("application", "a", "yes", "not_measured"),
            package("application", "c", "yes", "used"),
        ];
        packages.extend((0..SYSTEM_ROWS_MAX + 2).map(|_| package("os", "libc6", "not_assessed", "used")));
        let text = recommendations(&json!({"application": "x", "packages": packages}));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].contains(" c ") && lines[3].contains(" a ") && lines[4].contains(" b "), "{text}");
        assert!(text.contains("and 2 more packages of the operating system"), "{text}");
        assert!(text.contains("vulnerable yes, used: 1 · vulnerable yes, not_measured: 1"), "{text}");
        assert!(text.contains("os packages: vulnerable not_assessed, used: 17"), "{text}");
    }
}
