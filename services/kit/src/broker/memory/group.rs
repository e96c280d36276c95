//! Consumer groups of the memory broker: members, eager rebalances with range assignment, committed offsets.
//! Never gives one partition to two members of a generation.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::broker::types::{CommittedOffset, TopicPartition};
use crate::broker::{BrokerError, BrokerErrorKind, BrokerResult};

pub(super) type MemberId = u64;

#[derive(Debug)]
pub(super) struct Member {
    pub instance_id: Option<String>,
    pub topics: Vec<String>,
    /// What it may read in the current generation.
    pub assignment: Vec<TopicPartition>,
    /// It was told of its assignment.
    pub told: bool,
    /// It gave up its partitions and waits for the next generation.
    pub joined: bool,
    /// A static member that was closed or dropped; its place is kept until then.
    pub detached_until: Option<Instant>,
    pub session_timeout: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    pub generation: u64,
    pub rebalancing: bool,
    pub members: BTreeMap<MemberId, Member>,
    pub committed: HashMap<TopicPartition, CommittedOffset>,
    /// Offsets of a transaction that wait for its end; see `MemoryBroker::forget_next_end`.
    pub unsettled: Vec<CommittedOffset>,
}

impl Group {
    /// Committed offsets of those of `partitions` that have one; `Retriable` while some wait for their transaction.
    pub fn committed(&self, partitions: &[TopicPartition]) -> BrokerResult<Vec<CommittedOffset>> {
        if !self.unsettled.is_empty() {
            let reason = "memory broker: offsets of a transaction wait for its end; try again later";
            return Err(BrokerError::new(BrokerErrorKind::Retriable, reason));
        }
        Ok(self.committed_so_far(partitions))
    }

    /// As [`Group::committed`], whether some wait or not.
    pub fn committed_so_far(&self, partitions: &[TopicPartition]) -> Vec<CommittedOffset> {
        partitions.iter().filter_map(|partition| self.committed.get(partition).cloned()).collect()
    }

    /// A new member; a static one takes over the place of its predecessor, without a rebalance.
    pub fn join(&mut self, id: MemberId, member: Member) {
        let predecessor = member.instance_id.as_ref().and_then(|instance| {
            self.members.iter().find(|(_, m)| m.instance_id.as_ref() == Some(instance)).map(|(id, _)| *id)
        });
        let taken = predecessor.and_then(|old| self.members.remove(&old));
        match taken {
            Some(old) if !self.rebalancing && old.topics == member.topics => {
                self.members.insert(id, Member { assignment: old.assignment, ..member });
            }
            _ => {
                self.members.insert(id, Member { joined: true, ..member });
                self.rebalancing = true;
            }
        }
    }

    /// A member goes: a static one keeps its place for its session timeout.
    pub fn leave(&mut self, id: MemberId, now: Instant) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.instance_id.is_some() {
            member.detached_until = Some(now + member.session_timeout);
        } else {
            self.remove(id);
        }
    }

    /// The group drops a member.
    pub fn remove(&mut self, id: MemberId) {
        if self.members.remove(&id).is_some() {
            self.rebalancing = true;
        }
    }

    /// Drops static members whose place has expired, and completes a rebalance that all members have joined.
    pub fn advance(&mut self, now: Instant, partition_count: impl Fn(&str) -> u32) {
        let expired: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(_, m)| m.detached_until.is_some_and(|until| until <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            self.remove(id);
        }
        // A member that is away holds nothing back: it would rejoin with a new generation.
        if !self.rebalancing || !self.members.values().all(|m| m.joined || m.detached_until.is_some()) {
            return;
        }
        self.generation += 1;
        self.rebalancing = false;
        let mut assigned: BTreeMap<MemberId, Vec<TopicPartition>> = BTreeMap::new();
        let topics: BTreeSet<String> = self.members.values().flat_map(|m| m.topics.iter().cloned()).collect();
        for topic in topics {
            let count = partition_count(&topic);
            let mut takers: Vec<(Option<String>, MemberId)> = self
                .members
                .iter()
                .filter(|(_, m)| m.topics.contains(&topic))
                .map(|(id, m)| (m.instance_id.clone(), *id))
                .collect();
            takers.sort();
            for (index, range) in range_assignment(count, takers.len()).into_iter().enumerate() {
                let partitions = range.map(|partition| TopicPartition::new(topic.as_str(), partition));
                assigned.entry(takers[index].1).or_default().extend(partitions);
            }
        }
        for (id, member) in &mut self.members {
            member.assignment = assigned.remove(id).unwrap_or_default();
            member.joined = false;
            member.told = false;
        }
    }

    /// Whether this member may commit as of `generation`.
    pub fn accepts(&self, id: MemberId, generation: u64) -> bool {
        self.generation == generation && self.members.contains_key(&id)
    }
}

/// Kafka's range assignor for one topic: contiguous ranges, the first ones larger by one.
fn range_assignment(partitions: u32, members: usize) -> Vec<std::ops::Range<u32>> {
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    if members == 0 {
        return Vec::new();
    }
    let (share, extra) = (partitions / members, partitions % members);
    let mut start = 0;
    (0..members)
        .map(|index| {
            let end = start + share + u32::from(index < extra);
            let range = start..end;
            start = end;
            range
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::range_assignment;

    #[test]
    #[allow(clippy::single_range_in_vec_init)] // One member gets one range.
    fn ranges_are_contiguous_and_even() {
        fn check(partitions: u32, members: usize, expect: &[std::ops::Range<u32>]) {
            assert_eq!(range_assignment(partitions, members), expect);
        }
        check(4, 1, &[0..4]);
        check(4, 3, &[0..2, 2..3, 3..4]);
        check(2, 3, &[0..1, 1..2, 2..2]);
        check(4, 0, &[]);
    }
}
