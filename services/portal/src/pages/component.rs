//! The dashboard of a component version: the recommendation table, what stands apart from it, the packages, the
//! coverage. Every package must be counted in exactly one place of it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};

use super::labels::{self, count_of, number};
use super::layout::{Section, page};
use super::{PAGE_ITEMS, PageAnswer, Params, Segments, links, parts};
use crate::Portal;
use crate::api::PageParams;
use crate::api::applications::{ComponentPath, FindingParams, component_detail};
use crate::api::packages::PackageParams;
use crate::cursor::PageRequest;
use crate::model::{Cell, ComponentDetail, CoverageGroup, Package, Page, Totals};
use crate::store::{AlertFilter, ComponentRef, FindingSort, PackageFilter, PackageSort};
use crate::time::duration;

/// The way to a component version's page.
pub(super) fn way_to(of: &ComponentRef) -> Vec<(String, String)> {
    vec![
        ("Applications".to_owned(), "/".to_owned()),
        (of.application.clone(), links::application(&of.application)),
    ]
}

/// The way to a page below a component version's.
pub(super) fn way_below(of: &ComponentRef) -> Vec<(String, String)> {
    let mut way = way_to(of);
    way.push((format!("{} {}", of.component, of.version), links::component(of)));
    way
}

struct Listing {
    found: Page<Package>,
    matching: u64,
    filter: PackageFilter,
    sort: PackageSort,
    on_first: bool,
}

async fn list_packages(
    portal: &Portal,
    of: &ComponentRef,
    mut params: PackageParams,
) -> Result<Listing, crate::error::PortalError> {
    params.limit = params.limit.or(Some(PAGE_ITEMS));
    let (filter, sort, wanted) = params.read(&of.question(), PackageSort::Severity)?;
    let (found, matching) = tokio::try_join!(
        portal.store.component_packages(of, &filter, sort, &wanted),
        portal.store.component_package_count(of, &filter),
    )?;
    Ok(Listing { found, matching, filter, sort, on_first: wanted.after.is_none() })
}

/// `/applications/{application}/components/{component}/versions/{version}`.
pub async fn dashboard(
    State(portal): State<Arc<Portal>>,
    Segments(path): Segments<ComponentPath>,
    Params(params): Params<PackageParams>,
) -> PageAnswer {
    let of = ComponentRef::from(path);
    let (detail, listing) =
        tokio::try_join!(component_detail(&portal, &of), list_packages(&portal, &of, params))?;
    let content = html! {
        (heading(&of, &detail))
        (strip(&of, &detail))
        (matrix(&of, &detail.totals))
        (coverage_in_short(&detail))
        (apart(&of, &detail.totals))
        section #packages {
            h2 { "Packages" }
            (package_section(&of, &links::component(&of), &listing))
        }
        (coverage(&detail))
        (observed(&detail))
        (artifacts(&detail))
    };
    let title = format!("{} {} · {}", of.component, of.version, of.application);
    Ok(Html(page(&title, Some(Section::Applications), &way_to(&of), &content).into_string()))
}

/// `…/packages`: the packages alone.
pub async fn packages(
    State(portal): State<Arc<Portal>>,
    Segments(path): Segments<ComponentPath>,
    Params(params): Params<PackageParams>,
) -> PageAnswer {
    let of = ComponentRef::from(path);
    let listing = list_packages(&portal, &of, params).await?;
    let address = format!("{}/packages", links::component(&of));
    let content = html! {
        h1 #packages { "Packages of " (of.component) " " (of.version) }
        (package_section(&of, &address, &listing))
    };
    Ok(Html(page("Packages", Some(Section::Applications), &way_below(&of), &content).into_string()))
}

fn package_section(of: &ComponentRef, address: &str, listing: &Listing) -> Markup {
    let shown = listing.found.items.len();
    let caption = html! {
        (count_of(i64::try_from(listing.matching).unwrap_or(i64::MAX), "package", "packages"))
        @if listing.filter.is_empty() { " in all" } @else { " that fit the filter" }
        @if u64::try_from(shown).is_ok_and(|shown| shown < listing.matching) { "; " (number(shown)) " on this page" }
        "."
    };
    html! {
        (parts::package_filters(address, &listing.filter, listing.sort))
        (parts::package_table(&caption, &listing.found.items, Some(of)))
        (parts::pager(address, &parts::package_query(&listing.filter, listing.sort), listing.on_first,
            listing.found.next_cursor.as_deref()))
    }
}

fn heading(of: &ComponentRef, detail: &ComponentDetail) -> Markup {
    html! {
        h1 { (of.component) " " span.version { (of.version) } }
        p.lead {
            "Component of " a href=(links::application(&of.application)) { (of.application) } ", "
            @if detail.live_workload_count > 0 {
                strong { (count_of(detail.live_workload_count, "workload", "workloads")) " running" }
            } @else if detail.workload_count > 0 { "not running now" } @else { "not seen running yet" }
            @if detail.last_seen.is_some() { ", last seen " (labels::time(detail.last_seen.as_deref(), "")) " UTC" }
            "."
        }
    }
}

