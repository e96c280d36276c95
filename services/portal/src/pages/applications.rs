//! The list of applications, and one application with its component versions.
//! Counts must say what they leave out.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};

use super::labels::{self, count_of, number};
use super::layout::{Section, page};
use super::{PAGE_ITEMS, PageAnswer, Params, Segments, links, parts};
use crate::Portal;
use crate::api::applications::{ApplicationParams, detail};
use crate::api::{PageParams, filled};
use crate::cursor::PageRequest;
use crate::model::{Application, Cell, Component};

/// `/`: all applications.
pub async fn list(
    State(portal): State<Arc<Portal>>,
    Params(params): Params<ApplicationParams>,
) -> PageAnswer {
    let text = filled(params.q);
    let question = ["applications", text.as_deref().unwrap_or_default()];
    let wanted = PageRequest::new(&question, params.limit.or(Some(PAGE_ITEMS)), params.cursor.as_deref())?;
    let found = portal.store.applications(text.as_deref(), &wanted).await?;
    let query = [("q", text.as_deref().unwrap_or_default())];
    let content = html! {
        h1 { "Applications" }
        form.filters action="/" method="get" aria-label="Filter applications" {
            label { span { "Name" } input type="search" name="q" value=[text.as_deref()]; }
            div.actions { button type="submit" { "Apply" } a href="/" { "Clear" } }
        }
        @if found.items.is_empty() && wanted.after.is_none() {
            @if text.is_some() { p.empty { "No application has this in its name." } } @else { (nothing_yet()) }
        } @else {
            (table(&found.items))
        }
        (parts::pager("/", &query, wanted.after.is_none(), found.next_cursor.as_deref()))
    };
    Ok(Html(page("Applications", Some(Section::Applications), &[], &content).into_string()))
}

fn nothing_yet() -> Markup {
    html! {
        section.notice {
            h2 { "Nothing here yet" }
            p { "Scan an application and run it under observation; it appears here within seconds:" }
            pre { code {
                "plimsoll scan -s fs -a backend -c pythonapp -V 1.0 mydir/pythonapp\n"
                "plimsoll run  -a backend -c pythonapp -V 1.0 --cmd python run.py"
            } }
            p { "What was observed without a name is listed among the " a href="/artifacts" { "artifacts" } "." }
        }
    }
}

fn table(applications: &[Application]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Applications" {
            table {
                caption {
                    "Applications by name. Vulnerable packages are counted in the artifacts that an application runs, "
                    "with their use by any component; packages of hosts are not counted."
                }
                thead { tr {
                    th scope="col" { "Application" }
                    th.count scope="col" { "Vulnerable and used" }
                    th.count scope="col" { "Vulnerable" }
                    th.count scope="col" { "Component versions" }
                    th.count scope="col" { "Artifacts" }
                    th.count scope="col" { "Running now" }
                    th.count scope="col" { "Alerts" }
                    th scope="col" { "Last seen" }
                } }
                tbody {
                    @for application in applications {
                        tr {
                            th scope="row" { a href=(links::application(&application.application)) { (application.application) } }
                            td.count {
                                @if application.vulnerable_used_package_count > 0 {
                                    strong.bad-text { (number(application.vulnerable_used_package_count)) }
                                } @else { "0" }
                            }
                            td.count { (number(application.vulnerable_package_count)) }
                            td.count { (number(application.component_version_count)) }
                            td.count { (number(application.artifact_count)) }
                            td.count { (number(application.live_workload_count)) }
                            td.count {
                                @if application.alert_count > 0 {
                                    a href=(links::with_query("/alerts", &[("application", &application.application)])) {
                                        (number(application.alert_count))
                                    }
                                } @else { "0" }
                            }
                            td { (labels::time(application.last_seen.as_deref(), "never ran")) }
                        }
                    }
                }
            }
        }
    }
}

/// `/applications/{application}`: its component versions.
pub async fn one(
    State(portal): State<Arc<Portal>>,
    Segments(application): Segments<String>,
    Params(mut params): Params<PageParams>,
) -> PageAnswer {
    params.limit = params.limit.or(Some(PAGE_ITEMS));
    let on_first = params.cursor.as_deref().is_none_or(str::is_empty);
    let found = detail(&portal, application, &params).await?;
    let name = &found.application;
    let path = links::application(name);
    let content = html! {
        h1 { (name) }
        div.scroll tabindex="0" role="region" aria-label="Component versions" {
            table {
                caption { "Component versions of this application, with the number of packages in each cell of the recommendation table." }
                thead {
                    tr {
                        th scope="col" rowspan="2" { "Component" }
                        th scope="colgroup" colspan="2" { "Vulnerable" }
                        th scope="colgroup" colspan="2" { "Not vulnerable" }
                        th.count scope="col" rowspan="2" { "Use open" }
                        th.count scope="col" rowspan="2" { "Not assessed" }
                        th.count scope="col" rowspan="2" { "Running now" }
                        th scope="col" rowspan="2" { "Last seen" }
                    }
                    tr {
                        th.count scope="col" { "used" } th.count scope="col" { "not used" }
                        th.count scope="col" { "used" } th.count scope="col" { "not used" }
                    }
                }
                tbody { @for component in &found.components { (component_row(name, component)) } }
            }
        }
        p.muted { "“Use open” counts packages whose use was not measured or is not measurable; “not assessed” those for which a feed is missing." }
        (parts::pager(&path, &[], on_first, found.next_cursor.as_deref()))
        p { a href=(links::with_query("/alerts", &[("application", name)])) { "Alerts of this application" } }
    };
    let way = [("Applications".to_owned(), "/".to_owned())];
    Ok(Html(page(name, Some(Section::Applications), &way, &content).into_string()))
}

fn component_row(application: &str, component: &Component) -> Markup {
    let sum = |wanted: &dyn Fn(&Cell) -> bool| -> i64 {
        component.cells.iter().filter(|cell| wanted(cell)).map(|cell| cell.package_count).sum()
    };
    let cell =
        |vulnerable: &str, usage: &str| sum(&|cell| cell.vulnerable == vulnerable && cell.usage == usage);
    let urgent = cell("yes", "used");
    let open = sum(&|cell| cell.vulnerable != "not_assessed" && cell.usage.starts_with("not_"));
    html! {
        tr {
            th scope="row" {
                a href=(links::component_of(application, &component.component, &component.version)) {
                    (component.component) " " span.version { (component.version) }
                }
                div.muted { (count_of(i64::try_from(component.artifact_count).unwrap_or(i64::MAX), "artifact", "artifacts")) }
            }
            td.count { @if urgent > 0 { strong.bad-text { (number(urgent)) } } @else { "0" } }
            td.count { (number(cell("yes", "unused"))) }
            td.count { (number(cell("no", "used"))) }
            td.count { (number(cell("no", "unused"))) }
            td.count { (number(open)) }
            td.count { (number(sum(&|cell| cell.vulnerable == "not_assessed"))) }
            td.count { (number(component.live_workload_count)) }
            td { (labels::time(component.last_seen.as_deref(), "never ran")) }
        }
    }
}
