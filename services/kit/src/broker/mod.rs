//! The one way to reach a broker: traits with two implementations, Kafka and memory, of the same semantics.
//! Never blocks without a bound, never loses a delivery failure, never shows a type of a Kafka library.
//!
//! The API is blocking: services own their threads. Constructors never need the server; calls return
//! `Retriable` errors while it is away.

mod error;
pub mod kafka;
pub mod memory;
mod rejoins;
mod types;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use error::{BrokerError, BrokerErrorKind};
pub use rejoins::Rejoins;
pub use types::*;

/// Result of a call to the broker.
pub type BrokerResult<T> = Result<T, BrokerError>;

/// A broker: topics, offsets, and what opens producers and consumers. Cheap to share.
pub trait Broker: Send + Sync {
    /// Servers, for messages (`127.0.0.1:9092`, `memory`).
    fn name(&self) -> String;

    /// Waits until the broker answers; the error at the deadline names the servers and the remedy.
    fn wait_until_reachable(&self, deadline: Instant) -> BrokerResult<()>;

    /// Creates the missing topics and checks those that exist; another partition count or cleanup policy is a
    /// `Configuration` error that names all that differ.
    fn ensure_topics(&self, topics: &[TopicSpec]) -> BrokerResult<TopicReport>;

    /// Number of partitions; `UnknownTopic` when it does not exist. Never creates.
    fn partition_count(&self, topic: &str) -> BrokerResult<u32>;

    /// First kept, next free and last stable offset.
    fn watermarks(&self, partition: &TopicPartition) -> BrokerResult<Watermarks>;

    /// Committed offsets of a group for those of `partitions` that have one.
    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> BrokerResult<Vec<CommittedOffset>>;

    /// As [`Broker::committed`], but without waiting for offsets of a transaction that is not ended: what was
    /// committed before it.
    fn committed_so_far(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> BrokerResult<Vec<CommittedOffset>>;

    /// Opens a producer; does not wait for the server.
    fn producer(&self, options: ProducerOptions) -> BrokerResult<Box<dyn Producer>>;

    /// Opens a member of a group; does not wait for the server.
    fn group_consumer(&self, options: GroupOptions) -> BrokerResult<Box<dyn GroupConsumer>>;

    /// Reads one partition from `from_offset` without a group: state restore, dead letters, tests.
    fn partition_reader(
        &self,
        partition: &TopicPartition,
        from_offset: i64,
        options: ReaderOptions,
    ) -> BrokerResult<Box<dyn PartitionReader>>;
}

/// Sends records. Movable to another thread; all calls are bounded in time.
pub trait Producer: Send {
    /// Queues a record (copied). `QueueFull` after `max_block`: not taken. The failure of an earlier record's
    /// delivery may surface here; it surfaces at the latest at `flush` or `commit_transaction`.
    fn send(&mut self, record: &OutgoingRecord) -> BrokerResult<()>;

    /// Waits until all queued records were delivered. An error means that some since the last flush were not (in
    /// time): with `Retriable` after `timeout` they are still queued; with `DeliveryFailed` or any other kind they are
    /// gone and to be sent again.
    fn flush(&mut self, timeout: Duration) -> BrokerResult<()>;

    /// Records queued and not yet acknowledged.
    fn in_flight(&self) -> usize;

    /// Takes over the transactional id: fences its predecessor and ends its open transaction. Needed once, before
    /// the committed offsets are read after a start or an `OutcomeUnknown`; `begin_transaction` does it otherwise.
    fn init_transactions(&mut self, timeout: Duration) -> BrokerResult<()>;

    /// Begins a transaction.
    fn begin_transaction(&mut self) -> BrokerResult<()>;

    /// Flushes, and commits the records with the input offsets; all or nothing. Retries inside `timeout` what may
    /// be retried. Errors: `AbortTransaction`, `Fenced`, `OutcomeUnknown`, `Fatal`; never `Retriable`.
    fn commit_transaction(
        &mut self,
        offsets: Option<TransactionOffsets>,
        timeout: Duration,
    ) -> BrokerResult<()>;

    /// Discards the records of the transaction. An error here: open a new producer.
    fn abort_transaction(&mut self, timeout: Duration) -> BrokerResult<()>;
}

/// A member of a consumer group. Classic protocol, range assignment, no automatic commits.
pub trait GroupConsumer: Send {
    /// Waits at most `timeout` for the first event, then gives what is there, at most `max_records` records.
    /// Must be called within Kafka's `max.poll.interval.ms` (5 minutes); pause what cannot be taken.
    fn poll(&mut self, timeout: Duration, max_records: usize) -> BrokerResult<Vec<ConsumerEvent>>;

