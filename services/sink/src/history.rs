//! Rows of one partition of a history topic, waiting to be cut into blocks by offset range.
//! It must never cut a block that was planned before in another place than planned.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::rows::RowBinary;

/// Most days in one block: each is a partition in ClickHouse, which refuses inserts into more than 100 at once.
pub const BLOCK_MAX_DAYS: usize = 50;

/// Most rows of one block. ClickHouse splits an insert of more than 1,048,449 rows into blocks of its own choice.
pub const BLOCK_MAX_ROWS: usize = 1_000_000;
/// Most bytes of one block: ClickHouse cuts at 256 MiB.
pub const BLOCK_MAX_BYTES: usize = 200 * 1024 * 1024;

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Bounds of one block.
#[derive(Debug, Clone, Copy)]
pub struct BlockLimits {
    /// Most rows; a single record may exceed it.
    pub max_rows: usize,
    /// Most bytes; a single record may exceed it.
    pub max_bytes: usize,
}

/// A record that was read, whether it has rows or not.
#[derive(Debug)]
struct Mark {
    offset: i64,
    rows: usize,
    /// End of its rows in the buffer, counted from the buffer's first byte ever.
    end: u64,
    day: i64,
}

/// Rows of one partition, with the records that they came from.
#[derive(Debug, Default)]
pub struct HistoryBuffer {
    rows: RowBinary,
    /// Bytes cut so far.
    cut_bytes: u64,
    marks: VecDeque<Mark>,
    /// Where the next block begins: the committed offset, or the first record of a partition that has none.
    begin: Option<i64>,
    /// Ends of the next blocks, as they were planned before.
    planned_ends: VecDeque<i64>,
    caught_up: bool,
}

/// A block that is ready to be planned and inserted.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// Offset of the first record.
    pub begin: i64,
    /// Offset behind the last record.
    pub end: i64,
    /// Rows in RowBinary.
    pub rows: Bytes,
    /// Number of rows; a block without rows is only committed.
    pub row_count: usize,
}

impl HistoryBuffer {
    /// An empty buffer of a partition whose group has committed `begin` and planned blocks up to `planned_ends`.
    pub fn new(begin: Option<i64>, planned_ends: impl IntoIterator<Item = i64>) -> Self {
        Self { begin, planned_ends: planned_ends.into_iter().collect(), ..Self::default() }
    }

    /// Takes the rows of the record at `offset` that `encode` appends; returns the bytes added.
    pub fn push(
        &mut self,
        offset: i64,
        emitted_at_ms: i64,
        row_count: usize,
        encode: impl FnOnce(&mut RowBinary),
    ) -> usize {
        let before = self.rows.0.len();
        encode(&mut self.rows);
        let end = self.cut_bytes + self.rows.0.len() as u64;
        let day = emitted_at_ms.max(0) / DAY_MS;
        self.begin.get_or_insert(offset);
        self.marks.push_back(Mark { offset, rows: row_count, end, day });
        self.rows.0.len() - before
    }

    /// Nothing more is to be read for now: a planned block is whole even when its last records were removed.
    pub fn caught_up(&mut self) {
        self.caught_up = true;
    }

    /// Whether a block is planned and not cut yet.
    pub fn has_plan(&self) -> bool {
        !self.planned_ends.is_empty()
    }

    /// Whether nothing waits here.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Bytes of the rows that wait here.
    pub fn waiting_bytes(&self) -> usize {
        self.rows.0.len()
    }

    /// Rows that wait here.
    pub fn waiting_rows(&self) -> usize {
        self.marks.iter().map(|mark| mark.rows).sum()
    }

    /// Cuts the next block: the planned one if there is a plan and all of it was read, else what the limits allow.
    pub fn cut(&mut self, limits: BlockLimits) -> Option<Block> {
        let begin = self.begin?;
        let count = match self.planned_ends.front().copied() {
            Some(end) => {
                let whole = self.caught_up || self.marks.back().is_some_and(|last| last.offset + 1 >= end);
                if !whole {
                    return None;
                }
                self.marks.partition_point(|mark| mark.offset < end)
            }
            None => self.count_within(limits),
        };
        let end = match (self.planned_ends.pop_front(), count) {
            (Some(end), _) => end,
            (None, 0) => return None,
            (None, count) => self.marks[count - 1].offset + 1,
        };
        let taken: Vec<Mark> = self.marks.drain(..count).collect();
        let length = taken.last().map_or(0, |last| last.end - self.cut_bytes);
        self.cut_bytes += length;
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(self.rows.0.len());
        let rest = self.rows.0.split_off(length);
        let rows = Bytes::from(std::mem::replace(&mut self.rows.0, rest));
        self.begin = Some(end);
        Some(Block { begin, end, rows, row_count: taken.iter().map(|mark| mark.rows).sum() })
    }

