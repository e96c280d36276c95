//! A real Kafka that is away at start, pauses, or is killed: calls stay bounded, nothing is lost, errors name the server.
//! Uses a stack of its own, by the program in PLIMSOLL_XTASK.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use plimsoll_kit::broker::kafka::KafkaBroker;
use plimsoll_kit::broker::*;
use plimsoll_kit::config::{KafkaConfig, SaslConfig, SecurityProtocol, Sensitive};

const SOON: Duration = Duration::from_secs(60);

fn config(server: &str) -> KafkaConfig {
    KafkaConfig {
        brokers: vec![server.to_owned()],
        partitions: 1,
        request_timeout_ms: 3000,
        // A quick answer to a killed server; the default is for real networks.
        client: BTreeMap::from([("reconnect.backoff.max.ms".to_owned(), "200".to_owned())]),
        ..Default::default()
    }
}

/// A server that never answers: the port is closed.
const NOWHERE: &str = "127.0.0.1:1";

#[test]
fn a_broker_that_is_down_is_named_with_the_remedy() {
    let broker = KafkaBroker::new(&config(NOWHERE)).unwrap();
    let started = Instant::now();
    let error = broker.wait_until_reachable(started + Duration::from_millis(500)).unwrap_err();
    assert!(error.is_retriable());
    let text = error.to_string();
    for part in [NOWHERE, "Connection refused", "kafka.brokers"] {
        assert!(text.contains(part), "{part} missing in: {text}");
    }
    assert!(started.elapsed() < Duration::from_secs(10));

    // Constructors and send do not need the server; what cannot be delivered is said at flush.
    let mut producer = broker.producer(ProducerOptions::idempotent("p")).unwrap();
    producer.send(&OutgoingRecord::new("t", 0, "k", Some("v"))).unwrap();
    let error = producer.flush(Duration::from_millis(300)).unwrap_err();
    assert!(error.is_retriable() && error.to_string().contains(NOWHERE), "{error}");
    assert_eq!(producer.in_flight(), 1);
    let mut options = ProducerOptions::idempotent("p");
    options.delivery_timeout = Duration::from_millis(1000);
    let mut impatient = broker.producer(options).unwrap();
    impatient.send(&OutgoingRecord::new("t", 0, "k", Some("v"))).unwrap();
    let error = impatient.flush(SOON).unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::DeliveryFailed, "{error}");
    assert_eq!(impatient.in_flight(), 0);
    impatient.flush(SOON).unwrap();
    let mut transactional = broker.producer(ProducerOptions::transactional("p", "id")).unwrap();
    assert!(transactional.init_transactions(Duration::from_millis(300)).unwrap_err().is_retriable());

    let mut member = broker.group_consumer(GroupOptions::new("g", vec!["t".into()])).unwrap();
    let deadline = Instant::now() + SOON;
    let error = loop {
        assert!(Instant::now() < deadline, "the member says nothing");
        if let Err(error) = member.poll(Duration::from_millis(100), 1) {
            break error;
        }
    };
    assert!(error.is_retriable() && error.to_string().contains(NOWHERE), "{error}");
}

#[test]
fn wrong_settings_are_refused_at_once() {
    fn check(change: impl Fn(&mut KafkaConfig), expect: &str) {
        let mut config = config(NOWHERE);
        change(&mut config);
        let Err(error) = KafkaBroker::new(&config) else { panic!("accepted; expected {expect}") };
        assert_eq!(error.kind(), BrokerErrorKind::Configuration);
        assert!(error.to_string().contains(expect), "{error}");
    }
    let client = |key: &str| BTreeMap::from([(key.to_owned(), "x".to_owned())]);
    check(|c| c.brokers.clear(), "kafka.brokers is empty");
    check(|c| c.partitions = 0, "kafka.partitions");
    check(|c| c.client = client("acks"), "kafka.client.acks");
    check(|c| c.client = client("no.such.setting"), "no.such.setting");
    check(|c| c.security_protocol = SecurityProtocol::SaslSsl, "kafka.sasl.username");
    check(
        |c| {
            c.security_protocol = SecurityProtocol::Ssl;
            c.tls.ca_file = Some("/nonexistent/ca.pem".into());
        },
        "ca.pem",
    );
}

#[test]
fn tls_and_sasl_are_built_in() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mut config = config(NOWHERE);
        config.security_protocol = SecurityProtocol::SaslSsl;
        config.sasl = SaslConfig {
            mechanism: mechanism.into(),
            username: Some("u".into()),
            password: Some(Sensitive::new("p".into())),
            password_file: None,
        };
        KafkaBroker::new(&config).unwrap();
    }
}

