//! `/alerts`: runtime risks, newest first.
//! It must never hide an alert whose component is unknown.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use maud::html;

use super::layout::{Section, page};
use super::{PAGE_ITEMS, PageAnswer, Params, parts};
use crate::Portal;
use crate::api::alerts::AlertParams;

/// `/alerts`.
pub async fn list(State(portal): State<Arc<Portal>>, Params(mut params): Params<AlertParams>) -> PageAnswer {
    params.limit = params.limit.or(Some(PAGE_ITEMS));
    let (filter, wanted) = params.read()?;
    let (found, matching) =
        tokio::try_join!(portal.store.alerts(&filter, &wanted), portal.store.alert_count(&filter))?;
    let value = |value: &Option<String>| value.clone().unwrap_or_default();
    let pairs = [
        ("application", value(&filter.application)),
        ("component", value(&filter.component)),
        ("version", value(&filter.version)),
        ("artifact", value(&filter.artifact)),
        ("severity", value(&filter.severity)),
        ("rule", value(&filter.rule)),
        ("q", value(&filter.text)),
    ];
    let query: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let content = html! {
        h1 { "Alerts" }
        p.lead {
            (super::labels::count_of(i64::try_from(matching).unwrap_or(i64::MAX), "runtime risk", "runtime risks"))
            ", newest first. Times are UTC."
        }
        form.filters action="/alerts" method="get" aria-label="Filter alerts" {
            label { span { "Title or path" } input type="search" name="q" value=[filter.text.as_deref()]; }
            (parts::choice("severity", "Severity", filter.severity.as_deref(),
                &[("critical", "Critical"), ("high", "High"), ("medium", "Medium"), ("low", "Low")]))
            (parts::choice("rule", "Rule", filter.rule.as_deref(),
                &[("program-not-in-image", "Program not in the image"), ("shell-from-server", "Shell from a server")]))
            label { span { "Application" } input type="search" name="application" value=[filter.application.as_deref()]; }
            @for (name, value) in pairs.iter().filter(|(name, value)| ["component", "version", "artifact"].contains(name) && !value.is_empty()) {
                input type="hidden" name=(name) value=(value);
            }
            div.actions { button type="submit" { "Apply" } a href="/alerts" { "Clear" } }
        }
        (parts::alert_list(&found.items))
        (parts::pager("/alerts", &query, wanted.after.is_none(), found.next_cursor.as_deref()))
    };
    Ok(Html(page("Alerts", Some(Section::Alerts), &[], &content).into_string()))
}
