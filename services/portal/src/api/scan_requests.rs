//! `POST /api/v1/scan-requests`: asks the scanner for a scan, through the broker.
//! It must never promise a scan that the broker has not acknowledged.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use plimsoll_kit::broker::{Bytes, OutgoingRecord, Producer, ProducerOptions};
use plimsoll_kit::clock::now_ms;
use plimsoll_kit::config::{KafkaConfig, SchemaRegistryConfig};
use plimsoll_kit::transport::{Connections, TransportError};
use plimsoll_schemas::codec::Codec;
use plimsoll_schemas::event::Stamper;
use plimsoll_schemas::events::ScanRequest;
use plimsoll_schemas::identity::{ArtifactKey, ComponentKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ApiError, Problems};
use crate::Portal;
use crate::error::PortalError;

/// Longest wait for the broker to take a request.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);
/// What may be scanned on request.
const SOURCES: &[&str] = &["fs", "image", "host"];

/// A wish for a scan.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewScanRequest {
    /// fs, image or host.
    #[schema(example = "image")]
    source: String,
    /// What to scan, as on the command line: a directory, docker:NAME, archive:FILE, oci:DIR or registry/name:tag.
    #[schema(example = "registry.example/team/app:1.0")]
    target: String,
    /// Artifact key, where it is known. Without it the key of the component is taken.
    artifact: Option<String>,
    /// Application.
    application: Option<String>,
    /// Component.
    component: Option<String>,
    /// Version of the component.
    version: Option<String>,
}

/// What became of a wish.
#[derive(Debug, Serialize, ToSchema)]
pub struct AcceptedScanRequest {
    /// Identity of the request.
    request_id: String,
    /// Artifact key under which it was published.
    artifact: String,
}

/// Publishes scan requests. The connection is made with the first one.
pub struct ScanRequests {
    kafka: KafkaConfig,
    registry: SchemaRegistryConfig,
    stamper: Stamper,
    open: Mutex<Option<Open>>,
}

struct Open {
    producer: Box<dyn Producer>,
    codec: Arc<Codec>,
}

impl ScanRequests {
    /// `None` where no broker is configured.
    pub fn new(kafka: &KafkaConfig, registry: &SchemaRegistryConfig) -> Option<Self> {
        kafka.is_configured().then(|| Self {
            kafka: kafka.clone(),
            registry: registry.clone(),
            stamper: Stamper::new("portal", plimsoll_kit::host::random_id()),
            open: Mutex::new(None),
        })
    }

    /// Publishes and waits for the broker's acknowledgement. Blocks.
    fn publish(&self, mut request: ScanRequest) -> Result<(), PortalError> {
        self.stamper.stamp(&mut request, now_ms());
        // A thread that panicked within left at worst a producer that will fail; it is then made anew.
        let mut open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let result = self.connect(&mut open).and_then(|open| {
            let record = open.codec.encode(&request).map_err(|error| away(&error))?;
            let value = record.value.map(Bytes::from);
            let record = OutgoingRecord::new(record.topic, record.partition, record.key, value);
            open.producer.send(&record).map_err(|error| away(&error))?;
            open.producer.flush(PUBLISH_TIMEOUT).map_err(|error| away(&error))
        });
        if result.is_err() {
            *open = None;
        }
        result
    }

    fn connect<'a>(&self, open: &'a mut Option<Open>) -> Result<&'a mut Open, PortalError> {
        if let Some(open) = open {
            return Ok(open);
        }
        let connections = Connections::open(&self.kafka, &self.registry).map_err(|error| away(&error))?;
        connections.prepare_once().map_err(|error: TransportError| away(&error))?;
        let producer = connections
            .broker
            .producer(ProducerOptions::idempotent("plimsoll-portal"))
            .map_err(|error| away(&error))?;
        Ok(open.insert(Open { producer, codec: connections.codec() }))
    }
}

