//! A service's life: configuration, telemetry, admin server, signals, orderly end within a bound.
//! Never ends a process without saying why, and never waits for an end without a bound.

mod admin;
mod health;
mod shutdown;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

pub use health::{Health, Liveness, Readiness};
pub use shutdown::ShutdownToken;

use crate::config::{self, AdminConfig, ConfigArgs, ServiceConfig};
use crate::metrics::Metrics;
use crate::telemetry;

/// Exit code of an end that was forced: the bound ran out, or a second signal came.
pub const EXIT_FORCED: i32 = 130;

/// Which program this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceInfo {
    /// Short name (`sink`): in metrics, logs, traces and file names.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

impl ServiceInfo {
    /// `name` is the service's short name, `version` its crate's.
    pub const fn new(name: &'static str, version: &'static str) -> Self {
        Self { name, version }
    }
}

/// What a running service gets from its surroundings.
#[derive(Clone)]
pub struct ServiceContext {
    /// Which program this is.
    pub info: ServiceInfo,
    /// Says when to end.
    pub shutdown: ShutdownToken,
    /// Checks behind `/readyz` and `/healthz`.
    pub health: Health,
    /// Metrics behind `/metrics`.
    pub metrics: Metrics,
}

impl ServiceContext {
    /// A context without signals and servers, for tests and for the cli's local mode.
    pub fn detached(info: ServiceInfo) -> Self {
        Self { info, shutdown: ShutdownToken::new(), health: Health::new(), metrics: Metrics::new(info.name) }
    }
}

/// The whole `main` of a service: loads the configuration (or prints it), starts logs, traces, metrics and the admin
/// server, runs `service` on this thread, and turns SIGTERM and SIGINT into `ctx.shutdown`. Once the end was asked
/// for, `service` has `admin.shutdown_timeout_ms` to return; then, or at a second signal, the process ends at once
/// with [`EXIT_FORCED`]. Exit codes: 0 done, 1 failed, 2 bad configuration.
pub fn run_service<T: ServiceConfig>(
    info: ServiceInfo,
    args: &ConfigArgs,
    service: impl FnOnce(T, ServiceContext) -> anyhow::Result<()>,
) -> ExitCode {
    let loaded = match config::load::<T>(info.name, args) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("plimsoll-{}: {error}", info.name);
            return ExitCode::from(2);
        }
    };
    if args.print_config {
        print_to_stdout(&loaded.print());
        return ExitCode::SUCCESS;
    }
    let _telemetry = match telemetry::init(info, loaded.value.telemetry()) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("plimsoll-{}: {error}", info.name);
            return ExitCode::from(2);
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let context = ServiceContext::detached(info);
    context.health.expect_checks();
    let runtime = match start(&context, loaded.value.admin()) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let shutdown = context.shutdown.clone();
    tracing::info!(version = info.version, "{} started", info.name);
    let result = service(loaded.value, context);
    let code = match result {
        Ok(()) => {
            let reason = if shutdown.is_triggered() { "asked to" } else { "nothing left to do" };
            tracing::info!("{} ended: {reason}", info.name);
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{} failed: {error:#}", info.name);
            ExitCode::FAILURE
        }
    };
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

#[allow(clippy::print_stdout)] // --print-config is what the caller asked to see.
fn print_to_stdout(text: &str) {
    print!("{text}");
}

/// Starts the small runtime that serves the admin pages and waits for signals.
fn start(context: &ServiceContext, admin: &AdminConfig) -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("admin")
        .enable_all()
        .build()
        .context("cannot start the admin thread")?;
    if admin.bind != "off" {
        let serving = admin::serve(&admin.bind, context.health.clone(), context.metrics.clone());
        let address = runtime.block_on(serving).with_context(|| {
            format!(
                "cannot serve health and metrics on {}; set admin.bind to another address or to off",
                admin.bind
            )
        })?;
        tracing::info!(%address, "health and metrics on http://{address}/healthz /readyz /metrics");
        if let Some(path) = &admin.address_file {
            write_address(path, address)?;
        }
    }
    let shutdown = context.shutdown.clone();
    let bound = Duration::from_millis(admin.shutdown_timeout_ms);
    // Signals are registered before the service starts, so that none is missed.
    let _guard = runtime.enter();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("cannot listen for SIGTERM")?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .context("cannot listen for SIGINT")?;
    runtime.spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = shutdown.cancelled() => "the service itself",
        };
        tracing::info!("end asked for by {name}; at most {} ms for it", bound.as_millis());
        shutdown.trigger();
        let reason = tokio::select! {
            _ = terminate.recv() => "a second signal",
            _ = interrupt.recv() => "a second signal",
            () = tokio::time::sleep(bound) => "the bound admin.shutdown_timeout_ms",
        };
        tracing::error!("ended at once by {reason}: what was under way is taken up at the next start");
        std::process::exit(EXIT_FORCED);
    });
    Ok(runtime)
}

/// Writes the address so that a reader never sees half of it.
fn write_address(path: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, format!("{address}\n"))
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}; check admin.address_file", path.display()))
}
