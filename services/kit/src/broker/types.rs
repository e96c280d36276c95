//! The plain data that crosses the broker trait: records, offsets, topics, options, events.
//! Never holds a type of a Kafka library.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use bytes::Bytes;

/// A topic by its full name and a partition of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Full topic name, prefix and version included.
    pub topic: Arc<str>,
    /// Partition number from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// Headers in the order they were written; names may repeat.
pub type Headers = Vec<(String, Vec<u8>)>;

/// A record to send. The sender chooses the partition (murmur2 of the artifact key, DESIGN section 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingRecord {
    /// Full topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: u32,
    /// Message key: artifact key, 0x1F, entity id.
    pub key: Bytes,
    /// Value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers, `traceparent` among them.
    pub headers: Headers,
    /// Milliseconds since the epoch; `None`: the moment of sending.
    pub timestamp_ms: Option<i64>,
}

impl OutgoingRecord {
    /// A record without headers and with the moment of sending as its time.
    pub fn new(
        topic: impl Into<Arc<str>>,
        partition: u32,
        key: impl Into<Bytes>,
        value: Option<impl Into<Bytes>>,
    ) -> Self {
        Self {
            topic: topic.into(),
            partition,
            key: key.into(),
            value: value.map(Into::into),
            headers: Vec::new(),
            timestamp_ms: None,
        }
    }

    /// A tombstone: deletes the entity from a compacted topic.
    pub fn tombstone(topic: impl Into<Arc<str>>, partition: u32, key: impl Into<Bytes>) -> Self {
        Self::new(topic, partition, key, None::<Bytes>)
    }

    /// The bytes of key, value and headers: what a byte budget counts.
    pub fn size_bytes(&self) -> usize {
        self.key.len()
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

/// A record as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingRecord {
    /// Full topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: u32,
    /// Offset in the partition.
    pub offset: i64,
    /// Message key.
    pub key: Option<Bytes>,
    /// Value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Headers,
    /// Milliseconds since the epoch; 0 = unknown.
    pub timestamp_ms: i64,
}

impl IncomingRecord {
    /// Where the record lies.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }
    /// The offset to commit once this record is done: its own plus one.
    pub fn next_offset(&self) -> i64 {
        self.offset + 1
    }
    /// The value of the last header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_slice())
    }
    /// The bytes of key, value and headers: what a byte budget counts.
    pub fn size_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

/// The next offset to read of a partition, as committed by a group, with the group's own metadata (at most
/// 4,096 bytes of text in Kafka).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Where.
    pub partition: TopicPartition,
    /// The next offset to read.
    pub offset: i64,
    /// Free text of the group; the sink writes its plan here.
    pub metadata: String,
}

impl CommittedOffset {
    /// `offset` is the next one to read: last processed + 1.
    pub fn new(partition: TopicPartition, offset: i64) -> Self {
        Self { partition, offset, metadata: String::new() }
    }
}

/// First kept and next free offset of a partition. With read_committed readers in mind, `high` is the log's
/// end, transactions under way and their markers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Offset of the first record still kept.
    pub low: i64,
    /// Offset that the next record will get.
    pub high: i64,
    /// First offset that a read_committed reader may not pass yet.
    pub last_stable: i64,
}

/// How a topic forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CleanupPolicy {
    /// Old segments are deleted.
    Delete,
    /// The last record of each key is kept.
    Compact,
}

impl CleanupPolicy {
    /// As in Kafka's `cleanup.policy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
        }
    }
}

/// What a topic must be; created so when missing, checked when it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Full topic name, prefix and version included.
    pub name: Arc<str>,
    /// Number of partitions; an existing topic with another number is refused.
    pub partitions: u32,
    /// Replication factor at creation; `None`: the broker's default.
    pub replication_factor: Option<u16>,
    /// Cleanup policy; an existing topic with another one is refused.
    pub cleanup: CleanupPolicy,
    /// `retention.ms` at creation; `None`: the broker's default.
    pub retention_ms: Option<i64>,
    /// Other topic settings at creation (`delete.retention.ms`, `segment.ms`, …).
    pub settings: BTreeMap<String, String>,
}

impl TopicSpec {
    /// A topic with the broker's defaults for all else.
    pub fn new(name: impl Into<Arc<str>>, partitions: u32, cleanup: CleanupPolicy) -> Self {
        Self {
            name: name.into(),
            partitions,
            replication_factor: None,
            cleanup,
            retention_ms: None,
            settings: BTreeMap::new(),
        }
    }
}

/// What `ensure_topics` did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicReport {
    /// Created now.
    pub created: Vec<String>,
    /// Existed already, as wanted.
    pub existing: Vec<String>,
}

