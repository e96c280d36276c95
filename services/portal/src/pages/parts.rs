//! Parts that several pages share: tables of packages, findings, alerts and coverage, filters and pagers.
//! A folded list must always say how long it is and lead to the whole.

use maud::{Markup, html};

use plimsoll_schemas::words::usage_kind;

use super::labels::{self, count_of, number};
use super::links;
use crate::model::{Alert, Coverage, Finding, Package, UsedFile, Vulnerability};
use crate::store::{ComponentRef, FindingFilter, PackageFilter, PackageSort};
use crate::time::duration;

/// Files that are listed below a package in a table.
const FILES_FOLDED: usize = 20;
/// Vulnerabilities that are listed below a package in a table.
const VULNERABILITIES_FOLDED: usize = 10;

/// A pager: to the first and to the next page.
pub fn pager(path: &str, query: &[(&str, &str)], on_first: bool, next: Option<&str>) -> Markup {
    let mut behind = query.to_vec();
    behind.push(("cursor", next.unwrap_or_default()));
    html! {
        @if !on_first || next.is_some() {
            nav.pager aria-label="Pages" {
                @if on_first { span.muted { "First page" } } @else { a href=(links::with_query(path, query)) { "« First page" } }
                @if next.is_some() { a rel="next" href=(links::with_query(path, &behind)) { "Next page »" } }
                @else { span.muted { "Last page" } }
            }
        }
    }
}

/// A fact with its name, for a strip of facts.
pub fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// Pairs of a form as they stand in an address.
pub fn package_query<'a>(filter: &'a PackageFilter, sort: PackageSort) -> Vec<(&'static str, &'a str)> {
    let value = |value: &'a Option<String>| value.as_deref().unwrap_or_default();
    vec![
        ("kind", value(&filter.kind)),
        ("vulnerable", value(&filter.vulnerable)),
        ("use", value(&filter.usage)),
        ("severity", value(&filter.severity)),
        ("recommendation", value(&filter.recommendation)),
        ("artifact", value(&filter.artifact)),
        ("q", value(&filter.text)),
        ("sort", if sort == PackageSort::Severity { "" } else { sort.as_str() }),
    ]
}

/// A select of a form. Choices are (word, name); the empty word stands for all.
pub fn choice(name: &str, label: &str, chosen: Option<&str>, choices: &[(&str, &str)]) -> Markup {
    html! {
        label { span { (label) }
            select name=(name) {
                option value="" { "All" }
                @for (word, text) in choices { option value=(word) selected[chosen == Some(*word)] { (text) } }
            }
        }
    }
}

/// The filters of a list of packages.
pub fn package_filters(path: &str, filter: &PackageFilter, sort: PackageSort) -> Markup {
    html! {
        form.filters action={ (path) "#packages" } method="get" aria-label="Filter packages" {
            label { span { "Name or purl" } input type="search" name="q" value=[filter.text.as_deref()]; }
            (choice("kind", "Kind", filter.kind.as_deref(), &[("os", "OS package"), ("application", "Application dependency")]))
            (choice("vulnerable", "Vulnerable", filter.vulnerable.as_deref(),
                &[("yes", "Vulnerable"), ("no", "Not vulnerable"), ("not_assessed", "Not assessed")]))
            (choice("use", "Use", filter.usage.as_deref(),
                &[("used", "Used"), ("unused", "Not used"), ("not_measured", "Not measured"), ("not_measurable", "Not measurable")]))
            (choice("severity", "Worst severity", filter.severity.as_deref(),
                &[("critical", "Critical"), ("high", "High"), ("medium", "Medium"), ("low", "Low"), ("none", "None"), ("unknown", "Unknown")]))
            (choice("recommendation", "Recommendation", filter.recommendation.as_deref(),
                &[("upgrade", "Upgrade"), ("remove", "Consider removing"), ("no_action", "No action needed"), ("observe", "Observe first"), ("no_feed", "Feed missing")]))
            @if let Some(artifact) = &filter.artifact { input type="hidden" name="artifact" value=(artifact); }
            label { span { "Order" }
                select name="sort" {
                    option value="severity" selected[sort == PackageSort::Severity] { "Worst first" }
                    option value="name" selected[sort == PackageSort::Name] { "By name" }
                }
            }
            div.actions {
                button type="submit" { "Apply" }
                a href={ (path) "#packages" } { "Clear" }
            }
        }
    }
}