    /// The partitions of this member.
    fn assignment(&self) -> Vec<TopicPartition>;

    /// Continues reading at `offset`; what was fetched ahead is dropped. Works also between `Assigned` and the next poll.
    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> BrokerResult<()>;

    /// Gives no records of these until `resume`. A rebalance that assigns a partition anew clears it.
    fn pause(&mut self, partitions: &[TopicPartition]) -> BrokerResult<()>;

    /// Ends `pause`.
    fn resume(&mut self, partitions: &[TopicPartition]) -> BrokerResult<()>;

    /// Commits offsets outside a transaction and waits for the answer. `AbortTransaction` when the group has gone on
    /// without this member: poll on and begin again with the next assignment. `Fenced`: another process took its place.
    fn commit(&mut self, offsets: &[CommittedOffset]) -> BrokerResult<()>;

    /// The group's committed offsets for those of `partitions` that have one.
    fn committed(&mut self, partitions: &[TopicPartition]) -> BrokerResult<Vec<CommittedOffset>>;

    /// For `TransactionOffsets`; read afresh for each commit.
    fn group_metadata(&self) -> BrokerResult<GroupMetadata>;

    /// Leaves the group (a static member keeps its place until the session timeout). Dropping does the same.
    fn close(self: Box<Self>);
}

/// Reads one partition in order, without a group.
pub trait PartitionReader: Send {
    /// Waits at most `timeout` for the first record, then gives what is there, at most `max_records`.
    fn poll(&mut self, timeout: Duration, max_records: usize) -> BrokerResult<Vec<IncomingRecord>>;

    /// The next offset to read; also passes over markers and aborted records, so that it reaches the end.
    fn position(&self) -> i64;

    /// Whether everything up to `end` was given: `position() >= end`, or the log's readable end was met.
    fn reached(&self, end: i64) -> bool;
}

/// Reads a partition from `from_offset` to the end that it has at the call, giving each record to `each`. Returns the
/// next offset to read. `Retriable` when `deadline` passes first.
///
/// A read_committed reader sees a transaction a moment after its commit returned: Kafka writes the markers afterwards.
/// Who restores state calls `init_transactions` of the writing id first: it returns when the markers are written.
pub fn read_to_end(
    broker: &dyn Broker,
    partition: &TopicPartition,
    from_offset: i64,
    options: ReaderOptions,
    deadline: Instant,
    mut each: impl FnMut(IncomingRecord),
) -> BrokerResult<i64> {
    /// Records taken at once: bounds the memory between two calls of `each`.
    const BATCH_MAX_RECORDS: usize = 4096;
    let marks = broker.watermarks(partition)?;
    let end = if options.read_committed { marks.last_stable } else { marks.high };
    let mut position = from_offset.max(marks.low);
    if position >= end {
        return Ok(position);
    }
    let mut reader = broker.partition_reader(partition, position, options)?;
    while !reader.reached(end) {
        if Instant::now() >= deadline {
            return Err(BrokerError::new(
                BrokerErrorKind::Retriable,
                format_args!(
                    "{}: {partition} was read to {} of {end} when time was up; the broker is slow or away",
                    broker.name(),
                    reader.position()
                ),
            ));
        }
        for record in reader.poll(Duration::from_millis(100), BATCH_MAX_RECORDS)? {
            if record.offset < end {
                each(record);
            }
        }
    }
    position = position.max(end);
    Ok(position)
}

/// A shared broker.
pub type SharedBroker = Arc<dyn Broker>;

/// What of an existing topic differs from its specification; `cleanup` is `None` when it could not be read.
fn topic_differences(spec: &TopicSpec, partitions: u32, cleanup: Option<&str>) -> Vec<String> {
    let mut differences = Vec::new();
    if partitions != spec.partitions {
        differences.push(format!("{} has {partitions} partitions, not {}", spec.name, spec.partitions));
    }
    if let Some(cleanup) = cleanup
        && cleanup != spec.cleanup.as_str()
    {
        differences.push(format!(
            "{} has cleanup.policy={cleanup}, not {}",
            spec.name,
            spec.cleanup.as_str()
        ));
    }
    differences
}

fn refuse_differences(server: &str, differences: Vec<String>) -> BrokerResult<()> {
    if differences.is_empty() {
        return Ok(());
    }
    Err(BrokerError::new(
        BrokerErrorKind::Configuration,
        format_args!(
            "{server}: topics differ from what this version needs: {}; set kafka.partitions to what exists, or choose another kafka.topic_prefix (partition counts never change; see topics.yaml)",
            differences.join("; ")
        ),
    ))
}
