//! What can go wrong between a service and its broker, sorted by what the caller must do next.
//! Never hides an outcome that is unknown, and never names a client library's own types.

use std::fmt;

/// What the caller must do about a [`BrokerError`]. The only thing that chooses between retry, abort, dead
/// letter and stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BrokerErrorKind {
    /// Nothing happened; the same call may succeed later (server down, coordinator moving, timeout).
    Retriable,
    /// The bounded send queue stayed full for `max_block_ms`; the record was not taken. Try again.
    QueueFull,
    /// Records that `send` took were given up after all retries: what was sent since the last successful flush is to be
    /// sent again.
    DeliveryFailed,
    /// The transaction, or a member's offsets, cannot be committed: abort, discard what was done since the last commit,
    /// and go on from the committed offsets (after the next assignment when the group went on without this member).
    AbortTransaction,
    /// Another producer took over this transactional id, or this member left the group: stop using this
    /// producer or consumer; whoever took over continues.
    Fenced,
    /// It is not known whether the commit happened: open a new producer, `init_transactions`, then read the
    /// committed offsets again before going on.
    OutcomeUnknown,
    /// This one record is larger than the broker or the producer takes; it was not queued.
    RecordTooLarge,
    /// The wanted offset is not in the log any more (retention), or not yet: data is missing; a person decides.
    OffsetOutOfRange,
    /// A partition has no committed offset and the start policy is `Error`.
    NoCommittedOffset,
    /// The topic or partition does not exist.
    UnknownTopic,
    /// Wrong configuration, or server and configuration disagree (partition counts, cleanup policy).
    Configuration,
    /// Credentials or access rights were refused.
    Unauthorized,
    /// The caller broke the order of calls (send outside a transaction, commit without begin).
    Misuse,
    /// Nothing more can be done with this object.
    Fatal,
}

impl BrokerErrorKind {
    /// Whether the same call may be made again without anything else.
    pub fn is_retriable(self) -> bool {
        matches!(self, Self::Retriable | Self::QueueFull)
    }
}

/// A failed call to the broker: its kind says what to do, its text names server, topic and remedy.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct BrokerError {
    kind: BrokerErrorKind,
    message: String,
}

impl BrokerError {
    /// An error of `kind`; `message` names the server, the topic and the remedy.
    pub fn new(kind: BrokerErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }
    /// What the caller must do.
    pub fn kind(&self) -> BrokerErrorKind {
        self.kind
    }
    /// Whether the same call may be made again without anything else.
    pub fn is_retriable(&self) -> bool {
        self.kind.is_retriable()
    }
    /// The same error with `context` before its text.
    #[must_use]
    pub fn context(self, context: impl fmt::Display) -> Self {
        Self { kind: self.kind, message: format!("{context}: {}", self.message) }
    }
}
