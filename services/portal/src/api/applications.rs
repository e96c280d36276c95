//! `/api/v1/applications…`: applications, component versions, their findings and alerts.
//! It must never answer for a component that no artifact names.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, PageParams, Params, Problems, Segments, filled};
use crate::Portal;
use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::{Alert, Application, ApplicationDetail, ComponentDetail, Finding, Page};
use crate::store::{AlertFilter, ComponentRef, FindingFilter, FindingSort};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ApplicationParams {
    /// Part of the name, in any case.
    pub q: Option<String>,
    /// Items on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FindingParams {
    /// `os` or `application`.
    pub kind: Option<String>,
    /// `used`, `unused`, `not_measured` or `not_measurable`.
    #[serde(rename = "use")]
    #[param(rename = "use")]
    pub usage: Option<String>,
    /// Severity.
    pub severity: Option<String>,
    /// Part of the vulnerability's id, the package's name or its purl, in any case.
    pub q: Option<String>,
    /// `id` (stable while results come in) or `priority` (highest first).
    #[param(default = "id")]
    pub sort: Option<String>,
    /// Items on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl FindingParams {
    /// The filter, the order and the page that these parameters ask for.
    pub fn read(
        self,
        scope: &str,
        default: FindingSort,
    ) -> Result<(FindingFilter, FindingSort, PageRequest), PortalError> {
        let filter = FindingFilter {
            kind: filled(self.kind),
            usage: filled(self.usage),
            severity: filled(self.severity),
            text: filled(self.q),
        }
        .check()?;
        let sort = FindingSort::parse(filled(self.sort).as_deref(), default)?;
        let question = ["findings", scope, &format!("{filter:?}"), sort.as_str()];
        let page = PageRequest::new(&question, self.limit, self.cursor.as_deref())?;
        Ok((filter, sort, page))
    }
}

/// `application`, `component` and `version` of a path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ComponentPath {
    /// Application.
    application: String,
    /// Component.
    component: String,
    /// Version of the component.
    version: String,
}

impl From<ComponentPath> for ComponentRef {
    fn from(path: ComponentPath) -> Self {
        Self { application: path.application, component: path.component, version: path.version }
    }
}

/// The error for a component that no artifact names.
pub(crate) fn no_such_component(of: &ComponentRef) -> PortalError {
    PortalError::not_found(
        format!(
            "there is no version {:?} of component {:?} of application {:?}",
            of.version, of.component, of.application
        ),
        "scan or run it first: plimsoll scan -a APPLICATION -c COMPONENT -V VERSION …; what is there: /api/v1/applications",
    )
}

/// Lists the applications by name.
#[utoipa::path(get, path = "/api/v1/applications", tag = "applications", params(ApplicationParams),
    responses((status = 200, description = "One page of applications", body = Page<Application>), Problems))]
pub async fn list(
    State(portal): State<Arc<Portal>>,
    Params(params): Params<ApplicationParams>,
) -> Answer<Page<Application>> {
    let text = filled(params.q);
    let question = ["applications", text.as_deref().unwrap_or_default()];
    let page = PageRequest::new(&question, params.limit, params.cursor.as_deref())?;
    Ok(Json(portal.store.applications(text.as_deref(), &page).await?))
}

/// An application with its component versions and the cells of each.
#[utoipa::path(get, path = "/api/v1/applications/{application}", tag = "applications",
    params(("application" = String, Path, description = "Application"), PageParams),
    responses((status = 200, description = "The application", body = ApplicationDetail), Problems))]
pub async fn one(
    State(portal): State<Arc<Portal>>,
    Segments(application): Segments<String>,
    Params(params): Params<PageParams>,
) -> Answer<ApplicationDetail> {
    Ok(Json(detail(&portal, application, &params).await?))
}

pub(crate) async fn detail(
    portal: &Portal,
    application: String,
    params: &PageParams,
) -> Result<ApplicationDetail, PortalError> {
    let page = PageRequest::new(&["components", &application], params.limit, params.cursor.as_deref())?;
    let found = portal.store.components(&application, &page).await?;
    if found.items.is_empty() && page.after.is_none() {
        return Err(PortalError::not_found(
            format!("there is no application {application:?}"),
            "scan or run one of its components first; what is there: /api/v1/applications",
        ));
    }
    Ok(ApplicationDetail { application, components: found.items, next_cursor: found.next_cursor })
}

/// A component version: totals, coverage and artifacts.
#[utoipa::path(get, path = "/api/v1/applications/{application}/components/{component}/versions/{version}",
    tag = "applications", params(ComponentPath),
    responses((status = 200, description = "The component version", body = ComponentDetail), Problems))]
pub async fn component(
    State(portal): State<Arc<Portal>>,
    Segments(path): Segments<ComponentPath>,
) -> Answer<ComponentDetail> {
    Ok(Json(component_detail(&portal, &path.into()).await?))
}

pub(crate) async fn component_detail(
    portal: &Portal,
    of: &ComponentRef,
) -> Result<ComponentDetail, PortalError> {
    let store = &portal.store;
    let of_component = AlertFilter {
        application: Some(of.application.clone()),
        component: Some(of.component.clone()),
        version: Some(of.version.clone()),
        ..AlertFilter::default()
    };
    let (component, totals, coverage, observed, artifacts, alert_count) = tokio::try_join!(
        store.component(of),
        store.component_totals(of),
        store.component_coverage(of),
        store.component_observed(of),
        store.component_artifacts(of),
        store.alert_count(&of_component),
    )?;
    if component.is_none() && totals.package_count == 0 {
        return Err(no_such_component(of));
    }
    let component = component.unwrap_or_default();
    Ok(ComponentDetail {
        application: of.application.clone(),
        component: of.component.clone(),
        version: of.version.clone(),
        totals,
        coverage,
        observed,
        artifacts,
        workload_count: component.workload_count,
        live_workload_count: component.live_workload_count,
        first_seen: component.first_seen,
        last_seen: component.last_seen,
        alert_count,
    })
}

/// The findings of a component version, with its own use of the packages.
#[utoipa::path(get, path = "/api/v1/applications/{application}/components/{component}/versions/{version}/findings",
    tag = "applications", params(ComponentPath, FindingParams),
    responses((status = 200, description = "One page of findings", body = Page<Finding>), Problems))]
pub async fn findings(
    State(portal): State<Arc<Portal>>,
    Segments(path): Segments<ComponentPath>,
    Params(params): Params<FindingParams>,
) -> Answer<Page<Finding>> {
    let of = ComponentRef::from(path);
    let (filter, sort, page) = params.read(&of.question(), FindingSort::Id)?;
    Ok(Json(portal.store.component_findings(&of, &filter, sort, &page).await?))
}

/// The alerts of a component version, newest first.
#[utoipa::path(get, path = "/api/v1/applications/{application}/components/{component}/versions/{version}/alerts",
    tag = "applications", params(ComponentPath, PageParams),
    responses((status = 200, description = "One page of alerts", body = Page<Alert>), Problems))]
pub async fn alerts(
    State(portal): State<Arc<Portal>>,
    Segments(path): Segments<ComponentPath>,
    Params(params): Params<PageParams>,
) -> Answer<Page<Alert>> {
    let filter = AlertFilter {
        application: Some(path.application),
        component: Some(path.component),
        version: Some(path.version),
        ..AlertFilter::default()
    };
    let question = ["alerts", &format!("{filter:?}")];
    let page = PageRequest::new(&question, params.limit, params.cursor.as_deref())?;
    Ok(Json(portal.store.alerts(&filter, &page).await?))
}
