//! What is under way: nothing, an insert, or a commit.
//! It must never drop offsets that were promised, but for partitions that went to another member.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_kit::broker::{
    BrokerErrorKind, BrokerResult, CommittedOffset, OutgoingRecord, Producer, TopicPartition,
};
use plimsoll_kit::clock;
use tokio::task::JoinHandle;

use super::Session;
use crate::batch::Batch;
use crate::plan;
use crate::write::BatchRows;

/// How long the delivery of dead letters may take before it is tried again.
const DEAD_LETTER_FLUSH: Duration = Duration::from_secs(5);
/// Wait before a failed commit is tried again.
const COMMIT_BACKOFF: Duration = Duration::from_millis(200);
/// Wait after a batch of which nothing could go.
const NOTHING_TO_CUT: Duration = Duration::from_millis(10);
/// Header of a dead letter whose value the broker did not take; its value is the size in bytes.
const VALUE_DROPPED_HEADER: &str = "plimsoll-dlq-value-dropped-bytes";

/// What is under way.
pub enum Stage {
    /// Nothing.
    Idle,
    /// A batch is inserted.
    Inserting {
        /// Ends when all rows are in.
        task: JoinHandle<()>,
        /// The batch, without its rows.
        batch: Box<Batch>,
        /// When it began.
        started: Instant,
    },
    /// Dead letters are delivered, and offsets committed.
    Committing {
        /// What to commit: next offsets of what is in, and plans of what comes next.
        offsets: BTreeMap<TopicPartition, CommittedOffset>,
        /// To be delivered before the commit.
        letters: Letters,
        /// The batch that is in, if one is.
        finished: Option<Box<Batch>>,
        /// The batch whose plans these are.
        next: Option<Box<Batch>>,
        /// Not to be tried before.
        retry_at: Instant,
    },
}

/// Dead letters on their way.
pub struct Letters {
    records: Vec<OutgoingRecord>,
    /// How many the producer has taken since it last lost any.
    taken: usize,
}

impl Letters {
    fn new(records: Vec<OutgoingRecord>) -> Self {
        Self { records, taken: 0 }
    }

    /// Delivers all of them; after a retriable error call it again.
    fn deliver(&mut self, producer: &mut dyn Producer) -> BrokerResult<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        while self.taken < self.records.len() {
            queue(producer, &self.records[self.taken]).inspect_err(|error| self.note(error.kind()))?;
            self.taken += 1;
        }
        producer.flush(DEAD_LETTER_FLUSH).inspect_err(|error| self.note(error.kind()))?;
        self.records.clear();
        Ok(())
    }

    /// Some that were taken are lost; which, is not known: all are sent again.
    fn note(&mut self, kind: BrokerErrorKind) {
        if kind == BrokerErrorKind::DeliveryFailed {
            self.taken = 0;
        }
    }
}

/// Queues a dead letter; one that its headers made too large goes without its value.
fn queue(producer: &mut dyn Producer, record: &OutgoingRecord) -> BrokerResult<()> {
    match producer.send(record) {
        Err(error) if error.kind() == BrokerErrorKind::RecordTooLarge => {
            tracing::error!("{error}; the dead letter is kept without its value");
            let mut small = record.clone();
            let size_bytes = small.value.take().map_or(0, |value| value.len());
            small.headers.push((VALUE_DROPPED_HEADER.to_owned(), size_bytes.to_string().into_bytes()));
            producer.send(&small)
        }
        outcome => outcome,
    }
}

impl Stage {
    /// Forgets a partition that went to another member.
    pub fn forget(&mut self, partition: &TopicPartition) {
        match self {
            Self::Idle => {}
            Self::Inserting { batch, .. } => {
                batch.done.remove(partition);
            }
            Self::Committing { offsets, next, .. } => {
                offsets.remove(partition);
                if let Some(next) = next {
                    next.done.remove(partition);
                    next.blocks.retain(|(of, _, _)| of != partition);
                    next.plans.retain(|(of, _, _)| of != partition);
                }
            }
        }
    }
}

