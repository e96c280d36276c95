//! The admin HTTP server: `/healthz`, `/readyz`, `/metrics`.
//! Never shows configuration, and never answers anything that changes state.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::health::Health;
use crate::metrics::Metrics;

#[derive(Clone)]
struct Served {
    health: Health,
    metrics: Metrics,
}

/// Binds `address` and serves until the runtime ends. Returns the bound address.
pub(super) async fn serve(address: &str, health: Health, metrics: Metrics) -> std::io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Served { health, metrics });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the admin server ended");
        }
    });
    Ok(bound)
}

fn verdict(reasons: &[String]) -> Response {
    if reasons.is_empty() {
        return (StatusCode::OK, "ok\n").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join("\n"))).into_response()
}

async fn healthz(State(served): State<Served>) -> Response {
    verdict(&served.health.stuck_reasons())
}

async fn readyz(State(served): State<Served>) -> Response {
    verdict(&served.health.unready_reasons())
}

async fn metrics_text(State(served): State<Served>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], served.metrics.encode()).into_response()
}
