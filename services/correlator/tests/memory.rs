//! The service over the memory broker: what it makes of its inputs, and that no fault changes it.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::*;
use plimsoll_correlator::CorrelatorSection;
use plimsoll_kit::broker::memory::MemoryBroker;
use plimsoll_kit::broker::{
    Broker, BrokerErrorKind, CleanupPolicy, OutgoingRecord, TopicPartition, TopicSpec,
};
use plimsoll_kit::registry::{MemoryRegistry, RegistryError, SchemaRegistry};
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::codec::{CodecError, SchemaStore};
use plimsoll_schemas::events::{CorrelationPackage, CorrelatorState, RuntimeUsage};

fn pipeline() -> (MemoryBroker, Connections) {
    let broker = MemoryBroker::new();
    let connections = Connections::from_memory(broker.clone());
    connections.prepare_once().unwrap();
    (broker, connections)
}

fn settled(connections: &Connections, running: Running) {
    catch_up(connections);
    running.stop().unwrap();
    assert_same(&compacted(connections), &reference(connections));
}

/// Has all that is fed, `inputs` records, in one transaction.
fn one_transaction(inputs: usize, left_open_after_ms: u64) -> CorrelatorSection {
    CorrelatorSection {
        commit_interval_ms: 60_000,
        batch_max_records: inputs,
        left_open_after_ms,
        ..section("0")
    }
}

/// Whether a transaction is open in a topic.
fn is_open(broker: &MemoryBroker, connections: &Connections, topic: &str) -> bool {
    (0..connections.partitions).any(|partition| {
        let marks = broker.watermarks(&TopicPartition::new(topic, partition)).unwrap();
        marks.last_stable < marks.high
    })
}

#[test]
fn joins_as_the_core_says() {
    let (_, connections) = pipeline();
    let running = Running::start(&connections, section("0"));
    Feed::new(&connections).send(&inputs(&connections.codec(), 6));
    settled(&connections, running);
    let content = compacted(&connections);
    let topics: std::collections::BTreeSet<&str> = content.keys().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(topics.len(), 6, "{topics:?}");
}

#[test]
fn what_was_there_before_the_start_is_joined_too() {
    let (_, connections) = pipeline();
    Feed::new(&connections).send(&inputs(&connections.codec(), 3));
    settled(&connections, Running::start(&connections, section("0")));
}

/// Feeds while `disturb` is called now and then; nothing of that may be seen in the end.
fn disturbed(section: CorrelatorSection, disturb: impl Fn(&MemoryBroker, usize)) {
    let (broker, connections) = pipeline();
    let running = Running::start(&connections, section);
    let mut feed = Feed::new(&connections);
    for (number, slice) in inputs(&connections.codec(), 8).chunks(37).enumerate() {
        feed.send(slice);
        disturb(&broker, number);
    }
    broker.set_available(true);
    settled(&connections, running);
}

#[test]
fn failed_commits_change_nothing() {
    use BrokerErrorKind::{AbortTransaction, Fatal, Fenced, OutcomeUnknown};
    for (kind, applied) in [
        (AbortTransaction, false),
        (OutcomeUnknown, false),
        (OutcomeUnknown, true),
        (Fatal, false),
        (Fenced, false),
    ] {
        disturbed(section("0"), |broker, number| {
            if number % 3 == 0 {
                broker.fail_next_commit(kind, applied);
            }
        });
    }
}

#[test]
fn transactions_that_the_broker_left_open_change_nothing() {
    let section = CorrelatorSection { left_open_after_ms: 20, ..section("0") };
    disturbed(section, |broker, number| match number % 4 {
        1 => broker.forget_next_end(),
        3 => broker.expire_members(&plimsoll_correlator::group("plimsoll")),
        _ => {}
    });
}

#[test]
fn an_output_in_which_a_transaction_was_left_open_is_closed_while_the_correlator_runs() {
    let (broker, connections) = pipeline();
    let codec = connections.codec();
    let output = codec.topic::<CorrelationPackage>();
    let records = inputs(&codec, 1);
    Feed::new(&connections).send(&records);
    broker.forget_next_end_in(&output);
    let running = Running::start(&connections, one_transaction(records.len(), 500));
    let is_open = || is_open(&broker, &connections, &output);
    until("a transaction is left open", is_open);
    until("it is closed", || !is_open());
    settled(&connections, running);
}