    fn count_within(&self, limits: BlockLimits) -> usize {
        let (mut rows, mut days) = (0, BTreeSet::new());
        for (index, mark) in self.marks.iter().enumerate() {
            rows += mark.rows;
            if mark.rows > 0 {
                days.insert(mark.day);
            }
            let bytes = mark.end - self.cut_bytes;
            let over =
                rows > limits.max_rows || bytes > limits.max_bytes as u64 || days.len() > BLOCK_MAX_DAYS;
            if over && index > 0 {
                return index;
            }
        }
        self.marks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BlockLimits = BlockLimits { max_rows: 4, max_bytes: 100 };

    fn push(buffer: &mut HistoryBuffer, offset: i64, rows: &str) {
        buffer.push(offset, 0, rows.len(), |out| out.0.extend_from_slice(rows.as_bytes()));
    }

    fn block(begin: i64, end: i64, rows: &str) -> Option<Block> {
        let rows = rows.to_owned();
        Some(Block { begin, end, row_count: rows.len(), rows: rows.into() })
    }

    #[test]
    fn cuts_at_the_limits_and_continues_where_it_cut() {
        let mut buffer = HistoryBuffer::new(Some(5), None);
        for (offset, rows) in [(7, "ab"), (8, "cd"), (9, "e"), (12, ""), (13, "fghijk"), (14, "l")] {
            push(&mut buffer, offset, rows);
        }
        assert_eq!(buffer.cut(LIMITS), block(5, 9, "abcd"));
        assert_eq!(buffer.cut(LIMITS), block(9, 13, "e"));
        assert_eq!(buffer.cut(LIMITS), block(13, 14, "fghijk"));
        assert_eq!(buffer.cut(LIMITS), block(14, 15, "l"));
        assert_eq!(buffer.cut(LIMITS), None);
        push(&mut buffer, 20, "m");
        assert_eq!(buffer.cut(LIMITS), block(15, 21, "m"));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_planned_block_waits_until_it_is_whole_and_ignores_the_limits() {
        let mut buffer = HistoryBuffer::new(Some(5), Some(10));
        push(&mut buffer, 6, "abcd");
        assert_eq!(buffer.cut(LIMITS), None);
        push(&mut buffer, 8, "efgh");
        push(&mut buffer, 9, "i");
        push(&mut buffer, 10, "j");
        assert_eq!(buffer.cut(LIMITS), block(5, 10, "abcdefghi"));
        assert_eq!(buffer.cut(LIMITS), block(10, 11, "j"));
    }

    #[test]
    fn several_planned_blocks_are_cut_one_by_one() {
        let mut buffer = HistoryBuffer::new(Some(5), [8, 9, 12]);
        for (offset, rows) in [(5, "a"), (7, "b"), (9, "c"), (12, "d")] {
            push(&mut buffer, offset, rows);
        }
        assert_eq!(buffer.cut(LIMITS), block(5, 8, "ab"));
        assert_eq!(buffer.cut(LIMITS), block(8, 9, ""));
        assert_eq!(buffer.cut(LIMITS), block(9, 12, "c"));
        assert!(!buffer.has_plan());
        assert_eq!(buffer.cut(LIMITS), block(12, 13, "d"));
    }

    #[test]
    fn a_planned_block_whose_end_was_removed_ends_where_it_was_planned() {
        let mut buffer = HistoryBuffer::new(Some(5), Some(10));
        push(&mut buffer, 6, "a");
        buffer.caught_up();
        assert_eq!(buffer.cut(LIMITS), block(5, 10, "a"));
        let mut empty = HistoryBuffer::new(Some(5), Some(10));
        empty.caught_up();
        assert_eq!(empty.cut(LIMITS), block(5, 10, ""));
        assert_eq!(empty.cut(LIMITS), None);
    }

    #[test]
    fn a_partition_without_committed_offset_begins_at_its_first_record() {
        let mut buffer = HistoryBuffer::new(None, None);
        assert_eq!(buffer.cut(LIMITS), None);
        push(&mut buffer, 3, "a");
        assert_eq!(buffer.cut(LIMITS), block(3, 4, "a"));
    }

    #[test]
    fn few_days_stand_in_a_block() {
        let mut buffer = HistoryBuffer::new(Some(0), None);
        for day in 0..60 {
            buffer.push(day, day * DAY_MS, 1, |out| out.0.push(b'x'));
        }
        let limits = BlockLimits { max_rows: 1000, max_bytes: 1000 };
        assert_eq!(buffer.cut(limits).map(|block| block.end), Some(BLOCK_MAX_DAYS as i64));
        assert_eq!(buffer.cut(limits).map(|block| block.end), Some(60));
    }
}
