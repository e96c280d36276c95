//! One partition of the memory broker: records, open transactions, the last stable offset, retention.
//! Never shows an aborted record to a read_committed reader, and never moves an offset.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::broker::types::{Bytes, CleanupPolicy, IncomingRecord, Watermarks};

/// Number of a transaction, unique within one broker.
pub(super) type TransactionNumber = u64;

#[derive(Debug)]
struct Entry {
    record: IncomingRecord,
    transaction: Option<TransactionNumber>,
    aborted: bool,
}

#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    low: i64,
    next: i64,
    entries: VecDeque<Entry>,
    /// Open transactions by number, with their first offset here.
    open: BTreeMap<TransactionNumber, i64>,
    size_bytes: usize,
    compacted_size_bytes: usize,
}

/// What a read gave.
pub(super) struct Read {
    pub records: Vec<IncomingRecord>,
    /// Next offset to read; passes over markers and aborted records.
    pub position: i64,
}

impl PartitionLog {
    pub fn append(&mut self, mut record: IncomingRecord, transaction: Option<TransactionNumber>) {
        record.offset = self.next;
        if let Some(number) = transaction {
            self.open.entry(number).or_insert(self.next);
        }
        self.next += 1;
        self.size_bytes += record.size_bytes();
        self.entries.push_back(Entry { record, transaction, aborted: false });
    }

    /// Ends a transaction here; like Kafka's, its marker takes one offset.
    pub fn end_transaction(&mut self, number: TransactionNumber, commit: bool) {
        let Some(first) = self.open.remove(&number) else { return };
        if !commit {
            let start = self.entries.partition_point(|entry| entry.record.offset < first);
            for entry in self.entries.range_mut(start..) {
                if entry.transaction == Some(number) {
                    entry.aborted = true;
                }
            }
        }
        self.next += 1;
    }

    pub fn watermarks(&self) -> Watermarks {
        let last_stable = self.open.values().copied().min().unwrap_or(self.next);
        Watermarks { low: self.low, high: self.next, last_stable }
    }

    /// The end for a reader: the last stable offset, or the log's end.
    pub fn readable_end(&self, read_committed: bool) -> i64 {
        let marks = self.watermarks();
        if read_committed { marks.last_stable } else { marks.high }
    }

    /// Records from `from`; `None` when `from` is outside the log.
    pub fn read(&self, from: i64, read_committed: bool, max_records: usize) -> Option<Read> {
        if from < self.low || from > self.next {
            return None;
        }
        let end = self.readable_end(read_committed);
        let mut records = Vec::new();
        let start = self.entries.partition_point(|entry| entry.record.offset < from);
        for entry in self.entries.range(start..) {
            if entry.record.offset >= end {
                break;
            }
            if records.len() == max_records {
                return Some(Read { records, position: entry.record.offset });
            }
            if !(read_committed && entry.aborted) {
                records.push(entry.record.clone());
            }
        }
        Some(Read { records, position: end.max(from) })
    }

    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Records from `from` that a snapshot keeps: committed ones, and of a compacted log the last of each key.
    pub fn lasting(&self, from: i64, compact: bool) -> Vec<&IncomingRecord> {
        let stable = self.watermarks().last_stable;
        let live =
            |entry: &&Entry| !entry.aborted && entry.record.offset >= from && entry.record.offset < stable;
        let mut last: HashMap<&Bytes, i64> = HashMap::new();
        for entry in self.entries.iter().filter(live) {
            if let Some(key) = entry.record.key.as_ref().filter(|_| compact) {
                last.insert(key, entry.record.offset);
            }
        }
        let is_last = |record: &IncomingRecord| {
            record.key.as_ref().is_none_or(|key| last.get(key).is_none_or(|offset| *offset == record.offset))
        };
        self.entries.iter().filter(live).map(|entry| &entry.record).filter(|record| is_last(record)).collect()
    }

    /// A log that goes on at `next` with the records of a snapshot.
    pub fn restore(low: i64, next: i64, records: Vec<IncomingRecord>) -> Self {
        let size_bytes = records.iter().map(IncomingRecord::size_bytes).sum();
        let entries =
            records.into_iter().map(|record| Entry { record, transaction: None, aborted: false }).collect();
        Self { low, next, entries, open: BTreeMap::new(), size_bytes, compacted_size_bytes: size_bytes }
    }

    /// Forgets what lies before `low`, as retention does.
    pub fn truncate(&mut self, low: i64) {
        let low = low.min(self.next);
        if low <= self.low {
            return;
        }
        self.low = low;
        while self.entries.front().is_some_and(|entry| entry.record.offset < low) {
            if let Some(entry) = self.entries.pop_front() {
                self.size_bytes -= entry.record.size_bytes();
            }
        }
    }

    /// Shrinks a log above `limit_bytes`: a compacted one to the last record of each key, another one to what some
    /// group still needs (`needed_from`).
    pub fn shrink(&mut self, cleanup: CleanupPolicy, limit_bytes: usize, needed_from: Option<i64>) {
        match cleanup {
            CleanupPolicy::Delete if self.size_bytes > limit_bytes => {
                if let Some(offset) = needed_from {
                    self.truncate(offset.min(self.watermarks().last_stable));
                }
            }
            // Doubling since the last time makes the cost linear.
            CleanupPolicy::Compact if self.size_bytes > limit_bytes.max(2 * self.compacted_size_bytes) => {
                self.compact();
            }
            _ => {}
        }
    }

    fn compact(&mut self) {
        let stable = self.watermarks().last_stable;
        let mut last: HashMap<Bytes, i64> = HashMap::new();
        for entry in self.entries.iter().filter(|e| !e.aborted && e.record.offset < stable) {
            if let Some(key) = &entry.record.key {
                last.insert(key.clone(), entry.record.offset);
            }
        }
        self.entries.retain(|entry| {
            let record = &entry.record;
            record.offset >= stable
                || !entry.aborted
                    && record.key.as_ref().is_none_or(|key| last.get(key) == Some(&record.offset))
        });
        self.size_bytes = self.entries.iter().map(|entry| entry.record.size_bytes()).sum();
        self.compacted_size_bytes = self.size_bytes;
    }
}
