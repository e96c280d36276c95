//! The JSON API: routes, and how requests are read and errors are written.
//! It must never answer with an error that is not a problem document with a remedy.

pub(crate) mod alerts;
pub(crate) mod applications;
pub(crate) mod artifacts;
mod openapi;
pub(crate) mod packages;
mod report;
mod scan_requests;
pub(crate) mod vulnerabilities;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use crate::Portal;
use crate::error::PortalError;
use crate::model::Problem;

pub use openapi::document;
pub use scan_requests::ScanRequests;

/// Every path of the API below the root, as in the OpenAPI document.
pub const PATHS: &[&str] = &[
    "/api/v1/applications",
    "/api/v1/applications/{application}",
    "/api/v1/applications/{application}/components/{component}/versions/{version}",
    "/api/v1/applications/{application}/components/{component}/versions/{version}/packages",
    "/api/v1/applications/{application}/components/{component}/versions/{version}/packages/{artifact}/{package_id}",
    "/api/v1/applications/{application}/components/{component}/versions/{version}/packages/{artifact}/{package_id}/files",
    "/api/v1/applications/{application}/components/{component}/versions/{version}/findings",
    "/api/v1/applications/{application}/components/{component}/versions/{version}/alerts",
    "/api/v1/applications/{application}/components/{component}/versions/{version}/report",
    "/api/v1/artifacts",
    "/api/v1/artifacts/{artifact}",
    "/api/v1/artifacts/{artifact}/packages",
    "/api/v1/artifacts/{artifact}/findings",
    "/api/v1/artifacts/{artifact}/components",
    "/api/v1/artifacts/{artifact}/workloads",
    "/api/v1/packages",
    "/api/v1/vulnerabilities/{id}",
    "/api/v1/alerts",
    "/api/v1/scan-requests",
];

/// The routes, in the order of [`PATHS`].
pub fn router() -> Router<Arc<Portal>> {
    let methods = [
        get(applications::list),
        get(applications::one),
        get(applications::component),
        get(packages::of_component),
        get(packages::one_of_component),
        get(packages::files_of_component),
        get(applications::findings),
        get(applications::alerts),
        get(report::report),
        get(artifacts::list),
        get(artifacts::one),
        get(artifacts::packages),
        get(artifacts::findings),
        get(artifacts::components),
        get(artifacts::workloads),
        get(packages::occurrences),
        get(vulnerabilities::one),
        get(alerts::list),
        post(scan_requests::create),
    ];
    assert_eq!(methods.len(), PATHS.len(), "each path has its handler");
    let mut router = Router::new().route("/api/openapi.json", get(|| async { Json(document()) }));
    for (path, method) in PATHS.iter().zip(methods) {
        router = router.route(path, method);
    }
    router
}

/// What a handler answers.
type Answer<T> = Result<Json<T>, ApiError>;

/// An error as a problem document.
pub struct ApiError(pub PortalError);

impl From<PortalError> for ApiError {
    fn from(error: PortalError) -> Self {
        Self(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.0.log();
        let status = self.0.status();
        let problem = Problem {
            kind: format!("urn:plimsoll:problem:{}", self.0.code()),
            title: self.0.title().to_owned(),
            status: status.as_u16(),
            detail: self.0.to_string(),
            remedy: self.0.remedy(),
        };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

/// Reads the query string into `T`, naming what is wrong with it.
pub fn parameters<T: DeserializeOwned>(parts: &Parts) -> Result<T, PortalError> {
    Query::<T>::try_from_uri(&parts.uri).map(|Query(value)| value).map_err(|rejection| {
        PortalError::bad_request(
            format!("the query string does not read: {}", rejection.body_text()),
            "see /api/openapi.json for the parameters of this path",
        )
    })
}

/// The query string of an API request.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(Self(parameters(parts)?))
    }
}

/// The segments of the path, percent-decoded.
pub struct Segments<T>(pub T);

/// Why the segments did not read.
pub fn segments_error(rejection: &PathRejection) -> PortalError {
    PortalError::bad_request(
        format!("the path does not read: {}", rejection.body_text()),
        "percent-encode each segment as UTF-8",
    )
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(segments_error(&rejection).into()),
        }
    }
}

/// A filter that is absent or empty filters nothing.
pub fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// Items on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Every error that an operation may answer with.
pub struct Problems;

impl utoipa::IntoResponses for Problems {
    fn responses()
    -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::response::Response>> {
        use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
        let kinds = [
            ("400", "The request is not understood"),
            ("401", "A token is needed"),
            ("404", "There is no such thing here"),
            ("500", "A mistake in Plimsoll"),
            ("503", "ClickHouse does not answer, or has no tables"),
        ];
        kinds
            .into_iter()
            .map(|(status, description)| {
                let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
                let response = ResponseBuilder::new()
                    .description(description)
                    .content("application/problem+json", content)
                    .build();
                (status.to_owned(), response.into())
            })
            .collect()
    }
}