#[test]
fn partial_transactions_that_the_broker_left_open_change_nothing() {
    for sends in [1, 2, 5, 17, 40, 90] {
        let (broker, connections) = pipeline();
        let records = inputs(&connections.codec(), 3);
        let (early, late) = records.split_at(records.len() / 2);
        let section = CorrelatorSection { left_open_after_ms: 20, ..section("0") };
        Feed::new(&connections).send(early);
        let running = Running::start(&connections, section.clone());
        catch_up(&connections);
        running.stop().unwrap();
        Feed::new(&connections).send(late);
        broker.fail_send_after(sends, BrokerErrorKind::AbortTransaction);
        broker.forget_next_end();
        settled(&connections, Running::start(&connections, section));
    }
}

#[test]
fn a_transaction_that_the_broker_left_open_is_closed_at_the_next_start() {
    let (broker, connections) = pipeline();
    let codec = connections.codec();
    let records = inputs(&codec, 1);
    Feed::new(&connections).send(&records);
    broker.forget_next_end();
    // Its end is looked for late.
    let running = Running::start(&connections, one_transaction(records.len(), 60_000));
    let state = codec.topic::<CorrelatorState>();
    let is_open = || is_open(&broker, &connections, &state);
    until("a transaction is left open", is_open);
    running.stop().unwrap();
    assert!(is_open());
    settled(&connections, Running::start(&connections, one_transaction(records.len(), 20)));
    assert!(!is_open());
}

/// What is open in an output is complete where the state is closed: were it ended by the first transaction of the next
/// life, and that one given up, the output would be gone.
#[test]
fn what_was_left_open_in_an_output_outlives_a_first_transaction_that_fails() {
    let (broker, connections) = pipeline();
    let codec = connections.codec();
    let output = codec.topic::<CorrelationPackage>();
    let records = inputs_of(&codec, 0..4);
    Feed::new(&connections).send(&records);
    broker.forget_next_end_in(&output);
    // Its end is looked for late.
    let running = Running::start(&connections, one_transaction(records.len(), 60_000));
    let is_open = || is_open(&broker, &connections, &output);
    until("a transaction is left open", is_open);
    running.stop().unwrap();
    assert!(is_open());

    let running = Running::start(&connections, CorrelatorSection { left_open_after_ms: 500, ..section("0") });
    until("the correlator has begun", || running.is_ready());
    broker.fail_next_commit(BrokerErrorKind::AbortTransaction, false);
    Feed::new(&connections).send(&inputs_of(&codec, 4..12));
    settled(&connections, running);
}

#[test]
fn failed_sends_change_nothing() {
    for kind in [BrokerErrorKind::AbortTransaction, BrokerErrorKind::Fatal] {
        let (broker, connections) = pipeline();
        Feed::new(&connections).send(&inputs(&connections.codec(), 4));
        for _ in 0..5 {
            broker.fail_next_send(kind);
        }
        settled(&connections, Running::start(&connections, section("0")));
    }
}

#[test]
fn a_broker_that_goes_away_and_comes_back_changes_nothing() {
    disturbed(section("0"), |broker, number| {
        if number % 4 == 1 {
            let broker = broker.clone();
            broker.set_available(false);
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(60));
                broker.set_available(true);
            });
        }
    });
}

#[test]
fn lost_sessions_change_nothing() {
    disturbed(section("0"), |broker, number| {
        if number % 3 == 1 {
            broker.expire_members("plimsoll.correlator");
        }
    });
}

#[test]
fn restarts_with_a_kept_a_lost_and_no_store_change_nothing() {
    for (kept, lost) in [(true, false), (true, true), (false, false)] {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let section = || CorrelatorSection {
            state_directory: kept.then(|| state.clone()),
            cache_max_entities: 10,
            ..section("0")
        };
        let (_, connections) = pipeline();
        let mut feed = Feed::new(&connections);
        for (number, slice) in inputs(&connections.codec(), 4).chunks(60).enumerate() {
            let running = Running::start(&connections, section());
            feed.send(slice);
            if number % 2 == 0 {
                catch_up(&connections);
            }
            running.stop().unwrap();
            if lost {
                std::fs::remove_dir_all(&state).unwrap();
            }
        }
        settled(&connections, Running::start(&connections, section()));
    }
}