fn strip(of: &ComponentRef, detail: &ComponentDetail) -> Markup {
    let totals = &detail.totals;
    let vulnerable = totals.count(|cell| cell.vulnerable == "yes");
    let used = totals.count(|cell| cell.usage == "used");
    let base = links::component(of);
    html! {
        dl.strip {
            (parts::fact("Packages", &html! { (number(totals.package_count)) }))
            (parts::fact("Used", &html! { (number(used)) }))
            (parts::fact("Vulnerable", &html! { (number(vulnerable)) }))
            (parts::fact("With a known exploit", &html! { (number(totals.known_exploited_package_count)) }))
            (parts::fact("Findings", &html! { a href={ (base) "/findings" } { "List" } }))
            (parts::fact("Alerts", &html! { a href={ (base) "/alerts" } { (number(i64::try_from(detail.alert_count).unwrap_or(i64::MAX))) } }))
            (parts::fact("Report", &html! { a href={ "/api/v1" (base) "/report" } { "JSON" } }))
        }
    }
}

/// The four cells of the recommendation table.
fn matrix(of: &ComponentRef, totals: &Totals) -> Markup {
    let cell = |vulnerable: &str, usage: &str, tone: &str, os: &str, application: &str| -> Markup {
        let count = |kind: &str| {
            totals.count(|cell: &Cell| {
                cell.vulnerable == vulnerable && cell.usage == usage && (kind.is_empty() || cell.kind == kind)
            })
        };
        let all = count("");
        let address = links::with_query(&links::component(of), &[("vulnerable", vulnerable), ("use", usage)]);
        html! {
            td class={ "cell " (tone) } {
                a href={ (address) "#packages" } {
                    span.number { (number(all)) } " "
                    span.unit { @if all == 1 { "package" } @else { "packages" } }
                }
                p.split {
                    (number(count("application"))) " application · " (number(count("os"))) " OS"
                }
                p { strong { (application) } @if os != application { " " span.muted { (os) } } }
            }
        }
    };
    html! {
        section {
            h2.unseen { "Recommendation table" }
            table.matrix {
                caption { "Vulnerable against used: what is there, what really runs, and what to do." }
                thead { tr { td {} th scope="col" { "● Used" } th scope="col" { "○ Not used" } } }
                tbody {
                    tr {
                        th scope="row" { "▲ Vulnerable" }
                        (cell("yes", "used", "bad", "OS packages: update the application code, upgrade the package.", "Upgrade to the fixed version."))
                        (cell("yes", "unused", "warn", "OS packages: or take another base image.", "Consider removing."))
                    }
                    tr {
                        th scope="row" { "✓ Not vulnerable" }
                        (cell("no", "used", "good", "No action needed.", "No action needed."))
                        (cell("no", "unused", "plain", "OS packages: or take another base image.", "Consider removing."))
                    }
                }
            }
        }
    }
}

/// How far the use can be trusted, with the way to the details.
fn coverage_in_short(detail: &ComponentDetail) -> Markup {
    let total = detail.totals.package_count;
    let count = |wanted: &dyn Fn(&CoverageGroup) -> bool| -> i64 {
        let groups = detail.coverage.iter().filter(|group| wanted(group));
        groups.map(|group| i64::try_from(group.package_count).unwrap_or(i64::MAX)).sum()
    };
    let from_first = count(&|group| group.coverage.from_first_exec);
    let late = count(&|group| !group.coverage.from_first_exec && !group.coverage.probes.is_empty());
    let none = count(&|group| !group.coverage.from_first_exec && group.coverage.probes.is_empty());
    // Groups beyond the bound of the list.
    let unlisted = total - from_first - late - none;
    let lost = detail.coverage.iter().map(|group| group.coverage.events_lost).max().unwrap_or(0);
    html! {
        p {
            strong { "Coverage: " }
            (number(from_first)) " of " (count_of(total, "package", "packages")) " watched from the first exec, "
            (number(late)) " only from later, " (number(none)) " not at all"
            @if unlisted > 0 { ", " (number(unlisted)) " as their own pages say" }
            "; "
            @if lost == 0 { "no event lost. " } @else { strong { (count_of(lost, "event", "events")) " lost. " } }
            a href="#coverage" { "Details" }
        }
    }
}

