//! Consumer groups: assignment, rebalances, offsets, seek and pause.

use std::time::{Duration, Instant};

use plimsoll_kit::broker::*;

use crate::{Bench, Member, SOON, record, together};

fn send(bench: &Bench, topic: &str, partition: u32, values: &[&str]) {
    let mut producer = bench.producer();
    values.iter().for_each(|value| producer.send(&record(topic, partition, value)).unwrap());
    producer.flush(SOON).unwrap();
}

fn commit(member: &mut Member, topic: &str, partition: u32, offset: i64) {
    let offset = CommittedOffset::new(TopicPartition::new(topic, partition), offset);
    member.consumer.commit(&[offset]).unwrap();
}

pub fn start_policies(bench: &Bench) {
    let topic = bench.topic("t", 1);
    send(bench, &topic, 0, &["before"]);
    let open = |policy, group: &str| {
        let mut options = bench.group(&[&topic]);
        options.group = bench.name(group);
        options.start = policy;
        options.end_of_partition_events = true;
        bench.member(options)
    };
    let mut earliest = open(StartPolicy::Earliest, "earliest");
    let mut latest = open(StartPolicy::Latest, "latest");
    // At the end means reading has begun there, so that the next record is the first seen.
    latest.until("end", |m| m.has(|e| matches!(e, ConsumerEvent::EndOfPartition(_))));
    send(bench, &topic, 0, &["after"]);
    earliest.until("both records", |m| m.seen.len() == 2);
    latest.until("one record", |m| !m.seen.is_empty());
    assert_eq!(earliest.seen, ["before", "after"]);
    assert_eq!(latest.seen, ["after"]);

    let mut refusing = open(StartPolicy::Error, "refusing");
    refusing.until_assigned();
    let error = refusing.consumer.poll(SOON, 1).unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::NoCommittedOffset, "{error}");
}

pub fn committed_offsets_win(bench: &Bench) {
    let topic = bench.topic("t", 2);
    send(bench, &topic, 1, &["a", "b", "c"]);
    let mut first = bench.member(bench.group(&[&topic]));
    first.until("records", |m| m.seen.len() == 3);
    let partition = TopicPartition::new(topic.as_str(), 1);
    let mut offset = CommittedOffset::new(partition.clone(), 2);
    offset.metadata = "batch 0-2".into();
    first.consumer.commit(&[offset.clone()]).unwrap();
    let both = [TopicPartition::new(topic.as_str(), 0), partition];
    assert_eq!(first.consumer.committed(&both).unwrap(), [offset.clone()]);
    assert_eq!(bench.broker.committed(&bench.name("group"), &both).unwrap(), [offset]);
    first.consumer.close();

    let mut second = bench.member(bench.group(&[&topic]));
    second.until("the rest", |m| !m.seen.is_empty());
    assert_eq!(second.seen, ["c"]);
}

fn assigned(member: &Member) -> Vec<u32> {
    member.consumer.assignment().iter().map(|p| p.partition).collect()
}

pub fn two_members_share(bench: &Bench) {
    let topic = bench.topic("t", 4);
    let mut first = bench.member(bench.group(&[&topic]));
    first.until_assigned();
    assert_eq!(assigned(&first), [0, 1, 2, 3]);
    first.step();
    let mut second = bench.member(bench.group(&[&topic]));
    together(&mut [&mut first, &mut second], "sharing", |m| m.iter().all(|m| assigned(m).len() == 2));
    assert!(first.has(|e| matches!(e, ConsumerEvent::Revoked(p) if p.len() == 4)));
    let mut all = [assigned(&first), assigned(&second)].concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);

    for partition in 0..4 {
        send(bench, &topic, partition, &[&format!("p{partition}")]);
    }
    together(&mut [&mut first, &mut second], "records", |m| m.iter().all(|m| m.seen.len() == 2));

    first.consumer.close();
    second.until("takeover", |m| assigned(m).len() == 4);
}

