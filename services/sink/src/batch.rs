//! Gathers rows until they are worth an insert.
//! It must never count a record as done whose rows it has not handed on.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use plimsoll_kit::broker::{OutgoingRecord, TopicPartition};
use tracing::Span;

use crate::history::{Block, BlockLimits, HistoryBuffer};
use crate::rows::{HistoryTable, Position, RowBinary, StateTable};

/// Most records of one batch whose traces are continued; the spans of the rest are left out.
pub const TRACED_MAX_RECORDS: usize = 256;

/// Rows of one state table.
#[derive(Debug, Default)]
pub struct TableRows {
    /// Rows.
    pub rows: RowBinary,
    /// Number of rows.
    pub row_count: usize,
}

/// A package that vanished. Its row in the table that is sorted by purl needs the purl, which no tombstone has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageTombstone {
    /// Artifact key.
    pub artifact: String,
    /// Package id.
    pub package_id: String,
    /// Where the tombstone lies.
    pub position: Position,
}

/// Rows being gathered.
#[derive(Default)]
pub struct Filling {
    state: BTreeMap<StateTable, TableRows>,
    package_tombstones: Vec<PackageTombstone>,
    /// Next offsets of state partitions.
    next_offsets: BTreeMap<TopicPartition, i64>,
    history: BTreeMap<TopicPartition, (HistoryTable, HistoryBuffer)>,
    dead_letters: Vec<OutgoingRecord>,
    spans: Vec<Span>,
    bytes: usize,
    row_count: usize,
    oldest: Option<Instant>,
    oldest_timestamp_ms: Option<i64>,
}

/// Rows on their way to ClickHouse.
#[derive(Default)]
pub struct Batch {
    /// Rows of state tables.
    pub state: Vec<(StateTable, Bytes, usize)>,
    /// Packages that vanished.
    pub package_tombstones: Vec<PackageTombstone>,
    /// Planned blocks of history tables.
    pub blocks: Vec<(TopicPartition, HistoryTable, Block)>,
    /// All blocks, those without rows too, for the journal: begin and end.
    pub plans: Vec<(TopicPartition, i64, i64)>,
    /// What to commit once all is inserted: next offsets.
    pub done: BTreeMap<TopicPartition, i64>,
    /// Refused records, to be delivered before the commit.
    pub dead_letters: Vec<OutgoingRecord>,
    /// Continued traces; they end with the batch.
    pub spans: Vec<Span>,
    /// Timestamp of the oldest record, milliseconds since the epoch.
    pub oldest_timestamp_ms: Option<i64>,
}

impl Filling {
    /// Opens a history partition whose group has committed `begin` and planned blocks up to `planned_ends`.
    pub fn open_history(
        &mut self,
        partition: TopicPartition,
        table: HistoryTable,
        begin: Option<i64>,
        planned_ends: Vec<i64>,
    ) {
        self.history.insert(partition, (table, HistoryBuffer::new(begin, planned_ends)));
    }

    /// Forgets what waits of a partition that went to another member. Rows of state tables stay: whoever inserts them,
    /// and however often, they say the same.
    pub fn close(&mut self, partition: &TopicPartition) {
        self.next_offsets.remove(partition);
        if let Some((_, buffer)) = self.history.remove(partition) {
            self.bytes -= buffer.waiting_bytes();
            self.row_count -= buffer.waiting_rows();
        }
    }

    /// Appends a state row.
    pub fn add_state(&mut self, table: StateTable, encode: impl FnOnce(&mut RowBinary)) {
        let rows = self.state.entry(table).or_default();
        let before = rows.rows.0.len();
        encode(&mut rows.rows);
        rows.row_count += 1;
        self.bytes += rows.rows.0.len() - before;
        self.row_count += 1;
    }

    /// Appends a package that vanished.
    pub fn add_package_tombstone(&mut self, tombstone: PackageTombstone) {
        self.bytes += tombstone.artifact.len() + tombstone.package_id.len();
        self.row_count += 1;
        self.package_tombstones.push(tombstone);
    }

    /// Appends a refused record.
    pub fn add_dead_letter(&mut self, record: OutgoingRecord) {
        self.bytes += record.size_bytes();
        self.dead_letters.push(record);
    }

    /// Appends the rows of a history record, which may have none. A partition that is not open is another member's.
    pub fn add_history(
        &mut self,
        partition: &TopicPartition,
        offset: i64,
        emitted_at_ms: i64,
        row_count: usize,
        encode: impl FnOnce(&mut RowBinary),
    ) {
        let Some((_, buffer)) = self.history.get_mut(partition) else { return };
        self.bytes += buffer.push(offset, emitted_at_ms, row_count, encode);
        self.row_count += row_count;
    }

