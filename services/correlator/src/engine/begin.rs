//! Beginning: partitions come and go, and after a failure everything starts from what is committed.
//! It must never keep anything in memory that is not committed, nor give a store a position that it has not reached.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

use plimsoll_kit::broker::{BrokerError, BrokerErrorKind, CommittedOffset, TopicPartition};

use super::Engine;
use crate::committer::{Committer, Outcome, Sealed};
use crate::decode::input_topics;
use crate::error::CorrelatorError;
use crate::left_open::{self, LeftOpen, Name};
use crate::restore::{Restore, RestoreError};

/// What helps where closing did not: it is another instance's, or carries no name.
const OTHERS_REMEDY: &str = "start the instance that wrote it again (correlator.instance), which closes it; else Kafka's \
                             kafka-transactions.sh find-hanging and abort, which drops what it wrote";
/// How often one beginning closes what is left open: a closing may be left open as well.
const CLOSINGS_MAX: usize = 3;
/// Wait between two looks at what is open at a beginning.
const SETTLE_INTERVAL: Duration = Duration::from_millis(50);
/// Longest beginning without a poll; Kafka's max.poll.interval.ms is 5 minutes.
const BEGIN_MAX: Duration = Duration::from_secs(240);

/// Open transactions: the first offset of each, by partition.
pub(super) type FirstOffsets = BTreeMap<TopicPartition, i64>;

/// Which partition is looked at next, and what was open there the last time.
#[derive(Default)]
pub(super) struct Looks {
    /// How many are still due: two of each partition after a commit or a beginning.
    left: usize,
    next: Option<Instant>,
    last: Option<u32>,
    seen: FirstOffsets,
    /// The same was open twice: what begins closes it.
    found: bool,
}

