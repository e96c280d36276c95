//! The server: binds, says where it listens, answers, and ends within the bound.
//! It must never listen before it is clear who may read.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::Uri;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use plimsoll_kit::lifecycle::ServiceContext;
use tokio::net::TcpListener;

use crate::api::{self, ApiError, ScanRequests};
use crate::config::PortalConfig;
use crate::error::PortalError;
use crate::pages::{self, PageError};
use crate::security::{self, Access};
use crate::store::Store;

/// Largest request body, in bytes.
const BODY_MAX_BYTES: usize = 64 * 1024;
/// Time between two looks at ClickHouse for `/readyz`.
const READINESS_INTERVAL: Duration = Duration::from_secs(5);
/// Longest wait for answers under way when the service ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What the handlers share.
pub struct Portal {
    pub(crate) store: Store,
    pub(crate) scan_requests: Option<ScanRequests>,
    access: Access,
}

/// Runs until the context says so.
///
/// # Errors
/// An address that cannot be bound, or that would serve others without a token.
pub fn run(config: PortalConfig, context: ServiceContext) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the portal's threads")?;
    let result = runtime.block_on(serve(config, context));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(config: PortalConfig, context: ServiceContext) -> anyhow::Result<()> {
    let address = resolve(&config.portal.bind)?;
    let token = config.portal.token.as_ref().map(|token| token.expose().as_str());
    let portal = Arc::new(Portal {
        access: Access::new(address, token)?,
        store: Store::new(&config.clickhouse),
        scan_requests: ScanRequests::new(&config.kafka, &config.schema_registry),
    });
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!(
            "could not listen on {address}; choose another address with portal.bind, or port 0 for a free one"
        )
    })?;
    let bound = listener.local_addr().context("the listener has no address")?;
    if let Some(path) = &config.portal.address_file {
        write_address(path, bound)?;
    }
    tracing::info!("the portal is at http://{bound}/");
    let requests = context.metrics.counter_with(
        "http_requests",
        "HTTP requests answered, by class of status",
        &["status_class"],
    );
    let app = router(portal.clone()).layer(middleware::from_fn(move |request: Request, next: Next| {
        let requests = requests.clone();
        async move {
            let response = next.run(request).await;
            requests.with(&[&format!("{}xx", response.status().as_u16() / 100)]).inc();
            response
        }
    }));
    let watcher = tokio::spawn(watch_database(portal, context.clone()));
    let shutdown = context.shutdown.clone();
    let stopping = shutdown.clone();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move { shutdown.cancelled().await });
    let drained = async move {
        stopping.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        result = server.into_future() => result.context("the server failed")?,
        () = drained => tracing::warn!("ended with requests under way"),
    }
    watcher.abort();
    Ok(())
}

/// All routes, with the guard in front and the headers of every answer.
pub fn router(portal: Arc<Portal>) -> Router {
    Router::new()
        .merge(api::router())
        .merge(pages::router())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(middleware::from_fn_with_state(portal.clone(), guard))
        .with_state(portal)
}

async fn guard(State(portal): State<Arc<Portal>>, request: Request, next: Next) -> Response {
    let mut response = match portal.access.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => refuse(request.uri(), error),
    };
    let refused = response.status() == axum::http::StatusCode::UNAUTHORIZED;
    security::add_headers(response.headers_mut(), refused);
    response
}

async fn unknown(uri: Uri) -> Response {
    let error = PortalError::not_found(
        format!("there is no path {:?}", uri.path()),
        "start at /, or see /api/openapi.json for the paths of the API",
    );
    refuse(&uri, error)
}

async fn wrong_method(uri: Uri) -> Response {
    let error = PortalError::MethodNotAllowed {
        detail: format!("{:?} does not take this method", uri.path()),
        remedy: "use GET; only /api/v1/scan-requests takes POST".into(),
    };
    refuse(&uri, error)
}

fn refuse(uri: &Uri, error: PortalError) -> Response {
    if uri.path().starts_with("/api/") {
        ApiError(error).into_response()
    } else {
        PageError(error).into_response()
    }
}

fn resolve(bind: &str) -> anyhow::Result<SocketAddr> {
    bind.to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .with_context(|| format!("portal.bind is {bind:?}; write address:port, for example 127.0.0.1:8080"))
}

/// Written beside and renamed, so that a reader never sees half an address.
fn write_address(path: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, format!("{address}\n"))
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("could not write portal.address_file {}", path.display()))
}

async fn watch_database(portal: Arc<Portal>, context: ServiceContext) {
    let readiness = context.health.readiness("clickhouse");
    loop {
        match portal.store.check().await {
            Ok(()) => readiness.ready(),
            Err(error) => readiness.not_ready(format!("{error}; {}", error.remedy())),
        }
        tokio::time::sleep(READINESS_INTERVAL).await;
    }
}