#[test]
fn a_store_of_another_time_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let with_store =
        || CorrelatorSection { state_directory: Some(directory.path().to_owned()), ..section("0") };
    let (_, first) = pipeline();
    Feed::new(&first).send(&inputs(&first.codec(), 4));
    settled(&first, Running::start(&first, with_store()));
    // The same directory, but the topics are new and shorter.
    let (_, second) = pipeline();
    Feed::new(&second).send(&inputs(&second.codec(), 1));
    settled(&second, Running::start(&second, with_store()));
}

#[test]
fn members_come_and_go() {
    let (_, connections) = pipeline();
    let mut feed = Feed::new(&connections);
    let records = inputs(&connections.codec(), 8);
    let mut slices = records.chunks(records.len() / 6 + 1);
    let mut next = || feed.send(slices.next().unwrap_or_default());
    let first = Running::start(&connections, section("0"));
    next();
    next();
    let second = Running::start(&connections, section("1"));
    next();
    until("the second one has partitions", || second.context.health.unready_reasons().is_empty());
    next();
    next();
    first.stop().unwrap();
    next();
    settled(&connections, second);
}

#[test]
fn bad_records_become_dead_letters_and_hold_up_nothing() {
    let (_, connections) = pipeline();
    let codec = connections.codec();
    let running = Running::start(&connections, section("0"));
    let mut records = inputs(&codec, 1);
    let usage_topic = codec.topic::<RuntimeUsage>();
    let partition = codec.partition(&image(0));
    let good = records.iter().find(|record| *record.topic == *usage_topic).unwrap().clone();
    let mut garbage = good.clone();
    garbage.value = Some("garbage".into());
    let mut elsewhere = good.clone();
    elsewhere.partition = (partition + 1) % connections.partitions;
    let deleted = OutgoingRecord::tombstone(usage_topic.as_str(), partition, good.key.clone());
    let mut unknown = world::usage("w", "web", vec![world::item("x", "file", "smelled", world::T0)]);
    unknown.artifact = image(0);
    unknown.items.push(world::item("usr/lib/libc.so", "library", "loaded", world::T0 + 1));
    let unknown = codec.encode(&unknown).unwrap();
    let unknown = OutgoingRecord::new(unknown.topic, unknown.partition, unknown.key, unknown.value);
    records.splice(10..10, [garbage.clone(), elsewhere, deleted, unknown]);
    Feed::new(&connections).send(&records);
    catch_up(&connections);
    running.stop().unwrap();
    let letters = common::records(&connections, &format!("{usage_topic}.dlq"));
    assert_eq!(letters.len(), 4);
    assert!(letters.contains(&(garbage.key.to_vec(), Some(b"garbage".to_vec()))));
    // The part that was known of the unknown one was taken.
    let content = compacted(&connections);
    assert!(content.keys().any(|(topic, key)| topic == "correlation.packages" && key.ends_with(b"id-libc")));
}

/// A registry that can go away.
struct Away {
    inner: MemoryRegistry,
    away: AtomicBool,
}

impl SchemaStore for Away {
    fn id_of(&self, subject: &str, schema: &str) -> Result<u32, CodecError> {
        self.inner.id_of(subject, schema)
    }
    fn schema_by_id(&self, id: u32) -> Result<Arc<str>, CodecError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(CodecError::Registry("the registry is away".into()));
        }
        self.inner.schema_by_id(id)
    }
}

impl SchemaRegistry for Away {
    fn name(&self) -> String {
        self.inner.name()
    }
    fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        self.inner.register(subject, schema)
    }
    fn schema(&self, id: u32) -> Result<Arc<str>, RegistryError> {
        self.inner.schema(id)
    }
    fn set_compatibility(&self, subject: &str, level: &str) -> Result<(), RegistryError> {
        self.inner.set_compatibility(subject, level)
    }
    fn check(&self) -> Result<(), RegistryError> {
        self.inner.check()
    }
}

#[test]
fn a_registry_that_is_away_stalls_visibly_and_skips_nothing() {
    let registry = Arc::new(Away { inner: MemoryRegistry::new(), away: AtomicBool::new(true) });
    let mut connections = Connections::memory();
    connections.registry = registry.clone();
    connections.prepare_once().unwrap();
    let running = Running::start(&connections, section("0"));
    Feed::new(&connections).send(&inputs(&connections.codec(), 2));
    until("the stall is visible", || {
        running.context.health.unready_reasons().iter().any(|reason| reason.contains("registry is away"))
    });
    assert!(compacted(&connections).is_empty());
    registry.away.store(false, Ordering::SeqCst);
    settled(&connections, running);
    let letters = plimsoll_schemas::topics::TOPICS.iter().filter(|topic| topic.dead_letter);
    for topic in letters {
        assert!(common::records(&connections, &topic.dead_letter_name("plimsoll")).is_empty());
    }
}

