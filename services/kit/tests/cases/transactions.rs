//! Transactions, isolation, fencing.

use plimsoll_kit::broker::*;

use crate::{Bench, SOON, record, together};

pub fn aborted_records_stay_invisible(bench: &Bench) {
    let topic = bench.topic("t", 1);
    let mut producer = bench.transactional("id");
    for (values, commit) in [(["a", "b"], true), (["c", "d"], false), (["e", "f"], true), (["g", "h"], false)]
    {
        producer.begin_transaction().unwrap();
        for value in values {
            producer.send(&record(&topic, 0, value)).unwrap();
        }
        if commit {
            producer.commit_transaction(None, SOON).unwrap();
        } else {
            producer.flush(SOON).unwrap();
            producer.abort_transaction(SOON).unwrap();
        }
    }
    // Reading to the end works although the log ends in aborted records and markers.
    bench.expect_values(&topic, 0, true, &["a", "b", "e", "f"]);
    bench.expect_values(&topic, 0, false, &["a", "b", "c", "d", "e", "f", "g", "h"]);
}

pub fn open_transactions_hold_readers_back(bench: &Bench) {
    let topic = bench.topic("t", 1);
    let mut open = bench.transactional("open");
    open.begin_transaction().unwrap();
    open.send(&record(&topic, 0, "first")).unwrap();
    open.flush(SOON).unwrap();
    let mut plain = bench.producer();
    plain.send(&record(&topic, 0, "second")).unwrap();
    plain.flush(SOON).unwrap();
    assert!(bench.values(&topic, 0, true).is_empty());
    bench.expect_values(&topic, 0, false, &["first", "second"]);
    open.commit_transaction(None, SOON).unwrap();
    bench.expect_values(&topic, 0, true, &["first", "second"]);
}

/// Consumes `input`, copies to `output`, and commits or aborts; returns what was read.
fn copy_all(
    bench: &Bench,
    producer: &mut dyn Producer,
    input: &str,
    output: &str,
    commit: bool,
) -> Vec<String> {
    let mut member = bench.member(bench.group(&[input]));
    member.until("two records", |member| member.seen.len() >= 2);
    producer.begin_transaction().unwrap();
    for value in &member.seen {
        producer.send(&record(output, 0, value)).unwrap();
    }
    let partition = TopicPartition::new(input, 0);
    let mut offset = CommittedOffset::new(partition, member.seen.len() as i64);
    offset.metadata = "plan of the sink".into();
    if commit {
        let group = member.consumer.group_metadata().unwrap();
        let offsets = TransactionOffsets { offsets: vec![offset], group };
        producer.commit_transaction(Some(offsets), SOON).unwrap();
    } else {
        producer.flush(SOON).unwrap();
        producer.abort_transaction(SOON).unwrap();
    }
    let seen = member.seen.clone();
    member.consumer.close();
    seen
}

pub fn offsets_belong_to_the_transaction(bench: &Bench) {
    let (input, output) = (bench.topic("in", 1), bench.topic("out", 1));
    let partition = TopicPartition::new(input.as_str(), 0);
    let mut plain = bench.producer();
    for value in ["a", "b"] {
        plain.send(&record(&input, 0, value)).unwrap();
    }
    plain.flush(SOON).unwrap();
    let mut producer = bench.transactional("id");
    let committed =
        || bench.broker.committed(&bench.name("group"), std::slice::from_ref(&partition)).unwrap();

    assert_eq!(copy_all(bench, &mut *producer, &input, &output, false), ["a", "b"]);
    assert!(committed().is_empty() && bench.values(&output, 0, true).is_empty());

    assert_eq!(copy_all(bench, &mut *producer, &input, &output, true), ["a", "b"]);
    bench.expect_values(&output, 0, true, &["a", "b"]);
    let expect =
        CommittedOffset { partition: partition.clone(), offset: 2, metadata: "plan of the sink".into() };
    assert_eq!(committed(), [expect]);
}

pub fn a_successor_fences(bench: &Bench) {
    let topic = bench.topic("t", 1);
    let mut old = bench.transactional("id");
    old.begin_transaction().unwrap();
    old.send(&record(&topic, 0, "lost")).unwrap();
    old.flush(SOON).unwrap();

    let mut new = bench.transactional("id");
    new.begin_transaction().unwrap();
    new.send(&record(&topic, 0, "kept")).unwrap();
    new.commit_transaction(None, SOON).unwrap();

    let error = old.commit_transaction(None, SOON).unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::Fenced, "{error}");
    bench.expect_values(&topic, 0, true, &["kept"]);
}

pub fn a_stale_generation_cannot_commit(bench: &Bench) {
    let topic = bench.topic("t", 2);
    let mut producer = bench.transactional("id");
    let mut first = bench.member(bench.group(&[&topic]));
    first.until_assigned();
    first.step();
    let stale = first.consumer.group_metadata().unwrap();
    let mut second = bench.member(bench.group(&[&topic]));
    together(&mut [&mut first, &mut second], "sharing", |members| {
        members.iter().all(|m| m.consumer.assignment().len() == 1)
    });
    let offset = CommittedOffset::new(TopicPartition::new(topic.as_str(), 0), 0);
    producer.begin_transaction().unwrap();
    producer.send(&record(&topic, 0, "x")).unwrap();
    let offsets = TransactionOffsets { offsets: vec![offset.clone()], group: stale };
    let error = producer.commit_transaction(Some(offsets), SOON).unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::AbortTransaction, "{error}");
    producer.abort_transaction(SOON).unwrap();

    // The same producer goes on with fresh metadata.
    producer.begin_transaction().unwrap();
    producer.send(&record(&topic, 0, "y")).unwrap();
    let group = first.consumer.group_metadata().unwrap();
    producer.commit_transaction(Some(TransactionOffsets { offsets: vec![offset], group }), SOON).unwrap();
    bench.expect_values(&topic, 0, true, &["y"]);
}

pub fn calls_out_of_order_are_refused(bench: &Bench) {
    let topic = bench.topic("t", 1);
    let mut plain = bench.producer();
    assert_eq!(plain.begin_transaction().unwrap_err().kind(), BrokerErrorKind::Misuse);
    let mut producer = bench.transactional("id");
    assert!(producer.send(&record(&topic, 0, "outside")).is_err());
    assert!(producer.commit_transaction(None, SOON).is_err());
    producer.begin_transaction().unwrap();
    producer.send(&record(&topic, 0, "inside")).unwrap();
    producer.commit_transaction(None, SOON).unwrap();
    bench.expect_values(&topic, 0, true, &["inside"]);
}
