//! Beginning: partitions come and go, and after a failure everything starts from what is committed.
//! It must never keep anything in memory that is not committed, nor give a store a position that it has not reached.

use std::collections::BTreeMap;
use std::time::Instant;

use plimsoll_kit::broker::{BrokerErrorKind, TopicPartition};

use super::Engine;
use crate::committer::Outcome;
use crate::decode::input_topics;
use crate::error::CorrelatorError;
use crate::restore::{Restore, RestoreError};

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
