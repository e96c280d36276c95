//! Brings the local store to the end of the state topic when a partition is assigned.
//! It must never end before the last transaction of the partition's former owner is decided.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_kit::broker::{
    Broker, BrokerError, BrokerErrorKind, IncomingRecord, ReaderOptions, TopicPartition, Watermarks,
    read_to_end,
};
use plimsoll_kit::clock;
use plimsoll_schemas::codec::{Codec, CodecError};
use plimsoll_schemas::events::CorrelatorState;
use plimsoll_schemas::topics::DELETE_RETENTION_MS;

use crate::error::CorrelatorError;
use crate::store::{self, Position, Store, Write, data_key, data_value, position_write};

/// Wait between two looks.
const STABLE_INTERVAL: Duration = Duration::from_millis(20);
/// How long reading may take before it is reported and goes on from where it is.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Entries written to the store at once.
const WRITE_MAX_ENTRIES: usize = 5_000;
/// A position older than this may have missed tombstones that the topic has forgotten.
const POSITION_MAX_AGE_MS: i64 = DELETE_RETENTION_MS - 24 * 60 * 60 * 1000;

/// What went wrong, and whether trying again may help.
pub(crate) enum RestoreError {
    Again(String),
    /// A transaction stays open for longer than any may.
    LeftOpen(String),
    Fatal(CorrelatorError),
}

impl From<BrokerError> for RestoreError {
    fn from(error: BrokerError) -> Self {
        // A partition that was just made, or whose leader just moved, may not be known everywhere yet.
        if error.is_retriable() || error.kind() == BrokerErrorKind::UnknownTopic {
            return Self::Again(error.to_string());
        }
        Self::Fatal(error.into())
    }
}

impl From<store::StoreError> for RestoreError {
    fn from(error: store::StoreError) -> Self {
        Self::Fatal(error.into())
    }
}

pub(crate) struct Restore<'a> {
    pub broker: &'a dyn Broker,
    pub codec: &'a Codec,
    pub store: &'a dyn Store,
    pub state_topic: Arc<str>,
    /// How long a transaction of the former owner may stay open.
    pub left_open_after: Duration,
    /// Called for each record: a sign of life.
    pub beat: &'a dyn Fn(),
}

impl Restore<'_> {
    /// Reads what the store lacks of a partition. Gives the number of records read.
    pub fn partition(&self, partition: u32) -> Result<u64, RestoreError> {
        let state = TopicPartition::new(self.state_topic.clone(), partition);
        let marks = self.wait_until_stable(&state)?;
        let from = match store::position(self.store, partition)? {
            Some(position) if usable(position, marks) => position.offset,
            _ => {
                store::clear(self.store, partition)?;
                marks.low
            }
        };
        let mut sink =
            Sink { restore: self, partition, writes: Vec::new(), next: from, failed: None, count: 0 };
        let deadline = Instant::now() + READ_TIMEOUT;
        let options = ReaderOptions { read_committed: true, client_id: "correlator-restore".into() };
        let read = read_to_end(self.broker, &state, from, options, deadline, |record| sink.take(&record));
        sink.flush();
        if let Some(error) = sink.failed {
            return Err(error);
        }
        let count = sink.count;
        let end = Position { offset: read?, written_at_ms: clock::now_ms() };
        self.store.write(&[position_write(partition, end)])?;
        Ok(count)
    }

    fn wait_until_stable(&self, state: &TopicPartition) -> Result<Watermarks, RestoreError> {
        let deadline = Instant::now() + self.left_open_after;
        loop {
            (self.beat)();
            let marks = self.broker.watermarks(state)?;
            if marks.last_stable >= marks.high {
                return Ok(marks);
            }
            if Instant::now() >= deadline {
                return Err(RestoreError::LeftOpen(format!("{state}: a transaction is still open")));
            }
            std::thread::sleep(STABLE_INTERVAL);
        }
    }
}

/// Whether reading from the position on gives the whole state.
fn usable(position: Position, marks: Watermarks) -> bool {
    position.offset <= marks.high
        && position.offset >= marks.low
        && position.written_at_ms + POSITION_MAX_AGE_MS > clock::now_ms()
}

struct Sink<'a> {
    restore: &'a Restore<'a>,
    partition: u32,
    writes: Vec<Write>,
    next: i64,
    failed: Option<RestoreError>,
    count: u64,
}

impl Sink<'_> {
    fn take(&mut self, record: &IncomingRecord) {
        if self.failed.is_some() {
            return;
        }
        match self.write_of(record) {
            Ok(write) => self.writes.push(write),
            Err(error) => {
                self.failed = Some(error);
                return;
            }
        }
        self.count += 1;
        self.next = record.next_offset();
        if self.writes.len() >= WRITE_MAX_ENTRIES {
            self.flush();
        }
    }

    fn write_of(&self, record: &IncomingRecord) -> Result<Write, RestoreError> {
        let wrong = |reason: String| {
            RestoreError::Fatal(CorrelatorError::StateTopic {
                topic: record.topic.to_string(),
                partition: record.partition,
                offset: record.offset,
                reason,
            })
        };
        let Some(key) = &record.key else { return Err(wrong("the record has no key".to_owned())) };
        let stored = data_key(self.partition, key);
        let Some(value) = &record.value else { return Ok((stored, None)) };
        let state: Result<CorrelatorState, CodecError> = self.restore.codec.decode(key, value);
        match state {
            Ok(state) => Ok((stored, Some(data_value(state.format, &state.body)))),
            Err(error) if error.is_retriable() => Err(RestoreError::Again(error.to_string())),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// Writes what was read together with how far that is: a restore that breaks off goes on from there.
    fn flush(&mut self) {
        (self.restore.beat)();
        if self.writes.is_empty() {
            return;
        }
        let position = Position { offset: self.next, written_at_ms: clock::now_ms() };
        self.writes.push(position_write(self.partition, position));
        if let Err(error) = self.restore.store.write(&self.writes) {
            self.failed.get_or_insert(error.into());
        }
        self.writes.clear();
    }
}