    /// Counts the record of a state partition as done with this batch; history partitions count by their blocks.
    pub fn state_taken(&mut self, partition: TopicPartition, offset: i64) {
        self.next_offsets.insert(partition, offset + 1);
    }

    /// Notes that a record waits.
    pub fn waits(&mut self, timestamp_ms: i64, now: Instant) {
        self.oldest.get_or_insert(now);
        if timestamp_ms > 0 {
            let oldest = self.oldest_timestamp_ms.get_or_insert(timestamp_ms);
            *oldest = timestamp_ms.min(*oldest);
        }
    }

    /// Whether another record's trace may be continued.
    pub fn may_trace(&self) -> bool {
        self.spans.len() < TRACED_MAX_RECORDS
    }

    /// Keeps the span of a record until its rows are in.
    pub fn trace(&mut self, span: Span) {
        self.spans.push(span);
    }

    /// Tells a history partition that nothing more is to be read for now.
    pub fn caught_up(&mut self, partition: &TopicPartition, now: Instant) {
        if let Some((_, buffer)) = self.history.get_mut(partition) {
            buffer.caught_up();
            if buffer.has_plan() {
                self.oldest.get_or_insert(now);
            }
        }
    }

    /// When the oldest waiting record came.
    pub fn oldest(&self) -> Option<Instant> {
        self.oldest
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Rows that wait.
    pub fn row_count(&self) -> usize {
        self.row_count
    }

    /// Takes all that can go: all state rows, one block of each history partition. `None`: nothing can.
    pub fn cut(&mut self, limits: BlockLimits, now: Instant) -> Option<Batch> {
        let mut batch = Batch {
            state: std::mem::take(&mut self.state)
                .into_iter()
                .map(|(table, rows)| (table, Bytes::from(rows.rows.0), rows.row_count))
                .collect(),
            package_tombstones: std::mem::take(&mut self.package_tombstones),
            blocks: Vec::new(),
            plans: Vec::new(),
            done: std::mem::take(&mut self.next_offsets),
            dead_letters: std::mem::take(&mut self.dead_letters),
            spans: std::mem::take(&mut self.spans),
            oldest_timestamp_ms: self.oldest_timestamp_ms.take(),
        };
        for (partition, (table, buffer)) in &mut self.history {
            if let Some(block) = buffer.cut(limits) {
                batch.done.insert(partition.clone(), block.end);
                batch.plans.push((partition.clone(), block.begin, block.end));
                if block.row_count > 0 {
                    batch.blocks.push((partition.clone(), *table, block));
                }
            }
        }
        let buffers = || self.history.values().map(|(_, buffer)| buffer);
        self.bytes = buffers().map(HistoryBuffer::waiting_bytes).sum();
        self.row_count = buffers().map(HistoryBuffer::waiting_rows).sum();
        self.oldest = buffers().any(|buffer| !buffer.is_empty()).then_some(now);
        let something =
            !batch.state.is_empty() || !batch.package_tombstones.is_empty() || !batch.done.is_empty();
        (something || !batch.dead_letters.is_empty()).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BlockLimits = BlockLimits { max_rows: 2, max_bytes: 1000 };

    #[test]
    fn a_cut_takes_all_state_and_one_block_of_each_history_partition() {
        let now = Instant::now();
        let (state, history) = (TopicPartition::new("s", 0), TopicPartition::new("h", 0));
        let mut filling = Filling::default();
        assert!(filling.cut(LIMITS, now).is_none());
        filling.open_history(history.clone(), HistoryTable::UsageEvents, Some(0), Vec::new());
        filling.add_state(StateTable::Artifacts, |row| row.0.push(1));
        filling.state_taken(state.clone(), 41);
        filling.waits(9, now);
        for offset in 0..3 {
            filling.add_history(&history, offset, 0, 1, |row| row.0.push(2));
            filling.waits(7, now);
        }
        assert_eq!((filling.bytes(), filling.row_count()), (4, 4));

        let batch = filling.cut(LIMITS, now).unwrap();
        assert_eq!(batch.state, vec![(StateTable::Artifacts, Bytes::from_static(&[1]), 1)]);
        assert_eq!(batch.done, BTreeMap::from([(state, 42), (history.clone(), 2)]));
        assert_eq!(
            batch.blocks[0].2,
            Block { begin: 0, end: 2, rows: Bytes::from_static(&[2, 2]), row_count: 2 }
        );
        assert_eq!(batch.oldest_timestamp_ms, Some(7));
        assert_eq!((filling.bytes(), filling.row_count()), (1, 1));
        assert!(filling.oldest().is_some());

        filling.close(&history);
        assert_eq!((filling.bytes(), filling.row_count()), (0, 0));
        assert!(filling.cut(LIMITS, now).is_none());
    }
}
