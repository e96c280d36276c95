//! The plan of a history block, as it stands in the group's committed-offset metadata.
//! It must never be read leniently: a plan that is misread doubles or loses rows.
//!
//! Before a block of a history table is inserted, the offset that the group has committed for the partition (the
//! block's first record) is committed again with the block's end as metadata. After a crash the same range makes the
//! same block with the same deduplication token, so that ClickHouse takes it once.
//!
//! A commit that a stalled broker applies after later ones takes the group back by some blocks. So all blocks stand in
//! the journal `sink_plans` too, which never forgets: whoever begins at an old offset cuts there as it was cut before.

use std::collections::BTreeMap;

use thiserror::Error;

const PREFIX: &str = "history-block/1 end=";

/// Metadata that is none of ours.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "committed-offset metadata {0:?} is not a plan of this version; another program or a newer sink uses this group: \
     start that version, or give this sink a group of its own by group.id"
)]
pub struct UnknownPlan(String);

/// Metadata that plans the block up to `end` (the offset behind its last record).
pub fn print(end: i64) -> String {
    format!("{PREFIX}{end}")
}

/// Reads metadata; `None`: nothing is planned.
///
/// # Errors
/// [`UnknownPlan`] if it is something else.
pub fn parse(metadata: &str) -> Result<Option<i64>, UnknownPlan> {
    if metadata.is_empty() {
        return Ok(None);
    }
    let unknown = || UnknownPlan(metadata.chars().take(128).collect());
    let end: i64 = metadata.strip_prefix(PREFIX).ok_or_else(unknown)?.parse().map_err(|_| unknown())?;
    if end > 0 { Ok(Some(end)) } else { Err(unknown()) }
}

/// Blocks of the journal by their begin, for one partition.
pub type Journal = BTreeMap<i64, i64>;

/// Where the blocks end that were cut from `begin` on before: those of the journal, each beginning where the one before
/// ends; the committed plan counts where the journal knows none, since then its block was never begun.
pub fn known_ends(begin: i64, committed: Option<i64>, journal: &Journal) -> Vec<i64> {
    let mut ends = Vec::new();
    let mut at = begin;
    loop {
        let planned = if at == begin { committed } else { None };
        match journal.get(&at).copied().or(planned) {
            Some(end) if end > at => {
                ends.push(end);
                at = end;
            }
            _ => return ends,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_followed_from_the_committed_offset() {
        let check = |begin, committed, journal: &[(i64, i64)], expect: &[i64]| {
            let journal = journal.iter().copied().collect();
            assert_eq!(known_ends(begin, committed, &journal), expect, "{begin} {committed:?} {journal:?}");
        };
        check(5, None, &[], &[]);
        check(5, Some(9), &[], &[9]);
        check(5, Some(9), &[(5, 9)], &[9]);
        // A commit came late: the blocks behind it are in.
        check(5, Some(9), &[(5, 9), (9, 12), (12, 13)], &[9, 12, 13]);
        check(5, None, &[(1, 5), (5, 9), (9, 12)], &[9, 12]);
        // The plan that was followed wins over one that was not.
        check(5, Some(7), &[(5, 9)], &[9]);
        // A gap, a block of another cut, nonsense.
        check(5, Some(9), &[(10, 12)], &[9]);
        check(5, None, &[(6, 9)], &[]);
        check(5, None, &[(5, 5)], &[]);
        check(5, Some(3), &[], &[]);
    }

    #[test]
    fn reads_what_it_printed_and_nothing_else() {
        assert_eq!(parse(&print(42)), Ok(Some(42)));
        assert_eq!(parse(""), Ok(None));
        for metadata in
            ["history-block/1 end=", "history-block/1 end=0", "history-block/2 end=3", "x", "end=3"]
        {
            assert_eq!(parse(metadata), Err(UnknownPlan(metadata.to_owned())));
        }
    }
}
