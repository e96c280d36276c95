//! The memory broker's group member and partition reader.
//! Never gives a record of a partition that was revoked, and never skips an offset that retention removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use super::producer::MemoryGroupMetadata;
use super::{Shared, State};
use crate::broker::types::{
    CommittedOffset, ConsumerEvent, GroupMetadata, GroupOptions, IncomingRecord, ReaderOptions, StartPolicy,
    TopicPartition,
};
use crate::broker::{BrokerError, BrokerErrorKind, BrokerResult, GroupConsumer, PartitionReader};

#[derive(Default)]
struct Position {
    /// `None` until the committed offset or the start policy was looked up.
    next: Option<i64>,
    /// The end for which `EndOfPartition` was given last.
    told_end: Option<i64>,
}

pub(super) struct MemoryConsumer {
    shared: Arc<Shared>,
    options: GroupOptions,
    member: u64,
    generation: u64,
    positions: BTreeMap<TopicPartition, Position>,
    paused: BTreeSet<TopicPartition>,
    /// `Revoked` was given; the next poll gives the partitions up.
    revoking: bool,
    /// Where the next poll begins, so that no partition starves.
    turn: usize,
}

fn out_of_range(partition: &TopicPartition, offset: i64, state: &State) -> BrokerError {
    let kept = match state.log(partition) {
        Ok(log) => format!("{} to {}", log.watermarks().low, log.watermarks().high),
        Err(_) => "nothing".into(),
    };
    BrokerError::new(
        BrokerErrorKind::OffsetOutOfRange,
        format_args!(
            "{partition}: offset {offset} is not in the log (kept: {kept}); records were removed before they were read; raise the topic's retention and decide where to go on"
        ),
    )
}

impl MemoryConsumer {
    pub fn new(shared: Arc<Shared>, options: GroupOptions, member: u64) -> Self {
        Self {
            shared,
            options,
            member,
            generation: 0,
            positions: BTreeMap::new(),
            paused: BTreeSet::new(),
            revoking: false,
            turn: 0,
        }
    }

    fn give_up(&mut self) -> Vec<TopicPartition> {
        self.revoking = false;
        self.paused.clear();
        std::mem::take(&mut self.positions).into_keys().collect()
    }

    /// Membership changes first; `None`: nothing to tell.
    fn membership(&mut self, state: &mut State, now: Instant) -> BrokerResult<Option<ConsumerEvent>> {
        state.advance_group(&self.options.group, now);
        let group = state.groups.entry(self.options.group.clone()).or_default();
        if !group.members.contains_key(&self.member) {
            if let Some(instance) = &self.options.instance_id
                && group.members.values().any(|m| m.instance_id.as_ref() == Some(instance))
            {
                return Err(BrokerError::new(
                    BrokerErrorKind::Fenced,
                    format_args!(
                        "group {}: instance {instance} was taken over by another process; stop one of them",
                        self.options.group
                    ),
                ));
            }
            // The session expired: join again, after saying what is lost.
            let member = super::Member {
                instance_id: self.options.instance_id.clone(),
                topics: self.options.topics.clone(),
                assignment: Vec::new(),
                told: false,
                joined: false,
                detached_until: None,
                session_timeout: self.options.session_timeout,
            };
            group.join(self.member, member);
            let lost = self.give_up();
            return Ok((!lost.is_empty()).then_some(ConsumerEvent::Lost(lost)));
        }
        let (rebalancing, generation) = (group.rebalancing, group.generation);
        let Some(member) = group.members.get_mut(&self.member) else { return Ok(None) };
        if rebalancing {
            if !member.joined && !self.positions.is_empty() && !self.revoking {
                self.revoking = true;
                return Ok(Some(ConsumerEvent::Revoked(self.positions.keys().cloned().collect())));
            }
            member.joined = true;
            self.give_up();
            state.advance_group(&self.options.group, now);
            self.shared.changed.notify_all();
            return Ok(None);
        }
        if !member.told {
            member.told = true;
            self.generation = generation;
            let assigned = member.assignment.clone();
            self.positions = assigned.iter().map(|p| (p.clone(), Position::default())).collect();
            self.paused.clear();
            self.revoking = false;
            return Ok((!assigned.is_empty()).then_some(ConsumerEvent::Assigned(assigned)));
        }
        Ok(None)
    }

    /// Where to begin in partitions that were not sought.
    fn resolve(&mut self, state: &State) -> BrokerResult<()> {
        for (partition, position) in &mut self.positions {
            if position.next.is_some() {
                continue;
            }
            let committed = state.groups.get(&self.options.group).and_then(|g| g.committed.get(partition));
            let marks = state.log(partition)?.watermarks();
            position.next = Some(match (committed, self.options.start) {
                (Some(committed), _) => committed.offset,
                (None, StartPolicy::Earliest) => marks.low,
                (None, StartPolicy::Latest) => marks.high,
                (None, StartPolicy::Error) => {
                    return Err(BrokerError::new(
                        BrokerErrorKind::NoCommittedOffset,
                        format_args!(
                            "group {} has no committed offset for {partition}, and none may be assumed",
                            self.options.group
                        ),
                    ));
                }
            });
        }
        Ok(())
    }

