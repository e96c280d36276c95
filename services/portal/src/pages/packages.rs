//! `/packages?purl=`: who has a package, and who uses it.
//! It must never answer "nobody" without saying what was looked for.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};

use super::labels;
use super::layout::page;
use super::{PAGE_ITEMS, PageAnswer, Params, links, parts};
use crate::Portal;
use crate::api::filled;
use crate::api::packages::PurlParams;
use crate::cursor::PageRequest;
use crate::model::{ComponentUse, PackageOccurrence};

/// `/packages?purl=…`; without a purl, a form.
pub async fn occurrences(
    State(portal): State<Arc<Portal>>,
    Params(params): Params<PurlParams>,
) -> PageAnswer {
    let Some(purl) = filled(params.purl) else {
        let content = html! { h1 { "Find a package" } (form("")) };
        return Ok(Html(page("Find a package", None, &[], &content).into_string()));
    };
    let wanted =
        PageRequest::new(&["purl", &purl], params.limit.or(Some(PAGE_ITEMS)), params.cursor.as_deref())?;
    let found = portal.store.package_occurrences(&purl, &wanted).await?;
    let content = html! {
        h1 { "Who has this package" }
        (form(&purl))
        @if found.items.is_empty() && wanted.after.is_none() {
            p.empty { "No known artifact has a package with this package URL. Look at its spelling: names are as their ecosystem writes them, and a version, if given, must be exact." }
        } @else { (table(&found.items)) }
        (parts::pager("/packages", &[("purl", &purl)], wanted.after.is_none(), found.next_cursor.as_deref()))
    };
    Ok(Html(page(&purl, None, &[], &content).into_string()))
}

fn form(purl: &str) -> Markup {
    html! {
        form.filters action="/packages" method="get" aria-label="Find a package" {
            label.wide { span { "Package URL; without a version it takes all, without qualifiers any" }
                input type="search" name="purl" value=(purl) placeholder="pkg:pypi/jinja2@2.11.2"; }
            div.actions { button type="submit" { "Find" } }
        }
    }
}

fn table(items: &[PackageOccurrence]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Artifacts that have the package" {
            table {
                caption { "Artifacts that contain it, and the use by each component that runs them." }
                thead { tr {
                    th scope="col" { "Package" } th scope="col" { "Artifact" } th scope="col" { "Vulnerable" }
                    th scope="col" { "Use by any component" } th scope="col" { "Components" }
                } }
                tbody { @for item in items {
                    @let package = &item.package;
                    tr {
                        th scope="row" {
                            (package.name) " " span.version { (package.version) }
                            div.muted.key { (package.purl) }
                        }
                        td { (artifact_cell(&package.artifact, &item.artifact_names)) }
                        td {
                            (labels::vulnerable(&package.vulnerable))
                            @if package.vulnerable == "yes" { " " (labels::severity(&package.severity)) " " (labels::exploited(package.known_exploited)) }
                        }
                        td { (labels::usage(&package.usage)) (labels::evidence(package.rung.as_deref())) }
                        td { (component_uses(&item.components)) }
                    }
                } }
            }
        }
    }
}

/// An artifact by its first name and its key.
pub(super) fn artifact_cell(key: &str, names: &[String]) -> Markup {
    let name = names.first().cloned().unwrap_or_else(|| labels::short_key(key));
    html! { a href=(links::artifact(key)) { (name) } div.muted.key { (key) } }
}

/// Components with their own use.
pub(super) fn component_uses(components: &[ComponentUse]) -> Markup {
    html! {
        @if components.is_empty() { span.muted { "none" } }
        ul.plain { @for component in components { li {
            a href=(links::component_of(&component.application, &component.component, &component.version)) {
                (component.application) " / " (component.component) " " (component.version) }
            " " (labels::usage(&component.usage))
            @if let Some(last) = &component.last_used { " " span.muted { "last " (labels::time(Some(last), "")) } }
        } } }
    }
}
