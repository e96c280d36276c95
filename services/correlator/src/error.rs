//! What ends the correlator. Everything else it waits out or does again.
//! An error must say whose fault it is and what to do.

use plimsoll_kit::broker::BrokerError;
use plimsoll_kit::transport::TransportError;
use plimsoll_schemas::codec::CodecError;

use crate::store::StoreError;

/// Why the correlator cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CorrelatorError {
    /// Broker or registry, or their configuration.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The broker refuses for good: fenced, unauthorized, records missing.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The local state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record of the state topic that is not ours.
    #[error("{topic}[{partition}] offset {offset}: {reason}; was the topic written by something else?")]
    StateTopic {
        /// Full topic name.
        topic: String,
        /// Partition.
        partition: u32,
        /// Offset.
        offset: i64,
        /// What is wrong.
        reason: String,
    },
    /// State that cannot be written.
    #[error("the state of {artifact} cannot be written: {source}; this is a defect, please report it")]
    Encode {
        /// Artifact key.
        artifact: String,
        /// The codec's words.
        source: CodecError,
    },
    /// The assignment does not hold whole partitions.
    #[error("the group gave partition {0} of some input topics only; all members must run the same version")]
    NotAligned(u32),
    /// The committing thread ended; it said why in the log.
    #[error("the committing thread ended unexpectedly; see the log above")]
    CommitterGone,
}
