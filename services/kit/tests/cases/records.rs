//! Records, topics and log ends.

use plimsoll_kit::broker::*;

use crate::{Bench, SOON, record};

pub fn records_come_back_as_sent(bench: &Bench) {
    let topic = bench.topic("t", 2);
    let mut full = OutgoingRecord::new(topic.as_str(), 1, "k\u{1f}e", Some("v"));
    full.headers = vec![("a".into(), b"1".to_vec()), ("a".into(), vec![0, 255]), ("empty".into(), vec![])];
    full.timestamp_ms = Some(1_700_000_000_123);
    let sent = [
        full,
        OutgoingRecord::tombstone(topic.as_str(), 1, "k"),
        OutgoingRecord::new(topic.as_str(), 1, "", Some("")),
    ];
    let mut producer = bench.producer();
    sent.iter().for_each(|record| producer.send(record).unwrap());
    producer.flush(SOON).unwrap();
    assert_eq!(producer.in_flight(), 0);

    let partition = TopicPartition::new(topic.as_str(), 1);
    let mut got = Vec::new();
    let deadline = std::time::Instant::now() + SOON;
    let end = read_to_end(&*bench.broker, &partition, 0, ReaderOptions::default(), deadline, |r| got.push(r))
        .unwrap();
    assert_eq!((end, got.len()), (3, 3));
    for (index, (sent, got)) in sent.iter().zip(&got).enumerate() {
        assert_eq!(got.topic_partition(), partition);
        assert_eq!(got.offset, index as i64);
        assert_eq!(got.key.as_ref(), Some(&sent.key));
        assert_eq!(got.value, sent.value);
        assert_eq!(got.headers, sent.headers);
        assert!(sent.timestamp_ms.is_none_or(|ms| ms == got.timestamp_ms) && got.timestamp_ms > 0);
    }
    assert_eq!(got[0].header("a"), Some(&[0, 255][..]));
    assert!(bench.values(&topic, 0, true).is_empty());
}

pub fn topics_are_checked(bench: &Bench) {
    let (one, two) = (bench.name("one"), bench.name("two"));
    let spec = |name: &str, partitions, cleanup| TopicSpec::new(name, partitions, cleanup);
    let mut first = spec(&one, 3, CleanupPolicy::Compact);
    first.settings.insert("delete.retention.ms".into(), "60000".into());
    let report = bench.broker.ensure_topics(&[first.clone()]).unwrap();
    assert_eq!((report.created, report.existing.len()), (vec![one.clone()], 0));
    let report = bench.broker.ensure_topics(&[first, spec(&two, 1, CleanupPolicy::Delete)]).unwrap();
    assert_eq!((report.created, report.existing), (vec![two.clone()], vec![one.clone()]));
    assert_eq!(bench.broker.partition_count(&one).unwrap(), 3);

    for (wrong, expect) in [
        (spec(&one, 4, CleanupPolicy::Compact), "has 3 partitions, not 4"),
        (spec(&one, 3, CleanupPolicy::Delete), "cleanup.policy=compact, not delete"),
    ] {
        let error = bench.broker.ensure_topics(&[wrong]).unwrap_err();
        assert_eq!(error.kind(), BrokerErrorKind::Configuration);
        let text = error.to_string();
        assert!(text.contains(expect) && text.contains(&one), "{text}");
    }
}

pub fn unknown_topics_are_named(bench: &Bench) {
    let name = bench.name("nowhere");
    let error = bench.broker.partition_count(&name).unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::UnknownTopic);
    assert!(error.to_string().contains(&name), "{error}");
}

pub fn too_large_records_are_refused(bench: &Bench) {
    let topic = bench.topic("t", 1);
    let mut producer = bench.producer();
    let large = OutgoingRecord::new(topic.as_str(), 0, "k", Some(vec![0; 2 * 1024 * 1024]));
    let error = producer.send(&large).unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::RecordTooLarge);
    assert!(error.to_string().contains(&topic), "{error}");
    producer.send(&record(&topic, 0, "small")).unwrap();
    producer.flush(SOON).unwrap();
    bench.expect_values(&topic, 0, true, &["small"]);
}

pub fn watermarks_follow(bench: &Bench) {
    let topic = bench.topic("t", 1);
    let partition = TopicPartition::new(topic.as_str(), 0);
    let marks = |low, high, last_stable| Watermarks { low, high, last_stable };
    assert_eq!(bench.broker.watermarks(&partition).unwrap(), marks(0, 0, 0));
    let mut producer = bench.transactional("id");
    producer.begin_transaction().unwrap();
    for value in ["a", "b"] {
        producer.send(&record(&topic, 0, value)).unwrap();
    }
    producer.flush(SOON).unwrap();
    assert_eq!(bench.broker.watermarks(&partition).unwrap(), marks(0, 2, 0));
    producer.commit_transaction(None, SOON).unwrap();
    // The marker takes an offset too.
    let deadline = std::time::Instant::now() + SOON;
    while bench.broker.watermarks(&partition).unwrap() != marks(0, 3, 3) {
        assert!(std::time::Instant::now() < deadline, "{:?}", bench.broker.watermarks(&partition));
    }
}
