//! The loop: poll, decode, join, hand batches to the committer, and begin anew after whatever went wrong.
//! It must never go past a record that it could not judge, nor keep what was not committed after a failure.

mod begin;
mod commit;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_correlator_core::{Event, Order};
use plimsoll_kit::broker::{
    BrokerError, BrokerErrorKind, ConsumerEvent, GroupConsumer, GroupOptions, IncomingRecord,
    ProducerOptions, Rejoins, TopicPartition,
};
use plimsoll_kit::lifecycle::{Liveness, Readiness, ServiceContext};
use plimsoll_kit::metrics::Counter;
use plimsoll_kit::transport::Connections;
use plimsoll_kit::{clock, dead_letter, telemetry};
use plimsoll_schemas::codec::{Codec, CodecError};
use plimsoll_schemas::events::{
    CorrelationAlert, CorrelationArtifact, CorrelationFinding, CorrelationPackage, CorrelationUsage,
    CorrelatorState,
};

use self::begin::{FirstOffsets, Looks};
use crate::committer::{Committer, Setup};
use crate::config::CorrelatorSection;
use crate::decode::{Undecoded, decode, input_topics};
use crate::error::CorrelatorError;
use crate::metrics::Meters;
use crate::overlay::Overlay;
use crate::store::{self, Store};

/// Records taken by one poll.
const POLL_MAX_RECORDS: usize = 2_000;
/// Longest wait for a record.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// A batch of as many records within the interval is one of a backlog, or of ten thousand inputs in a second.
const BUSY_MIN_RECORDS: usize = 1_000;
/// Intervals that such a batch is gathered for: what changes more than once is then written once, and the time of each
/// commit is spread over more.
const BUSY_INTERVALS: u32 = 4;
/// Wait after a failure, doubled up to `correlator.retry_max_ms` while it lasts.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The loop is stuck after this long without a turn.
const MAX_SILENCE: Duration = Duration::from_secs(60);
/// How often memory is looked at.
const SHRINK_INTERVAL: Duration = Duration::from_secs(1);

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Continue,
    End,
}

/// The consumer group of all correlators of a pipeline.
pub fn group(prefix: &str) -> String {
    format!("{prefix}.correlator")
}

/// Name of an instance among all pipelines of a broker: member of the group and transactional id.
fn client_id(connections: &Connections, section: &CorrelatorSection) -> String {
    format!("{}.correlator.{}", connections.prefix, section.instance)
}

fn group_options(connections: &Connections, section: &CorrelatorSection) -> GroupOptions {
    let prefix = &connections.prefix;
    let mut options = GroupOptions::new(group(prefix), input_topics(prefix));
    options.client_id = client_id(connections, section);
    options.instance_id = Some(options.client_id.clone());
    options.prefetch_max_bytes = section.batch_max_bytes.max(1024 * 1024);
    options
}

pub(crate) struct Engine<'a> {
    connections: &'a Connections,
    section: &'a CorrelatorSection,
    context: &'a ServiceContext,
    codec: Arc<Codec>,
    store: Arc<dyn Store>,
    consumer: Box<dyn GroupConsumer>,
    committer: Committer,
    overlay: Overlay,
    meters: Meters,
    /// Counters of `meters.records` by full topic name: looking one up by its labels costs as much as a small join.
    joined: BTreeMap<Arc<str>, Counter>,
    ready: Readiness,
    liveness: Liveness,
    state_topic: Arc<str>,
    /// Partition numbers held, each of all input topics.
    partitions: BTreeSet<u32>,
    /// Next offset of each held input partition: committed, or where reading began.
    positions: BTreeMap<TopicPartition, i64>,
    /// Number of the batch under way, and when it was handed over.
    in_flight: Option<(u64, Instant)>,
    /// Tells this process from its predecessors; see [`crate::left_open::Name`].
    life: String,
    /// Our transactional id.
    writer: String,
    /// Counts how often reading was begun anew.
    begun: u64,
    producer_ready: bool,
    /// Since the producer took over, the outputs were looked at for what a former life of it left open.
    outputs_settled: bool,
    /// What a closing did not end: another's, which is left alone.
    others: FirstOffsets,
    /// The store holds the state of all held partitions up to what is committed.
    restored: bool,
    /// Number of the last batch that is committed and stored.
    stored: u64,
    next_tick: Instant,
    next_shrink: Instant,
    /// Looks at whether the brokers ended all transactions; see `look_whether_settled`.
    looks: Looks,
    /// How often the group was joined anew after being fenced.
    rejoins: Rejoins,
    retry: Duration,
}