    fn read(&mut self, state: &State, max_records: usize) -> BrokerResult<Vec<ConsumerEvent>> {
        let mut events = Vec::new();
        let mut left = max_records;
        let count = self.positions.len();
        self.turn = self.turn.wrapping_add(1);
        let order: Vec<TopicPartition> =
            self.positions.keys().cycle().skip(self.turn % count.max(1)).take(count).cloned().collect();
        for partition in order {
            if left == 0 {
                break;
            }
            if self.paused.contains(&partition) {
                continue;
            }
            let Some(position) = self.positions.get_mut(&partition) else { continue };
            let Some(next) = position.next else { continue };
            let log = state.log(&partition)?;
            let Some(read) = log.read(next, self.options.read_committed, left) else {
                // Records that were taken already are given first; this comes again.
                return if events.is_empty() {
                    Err(out_of_range(&partition, next, state))
                } else {
                    Ok(events)
                };
            };
            left -= read.records.len();
            position.next = Some(read.position);
            events.extend(read.records.into_iter().map(ConsumerEvent::Record));
            let end = log.readable_end(self.options.read_committed);
            if self.options.end_of_partition_events && read.position >= end && position.told_end != Some(end)
            {
                position.told_end = Some(end);
                events.push(ConsumerEvent::EndOfPartition(partition));
            }
        }
        Ok(events)
    }

    fn step(
        &mut self,
        state: &mut MutexGuard<'_, State>,
        max_records: usize,
    ) -> BrokerResult<Vec<ConsumerEvent>> {
        state.check_available()?;
        let now = Instant::now();
        state.expire_transactions(now);
        if let Some(event) = self.membership(state, now)? {
            return Ok(vec![event]);
        }
        self.resolve(state)?;
        self.read(state, max_records)
    }

    fn check_assigned(&self, partition: &TopicPartition) -> BrokerResult<()> {
        if self.positions.contains_key(partition) {
            return Ok(());
        }
        Err(BrokerError::new(
            BrokerErrorKind::Misuse,
            format_args!("{partition} is not assigned to this member of {}", self.options.group),
        ))
    }
}

/// Longest wait between two looks at timeouts (sessions, transactions), which nobody signals.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

impl GroupConsumer for MemoryConsumer {
    fn poll(&mut self, timeout: Duration, max_records: usize) -> BrokerResult<Vec<ConsumerEvent>> {
        let deadline = Instant::now() + timeout;
        let shared = self.shared.clone();
        let mut state = shared.lock();
        loop {
            let result = self.step(&mut state, max_records);
            let left = deadline.saturating_duration_since(Instant::now());
            match result {
                Ok(events) if events.is_empty() && !left.is_zero() => {}
                // So that a loop over a broker that is away does not spin.
                Err(error) if error.is_retriable() && !left.is_zero() => {}
                result => return result,
            }
            state = shared.wait(state, left.min(SWEEP_INTERVAL));
        }
    }

    fn assignment(&self) -> Vec<TopicPartition> {
        self.positions.keys().cloned().collect()
    }

    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> BrokerResult<()> {
        self.check_assigned(partition)?;
        self.positions.insert(partition.clone(), Position { next: Some(offset), told_end: None });
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> BrokerResult<()> {
        partitions.iter().try_for_each(|partition| self.check_assigned(partition))?;
        self.paused.extend(partitions.iter().cloned());
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> BrokerResult<()> {
        partitions.iter().try_for_each(|partition| self.check_assigned(partition))?;
        self.paused.retain(|partition| !partitions.contains(partition));
        Ok(())
    }

    fn commit(&mut self, offsets: &[CommittedOffset]) -> BrokerResult<()> {
        let mut state = self.shared.lock();
        state.check_available()?;
        let found = state.groups.get_mut(&self.options.group);
        match found.filter(|group| group.accepts(self.member, self.generation)) {
            Some(group) => {
                group.committed.extend(offsets.iter().map(|o| (o.partition.clone(), o.clone())));
                Ok(())
            }
            None => Err(BrokerError::new(
                BrokerErrorKind::AbortTransaction,
                format_args!(
                    "group {} has gone on without this member; poll to join again",
                    self.options.group
                ),
            )),
        }
    }

    fn committed(&mut self, partitions: &[TopicPartition]) -> BrokerResult<Vec<CommittedOffset>> {
        let state = self.shared.lock();
        state.check_available()?;
        state.groups.get(&self.options.group).map_or(Ok(Vec::new()), |group| group.committed(partitions))
    }

    fn group_metadata(&self) -> BrokerResult<GroupMetadata> {
        Ok(GroupMetadata::new(MemoryGroupMetadata {
            group: self.options.group.clone(),
            member: self.member,
            generation: self.generation,
        }))
    }

    fn close(self: Box<Self>) {}
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(group) = state.groups.get_mut(&self.options.group) {
            group.leave(self.member, Instant::now());
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

pub(super) struct MemoryReader {
    shared: Arc<Shared>,
    partition: TopicPartition,
    next: i64,
    options: ReaderOptions,
}

impl MemoryReader {
    pub fn new(shared: Arc<Shared>, partition: TopicPartition, next: i64, options: ReaderOptions) -> Self {
        Self { shared, partition, next, options }
    }
}

impl PartitionReader for MemoryReader {
    fn poll(&mut self, timeout: Duration, max_records: usize) -> BrokerResult<Vec<IncomingRecord>> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            let checked = state.check_available();
            let left = deadline.saturating_duration_since(Instant::now());
            if checked.is_ok() {
                state.expire_transactions(Instant::now());
                let read =
                    state.log(&self.partition)?.read(self.next, self.options.read_committed, max_records);
                let Some(read) = read else { return Err(out_of_range(&self.partition, self.next, &state)) };
                self.next = read.position;
                if !read.records.is_empty() || left.is_zero() {
                    return Ok(read.records);
                }
            } else if left.is_zero() {
                checked?;
            }
            state = self.shared.wait(state, left.min(SWEEP_INTERVAL));
        }
    }

    fn position(&self) -> i64 {
        self.next
    }

    fn reached(&self, end: i64) -> bool {
        self.next >= end
    }
}
