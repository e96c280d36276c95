//! The pages: the same paths as the API's without `/api/v1`, plain HTML that needs no script.
//! They must never show data unescaped, cut a list without saying so, or mean something by colour alone.

mod alerts;
mod applications;
mod artifacts;
mod component;
mod component_package;
mod labels;
mod layout;
mod links;
mod packages;
mod parts;
mod vulnerabilities;

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{Markup, html};
use plimsoll_schemas::identity::Sha256Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Portal;
use crate::api::{filled, parameters, segments_error};
use crate::error::PortalError;

const STYLE: &str = include_str!("../../assets/portal.css");
const MARK: &str = include_str!("../../assets/plimsoll.svg");
/// Items on a page for people, where they ask for no number.
pub const PAGE_ITEMS: u32 = 50;

/// Address of the style sheet; it changes with its content, so that browsers may keep it.
pub static STYLE_ADDRESS: LazyLock<String> = LazyLock::new(|| {
    let digest = Sha256Digest::of(STYLE.as_bytes()).to_string();
    format!("/assets/portal.css?v={}", &digest[7..19])
});

/// The routes of the pages.
pub fn router() -> Router<Arc<Portal>> {
    Router::new()
        .route("/", get(applications::list))
        .route("/applications", get(applications::list))
        .route("/applications/{application}", get(applications::one))
        .route("/applications/{application}/components/{component}/versions/{version}", get(component::dashboard))
        .route(
            "/applications/{application}/components/{component}/versions/{version}/packages",
            get(component::packages),
        )
        .route(
            "/applications/{application}/components/{component}/versions/{version}/packages/{artifact}/{package_id}",
            get(component_package::one),
        )
        .route(
            "/applications/{application}/components/{component}/versions/{version}/findings",
            get(component::findings),
        )
        .route(
            "/applications/{application}/components/{component}/versions/{version}/alerts",
            get(component::alerts),
        )
        .route("/artifacts", get(artifacts::list))
        .route("/artifacts/{artifact}", get(artifacts::one))
        .route("/artifacts/{artifact}/packages", get(artifacts::packages))
        .route("/artifacts/{artifact}/findings", get(artifacts::findings))
        .route("/artifacts/{artifact}/components", get(artifacts::components))
        .route("/artifacts/{artifact}/workloads", get(artifacts::workloads))
        .route("/packages", get(packages::occurrences))
        .route("/vulnerabilities/{id}", get(vulnerabilities::one))
        .route("/alerts", get(alerts::list))
        .route("/search", get(search))
        .route("/assets/portal.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/assets/plimsoll.svg", get(|| async { asset("image/svg+xml", MARK) }))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=86400")], text).into_response()
}

/// What a page's handler answers.
type PageAnswer = Result<Html<String>, PageError>;

/// An error as a page.
pub struct PageError(pub PortalError);

impl From<PortalError> for PageError {
    fn from(error: PortalError) -> Self {
        Self(error)
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        self.0.log();
        let status = self.0.status();
        (status, Html(error_page(&self.0, status).into_string())).into_response()
    }
}

fn error_page(error: &PortalError, status: StatusCode) -> Markup {
    let content = html! {
        section.notice.bad {
            h1 { (error.title()) }
            p { (error) "." }
            p { strong { "What to do: " } (error.remedy()) "." }
            p.muted { "HTTP " (status.as_u16()) }
        }
    };
    layout::page(error.title(), None, &[], &content)
}

/// The query string of a page.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, PageError> {
        Ok(Self(parameters(parts)?))
    }
}

/// The segments of a page's path.
pub struct Segments<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, PageError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(segments_error(&rejection).into()),
        }
    }
}

#[derive(Deserialize)]
struct SearchParams {
    q: Option<String>,
}

/// Leads from the search field to the page that knows: a purl, an artifact key, else a vulnerability.
async fn search(Params(params): Params<SearchParams>) -> Redirect {
    let Some(text) = filled(params.q.map(|text| text.trim().to_owned())) else { return Redirect::to("/") };
    if text.starts_with("pkg:") {
        Redirect::to(&links::purl(&text))
    } else if text.contains('/') {
        Redirect::to(&links::artifact(&text))
    } else {
        Redirect::to(&links::vulnerability(&text.to_ascii_uppercase()))
    }
}
