//! Artifacts: the list, and one artifact with its packages and every component and workload that runs it.
//! It must never hide that an artifact was not scanned, not identified, or scanned with warnings.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};

use super::labels::{self, count_of, number};
use super::layout::{Section, page};
use super::{PAGE_ITEMS, PageAnswer, Params, Segments, links, parts};
use crate::Portal;
use crate::api::PageParams;
use crate::api::applications::FindingParams;
use crate::api::artifacts::{ArtifactParams, find};
use crate::api::packages::PackageParams;
use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::{Artifact, ArtifactComponent, Page, Workload};
use crate::store::{FindingSort, PackageSort};
use crate::time::duration;

/// Components and workloads that stand on the artifact's own page.
const FOLDED_ITEMS: u32 = 20;

fn way_below(artifact: &Artifact) -> Vec<(String, String)> {
    vec![
        ("Artifacts".to_owned(), "/artifacts".to_owned()),
        (labels::artifact_name(artifact), links::artifact(&artifact.artifact)),
    ]
}

/// `/artifacts`.
pub async fn list(
    State(portal): State<Arc<Portal>>,
    Params(mut params): Params<ArtifactParams>,
) -> PageAnswer {
    params.limit = params.limit.or(Some(PAGE_ITEMS));
    let (filter, wanted) = params.read()?;
    let found = portal.store.artifacts(&filter, &wanted).await?;
    let query = [
        ("q", filter.text.as_deref().unwrap_or_default()),
        ("scanned", filter.scanned.as_deref().unwrap_or_default()),
    ];
    let content = html! {
        h1 { "Artifacts" }
        p.lead { "Images, directories of components, and hosts: what is scanned and run." }
        form.filters action="/artifacts" method="get" aria-label="Filter artifacts" {
            label { span { "Name or key" } input type="search" name="q" value=[filter.text.as_deref()]; }
            (parts::choice("scanned", "Scanned", filter.scanned.as_deref(), &[("yes", "Scanned"), ("no", "Observed only")]))
            div.actions { button type="submit" { "Apply" } a href="/artifacts" { "Clear" } }
        }
        div.scroll tabindex="0" role="region" aria-label="Artifacts" {
            table {
                caption { "Artifacts by key." }
                thead { tr {
                    th scope="col" { "Artifact" } th scope="col" { "Scanned" } th.count scope="col" { "Packages" }
                    th.count scope="col" { "Vulnerable" } th.count scope="col" { "Components" }
                    th.count scope="col" { "Running now" } th.count scope="col" { "Alerts" }
                } }
                tbody {
                    @for artifact in &found.items { tr {
                        th scope="row" {
                            a href=(links::artifact(&artifact.artifact)) { (labels::artifact_name(artifact)) }
                            div.muted.key { (artifact.artifact) }
                        }
                        td { @if artifact.scanned { (labels::time(artifact.scanned_at.as_deref(), "yes")) } @else { strong { "not scanned" } } }
                        td.count { (number(artifact.package_count)) }
                        td.count { (number(artifact.vulnerable_package_count)) }
                        td.count { (number(artifact.component_count)) }
                        td.count { (number(artifact.live_workload_count)) }
                        td.count { (number(artifact.alert_count)) }
                    } }
                    @if found.items.is_empty() { tr { td.empty colspan="7" { "No artifact fits." } } }
                }
            }
        }
        (parts::pager("/artifacts", &query, wanted.after.is_none(), found.next_cursor.as_deref()))
    };
    Ok(Html(page("Artifacts", Some(Section::Artifacts), &[], &content).into_string()))
}