struct Stack {
    xtask: PathBuf,
    directory: tempfile::TempDir,
}

impl Stack {
    fn start() -> Option<Self> {
        let Some(xtask) = std::env::var_os("PLIMSOLL_XTASK").map(PathBuf::from) else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "PLIMSOLL_XTASK is not set");
            println!("skipped: PLIMSOLL_XTASK is not set (run by cargo xtask test)");
            return None;
        };
        let stack = Self { xtask, directory: tempfile::tempdir().unwrap() };
        stack.run(&["up", "--only", "kafka"]);
        Some(stack)
    }

    fn run(&self, arguments: &[&str]) {
        let output = Command::new(&self.xtask)
            .arg("stack")
            .args(arguments)
            .arg("--dir")
            .arg(self.directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn server(&self) -> String {
        let text = std::fs::read_to_string(self.directory.path().join("env")).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix("PLIMSOLL_TEST_KAFKA=")).unwrap();
        line.trim_matches(['"', '\'']).to_owned()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ =
            Command::new(&self.xtask).args(["stack", "down", "--dir"]).arg(self.directory.path()).output();
    }
}

#[test]
fn nothing_is_lost_when_the_broker_dies_and_comes_back() {
    let Some(stack) = Stack::start() else { return };
    let broker = KafkaBroker::new(&config(&stack.server())).unwrap();
    broker.ensure_topics(&[TopicSpec::new("t", 1, CleanupPolicy::Delete)]).unwrap();
    let mut options = GroupOptions::new("g", vec!["t".into()]);
    options.instance_id = Some("one".into());
    let mut member = broker.group_consumer(options).unwrap();
    let mut plain = broker.producer(ProducerOptions::idempotent("p")).unwrap();
    let mut transactional = broker.producer(ProducerOptions::transactional("p", "id")).unwrap();
    transactional.init_transactions(SOON).unwrap();
    transactional.begin_transaction().unwrap();
    let value = |n: u32| OutgoingRecord::new("t", 0, "k", Some(n.to_string()));
    plain.send(&value(0)).unwrap();
    plain.flush(SOON).unwrap();
    transactional.send(&value(100)).unwrap();
    transactional.flush(SOON).unwrap();

    stack.run(&["kill", "kafka"]);
    for n in 1..10 {
        plain.send(&value(n)).unwrap();
    }
    let error = plain.flush(Duration::from_millis(200)).unwrap_err();
    assert!(error.is_retriable() && error.to_string().contains(&stack.server()), "{error}");
    let error = transactional.commit_transaction(None, Duration::from_millis(500)).unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::OutcomeUnknown, "{error}");
    assert!(broker.partition_count("t").unwrap_err().is_retriable());

    stack.run(&["restart", "kafka"]);
    plain.flush(SOON).unwrap();
    // The outcome is settled by a new producer: it is in the log, or it is not, and is sent again.
    drop(transactional);
    let mut transactional = broker.producer(ProducerOptions::transactional("p", "id")).unwrap();
    transactional.init_transactions(SOON).unwrap();
    let mut seen = Vec::new();
    let deadline = Instant::now() + SOON;
    while seen.iter().filter(|n: &&u32| **n < 100).count() < 10 {
        assert!(Instant::now() < deadline, "seen {seen:?}");
        match member.poll(Duration::from_millis(100), 100) {
            Ok(events) => seen.extend(events.iter().filter_map(|event| match event {
                ConsumerEvent::Record(record) => {
                    String::from_utf8_lossy(record.value.as_ref()?).parse::<u32>().ok()
                }
                _ => None,
            })),
            Err(error) => assert!(error.is_retriable(), "{error}"),
        }
    }
    let plain_seen: Vec<u32> = seen.iter().copied().filter(|n| *n < 100).collect();
    assert_eq!(plain_seen, (0..10).collect::<Vec<u32>>(), "each once, in order");
    transactional.begin_transaction().unwrap();
    let offset = CommittedOffset::new(TopicPartition::new("t", 0), 5);
    let group = member.group_metadata().unwrap();
    let offsets = TransactionOffsets { offsets: vec![offset.clone()], group };
    transactional.commit_transaction(Some(offsets), SOON).unwrap();
    let partitions = [TopicPartition::new("t", 0)];
    assert_eq!(broker.committed("g", &partitions).unwrap(), [offset]);
}
