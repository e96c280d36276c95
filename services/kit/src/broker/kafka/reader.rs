//! Reads one Kafka partition without a group.
//! Never commits anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::client::{PlainContext, reading};
use super::errors;
use super::queue::{Fetched, PartitionQueue, Signal};
use super::revival::Revival;
use crate::broker::types::{IncomingRecord, ReaderOptions, TopicPartition};
use crate::broker::{BrokerError, BrokerErrorKind as Kind, BrokerResult, PartitionReader};

/// Longest wait without a look at the client's own events.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Fetched ahead, in KiB.
const PREFETCH_KBYTES: usize = 16 * 1024;

pub(super) struct KafkaReader {
    // Before the consumer, which it must not outlive.
    queue: PartitionQueue,
    consumer: BaseConsumer<PlainContext>,
    signal: Arc<Signal>,
    servers: String,
    partition: TopicPartition,
    next: i64,
    revival: Revival,
    /// Why reading has stopped; told once the records before it were given.
    stopped: Option<BrokerError>,
}

impl KafkaReader {
    pub fn open(
        servers: String,
        mut config: ClientConfig,
        partition: &TopicPartition,
        from_offset: i64,
        options: &ReaderOptions,
    ) -> BrokerResult<Self> {
        reading(&mut config, &options.client_id, options.read_committed, PREFETCH_KBYTES);
        // librdkafka reads only as a would-be member of a group; this one is never joined and never committed to.
        config.set("group.id", &options.client_id).set("enable.partition.eof", "true");
        let failed =
            |error: KafkaError| errors::from_kafka(&servers, &format!("reading {partition}"), &error, None);
        let mut consumer =
            BaseConsumer::from_config_and_context(&config, PlainContext::default()).map_err(failed)?;
        let signal = Arc::new(Signal::default());
        let wake = signal.clone();
        consumer.set_nonempty_callback(move || wake.raise());
        // SAFETY: the client is `consumer`'s, and the queue is dropped before it (field order).
        let queue =
            unsafe { PartitionQueue::take(consumer.client().native_ptr(), partition, signal.clone()) };
        let queue = queue
            .ok_or_else(|| errors::error(Kind::UnknownTopic, &servers, "reading", &partition.to_string()))?;
        let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&partition.topic, number, Offset::Offset(from_offset)).map_err(failed)?;
        consumer.assign(&list).map_err(failed)?;
        Ok(Self {
            revival: Revival::new(&servers),
            queue,
            consumer,
            signal,
            servers,
            partition: partition.clone(),
            next: from_offset,
            stopped: None,
        })
    }
}

impl PartitionReader for KafkaReader {
    fn poll(&mut self, timeout: Duration, max_records: usize) -> BrokerResult<Vec<IncomingRecord>> {
        let deadline = Instant::now() + timeout;
        let mut records = Vec::new();
        // SAFETY: the client is `self.consumer`'s.
        unsafe { self.revival.look_if_quiet(self.consumer.client().native_ptr()) };
        loop {
            if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
                let what = format!("reading {}", self.partition);
                let hint = self.consumer.context().hints.reason();
                let error = errors::from_kafka(&self.servers, &what, &error, hint.as_deref());
                if error.kind() != Kind::Retriable {
                    return Err(error);
                }
                tracing::debug!("{error}");
            }
            let mut failure = None;
            let next = &mut self.next;
            let mut at_end = false;
            self.queue.drain(max_records, |fetched| match fetched {
                Fetched::Record(record) => {
                    *next = record.next_offset();
                    records.push(record);
                }
                Fetched::End(offset) => {
                    *next = offset.max(*next);
                    at_end = true;
                }
                Fetched::Failed(code, reason) => failure = Some((code, reason)),
            });
            if let Some((code, reason)) = failure
                && errors::kind_of(code) != Kind::Retriable
            {
                let what = format!("reading {} at {}", self.partition, self.next);
                self.stopped = Some(errors::error(errors::kind_of(code), &self.servers, &what, &reason));
            }
            if let Some(error) = &self.stopped
                && records.is_empty()
            {
                return Err(error.clone());
            }
            if !records.is_empty() || at_end {
                self.revival.heard();
                return Ok(records);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(records);
            }
            self.signal.wait(left.min(LOOK_INTERVAL));
        }
    }

    fn position(&self) -> i64 {
        self.next
    }

    fn reached(&self, end: i64) -> bool {
        self.next >= end
    }
}
