//! The Kafka group member: one thread polls, a queue per partition, rebalances handed over as events.
//! Never gives a record after the partition's `Revoked`, and never guesses where to begin (`consumer/begin.rs`).

mod begin;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use self::begin::{Pending, number};
use super::client::{Hints, reading};
use super::errors;
use super::queue::{Fetched, PartitionQueue, Signal};
use super::rebalance::{Context, Rebalance};
use super::revival::Revival;
use super::{CLIENT_EVENTS_MAX, committed_from, offsets_list, partition_list};
use crate::broker::types::{CommittedOffset, ConsumerEvent, GroupMetadata, GroupOptions, TopicPartition};
use crate::broker::{BrokerError, BrokerErrorKind as Kind, BrokerResult, GroupConsumer};

/// Longest wait without a look at the client's own events.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Partitions that share `prefetch_max_bytes`; librdkafka's bound is one per partition.
const PREFETCH_SHARES: usize = 32;
/// Least a partition may fetch ahead, in KiB: one full record.
const PREFETCH_MIN_KBYTES: usize = 1024;

pub(super) struct KafkaConsumer {
    // Before the consumer, which they must not outlive.
    queues: BTreeMap<TopicPartition, PartitionQueue>,
    consumer: BaseConsumer<Context>,
    signal: Arc<Signal>,
    servers: String,
    options: GroupOptions,
    request_timeout: Duration,
    pending: Pending,
    paused: BTreeSet<TopicPartition>,
    /// Where reading began, for partitions of which nothing was given yet.
    begun: BTreeMap<TopicPartition, Offset>,
    /// Partitions that were read to their end and no further, and where that was. librdkafka (2.12.1) counts the word of
    /// the end as a record: its own position is one too far, and a pause would skip the next record.
    ends: BTreeMap<TopicPartition, i64>,
    /// Partitions whose reading has stopped, and why; told at each poll until they are sought or go.
    stopped: BTreeMap<TopicPartition, BrokerError>,
    /// Where the next poll begins, so that no partition starves.
    turn: usize,
    /// When all queues were looked at last.
    swept: Instant,
    revival: Revival,
}

impl KafkaConsumer {
    pub fn open(
        servers: String,
        mut config: ClientConfig,
        options: GroupOptions,
        request_timeout: Duration,
    ) -> BrokerResult<Self> {
        let prefetch_kbytes = (options.prefetch_max_bytes / 1024 / PREFETCH_SHARES).max(PREFETCH_MIN_KBYTES);
        reading(&mut config, &options.client_id, options.read_committed, prefetch_kbytes);
        let session_ms = options.session_timeout.as_millis();
        config
            .set("group.id", &options.group)
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", session_ms.to_string())
            .set("heartbeat.interval.ms", (session_ms / 20).max(100).to_string())
            .set("enable.partition.eof", options.end_of_partition_events.to_string());
        if let Some(instance) = &options.instance_id {
            config.set("group.instance.id", instance);
        }
        let what = format!("joining group {}", options.group);
        let failed = |error: KafkaError| errors::from_kafka(&servers, &what, &error, None);
        let signal = Arc::new(Signal::default());
        let context = Context {
            hints: Hints::default(),
            signal: signal.clone(),
            rebalances: Mutex::default(),
            closing: AtomicBool::new(false),
        };
        let mut consumer = BaseConsumer::from_config_and_context(&config, context).map_err(failed)?;
        let wake = signal.clone();
        consumer.set_nonempty_callback(move || wake.raise());
        let topics: Vec<&str> = options.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(failed)?;
        Ok(Self {
            revival: Revival::new(&servers),
            queues: BTreeMap::new(),
            consumer,
            signal,
            servers,
            options,
            request_timeout,
            pending: Pending::Nothing,
            paused: BTreeSet::new(),
            begun: BTreeMap::new(),
            ends: BTreeMap::new(),
            stopped: BTreeMap::new(),
            turn: 0,
            swept: Instant::now(),
        })
    }

    fn failed(&self, what: &str, error: &KafkaError) -> BrokerError {
        if error.rdkafka_error_code().is_some_and(|code| errors::kind_of(code) == Kind::Retriable) {
            // Whoever calls again and again does not poll meanwhile.
            // SAFETY: the client is `self.consumer`'s.
            unsafe { self.revival.look(self.consumer.client().native_ptr()) };
        }
        let what = format!("group {}: {what}", self.options.group);
        errors::from_kafka(&self.servers, &what, error, self.consumer.context().hints.reason().as_deref())
    }

