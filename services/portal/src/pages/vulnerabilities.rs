//! `/vulnerabilities/{id}`: who is affected, and who executes the affected package.
//! It must tell "not used" from "not measured".

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};

use super::labels::{self, number};
use super::layout::page;
use super::packages::{artifact_cell, component_uses};
use super::{PAGE_ITEMS, PageAnswer, Params, Segments, links, parts};
use crate::Portal;
use crate::api::PageParams;
use crate::api::vulnerabilities::find;
use crate::model::VulnerabilityDetail;

/// `/vulnerabilities/{id}`.
pub async fn one(
    State(portal): State<Arc<Portal>>,
    Segments(id): Segments<String>,
    Params(mut params): Params<PageParams>,
) -> PageAnswer {
    params.limit = params.limit.or(Some(PAGE_ITEMS));
    let on_first = params.cursor.as_deref().is_none_or(str::is_empty);
    let found = find(&portal, &id, &params).await?;
    let count = |value: u64| number(i64::try_from(value).unwrap_or(i64::MAX));
    let content = html! {
        h1 { (found.id) }
        p.lead { (labels::severity(&found.severity)) " " (labels::exploited(found.known_exploited)) " " (found.summary) }
        dl.strip {
            (parts::fact("Artifacts affected", &html! { (count(found.artifact_count)) }))
            (parts::fact("Artifacts where it is used", &html! { (count(found.artifact_count_used)) }))
            (parts::fact("Packages affected", &html! { (count(found.finding_count)) }))
            @if let Some(score) = found.cvss_score { (parts::fact("CVSS", &html! { (format!("{score:.1}")) })) }
            @if let Some(epss) = found.epss { (parts::fact("EPSS", &html! { (format!("{:.1} %", epss * 100.0)) })) }
        }
        (description(&found))
        (table(&found))
        (parts::pager(&links::vulnerability(&id), &[], on_first, found.next_cursor.as_deref()))
    };
    Ok(Html(page(&found.id, None, &[], &content).into_string()))
}

fn description(found: &VulnerabilityDetail) -> Markup {
    html! {
        dl.pairs {
            @if !found.aliases.is_empty() { dt { "Also known as" } dd { (found.aliases.join(", ")) } }
            @if !found.advisories.is_empty() { dt { "Advisories" } dd { (found.advisories.join(", ")) } }
            @if !found.cvss_vector.is_empty() { dt { "CVSS vector" } dd { code.key { (found.cvss_vector) } } }
            dt { "Published" } dd { (labels::time(found.published.as_deref(), "unknown")) }
            dt { "Modified" } dd { (labels::time(found.modified.as_deref(), "unknown")) }
        }
    }
}

fn table(found: &VulnerabilityDetail) -> Markup {
    html! {
        section {
            h2 { "Who is affected, who uses it" }
            div.scroll tabindex="0" role="region" aria-label="Affected packages" {
                table {
                    caption { "Affected packages in each artifact, highest priority first, with the use by each component." }
                    thead { tr {
                        th scope="col" { "Artifact" } th scope="col" { "Package" } th scope="col" { "Use by any component" }
                        th scope="col" { "Fixed in" } th scope="col" { "Components" } th.count scope="col" { "Priority" }
                    } }
                    tbody { @for item in &found.items {
                        @let finding = &item.finding;
                        tr {
                            th scope="row" { (artifact_cell(&finding.artifact, &item.artifact_names)) }
                            td {
                                a href=(links::purl(&finding.purl)) { (finding.name) } " " span.version { (finding.version) }
                                @if !finding.match_reason.is_empty() { div.muted { (finding.match_reason) } }
                                (parts::affected_imports(&finding.imports))
                            }
                            td {
                                (labels::usage(&finding.usage))
                                (labels::evidence(finding.rung.as_deref()))
                            }
                            td { @if finding.fixed_in.is_empty() { span.muted { "no fix known" } } @else { (finding.fixed_in.join(", ")) } }
                            td { (component_uses(&item.components)) }
                            td.count { span title=(finding.priority_reason) { (finding.priority) } }
                        }
                    } }
                }
            }
        }
    }
}