/// `/artifacts/{artifact}`.
pub async fn one(
    State(portal): State<Arc<Portal>>,
    Segments(key): Segments<String>,
    Params(params): Params<PackageParams>,
) -> PageAnswer {
    let artifact = find(&portal, &key).await?;
    let few_components = PageRequest::new(&["artifact components", &key], Some(FOLDED_ITEMS), None)?;
    let few_workloads = PageRequest::new(&["artifact workloads", &key], Some(FOLDED_ITEMS), None)?;
    let base = links::artifact(&key);
    let (components, workloads, packages) = tokio::try_join!(
        portal.store.artifact_components(&key, &few_components),
        portal.store.artifact_workloads(&key, &few_workloads),
        package_section(&portal, &key, &base, params),
    )?;
    let content = html! {
        h1 { (labels::artifact_name(&artifact)) }
        p.lead.key { (artifact.artifact) }
        (state(&artifact))
        (facts(&artifact, &base))
        (warnings(&artifact))
        section #components {
            h2 { "Who runs it" }
            (component_table(&components))
            @if components.next_cursor.is_some() { p { a href={ (base) "/components" } { "All components" } } }
        }
        section #workloads {
            h2 { "Workloads" }
            (workload_table(&workloads))
            @if workloads.next_cursor.is_some() {
                p { a href={ (base) "/workloads" } { "All " (number(artifact.workload_count)) " workloads" } }
            }
        }
        section #packages { h2 { "Packages" } (packages) }
    };
    let way = [("Artifacts".to_owned(), "/artifacts".to_owned())];
    let title = labels::artifact_name(&artifact);
    Ok(Html(page(&title, Some(Section::Artifacts), &way, &content).into_string()))
}

async fn package_section(
    portal: &Portal,
    key: &str,
    address: &str,
    mut params: PackageParams,
) -> Result<Markup, PortalError> {
    params.limit = params.limit.or(Some(PAGE_ITEMS));
    let (filter, sort, wanted) = params.read(key, PackageSort::Severity)?;
    let (found, matching) = tokio::try_join!(
        portal.store.artifact_packages(key, &filter, sort, &wanted),
        portal.store.artifact_package_count(key, &filter),
    )?;
    let caption = html! {
        (count_of(i64::try_from(matching).unwrap_or(i64::MAX), "package", "packages"))
        @if filter.is_empty() { " in all" } @else { " that fit the filter" }
        "; " (number(found.items.len())) " on this page. The use is that by any component."
    };
    Ok(html! {
        (parts::package_filters(address, &filter, sort))
        (parts::package_table(&caption, &found.items, None))
        (parts::pager(address, &parts::package_query(&filter, sort), wanted.after.is_none(), found.next_cursor.as_deref()))
    })
}

fn state(artifact: &Artifact) -> Markup {
    html! {
        @if !artifact.unidentified_reason.is_empty() {
            p.notice.bad {
                strong { "Not identified: " } (artifact.unidentified_reason)
                @if !artifact.moved_to.is_empty() {
                    ". It continues as " a href=(links::artifact(&artifact.moved_to)) { (labels::short_key(&artifact.moved_to)) }
                }
            }
        }
        @if !artifact.scanned {
            p.notice {
                strong { "Observed but not scanned: " }
                "only packages that were seen in use are known. Scan it with " code { "plimsoll scan" } " to see what is unused or vulnerable."
            }
        } @else if artifact.database_version.is_empty() {
            p.notice {
                strong { "Scanned without a vulnerability database: " } "no package is assessed. Build one with "
                code { "plimsoll db build" } " and scan again."
            }
        }
    }
}

fn facts(artifact: &Artifact, base: &str) -> Markup {
    html! {
        dl.strip {
            (parts::fact("Packages", &html! { (number(artifact.package_count)) }))
            (parts::fact("Vulnerable", &html! { (number(artifact.vulnerable_package_count)) }))
            (parts::fact("Findings", &html! { a href={ (base) "/findings" } { (number(artifact.finding_count)) } }))
            (parts::fact("Components", &html! { (number(artifact.component_count)) }))
            (parts::fact("Running now", &html! { (number(artifact.live_workload_count)) }))
            (parts::fact("Alerts", &html! { a href=(links::with_query("/alerts", &[("artifact", &artifact.artifact)])) { (number(artifact.alert_count)) } }))
            (parts::fact("Used, owned by no package", &html! { (count_of(artifact.unowned_path_count, "path", "paths")) }))
            (parts::fact("Owner not known yet", &html! { (count_of(artifact.unresolved_path_count, "path", "paths")) }))
        }
        dl.pairs {
            @if artifact.scanned {
                dt { "Scanned" } dd { (labels::time(artifact.scanned_at.as_deref(), "–")) " UTC by scanner " (artifact.scanner_version) }
                dt { "Database" } dd { @if artifact.database_version.is_empty() { span.muted { "none" } } @else { (artifact.database_version) } }
            }
            @if !artifact.os.pretty_name.is_empty() { dt { "Distribution" } dd { (artifact.os.pretty_name) } }
            @if !artifact.platform.os.is_empty() { dt { "Platform" } dd { (artifact.platform.os) "/" (artifact.platform.architecture) } }
            @if artifact.names.len() > 1 {
                dt { "Names" } dd { ul.plain { @for name in &artifact.names { li { code { (name) } } } } }
            }
            @if !artifact.aliases.is_empty() {
                dt { "Other digests" } dd { ul.plain { @for alias in &artifact.aliases { li { code.key { (alias) } } } } }
            }
        }
    }
}

