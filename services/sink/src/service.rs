//! The sink from configuration to orderly end.
//! It must never read a record before the tables are there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use plimsoll_kit::broker::{BrokerError, BrokerErrorKind, Rejoins};
use plimsoll_kit::lifecycle::{Readiness, ServiceContext};
use plimsoll_kit::transport::{Connections, TransportError};
use tokio::runtime::Runtime;

use crate::config::SinkConfig;
use crate::database::migrate::migrate;
use crate::database::{Database, DatabaseError};
use crate::journal;
use crate::metrics::SinkMetrics;
use crate::pairing;
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
        config.batch.check().map_err(anyhow::Error::msg)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("clickhouse")
            .enable_all()
            .build()
            .context("starting the threads that talk to ClickHouse")?;
        let database = Database::new(&config.clickhouse)?;
        let readiness = context.health.readiness("clickhouse");
        let start = Start { runtime: &runtime, database: &database, connections, context };
        if start.until_done(&readiness, || start.migrate())?.is_none() {
            return Ok(());
        }
        let metrics = SinkMetrics::new(&context.metrics);
        let router = Router::new(connections.codec(), context.info, &metrics);
        let group = group_id(config);
        if start.until_done(&readiness, || start.pair(&group, &router.topics()))?.is_none() {
            return Ok(());
        }
        readiness.ready();
        let registry = context.health.readiness("schema-registry");
        registry.ready();
        let concurrent = config.clickhouse.concurrent_inserts;
        let surroundings = Surroundings {
            broker: Arc::clone(&connections.broker),
            router,
            writer: Arc::new(Writer::new(&group, database, concurrent, metrics.clone(), readiness)),
            metrics,
            runtime,
            group,
            shutdown: context.shutdown.clone(),
            kafka: context.health.readiness("kafka"),
            registry,
            liveness: context.health.liveness("poll-loop", Duration::from_secs(60)),
        };
        let mut rejoins = Rejoins::default();
        loop {
            let ended = Session::join(&surroundings, config).and_then(Session::run);
            match ended {
                Ok(SessionEnd::AskedTo) => return Ok(()),
                Ok(SessionEnd::Rejoin(reason)) => tracing::warn!("joining the group again: {reason}"),
                Err(error) if kind_of(&error).is_some_and(|kind| rejoins.take(kind, Instant::now())) => {
                    tracing::warn!("joining the group again: {error:#}");
                }
                Err(error) if kind_of(&error) == Some(BrokerErrorKind::Fenced) => {
                    return Err(error.context(format!(
                        "another sink has the name {:?} in this group; give each its own by group.instance",
                        config.group.instance
                    )));
                }
                Err(error) => return Err(error),
            }
            if context.shutdown.wait(RETRY_INTERVAL) {
                return Ok(());
            }
        }
    }
}

fn kind_of(error: &anyhow::Error) -> Option<BrokerErrorKind> {
    error.downcast_ref::<BrokerError>().map(BrokerError::kind)
}

/// The configured group, or the one that belongs to the topic prefix.
fn group_id(config: &SinkConfig) -> String {
    if config.group.id.is_empty() {
        format!("{}.sink", config.kafka.topic_prefix)
    } else {
        config.group.id.clone()
    }
}

/// What the steps of a start need.
struct Start<'a> {
    runtime: &'a Runtime,
    database: &'a Database,
    connections: &'a Connections,
    context: &'a ServiceContext,
}

/// Why a step of a start failed.
enum StartError {
    /// Trying again may help.
    Away(String),
    /// A person must decide.
    Refused(anyhow::Error),
}

impl From<DatabaseError> for StartError {
    fn from(error: DatabaseError) -> Self {
        if error.is_retriable() { Self::Away(error.to_string()) } else { Self::Refused(error.into()) }
    }
}

impl Start<'_> {
    /// Tries a step until it is done; meanwhile the sink is not ready. `None`: the process was asked to end.
    fn until_done<T>(
        &self,
        readiness: &Readiness,
        step: impl Fn() -> Result<T, StartError>,
    ) -> anyhow::Result<Option<T>> {
        let mut tries = 0;
        loop {
            match step() {
                Ok(done) => return Ok(Some(done)),
                Err(StartError::Refused(error)) => return Err(error),
                Err(StartError::Away(reason)) => {
                    if tries % WARN_EVERY_TRIES == 0 {
                        tracing::warn!("waiting: {reason}");
                    }
                    readiness.not_ready(reason);
                    tries += 1;
                }
            }
            if self.context.shutdown.wait(RETRY_INTERVAL) {
                return Ok(None);
            }
        }
    }

    /// Brings the tables to this version.
    fn migrate(&self) -> Result<(), StartError> {
        let report = self.runtime.block_on(migrate(self.database))?;
        let name = self.database.name();
        if !report.applied.is_empty() {
            tracing::info!("applied migrations {:?} to database {name}", report.applied);
        }
        if !report.newer.is_empty() {
            tracing::warn!("database {name} has migrations {:?} of a newer version", report.newer);
        }
        Ok(())
    }

    /// Checks that this group and this database belong together, and records it.
    fn pair(&self, group: &str, topics: &[String]) -> Result<(), StartError> {
        let prefix = &self.connections.prefix;
        let mut facts = self.runtime.block_on(pairing::database_facts(self.database, prefix))?;
        let broker = &*self.connections.broker;
        facts.has_offsets = pairing::has_offsets(broker, group, topics, self.connections.partitions)
            .map_err(|error| match error.is_retriable() {
                true => StartError::Away(error.to_string()),
                false => StartError::Refused(error.into()),
            })?;
        pairing::check(self.database.name(), group, &facts)
            .map_err(|message| StartError::Refused(anyhow::Error::msg(message)))?;
        if !facts.has_offsets {
            self.runtime.block_on(journal::forget(self.database, group))?;
        }
        if facts.groups.is_empty() {
            self.runtime.block_on(pairing::record(self.database, prefix, group))?;
        }
        Ok(())
    }
}
