//! Local mode: the whole pipeline within this process, its state in one file.
//! It must never let two commands write the state at once, nor replace it by half a one.

mod joiner;
mod report;
mod resolver;
mod schemas;
mod state;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use plimsoll_correlator::wait_until_caught_up;
use plimsoll_kit::broker::memory::MemoryBroker;
use plimsoll_kit::broker::{
    Broker as _, OutgoingRecord, ProducerOptions, ReaderOptions, TopicPartition, read_to_end,
};
use plimsoll_kit::host::random_id;
use plimsoll_kit::transport::Connections;
use plimsoll_scanner::Scan;
use plimsoll_scanner::publish::publish;
use plimsoll_schemas::event::Stamper;

use self::joiner::Joiner;
use self::state::StateFile;

pub use report::report;
pub use resolver::Resolver;

/// Longest wait until the correlator has joined what was published.
const SETTLE_MAX: Duration = Duration::from_secs(120);
const SEND_MAX: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(500);

/// The pipeline of local mode: a broker whose content lasts, and a correlator at work.
pub struct Local {
    file: StateFile,
    broker: MemoryBroker,
    connections: Connections,
    correlator: Joiner,
}

impl Local {
    /// Takes the state's lock, loads it and starts the correlator. Waits while another command holds the lock.
    ///
    /// # Errors
    /// If the directory cannot be written, or the state is damaged.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let file = StateFile::lock(directory)?;
        let broker = file.load()?;
        let connections = schemas::connect(directory, &broker)?;
        let correlator = Joiner::start(connections.clone())?;
        Ok(Self { file, broker, connections, correlator })
    }

    /// Publishes a scan.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub fn publish_scan(&mut self, scan: &Scan) -> anyhow::Result<()> {
        let options = ProducerOptions::transactional("plimsoll-cli", "plimsoll-cli-scan");
        let mut producer = self.connections.broker.producer(options)?;
        let stamper = Stamper::new("plimsoll-cli", random_id());
        publish(scan, producer.as_mut(), &self.connections.codec(), &stamper, None)?;
        Ok(())
    }

    /// Copies what other services published to `source` since `positions`, and remembers how far it came.
    ///
    /// # Errors
    /// If one of the brokers refuses.
    pub fn absorb(&mut self, source: &MemoryBroker, positions: &mut Positions) -> anyhow::Result<()> {
        let mut producer = self.broker.producer(ProducerOptions::idempotent("plimsoll-cli-absorb"))?;
        let deadline = Instant::now() + SEND_MAX;
        for partition in inputs(&self.connections) {
            let position = positions.0.entry(partition.clone()).or_insert(0);
            let mut failure = None;
            *position =
                read_to_end(source, &partition, *position, ReaderOptions::default(), deadline, |record| {
                    let mut copy = OutgoingRecord::new(
                        Arc::clone(&record.topic),
                        record.partition,
                        record.key.unwrap_or_default(),
                        record.value,
                    );
                    copy.headers = record.headers;
                    copy.timestamp_ms = Some(record.timestamp_ms);
                    if let Err(error) = producer.send(&copy) {
                        failure.get_or_insert(error);
                    }
                })?;
            if let Some(error) = failure {
                return Err(error.into());
            }
        }
        producer.flush(SEND_MAX)?;
        Ok(())
    }

    /// Waits until all that was published is joined.
    ///
    /// # Errors
    /// If the correlator ended or does not come to an end in time.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLE_MAX;
        // Short looks, so that a correlator that failed is not waited for.
        while !wait_until_caught_up(&self.connections, Instant::now() + LOOK)? {
            self.correlator.check()?;
            if Instant::now() >= deadline {
                anyhow::bail!("the correlator did not finish within {} s", SETTLE_MAX.as_secs());
            }
        }
        Ok(())
    }

    /// Waits for the join, stops the correlator and saves the state.
    ///
    /// # Errors
    /// As [`Local::settle`], or if the state cannot be written; the old one stays then.
    pub fn close(mut self) -> anyhow::Result<()> {
        self.settle()?;
        self.correlator.stop()?;
        self.file.save(&self.broker).context("saving the local state")
    }
}

/// How far inputs were copied.
#[derive(Debug, Default)]
pub struct Positions(std::collections::HashMap<TopicPartition, i64>);

/// The partitions that the correlator reads.
fn inputs(connections: &Connections) -> impl Iterator<Item = TopicPartition> + use<> {
    let partitions = connections.partitions;
    plimsoll_correlator::input_topics(&connections.prefix).into_iter().flat_map(move |topic| {
        let topic: Arc<str> = topic.into();
        (0..partitions).map(move |partition| TopicPartition::new(Arc::clone(&topic), partition))
    })
}
