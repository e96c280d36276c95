//! Where a group member begins to read, and how it gives partitions up.
//! Never guesses an offset: without a committed one the start policy decides, or it is an error.

use std::collections::BTreeMap;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::super::queue::PartitionQueue;
use super::super::{committed_from, errors, partition_list};
use super::KafkaConsumer;
use crate::broker::types::{StartPolicy, TopicPartition};
use crate::broker::{BrokerErrorKind as Kind, BrokerResult};

/// What the next poll does first.
pub(super) enum Pending {
    Nothing,
    /// Begin reading: at the offsets sought, else the committed ones, else by the start policy.
    Assign(BTreeMap<TopicPartition, Option<i64>>),
    Revoke,
}

impl KafkaConsumer {
    /// Does what the last poll announced.
    pub(super) fn settle(&mut self) -> BrokerResult<()> {
        match &self.pending {
            Pending::Nothing => {}
            Pending::Revoke => {
                self.give_up()?;
                self.pending = Pending::Nothing;
            }
            Pending::Assign(wanted) => {
                let starts = self.starts(wanted)?;
                self.begin(&starts)?;
                self.pending = Pending::Nothing;
            }
        }
        Ok(())
    }

    pub(super) fn give_up(&mut self) -> BrokerResult<()> {
        let paused: Vec<TopicPartition> = std::mem::take(&mut self.paused).into_iter().collect();
        if !paused.is_empty() {
            // Only clears the mark for the next owner; a partition that is gone already has none.
            let _ = self.consumer.resume(&partition_list(&paused));
        }
        self.queues.clear();
        self.begun.clear();
        self.ends.clear();
        self.stopped.clear();
        self.consumer.unassign().map_err(|error| self.failed("giving up partitions", &error))
    }

    /// Where to begin in each partition.
    fn starts(
        &self,
        wanted: &BTreeMap<TopicPartition, Option<i64>>,
    ) -> BrokerResult<Vec<(TopicPartition, Offset)>> {
        let open: Vec<TopicPartition> =
            wanted.iter().filter(|(_, offset)| offset.is_none()).map(|(p, _)| p.clone()).collect();
        let mut known: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        if !open.is_empty() {
            let list = self
                .consumer
                .committed_offsets(partition_list(&open), self.request_timeout)
                .map_err(|error| self.failed("reading committed offsets", &error))?;
            let committed =
                committed_from(&list).map_err(|error| self.failed("reading committed offsets", &error))?;
            known.extend(committed.into_iter().map(|c| (c.partition, c.offset)));
        }
        wanted
            .iter()
            .map(|(partition, sought)| {
                let offset = match (sought.or(known.get(partition).copied()), self.options.start) {
                    (Some(offset), _) => Offset::Offset(offset),
                    (None, StartPolicy::Earliest) => Offset::Beginning,
                    (None, StartPolicy::Latest) => Offset::End,
                    (None, StartPolicy::Error) => {
                        let what = format!("group {}: {partition}", self.options.group);
                        let reason = "there is no committed offset, and none may be assumed";
                        return Err(errors::error(Kind::NoCommittedOffset, &self.servers, &what, reason));
                    }
                };
                Ok((partition.clone(), offset))
            })
            .collect()
    }

    pub(super) fn begin(&mut self, starts: &[(TopicPartition, Offset)]) -> BrokerResult<()> {
        let mut list = TopicPartitionList::with_capacity(starts.len());
        self.queues.clear();
        self.begun.clear();
        self.ends.clear();
        self.stopped.clear();
        for (partition, offset) in starts {
            list.add_partition_offset(&partition.topic, number(partition), *offset)
                .map_err(|error| self.failed("beginning to read", &error))?;
            // SAFETY: the client is `self.consumer`'s, and queues are dropped before it (field order).
            let queue = unsafe {
                PartitionQueue::take(self.consumer.client().native_ptr(), partition, self.signal.clone())
            };
            let queue = queue.ok_or_else(|| {
                errors::error(Kind::UnknownTopic, &self.servers, "beginning to read", &partition.to_string())
            })?;
            self.queues.insert(partition.clone(), queue);
            self.begun.insert(partition.clone(), *offset);
        }
        self.consumer.assign(&list).map_err(|error| self.failed("beginning to read", &error))?;
        if !self.paused.is_empty() {
            let paused: Vec<TopicPartition> = self.paused.iter().cloned().collect();
            self.consumer.pause(&partition_list(&paused)).map_err(|error| self.failed("pausing", &error))?;
        }
        Ok(())
    }

    /// Begins reading anew in all partitions: in `partition` at `offset`, in the others where they stand.
    pub(super) fn begin_again(&mut self, partition: &TopicPartition, offset: i64) -> BrokerResult<()> {
        let positions = self.consumer.position().map_err(|error| self.failed("reading positions", &error))?;
        for element in positions.elements() {
            let (Ok(number), Offset::Offset(next)) = (u32::try_from(element.partition()), element.offset())
            else {
                // Nothing was given of it yet: it begins where it began.
                continue;
            };
            let partition = TopicPartition::new(element.topic(), number);
            let next = self.ends.get(&partition).copied().unwrap_or(next);
            self.begun.insert(partition, Offset::Offset(next));
        }
        self.begun.insert(partition.clone(), Offset::Offset(offset));
        let starts: Vec<(TopicPartition, Offset)> = std::mem::take(&mut self.begun)
            .into_iter()
            .filter(|(p, _)| self.queues.contains_key(p))
            .collect();
        self.begin(&starts)
    }
}

pub(super) fn number(partition: &TopicPartition) -> i32 {
    i32::try_from(partition.partition).unwrap_or(i32::MAX)
}
