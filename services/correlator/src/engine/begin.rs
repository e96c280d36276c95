//! Beginning: partitions come and go, and after a failure everything starts from what is committed.
//! It must never keep anything in memory that is not committed, nor give a store a position that it has not reached.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use plimsoll_kit::broker::{BrokerError, BrokerErrorKind, CommittedOffset, TopicPartition};

use super::Engine;
use crate::committer::{Committer, Outcome, Sealed};
use crate::decode::input_topics;
use crate::error::CorrelatorError;
use crate::left_open::{self, LeftOpen, Name};
use crate::restore::{Restore, RestoreError};

/// What helps where a transaction stays open that is not of this instance.
const ANOTHERS_REMEDY: &str = "it is not of this instance; find it by Kafka's kafka-transactions.sh find-hanging and end \
                               it by kafka-transactions.sh abort";

impl Engine<'_> {
    /// Drops everything that is not committed: another member has the partitions.
    pub(super) fn leave_to_others(&mut self) -> Result<(), CorrelatorError> {
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

    pub(super) fn assigned(&mut self, inputs: &[TopicPartition]) -> Result<(), CorrelatorError> {
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

    pub(super) fn forget_partitions(&mut self) {
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
    pub(super) fn begin(&mut self) -> Result<(), CorrelatorError> {
        self.begun += 1;
        self.restored = false;
        self.overlay.discard();
        self.in_flight = None;
        let since = Instant::now();
        let mut closed = false;
        loop {
            self.liveness.beat();
            let failure = match self.try_begin(since) {
                Ok(()) => {
                    self.restored = true;
                    self.meters.partitions.set(i64::try_from(self.partitions.len()).unwrap_or(i64::MAX));
                    self.ready.ready();
                    return Ok(());
                }
                Err(RestoreError::LeftOpen(reason)) if !closed => {
                    tracing::warn!("closing what the brokers left open: {reason}");
                    match self.close_left_open() {
                        Ok(()) => {
                            closed = true;
                            continue;
                        }
                        Err(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            let reason = match failure {
                RestoreError::Fatal(error) => return Err(error),
                RestoreError::Again(reason) => reason,
                RestoreError::LeftOpen(reason) => format!("{reason}: {ANOTHERS_REMEDY}"),
            };
            tracing::warn!("waiting: {reason}");
            self.ready.not_ready(reason);
            if self.context.shutdown.wait(self.retry) {
                return Ok(());
            }
            self.retry = self.longer_retry();
        }
    }

    /// Takes over the transactional id: then no transaction of a former life is open, as far as the brokers know.
    fn take_over(&mut self) -> Result<(), RestoreError> {
        if self.producer_ready {
            return Ok(());
        }
        self.given(|committer| committer.new_producer())?;
        self.producer_ready = true;
        Ok(())
    }

    /// Has the committer do something, and waits for it.
    fn given(
        &mut self,
        job: impl FnOnce(&mut Committer) -> Result<Outcome, CorrelatorError>,
    ) -> Result<(), RestoreError> {
        match job(&mut self.committer).map_err(RestoreError::Fatal)? {
            Outcome::Done => Ok(()),
            Outcome::StoreFailed(error) => Err(error.into()),
            Outcome::Failed(error) if is_final(error.kind()) => Err(RestoreError::Fatal(error.into())),
            Outcome::Failed(error) => {
                self.producer_ready = false;
                Err(RestoreError::Again(error.to_string()))
            }
        }
    }

    /// Ends the transactions of ours that the brokers left open; see [`crate::left_open`].
    fn close_left_open(&mut self) -> Result<(), RestoreError> {
        self.take_over()?;
        let broker = self.connections.broker.clone();
        let open = left_open::find(&*broker, &self.codec, &self.partitions)?;
        let inputs: Vec<TopicPartition> = self.positions.keys().cloned().collect();
        let known = broker.committed_so_far(&super::group(self.codec.prefix()), &inputs)?;
        let incomplete = self.incomplete(&open, &known)?;
        let (mut aborted, mut committed) = (Vec::new(), Vec::new());
        for left in open {
            let to =
                if incomplete.contains(&left.partition.partition) { &mut aborted } else { &mut committed };
            to.push(left.tombstone);
        }
        // These may be left open as well.
        let name = Name { life: format!("{}-{}-closing", self.life, self.begun), number: 0 };
        left_open::mark(&mut aborted, &name);
        left_open::mark(&mut committed, &name);
        let closed = (committed.len(), aborted.len());
        if !aborted.is_empty() {
            self.given(|committer| committer.abandon(aborted))?;
        }
        // One offset, as it stands, ends the transaction among the offsets too.
        let offset = match (known.into_iter().next(), inputs.into_iter().next()) {
            (Some(known), _) => known,
            (None, Some(input)) => {
                let low = broker.watermarks(&input)?.low;
                CommittedOffset::new(input, low)
            }
            (None, None) => return Ok(()),
        };
        let sealed = Sealed {
            records: committed,
            offsets: vec![offset],
            group: self.consumer.group_metadata()?,
            writes: Vec::new(),
            partitions: Vec::new(),
        };
        self.given(|committer| {
            committer.commit(sealed)?;
            committer.wait()
        })?;
        let (committed, aborted) = closed;
        tracing::warn!(
            committed,
            aborted,
            "closed what the brokers had left open of a transaction, by partitions; nothing is lost, but a dead letter \
             may be there twice"
        );
        Ok(())
    }

    /// Partition numbers whose left-open transaction never got as far as its offsets.
    fn incomplete(
        &self,
        open: &[LeftOpen],
        known: &[CommittedOffset],
    ) -> Result<BTreeSet<u32>, RestoreError> {
        let mut incomplete = BTreeSet::new();
        // By name: an answer that says "wait" takes as long as a request may.
        let mut unknown: BTreeMap<Name, BTreeSet<u32>> = BTreeMap::new();
        for left in open.iter().filter(|left| *left.partition.topic == *self.state_topic) {
            let Some(name) = &left.name else {
                let reason = format!("{}: a transaction without a name is open", left.partition);
                return Err(RestoreError::LeftOpen(reason));
            };
            let partition = left.partition.partition;
            let of_partition = known.iter().filter(|offset| offset.partition.partition == partition);
            if !of_partition.filter_map(|offset| Name::parse(&offset.metadata)).any(|at| at.is_past(name)) {
                unknown.entry(name.clone()).or_default().insert(partition);
            }
        }
        for partitions in unknown.into_values() {
            self.liveness.beat();
            let inputs: Vec<TopicPartition> = self
                .positions
                .keys()
                .filter(|input| partitions.contains(&input.partition))
                .cloned()
                .collect();
            // Its offsets wait for its end: they are the last that it sent, so it is complete.
            if !self.wait_for_a_transaction(&inputs)? {
                incomplete.extend(partitions);
            }
        }
        Ok(incomplete)
    }

    /// Whether offsets of `inputs` wait for the end of a transaction. The brokers then answer what is committed so far,
    /// and to nothing else.
    fn wait_for_a_transaction(&self, inputs: &[TopicPartition]) -> Result<bool, RestoreError> {
        let broker = &*self.connections.broker;
        let group = super::group(self.codec.prefix());
        match broker.committed(&group, inputs) {
            Ok(_) => Ok(false),
            Err(error) if error.is_retriable() => {
                broker.committed_so_far(&group, inputs)?;
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Begins anew if, long after the last transaction, one is still open: nothing else would end it until there are
    /// inputs again.
    pub(super) fn look_whether_settled(&mut self) -> Result<(), CorrelatorError> {
        let due = self.settled_look.is_some_and(|due| Instant::now() >= due);
        if !due || self.committer.is_busy() || !self.overlay.is_empty() {
            return Ok(());
        }
        self.settled_look = None;
        match left_open::is_any(&*self.connections.broker, &self.codec, &self.partitions) {
            Ok(false) => Ok(()),
            Ok(true) => self.begin(),
            Err(error) => {
                tracing::debug!("whether all transactions are ended is not known: {error}");
                self.look_later();
                Ok(())
            }
        }
    }

    /// Puts off [`Self::look_whether_settled`].
    pub(super) fn look_later(&mut self) {
        let after = Duration::from_millis(self.section.left_open_after_ms);
        self.settled_look = Some(Instant::now() + after);
    }

    /// What a failure to read committed offsets means: some wait for a transaction that nobody ends, or the brokers
    /// cannot be asked.
    fn unsettled(&self, error: BrokerError, inputs: &[TopicPartition], since: Instant) -> RestoreError {
        let long = since.elapsed() >= Duration::from_millis(self.section.left_open_after_ms);
        let group = super::group(self.codec.prefix());
        if error.is_retriable() && long && self.connections.broker.committed_so_far(&group, inputs).is_ok() {
            return RestoreError::LeftOpen(format!("offsets of group {group} wait for a transaction"));
        }
        error.into()
    }

    fn try_begin(&mut self, since: Instant) -> Result<(), RestoreError> {
        self.take_over()?;
        let liveness = self.liveness.clone();
        let restore = Restore {
            broker: &*self.connections.broker,
            codec: &self.codec,
            store: &*self.store,
            state_topic: self.state_topic.clone(),
            left_open_after: Duration::from_millis(self.section.left_open_after_ms),
            beat: &move || liveness.beat(),
        };
        for partition in &self.partitions {
            let started = Instant::now();
            let count = restore.partition(*partition)?;
            self.meters.restored_records.inc_by(count);
            self.meters.restore_seconds.observe(started.elapsed().as_secs_f64());
        }
        let inputs: Vec<TopicPartition> = self.positions.keys().cloned().collect();
        let committed =
            self.consumer.committed(&inputs).map_err(|error| self.unsettled(error, &inputs, since))?;
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
}

/// Whether beginning anew cannot help.
pub(super) fn is_final(kind: BrokerErrorKind) -> bool {
    matches!(
        kind,
        BrokerErrorKind::Configuration
            | BrokerErrorKind::Unauthorized
            | BrokerErrorKind::RecordTooLarge
            | BrokerErrorKind::OffsetOutOfRange
            | BrokerErrorKind::NoCommittedOffset
    )
}
