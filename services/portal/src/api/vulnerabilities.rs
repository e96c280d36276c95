//! `/api/v1/vulnerabilities/{id}`: who is affected, and who executes the affected package.
//! It must never answer an unknown id with an empty success: that would read as "not affected".

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::{Answer, PageParams, Params, Problems, Segments};
use crate::Portal;
use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::VulnerabilityDetail;

pub(crate) async fn find(
    portal: &Portal,
    id: &str,
    params: &PageParams,
) -> Result<VulnerabilityDetail, PortalError> {
    let page = PageRequest::new(&["vulnerability", id], params.limit, params.cursor.as_deref())?;
    portal.store.vulnerability(id, &page).await?.ok_or_else(|| {
        PortalError::not_found(
            format!("no known artifact has a finding {id:?}"),
            "findings carry the CVE where there is one: ask for that rather than for an alias, in capital letters; \
             an artifact that was scanned without a vulnerability database has no findings",
        )
    })
}

/// A vulnerability and everything that it affects, highest priority first.
#[utoipa::path(get, path = "/api/v1/vulnerabilities/{id}", tag = "vulnerabilities",
    params(("id" = String, Path, description = "Identifier, the CVE where there is one", example = "CVE-2020-28493"), PageParams),
    responses((status = 200, description = "The vulnerability", body = VulnerabilityDetail), Problems))]
pub async fn one(
    State(portal): State<Arc<Portal>>,
    Segments(id): Segments<String>,
    Params(params): Params<PageParams>,
) -> Answer<VulnerabilityDetail> {
    Ok(Json(find(&portal, &id, &params).await?))
}