    /// Handles what the client itself has to say: rebalances, errors, logs.
    fn client_events(&mut self) -> BrokerResult<()> {
        for _ in 0..CLIENT_EVENTS_MAX {
            match self.consumer.poll(Duration::ZERO) {
                None => {
                    if self.consumer_queue_length() == 0 {
                        break;
                    }
                }
                Some(Ok(message)) => {
                    // Every partition has a queue of its own before it is assigned.
                    drop(message);
                    return Err(errors::error(
                        Kind::Fatal,
                        &self.servers,
                        "polling",
                        "a record came outside its queue",
                    ));
                }
                Some(Err(error)) => self.client_error(&error)?,
            }
        }
        Ok(())
    }

    fn consumer_queue_length(&self) -> usize {
        // SAFETY: the client is live; the queue handle is given back.
        unsafe {
            let queue = rdkafka::bindings::rd_kafka_queue_get_consumer(self.consumer.client().native_ptr());
            if queue.is_null() {
                return 0;
            }
            let length = rdkafka::bindings::rd_kafka_queue_length(queue);
            rdkafka::bindings::rd_kafka_queue_destroy(queue);
            length
        }
    }

    /// An error between calls: most mend themselves and are only noted.
    fn client_error(&self, error: &KafkaError) -> BrokerResult<()> {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            let kind = match errors::kind_of(code) {
                Kind::Fenced => Kind::Fenced,
                _ => Kind::Fatal,
            };
            let what = format!("group {}", self.options.group);
            return Err(errors::error(kind, &self.servers, &what, &code.to_string()));
        }
        match (code, errors::kind_of(code)) {
            // After this the group takes the partitions away, which comes as `Lost`.
            (RDKafkaErrorCode::PollExceeded, _) => {
                tracing::warn!(
                    "group {}: no poll within max.poll.interval.ms; leaving the group",
                    self.options.group
                );
                Ok(())
            }
            // librdkafka says each of these once until it changes, and goes on trying.
            (
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve,
                _,
            ) => Err(self.failed("polling", error)),
            (_, Kind::Retriable) => {
                tracing::debug!("group {}: {code}", self.options.group);
                Ok(())
            }
            _ => Err(self.failed("polling", error)),
        }
    }

    /// The next rebalance as the event to tell.
    fn rebalance_event(&mut self) -> BrokerResult<Option<ConsumerEvent>> {
        loop {
            let next =
                self.consumer.context().rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match next {
                None => return Ok(None),
                Some(Rebalance::Assign(partitions)) => {
                    self.paused.clear();
                    if partitions.is_empty() {
                        self.begin(&[])?;
                        continue;
                    }
                    self.pending = Pending::Assign(partitions.iter().map(|p| (p.clone(), None)).collect());
                    return Ok(Some(ConsumerEvent::Assigned(partitions)));
                }
                Some(Rebalance::Revoke { lost }) => {
                    let partitions: Vec<TopicPartition> = self.queues.keys().cloned().collect();
                    if partitions.is_empty() {
                        self.give_up()?;
                        continue;
                    }
                    self.pending = Pending::Revoke;
                    return Ok(Some(if lost {
                        ConsumerEvent::Lost(partitions)
                    } else {
                        ConsumerEvent::Revoked(partitions)
                    }));
                }
            }
        }
    }

    /// Takes records in turns, each partition at most its share. An error never takes records with it: it is told once
    /// there are none.
    fn records(&mut self, max_records: usize) -> BrokerResult<Vec<ConsumerEvent>> {
        let mut events = Vec::new();
        // A queue tells only of its first record; now and then all are looked at, so that no missed word stalls one.
        let sweep = self.swept.elapsed() >= LOOK_INTERVAL;
        if sweep {
            self.swept = Instant::now();
        }
        let ready: Vec<TopicPartition> = self
            .queues
            .iter()
            .filter(|(_, queue)| sweep || queue.is_ready())
            .map(|(p, _)| p.clone())
            .collect();
        let share = (max_records / ready.len().max(1)).max(1);
        self.turn = self.turn.wrapping_add(1);
        let mut left = max_records;
        for partition in ready.iter().cycle().skip(self.turn % ready.len().max(1)).take(ready.len()) {
            if left == 0 {
                break;
            }
            let Some(queue) = self.queues.get_mut(partition) else { continue };
            let before = events.len();
            let (mut failure, mut end) = (None, None);
            queue.drain(share.min(left), |fetched| match fetched {
                Fetched::Record(record) => {
                    end = None;
                    events.push(ConsumerEvent::Record(record));
                }
                Fetched::End(offset) => {
                    end = Some(offset);
                    events.push(ConsumerEvent::EndOfPartition(partition.clone()));
                }
                Fetched::Failed(code, reason) => failure = Some((code, reason)),
            });
            match end {
                Some(end) => {
                    self.ends.insert(partition.clone(), end);
                }
                None if events.len() > before => {
                    self.ends.remove(partition);
                }
                None => {}
            }
            left = left.saturating_sub(events.len() - before);
            match failure.map(|(code, reason)| (errors::kind_of(code), reason)) {
                None => {}
                Some((Kind::Retriable, reason)) => tracing::debug!("{partition}: {reason}"),
                Some((kind, reason)) => {
                    let what = format!("group {}: reading {partition}", self.options.group);
                    let error = errors::error(kind, &self.servers, &what, &reason);
                    self.stopped.insert(partition.clone(), error);
                }
            }
        }
        if !events.is_empty() {
            self.consumer.context().hints.clear();
            return Ok(events);
        }
        match self.stopped.values().next() {
            Some(error) => Err(error.clone()),
            None => Ok(events),
        }
    }
}