impl<'a> Engine<'a> {
    pub fn new(
        connections: &'a Connections,
        section: &'a CorrelatorSection,
        context: &'a ServiceContext,
    ) -> Result<Self, CorrelatorError> {
        let ready = context.health.readiness("correlator");
        let codec = connections.codec();
        let store: Arc<dyn Store> = store::open(section.state_directory.as_deref())?.into();
        let consumer = connections.broker.group_consumer(group_options(connections, section))?;
        let client_id = client_id(connections, section);
        let state_topic: Arc<str> = codec.topic::<CorrelatorState>().into();
        let committer = Committer::start(Setup {
            broker: connections.broker.clone(),
            store: store.clone(),
            options: ProducerOptions::transactional(client_id.clone(), client_id.clone()),
            state_topic: state_topic.clone(),
            commit_timeout: Duration::from_millis(section.commit_timeout_ms),
        });
        Ok(Self {
            connections,
            section,
            context,
            codec,
            store,
            consumer,
            committer,
            overlay: Overlay::default(),
            meters: Meters::new(&context.metrics),
            joined: BTreeMap::new(),
            ready,
            liveness: context.health.liveness("correlator", MAX_SILENCE),
            state_topic,
            partitions: BTreeSet::new(),
            positions: BTreeMap::new(),
            in_flight: None,
            writer: client_id,
            life: format!("{:x}-{:x}", clock::now_ms(), std::process::id()),
            begun: 0,
            producer_ready: false,
            outputs_settled: false,
            others: FirstOffsets::new(),
            restored: false,
            stored: 0,
            next_tick: Instant::now() + Duration::from_millis(section.tick_interval_ms),
            next_shrink: Instant::now(),
            looks: Looks::default(),
            rejoins: Rejoins::default(),
            retry: RETRY_MIN,
        })
    }

    /// Runs until asked to end; what is gathered then is committed.
    pub fn run(mut self) -> Result<(), CorrelatorError> {
        if self.warm_codec()? == Flow::End {
            return Ok(());
        }
        while !self.context.shutdown.is_triggered() {
            self.liveness.beat();
            if self.pump()? == Flow::End {
                break;
            }
            self.look_whether_settled()?;
            if self.committer.is_busy() && self.is_full() {
                // No more fits beside the commit under way.
                if let Some(outcome) = self.committer.poll(POLL_WAIT) {
                    self.settle(outcome)?;
                }
                continue;
            }
            self.tick()?;
            let events = match self.consumer.poll(self.poll_wait(), POLL_MAX_RECORDS) {
                Ok(events) => events,
                Err(error) => {
                    self.note(error)?;
                    continue;
                }
            };
            let begun = self.begun;
            for event in events {
                // After a new beginning the rest of these come again.
                if self.begun != begun || self.handle(event)? == Flow::End {
                    break;
                }
            }
        }
        self.ready.not_ready("ending");
        self.drain()
    }

    /// Has the ids of all schemas that are written, so that encoding never waits for the registry.
    fn warm_codec(&mut self) -> Result<Flow, CorrelatorError> {
        let codec = self.codec.clone();
        let warm = || -> Result<(), CodecError> {
            codec.encode_value(&CorrelatorState::default())?;
            codec.encode_value(&CorrelationArtifact::default())?;
            codec.encode_value(&CorrelationPackage::default())?;
            codec.encode_value(&CorrelationUsage::default())?;
            codec.encode_value(&CorrelationFinding::default())?;
            codec.encode_value(&CorrelationAlert::default())?;
            Ok(())
        };
        loop {
            match warm() {
                Ok(()) => return Ok(Flow::Continue),
                Err(error) if error.is_retriable() => {
                    self.ready.not_ready(error.to_string());
                    self.liveness.beat();
                    if self.context.shutdown.wait(self.retry) {
                        return Ok(Flow::End);
                    }
                    self.retry = self.longer_retry();
                }
                Err(source) => {
                    return Err(CorrelatorError::Encode { artifact: "any artifact".to_owned(), source });
                }
            }
        }
    }

    /// An error of the consumer: waited out, unless waiting cannot help.
    fn note(&mut self, error: BrokerError) -> Result<(), CorrelatorError> {
        // Topics that were just made may not be known everywhere yet.
        if error.is_retriable() || error.kind() == BrokerErrorKind::UnknownTopic {
            self.ready.not_ready(error.to_string());
            self.context.shutdown.wait(RETRY_MIN);
            return Ok(());
        }
        if !self.rejoins.take(error.kind(), Instant::now()) {
            return Err(error.into());
        }
        tracing::warn!("joining the group anew: {error}");
        self.leave_to_others()?;
        self.consumer =
            self.connections.broker.group_consumer(group_options(self.connections, self.section))?;
        Ok(())
    }