pub fn work_is_committed_before_partitions_go(bench: &Bench) {
    let topic = bench.topic("t", 2);
    send(bench, &topic, 0, &["a", "b"]);
    let mut first = bench.member(bench.group(&[&topic]));
    first.until("records", |m| m.seen.len() == 2);
    let mut second = bench.member(bench.group(&[&topic]));
    // Only `first` is told to poll here, so that the second one waits for it.
    let deadline = Instant::now() + SOON;
    while !first.has(|e| matches!(e, ConsumerEvent::Revoked(_))) {
        assert!(Instant::now() < deadline, "no rebalance");
        first.step();
        second.step();
    }
    assert_eq!(assigned(&first), [0, 1]);
    assert!(second.seen.is_empty() && assigned(&second).is_empty());
    commit(&mut first, &topic, 0, 1);
    commit(&mut first, &topic, 1, 0);
    first.seen.clear();
    together(&mut [&mut first, &mut second], "the rest", |m| m.iter().any(|m| !m.seen.is_empty()));
    assert_eq!([first.seen, second.seen].concat(), ["b"]);
}

fn instance(bench: &Bench, topic: &str, id: &str) -> Member {
    let mut options = bench.group(&[topic]);
    options.instance_id = Some(id.to_owned());
    bench.member(options)
}

pub fn a_static_member_comes_back(bench: &Bench) {
    let topic = bench.topic("t", 4);
    let mut one = instance(bench, &topic, "one");
    let mut two = instance(bench, &topic, "two");
    together(&mut [&mut one, &mut two], "sharing", |m| m.iter().all(|m| assigned(m).len() == 2));
    together(&mut [&mut one, &mut two], "settling", |m| m.iter().all(|m| m.events.len() < 100));
    let (before, events) = (assigned(&one), two.events.len());
    one.consumer.close();
    let mut one = instance(bench, &topic, "one");
    together(&mut [&mut one, &mut two], "return", |m| assigned(m[0]).len() == 2);
    assert_eq!(assigned(&one), before);
    assert_eq!(two.events.len(), events, "the other member was disturbed: {:?}", two.events);
}

pub fn a_second_process_with_the_same_instance_fences(bench: &Bench) {
    let topic = bench.topic("t", 1);
    let mut old = instance(bench, &topic, "one");
    old.until_assigned();
    old.step();
    let mut new = instance(bench, &topic, "one");
    new.until_assigned();
    let deadline = Instant::now() + SOON;
    let error = loop {
        assert!(Instant::now() < deadline, "the old member was not fenced");
        if let Err(error) = old.consumer.poll(Duration::from_millis(50), 10) {
            break error;
        }
    };
    assert_eq!(error.kind(), BrokerErrorKind::Fenced, "{error}");
}

pub fn topics_are_assigned_alike(bench: &Bench) {
    let (one, two) = (bench.topic("one", 3), bench.topic("two", 3));
    let mut first = bench.member(bench.group(&[&one, &two]));
    let mut second = bench.member(bench.group(&[&one, &two]));
    together(&mut [&mut first, &mut second], "sharing", |m| {
        let mut sizes: Vec<usize> = m.iter().map(|m| assigned(m).len()).collect();
        sizes.sort_unstable();
        sizes == [2, 4]
    });
    for member in [&first, &second] {
        let numbers = |topic: &str| -> Vec<u32> {
            let own = member.consumer.assignment();
            own.iter().filter(|p| &*p.topic == topic).map(|p| p.partition).collect()
        };
        assert_eq!(numbers(&one), numbers(&two), "the join of two topics meets in one member");
    }
}

pub fn seek_goes_back(bench: &Bench) {
    let topic = bench.topic("t", 1);
    send(bench, &topic, 0, &["a", "b", "c"]);
    let mut member = bench.member(bench.group(&[&topic]));
    member.until("records", |m| m.seen.len() == 3);
    member.seen.clear();
    member.consumer.seek(&TopicPartition::new(topic.as_str(), 0), 1).unwrap();
    member.until("records again", |m| m.seen.len() == 2);
    assert_eq!(member.seen, ["b", "c"]);
    let error = member.consumer.seek(&TopicPartition::new("other", 0), 1).unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::Misuse);
}

pub fn seek_when_assigned(bench: &Bench) {
    let topic = bench.topic("t", 1);
    send(bench, &topic, 0, &["a", "b", "c"]);
    let mut member = bench.member(bench.group(&[&topic]));
    member.until_assigned();
    assert!(member.seen.is_empty());
    member.consumer.seek(&TopicPartition::new(topic.as_str(), 0), 2).unwrap();
    member.until("record", |m| !m.seen.is_empty());
    assert_eq!(member.seen, ["c"]);
}