/// A table of packages. With a component, each leads to its use there; else to everything that has it.
pub fn package_table(caption: &Markup, packages: &[Package], component: Option<&ComponentRef>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Packages" {
            table.packages {
                caption { (caption) }
                thead { tr {
                    th scope="col" { "Package" }
                    th scope="col" { "Vulnerabilities" }
                    th scope="col" { "Use" }
                    th scope="col" { "What to do" }
                } }
                tbody {
                    @for package in packages { (package_row(package, component)) }
                    @if packages.is_empty() { tr { td.empty colspan="4" { "No package fits." } } }
                }
            }
        }
    }
}

fn package_row(package: &Package, component: Option<&ComponentRef>) -> Markup {
    let address = match component {
        Some(of) => links::component_package(of, &package.artifact, &package.package_id),
        None => links::purl(&package.purl),
    };
    html! {
        tr {
            th scope="row" {
                a href=(address) { (package.name) } " " span.version { (package.version) }
                div.muted { (labels::kind_name(&package.kind)) " · " (package.ecosystem) }
                @if component.is_some() {
                    div.muted { a href=(links::artifact(&package.artifact)) { (labels::short_key(&package.artifact)) } }
                }
                @if !package.scanned { div.muted { "Observed, not in a scan" } }
            }
            td { (vulnerabilities(package)) }
            td { (use_cell(package, &address)) }
            td.advice {
                (labels::recommendation(&package.recommendation.code))
                p { (package.recommendation.text) }
            }
        }
    }
}

fn vulnerabilities(package: &Package) -> Markup {
    let list = &package.vulnerabilities;
    let more =
        package.vulnerability_count - i64::try_from(list.len().min(VULNERABILITIES_FOLDED)).unwrap_or(0);
    html! {
        @if package.vulnerable == "yes" {
            (labels::severity(&package.severity)) " " (labels::exploited(package.known_exploited))
            details {
                summary { (count_of(package.vulnerability_count, "vulnerability", "vulnerabilities")) }
                ul.plain {
                    @for entry in list.iter().take(VULNERABILITIES_FOLDED) {
                        li {
                            a href=(links::vulnerability(&entry.id)) { (entry.id) } " " span.muted { (entry.severity) }
                            @if !entry.fixed_in.is_empty() { span.muted { " · fixed in " (entry.fixed_in.join(", ")) } }
                            (why_it_matched(entry))
                        }
                    }
                    @if more > 0 { li.muted { "and " (number(more)) " more, on the package's page" } }
                }
            }
        } @else {
            (labels::vulnerable(&package.vulnerable))
            @if !package.not_assessed_reason.is_empty() { p.muted { (package.not_assessed_reason) } }
        }
    }
}

fn use_cell(package: &Package, address: &str) -> Markup {
    let total = package.file_count + package.class_count;
    let listed = (package.files.len() + package.classes.len()).min(FILES_FOLDED);
    let behind = total - i64::try_from(listed).unwrap_or(0);
    html! {
        (labels::usage(&package.usage))
        (labels::evidence(package.rung.as_deref()))
        @if let Some(last) = &package.last_used { div.muted { "last " (labels::time(Some(last), "")) } }
        @if package.usage != "used" && !package.use_reason.is_empty() { p.muted { (package.use_reason) } }
        @if !package.use_remedy.is_empty() { p.muted { (package.use_remedy) } }
        @if total > 0 {
            details {
                summary { (used_counts(package)) }
                ul.plain.files {
                    @for file in package.files.iter().chain(&package.classes).take(FILES_FOLDED) {
                        li {
                            (file_name(file)) " "
                            span.muted {
                                (file.kind) " · " (labels::rung_name(&file.rung)) " · first seen " (labels::time_ms(file.first_seen_ms, "–"))
                                ", last " (labels::time_ms(file.last_seen_ms, "–"))
                            }
                        }
                    }
                }
                p {
                    @if behind > 0 { (number(behind)) " more are not listed here. " }
                    a href={ (address) "#files" } { "All " (number(total)) ", to be searched" }
                }
            }
        }
    }
}