impl Session<'_> {
    /// Does what can be done now; with `begin_new` also starts the next batch when it is due.
    ///
    /// # Errors
    /// What trying again does not mend.
    pub(super) fn advance(&mut self, begin_new: bool) -> anyhow::Result<()> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => {
                if let Some(next) = self.cut_if_due(begin_new) {
                    self.plan(None, Some(next))?;
                }
            }
            Stage::Inserting { mut task, batch, started } => {
                if !task.is_finished() {
                    self.stage = Stage::Inserting { task, batch, started };
                    return Ok(());
                }
                // A task that ended without its rows being in panicked: a bug, and no offset may pass it.
                self.around.runtime.block_on(&mut task)?;
                let next = self.cut_if_due(begin_new);
                self.plan(Some(batch), next)?;
            }
            Stage::Committing { offsets, letters, finished, next, retry_at } => {
                if Instant::now() < retry_at {
                    self.stage = Stage::Committing { offsets, letters, finished, next, retry_at };
                    return Ok(());
                }
                self.commit(offsets, letters, finished, next)?;
            }
        }
        Ok(())
    }

    fn cut_if_due(&mut self, begin_new: bool) -> Option<Box<Batch>> {
        let now = Instant::now();
        if !begin_new || self.due_at().is_none_or(|due| due > now) {
            return None;
        }
        let batch = self.filling.cut(self.limits, now).map(Box::new);
        if batch.is_none() {
            self.not_before = now + NOTHING_TO_CUT;
        }
        batch
    }

    /// Commits what is in, together with the plans of what comes next.
    fn plan(&mut self, mut finished: Option<Box<Batch>>, mut next: Option<Box<Batch>>) -> anyhow::Result<()> {
        let mut offsets = BTreeMap::new();
        let mut records = Vec::new();
        if let Some(finished) = &mut finished {
            for (partition, offset) in &finished.done {
                offsets.insert(partition.clone(), CommittedOffset::new(partition.clone(), *offset));
            }
            records.append(&mut finished.dead_letters);
        }
        if let Some(next) = &mut next {
            for (partition, _, block) in &next.blocks {
                let mut planned = CommittedOffset::new(partition.clone(), block.begin);
                planned.metadata = plan::print(block.end);
                offsets.insert(partition.clone(), planned);
            }
            records.append(&mut next.dead_letters);
        }
        self.commit(offsets, Letters::new(records), finished, next)
    }

    fn commit(
        &mut self,
        offsets: BTreeMap<TopicPartition, CommittedOffset>,
        mut letters: Letters,
        finished: Option<Box<Batch>>,
        next: Option<Box<Batch>>,
    ) -> anyhow::Result<()> {
        let outcome = letters.deliver(&mut *self.dead_letters).and_then(|()| {
            let list: Vec<CommittedOffset> = offsets.values().cloned().collect();
            if list.is_empty() { Ok(()) } else { self.consumer.commit(&list) }
        });
        match outcome {
            Ok(()) => {
                if let Some(mut finished) = finished {
                    self.finish(&finished);
                    // The continued traces end where their rows are in and committed.
                    finished.spans.clear();
                }
                self.stage = next.map_or(Stage::Idle, |next| self.start(next));
                Ok(())
            }
            Err(error) if error.is_retriable() || error.kind() == BrokerErrorKind::DeliveryFailed => {
                self.broker_is_away(&error);
                let retry_at = Instant::now() + COMMIT_BACKOFF;
                self.stage = Stage::Committing { offsets, letters, finished, next, retry_at };
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn finish(&self, batch: &Batch) {
        if let Some(oldest) = batch.oldest_timestamp_ms {
            let delay_ms = clock::now_ms().saturating_sub(oldest).max(0);
            self.around.metrics.delay_seconds.observe(delay_ms as f64 / 1000.0);
        }
    }

    fn start(&mut self, mut batch: Box<Batch>) -> Stage {
        let now = Instant::now();
        self.last_start = Some(now);
        let rows = BatchRows::take(&mut batch);
        let task = self.around.runtime.spawn(Arc::clone(&self.around.writer).write(rows));
        Stage::Inserting { task, batch, started: now }
    }
}