/// How a producer is opened.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// Shown in the broker's logs and metrics.
    pub client_id: String,
    /// Stable per instance; set: the producer is transactional and fences its predecessor.
    pub transactional_id: Option<String>,
    /// How long the broker waits for an open transaction before it aborts it.
    pub transaction_timeout: Duration,
    /// How long `send` waits for room in the bounded queue before `QueueFull`. Zero: does not wait.
    pub max_block: Duration,
    /// How long a record may take, retries included, until its delivery failed.
    pub delivery_timeout: Duration,
    /// How long records wait to be batched.
    pub linger: Duration,
    /// Bound of the send queue, in records.
    pub queue_max_records: usize,
    /// Bound of the send queue, in bytes.
    pub queue_max_bytes: usize,
}

impl ProducerOptions {
    /// An idempotent producer (acks=all).
    pub fn idempotent(client_id: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            transactional_id: None,
            transaction_timeout: Duration::from_secs(10),
            max_block: Duration::from_secs(30),
            delivery_timeout: Duration::from_secs(120),
            linger: Duration::from_millis(5),
            queue_max_records: 100_000,
            queue_max_bytes: 64 * 1024 * 1024,
        }
    }

    /// A transactional producer; `transactional_id` is stable per instance.
    pub fn transactional(client_id: impl Into<String>, transactional_id: impl Into<String>) -> Self {
        Self {
            transactional_id: Some(transactional_id.into()),
            // Kafka refuses a delivery timeout above the transaction's.
            delivery_timeout: Duration::from_secs(10),
            ..Self::idempotent(client_id)
        }
    }
}

/// Where a group begins in a partition without a committed offset. Once there is one, only it counts: an offset
/// that the log has not any more is an error (DESIGN section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPolicy {
    /// At the first kept record.
    Earliest,
    /// At the end: only what comes from now on.
    Latest,
    /// Refuse: `NoCommittedOffset`.
    Error,
}

/// How a group's member is opened.
#[derive(Debug, Clone)]
pub struct GroupOptions {
    /// The group's id.
    pub group: String,
    /// Static membership: a restart within the session timeout keeps its partitions.
    pub instance_id: Option<String>,
    /// Full names of the topics.
    pub topics: Vec<String>,
    /// Only committed records (true) or all.
    pub read_committed: bool,
    /// Where to begin without a committed offset.
    pub start: StartPolicy,
    /// Shown in the broker's logs and metrics.
    pub client_id: String,
    /// The group drops a silent member after this long.
    pub session_timeout: Duration,
    /// Whether `EndOfPartition` events are given.
    pub end_of_partition_events: bool,
    /// Bound on records fetched ahead and not yet polled, in bytes over all partitions.
    pub prefetch_max_bytes: usize,
}

impl GroupOptions {
    /// A read_committed member that begins at the first kept record.
    pub fn new(group: impl Into<String>, topics: Vec<String>) -> Self {
        let group = group.into();
        Self {
            client_id: group.clone(),
            group,
            instance_id: None,
            topics,
            read_committed: true,
            start: StartPolicy::Earliest,
            session_timeout: Duration::from_secs(10),
            end_of_partition_events: false,
            prefetch_max_bytes: 64 * 1024 * 1024,
        }
    }
}

/// How a single partition is read without a group.
#[derive(Debug, Clone)]
pub struct ReaderOptions {
    /// Only committed records (true) or all.
    pub read_committed: bool,
    /// Shown in the broker's logs and metrics.
    pub client_id: String,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self { read_committed: true, client_id: "plimsoll-reader".into() }
    }
}

/// What a group's member is told, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerEvent {
    /// These partitions are now this member's. Always the last event of a poll: before the next poll the caller may
    /// `seek` them; reading begins with the next poll, at the committed offsets or those sought.
    Assigned(Vec<TopicPartition>),
    /// These partitions will go with the **next** poll. Always the last event of a poll: until then the caller may
    /// still commit what it has done of them, or abort.
    Revoked(Vec<TopicPartition>),
    /// These partitions are another's already (session expired): commit nothing of them, discard.
    Lost(Vec<TopicPartition>),
    /// A record.
    Record(IncomingRecord),
    /// For now everything of this partition was given; comes again after each catching up.
    EndOfPartition(TopicPartition),
}

/// Which member of which generation of a group: goes with the offsets of a transaction, so that a member that
/// was replaced cannot commit. Opaque; read afresh for each commit.
#[derive(Clone)]
pub struct GroupMetadata {
    pub(crate) inner: Arc<dyn Any + Send + Sync>,
}

impl GroupMetadata {
    pub(crate) fn new(inner: impl Any + Send + Sync) -> Self {
        Self { inner: Arc::new(inner) }
    }
}

impl fmt::Debug for GroupMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupMetadata(..)")
    }
}

/// The input offsets that one transaction commits together with its records.
#[derive(Debug, Clone)]
pub struct TransactionOffsets {
    /// Next offsets to read.
    pub offsets: Vec<CommittedOffset>,
    /// Whose; from `GroupConsumer::group_metadata`, read afresh.
    pub group: GroupMetadata,
}
