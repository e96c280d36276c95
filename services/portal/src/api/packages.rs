//! Packages of a component version, and `/api/v1/packages`: where a package is and who uses it.
//! It must never cut a list of files without saying so.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::applications::{ComponentPath, no_such_component};
use super::{Answer, Params, Problems, Segments, filled};
use crate::Portal;
use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::{Package, PackageOccurrence, Page, UsedFile};
use crate::store::{ComponentRef, PackageFilter, PackageSort};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PackageParams {
    /// `os` or `application`.
    pub kind: Option<String>,
    /// `yes`, `no` or `not_assessed`.
    pub vulnerable: Option<String>,
    /// `used`, `unused`, `not_measured` or `not_measurable`.
    #[serde(rename = "use")]
    #[param(rename = "use")]
    pub usage: Option<String>,
    /// Worst severity: critical, high, medium, low, none or unknown.
    pub severity: Option<String>,
    /// upgrade, remove, no_action, observe or no_feed.
    pub recommendation: Option<String>,
    /// Artifact key.
    pub artifact: Option<String>,
    /// Part of the name or the purl, in any case.
    pub q: Option<String>,
    /// `name` (stable while results come in) or `severity` (exploited, used and severe first).
    #[param(default = "name")]
    pub sort: Option<String>,
    /// Items on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PackageParams {
    /// The filter, the order and the page that these parameters ask for.
    pub fn read(
        self,
        scope: &str,
        default: PackageSort,
    ) -> Result<(PackageFilter, PackageSort, PageRequest), PortalError> {
        let filter = PackageFilter {
            kind: filled(self.kind),
            vulnerable: filled(self.vulnerable),
            usage: filled(self.usage),
            severity: filled(self.severity),
            recommendation: filled(self.recommendation),
            artifact: filled(self.artifact),
            text: filled(self.q),
        }
        .check()?;
        let sort = PackageSort::parse(filled(self.sort).as_deref(), default)?;
        let question = ["packages", scope, &filter.question(), sort.as_str()];
        let page = PageRequest::new(&question, self.limit, self.cursor.as_deref())?;
        Ok((filter, sort, page))
    }
}

/// A package of a component version, in a path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct PackagePath {
    /// Application.
    pub application: String,
    /// Component.
    pub component: String,
    /// Version of the component.
    pub version: String,
    /// Artifact key, percent-encoded as one segment.
    pub artifact: String,
    /// Stable id of the package.
    pub package_id: String,
}

impl PackagePath {
    pub fn component(&self) -> ComponentRef {
        ComponentRef {
            application: self.application.clone(),
            component: self.component.clone(),
            version: self.version.clone(),
        }
    }

    /// The page of files that the parameters ask for.
    pub fn files_page(&self, params: &FileParams, limit: Option<u32>) -> Result<PageRequest, PortalError> {
        let (of, text) = (self.component().question(), params.q.as_deref().unwrap_or_default());
        let question = ["files", &of, &self.artifact, &self.package_id, text];
        PageRequest::new(&question, params.limit.or(limit), params.cursor.as_deref())
    }
}

/// Which used files, classes and modules of a package.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FileParams {
    /// Part of the path or of the name, in any case.
    pub q: Option<String>,
    /// Items on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl FileParams {
    /// The text that is looked for.
    pub fn text(&self) -> Option<&str> {
        self.q.as_deref().filter(|text| !text.is_empty())
    }
}

/// The error for a package that the component does not have.
pub(crate) fn no_such_package(path: &PackagePath) -> PortalError {
    PortalError::not_found(
        format!("artifact {:?} of this component has no package {:?}", path.artifact, path.package_id),
        "take artifact and package_id from the component's packages",
    )
}

/// The packages of a component version.
#[utoipa::path(get, path = "/api/v1/applications/{application}/components/{component}/versions/{version}/packages",
    tag = "packages", params(ComponentPath, PackageParams),
    responses((status = 200, description = "One page of packages", body = Page<Package>), Problems))]
pub async fn of_component(
    State(portal): State<Arc<Portal>>,
    Segments(path): Segments<ComponentPath>,
    Params(params): Params<PackageParams>,
) -> Answer<Page<Package>> {
    let of = ComponentRef::from(path);
    let (filter, sort, page) = params.read(&of.question(), PackageSort::Name)?;
    let found = portal.store.component_packages(&of, &filter, sort, &page).await?;
    if found.items.is_empty() && page.after.is_none() && portal.store.component(&of).await?.is_none() {
        return Err(no_such_component(&of).into());
    }
    Ok(Json(found))
}

/// One package of a component version.
#[utoipa::path(get,
    path = "/api/v1/applications/{application}/components/{component}/versions/{version}/packages/{artifact}/{package_id}",
    tag = "packages", params(PackagePath),
    responses((status = 200, description = "The package", body = Package), Problems))]
pub async fn one_of_component(
    State(portal): State<Arc<Portal>>,
    Segments(path): Segments<PackagePath>,
) -> Answer<Package> {
    let found = portal.store.component_package(&path.component(), &path.artifact, &path.package_id).await?;
    Ok(Json(found.ok_or_else(|| no_such_package(&path))?))
}

/// All used files, classes and modules of a package of a component version.
#[utoipa::path(get,
    path = "/api/v1/applications/{application}/components/{component}/versions/{version}/packages/{artifact}/{package_id}/files",
    tag = "packages", params(PackagePath, FileParams),
    responses((status = 200, description = "One page of files, classes and modules", body = Page<UsedFile>), Problems))]
pub async fn files_of_component(
    State(portal): State<Arc<Portal>>,
    Segments(path): Segments<PackagePath>,
    Params(params): Params<FileParams>,
) -> Answer<Page<UsedFile>> {
    let of = path.component();
    let page = path.files_page(&params, None)?;
    let (artifact, package_id) = (&path.artifact, &path.package_id);
    let found = portal.store.component_package_files(&of, artifact, package_id, params.text(), &page).await?;
    if found.items.is_empty()
        && page.after.is_none()
        && portal.store.component_package(&of, &path.artifact, &path.package_id).await?.is_none()
    {
        return Err(no_such_package(&path).into());
    }
    Ok(Json(found))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PurlParams {
    /// Package URL. Without qualifiers it takes any; without a version it takes any version.
    #[param(required = true, example = "pkg:pypi/jinja2@2.11.2")]
    pub purl: Option<String>,
    /// Items on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Which artifacts contain a package, and which components use it.
#[utoipa::path(get, path = "/api/v1/packages", tag = "packages", params(PurlParams),
    responses((status = 200, description = "One page of places", body = Page<PackageOccurrence>), Problems))]
pub async fn occurrences(
    State(portal): State<Arc<Portal>>,
    Params(params): Params<PurlParams>,
) -> Answer<Page<PackageOccurrence>> {
    let Some(purl) = filled(params.purl) else {
        return Err(PortalError::bad_request(
            "purl is missing",
            "ask for /api/v1/packages?purl=pkg:…, percent-encoded",
        )
        .into());
    };
    let page = PageRequest::new(&["purl", &purl], params.limit, params.cursor.as_deref())?;
    Ok(Json(portal.store.package_occurrences(&purl, &page).await?))
}
