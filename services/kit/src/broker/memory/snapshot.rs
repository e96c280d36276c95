//! What the memory broker must remember between two runs of a program in local mode, as bytes with a checksum.
//! It must never move an offset, nor forget a record that a group has not committed.
//!
//! Kept: every topic with its next offsets, the live records of compacted topics, dead letters, what groups have not
//! committed yet, and the groups' offsets. Encoding: little-endian numbers, length-prefixed bytes, FNV-1a at the end.

use std::sync::Arc;

use super::group::Group;
use super::log::PartitionLog;
use super::{MemoryBroker, Topic};
use crate::broker::types::{
    Bytes, CleanupPolicy, CommittedOffset, IncomingRecord, TopicPartition, TopicSpec,
};
use crate::dead_letter::DEAD_LETTER_SUFFIX;

const MAGIC: &[u8; 8] = b"PLIMLOC1";

/// Why bytes are no snapshot. The file was damaged or is of another version.
#[derive(Debug, thiserror::Error)]
#[error("the saved state is damaged or of another version ({0}); remove it to start afresh")]
pub struct SnapshotError(&'static str);

impl MemoryBroker {
    /// The broker's lasting content. Records of open transactions are left out, as after an abort.
    pub fn snapshot(&self) -> Vec<u8> {
        let state = self.shared.lock();
        let mut out = Writer(MAGIC.to_vec());
        let mut names: Vec<&String> = state.topics.keys().collect();
        names.sort();
        out.count(names.len());
        for name in names {
            let topic = &state.topics[name];
            let compact = topic.spec.cleanup == CleanupPolicy::Compact;
            out.bytes(name.as_bytes());
            out.number(i64::from(compact));
            out.number(topic.spec.retention_ms.unwrap_or(i64::MIN));
            out.count(topic.partitions.len());
            for (index, log) in topic.partitions.iter().enumerate() {
                let partition = TopicPartition::new(name.as_str(), u32::try_from(index).unwrap_or(u32::MAX));
                let keep_all = compact || name.ends_with(DEAD_LETTER_SUFFIX);
                let needed =
                    state.groups.values().filter_map(|g| g.committed.get(&partition)).map(|c| c.offset).min();
                let from = if keep_all { 0 } else { needed.unwrap_or(i64::MAX) };
                let records = log.lasting(from, compact);
                let marks = log.watermarks();
                // What a group has committed must stay in the log, though only a marker may lie there.
                out.number(from.clamp(marks.low, marks.high));
                out.number(marks.high);
                out.count(records.len());
                for record in records {
                    out.record(record);
                }
            }
        }
        let mut groups: Vec<(&String, &Group)> = state.groups.iter().collect();
        groups.sort_by_key(|(name, _)| *name);
        out.count(groups.len());
        for (name, group) in groups {
            out.bytes(name.as_bytes());
            let mut offsets: Vec<&CommittedOffset> = group.committed.values().collect();
            offsets.sort_by(|a, b| {
                (&a.partition.topic, a.partition.partition).cmp(&(&b.partition.topic, b.partition.partition))
            });
            out.count(offsets.len());
            for committed in offsets {
                out.bytes(committed.partition.topic.as_bytes());
                out.number(i64::from(committed.partition.partition));
                out.number(committed.offset);
                out.bytes(committed.metadata.as_bytes());
            }
        }
        let sum = checksum(&out.0);
        out.0.extend_from_slice(&sum.to_le_bytes());
        out.0
    }

    /// A broker with the content of a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`] if the bytes are damaged.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (content, sum) = bytes.split_last_chunk::<8>().ok_or(SnapshotError("too short"))?;
        if checksum(content) != u64::from_le_bytes(*sum) {
            return Err(SnapshotError("checksum"));
        }
        let mut input = Reader(content.strip_prefix(MAGIC.as_slice()).ok_or(SnapshotError("magic"))?);
        let broker = Self::new();
        let mut state = broker.shared.lock();
        for _ in 0..input.count()? {
            let name = input.text()?;
            let cleanup = if input.number()? == 1 { CleanupPolicy::Compact } else { CleanupPolicy::Delete };
            let retention_ms = Some(input.number()?).filter(|value| *value != i64::MIN);
            let partition_count = input.count()?;
            let mut spec =
                TopicSpec::new(name.as_str(), u32::try_from(partition_count).unwrap_or(u32::MAX), cleanup);
            spec.retention_ms = retention_ms;
            let shared_name: Arc<str> = Arc::from(name.as_str());
            let mut partitions = Vec::new();
            for index in 0..partition_count {
                let low = input.number()?;
                let next = input.number()?;
                let mut records = Vec::new();
                for _ in 0..input.count()? {
                    records.push(input.record(&shared_name, u32::try_from(index).unwrap_or(u32::MAX))?);
                }
                partitions.push(PartitionLog::restore(low, next, records));
            }
            state.topics.insert(name, Topic { spec, partitions });
        }
        for _ in 0..input.count()? {
            let name = input.text()?;
            let mut group = Group::default();
            for _ in 0..input.count()? {
                let topic = input.text()?;
                let partition = u32::try_from(input.number()?).map_err(|_| SnapshotError("partition"))?;
                let partition = TopicPartition::new(topic.as_str(), partition);
                let offset = input.number()?;
                let metadata = input.text()?;
                group.committed.insert(partition.clone(), CommittedOffset { partition, offset, metadata });
            }
            state.groups.insert(name, group);
        }
        drop(state);
        Ok(broker)
    }
}

