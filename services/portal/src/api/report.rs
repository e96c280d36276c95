//! The whole report of a component version, streamed package by package.
//! It must never end as valid JSON where the data broke off, and never hold the whole report in memory.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::applications::{ComponentPath, component_detail};
use super::{ApiError, Problems, Segments};
use crate::Portal;
use crate::error::PortalError;
use crate::model::{Artifact, Observed, Report, Totals};
use crate::store::{ComponentRef, PackageStream};
use crate::time::rfc3339;

/// Most packages of one report.
pub const REPORT_PACKAGES_MAX: i64 = 1_000_000;
/// Bytes that are gathered before they are sent.
const BLOCK_BYTES: usize = 64 * 1024;

/// What stands before the packages, in the order of [`Report`].
#[derive(Serialize)]
struct Head<'a> {
    application: &'a str,
    component: &'a str,
    version: &'a str,
    generated_at: String,
    totals: &'a Totals,
    artifacts: &'a [Artifact],
    observed: &'a [Observed],
}

/// Everything about a component version: all packages with all files.
#[utoipa::path(get, path = "/api/v1/applications/{application}/components/{component}/versions/{version}/report",
    tag = "applications", params(ComponentPath),
    responses((status = 200, description = "The report; the connection breaks off if the data does", body = Report),
        (status = 413, description = "The component has more packages than one report may hold",
            body = crate::model::Problem, content_type = "application/problem+json"), Problems))]
pub async fn report(
    State(portal): State<Arc<Portal>>,
    Segments(path): Segments<ComponentPath>,
) -> Result<Response, ApiError> {
    let of = ComponentRef::from(path);
    let detail = component_detail(&portal, &of).await?;
    if detail.totals.package_count > REPORT_PACKAGES_MAX {
        return Err(PortalError::TooLarge {
            detail: format!("the component has {} packages", detail.totals.package_count),
            remedy: format!("page through /packages instead; a report holds at most {REPORT_PACKAGES_MAX}"),
        }
        .into());
    }
    let head = Head {
        application: &of.application,
        component: &of.component,
        version: &of.version,
        generated_at: rfc3339(plimsoll_kit::clock::now_ms()).unwrap_or_default(),
        totals: &detail.totals,
        artifacts: &detail.artifacts,
        observed: &detail.observed,
    };
    let mut text = serde_json::to_string(&head).map_err(|error| PortalError::internal(error.to_string()))?;
    text.pop();
    text.push_str(",\"packages\":[");
    let writer = Writer {
        packages: portal.store.component_package_stream(&of).await?,
        portal,
        block: text.into_bytes(),
        first: true,
        done: false,
    };
    let blocks = futures_util::stream::try_unfold(writer, Writer::step);
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(blocks)).into_response())
}

struct Writer {
    portal: Arc<Portal>,
    packages: PackageStream,
    block: Vec<u8>,
    first: bool,
    done: bool,
}

impl Writer {
    /// Gathers one block; an error ends the stream without the closing brackets.
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, PortalError> {
        if self.done {
            return Ok(None);
        }
        while self.block.len() < BLOCK_BYTES {
            let batch = self.packages.next(&self.portal.store).await.inspect_err(PortalError::log)?;
            if batch.is_empty() {
                self.block.extend_from_slice(b"]}");
                self.done = true;
                break;
            }
            for package in batch {
                if !std::mem::take(&mut self.first) {
                    self.block.push(b',');
                }
                serde_json::to_writer(&mut self.block, &package)
                    .map_err(|error| PortalError::internal(error.to_string()))?;
            }
        }
        let block = std::mem::take(&mut self.block);
        Ok(Some((block.into(), self)))
    }
}
