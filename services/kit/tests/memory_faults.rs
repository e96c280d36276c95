//! Faults that the memory broker makes on demand, as services' own tests use them.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use plimsoll_kit::broker::memory::{MemoryBroker, PARTITION_SHRINK_BYTES};
use plimsoll_kit::broker::*;

const SOON: Duration = Duration::from_secs(5);

fn broker() -> MemoryBroker {
    let broker = MemoryBroker::new();
    broker
        .ensure_topics(&[
            TopicSpec::new("in", 1, CleanupPolicy::Delete),
            TopicSpec::new("out", 1, CleanupPolicy::Delete),
            TopicSpec::new("state", 1, CleanupPolicy::Compact),
        ])
        .unwrap();
    broker
}

fn record(topic: &str, key: &str, value: &str) -> OutgoingRecord {
    OutgoingRecord::new(topic, 0, key.to_owned(), Some(value.to_owned()))
}

fn read(broker: &MemoryBroker, topic: &str) -> Vec<IncomingRecord> {
    let mut records = Vec::new();
    let deadline = Instant::now() + SOON;
    read_to_end(broker, &TopicPartition::new(topic, 0), 0, ReaderOptions::default(), deadline, |r| {
        records.push(r)
    })
    .unwrap();
    records
}

fn transactional(broker: &MemoryBroker) -> Box<dyn Producer> {
    let mut producer = broker.producer(ProducerOptions::transactional("p", "id")).unwrap();
    producer.init_transactions(SOON).unwrap();
    producer
}

#[test]
fn an_unknown_outcome_may_have_happened_or_not() {
    for applied in [false, true] {
        let broker = broker();
        let mut producer = transactional(&broker);
        broker.fail_next_commit(BrokerErrorKind::OutcomeUnknown, applied);
        producer.begin_transaction().unwrap();
        producer.send(&record("out", "k", "v")).unwrap();
        let error = producer.commit_transaction(None, SOON).unwrap_err();
        assert_eq!(error.kind(), BrokerErrorKind::OutcomeUnknown);
        // A new producer settles it.
        transactional(&broker);
        assert_eq!(read(&broker, "out").len(), usize::from(applied));
    }
}

#[test]
fn a_broker_that_is_away_is_retriable_and_comes_back() {
    let broker = broker();
    let mut options = ProducerOptions::idempotent("p");
    options.max_block = Duration::ZERO;
    let mut producer = broker.producer(options).unwrap();
    let mut member = broker.group_consumer(GroupOptions::new("g", vec!["in".into()])).unwrap();
    broker.set_available(false);
    assert!(producer.send(&record("in", "k", "v")).unwrap_err().is_retriable());
    assert!(member.poll(Duration::from_millis(1), 1).unwrap_err().is_retriable());
    assert!(broker.partition_count("in").unwrap_err().is_retriable());
    let soon = Instant::now() + Duration::from_millis(5);
    assert!(broker.wait_until_reachable(soon).unwrap_err().is_retriable());

    let back = broker.clone();
    let thread = std::thread::spawn(move || back.set_available(true));
    broker.wait_until_reachable(Instant::now() + SOON).unwrap();
    thread.join().unwrap();
    producer.send(&record("in", "k", "v")).unwrap();
    assert_eq!(read(&broker, "in").len(), 1);
}

#[test]
fn expired_members_are_told_and_join_again() {
    let broker = broker();
    let mut member = broker.group_consumer(GroupOptions::new("g", vec!["in".into()])).unwrap();
    let partitions = vec![TopicPartition::new("in", 0)];
    assert_eq!(member.poll(SOON, 1).unwrap(), [ConsumerEvent::Assigned(partitions.clone())]);
    member.poll(Duration::ZERO, 1).unwrap();
    broker.expire_members("g");
    let offset = CommittedOffset::new(partitions[0].clone(), 0);
    assert_eq!(member.commit(&[offset]).unwrap_err().kind(), BrokerErrorKind::AbortTransaction);
    assert_eq!(member.poll(SOON, 1).unwrap(), [ConsumerEvent::Lost(partitions.clone())]);
    assert_eq!(member.poll(SOON, 1).unwrap(), [ConsumerEvent::Assigned(partitions)]);
}

#[test]
fn truncation_is_an_error_to_who_stands_before_it() {
    let broker = broker();
    let mut producer = broker.producer(ProducerOptions::idempotent("p")).unwrap();
    for value in ["a", "b", "c"] {
        producer.send(&record("in", "k", value)).unwrap();
    }
    let partition = TopicPartition::new("in", 0);
    broker.truncate(&partition, 2).unwrap();
    let mut reader = broker.partition_reader(&partition, 0, ReaderOptions::default()).unwrap();
    assert_eq!(reader.poll(SOON, 10).unwrap_err().kind(), BrokerErrorKind::OffsetOutOfRange);
    assert_eq!(broker.watermarks(&partition).unwrap(), Watermarks { low: 2, high: 3, last_stable: 3 });
    assert_eq!(read(&broker, "in").len(), 1);
}

#[test]
fn a_compacted_topic_stays_small_and_keeps_the_last_of_each_key() {
    let broker = broker();
    let mut producer = broker.producer(ProducerOptions::idempotent("p")).unwrap();
    let filler = "x".repeat(64 * 1024);
    let rounds = 3 * PARTITION_SHRINK_BYTES / filler.len() / 4;
    for round in 0..rounds {
        for key in ["a", "b", "c", "d"] {
            producer.send(&record("state", key, &format!("{round}{filler}"))).unwrap();
        }
    }
    let records = read(&broker, "state");
    assert!(records.len() < 4 * rounds);
    let mut last = std::collections::BTreeMap::new();
    for found in records {
        last.insert(found.key.clone().unwrap(), found.value.clone().unwrap());
    }
    assert_eq!(last.len(), 4);
    let newest = format!("{}{filler}", rounds - 1);
    assert!(last.values().all(|value| *value == newest));
}

#[test]
fn a_topic_forgets_what_its_groups_have_committed() {
    let broker = broker();
    let mut member = broker.group_consumer(GroupOptions::new("g", vec!["in".into()])).unwrap();
    member.poll(SOON, 1).unwrap();
    let mut producer = broker.producer(ProducerOptions::idempotent("p")).unwrap();
    let filler = "x".repeat(512 * 1024);
    let partition = TopicPartition::new("in", 0);
    for _ in 0..3 * PARTITION_SHRINK_BYTES / filler.len() {
        producer.send(&record("in", "k", &filler)).unwrap();
        let high = broker.watermarks(&partition).unwrap().high;
        member.commit(&[CommittedOffset::new(partition.clone(), high)]).unwrap();
    }
    let marks = broker.watermarks(&partition).unwrap();
    assert!(marks.low > 0 && marks.low < marks.high, "{marks:?}");
}

#[test]
fn an_abandoned_transaction_is_ended_by_its_timeout() {
    let broker = broker();
    let mut options = ProducerOptions::transactional("p", "id");
    options.transaction_timeout = Duration::from_millis(20);
    let mut producer = broker.producer(options).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(&record("out", "k", "v")).unwrap();
    let partition = TopicPartition::new("out", 0);
    let deadline = Instant::now() + SOON;
    while broker.watermarks(&partition).unwrap().last_stable == 0 {
        assert!(Instant::now() < deadline, "the transaction stays open");
        std::thread::yield_now();
    }
    assert!(read(&broker, "out").is_empty());
    assert_eq!(producer.commit_transaction(None, SOON).unwrap_err().kind(), BrokerErrorKind::Fenced);
}
