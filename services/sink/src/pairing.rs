//! Holds a database and its consumer group together: committed offsets mean "is in this database" and nothing else.
//! It must never let a sink run on a pair that would leave rows out or insert them twice.

use plimsoll_kit::broker::{Broker, BrokerResult, TopicPartition};

use crate::database::{Bind, Database, DatabaseError, quoted};

/// What is known of a database and a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Groups that the database was filled by, for this topic prefix.
    pub groups: Vec<String>,
    /// Whether the broker knows committed offsets of the group.
    pub has_offsets: bool,
    /// Whether the history tables have rows.
    pub has_history: bool,
}

/// Whether `group` may fill the database; the remedy if not.
pub fn check(database: &str, group: &str, facts: &Facts) -> Result<(), String> {
    if let Some(other) = facts.groups.iter().find(|known| *known != group) {
        return Err(format!(
            "database {database} is filled by the group {other}; the group {group} would insert its history a second \
             time: set group.id={other}, or choose another clickhouse.database"
        ));
    }
    if facts.groups.is_empty() && facts.has_offsets {
        return Err(format!(
            "the group {group} has committed offsets, but database {database} is new: what was read before them would \
             be missing; set group.id to a name that was never used, so that everything still in the topics is read \
             again, or restore the database"
        ));
    }
    if !facts.groups.is_empty() && !facts.has_offsets && facts.has_history {
        return Err(format!(
            "database {database} has history of the group {group}, but the broker knows no offsets of it (another \
             broker, or the sink was away for longer than offsets are kept): reading again would double the history; \
             choose another clickhouse.database, or empty usage_events and alert_events by TRUNCATE TABLE"
        ));
    }
    Ok(())
}

/// The database's part of the facts.
///
/// # Errors
/// See [`DatabaseError`].
pub async fn database_facts(database: &Database, topic_prefix: &str) -> Result<Facts, DatabaseError> {
    let question = "SELECT DISTINCT group_id FROM sink_groups WHERE topic_prefix = ? ORDER BY group_id";
    let binds = [Bind::Text(topic_prefix.to_owned())];
    let groups = database.rows::<1>("reading sink_groups", question, binds).await?;
    let question = "SELECT 'rows' FROM (SELECT 1 FROM usage_events LIMIT 1 UNION ALL SELECT 1 FROM alert_events LIMIT 1)";
    let history = database.rows::<1>("looking for history", question, []).await?;
    Ok(Facts {
        groups: groups.into_iter().map(|[group]| group).collect(),
        has_offsets: false,
        has_history: !history.is_empty(),
    })
}

/// Records that `group` fills the database.
///
/// # Errors
/// See [`DatabaseError`].
pub async fn record(database: &Database, topic_prefix: &str, group: &str) -> Result<(), DatabaseError> {
    let statement = format!(
        "INSERT INTO sink_groups (topic_prefix, group_id) VALUES ('{}', '{}')",
        quoted(topic_prefix),
        quoted(group)
    );
    database.execute("recording the group", &statement).await
}

/// Whether the group has committed any offset in these topics.
///
/// # Errors
/// See [`plimsoll_kit::broker::BrokerError`].
pub fn has_offsets(
    broker: &dyn Broker,
    group: &str,
    topics: &[String],
    partitions: u32,
) -> BrokerResult<bool> {
    let all: Vec<TopicPartition> = topics
        .iter()
        .flat_map(|topic| (0..partitions).map(|partition| TopicPartition::new(topic.as_str(), partition)))
        .collect();
    Ok(!broker.committed(group, &all)?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_would_lose_or_double_is_refused() {
        let run = |groups: &[&str], has_offsets: bool, has_history: bool, expected: Option<&str>| {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            let facts = Facts { groups, has_offsets, has_history };
            match (check("d", "g", &facts), expected) {
                (Ok(()), None) => {}
                (Err(message), Some(part)) if message.contains(part) => {}
                (outcome, expected) => panic!("{facts:?}: {outcome:?} instead of {expected:?}"),
            }
        };
        run(&[], false, false, None);
        run(&["g"], true, true, None);
        run(&["g"], false, false, None);
        run(&["g"], true, false, None);
        run(&["h"], true, true, Some("set group.id=h"));
        run(&["g", "h"], true, true, Some("set group.id=h"));
        run(&[], true, false, Some("database d is new"));
        run(&["g"], false, true, Some("double the history"));
    }
}