impl Looks {
    /// Something was committed, or begun.
    pub fn again(&mut self, partitions: usize) {
        self.left = 2 * partitions;
    }
}

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
        let mut closings = 0;
        loop {
            self.liveness.beat();
            let begun = if std::mem::take(&mut self.looks.found) {
                Err(RestoreError::LeftOpen("a transaction is still open in the outputs".to_owned()))
            } else {
                self.try_begin(since)
            };
            let failure = match begun {
                Ok(()) => {
                    self.restored = true;
                    self.meters.partitions.set(i64::try_from(self.partitions.len()).unwrap_or(i64::MAX));
                    self.ready.ready();
                    self.looks = Looks::default();
                    self.looks.again(self.partitions.len());
                    return Ok(());
                }
                Err(RestoreError::LeftOpen(reason)) if closings < CLOSINGS_MAX => {
                    tracing::warn!("closing what the brokers left open: {reason}");
                    match self.close_left_open() {
                        Ok(()) => {
                            closings += 1;
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
                RestoreError::LeftOpen(reason) => format!("{reason}: {OTHERS_REMEDY}"),
            };
            if since.elapsed() >= BEGIN_MAX {
                tracing::warn!("joining the group anew, since nothing was polled for long: {reason}");
                self.forget_partitions();
                let options = super::group_options(self.connections, self.section);
                self.consumer = self.connections.broker.group_consumer(options)?;
                return Ok(());
            }
            tracing::warn!("waiting: {reason}");
            self.ready.not_ready(reason);
            if self.context.shutdown.wait(self.retry) {
                return Ok(());
            }
            self.retry = self.longer_retry();
        }
    }

    /// Takes over the transactional id: then no transaction of a former life is open, as far as the brokers know.
    pub(super) fn take_over(&mut self) -> Result<(), RestoreError> {
        if self.producer_ready {
            return Ok(());
        }
        self.given(|committer| committer.new_producer())?;
        self.producer_ready = true;
        self.outputs_settled = false;
        Ok(())
    }

    /// Has the committer do something, and waits for it.
    fn given(
        &mut self,
        job: impl FnOnce(&mut Committer) -> Result<Outcome, CorrelatorError>,
    ) -> Result<(), RestoreError> {
        self.liveness.beat();
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

    /// Ends the transactions of ours that the brokers left open; see [`crate::left_open`]. What is open for long after
    /// that is another's.
    fn close_left_open(&mut self) -> Result<(), RestoreError> {
        self.take_over()?;
        let Some(first) = self.partitions.first().copied() else { return Ok(()) };
        let broker = self.connections.broker.clone();
        let liveness = self.liveness.clone();
        let open = left_open::find(&*broker, &self.codec, &self.partitions, &move || liveness.beat())?;
        let incomplete = self.incomplete(&open)?;
        let (mut aborted, mut committed) = (Vec::new(), Vec::new());
        let mut closing = Vec::new();
        for left in open {
            let (to, end) = if incomplete.contains(&left.partition.partition) {
                (&mut aborted, "aborted")
            } else {
                (&mut committed, "committed")
            };
            to.push(left.tombstone);
            closing.push((left.partition, left.first, end));
        }
        // These may be left open as well.
        let name = Name { life: format!("{}-{}-closing", self.life, self.begun), number: 0 };
        left_open::mark(&mut aborted, &name, &self.writer);
        left_open::mark(&mut committed, &name, &self.writer);
        if !aborted.is_empty() {
            self.given(|committer| committer.abandon(aborted))?;
        }
        // Ends the transaction among the offsets too. Of no input: that could replace a newer one that waits.
        let offset = CommittedOffset::new(TopicPartition::new(self.state_topic.clone(), first), 0);
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
        let still = self.open_for_long(&FirstOffsets::new())?;
        self.account_closing(closing, &still)
    }

    /// Counts what a closing ended, and tells once of what it did not end. Each: its partition, first offset and end.
    /// Fails where something of ours is still open: the closing itself was left open as well.
    fn account_closing(
        &mut self,
        closing: Vec<(TopicPartition, i64, &'static str)>,
        still: &FirstOffsets,
    ) -> Result<(), RestoreError> {
        let (open, closed): (Vec<_>, Vec<_>) =
            closing.into_iter().partition(|(partition, first, _)| still.get(partition) == Some(first));
        for end in ["aborted", "committed"] {
            let count = closed.iter().filter(|(_, _, by)| *by == end).count();
            if count > 0 {
                self.meters.left_open.with(&[end]).inc_by(count as u64);
                tracing::warn!(partitions = count, "{end} what the brokers had left open of a transaction");
            }
        }
        let (mut others, mut ours) = (FirstOffsets::new(), None);
        for (partition, first, _) in open {
            let writer = left_open::writer_of(&*self.connections.broker, &partition, first)?;
            if writer.as_ref() == Some(&self.writer) {
                ours = Some(partition);
            } else {
                others.insert(partition, first);
            }
        }
        for (partition, first) in others.iter().filter(|(at, first)| self.others.get(at) != Some(first)) {
            tracing::warn!(
                "{partition}: closing did not end the transaction open at {first}: {OTHERS_REMEDY}"
            );
        }
        self.others = others;
        match ours {
            Some(partition) => {
                Err(RestoreError::Again(format!("{partition}: the closing was left open, too")))
            }
            None => Ok(()),
        }
    }

    /// Partition numbers whose left-open transaction never got as far as its offsets.
    fn incomplete(&self, open: &[LeftOpen]) -> Result<BTreeSet<u32>, RestoreError> {
        let broker = &*self.connections.broker;
        let inputs: Vec<TopicPartition> = self.positions.keys().cloned().collect();
        let known = broker.committed_so_far(&super::group(self.codec.prefix()), &inputs)?;
        let mut incomplete = BTreeSet::new();
        // By name: an answer that says "wait" takes as long as a request may.
        let mut unknown: BTreeMap<Name, BTreeSet<u32>> = BTreeMap::new();
        for left in open.iter().filter(|left| *left.partition.topic == *self.state_topic) {
            self.liveness.beat();
            let Some(name) = left_open::name_of(broker, left)? else {
                let reason = format!("{}: a transaction without a name is open", left.partition);
                return Err(RestoreError::LeftOpen(reason));
            };
            let partition = left.partition.partition;
            let of_partition = known.iter().filter(|offset| offset.partition.partition == partition);
            if !of_partition.filter_map(|offset| Name::parse(&offset.metadata)).any(|at| at.is_past(&name)) {
                unknown.entry(name).or_default().insert(partition);
            }
        }
        for partitions in unknown.into_values() {
            let inputs: Vec<TopicPartition> =
                inputs.iter().filter(|input| partitions.contains(&input.partition)).cloned().collect();
            // Its offsets wait for its end: they are the last that it sent, so it is complete.
            if !self.wait_for_a_transaction(&inputs)? {
                incomplete.extend(partitions);
            }
        }
        Ok(incomplete)
    }

    /// Whether offsets of `inputs` wait for the end of a transaction. The brokers then answer what is committed so far,
    /// and to nothing else: asked twice, since a coordinator that is just starting answers as late.
    fn wait_for_a_transaction(&self, inputs: &[TopicPartition]) -> Result<bool, RestoreError> {
        let broker = &*self.connections.broker;
        let group = super::group(self.codec.prefix());
        for _ in 0..2 {
            self.liveness.beat();
            broker.committed_so_far(&group, inputs)?;
            match broker.committed(&group, inputs) {
                Ok(_) => return Ok(false),
                Err(error) if error.is_retriable() => {}
                Err(error) => return Err(error.into()),
            }
        }
        broker.committed_so_far(&group, inputs)?;
        Ok(true)
    }

    /// Waits until no transaction is open in the outputs: the first one of this life would end it wherever it writes, and
    /// if that one is given up, drop what was complete. Readers wait for another's, we need not.
    fn wait_until_settled(&mut self) -> Result<(), RestoreError> {
        if let Some((partition, _)) = self.open_for_long(&self.others)?.first_key_value() {
            return Err(RestoreError::LeftOpen(format!("{partition}: a transaction is still open")));
        }
        self.outputs_settled = true;
        Ok(())
    }

    /// What is open beside `others` for as long as no transaction may be; nothing, as soon as that is so.
    fn open_for_long(&self, others: &FirstOffsets) -> Result<FirstOffsets, RestoreError> {
        let deadline = Instant::now() + Duration::from_millis(self.section.left_open_after_ms);
        let liveness = self.liveness.clone();
        let beat = move || liveness.beat();
        let mut partitions = self.partitions.clone();
        loop {
            let open = left_open::find(&*self.connections.broker, &self.codec, &partitions, &beat)?;
            let mut open = first_offsets(open);
            open.retain(|at, first| others.get(at) != Some(first));
            if open.is_empty() || Instant::now() >= deadline {
                return Ok(open);
            }
            partitions = open.into_keys().map(|at| at.partition).collect();
            if self.context.shutdown.wait(SETTLE_INTERVAL) {
                return Err(RestoreError::Again("ending".to_owned()));
            }
        }
    }

    /// Looks at one partition now and then, and begins anew if the same transaction was open there two rounds long:
    /// nothing else would end it until something is written there. Not for another's: that would not end it.
    pub(super) fn look_whether_settled(&mut self) -> Result<(), CorrelatorError> {
        let now = Instant::now();
        if self.looks.left == 0 || self.committer.is_busy() || self.looks.next.is_some_and(|next| now < next)
        {
            return Ok(());
        }
        let after = self.looks.last.map_or(Bound::Unbounded, Bound::Excluded);
        let number = self.partitions.range((after, Bound::Unbounded)).next().or(self.partitions.first());
        let Some(number) = number.copied() else { return Ok(()) };
        let round = Duration::from_millis(self.section.left_open_after_ms);
        let is_first = self
            .looks
            .next
            .replace(now + round / u32::try_from(self.partitions.len()).unwrap_or(1))
            .is_none();
        if is_first {
            return Ok(());
        }
        self.looks.last = Some(number);
        self.looks.left -= 1;
        let liveness = self.liveness.clone();
        let beat = move || liveness.beat();
        match left_open::find(&*self.connections.broker, &self.codec, &BTreeSet::from([number]), &beat) {
            Ok(open) => {
                let mut open = first_offsets(open);
                open.retain(|at, first| self.others.get(at) != Some(first));
                self.looks.found = open.iter().any(|(at, first)| self.looks.seen.get(at) == Some(first));
                self.looks.seen.retain(|at, _| at.partition != number);
                self.looks.seen.extend(open);
            }
            Err(error) if is_final(error.kind()) => return Err(error.into()),
            Err(error) => tracing::debug!("whether all transactions are ended is not known: {error}"),
        }
        if self.looks.found { self.begin() } else { Ok(()) }
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
        if !self.outputs_settled {
            self.wait_until_settled()?;
        }
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

fn first_offsets(open: Vec<LeftOpen>) -> FirstOffsets {
    open.into_iter().map(|left| (left.partition, left.first)).collect()
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
