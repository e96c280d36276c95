//! `/api/v1/alerts`: all runtime risks, newest first.
//! It must never hide an alert whose component is unknown.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, Params, Problems, filled};
use crate::Portal;
use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::{Alert, Page};
use crate::store::AlertFilter;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AlertParams {
    /// Application.
    pub application: Option<String>,
    /// Component.
    pub component: Option<String>,
    /// Version of the component.
    pub version: Option<String>,
    /// Artifact key.
    pub artifact: Option<String>,
    /// critical, high, medium or low.
    pub severity: Option<String>,
    /// Name of the rule.
    pub rule: Option<String>,
    /// Part of the title or the path, in any case.
    pub q: Option<String>,
    /// Items on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl AlertParams {
    pub fn read(self) -> Result<(AlertFilter, PageRequest), PortalError> {
        let filter = AlertFilter {
            application: filled(self.application),
            component: filled(self.component),
            version: filled(self.version),
            artifact: filled(self.artifact),
            severity: filled(self.severity),
            rule: filled(self.rule),
            text: filled(self.q),
        }
        .check()?;
        let question = ["alerts", &format!("{filter:?}")];
        let page = PageRequest::new(&question, self.limit, self.cursor.as_deref())?;
        Ok((filter, page))
    }
}

/// Lists the alerts, newest first.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "alerts", params(AlertParams),
    responses((status = 200, description = "One page of alerts", body = Page<Alert>), Problems))]
pub async fn list(
    State(portal): State<Arc<Portal>>,
    Params(params): Params<AlertParams>,
) -> Answer<Page<Alert>> {
    let (filter, page) = params.read()?;
    Ok(Json(portal.store.alerts(&filter, &page).await?))
}
