//! The OTLP/HTTP exporter of traces, over the HTTP client that the project uses anyway.
//! Never holds up who records a span: its queue is bounded and drops.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};

use super::TelemetryError;
use crate::lifecycle::ServiceInfo;

/// Spans that wait for their export; further ones are dropped.
const QUEUE_MAX_SPANS: usize = 8192;
/// Spans of one request.
const BATCH_MAX_SPANS: usize = 512;
/// Longest wait of a span in the queue.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Bound on one request to the collector.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer that is read, in bytes.
const ANSWER_MAX_BYTES: u64 = 64 * 1024;

pub(super) fn provider(
    info: ServiceInfo,
    endpoint: &str,
    trace_ratio: f64,
) -> Result<SdkTracerProvider, TelemetryError> {
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/').trim_end_matches("/v1/traces"));
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new())
        .with_endpoint(url)
        .with_timeout(REQUEST_TIMEOUT)
        .build()
        .map_err(|error| TelemetryError::Endpoint {
            endpoint: endpoint.to_owned(),
            reason: error.to_string(),
        })?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_MAX_SPANS)
        .with_max_export_batch_size(BATCH_MAX_SPANS)
        .with_scheduled_delay(EXPORT_INTERVAL)
        .build();
    let resource = Resource::builder()
        .with_service_name(format!("plimsoll-{}", info.name))
        .with_attribute(KeyValue::new("service.version", info.version))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(trace_ratio.clamp(0.0, 1.0)))))
        .with_resource(resource)
        .build())
}

#[derive(Debug)]
struct Client {
    agent: ureq::Agent,
}

impl Client {
    fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .http_status_as_error(false)
            .build();
        Self { agent: config.new_agent() }
    }

    /// Blocks; called only on the exporter's own thread.
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, body.to_vec());
        let (parts, mut body) = self.agent.run(request)?.into_parts();
        let body = body.with_config().limit(ANSWER_MAX_BYTES).read_to_vec()?;
        Ok(Response::from_parts(parts, Bytes::from(body)))
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.send(request)
    }
}