/// FNV-1a, 64 bits: against damage, not against an adversary; the file is the user's own.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: i64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn count(&mut self, count: usize) {
        self.number(count as i64);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn optional(&mut self, bytes: Option<&Bytes>) {
        match bytes {
            None => self.number(-1),
            Some(bytes) => self.bytes(bytes),
        }
    }

    fn record(&mut self, record: &IncomingRecord) {
        self.number(record.offset);
        self.number(record.timestamp_ms);
        self.optional(record.key.as_ref());
        self.optional(record.value.as_ref());
        self.count(record.headers.len());
        for (name, value) in &record.headers {
            self.bytes(name.as_bytes());
            self.bytes(value);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Result<i64, SnapshotError> {
        let (number, rest) = self.0.split_first_chunk::<8>().ok_or(SnapshotError("truncated"))?;
        self.0 = rest;
        Ok(i64::from_le_bytes(*number))
    }

    /// A count is never larger than the bytes that are left: each item takes at least one.
    fn count(&mut self) -> Result<usize, SnapshotError> {
        usize::try_from(self.number()?)
            .ok()
            .filter(|count| *count <= self.0.len())
            .ok_or(SnapshotError("count"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], SnapshotError> {
        let count = self.count()?;
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<String, SnapshotError> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| SnapshotError("text"))
    }

    fn optional(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        let mut ahead = Reader(self.0);
        if ahead.number()? < 0 {
            self.0 = ahead.0;
            return Ok(None);
        }
        Ok(Some(Bytes::copy_from_slice(self.bytes()?)))
    }

    fn record(&mut self, topic: &Arc<str>, partition: u32) -> Result<IncomingRecord, SnapshotError> {
        let offset = self.number()?;
        let timestamp_ms = self.number()?;
        let key = self.optional()?;
        let value = self.optional()?;
        let mut headers = Vec::new();
        for _ in 0..self.count()? {
            headers.push((self.text()?, self.bytes()?.to_vec()));
        }
        Ok(IncomingRecord { topic: Arc::clone(topic), partition, offset, key, value, headers, timestamp_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Broker, GroupOptions, OutgoingRecord, ProducerOptions, ReaderOptions, read_to_end};
    use std::time::{Duration, Instant};

    fn filled() -> MemoryBroker {
        let broker = MemoryBroker::new();
        let topics = [
            TopicSpec::new("state", 2, CleanupPolicy::Compact),
            TopicSpec::new("input", 2, CleanupPolicy::Delete),
        ];
        broker.ensure_topics(&topics).unwrap();
        let mut producer = broker.producer(ProducerOptions::idempotent("test")).unwrap();
        for number in 0..3 {
            producer.send(&OutgoingRecord::new("state", 1, "key", Some(format!("{number}")))).unwrap();
            producer.send(&OutgoingRecord::new("input", 0, "key", Some(format!("{number}")))).unwrap();
        }
        producer.send(&OutgoingRecord::tombstone("state", 1, "gone")).unwrap();
        producer.flush(Duration::from_secs(1)).unwrap();
        let mut consumer =
            broker.group_consumer(GroupOptions::new("group", vec!["input".to_owned()])).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while consumer.assignment().is_empty() && Instant::now() < deadline {
            consumer.poll(Duration::from_millis(10), 1).unwrap();
        }
        let partition = TopicPartition::new("input", 0);
        consumer.commit(&[CommittedOffset { partition, offset: 2, metadata: "plan".into() }]).unwrap();
        broker
    }

    fn values(broker: &MemoryBroker, topic: &str, partition: u32, from: i64) -> Vec<(i64, Option<Bytes>)> {
        let mut out = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(5);
        let partition = TopicPartition::new(topic, partition);
        read_to_end(broker, &partition, from, ReaderOptions::default(), deadline, |record| {
            out.push((record.offset, record.value));
        })
        .unwrap();
        out
    }

    #[test]
    fn keeps_offsets_live_records_and_what_is_not_committed() {
        let restored = MemoryBroker::from_snapshot(&filled().snapshot()).unwrap();
        assert_eq!(values(&restored, "state", 1, 0), [(2, Some(Bytes::from("2"))), (3, None)]);
        assert_eq!(values(&restored, "input", 0, 2), [(2, Some(Bytes::from("2")))]);
        let marks = restored.watermarks(&TopicPartition::new("input", 0)).unwrap();
        assert_eq!((marks.low, marks.high), (2, 3));
        let committed = restored.committed("group", &[TopicPartition::new("input", 0)]).unwrap();
        assert_eq!((committed[0].offset, committed[0].metadata.as_str()), (2, "plan"));
        let mut producer = restored.producer(ProducerOptions::idempotent("test")).unwrap();
        producer.send(&OutgoingRecord::new("state", 1, "key", Some("new"))).unwrap();
        producer.flush(Duration::from_secs(1)).unwrap();
        assert_eq!(values(&restored, "state", 1, 4), [(4, Some(Bytes::from("new")))]);
    }

    #[test]
    fn a_committed_offset_before_a_marker_stays_readable() {
        let broker = MemoryBroker::new();
        broker.ensure_topics(&[TopicSpec::new("input", 1, CleanupPolicy::Delete)]).unwrap();
        let mut producer = broker.producer(ProducerOptions::transactional("test", "test")).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(&OutgoingRecord::new("input", 0, "key", Some("value"))).unwrap();
        producer.commit_transaction(None, Duration::from_secs(1)).unwrap();
        let mut consumer =
            broker.group_consumer(GroupOptions::new("group", vec!["input".to_owned()])).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while consumer.assignment().is_empty() && Instant::now() < deadline {
            consumer.poll(Duration::from_millis(10), 1).unwrap();
        }
        let partition = TopicPartition::new("input", 0);
        consumer.commit(&[CommittedOffset { partition, offset: 1, metadata: String::new() }]).unwrap();
        let restored = MemoryBroker::from_snapshot(&broker.snapshot()).unwrap();
        assert_eq!(values(&restored, "input", 0, 1), []);
        assert_eq!(restored.watermarks(&TopicPartition::new("input", 0)).unwrap().low, 1);
    }

    #[test]
    fn refuses_damage() {
        let bytes = filled().snapshot();
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x10;
            assert!(MemoryBroker::from_snapshot(&damaged).is_err(), "byte {position}");
            assert!(MemoryBroker::from_snapshot(&bytes[..position]).is_err(), "length {position}");
        }
    }
}
