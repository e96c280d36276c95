//! One package of a component version: why it is called used or not, with every file, and what to do.
//! Its list of files is paged and must lead to the last one.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};

use super::component::way_below;
use super::labels::{self, count_of, number};
use super::layout::{Section, page};
use super::{PAGE_ITEMS, PageAnswer, Params, Segments, links, parts};
use crate::Portal;
use crate::api::packages::{FileParams, PackagePath, no_such_package};
use crate::model::{Package, Page, UsedFile};

/// `…/packages/{artifact}/{package_id}`.
pub async fn one(
    State(portal): State<Arc<Portal>>,
    Segments(path): Segments<PackagePath>,
    Params(params): Params<FileParams>,
) -> PageAnswer {
    let of = path.component();
    let wanted = path.files_page(&params, Some(PAGE_ITEMS * 2))?;
    let (artifact, package_id, text) = (&path.artifact, &path.package_id, params.text());
    let (package, files, matching) = tokio::try_join!(
        portal.store.component_package(&of, artifact, package_id),
        portal.store.component_package_files(&of, artifact, package_id, text, &wanted),
        portal.store.component_package_file_count(&of, artifact, package_id, text),
    )?;
    let package = package.ok_or_else(|| no_such_package(&path))?;
    let address = links::component_package(&of, &path.artifact, &path.package_id);
    let content = html! {
        h1 { (package.name) " " span.version { (package.version) } }
        p.lead { (labels::vulnerable(&package.vulnerable)) " " (labels::usage(&package.usage)) " " (labels::exploited(package.known_exploited)) }
        section.advice-box {
            h2 { "What to do: " (labels::recommendation_name(&package.recommendation.code)) }
            p { (package.recommendation.text) }
            @if !package.recommendation.held_by.is_empty() {
                p { "Held by: " (package.recommendation.held_by.join(", ")) }
            }
        }
        (usage(&package))
        (vulnerabilities(&package))
        (file_section(&package, &Files { page: files, matching, text, on_first: wanted.after.is_none() }, &address))
        (identity(&package))
    };
    Ok(Html(page(&package.name, Some(Section::Applications), &way_below(&of), &content).into_string()))
}

fn usage(package: &Package) -> Markup {
    html! {
        section {
            h2 { "Use" }
            @if !package.use_reason.is_empty() { p { (package.use_reason) } }
            @if !package.use_remedy.is_empty() { p { strong { "To find out: " } (package.use_remedy) } }
            @if !package.ambiguous_with.is_empty() {
                p {
                    "Some of what was used may be another package's, which has the same names in the same place: "
                    @for (number, purl) in package.ambiguous_with.iter().enumerate() {
                        @if number > 0 { ", " }
                        a href=(links::purl(purl)) { code { (purl) } }
                    }
                    "."
                }
            }
            p { (parts::coverage_sentence(&package.coverage)) }
            dl.pairs {
                dt { "Strongest evidence" }
                dd { @match &package.rung { Some(rung) => (labels::rung_name(rung)), None => span.muted { "nothing was seen" } } }
                dt { "First used" } dd { (labels::time(package.first_used.as_deref(), "–")) }
                dt { "Last used" } dd { (labels::time(package.last_used.as_deref(), "–")) }
                dt { "Watched since" } dd { (labels::time_ms(package.coverage.since_ms, "–")) }
                dt { "Watched until" } dd { (labels::time_ms(package.coverage.until_ms, "–")) }
            }
        }
    }
}

