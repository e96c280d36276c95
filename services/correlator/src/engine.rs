//! The loop: poll, decode, join, hand batches to the committer, and begin anew after whatever went wrong.
//! It must never go past a record that it could not judge, nor keep what was not committed after a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_correlator_core::{Event, Order};
use plimsoll_kit::broker::{
    BrokerError, BrokerErrorKind, CommittedOffset, ConsumerEvent, GroupConsumer, GroupOptions,
    IncomingRecord, ProducerOptions, TopicPartition,
};
use plimsoll_kit::lifecycle::{Liveness, Readiness, ServiceContext};
use plimsoll_kit::transport::Connections;
use plimsoll_kit::{clock, dead_letter, telemetry};
use plimsoll_schemas::codec::{Codec, CodecError};
use plimsoll_schemas::events::{
    CorrelationAlert, CorrelationArtifact, CorrelationFinding, CorrelationPackage, CorrelationUsage,
    CorrelatorState,
};

use crate::committer::{Committer, Outcome, Sealed, Setup};
use crate::config::CorrelatorSection;
use crate::decode::{Undecoded, decode, input_topics};
use crate::error::CorrelatorError;
use crate::metrics::Meters;
use crate::overlay::Overlay;
use crate::restore::{Restore, RestoreError};
use crate::store::{self, Store};

