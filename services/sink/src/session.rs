//! One membership in the consumer group: records in, batches to ClickHouse, offsets committed behind them.
//! It must never commit an offset before its rows are in, nor insert a history block before its plan is committed.
//!
//! While one batch is inserted, the next one is gathered; more than these two never wait. The order for a history
//! partition is: commit (begin, plan of the end) → insert → commit (end, next plan) → …

mod stage;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use plimsoll_kit::broker::{
    Broker, BrokerError, BrokerErrorKind, CommittedOffset, ConsumerEvent, GroupConsumer, GroupOptions,
    IncomingRecord, Producer, ProducerOptions, TopicPartition,
};
use plimsoll_kit::lifecycle::{Liveness, Readiness, ShutdownToken};
use tokio::runtime::Runtime;

use self::stage::Stage;
use crate::batch::Filling;
use crate::config::SinkConfig;
use crate::history::BlockLimits;
use crate::metrics::SinkMetrics;
use crate::plan::{self, Journal};
use crate::route::{Router, Taken, history_table};
use crate::write::Writer;

/// Most records taken in one turn of the loop.
const POLL_MAX_RECORDS: usize = 2_000;
/// Longest wait for records while nothing else is to be done.
const POLL_IDLE: Duration = Duration::from_millis(100);
/// Longest wait for records while a batch is inserted: its end should be seen soon.
const POLL_BUSY: Duration = Duration::from_millis(5);
/// The same once an insert takes this long: ClickHouse is slow or away.
const SLOW_INSERT: Duration = Duration::from_secs(1);
/// Wait before a record is decoded again whose schema the registry did not give.
const REGISTRY_BACKOFF: Duration = Duration::from_millis(500);
/// Wait before the journal is read again.
const JOURNAL_BACKOFF: Duration = Duration::from_secs(1);
/// Wait after an error of the broker that may pass.
const BROKER_BACKOFF: Duration = Duration::from_millis(200);
/// How long a batch under way may take to end when partitions go to another member.
const REVOKE_MAX_WAIT: Duration = Duration::from_secs(5);
/// The same when the process is asked to end.
const SHUTDOWN_MAX_WAIT: Duration = Duration::from_secs(5);
/// A failure that lasts is logged again after this long.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// What outlives a membership.
pub struct Surroundings {
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// Topics and what their records become.
    pub router: Router,
    /// Writes batches.
    pub writer: Arc<Writer>,
    /// Metrics.
    pub metrics: SinkMetrics,
    /// Threads of the inserts.
    pub runtime: Runtime,
    /// Group id.
    pub group: String,
    /// Says when to end.
    pub shutdown: ShutdownToken,
    /// Whether the broker answers.
    pub kafka: Readiness,
    /// Whether the schema registry answers; it is asked for schemas that were never seen.
    pub registry: Readiness,
    /// Beats once a turn of the loop.
    pub liveness: Liveness,
}

/// Why a membership ended.
#[must_use]
pub enum SessionEnd {
    /// The process was asked to end.
    AskedTo,
    /// The group went on without this member; whatever was not committed is read again.
    Rejoin(BrokerError),
}

/// One membership.
pub struct Session<'a> {
    around: &'a Surroundings,
    consumer: Box<dyn GroupConsumer>,
    dead_letters: Box<dyn Producer>,
    limits: BlockLimits,
    linger: Duration,
    interval: Duration,
    filling: Filling,
    stage: Stage,
    last_start: Option<Instant>,
    /// When a full batch may be cut again of which nothing could go: a planned block that is not whole yet.
    not_before: Instant,
    /// Polled records that could not be decoded yet, because the registry is away.
    backlog: VecDeque<IncomingRecord>,
    backlog_retry: Instant,
    /// Partitions whose end was told behind records of the backlog.
    late_ends: Vec<TopicPartition>,
    paused: bool,
    last_warning: Option<Instant>,
}

impl<'a> Session<'a> {
    /// Joins the group.
    ///
    /// # Errors
    /// A wrong configuration.
    pub fn join(around: &'a Surroundings, config: &SinkConfig) -> anyhow::Result<Self> {
        let options = GroupOptions {
            instance_id: Some(format!("{}.{}", around.group, config.group.instance)),
            end_of_partition_events: true,
            prefetch_max_bytes: config.batch.prefetch_max_bytes,
            ..GroupOptions::new(&around.group, around.router.topics())
        };
        let consumer = around.broker.group_consumer(options).context("opening the consumer")?;
        let producer = ProducerOptions::idempotent(format!("{}.{}.dlq", around.group, config.group.instance));
        let dead_letters =
            around.broker.producer(producer).context("opening the producer of dead letters")?;
        Ok(Self {
            around,
            consumer,
            dead_letters,
            limits: BlockLimits { max_rows: config.batch.max_rows, max_bytes: config.batch.max_bytes },
            linger: Duration::from_millis(config.batch.linger_ms),
            interval: Duration::from_millis(config.batch.interval_ms),
            filling: Filling::default(),
            stage: Stage::Idle,
            last_start: None,
            not_before: Instant::now(),
            backlog: VecDeque::new(),
            backlog_retry: Instant::now(),
            late_ends: Vec::new(),
            paused: false,
            last_warning: None,
        })
    }

