//! The journal of blocks, table `sink_plans`: written before a block, read where a partition is begun.
//! It must never be read with a bound that leaves out a block behind the committed offset.

use std::collections::HashMap;
use std::fmt::Write as _;

use plimsoll_kit::broker::TopicPartition;

use crate::database::{Database, DatabaseError, quoted};
use crate::plan::Journal;

/// Table name.
pub const TABLE: &str = "sink_plans";

/// The statement that records blocks: partition, begin, end.
pub fn insert(group: &str, plans: &[(TopicPartition, i64, i64)]) -> String {
    let mut statement =
        format!("INSERT INTO {TABLE} (group_id, topic, topic_partition, block_begin, block_end) VALUES ");
    for (number, (partition, begin, end)) in plans.iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        let (group, topic) = (quoted(group), quoted(&partition.topic));
        let _ = write!(statement, "{comma}('{group}', '{topic}', {}, {begin}, {end})", partition.partition);
    }
    statement
}

/// Blocks of each partition that begin at the given offset or behind.
///
/// # Errors
/// See [`DatabaseError`].
pub async fn read(
    database: &Database,
    group: &str,
    begins: &[(TopicPartition, i64)],
) -> Result<HashMap<TopicPartition, Journal>, DatabaseError> {
    let mut found: HashMap<TopicPartition, Journal> = HashMap::new();
    if begins.is_empty() {
        return Ok(found);
    }
    let of_partition = |(partition, begin): &(TopicPartition, i64)| {
        let (topic, number) = (quoted(&partition.topic), partition.partition);
        format!("(topic = '{topic}' AND topic_partition = {number} AND block_begin >= {begin})")
    };
    let conditions: Vec<String> = begins.iter().map(of_partition).collect();
    let question = format!(
        "SELECT topic, toString(topic_partition), toString(block_begin), toString(block_end) FROM {TABLE} FINAL \
         WHERE group_id = '{}' AND ({})",
        quoted(group),
        conditions.join(" OR ")
    );
    for [topic, partition, begin, end] in database.rows::<4>("reading sink_plans", &question, []).await? {
        let number = |text: &str| {
            text.parse::<i64>().map_err(|error| database.unexpected("reading sink_plans", &error.to_string()))
        };
        let partition = u32::try_from(number(&partition)?).unwrap_or(u32::MAX);
        let journal = found.entry(TopicPartition::new(topic.as_str(), partition)).or_default();
        journal.insert(number(&begin)?, number(&end)?);
    }
    Ok(found)
}

/// Forgets a group that begins anew, where nothing of its blocks is in the database any more.
///
/// # Errors
/// See [`DatabaseError`].
pub async fn forget(database: &Database, group: &str) -> Result<(), DatabaseError> {
    let statement = format!(
        "ALTER TABLE {TABLE} DELETE WHERE group_id = '{}' SETTINGS mutations_sync = 1",
        quoted(group)
    );
    database.execute("forgetting the blocks of a group", &statement).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        let plans = [(TopicPartition::new("a'b", 3), 5, 9), (TopicPartition::new("c", 0), 0, 1)];
        assert_eq!(
            insert("g\\'", &plans),
            "INSERT INTO sink_plans (group_id, topic, topic_partition, block_begin, block_end) VALUES \
             ('g\\\\\\'', 'a\\'b', 3, 5, 9), ('g\\\\\\'', 'c', 0, 0, 1)"
        );
    }
}