/// How many files, classes and modules were used: those that there are.
fn used_counts(package: &Package) -> String {
    let classes = package.classes.iter().any(|class| class.kind == usage_kind::CLASS);
    let named = if classes { ("class", "classes") } else { ("module", "modules") };
    let counts = [(package.file_count, ("file", "files")), (package.class_count, named)];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    counts.map(|(count, (one, many))| count_of(*count, one, many)).collect::<Vec<_>>().join(", ")
}

/// The name of a used file, class or module.
pub fn file_name(file: &UsedFile) -> Markup {
    html! {
        @if file.name.is_empty() { code { (file.path) } }
        @else { code { (file.name) } @if !file.path.is_empty() { span.muted { " in " } code { (file.path) } } }
        @if file.ambiguous { span.muted { " (may be another package's)" } }
    }
}

/// What was watched, as a sentence.
pub fn coverage_sentence(coverage: &Coverage) -> Markup {
    html! {
        @if coverage.probes.is_empty() {
            "No probe that could have seen its use was watching."
        } @else {
            "Watched by " strong { (labels::probes(&coverage.probes)) } ", "
            @if coverage.from_first_exec { "from the first exec" } @else { strong { "not from the first exec" } }
            ", " (duration(coverage.watched_ms)) " over "
            (count_of(coverage.workload_count, "workload", "workloads")) " ("
            (number(coverage.workload_count_from_first_exec)) " from the first exec), "
            @if coverage.events_lost == 0 { "no event lost" }
            @else { strong { (count_of(coverage.events_lost, "event", "events")) " lost" } }
            @if coverage.unresolved_path_count > 0 {
                ", " (count_of(coverage.unresolved_path_count, "used path", "used paths")) " not resolved to an owner"
            }
            "."
        }
    }
}

/// Pairs of the findings' form as they stand in an address.
pub fn finding_query(filter: &FindingFilter) -> Vec<(&'static str, &str)> {
    vec![
        ("kind", filter.kind.as_deref().unwrap_or_default()),
        ("use", filter.usage.as_deref().unwrap_or_default()),
        ("severity", filter.severity.as_deref().unwrap_or_default()),
        ("q", filter.text.as_deref().unwrap_or_default()),
    ]
}

/// The filters of a list of findings.
pub fn finding_filters(path: &str, filter: &FindingFilter) -> Markup {
    html! {
        form.filters action=(path) method="get" aria-label="Filter findings" {
            label { span { "Vulnerability, name or purl" } input type="search" name="q" value=[filter.text.as_deref()]; }
            (choice("kind", "Kind", filter.kind.as_deref(), &[("os", "OS package"), ("application", "Application dependency")]))
            (choice("use", "Use", filter.usage.as_deref(),
                &[("used", "Used"), ("unused", "Not used"), ("not_measured", "Not measured"), ("not_measurable", "Not measurable")]))
            (choice("severity", "Severity", filter.severity.as_deref(),
                &[("critical", "Critical"), ("high", "High"), ("medium", "Medium"), ("low", "Low"), ("none", "None"), ("unknown", "Unknown")]))
            div.actions { button type="submit" { "Apply" } a href=(path) { "Clear" } }
        }
    }
}

