//! Logs to standard error and traces over OTLP, and the trace context in record headers.
//! Never writes to standard output, and never lets an exporter that is away hold up a service.

mod context;
mod export;

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use context::{TRACEPARENT_HEADER, TraceParent, extract, inject, inject_current, set_parent};

use crate::config::{LogFormat, TelemetryConfig};
use crate::lifecycle::ServiceInfo;

/// Telemetry that cannot be started: a value of `telemetry.*` is wrong.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `telemetry.log_level` does not parse.
    #[error(
        "telemetry.log_level {level:?}: {reason}; use error, warn, info, debug, trace, or target=level lists"
    )]
    LogLevel {
        /// The value.
        level: String,
        /// The parser's words.
        reason: String,
    },
    /// The exporter refuses its endpoint.
    #[error("telemetry.otlp_endpoint {endpoint:?}: {reason}")]
    Endpoint {
        /// The value.
        endpoint: String,
        /// The exporter's words.
        reason: String,
    },
    /// Another part of the process set up logging before.
    #[error("logging is set up already: {0}")]
    AlreadySet(String),
}

/// Sends what is left when dropped.
#[must_use = "dropping it ends the export of traces"]
pub struct TelemetryGuard {
    provider: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown()
        {
            eprintln!("the last traces were not exported: {error}");
        }
    }
}

/// Starts logs, and traces when `otlp_endpoint` is set, for the whole process.
///
/// # Errors
/// A value of `telemetry.*` is wrong, or logging is set up already.
pub fn init(info: ServiceInfo, config: &TelemetryConfig) -> Result<TelemetryGuard, TelemetryError> {
    let filter = EnvFilter::try_new(&config.log_level).map_err(|error| TelemetryError::LogLevel {
        level: config.log_level.clone(),
        reason: error.to_string(),
    })?;
    let logs = match config.log_format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(use_colour())
            .with_target(false)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
    };
    let provider = match &config.otlp_endpoint {
        Some(endpoint) => Some(export::provider(info, endpoint, config.trace_ratio)?),
        None => None,
    };
    let traces = provider.as_ref().map(|provider| {
        use opentelemetry::trace::TracerProvider;
        let tracer = provider.tracer("plimsoll");
        // The exporter's own spans and events would feed themselves.
        let own = tracing_subscriber::filter::filter_fn(|meta| !meta.target().starts_with("opentelemetry"));
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(own)
    });
    tracing_subscriber::registry()
        .with(filter)
        .with(logs)
        .with(traces)
        .try_init()
        .map_err(|error| TelemetryError::AlreadySet(error.to_string()))?;
    Ok(TelemetryGuard { provider })
}

/// Colours only for a person: a terminal, and NO_COLOR unset or empty (no-color.org).
fn use_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