    fn handle(&mut self, event: ConsumerEvent) -> Result<Flow, CorrelatorError> {
        match event {
            ConsumerEvent::Record(record) => return self.join(&record),
            ConsumerEvent::EndOfPartition(_) => {}
            ConsumerEvent::Assigned(partitions) => self.assigned(&partitions)?,
            ConsumerEvent::Revoked(_) => {
                // They go with the next poll: what is gathered is committed before.
                self.drain()?;
                self.forget_partitions();
            }
            ConsumerEvent::Lost(_) => self.leave_to_others()?,
        }
        Ok(Flow::Continue)
    }

    /// Joins a record, or makes it a dead letter; waits while it cannot be judged.
    fn join(&mut self, record: &IncomingRecord) -> Result<Flow, CorrelatorError> {
        let begun = self.begun;
        let decoded = loop {
            match decode(&self.codec, record) {
                Ok(decoded) => break decoded,
                Err(Undecoded::Refused(reason, detail)) => {
                    self.refuse(record, reason, &detail);
                    return Ok(Flow::Continue);
                }
                Err(Undecoded::Retry(reason)) => {
                    self.ready.not_ready(reason);
                    self.liveness.beat();
                    if self.pump()? == Flow::End || self.context.shutdown.wait(RETRY_MIN) {
                        return Ok(Flow::End);
                    }
                    if self.begun != begun {
                        return Ok(Flow::Continue);
                    }
                }
            }
        };
        if let Some(counter) = self.joined.get(&record.topic) {
            counter.inc();
        } else {
            let counter = self.meters.records.with(&[short(&record.topic, self.codec.prefix())]);
            counter.inc();
            self.joined.insert(record.topic.clone(), counter);
        }
        let trace = telemetry::extract(&record.headers);
        let store = self.store.clone();
        let (artifact, event, order) = (&decoded.artifact, decoded.event, decoded.order);
        match self.overlay.apply(&*store, record.partition, artifact, event, order, trace)? {
            Ok(()) => self.overlay.done(record),
            Err(refusal) => self.refuse(record, refusal.code, &refusal.detail),
        }
        Ok(Flow::Continue)
    }

    fn refuse(&mut self, record: &IncomingRecord, reason: &'static str, detail: &str) {
        tracing::warn!(
            topic = &*record.topic,
            partition = record.partition,
            offset = record.offset,
            "refused ({reason}): {detail}"
        );
        self.meters.dead_letters.with(&[short(&record.topic, self.codec.prefix()), reason]).inc();
        let why = dead_letter::DeadLetter { reason, detail };
        self.overlay.dead_letter(dead_letter::record(record, &why, self.context.info));
        self.overlay.done(record);
    }

    fn longer_retry(&self) -> Duration {
        (self.retry * 2).min(Duration::from_millis(self.section.retry_max_ms))
    }

    fn is_full(&self) -> bool {
        self.overlay.records >= self.section.batch_max_records
            || self.overlay.bytes >= self.section.batch_max_bytes
    }

    fn is_due(&self) -> bool {
        self.is_full() || self.overlay.since.is_some_and(|since| since.elapsed() >= self.interval())
    }

    /// How long the batch is gathered.
    fn interval(&self) -> Duration {
        let interval = Duration::from_millis(self.section.commit_interval_ms);
        if self.overlay.records >= BUSY_MIN_RECORDS { interval * BUSY_INTERVALS } else { interval }
    }

    /// How long a poll may wait so that the batch is handed over in time.
    fn poll_wait(&self) -> Duration {
        let left = self.overlay.since.map(|since| self.interval().saturating_sub(since.elapsed()));
        // While a commit is under way its end is looked for often, since the next batch may be waiting.
        let wait = if self.committer.is_busy() { Duration::from_millis(5) } else { POLL_WAIT };
        left.map_or(POLL_WAIT, |left| left.max(Duration::from_millis(1)).min(wait))
    }

    /// Lets time have its effect on the artifacts that wait for it.
    fn tick(&mut self) -> Result<(), CorrelatorError> {
        if self.section.tick_interval_ms == 0 || self.partitions.is_empty() || Instant::now() < self.next_tick
        {
            return Ok(());
        }
        self.next_tick = Instant::now() + Duration::from_millis(self.section.tick_interval_ms);
        let now_ms = clock::now_ms();
        let store = self.store.clone();
        for partition in self.partitions.clone() {
            let mut open: BTreeSet<String> = store::open_artifacts(&*store, partition)?.into_iter().collect();
            open.extend(self.overlay.open(partition));
            for artifact in open {
                let event = Event::Tick { now_ms };
                // A tick is never refused.
                let _ = self.overlay.apply(&*store, partition, &artifact, event, Order::default(), None)?;
            }
            self.liveness.beat();
        }
        Ok(())
    }
}

/// A topic's name without prefix and version, for labels.
fn short<'t>(topic: &'t str, prefix: &str) -> &'t str {
    plimsoll_schemas::topics::find_full(prefix, topic).map_or(topic, |known| known.name)
}
