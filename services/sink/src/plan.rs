//! The plan of a history block, as it stands in the group's committed-offset metadata.
//! It must never be read leniently: a plan that is misread doubles or loses rows.
//!
//! Before a block of a history table is inserted, the offset that the group has committed for the partition (the
//! block's first record) is committed again with the block's end as metadata. After a crash the same range makes the
//! same block with the same deduplication token, so that ClickHouse takes it once.

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

#[cfg(test)]
mod tests {
    use super::*;

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
