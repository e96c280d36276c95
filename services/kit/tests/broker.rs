//! One suite of behaviour, run over the memory broker and over a real Kafka: what a service relies on holds for both.
//! Kafka is that of PLIMSOLL_TEST_KAFKA; without it these tests say so and pass, except under CI=true.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod cases;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plimsoll_kit::broker::kafka::KafkaBroker;
use plimsoll_kit::broker::memory::MemoryBroker;
use plimsoll_kit::broker::*;
use plimsoll_kit::config::KafkaConfig;

/// Bound on everything that a case waits for.
pub const SOON: Duration = Duration::from_secs(30);

/// A broker with names of one case's own.
pub struct Bench {
    pub broker: Arc<dyn Broker>,
    tag: String,
}

impl Bench {
    fn new(broker: Arc<dyn Broker>, case: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { broker, tag: format!("kit-test-{}-{number}-{case}", std::process::id()) }
    }

    /// A name that no other case uses.
    pub fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.tag)
    }

    /// Makes a topic and returns its name.
    pub fn topic(&self, what: &str, partitions: u32) -> String {
        let name = self.name(what);
        let spec = TopicSpec::new(name.as_str(), partitions, CleanupPolicy::Delete);
        self.broker.ensure_topics(&[spec]).unwrap();
        name
    }

    pub fn producer(&self) -> Box<dyn Producer> {
        self.broker.producer(ProducerOptions::idempotent(self.name("producer"))).unwrap()
    }

    /// A transactional producer that is ready to begin.
    pub fn transactional(&self, id: &str) -> Box<dyn Producer> {
        let options = ProducerOptions::transactional(self.name("producer"), self.name(id));
        let mut producer = self.broker.producer(options).unwrap();
        producer.init_transactions(SOON).unwrap();
        producer
    }

    pub fn group(&self, topics: &[&str]) -> GroupOptions {
        GroupOptions::new(self.name("group"), topics.iter().map(|t| (*t).to_owned()).collect())
    }

    pub fn member(&self, options: GroupOptions) -> Member {
        Member {
            consumer: self.broker.group_consumer(options).unwrap(),
            seen: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Values of a partition from its beginning to its end of now.
    pub fn values(&self, topic: &str, partition: u32, read_committed: bool) -> Vec<String> {
        let mut values = Vec::new();
        let options = ReaderOptions { read_committed, ..Default::default() };
        let partition = TopicPartition::new(topic, partition);
        read_to_end(&*self.broker, &partition, 0, options, Instant::now() + SOON, |r| values.push(text(&r)))
            .unwrap();
        values
    }

    /// Waits until a partition holds just these values: a commit shows up to readers a moment after it returned,
    /// because Kafka writes its markers afterwards.
    pub fn expect_values(&self, topic: &str, partition: u32, read_committed: bool, expect: &[&str]) {
        let deadline = Instant::now() + SOON;
        loop {
            let values = self.values(topic, partition, read_committed);
            if values == expect {
                return;
            }
            assert!(Instant::now() < deadline, "{topic}[{partition}] holds {values:?}, not {expect:?}");
        }
    }
}

pub fn text(record: &IncomingRecord) -> String {
    record.value.as_ref().map_or("tombstone".into(), |v| String::from_utf8(v.to_vec()).unwrap())
}

pub fn record(topic: &str, partition: u32, value: &str) -> OutgoingRecord {
    OutgoingRecord::new(topic, partition, format!("key of {value}"), Some(value.to_owned()))
}

/// A member with what it was told so far.
pub struct Member {
    pub consumer: Box<dyn GroupConsumer>,
    pub seen: Vec<String>,
    pub events: Vec<ConsumerEvent>,
}

impl Member {
    /// One poll.
    pub fn step(&mut self) {
        let events = self.consumer.poll(Duration::from_millis(50), 100).unwrap();
        for event in &events {
            if let ConsumerEvent::Record(record) = event {
                self.seen.push(text(record));
            }
        }
        self.events.extend(events);
    }

    /// Polls until `done`.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "{what} did not happen; seen {:?}, events {:?}",
                self.seen,
                self.events
            );
            self.step();
        }
    }

    pub fn until_assigned(&mut self) {
        self.until("assignment", |member| member.has(|e| matches!(e, ConsumerEvent::Assigned(_))));
    }

    pub fn has(&self, wanted: impl Fn(&ConsumerEvent) -> bool) -> bool {
        self.events.iter().any(wanted)
    }
}

/// Polls several members until `done`.
pub fn together(members: &mut [&mut Member], what: &str, done: impl Fn(&[&mut Member]) -> bool) {
    let deadline = Instant::now() + SOON;
    while !done(members) {
        assert!(
            Instant::now() < deadline,
            "{what} did not happen; events {:?}",
            members.iter().map(|m| &m.events).collect::<Vec<_>>()
        );
        members.iter_mut().for_each(|member| member.step());
    }
}

fn kafka() -> Option<Arc<dyn Broker>> {
    let Ok(server) = std::env::var("PLIMSOLL_TEST_KAFKA") else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "PLIMSOLL_TEST_KAFKA is not set");
        println!("skipped: PLIMSOLL_TEST_KAFKA is not set (cargo xtask stack up --only kafka)");
        return None;
    };
    let config = KafkaConfig { brokers: vec![server], partitions: 4, ..Default::default() };
    Some(Arc::new(KafkaBroker::new(&config).unwrap()))
}

macro_rules! suite {
    ($($file:ident::$case:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $case() {
                let broker = std::sync::Arc::new(super::MemoryBroker::new());
                super::cases::$file::$case(&super::Bench::new(broker, stringify!($case)));
            })*
        }
        mod kafka {
            $(#[test] fn $case() {
                if let Some(broker) = super::kafka() {
                    super::cases::$file::$case(&super::Bench::new(broker, stringify!($case)));
                }
            })*
        }
    };
}

suite![
    records::records_come_back_as_sent,
    records::topics_are_checked,
    records::unknown_topics_are_named,
    records::too_large_records_are_refused,
    records::watermarks_follow,
    transactions::aborted_records_stay_invisible,
    transactions::open_transactions_hold_readers_back,
    transactions::offsets_belong_to_the_transaction,
    transactions::a_successor_fences,
    transactions::a_stale_generation_cannot_commit,
    transactions::calls_out_of_order_are_refused,
    groups::start_policies,
    groups::committed_offsets_win,
    groups::two_members_share,
    groups::work_is_committed_before_partitions_go,
    groups::a_static_member_comes_back,
    groups::a_second_process_with_the_same_instance_fences,
    groups::topics_are_assigned_alike,
    groups::seek_goes_back,
    groups::seek_when_assigned,
    groups::pause_holds_back,
    groups::pause_at_the_end_skips_nothing,
    groups::ends_are_told,
    groups::missing_offsets_are_an_error,
];