fn vulnerabilities(package: &Package) -> Markup {
    let listed = i64::try_from(package.vulnerabilities.len()).unwrap_or(i64::MAX);
    html! {
        section {
            h2 { "Vulnerabilities" }
            @if package.vulnerabilities.is_empty() {
                p { (labels::vulnerable(&package.vulnerable)) " " (package.not_assessed_reason) }
            } @else {
                div.scroll tabindex="0" role="region" aria-label="Vulnerabilities" {
                    table {
                        caption {
                            (count_of(package.vulnerability_count, "vulnerability", "vulnerabilities")) ", worst first"
                            @if listed < package.vulnerability_count { "; the first " (number(listed)) " are listed, the findings of the component hold all" }
                            "."
                        }
                        thead { tr { th scope="col" { "Vulnerability" } th scope="col" { "Severity" } th scope="col" { "Fixed in" } } }
                        tbody { @for entry in &package.vulnerabilities { tr {
                            th scope="row" {
                                a href=(links::vulnerability(&entry.id)) { (entry.id) }
                                (parts::why_it_matched(entry))
                            }
                            td { (labels::severity(&entry.severity)) " " (labels::exploited(entry.known_exploited)) }
                            td { @if entry.fixed_in.is_empty() { span.muted { "no fix known" } } @else { (entry.fixed_in.join(", ")) } }
                        } } }
                    }
                }
            }
        }
    }
}

/// One page of the list of files.
struct Files<'a> {
    page: Page<UsedFile>,
    /// All that fit the text.
    matching: u64,
    text: Option<&'a str>,
    on_first: bool,
}

fn file_section(package: &Package, files: &Files, address: &str) -> Markup {
    let total = package.file_count + package.class_count;
    let items = &files.page.items;
    html! {
        section #files {
            h2 { "Files, classes and modules seen in use" }
            @if total == 0 { p.empty { "None." } } @else {
                form.filters action={ (address) "#files" } method="get" aria-label="Search files and classes" {
                    label { span { "Path or name contains" } input type="search" name="q" value=[files.text]; }
                    div.actions { button type="submit" { "Search" } a href={ (address) "#files" } { "Show all" } }
                }
                @if items.is_empty() { p.empty { "None of the " (number(total)) " fits." } } @else {
                    (file_table(package, files))
                    (parts::pager(address, &[("q", files.text.unwrap_or_default())], files.on_first,
                        files.page.next_cursor.as_deref()))
                }
            }
        }
    }
}

fn file_table(package: &Package, files: &Files) -> Markup {
    let total = package.file_count + package.class_count;
    let (items, matching) = (&files.page.items, i64::try_from(files.matching).unwrap_or(i64::MAX));
    html! {
        div.scroll tabindex="0" role="region" aria-label="Files, classes and modules" {
            table {
                caption {
                    @if let Some(text) = files.text {
                        (number(matching)) " of " (number(total)) " contain “" (text) "”"
                    } @else {
                        (number(package.file_count)) " files, " (number(package.class_count)) " classes and modules"
                        @if matching < total { "; the first " (number(matching)) " are kept, the rest is only counted" }
                    }
                    @if i64::try_from(items.len()).is_ok_and(|shown| shown < matching) { "; " (number(items.len())) " on this page" }
                    ". Paths are relative to the root of the artifact; times are UTC."
                }
                thead { tr {
                    th scope="col" { "Path or name" } th scope="col" { "Kind" } th scope="col" { "Evidence" }
                    th scope="col" { "First seen" } th scope="col" { "Last seen" }
                } }
                tbody { @for file in items { tr {
                    th scope="row" { (parts::file_name(file)) }
                    td { (file.kind) }
                    td { (labels::rung_name(&file.rung)) }
                    td { (labels::time_ms(file.first_seen_ms, "–")) }
                    td { (labels::time_ms(file.last_seen_ms, "–")) }
                } } }
            }
        }
    }
}

fn identity(package: &Package) -> Markup {
    html! {
        section {
            h2 { "Package" }
            dl.pairs {
                dt { "Package URL" } dd { a href=(links::purl(&package.purl)) { code { (package.purl) } } }
                dt { "Kind" } dd { (labels::kind_name(&package.kind)) ", " (package.ecosystem) }
                dt { "Artifact" } dd { a href=(links::artifact(&package.artifact)) { code { (package.artifact) } } }
                dt { "In a scan" } dd { @if package.scanned { "yes" } @else { "no, only observed" } }
                @if !package.locations.is_empty() {
                    dt { "Locations" }
                    dd { ul.plain { @for location in &package.locations { li {
                        code { (location.path) }
                        @if !location.nested_path.is_empty() { " → " code { (location.nested_path) } }
                        @if !location.layer.is_empty() { " " span.muted.key { "layer " (location.layer) } }
                    } } } }
                }
            }
        }
    }
}
