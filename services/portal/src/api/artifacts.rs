//! `/api/v1/artifacts…`: what is scanned and run, and who runs it.
//! It must never take two spellings of one artifact key for two artifacts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use plimsoll_schemas::identity::ArtifactKey;
use serde::Deserialize;
use utoipa::IntoParams;

use super::applications::FindingParams;
use super::packages::PackageParams;
use super::{Answer, PageParams, Params, Problems, Segments, filled};
use crate::Portal;
use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::{Artifact, ArtifactComponent, Finding, Package, Page, Workload};
use crate::store::{ArtifactFilter, FindingSort, PackageSort};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ArtifactParams {
    /// Part of the key or of a name, in any case.
    pub q: Option<String>,
    /// `yes`: only with a current scan; `no`: only what was observed but not scanned.
    pub scanned: Option<String>,
    /// Items on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl ArtifactParams {
    pub fn read(self) -> Result<(ArtifactFilter, PageRequest), PortalError> {
        let filter = ArtifactFilter { text: filled(self.q), scanned: filled(self.scanned) }.check()?;
        let question = ["artifacts", &format!("{filter:?}")];
        let page = PageRequest::new(&question, self.limit, self.cursor.as_deref())?;
        Ok((filter, page))
    }
}

/// Checks that the text is an artifact key in its one spelling.
pub(crate) fn artifact_key(text: &str) -> Result<(), PortalError> {
    text.parse::<ArtifactKey>().map(|_| ()).map_err(|error| {
        PortalError::bad_request(
            error.to_string(),
            "percent-encode the whole key as one segment: /artifacts/image%2Fsha256%3A…; keys are listed at /artifacts",
        )
    })
}

pub(crate) async fn find(portal: &Portal, key: &str) -> Result<Artifact, PortalError> {
    artifact_key(key)?;
    portal.store.artifact(key).await?.ok_or_else(|| {
        PortalError::not_found(
            format!("there is no artifact {key:?}"),
            "scan or run it first; what is there: /api/v1/artifacts",
        )
    })
}

/// Lists the artifacts by key.
#[utoipa::path(get, path = "/api/v1/artifacts", tag = "artifacts", params(ArtifactParams),
    responses((status = 200, description = "One page of artifacts", body = Page<Artifact>), Problems))]
pub async fn list(
    State(portal): State<Arc<Portal>>,
    Params(params): Params<ArtifactParams>,
) -> Answer<Page<Artifact>> {
    let (filter, page) = params.read()?;
    Ok(Json(portal.store.artifacts(&filter, &page).await?))
}

/// One artifact.
#[utoipa::path(get, path = "/api/v1/artifacts/{artifact}", tag = "artifacts",
    params(("artifact" = String, Path, description = "Artifact key, percent-encoded as one segment")),
    responses((status = 200, description = "The artifact", body = Artifact), Problems))]
pub async fn one(
    State(portal): State<Arc<Portal>>,
    Segments(artifact): Segments<String>,
) -> Answer<Artifact> {
    Ok(Json(find(&portal, &artifact).await?))
}

/// The packages of an artifact, with their use by any component. Files are kept for each component: see there.
#[utoipa::path(get, path = "/api/v1/artifacts/{artifact}/packages", tag = "artifacts",
    params(("artifact" = String, Path, description = "Artifact key, percent-encoded as one segment"), PackageParams),
    responses((status = 200, description = "One page of packages", body = Page<Package>), Problems))]
pub async fn packages(
    State(portal): State<Arc<Portal>>,
    Segments(artifact): Segments<String>,
    Params(params): Params<PackageParams>,
) -> Answer<Page<Package>> {
    let (filter, sort, page) = params.read(&artifact, PackageSort::Name)?;
    if page.after.is_none() {
        find(&portal, &artifact).await?;
    }
    Ok(Json(portal.store.artifact_packages(&artifact, &filter, sort, &page).await?))
}

/// The findings of an artifact, with the use by any component.
#[utoipa::path(get, path = "/api/v1/artifacts/{artifact}/findings", tag = "artifacts",
    params(("artifact" = String, Path, description = "Artifact key, percent-encoded as one segment"), FindingParams),
    responses((status = 200, description = "One page of findings", body = Page<Finding>), Problems))]
pub async fn findings(
    State(portal): State<Arc<Portal>>,
    Segments(artifact): Segments<String>,
    Params(params): Params<FindingParams>,
) -> Answer<Page<Finding>> {
    let (filter, sort, page) = params.read(&artifact, FindingSort::Id)?;
    if page.after.is_none() {
        find(&portal, &artifact).await?;
    }
    Ok(Json(portal.store.artifact_findings(&artifact, &filter, sort, &page).await?))
}

/// Every component that runs the artifact.
#[utoipa::path(get, path = "/api/v1/artifacts/{artifact}/components", tag = "artifacts",
    params(("artifact" = String, Path, description = "Artifact key, percent-encoded as one segment"), PageParams),
    responses((status = 200, description = "One page of components", body = Page<ArtifactComponent>), Problems))]
pub async fn components(
    State(portal): State<Arc<Portal>>,
    Segments(artifact): Segments<String>,
    Params(params): Params<PageParams>,
) -> Answer<Page<ArtifactComponent>> {
    let page = PageRequest::new(&["artifact components", &artifact], params.limit, params.cursor.as_deref())?;
    if page.after.is_none() {
        find(&portal, &artifact).await?;
    }
    Ok(Json(portal.store.artifact_components(&artifact, &page).await?))
}

/// Every workload of the artifact.
#[utoipa::path(get, path = "/api/v1/artifacts/{artifact}/workloads", tag = "artifacts",
    params(("artifact" = String, Path, description = "Artifact key, percent-encoded as one segment"), PageParams),
    responses((status = 200, description = "One page of workloads", body = Page<Workload>), Problems))]
pub async fn workloads(
    State(portal): State<Arc<Portal>>,
    Segments(artifact): Segments<String>,
    Params(params): Params<PageParams>,
) -> Answer<Page<Workload>> {
    let page = PageRequest::new(&["artifact workloads", &artifact], params.limit, params.cursor.as_deref())?;
    if page.after.is_none() {
        find(&portal, &artifact).await?;
    }
    Ok(Json(portal.store.artifact_workloads(&artifact, &page).await?))
}
