//! Beginning: partitions come and go, and after a failure everything starts from what is committed.
//! It must never keep anything in memory that is not committed, nor give a store a position that it has not reached.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use plimsoll_kit::broker::{BrokerError, BrokerErrorKind, CommittedOffset, TopicPartition};

use super::Engine;
use crate::committer::{Committer, Outcome, Sealed};
use crate::decode::input_topics;
use crate::error::CorrelatorError;
use crate::left_open;
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
                    closed = true;
                    match self.close_left_open() {
                        Ok(()) => continue,
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

    /// Ends the transaction of ours that the brokers left open; see [`crate::left_open`].
    fn close_left_open(&mut self) -> Result<(), RestoreError> {
        self.take_over()?;
        let broker = &*self.connections.broker;
        let records = left_open::closing_records(broker, &self.codec, &self.partitions)?;
        let inputs: Vec<TopicPartition> = self.positions.keys().cloned().collect();
        let mut offsets = broker.committed_so_far(&super::group(self.codec.prefix()), &inputs)?;
        for input in inputs {
            if !offsets.iter().any(|offset| offset.partition == input) {
                let low = broker.watermarks(&input)?.low;
                offsets.push(CommittedOffset::new(input, low));
            }
        }
        let closed = records.len();
        let group = self.consumer.group_metadata()?;
        let sealed = Sealed { records, offsets, group, writes: Vec::new(), partitions: Vec::new() };
        self.given(|committer| {
            committer.commit(sealed)?;
            committer.wait()
        })?;
        tracing::warn!(
            partitions = closed,
            "a transaction that the brokers had left open is closed; nothing is lost, a dead letter may be there twice"
        );
        Ok(())
    }

    /// Begins anew if, long after the last transaction, one is still open: nothing else would end it until there are
    /// inputs again.
    pub(super) fn look_whether_settled(&mut self) -> Result<(), CorrelatorError> {
        let due = self.settled_look.is_some_and(|due| Instant::now() >= due);
        if !due || self.committer.is_busy() || !self.overlay.is_empty() {
            return Ok(());
        }
        self.settled_look = None;
        match left_open::closing_records(&*self.connections.broker, &self.codec, &self.partitions) {
            Ok(open) if open.is_empty() => Ok(()),
            Ok(_) => self.begin(),
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
