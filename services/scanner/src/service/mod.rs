//! The scanner as a service: takes requests, scans, publishes; request offset and scan in one transaction.
//! It must never run two scans of one artifact at once: requests are partitioned by artifact.

mod member;
mod recent;
mod worker;

use std::sync::Arc;

use plimsoll_kit::host::node_name;
use plimsoll_kit::lifecycle::ServiceContext;
use plimsoll_kit::transport::{Connections, TransportError};
use plimsoll_schemas::events::ScanRequest;
use plimsoll_vulndb::Database;

use crate::config::ScannerConfig;
use member::Member;
use worker::Worker;

/// Runs until the service is asked to stop.
///
/// # Errors
/// If configuration, topics or database are unusable, or the broker refuses us for good.
pub fn run(config: ScannerConfig, context: ServiceContext) -> anyhow::Result<()> {
    let connections = Connections::open(&config.kafka, &config.schema_registry)?;
    serve(config, &connections, &context)
}

/// As [`run`], over connections that the caller opened.
///
/// # Errors
/// As there.
pub fn serve(
    config: ScannerConfig,
    connections: &Connections,
    context: &ServiceContext,
) -> anyhow::Result<()> {
    let database = open_database(&config)?;
    match connections.prepare(context) {
        Ok(_) => {}
        Err(TransportError::Ended) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let instance = instance(&config);
    let topic = connections.codec().topic::<ScanRequest>();
    let mut member = Member::join(connections, &group(&connections.prefix), &instance, &topic, context)?;
    let mut worker = Worker::new(config, connections, database, instance, context.clone())?;
    while !context.shutdown.is_triggered() {
        if let Some(request) = member.next(&context.shutdown)? {
            worker.answer(&request, &mut member)?;
        }
    }
    Ok(())
}

/// Consumer group of the scanner's replicas; a prefix is a tenant, so each has its own.
pub fn group(prefix: &str) -> String {
    format!("{prefix}.scanner")
}

fn instance(config: &ScannerConfig) -> String {
    let name = if config.scanner.instance.is_empty() { node_name() } else { config.scanner.instance.clone() };
    format!("{}-scanner-{name}", config.kafka.topic_prefix)
}

fn open_database(config: &ScannerConfig) -> anyhow::Result<Option<Arc<Database>>> {
    let Some(path) = config.scanner.database.as_ref().filter(|path| !path.as_os_str().is_empty()) else {
        tracing::warn!(
            "no vulnerability database is configured (scanner.database): packages will not be assessed"
        );
        return Ok(None);
    };
    Ok(Some(Arc::new(Database::open(path)?)))
}