/// A table of findings.
pub fn finding_table(caption: &Markup, findings: &[Finding], component: Option<&ComponentRef>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Findings" {
            table {
                caption { (caption) }
                thead { tr {
                    th scope="col" { "Vulnerability" } th scope="col" { "Severity" } th scope="col" { "Package" }
                    th scope="col" { "Use" } th scope="col" { "Fixed in" } th.count scope="col" { "Priority" }
                } }
                tbody {
                    @for finding in findings {
                        tr {
                            th scope="row" {
                                a href=(links::vulnerability(&finding.vulnerability_id)) { (finding.vulnerability_id) }
                                @if !finding.summary.is_empty() { p.muted { (finding.summary) } }
                                (affected_imports(&finding.imports))
                            }
                            td {
                                (labels::severity(&finding.severity)) " " (labels::exploited(finding.known_exploited))
                                @if let Some(score) = finding.cvss_score { div.muted { "CVSS " (format!("{score:.1}")) } }
                            }
                            td {
                                @let address = component.map_or_else(|| links::purl(&finding.purl),
                                    |of| links::component_package(of, &finding.artifact, &finding.package_id));
                                a href=(address) { (finding.name) } " " span.version { (finding.version) }
                                div.muted { (labels::kind_name(&finding.kind)) " · " (finding.ecosystem) }
                                @if !finding.match_reason.is_empty() { div.muted { (finding.match_reason) } }
                            }
                            td {
                                (labels::usage(&finding.usage))
                                (labels::evidence(finding.rung.as_deref()))
                            }
                            td {
                                @if finding.fixed_in.is_empty() { span.muted { "no fix known" } }
                                @else { (finding.fixed_in.join(", ")) }
                            }
                            td.count { span title=(finding.priority_reason) { (finding.priority) } }
                        }
                    }
                    @if findings.is_empty() { tr { td.empty colspan="6" { "No finding fits." } } }
                }
            }
        }
    }
}

/// Why a package has a vulnerability, and which packages of a module that is about.
pub fn why_it_matched(entry: &Vulnerability) -> Markup {
    html! {
        @if !entry.match_reason.is_empty() { div.muted { (entry.match_reason) } }
        (affected_imports(&entry.imports))
    }
}

/// Which packages of a module a finding is about, where the advisory says so.
pub fn affected_imports(imports: &[String]) -> Markup {
    html! {
        @if !imports.is_empty() {
            div.muted { "Affected packages: " @for (number, path) in imports.iter().enumerate() {
                @if number > 0 { ", " } code { (path) }
            } }
        }
    }
}

/// A list of alerts.
pub fn alert_list(alerts: &[Alert]) -> Markup {
    html! {
        @if alerts.is_empty() { p.empty { "No alert." } }
        @for alert in alerts {
            article.alert {
                h3 { (labels::severity(&alert.severity)) " " (alert.title) }
                p.muted {
                    (labels::time(alert.raised_at.as_deref(), "at an unknown time")) " · rule " code { (alert.rule) } " · "
                    @if alert.application.is_empty() { "no component named" }
                    @else { a href=(links::component_of(&alert.application, &alert.component, &alert.version)) {
                        (alert.application) " / " (alert.component) " " (alert.version) } }
                    " · " a href=(links::artifact(&alert.artifact)) { (labels::short_key(&alert.artifact)) }
                }
                dl.pairs {
                    @if !alert.path.is_empty() {
                        dt { "Path" } dd { code { (alert.path) } }
                        dt { "Owner" }
                        dd {
                            @if alert.owners.is_empty() { (owner_state(&alert.ownership_state)) }
                            @for owner in &alert.owners {
                                a href=(links::purl(&owner.purl)) { (owner.name) " " (owner.version) } " "
                            }
                            @if alert.vulnerable == "yes" { " " (labels::vulnerable("yes")) }
                        }
                    }
                    @if let Some(process) = &alert.process {
                        dt { "Command" } dd { code { (process.command.join(" ")) } }
                        dt { "Started by" }
                        dd { code { (process.parent_executable) } span.muted { " (process " (process.parent_pid) ")" } }
                    }
                    dt { "Workload" } dd { code { (alert.workload_id) } }
                }
                @if !alert.evidence.is_empty() {
                    details {
                        summary { (count_of(i64::try_from(alert.evidence.len()).unwrap_or(0), "piece of evidence", "pieces of evidence")) }
                        dl.pairs { @for (name, value) in &alert.evidence { dt { (name) } dd { code { (value) } } } }
                    }
                }
            }
        }
    }
}

fn owner_state(word: &str) -> &str {
    match word {
        "unowned" => "owned by no package",
        "unresolved" => "owner not resolved",
        other => other,
    }
}