    /// Moves records until the process is asked to end or the group goes on without this member.
    ///
    /// # Errors
    /// What neither trying nor joining again mends.
    pub fn run(mut self) -> anyhow::Result<SessionEnd> {
        while !self.around.shutdown.is_triggered() {
            self.around.liveness.beat();
            if let Err(error) = self.turn() {
                self.abandon();
                return end_of(error);
            }
        }
        let ended = self.settle(Instant::now() + SHUTDOWN_MAX_WAIT);
        self.abandon();
        self.consumer.close();
        match ended {
            Ok(_) => Ok(SessionEnd::AskedTo),
            Err(error) => end_of(error).map(|_| SessionEnd::AskedTo),
        }
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        self.advance(true)?;
        self.retry_backlog();
        self.balance_intake()?;
        let events = match self.consumer.poll(self.poll_timeout(), POLL_MAX_RECORDS) {
            Ok(events) => {
                self.around.kafka.ready();
                events
            }
            Err(error) if error.is_retriable() => {
                self.broker_is_away(&error);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for event in events {
            match event {
                ConsumerEvent::Record(record) => self.record(record),
                ConsumerEvent::EndOfPartition(partition) if self.backlog.is_empty() => {
                    self.filling.caught_up(&partition, Instant::now());
                }
                // Told once: it holds when what was read before it has been taken.
                ConsumerEvent::EndOfPartition(partition) => self.late_ends.push(partition),
                ConsumerEvent::Assigned(partitions) => self.assigned(&partitions)?,
                ConsumerEvent::Revoked(partitions) => {
                    self.settle(Instant::now() + REVOKE_MAX_WAIT)?;
                    self.forget(&partitions);
                }
                ConsumerEvent::Lost(partitions) => self.forget(&partitions),
            }
        }
        Ok(())
    }

    fn broker_is_away(&mut self, error: &BrokerError) {
        self.around.kafka.not_ready(error.to_string());
        if self.last_warning.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL) {
            self.last_warning = Some(Instant::now());
            tracing::warn!("{error}; trying again");
        }
        self.around.shutdown.wait(BROKER_BACKOFF);
    }

    fn poll_timeout(&self) -> Duration {
        let now = Instant::now();
        let busy = match &self.stage {
            Stage::Idle => POLL_IDLE,
            Stage::Inserting { started, .. } if now - *started < SLOW_INSERT => POLL_BUSY,
            Stage::Inserting { .. } => POLL_BUSY * 10,
            Stage::Committing { retry_at, .. } => retry_at.saturating_duration_since(now),
        };
        let due = self.due_at().map_or(POLL_IDLE, |due| due.saturating_duration_since(now));
        let due = if matches!(self.stage, Stage::Idle) { due } else { POLL_IDLE };
        busy.min(due).min(POLL_IDLE)
    }

    fn is_full(&self) -> bool {
        self.filling.bytes() >= self.limits.max_bytes || self.filling.row_count() >= self.limits.max_rows
    }

    /// When what waits should go; `None`: nothing waits.
    fn due_at(&self) -> Option<Instant> {
        let oldest = self.filling.oldest()?;
        if self.is_full() {
            return Some(oldest.max(self.not_before));
        }
        let after_last = self.last_start.map_or(oldest, |last| last + self.interval);
        Some((oldest + self.linger).max(after_last))
    }

    /// Pauses consumption while two batches wait or the registry is away; resumes it after.
    fn balance_intake(&mut self) -> anyhow::Result<()> {
        let stop = !self.backlog.is_empty() || (self.is_full() && !matches!(self.stage, Stage::Idle));
        self.around.metrics.waiting_bytes.set(self.filling.bytes() as i64);
        if stop == self.paused {
            return Ok(());
        }
        let assignment = self.consumer.assignment();
        if stop {
            self.consumer.pause(&assignment)?;
        } else {
            self.consumer.resume(&assignment)?;
        }
        self.paused = stop;
        self.around.metrics.paused.set(i64::from(stop));
        Ok(())
    }

    fn record(&mut self, record: IncomingRecord) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(record);
            return;
        }
        match self.around.router.take(&record, &mut self.filling, Instant::now()) {
            Taken::Rows => {}
            Taken::DeadLetter(reason) => tracing::warn!(
                topic = &*record.topic,
                partition = record.partition,
                offset = record.offset,
                "record refused, to the dead letters: {reason}"
            ),
            Taken::Retry(error) => {
                if self.last_warning.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL) {
                    self.last_warning = Some(Instant::now());
                    tracing::warn!("{error}; the record is decoded again until the registry answers");
                }
                self.around.registry.not_ready(error.to_string());
                self.backlog.push_front(record);
                self.backlog_retry = Instant::now() + REGISTRY_BACKOFF;
            }
        }
    }

    fn retry_backlog(&mut self) {
        if self.backlog.is_empty() || Instant::now() < self.backlog_retry {
            return;
        }
        let mut waiting = std::mem::take(&mut self.backlog);
        while let Some(record) = waiting.pop_front() {
            self.record(record);
            if !self.backlog.is_empty() {
                break;
            }
        }
        self.backlog.append(&mut waiting);
        self.backlog_ended();
    }

    /// If the backlog is empty, what waited for that.
    fn backlog_ended(&mut self) {
        if self.backlog.is_empty() {
            self.around.registry.ready();
            for partition in std::mem::take(&mut self.late_ends) {
                self.filling.caught_up(&partition, Instant::now());
            }
        }
    }

    /// Continues where the group stopped, planned blocks first.
    fn assigned(&mut self, partitions: &[TopicPartition]) -> anyhow::Result<()> {
        self.paused = false;
        let Some(committed) = self.committed(partitions)? else { return Ok(()) };
        let Some(mut journals) = self.journals(&committed)? else { return Ok(()) };
        for partition in partitions {
            let committed = committed.get(partition);
            if let Some(table) = history_table(&self.around.router, partition) {
                let planned = committed.map_or(Ok(None), |committed| plan::parse(&committed.metadata));
                let planned = planned.with_context(|| format!("group {}, {partition}", self.around.group))?;
                let begin = committed.map(|committed| committed.offset);
                let journal = journals.remove(partition).unwrap_or_default();
                let ends = begin.map_or_else(Vec::new, |begin| plan::known_ends(begin, planned, &journal));
                if let Some(end) = ends.last() {
                    let blocks = ends.len();
                    tracing::info!(%partition, end, blocks, "finishing what was planned before the last end");
                }
                self.filling.open_history(partition.clone(), table, begin, ends);
            }
            if let Some(committed) = committed {
                self.consumer.seek(partition, committed.offset)?;
            }
        }
        tracing::info!("reading {} partitions", partitions.len());
        Ok(())
    }

    /// The group's committed offsets; waits while the broker is away. `None`: asked to end.
    fn committed(
        &mut self,
        partitions: &[TopicPartition],
    ) -> anyhow::Result<Option<BTreeMap<TopicPartition, CommittedOffset>>> {
        while !self.around.shutdown.is_triggered() {
            self.around.liveness.beat();
            match self.consumer.committed(partitions) {
                Ok(found) => return Ok(Some(found.into_iter().map(|c| (c.partition.clone(), c)).collect())),
                Err(error) if error.is_retriable() => self.broker_is_away(&error),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Blocks of the history partitions from the committed offsets on; waits while ClickHouse is away. `None`: asked to
    /// end.
    fn journals(
        &mut self,
        committed: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> anyhow::Result<Option<HashMap<TopicPartition, Journal>>> {
        let is_history = |partition: &TopicPartition| history_table(&self.around.router, partition).is_some();
        let begins: Vec<(TopicPartition, i64)> = committed
            .values()
            .filter(|committed| is_history(&committed.partition))
            .map(|committed| (committed.partition.clone(), committed.offset))
            .collect();
        loop {
            self.around.liveness.beat();
            match self.around.runtime.block_on(self.around.writer.journal(&begins)) {
                Ok(found) => return Ok(Some(found)),
                Err(error) if !error.is_retriable() => return Err(error.into()),
                Err(error) => tracing::warn!("{error}; the partitions wait for it"),
            }
            if self.around.shutdown.wait(JOURNAL_BACKOFF) {
                return Ok(None);
            }
        }
    }

    /// Brings what is under way to its end, at most until `deadline`; begins nothing new. Whether it ended.
    fn settle(&mut self, deadline: Instant) -> anyhow::Result<bool> {
        while !matches!(self.stage, Stage::Idle) && Instant::now() < deadline {
            self.advance(false)?;
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(matches!(self.stage, Stage::Idle))
    }

    /// These partitions are another member's now: nothing of them may be committed any more.
    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.filling.close(partition);
            self.stage.forget(partition);
        }
        self.backlog.retain(|record| !partitions.contains(&record.topic_partition()));
        self.late_ends.retain(|partition| !partitions.contains(partition));
        self.backlog_ended();
    }

    /// Stops inserts under way; what they did is done again by whoever reads the records next.
    fn abandon(&mut self) {
        if let Stage::Inserting { task, .. } = std::mem::replace(&mut self.stage, Stage::Idle) {
            task.abort();
        }
    }
}

/// Sorts errors into those after which joining again helps, and the rest.
fn end_of(error: anyhow::Error) -> anyhow::Result<SessionEnd> {
    match error.downcast_ref::<BrokerError>() {
        Some(broker) => match broker.kind() {
            BrokerErrorKind::AbortTransaction
            | BrokerErrorKind::OutcomeUnknown
            | BrokerErrorKind::UnknownTopic => Ok(SessionEnd::Rejoin(broker.clone())),
            _ => Err(error),
        },
        None => Err(error),
    }
}
