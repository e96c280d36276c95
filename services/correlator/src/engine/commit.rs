//! Batches to the committer and what came of them, without holding up the loop.
//! It must never hand over a batch that no input offset guards, nor go on over a failed one.

use std::time::{Duration, Instant};

use plimsoll_kit::broker::CommittedOffset;

use super::begin::is_final;
use super::{Engine, Flow, RETRY_MIN, SHRINK_INTERVAL};
use crate::committer::{Outcome, Sealed};
use crate::error::CorrelatorError;
use crate::left_open::{self, Name};

impl Engine<'_> {
    /// Takes what the committer has done, and hands it the next batch when that is due.
    pub(super) fn pump(&mut self) -> Result<Flow, CorrelatorError> {
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
        let name = Name { life: format!("{}-{}", self.life, self.begun), number: batch.number };
        left_open::mark(&mut batch.records, &name, &self.writer);
        let named = |(partition, offset)| CommittedOffset { partition, offset, metadata: name.to_string() };
        let offsets = batch.offsets.into_iter().map(named).collect();
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
    pub(super) fn settle(&mut self, outcome: Outcome) -> Result<(), CorrelatorError> {
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
                self.looks.again(self.partitions.len());
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
    pub(super) fn drain(&mut self) -> Result<(), CorrelatorError> {
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
}
