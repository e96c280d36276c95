//! Whether the correlator has joined everything that was there at a moment.
//! It must never say yes because a topic looked empty while the broker was away.

use std::time::{Duration, Instant};

use plimsoll_kit::broker::{BrokerError, BrokerResult, ReaderOptions, TopicPartition};
use plimsoll_kit::transport::Connections;

use crate::decode::input_topics;
use crate::engine::group;

/// Wait between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until all input records that are in the topics at the call are joined and their outputs committed; whether
/// that came about before `deadline`. Readers of Kafka see the outputs a moment later.
///
/// # Errors
/// What the broker says, other than that it is away for a moment.
pub fn wait_until_caught_up(connections: &Connections, deadline: Instant) -> BrokerResult<bool> {
    let mut wanted: Option<Vec<(TopicPartition, i64)>> = None;
    loop {
        let step = match &mut wanted {
            None => ends(connections).map(|ends| {
                wanted = Some(ends);
                false
            }),
            Some(wanted) => retain_missing(connections, wanted).map(|()| wanted.is_empty()),
        };
        match step {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) if error.is_retriable() => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// The ends of all input partitions.
fn ends(connections: &Connections) -> BrokerResult<Vec<(TopicPartition, i64)>> {
    let mut ends = Vec::new();
    for topic in input_topics(&connections.prefix) {
        for partition in 0..connections.partitions {
            let input = TopicPartition::new(topic.as_str(), partition);
            let marks = connections.broker.watermarks(&input)?;
            if marks.high > marks.low {
                ends.push((input, marks.high));
            }
        }
    }
    Ok(ends)
}

/// Takes out of `wanted` what the group has committed.
fn retain_missing(connections: &Connections, wanted: &mut Vec<(TopicPartition, i64)>) -> BrokerResult<()> {
    let inputs: Vec<TopicPartition> = wanted.iter().map(|(input, _)| input.clone()).collect();
    let committed = connections.broker.committed(&group(&connections.prefix), &inputs)?;
    let mut failed: Option<BrokerError> = None;
    wanted.retain(|(input, end)| {
        let offset = committed.iter().find(|offset| offset.partition == *input).map(|offset| offset.offset);
        match offset {
            Some(offset) if offset >= *end => false,
            // Markers of transactions take offsets that no record has and nobody commits.
            offset => match only_markers(connections, input, offset, *end) {
                Ok(only) => !only,
                Err(error) => {
                    failed.get_or_insert(error);
                    true
                }
            },
        }
    });
    failed.map_or(Ok(()), Err)
}

/// Whether no committed record lies between `from` and `end`.
fn only_markers(
    connections: &Connections,
    input: &TopicPartition,
    from: Option<i64>,
    end: i64,
) -> BrokerResult<bool> {
    /// A tail longer than this surely holds a record, or will soon be committed.
    const TAIL_MAX_OFFSETS: i64 = 64;
    let low = connections.broker.watermarks(input)?.low;
    let from = from.unwrap_or(low).max(low);
    if end - from > TAIL_MAX_OFFSETS {
        return Ok(false);
    }
    let options = ReaderOptions { read_committed: true, client_id: "correlator-caught-up".into() };
    let mut reader = connections.broker.partition_reader(input, from, options)?;
    let deadline = Instant::now() + Duration::from_secs(1);
    while !reader.reached(end) {
        if !reader.poll(Duration::from_millis(20), 1)?.is_empty() || Instant::now() >= deadline {
            return Ok(false);
        }
    }
    Ok(true)
}
