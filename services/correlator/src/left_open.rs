//! Closes transactions of this instance that the brokers count as ended while their partitions never heard of it.
//! It must never close one that may still be decided, nor write anything that a subscriber could take for a fact.
//!
//! Kafka (4.4.0, `TransactionMarkerChannelManager`) takes a partition without a leader for a deleted one, and skips its
//! end marker. A cluster of one broker that was killed, or suspended for longer than its session, has no leaders for a
//! moment, and that is when it ends the transactions that it finds. Their records then hold up `read_committed` readers
//! for ever. The next transaction of the same transactional id ends them wherever it writes, since a partition knows
//! one transaction for each producer id: so one is committed that writes a tombstone of nothing to each such partition,
//! and the offsets as they stand.
//!
//! Committing is right whatever was decided: offsets are the last thing that a transaction of ours sends. If they are
//! there, all its records are; if not, its inputs are joined again, and joining twice is joining once
//! (`core/src/merge.rs`).

use std::collections::BTreeSet;

use plimsoll_kit::broker::{Broker, BrokerResult, OutgoingRecord, TopicPartition};
use plimsoll_schemas::codec::{Codec, EncodedRecord};
use plimsoll_schemas::events::{
    CorrelationAlert, CorrelationArtifact, CorrelationFinding, CorrelationPackage, CorrelationUsage,
    CorrelatorState,
};

/// Artifact of the tombstones: none has this key.
const NO_ARTIFACT: &str = "unidentified/plimsoll/closed-transaction";

/// A tombstone of nothing for each partition of the outputs and the state, among `partitions`, in which a transaction
/// is open.
pub(crate) fn closing_records(
    broker: &dyn Broker,
    codec: &Codec,
    partitions: &BTreeSet<u32>,
) -> BrokerResult<Vec<OutgoingRecord>> {
    let mut records = Vec::new();
    for tombstone in tombstones(codec) {
        for partition in partitions {
            let marks = broker.watermarks(&TopicPartition::new(tombstone.topic.clone(), *partition))?;
            if marks.last_stable < marks.high {
                let (topic, key) = (tombstone.topic.clone(), tombstone.key.clone());
                records.push(OutgoingRecord::tombstone(topic, *partition, key));
            }
        }
    }
    Ok(records)
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