#[test]
fn other_partition_counts_are_refused_at_the_start() {
    let broker = MemoryBroker::new();
    let spec = TopicSpec::new("plimsoll.runtime.usage.v1", 3, CleanupPolicy::Delete);
    broker.ensure_topics(&[spec]).unwrap();
    let connections = Connections::from_memory(broker);
    let error = Running::start(&connections, section("0")).ended().unwrap_err().to_string();
    assert!(error.contains("plimsoll.runtime.usage.v1 has 3 partitions"), "{error}");
}

#[test]
fn inputs_that_retention_removed_unread_end_the_service() {
    let (broker, connections) = pipeline();
    let records = inputs(&connections.codec(), 1);
    let mut feed = Feed::new(&connections);
    feed.send(&records[..40]);
    let running = Running::start(&connections, section("0"));
    catch_up(&connections);
    running.stop().unwrap();
    feed.send(&records[40..]);
    let topic = connections.codec().topic::<plimsoll_schemas::events::ScanPackage>();
    let partition = TopicPartition::new(topic.as_str(), connections.codec().partition(&image(0)));
    let high = broker.watermarks(&partition).unwrap().high;
    broker.truncate(&partition, high).unwrap();
    let error = Running::start(&connections, section("0")).ended().unwrap_err().to_string();
    assert!(error.contains("is not in the log"), "{error}");
}

#[test]
fn outputs_carry_the_trace_of_their_inputs() {
    let (_, connections) = pipeline();
    let mut records = inputs(&connections.codec(), 1);
    let parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_vec();
    for record in &mut records {
        record.headers.push(("traceparent".into(), parent.clone()));
    }
    let running = Running::start(&connections, section("0"));
    Feed::new(&connections).send(&records);
    catch_up(&connections);
    running.stop().unwrap();
    let topic = connections.codec().topic::<plimsoll_schemas::events::CorrelationPackage>();
    let at = TopicPartition::new(topic.as_str(), connections.codec().partition(&image(0)));
    let mut seen = 0;
    let deadline = Instant::now() + PATIENCE;
    plimsoll_kit::broker::read_to_end(&*connections.broker, &at, 0, Default::default(), deadline, |record| {
        let header = record.header("traceparent").unwrap();
        assert!(header.starts_with(&parent[..36]), "the same trace");
        seen += 1;
    })
    .unwrap();
    assert!(seen > 5);
}

#[test]
fn of_two_instances_of_one_name_one_ends_and_nothing_is_doubled() {
    let (_, connections) = pipeline();
    let mut feed = Feed::new(&connections);
    let records = inputs(&connections.codec(), 4);
    let (early, late) = records.split_at(records.len() / 2);
    let first = Running::start(&connections, section("0"));
    feed.send(early);
    catch_up(&connections);
    let second = Running::start(&connections, section("0"));
    until("one of them ends", || first.is_finished() || second.is_finished());
    let (ended, left) = if first.is_finished() { (first, second) } else { (second, first) };
    let error = ended.ended().unwrap_err().to_string();
    assert!(error.contains("taken over"), "{error}");
    feed.send(late);
    settled(&connections, left);
}

#[test]
fn ticks_reach_artifacts_that_are_only_in_the_store() {
    let (_, connections) = pipeline();
    let running = Running::start(&connections, section("0"));
    Feed::new(&connections).send(&inputs(&connections.codec(), 2));
    catch_up(&connections);
    running.stop().unwrap();
    // The incomplete scan of the world is years old.
    let staged = |content: &Content| content.keys().filter(|(_, key)| key.ends_with(b"scan\x1fs3")).count();
    assert_eq!(staged(&compacted(&connections)), 2);
    let running = Running::start(&connections, CorrelatorSection { tick_interval_ms: 20, ..section("0") });
    until("ticks expire it", || staged(&compacted(&connections)) == 0);
    running.stop().unwrap();
}
