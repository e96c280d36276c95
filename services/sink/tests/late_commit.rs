//! A commit that a stalled broker applies after later ones takes the group back; history is not doubled.
//!
//! Here the test commits it, under the sink's own names, after the sink was killed: to broker and group that is the
//! same as a request that waited in the broker meanwhile.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::load::Load;
use common::oracle::Oracle;
use common::{Pipeline, servers, wait_for};
use plimsoll_kit::broker::{CommittedOffset, ConsumerEvent, GroupOptions, TopicPartition};
use plimsoll_schemas::topics;

/// Small blocks: many of them lie between the early commit and the end.
const SETTINGS: &[&str] = &["batch.linger_ms=5", "batch.interval_ms=10", "batch.max_rows=30"];
/// How far the group has to be beyond an early commit, in records of its partition.
const BEYOND: i64 = 30;

fn partitions(pipeline: &Pipeline) -> Vec<TopicPartition> {
    let connections = &pipeline.connections;
    topics::consumed_by("sink")
        .filter(|topic| topic.name.starts_with("runtime."))
        .map(|topic| topic.full_name(&connections.prefix))
        .flat_map(|topic| (0..connections.partitions).map(move |n| TopicPartition::new(topic.as_str(), n)))
        .collect()
}

/// Commits offsets as the group's only member.
fn commit_late(pipeline: &Pipeline, offsets: &[CommittedOffset]) {
    let prefix = &pipeline.connections.prefix;
    let topics = topics::consumed_by("sink").map(|topic| topic.full_name(prefix)).collect();
    let options = GroupOptions {
        instance_id: Some(format!("{}.0", pipeline.group)),
        ..GroupOptions::new(&pipeline.group, topics)
    };
    let mut member = pipeline.connections.broker.group_consumer(options).unwrap();
    wait_for("membership", || {
        let events = member.poll(Duration::from_millis(50), 1).ok()?;
        events.iter().any(|event| matches!(event, ConsumerEvent::Assigned(_))).then_some(())
    });
    member.commit(offsets).unwrap();
}

#[test]
fn a_commit_that_comes_late_doubles_no_history() {
    let Some(servers) = servers() else { return };
    let pipeline = Pipeline::new(servers, "late");
    let mut load = Load::new(&pipeline.connections, 8);
    let sink = pipeline.start_sink(SETTINGS);
    // The first plan that is seen of each partition, once the group is far beyond.
    let mut early: BTreeMap<TopicPartition, CommittedOffset> = BTreeMap::new();
    let wanted = partitions(&pipeline);
    let late: Vec<CommittedOffset> = wait_for("blocks behind early commits", || {
        load.transaction(40);
        let now = pipeline.connections.broker.committed(&pipeline.group, &wanted).ok()?;
        let mut beyond = Vec::new();
        for offset in now {
            match early.get(&offset.partition) {
                Some(early) if offset.offset > early.offset + BEYOND => beyond.push(early.clone()),
                Some(_) => {}
                None if offset.metadata.is_empty() => {}
                None => drop(early.insert(offset.partition.clone(), offset)),
            }
        }
        (beyond.len() >= 3).then_some(beyond)
    });
    sink.kill();
    commit_late(&pipeline, &late);
    load.transaction(200);

    let mut oracle = Oracle::new(&pipeline);
    let sink = pipeline.start_sink(SETTINGS);
    oracle.wait_until_caught_up();
    oracle.check();
    println!("{} partitions taken back, {} records, {} rows compared", late.len(), load.records, oracle.rows);
    assert!(sink.terminate(), "the sink ends in order");
}