impl GroupConsumer for KafkaConsumer {
    fn poll(&mut self, timeout: Duration, max_records: usize) -> BrokerResult<Vec<ConsumerEvent>> {
        let deadline = Instant::now() + timeout;
        // SAFETY: the client is `self.consumer`'s.
        unsafe { self.revival.look_if_quiet(self.consumer.client().native_ptr()) };
        loop {
            self.settle()?;
            self.client_events()?;
            if let Some(event) = self.rebalance_event()? {
                self.revival.heard();
                return Ok(vec![event]);
            }
            let events = self.records(max_records)?;
            if !events.is_empty() {
                self.revival.heard();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !events.is_empty() || left.is_zero() {
                return Ok(events);
            }
            self.signal.wait(left.min(LOOK_INTERVAL));
        }
    }

    fn assignment(&self) -> Vec<TopicPartition> {
        match &self.pending {
            Pending::Assign(wanted) => wanted.keys().cloned().collect(),
            _ => self.queues.keys().cloned().collect(),
        }
    }

    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> BrokerResult<()> {
        if let Pending::Assign(wanted) = &mut self.pending {
            if let Some(sought) = wanted.get_mut(partition) {
                *sought = Some(offset);
                return Ok(());
            }
        } else if self.queues.contains_key(partition) {
            let mut list = TopicPartitionList::with_capacity(1);
            let sought = list
                .add_partition_offset(&partition.topic, number(partition), Offset::Offset(offset))
                .and_then(|()| self.consumer.seek_partitions(list, self.request_timeout))
                .and_then(|done| done.elements().iter().try_for_each(|element| element.error()));
            return match sought {
                Ok(()) => {
                    self.begun.insert(partition.clone(), Offset::Offset(offset));
                    self.ends.remove(partition);
                    self.stopped.remove(partition);
                    Ok(())
                }
                // librdkafka seeks only where it reads; after an error it has stopped.
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::State) => {
                    self.begin_again(partition, offset)
                }
                Err(error) => Err(self.failed(&format!("seeking {partition}"), &error)),
            };
        }
        let what = format!("group {}: seeking {partition}", self.options.group);
        Err(errors::error(Kind::Misuse, &self.servers, &what, "it is not assigned to this member"))
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> BrokerResult<()> {
        self.paused.extend(partitions.iter().cloned());
        if matches!(self.pending, Pending::Assign(_)) {
            return Ok(());
        }
        self.consumer.pause(&partition_list(partitions)).map_err(|error| self.failed("pausing", &error))
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> BrokerResult<()> {
        self.paused.retain(|partition| !partitions.contains(partition));
        if matches!(self.pending, Pending::Assign(_)) {
            return Ok(());
        }
        let at_end: Vec<(TopicPartition, i64)> =
            partitions.iter().filter_map(|p| Some((p.clone(), *self.ends.get(p)?))).collect();
        for (partition, end) in at_end {
            self.seek(&partition, end)?;
        }
        self.consumer.resume(&partition_list(partitions)).map_err(|error| self.failed("resuming", &error))
    }

    fn commit(&mut self, offsets: &[CommittedOffset]) -> BrokerResult<()> {
        let what = "committing offsets";
        let list = offsets_list(offsets).map_err(|error| self.failed(what, &error))?;
        self.consumer.commit(&list, CommitMode::Sync).map_err(|error| self.failed(what, &error))
    }

    fn committed(&mut self, partitions: &[TopicPartition]) -> BrokerResult<Vec<CommittedOffset>> {
        self.consumer
            .committed_offsets(partition_list(partitions), self.request_timeout)
            .and_then(|list| committed_from(&list))
            .map_err(|error| self.failed("reading committed offsets", &error))
    }

    fn group_metadata(&self) -> BrokerResult<GroupMetadata> {
        self.consumer.group_metadata().map(GroupMetadata::new).ok_or_else(|| {
            let what = format!("group {}", self.options.group);
            errors::error(Kind::Misuse, &self.servers, &what, "there is no group metadata")
        })
    }

    fn close(self: Box<Self>) {}
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        let context = self.consumer.context().clone();
        context.closing.store(true, Ordering::SeqCst);
        self.queues.clear();
        // The group waits for an answer to what was announced; failures do not matter any more.
        let _ = self.consumer.unassign();
        context.signal.raise();
    }
}