fn away(error: &dyn std::error::Error) -> PortalError {
    PortalError::Unavailable {
        detail: format!("the request could not be published: {error}"),
        remedy: "start the broker and the schema registry, or correct kafka.brokers and schema_registry.url"
            .into(),
    }
}

/// Asks for a scan. Needs a broker.
#[utoipa::path(post, path = "/api/v1/scan-requests", tag = "scan-requests", request_body = NewScanRequest,
    responses((status = 202, description = "The request is published", body = AcceptedScanRequest),
        (status = 501, description = "No broker is configured", body = crate::model::Problem,
            content_type = "application/problem+json"), Problems))]
pub async fn create(
    State(portal): State<Arc<Portal>>,
    body: Result<Json<NewScanRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<AcceptedScanRequest>), ApiError> {
    let Json(wish) = body.map_err(|rejection| {
        PortalError::bad_request(
            format!("the request does not read: {}", rejection.body_text()),
            "send application/json with source and target; see /api/openapi.json",
        )
    })?;
    if portal.scan_requests.is_none() {
        return Err(PortalError::NotConfigured {
            detail: "no broker is configured, so nobody would hear the request".into(),
            remedy: "set kafka.brokers and schema_registry.url, or run plimsoll scan".into(),
        }
        .into());
    }
    let request = read(wish)?;
    let accepted =
        AcceptedScanRequest { request_id: request.request_id.clone(), artifact: request.artifact.clone() };
    tokio::task::spawn_blocking(move || match &portal.scan_requests {
        Some(requests) => requests.publish(request),
        None => Ok(()),
    })
    .await
    .map_err(|error| PortalError::internal(error.to_string()))??;
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

fn read(wish: NewScanRequest) -> Result<ScanRequest, PortalError> {
    if !SOURCES.contains(&wish.source.as_str()) {
        return Err(PortalError::bad_request(
            format!("source is {:?}", wish.source),
            format!("source must be one of: {}", SOURCES.join(", ")),
        ));
    }
    if wish.target.is_empty() && wish.source != "host" {
        return Err(PortalError::bad_request("target is empty", "say what to scan, as on the command line"));
    }
    let application = wish.application.unwrap_or_default();
    let component = wish.component.unwrap_or_default();
    let version = wish.version.unwrap_or_default();
    let key = match wish.artifact {
        Some(key) => key.parse::<ArtifactKey>(),
        None => ComponentKey::new(&application, &component, &version).map(ArtifactKey::Component),
    };
    let key = key.map_err(|error| {
        PortalError::bad_request(
            error.to_string(),
            "give artifact, or all of application, component and version",
        )
    })?;
    Ok(ScanRequest {
        artifact: key.to_string(),
        application,
        component,
        component_version: version,
        request_id: plimsoll_kit::host::random_id(),
        source: wish.source,
        target: wish.target,
        reason: "user".into(),
        requested_at_ms: now_ms(),
        ..ScanRequest::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(source: &str, target: &str, artifact: Option<&str>, component: Option<&str>) -> NewScanRequest {
        NewScanRequest {
            source: source.into(),
            target: target.into(),
            artifact: artifact.map(Into::into),
            application: Some("backend".into()),
            component: component.map(Into::into),
            version: Some("1.0".into()),
        }
    }

    #[test]
    fn reads_wishes() {
        let check = |wish: NewScanRequest, expect: Option<&str>| {
            assert_eq!(read(wish).ok().map(|request| request.artifact).as_deref(), expect);
        };
        check(wish("fs", "/srv/app", None, Some("app")), Some("component/backend/app/1.0"));
        check(wish("host", "", Some("host/0af3"), None), Some("host/0af3"));
        check(wish("fs", "", None, Some("app")), None);
        check(wish("image", "app:1", None, None), None);
        check(wish("image", "app:1", Some("image/latest"), None), None);
        check(wish("cluster", "x", None, Some("app")), None);
    }
}