fn warnings(artifact: &Artifact) -> Markup {
    html! {
        @if !artifact.warnings.is_empty() {
            section #warnings {
                h2 { "Scan warnings" }
                div.scroll tabindex="0" role="region" aria-label="Scan warnings" {
                    table {
                        caption { "What the scan could not read. Nothing else is lost by it." }
                        thead { tr { th scope="col" { "What" } th scope="col" { "Warning" } th scope="col" { "What to do" } } }
                        tbody { @for warning in &artifact.warnings { tr {
                            th scope="row" { code { (warning.subject) } }
                            td { (warning.message) " " span.muted { "(" (warning.code) ")" } }
                            td { (warning.remedy) }
                        } } }
                    }
                }
            }
        }
    }
}

fn component_table(found: &Page<ArtifactComponent>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Components" {
            table {
                caption { "Every component version that uses this artifact." }
                thead { tr {
                    th scope="col" { "Component" } th scope="col" { "Application" } th.count scope="col" { "Workloads" }
                    th.count scope="col" { "Running now" } th scope="col" { "First seen" } th scope="col" { "Last seen" }
                } }
                tbody {
                    @for component in &found.items { tr {
                        @if component.application.is_empty() {
                            th scope="row" { span.muted { "no component named" } } td { "–" }
                        } @else {
                            th scope="row" { a href=(links::component_of(&component.application, &component.component, &component.version)) {
                                (component.component) " " span.version { (component.version) } } }
                            td { a href=(links::application(&component.application)) { (component.application) } }
                        }
                        td.count { (number(component.workload_count)) }
                        td.count { (number(component.live_workload_count)) }
                        td { (labels::time(component.first_seen.as_deref(), "never ran")) }
                        td { (labels::time(component.last_seen.as_deref(), "–")) }
                    } }
                    @if found.items.is_empty() { tr { td.empty colspan="6" { "No component uses it." } } }
                }
            }
        }
    }
}

fn workload_table(found: &Page<Workload>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Workloads" {
            table {
                caption { "Instances that ran, and what was watched of each. Times are UTC." }
                thead { tr {
                    th scope="col" { "Workload" } th scope="col" { "Component" } th scope="col" { "Node" }
                    th scope="col" { "Started" } th scope="col" { "Stopped" } th scope="col" { "Watched" }
                    th.count scope="col" { "Events lost" }
                } }
                tbody {
                    @for workload in &found.items { (workload_row(workload)) }
                    @if found.items.is_empty() { tr { td.empty colspan="7" { "It was not seen running." } } }
                }
            }
        }
    }
}

fn workload_row(workload: &Workload) -> Markup {
    let name = if workload.container_name.is_empty() {
        workload.command.join(" ")
    } else {
        workload.container_name.clone()
    };
    let unrepaired: i64 = match workload.losses.is_empty() {
        true => workload.events_lost,
        false => workload.losses.iter().filter(|loss| !loss.repaired).map(|loss| loss.events_lost).sum(),
    };
    html! {
        tr {
            th scope="row" {
                @if name.is_empty() { (workload.workload_id) } @else { code { (name) } }
                div.muted.key { (workload.kind) " · " (workload.workload_id) }
                @if !workload.pod_name.is_empty() { div.muted { "pod " (workload.pod_namespace) "/" (workload.pod_name) } }
                @if workload.sandboxed { div { strong { "Sandboxed: no probe can look inside" } } }
                @if !workload.unidentified_reason.is_empty() { div { strong { (workload.unidentified_reason) } } }
            }
            td {
                @if workload.application.is_empty() { span.muted { "none named" } }
                @else { a href=(links::component_of(&workload.application, &workload.component, &workload.version)) {
                    (workload.component) " " (workload.version) } }
            }
            td { (workload.node_name) }
            td { (labels::time(workload.started_at.as_deref(), "unknown")) }
            td { (labels::time(workload.stopped_at.as_deref(), "running")) }
            td {
                ul.plain {
                    @for interval in &workload.watched { li {
                        (interval.probe) " " span.muted {
                            (duration(interval.until_ms - interval.from_ms))
                            @if interval.from_first_exec { ", from the first exec" } @else { ", began late" }
                        }
                    } }
                    @for one in &workload.observed { li { (one.sentence()) } }
                    @for (probe, reason) in &workload.unavailable_probes { li { strong { (labels::unavailable(probe)) ": " } (reason) } }
                }
                @if workload.watched.is_empty() && workload.unavailable_probes.is_empty() { span.muted { "nothing" } }
            }
            td.count {
                (number(unrepaired))
                @if workload.events_lost > unrepaired { div.muted { "and " (number(workload.events_lost - unrepaired)) " found again" } }
            }
        }
    }
}

