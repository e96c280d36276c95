//! The sink from configuration to orderly end.
//! It must never read a record before the tables are there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use plimsoll_kit::lifecycle::{Readiness, ServiceContext, ShutdownToken};
use plimsoll_kit::transport::{Connections, TransportError};
use tokio::runtime::Runtime;

use crate::config::SinkConfig;
use crate::database::migrate::migrate;
use crate::database::{Database, DatabaseError};
use crate::metrics::SinkMetrics;
use crate::route::Router;
use crate::session::{Session, SessionEnd, Surroundings};
use crate::write::Writer;

/// Wait between two tries to reach ClickHouse at start, and before the group is joined again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// A start that waits says so again after this many tries.
const WARN_EVERY_TRIES: u32 = 30;

/// Runs the sink of a process: opens what the configuration names and runs until the process is asked to end.
///
/// # Errors
/// What trying again does not mend; the text names the remedy.
pub fn run(config: SinkConfig, context: ServiceContext) -> anyhow::Result<()> {
    let connections = Connections::open(&config.kafka, &config.schema_registry)?;
    match connections.prepare(&context) {
        Ok(_) => {}
        Err(TransportError::Ended) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    Sink::run(&connections, &config, &context)
}

/// The sink.
pub struct Sink;

impl Sink {
    /// Applies the migrations, then moves records until `context.shutdown` says so. Topics and subjects must exist.
    ///
    /// # Errors
    /// What trying again does not mend; the text names the remedy.
    pub fn run(
        connections: &Connections,
        config: &SinkConfig,
        context: &ServiceContext,
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("clickhouse")
            .enable_all()
            .build()
            .context("starting the threads that talk to ClickHouse")?;
        let database = Database::new(&config.clickhouse)?;
        let readiness = context.health.readiness("clickhouse");
        if !migrate_when_reachable(&runtime, &database, &readiness, &context.shutdown)? {
            return Ok(());
        }
        let metrics = SinkMetrics::new(&context.metrics);
        let concurrent = config.clickhouse.concurrent_inserts;
        let surroundings = Surroundings {
            broker: Arc::clone(&connections.broker),
            router: Router::new(connections.codec(), context.info, &metrics),
            writer: Arc::new(Writer::new(database, concurrent, metrics.clone(), readiness)),
            metrics,
            runtime,
            group: group_id(config),
            shutdown: context.shutdown.clone(),
            kafka: context.health.readiness("kafka"),
            liveness: context.health.liveness("poll-loop", Duration::from_secs(60)),
        };
        loop {
            match Session::join(&surroundings, config)?.run()? {
                SessionEnd::AskedTo => return Ok(()),
                SessionEnd::Rejoin(reason) => tracing::warn!("joining the group again: {reason}"),
            }
            if context.shutdown.wait(RETRY_INTERVAL) {
                return Ok(());
            }
        }
    }
}

/// The configured group, or the one that belongs to the topic prefix.
fn group_id(config: &SinkConfig) -> String {
    if config.group.id.is_empty() {
        format!("{}.sink", config.kafka.topic_prefix)
    } else {
        config.group.id.clone()
    }
}

/// Migrates; waits while ClickHouse is away. `false`: the process was asked to end.
fn migrate_when_reachable(
    runtime: &Runtime,
    database: &Database,
    readiness: &Readiness,
    shutdown: &ShutdownToken,
) -> Result<bool, DatabaseError> {
    let mut tries = 0;
    loop {
        match runtime.block_on(migrate(database)) {
            Ok(report) => {
                let (applied, newer) = (&report.applied, &report.newer);
                if !applied.is_empty() {
                    tracing::info!("applied migrations {applied:?} to database {}", database.name());
                }
                if !newer.is_empty() {
                    tracing::warn!(
                        "database {} has migrations {newer:?} of a newer version",
                        database.name()
                    );
                }
                readiness.ready();
                return Ok(true);
            }
            Err(error) if error.is_retriable() => {
                readiness.not_ready(error.to_string());
                if tries % WARN_EVERY_TRIES == 0 {
                    tracing::warn!("waiting: {error}");
                }
                tries += 1;
            }
            Err(error) => return Err(error),
        }
        if shutdown.wait(RETRY_INTERVAL) {
            return Ok(false);
        }
    }
}
