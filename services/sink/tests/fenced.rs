//! A sink whose place in the group was taken: it joins anew and loses nothing; taken again and again, it gives way.
//!
//! A broker that was away can take one joining for two and fence the member by itself. Here the second joining comes
//! from the test, under the sink's own names, and falls silent: to sink and broker that is the same.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::time::Duration;

use common::load::Load;
use common::oracle::Oracle;
use common::{Pipeline, Sink, servers, wait_for};
use plimsoll_kit::broker::{ConsumerEvent, GroupOptions};
use plimsoll_schemas::topics;

const SETTINGS: &[&str] = &["batch.linger_ms=10", "batch.interval_ms=30", "batch.max_rows=200"];

/// Joins under the sink's names, until the group has given it partitions; then it is silent.
fn join_twice(pipeline: &Pipeline) {
    let prefix = &pipeline.connections.prefix;
    let topics = topics::consumed_by("sink").map(|topic| topic.full_name(prefix)).collect();
    let options = GroupOptions {
        instance_id: Some(format!("{}.0", pipeline.group)),
        ..GroupOptions::new(&pipeline.group, topics)
    };
    let mut twin = pipeline.connections.broker.group_consumer(options).unwrap();
    wait_for("the second joining", || {
        let events = twin.poll(Duration::from_millis(50), 1).ok()?;
        events.iter().any(|event| matches!(event, ConsumerEvent::Assigned(_))).then_some(())
    });
}

fn ready(sink: &Sink, when: &str) {
    wait_for(when, || sink.page("/readyz").filter(|(status, _)| *status == 200));
}

#[test]
fn taken_once_it_joins_anew_and_loses_nothing() {
    let Some(servers) = servers() else { return };
    let pipeline = Pipeline::new(servers, "fenced");
    let mut load = Load::new(&pipeline.connections, 3);
    load.transaction(400);
    let mut sink = pipeline.start_sink(SETTINGS);
    Oracle::new(&pipeline).wait_until_caught_up();
    ready(&sink, "ready at first");

    load.transaction(200);
    join_twice(&pipeline);
    load.transaction(400);
    wait_for("joining anew", || {
        assert!(sink.ended().is_none(), "the sink ended instead of joining the group again");
        pipeline.log().contains("joining the group again").then_some(())
    });
    load.transaction(400);
    let mut oracle = Oracle::new(&pipeline);
    oracle.wait_until_caught_up();
    oracle.check();
    ready(&sink, "ready at the end");
    println!("{} records, {} rows compared", load.records, oracle.rows);
    assert!(sink.terminate(), "the sink ends in order");
}

#[test]
fn of_two_sinks_with_one_name_one_ends_and_says_why() {
    let Some(servers) = servers() else { return };
    let pipeline = Pipeline::new(servers, "twins");
    let mut load = Load::new(&pipeline.connections, 4);
    load.transaction(300);
    let mut first = pipeline.start_sink(SETTINGS);
    ready(&first, "the first is ready");
    let mut second = pipeline.start_sink(SETTINGS);
    let status = wait_for("the end of one of them", || {
        load.transaction(20);
        first.ended().or_else(|| second.ended())
    });
    assert!(!status.success(), "{status}");
    let log = pipeline.log();
    assert!(log.contains("group.instance"), "the key is named");
    load.transaction(300);
    let mut oracle = Oracle::new(&pipeline);
    oracle.wait_until_caught_up();
    oracle.check();
    println!("{} records, {} rows compared", load.records, oracle.rows);
}