/// `/artifacts/{artifact}/packages`.
pub async fn packages(
    State(portal): State<Arc<Portal>>,
    Segments(key): Segments<String>,
    Params(params): Params<PackageParams>,
) -> PageAnswer {
    let artifact = find(&portal, &key).await?;
    let address = format!("{}/packages", links::artifact(&key));
    let section = package_section(&portal, &key, &address, params).await?;
    let content = html! { h1 #packages { "Packages of " (labels::artifact_name(&artifact)) } (section) };
    Ok(Html(page("Packages", Some(Section::Artifacts), &way_below(&artifact), &content).into_string()))
}

/// `/artifacts/{artifact}/findings`.
pub async fn findings(
    State(portal): State<Arc<Portal>>,
    Segments(key): Segments<String>,
    Params(mut params): Params<FindingParams>,
) -> PageAnswer {
    params.limit = params.limit.or(Some(PAGE_ITEMS));
    let artifact = find(&portal, &key).await?;
    let (filter, sort, wanted) = params.read(&key, FindingSort::Priority)?;
    let found = portal.store.artifact_findings(&key, &filter, sort, &wanted).await?;
    let address = format!("{}/findings", links::artifact(&key));
    let caption = html! { "Highest priority first, with the use by any component." };
    let content = html! {
        h1 { "Findings of " (labels::artifact_name(&artifact)) }
        (parts::finding_filters(&address, &filter))
        (parts::finding_table(&caption, &found.items, None))
        (parts::pager(&address, &parts::finding_query(&filter), wanted.after.is_none(), found.next_cursor.as_deref()))
    };
    Ok(Html(page("Findings", Some(Section::Artifacts), &way_below(&artifact), &content).into_string()))
}

/// `/artifacts/{artifact}/components`.
pub async fn components(
    State(portal): State<Arc<Portal>>,
    Segments(key): Segments<String>,
    Params(params): Params<PageParams>,
) -> PageAnswer {
    let artifact = find(&portal, &key).await?;
    let question = ["artifact components", &key];
    let wanted = PageRequest::new(&question, params.limit.or(Some(PAGE_ITEMS)), params.cursor.as_deref())?;
    let found = portal.store.artifact_components(&key, &wanted).await?;
    let address = format!("{}/components", links::artifact(&key));
    let content = html! {
        h1 { "Components that run " (labels::artifact_name(&artifact)) }
        (component_table(&found))
        (parts::pager(&address, &[], wanted.after.is_none(), found.next_cursor.as_deref()))
    };
    Ok(Html(page("Components", Some(Section::Artifacts), &way_below(&artifact), &content).into_string()))
}

/// `/artifacts/{artifact}/workloads`.
pub async fn workloads(
    State(portal): State<Arc<Portal>>,
    Segments(key): Segments<String>,
    Params(params): Params<PageParams>,
) -> PageAnswer {
    let artifact = find(&portal, &key).await?;
    let question = ["artifact workloads", &key];
    let wanted = PageRequest::new(&question, params.limit.or(Some(PAGE_ITEMS)), params.cursor.as_deref())?;
    let found = portal.store.artifact_workloads(&key, &wanted).await?;
    let address = format!("{}/workloads", links::artifact(&key));
    let content = html! {
        h1 { "Workloads of " (labels::artifact_name(&artifact)) }
        (workload_table(&found))
        (parts::pager(&address, &[], wanted.after.is_none(), found.next_cursor.as_deref()))
    };
    Ok(Html(page("Workloads", Some(Section::Artifacts), &way_below(&artifact), &content).into_string()))
}