/// What the four cells cannot say: use not known, or vulnerability not known.
fn apart(of: &ComponentRef, totals: &Totals) -> Markup {
    let count = |vulnerable: &str, usage: &str| {
        totals.count(|cell| cell.vulnerable == vulnerable && cell.usage == usage)
    };
    let link = |vulnerable: &str, usage: &str| {
        links::with_query(&links::component(of), &[("vulnerable", vulnerable), ("use", usage)]) + "#packages"
    };
    let observe = "Observe first: attach the probe that each package names";
    let rows: [(&str, &str, &str); 8] = [
        ("yes", "not_measured", observe),
        ("yes", "not_measurable", "No probe can tell; treat as used until shown otherwise"),
        ("no", "not_measured", observe),
        ("no", "not_measurable", "No probe can tell"),
        ("not_assessed", "used", "Add the feed that each package names"),
        ("not_assessed", "unused", "Add the feed that each package names"),
        ("not_assessed", "not_measured", "Add the feed, and observe first"),
        ("not_assessed", "not_measurable", "Add the feed"),
    ];
    let known = totals.count(|cell| {
        ["yes", "no"].contains(&cell.vulnerable.as_str()) && ["used", "unused"].contains(&cell.usage.as_str())
    });
    html! {
        section.apart {
            h2 { "Apart from the table" }
            @if known == totals.package_count {
                p { "Nothing: every package was assessed, and the use of each was measured." }
            } @else {
                div.scroll tabindex="0" role="region" aria-label="Packages apart from the table" {
                    table {
                        caption {
                            (number(totals.package_count - known)) " of " (number(totals.package_count))
                            " packages are in none of the four cells. They are not safe and not unused: it is not known."
                        }
                        thead { tr {
                            th.count scope="col" { "Packages" } th scope="col" { "Vulnerable" }
                            th scope="col" { "Use" } th scope="col" { "What to do" }
                        } }
                        tbody {
                            @for (vulnerable, usage, advice) in rows {
                                @let packages = count(vulnerable, usage);
                                @if packages > 0 {
                                    tr {
                                        td.count { a href=(link(vulnerable, usage)) { (number(packages)) } }
                                        td { (labels::vulnerable(vulnerable)) }
                                        td { (labels::usage(usage)) }
                                        td { (advice) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A section that is one table, or the sentence that there is nothing to list.
struct TableSection<'t> {
    id: &'t str,
    title: &'t str,
    caption: &'t str,
    /// Said instead of a table without rows.
    nothing: &'t str,
    headings: &'t [Heading],
}

enum Heading {
    Text(&'static str),
    Count(&'static str),
}

impl TableSection<'_> {
    fn of<T>(&self, items: &[T], row: impl Fn(&T) -> Markup) -> Markup {
        html! {
            section id=(self.id) {
                h2 { (self.title) }
                @if items.is_empty() { p.empty { (self.nothing) } } @else {
                    div.scroll tabindex="0" role="region" aria-label=(self.title) {
                        table {
                            caption { (self.caption) }
                            thead { tr { @for heading in self.headings { @match heading {
                                Heading::Text(text) => th scope="col" { (text) },
                                Heading::Count(text) => th.count scope="col" { (text) },
                            } } } }
                            tbody { @for item in items { tr { (row(item)) } } }
                        }
                    }
                }
            }
        }
    }
}

const COVERAGE: TableSection<'_> = TableSection {
    id: "coverage",
    title: "Coverage",
    caption: "What was watched. “Not used” is said only of packages watched from the first exec without loss.",
    nothing: "Nothing was watched yet. Run the component under plimsoll, or start the agent where it runs.",
    headings: &[
        Heading::Text("Artifact"),
        Heading::Text("Ecosystem"),
        Heading::Count("Packages"),
        Heading::Text("Observed by"),
        Heading::Text("From the first exec"),
        Heading::Text("Watched"),
        Heading::Count("Workloads"),
        Heading::Count("Events lost"),
        Heading::Count("Paths unresolved"),
    ],
};

fn coverage(detail: &ComponentDetail) -> Markup {
    COVERAGE.of(&detail.coverage, |group| {
        let watched = &group.coverage;
        html! {
            th scope="row" { a href=(links::artifact(&group.artifact)) { (labels::short_key(&group.artifact)) } }
            td { (labels::ecosystem(&group.ecosystem)) }
            td.count { (number(i64::try_from(group.package_count).unwrap_or(i64::MAX))) }
            td { @if watched.probes.is_empty() { span.muted { "none" } } @else { (labels::probes(&watched.probes)) } }
            td { @if watched.from_first_exec { "yes" } @else { strong { "no" } } }
            td {
                (duration(watched.watched_ms))
                @if watched.since_ms > 0 {
                    div.muted { (labels::time_ms(watched.since_ms, "–")) " to " (labels::time_ms(watched.until_ms, "–")) }
                }
            }
            td.count { (number(watched.workload_count)) }
            td.count { (number(watched.events_lost)) }
            td.count { (number(watched.unresolved_path_count)) }
        }
    })
}

const OBSERVED: TableSection<'_> = TableSection {
    id: "observed",
    title: "How each language was observed",
    caption: "Processes of all workloads. What a process used before it was observed is known only as far as it was still \
              in use then.",
    nothing: "No process of a language was seen yet.",
    headings: &[
        Heading::Text("Language"),
        Heading::Text("Processes"),
        Heading::Text("Observed by"),
        Heading::Count("Workloads"),
        Heading::Text("Reasons and remedies"),
    ],
};

fn observed(detail: &ComponentDetail) -> Markup {
    OBSERVED.of(&detail.observed, |one| html! {
        th scope="row" { (labels::ecosystem(&one.ecosystem)) }
        td { (labels::observed(one)) }
        td { @if one.probe.is_empty() { span.muted { "none" } } @else { (labels::probes(std::slice::from_ref(&one.probe))) } }
        td.count { (number(one.workload_count)) }
        td { @if one.reasons.is_empty() { span.muted { "–" } } @else { ul.plain { @for reason in &one.reasons { li { (reason) } } } } }
    })
}

fn artifacts(detail: &ComponentDetail) -> Markup {
    html! {
        section #artifacts {
            h2 { "Artifacts" }
            @for artifact in detail.artifacts.iter().filter(|artifact| !artifact.scanned) {
                p.notice {
                    strong { (labels::artifact_name(artifact)) } " was observed but not scanned: packages that were never used are unknown. "
                    "Scan it with " code { "plimsoll scan" } "."
                }
            }
            div.scroll tabindex="0" role="region" aria-label="Artifacts" {
                table {
                    caption { "What this component version runs." }
                    thead { tr {
                        th scope="col" { "Artifact" } th scope="col" { "Scanned" } th.count scope="col" { "Packages" }
                        th.count scope="col" { "Scan warnings" } th.count scope="col" { "Components" }
                    } }
                    tbody { @for artifact in &detail.artifacts { tr {
                        th scope="row" {
                            a href=(links::artifact(&artifact.artifact)) { (labels::artifact_name(artifact)) }
                            div.muted.key { (artifact.artifact) }
                        }
                        td { @if artifact.scanned { (labels::time(artifact.scanned_at.as_deref(), "yes")) } @else { strong { "not scanned" } } }
                        td.count { (number(artifact.package_count)) }
                        td.count { (number(i64::try_from(artifact.warnings.len()).unwrap_or(0))) }
                        td.count { (number(artifact.component_count)) }
                    } } }
                }
            }
        }
    }
}

/// `…/findings`.
pub async fn findings(
    State(portal): State<Arc<Portal>>,
    Segments(path): Segments<ComponentPath>,
    Params(mut params): Params<FindingParams>,
) -> PageAnswer {
    let of = ComponentRef::from(path);
    params.limit = params.limit.or(Some(PAGE_ITEMS));
    let (filter, sort, wanted) = params.read(&of.question(), FindingSort::Priority)?;
    let found = portal.store.component_findings(&of, &filter, sort, &wanted).await?;
    let address = format!("{}/findings", links::component(&of));
    let caption = html! { "Highest priority first, with the use by this component. The priority takes all components of the artifact together." };
    let content = html! {
        h1 { "Findings of " (of.component) " " (of.version) }
        (parts::finding_filters(&address, &filter))
        (parts::finding_table(&caption, &found.items, Some(&of)))
        (parts::pager(&address, &parts::finding_query(&filter), wanted.after.is_none(), found.next_cursor.as_deref()))
    };
    Ok(Html(page("Findings", Some(Section::Applications), &way_below(&of), &content).into_string()))
}

/// `…/alerts`.
pub async fn alerts(
    State(portal): State<Arc<Portal>>,
    Segments(path): Segments<ComponentPath>,
    Params(params): Params<PageParams>,
) -> PageAnswer {
    let of = ComponentRef::from(path);
    let filter = AlertFilter {
        application: Some(of.application.clone()),
        component: Some(of.component.clone()),
        version: Some(of.version.clone()),
        ..AlertFilter::default()
    };
    let question = ["alerts", &format!("{filter:?}")];
    let wanted = PageRequest::new(&question, params.limit.or(Some(PAGE_ITEMS)), params.cursor.as_deref())?;
    let found = portal.store.alerts(&filter, &wanted).await?;
    let address = format!("{}/alerts", links::component(&of));
    let content = html! {
        h1 { "Alerts of " (of.component) " " (of.version) }
        (parts::alert_list(&found.items))
        (parts::pager(&address, &[], wanted.after.is_none(), found.next_cursor.as_deref()))
    };
    Ok(Html(page("Alerts", Some(Section::Applications), &way_below(&of), &content).into_string()))
}
