//! Finds transactions of this instance that the brokers count as ended while their partitions never heard of it.
//! It must never take one for complete that is not, nor write anything that a subscriber could take for a fact.
//!
//! Kafka (4.4.0, `TransactionMarkerChannelManager`) takes a partition without a leader for a deleted one, and skips its
//! end marker. A cluster of one broker that was killed, or suspended for longer than its session, has no leaders for a
//! moment, and that is when it ends the transactions that it finds. Their records then hold up `read_committed` readers
//! for ever. The next transaction of the same transactional id ends them wherever it writes, since a partition knows
//! one transaction for each producer id: so a tombstone of nothing is written to each such partition.
//!
//! Whether by a commit or an abort is read from the transaction's name, which each carries in a header and with its
//! offsets. Offsets are the last thing that a transaction of ours sends: where they are, committed or waiting, it is
//! complete and is committed; else its records are partial (state without the outputs that it says were sent), they
//! are aborted, and its inputs are joined again.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use plimsoll_kit::broker::{
    Broker, BrokerError, BrokerErrorKind, BrokerResult, OutgoingRecord, ReaderOptions, TopicPartition,
};
use plimsoll_kit::dead_letter::DEAD_LETTER_SUFFIX;
use plimsoll_schemas::codec::{Codec, EncodedRecord};
use plimsoll_schemas::events::{
    CorrelationAlert, CorrelationArtifact, CorrelationFinding, CorrelationPackage, CorrelationUsage,
    CorrelatorState,
};

/// Header with the transaction's name, on its first record of each partition.
const NAME_HEADER: &str = "plimsoll-transaction";
/// Header with the transactional id of its writer, beside the name: only the same one can end it.
const WRITER_HEADER: &str = "plimsoll-transactional-id";
/// Artifact of the tombstones: none has this key.
const NO_ARTIFACT: &str = "unidentified/plimsoll/closed-transaction";
/// How long the first record of an open transaction may take to read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Name of a transaction, unique for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// What lies between two beginnings of one process: none of its transactions but the last was given up.
    pub life: String,
    /// Counts the transactions of the life.
    pub number: u64,
}

impl Name {
    pub fn parse(text: &str) -> Option<Self> {
        let (life, number) = text.split_once('/')?;
        Some(Self { life: life.to_owned(), number: number.parse().ok()? })
    }

    /// Whether offsets that carry this name say that `other` is complete.
    pub fn is_past(&self, other: &Self) -> bool {
        self.life == other.life && self.number >= other.number
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.life, self.number)
    }
}

/// Writes name and writer on the first record of each partition, dead letters aside.
pub(crate) fn mark(records: &mut [OutgoingRecord], name: &Name, writer: &str) {
    let mut seen = BTreeSet::new();
    for record in records.iter_mut().filter(|record| !record.topic.ends_with(DEAD_LETTER_SUFFIX)) {
        if seen.insert((record.topic.clone(), record.partition)) {
            record.headers.push((NAME_HEADER.to_owned(), name.to_string().into_bytes()));
            record.headers.push((WRITER_HEADER.to_owned(), writer.as_bytes().to_vec()));
        }
    }
}

/// A partition in which a transaction is open.
pub(crate) struct LeftOpen {
    pub partition: TopicPartition,
    /// The first offset of what is open.
    pub first: i64,
    /// What to write so that the end of the transaction is told to this partition.
    pub tombstone: OutgoingRecord,
}

/// The partitions of the outputs and the state, among `partitions`, in which a transaction is open. `beat` is called for
/// each one looked at.
pub(crate) fn find(
    broker: &dyn Broker,
    codec: &Codec,
    partitions: &BTreeSet<u32>,
    beat: &dyn Fn(),
) -> BrokerResult<Vec<LeftOpen>> {
    let mut open = Vec::new();
    for EncodedRecord { topic, key, .. } in tombstones(codec) {
        for number in partitions {
            beat();
            let partition = TopicPartition::new(topic.clone(), *number);
            let marks = broker.watermarks(&partition)?;
            if marks.last_stable < marks.high {
                let tombstone = OutgoingRecord::tombstone(topic.clone(), *number, key.clone());
                open.push(LeftOpen { partition, first: marks.last_stable, tombstone });
            }
        }
    }
    Ok(open)
}

/// The name that the open transaction's first record there carries.
pub(crate) fn name_of(broker: &dyn Broker, open: &LeftOpen) -> BrokerResult<Option<Name>> {
    Ok(header_of(broker, &open.partition, open.first, NAME_HEADER)?.and_then(|text| Name::parse(&text)))
}

/// The transactional id of who wrote the record at `first`; none where no correlator, or an older one, did.
pub(crate) fn writer_of(
    broker: &dyn Broker,
    partition: &TopicPartition,
    first: i64,
) -> BrokerResult<Option<String>> {
    header_of(broker, partition, first, WRITER_HEADER)
}

fn header_of(
    broker: &dyn Broker,
    partition: &TopicPartition,
    first: i64,
    wanted: &str,
) -> BrokerResult<Option<String>> {
    let options = ReaderOptions { read_committed: false, client_id: "correlator-left-open".into() };
    let mut reader = broker.partition_reader(partition, first, options)?;
    let deadline = Instant::now() + READ_TIMEOUT;
    while Instant::now() < deadline {
        if let Some(record) = reader.poll(Duration::from_millis(100), 1)?.first() {
            let header = record.headers.iter().find(|(name, _)| name == wanted);
            return Ok(header.and_then(|(_, value)| String::from_utf8(value.clone()).ok()));
        }
    }
    let reason = format!("{partition}: the record at {first} was not to be had within {READ_TIMEOUT:?}");
    Err(BrokerError::new(BrokerErrorKind::Retriable, reason))
}

fn tombstones(codec: &Codec) -> [EncodedRecord; 6] {
    let artifact = || NO_ARTIFACT.to_owned();
    [
        codec.tombstone(&CorrelatorState { artifact: artifact(), ..CorrelatorState::default() }),
        codec.tombstone(&CorrelationArtifact { artifact: artifact(), ..CorrelationArtifact::default() }),
        codec.tombstone(&CorrelationPackage { artifact: artifact(), ..CorrelationPackage::default() }),
        codec.tombstone(&CorrelationUsage { artifact: artifact(), ..CorrelationUsage::default() }),
        codec.tombstone(&CorrelationFinding { artifact: artifact(), ..CorrelationFinding::default() }),
        codec.tombstone(&CorrelationAlert { artifact: artifact(), ..CorrelationAlert::default() }),
    ]
}
