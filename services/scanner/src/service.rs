//! The scanner as a service: takes requests, scans, publishes; request offset and scan in one transaction.
//! It must never run two scans of one artifact at once: requests are partitioned by artifact.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use plimsoll_kit::broker::{
    BrokerErrorKind, CommittedOffset, ConsumerEvent, GroupConsumer, GroupOptions, IncomingRecord, Producer,
    ProducerOptions, TopicPartition, TransactionOffsets,
};
use plimsoll_kit::dead_letter::{self, DeadLetter};
use plimsoll_kit::host::random_id;
use plimsoll_kit::lifecycle::ServiceContext;
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::codec::Codec;
use plimsoll_schemas::event::{Event, Stamper};
use plimsoll_schemas::events::ScanRequest;
use plimsoll_vulndb::Database;

use crate::ScanError;
use crate::config::ScannerConfig;
use crate::publish::publish;
use crate::scan::{Scan, ScanOptions, scan};
use crate::target::{Target, component};

/// Consumer group of the scanner's replicas.
pub const GROUP: &str = "plimsoll-scanner";
const POLL_TIMEOUT: Duration = Duration::from_millis(200);
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs until the service is asked to stop.
///
/// # Errors
/// If configuration, topics or database are unusable, or the broker refuses us for good.
pub fn run(config: ScannerConfig, context: ServiceContext) -> anyhow::Result<()> {
    let connections = Connections::open(&config.kafka, &config.schema_registry)?;
    connections.prepare(&context)?;
    let database = open_database(&config)?;
    let codec = connections.codec();
    let instance = format!("plimsoll-scanner-{}", config.scanner.instance);
    let mut group = GroupOptions::new(GROUP, vec![codec.topic::<ScanRequest>()]);
    group.instance_id = Some(instance.clone());
    let mut consumer = connections.broker.group_consumer(group)?;
    let options = ProducerOptions::transactional(instance.clone(), instance.clone());
    let mut producer = connections.broker.producer(options.clone())?;
    producer.init_transactions(TRANSACTION_TIMEOUT).context("taking over the scanner's transactional id")?;
    let mut worker =
        Worker { config, codec, stamper: Stamper::new(instance, random_id()), database, context };
    while !worker.context.shutdown.is_triggered() {
        for event in consumer.poll(POLL_TIMEOUT, 1)? {
            if let ConsumerEvent::Record(record) = event {
                let done = worker.answer(&record, consumer.as_mut(), producer.as_mut());
                match done {
                    Ok(()) => {}
                    Err(Failure::Again(reason)) => {
                        tracing::warn!("scan request will be tried again: {reason}");
                        consumer.seek(&place(&record), record.offset)?;
                        producer = connections.broker.producer(options.clone())?;
                        if worker.context.shutdown.wait(Duration::from_secs(1)) {
                            return Ok(());
                        }
                    }
                    Err(Failure::Fatal(error)) => return Err(error),
                }
            }
        }
    }
    consumer.close();
    Ok(())
}

fn open_database(config: &ScannerConfig) -> anyhow::Result<Option<Arc<Database>>> {
    let Some(path) = &config.scanner.database else {
        tracing::warn!(
            "no vulnerability database is configured (scanner.database): packages will not be assessed"
        );
        return Ok(None);
    };
    Ok(Some(Arc::new(Database::open(path)?)))
}

fn place(record: &IncomingRecord) -> TopicPartition {
    TopicPartition::new(record.topic.clone(), record.partition)
}

enum Failure {
    Again(String),
    Fatal(anyhow::Error),
}

struct Worker {
    config: ScannerConfig,
    codec: Arc<Codec>,
    stamper: Stamper,
    database: Option<Arc<Database>>,
    context: ServiceContext,
}