/// Records taken by one poll.
const POLL_MAX_RECORDS: usize = 2_000;
/// Longest wait for a record.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// Wait after a failure, doubled up to `correlator.retry_max_ms` while it lasts.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The loop is stuck after this long without a turn.
const MAX_SILENCE: Duration = Duration::from_secs(60);
/// Being fenced again within this time means that another process has the same name.
const REJOIN_MIN_INTERVAL: Duration = Duration::from_secs(60);
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
    ready: Readiness,
    liveness: Liveness,
    state_topic: Arc<str>,
    /// Partition numbers held, each of all input topics.
    partitions: BTreeSet<u32>,
    /// Next offset of each held input partition: committed, or where reading began.
    positions: BTreeMap<TopicPartition, i64>,
    /// Number of the batch under way, and when it was handed over.
    in_flight: Option<(u64, Instant)>,
    /// Counts how often reading was begun anew.
    begun: u64,
    producer_ready: bool,
    /// The store holds the state of all held partitions up to what is committed.
    restored: bool,
    /// Number of the last batch that is committed and stored.
    stored: u64,
    next_tick: Instant,
    next_shrink: Instant,
    /// When the group was joined anew after being fenced.
    rejoined: Option<Instant>,
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
            options: ProducerOptions::transactional(client_id.clone(), client_id),
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
            ready,
            liveness: context.health.liveness("correlator", MAX_SILENCE),
            state_topic,
            partitions: BTreeSet::new(),
            positions: BTreeMap::new(),
            in_flight: None,
            begun: 0,
            producer_ready: false,
            restored: false,
            stored: 0,
            next_tick: Instant::now() + Duration::from_millis(section.tick_interval_ms),
            next_shrink: Instant::now(),
            rejoined: None,
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
        let lost = matches!(error.kind(), BrokerErrorKind::Fenced | BrokerErrorKind::Fatal);
        if !lost || self.rejoined.is_some_and(|at| at.elapsed() < REJOIN_MIN_INTERVAL) {
            return Err(error.into());
        }
        // A broker that stalled may have taken one joining of ours for two, and fenced us by ourselves: then joining
        // again helps. If another process has our name, it is fenced by this, joins again too, and one of the two
        // ends at the next time.
        tracing::warn!("joining the group anew: {error}");
        self.rejoined = Some(Instant::now());
        self.leave_to_others()?;
        self.consumer =
            self.connections.broker.group_consumer(group_options(self.connections, self.section))?;
        Ok(())
    }

    /// Drops everything that is not committed: another member has the partitions.
    fn leave_to_others(&mut self) -> Result<(), CorrelatorError> {
        if self.committer.is_busy() {
            // The group refuses the commit that is under way, or it is done already.
            let outcome = self.committer.wait()?;
            self.producer_ready &= matches!(outcome, Outcome::Done);
            if let Outcome::StoreFailed(error) = outcome {
                return Err(error.into());
            }
        }
        self.forget_partitions();
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
        self.meters.records.with(&[short(&record.topic, self.codec.prefix())]).inc();
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
        let interval = Duration::from_millis(self.section.commit_interval_ms);
        self.is_full() || self.overlay.since.is_some_and(|since| since.elapsed() >= interval)
    }

    /// How long a poll may wait so that the batch is handed over in time.
    fn poll_wait(&self) -> Duration {
        let interval = Duration::from_millis(self.section.commit_interval_ms);
        let left = self.overlay.since.map(|since| interval.saturating_sub(since.elapsed()));
        // While a commit is under way its end is looked for often, since the next batch may be waiting.
        let wait = if self.committer.is_busy() { Duration::from_millis(5) } else { POLL_WAIT };
        left.map_or(POLL_WAIT, |left| left.max(Duration::from_millis(1)).min(wait))
    }

    /// Takes what the committer has done, and hands it the next batch when that is due.
    fn pump(&mut self) -> Result<Flow, CorrelatorError> {
        if self.committer.is_busy()
            && let Some(outcome) = self.committer.poll(Duration::ZERO)
        {
            self.settle(outcome)?;
        }
        if !self.committer.is_busy() && self.is_due() {
            self.hand_over()?;
        }
        if Instant::now() >= self.next_shrink {
            self.overlay.shrink(self.section.cache_max_entities, self.stored, &self.meters);
            self.next_shrink = Instant::now() + SHRINK_INTERVAL;
        }
        Ok(if self.context.shutdown.is_triggered() { Flow::End } else { Flow::Continue })
    }

    /// Seals the batch and gives it to the committer.
    fn hand_over(&mut self) -> Result<(), CorrelatorError> {
        let mut batch = self.overlay.seal(&self.codec, &self.meters)?;
        self.positions.extend(batch.offsets.clone());
        for partition in &batch.partitions {
            // Each partition that is written needs an offset, or the group could not refuse a former owner.
            if !batch.offsets.keys().any(|input| input.partition == *partition)
                && let Some((input, offset)) = self.positions.iter().find(|(p, _)| p.partition == *partition)
            {
                batch.offsets.insert(input.clone(), *offset);
            }
        }
        if batch.offsets.is_empty() {
            return Ok(());
        }
        let group = self.consumer.group_metadata()?;
        let offsets = batch.offsets.into_iter().map(|(p, offset)| CommittedOffset::new(p, offset)).collect();
        self.committer.commit(Sealed {
            records: batch.records,
            offsets,
            group,
            writes: batch.writes,
            partitions: batch.partitions.into_iter().collect(),
        })?;
        self.in_flight = Some((batch.number, Instant::now()));
        Ok(())
    }

    /// What a commit came to. After a failure everything that is not committed is done again.
    fn settle(&mut self, outcome: Outcome) -> Result<(), CorrelatorError> {
        match self.account(outcome)? {
            Ok(()) => Ok(()),
            Err(()) => {
                self.context.shutdown.wait(self.retry);
                self.retry = self.longer_retry();
                self.begin()
            }
        }
    }

    /// Notes what a commit came to; `Err(())`: what is not committed is to be discarded.
    fn account(&mut self, outcome: Outcome) -> Result<Result<(), ()>, CorrelatorError> {
        let in_flight = self.in_flight.take();
        match outcome {
            Outcome::Done => {
                if let Some((number, since)) = in_flight {
                    self.stored = number;
                    self.meters.commits.inc();
                    self.meters.commit_seconds.observe(since.elapsed().as_secs_f64());
                }
                self.retry = RETRY_MIN;
                self.ready.ready();
                Ok(Ok(()))
            }
            Outcome::StoreFailed(error) => Err(error.into()),
            Outcome::Failed(error) => {
                self.meters.commit_failures.inc();
                self.producer_ready = false;
                self.restored = false;
                if is_final(error.kind()) {
                    return Err(error.into());
                }
                tracing::warn!("a transaction failed and is done again: {error}");
                self.ready.not_ready(error.to_string());
                Ok(Err(()))
            }
        }
    }

    /// Commits all that is gathered and notes in the store how far it is. After a failure what is not committed is
    /// left to the next owner.
    fn drain(&mut self) -> Result<(), CorrelatorError> {
        for _ in 0..2 {
            if self.committer.is_busy() {
                let outcome = self.committer.wait()?;
                if self.account(outcome)?.is_err() {
                    self.overlay.discard();
                    return Ok(());
                }
            }
            if self.overlay.is_empty() {
                break;
            }
            self.hand_over()?;
        }
        // A store that misses something must not be given the position of one that does not.
        if self.restored && !self.partitions.is_empty() {
            let outcome = self.committer.checkpoint(self.partitions.iter().copied().collect())?;
            match outcome {
                Outcome::Done => {}
                Outcome::StoreFailed(error) => return Err(error.into()),
                Outcome::Failed(error) => tracing::debug!("the stored position stays behind: {error}"),
            }
        }
        Ok(())
    }

    fn assigned(&mut self, inputs: &[TopicPartition]) -> Result<(), CorrelatorError> {
        let topic_count = input_topics(self.codec.prefix()).len();
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for input in inputs {
            *counts.entry(input.partition).or_default() += 1;
        }
        if let Some((partition, _)) = counts.iter().find(|(_, count)| **count != topic_count) {
            return Err(CorrelatorError::NotAligned(*partition));
        }
        self.partitions = counts.into_keys().collect();
        self.positions = inputs.iter().map(|input| (input.clone(), 0)).collect();
        tracing::info!(partitions = self.partitions.len(), "partitions assigned");
        self.begin()
    }

    fn forget_partitions(&mut self) {
        self.overlay.discard();
        self.partitions.clear();
        self.positions.clear();
        self.restored = false;
        self.in_flight = None;
        self.meters.partitions.set(0);
        self.ready.not_ready("waiting for partitions");
    }

    /// Begins anew from what is committed: state from the topic, inputs from the committed offsets. Tries until it
    /// works or the end is asked for.
    fn begin(&mut self) -> Result<(), CorrelatorError> {
        self.begun += 1;
        self.restored = false;
        self.overlay.discard();
        self.in_flight = None;
        loop {
            self.liveness.beat();
            match self.try_begin() {
                Ok(()) => {
                    self.restored = true;
                    self.meters.partitions.set(i64::try_from(self.partitions.len()).unwrap_or(i64::MAX));
                    self.ready.ready();
                    return Ok(());
                }
                Err(RestoreError::Fatal(error)) => return Err(error),
                Err(RestoreError::Again(reason)) => {
                    tracing::warn!("waiting: {reason}");
                    self.ready.not_ready(reason);
                    if self.context.shutdown.wait(self.retry) {
                        return Ok(());
                    }
                    self.retry = self.longer_retry();
                }
            }
        }
    }

    fn try_begin(&mut self) -> Result<(), RestoreError> {
        // First take over the transactional id: then no transaction of a former life is open.
        if !self.producer_ready {
            match self.committer.new_producer().map_err(RestoreError::Fatal)? {
                Outcome::Done => self.producer_ready = true,
                Outcome::StoreFailed(error) => return Err(error.into()),
                Outcome::Failed(error) if is_final(error.kind()) => {
                    return Err(RestoreError::Fatal(error.into()));
                }
                Outcome::Failed(error) => return Err(RestoreError::Again(error.to_string())),
            }
        }
        let liveness = self.liveness.clone();
        let restore = Restore {
            broker: &*self.connections.broker,
            codec: &self.codec,
            store: &*self.store,
            state_topic: self.state_topic.clone(),
            beat: &move || liveness.beat(),
        };
        for partition in &self.partitions {
            let started = Instant::now();
            let count = restore.partition(*partition)?;
            self.meters.restored_records.inc_by(count);
            self.meters.restore_seconds.observe(started.elapsed().as_secs_f64());
        }
        let inputs: Vec<TopicPartition> = self.positions.keys().cloned().collect();
        let committed = self.consumer.committed(&inputs)?;
        for input in inputs {
            let known = committed.iter().find(|offset| offset.partition == input).map(|offset| offset.offset);
            let offset = match known {
                Some(offset) => offset,
                None => self.connections.broker.watermarks(&input)?.low,
            };
            self.consumer.seek(&input, offset)?;
            self.positions.insert(input, offset);
        }
        Ok(())
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

/// Whether beginning anew cannot help.
fn is_final(kind: BrokerErrorKind) -> bool {
    matches!(
        kind,
        BrokerErrorKind::Configuration
            | BrokerErrorKind::Unauthorized
            | BrokerErrorKind::RecordTooLarge
            | BrokerErrorKind::OffsetOutOfRange
            | BrokerErrorKind::NoCommittedOffset
    )
}

/// A topic's name without prefix and version, for labels.
fn short<'t>(topic: &'t str, prefix: &str) -> &'t str {
    plimsoll_schemas::topics::find_full(prefix, topic).map_or(topic, |known| known.name)
}