pub fn pause_holds_back(bench: &Bench) {
    let topic = bench.topic("t", 2);
    let (held, free) = (TopicPartition::new(topic.as_str(), 0), TopicPartition::new(topic.as_str(), 1));
    let mut member = bench.member(bench.group(&[&topic]));
    member.until_assigned();
    member.consumer.pause(std::slice::from_ref(&held)).unwrap();
    send(bench, &topic, 0, &["held"]);
    send(bench, &topic, 1, &["free"]);
    member.until("free record", |m| !m.seen.is_empty());
    for _ in 0..10 {
        member.step();
    }
    assert_eq!(member.seen, ["free"]);
    member.consumer.resume(&[held.clone(), free]).unwrap();
    member.until("held record", |m| m.seen.len() == 2);

    member.consumer.pause(std::slice::from_ref(&held)).unwrap();
    send(bench, &topic, 0, &["again"]);
    for _ in 0..10 {
        member.step();
    }
    assert_eq!(member.seen, ["free", "held"]);
    member.consumer.resume(&[held]).unwrap();
    member.until("last record", |m| m.seen.len() == 3);
    assert_eq!(member.seen, ["free", "held", "again"]);
}

pub fn pause_at_the_end_skips_nothing(bench: &Bench) {
    let topic = bench.topic("t", 1);
    let partition = TopicPartition::new(topic.as_str(), 0);
    let mut options = bench.group(&[&topic]);
    options.end_of_partition_events = true;
    let mut member = bench.member(options);
    send(bench, &topic, 0, &["a"]);
    member.until("the first record", |m| m.seen.len() == 1);
    for round in 1..4 {
        let ends =
            |m: &Member| m.events.iter().filter(|e| matches!(e, ConsumerEvent::EndOfPartition(_))).count();
        member.until("the end", |m| ends(m) >= round);
        member.consumer.pause(std::slice::from_ref(&partition)).unwrap();
        send(bench, &topic, 0, &["b", "c"]);
        member.step();
        member.consumer.resume(std::slice::from_ref(&partition)).unwrap();
        member.until("what came during the pause", |m| m.seen.len() == 1 + 2 * round);
    }
    assert_eq!(member.seen, ["a", "b", "c", "b", "c", "b", "c"]);
}

pub fn ends_are_told(bench: &Bench) {
    let (one, two) = (bench.topic("one", 1), bench.topic("two", 1));
    send(bench, &one, 0, &["a"]);
    let mut options = bench.group(&[&one, &two]);
    options.end_of_partition_events = true;
    let mut member = bench.member(options);
    let count = |m: &Member, topic: &str| {
        let wanted = TopicPartition::new(topic, 0);
        m.events.iter().filter(|e| **e == ConsumerEvent::EndOfPartition(wanted.clone())).count()
    };
    member.until("both ends", |m| count(m, &one) == 1 && count(m, &two) == 1);
    assert_eq!(member.seen, ["a"]);
    send(bench, &two, 0, &["b"]);
    member.until("the end again", |m| count(m, &two) == 2);
    assert_eq!((member.seen.as_slice(), count(&member, &one)), (&["a".to_owned(), "b".to_owned()][..], 1));
}

pub fn missing_offsets_are_an_error(bench: &Bench) {
    let topic = bench.topic("t", 1);
    send(bench, &topic, 0, &["a"]);
    let mut first = bench.member(bench.group(&[&topic]));
    first.until("record", |m| !m.seen.is_empty());
    commit(&mut first, &topic, 0, 1000);
    first.consumer.close();
    let mut second = bench.member(bench.group(&[&topic]));
    second.until_assigned();
    let deadline = Instant::now() + SOON;
    let error = loop {
        assert!(Instant::now() < deadline, "no error");
        if let Err(error) = second.consumer.poll(Duration::from_millis(50), 10) {
            break error;
        }
    };
    assert_eq!(error.kind(), BrokerErrorKind::OffsetOutOfRange, "{error}");
    assert!(error.to_string().contains(&topic), "{error}");
    // It stays an error until somebody decides.
    let again = second.consumer.poll(Duration::from_millis(50), 10).unwrap_err();
    assert_eq!(again.kind(), BrokerErrorKind::OffsetOutOfRange, "{again}");
    second.consumer.seek(&TopicPartition::new(topic.as_str(), 0), 0).unwrap();
    second.until("record", |m| !m.seen.is_empty());
}