impl Worker {
    fn answer(
        &mut self,
        record: &IncomingRecord,
        consumer: &mut dyn GroupConsumer,
        producer: &mut dyn Producer,
    ) -> Result<(), Failure> {
        let key = record.key.as_deref().unwrap_or_default();
        let value = record.value.as_deref().unwrap_or_default();
        let request = match self.codec.decode::<ScanRequest>(key, value) {
            Ok(request) => request,
            Err(error) if error.is_retriable() => return Err(Failure::Again(error.to_string())),
            Err(error) => return self.refuse(record, "undecodable", &error.to_string(), consumer, producer),
        };
        let result = self.scan_while_polling(&request, consumer)?;
        match result {
            Ok(scan) if scan.manifest.artifact != request.artifact() => {
                let detail = format!("the target turned out to be {}", scan.manifest.artifact);
                self.refuse(record, "other-artifact", &detail, consumer, producer)
            }
            Ok(scan) => {
                tracing::info!(artifact = request.artifact(), packages = scan.packages.len(), "scanned");
                let offsets = self.offsets(record, consumer)?;
                publish(&scan, producer, &self.codec, &self.stamper, Some(offsets))
                    .map_err(|error| Failure::Again(error.to_string()))
            }
            Err(error @ ScanError::Engine { .. }) => Err(Failure::Again(error.to_string())),
            Err(error) => self.refuse(record, "scan-failed", &error.to_string(), consumer, producer),
        }
    }

    /// Scans on a thread of its own while the group's member stays alive.
    fn scan_while_polling(
        &self,
        request: &ScanRequest,
        consumer: &mut dyn GroupConsumer,
    ) -> Result<Result<Scan, ScanError>, Failure> {
        let assignment = consumer.assignment();
        consumer.pause(&assignment).map_err(|error| Failure::Again(error.to_string()))?;
        let outcome = std::thread::scope(|scope| {
            let scanning = scope.spawn(|| self.scan(request));
            while !scanning.is_finished() {
                // Paused partitions give no records; a rebalance is seen by the commit that it refuses.
                let _ = consumer.poll(POLL_TIMEOUT, 1);
            }
            scanning.join()
        });
        consumer.resume(&consumer.assignment()).map_err(|error| Failure::Again(error.to_string()))?;
        outcome.map_err(|_| Failure::Fatal(anyhow::anyhow!("the scan of {} panicked", request.artifact)))
    }

    fn scan(&self, request: &ScanRequest) -> Result<Scan, ScanError> {
        let target = Target::parse(&request.source, &request.target)?;
        let given = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let names =
            [&request.application, &request.component, &request.component_version].map(|name| given(name));
        let component = component(names[0].as_deref(), names[1].as_deref(), names[2].as_deref())?;
        let options = ScanOptions {
            database: self.database.clone(),
            docker_host: &self.config.scanner.docker_host,
            progress: &|message| tracing::debug!("{message}"),
        };
        scan(&target, component.as_ref(), &options)
    }

    fn offsets(
        &self,
        record: &IncomingRecord,
        consumer: &mut dyn GroupConsumer,
    ) -> Result<TransactionOffsets, Failure> {
        let group = consumer.group_metadata().map_err(|error| Failure::Again(error.to_string()))?;
        let offset =
            CommittedOffset { partition: place(record), offset: record.offset + 1, metadata: String::new() };
        Ok(TransactionOffsets { offsets: vec![offset], group })
    }

    /// Puts a request into the dead letters; its offset goes on in the same transaction.
    fn refuse(
        &self,
        record: &IncomingRecord,
        reason: &str,
        detail: &str,
        consumer: &mut dyn GroupConsumer,
        producer: &mut dyn Producer,
    ) -> Result<(), Failure> {
        tracing::warn!(reason, detail, "scan request refused");
        let letter = dead_letter::record(record, &DeadLetter { reason, detail }, self.context.info);
        let offsets = self.offsets(record, consumer)?;
        producer
            .begin_transaction()
            .and_then(|()| producer.send(&letter))
            .and_then(|()| producer.commit_transaction(Some(offsets), TRANSACTION_TIMEOUT))
            .map_err(|error| match error.kind() {
                BrokerErrorKind::Fatal => Failure::Fatal(error.into()),
                _ => Failure::Again(error.to_string()),
            })
    }
}
