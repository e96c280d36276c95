//! Feeds a pipeline with the worlds of some images, runs correlators over it, and reads what they made of it.
#![allow(dead_code, clippy::unwrap_used)] // Each test binary uses its part.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plimsoll_correlator::{Correlator, CorrelatorError, CorrelatorSection, wait_until_caught_up};
use plimsoll_correlator_core::{Artifact, Event, Order};
use plimsoll_kit::broker::{
    OutgoingRecord, Producer, ProducerOptions, ReaderOptions, TopicPartition, read_to_end,
};
use plimsoll_kit::lifecycle::{ServiceContext, ServiceInfo};
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::codec::{Codec, EncodedRecord};
use plimsoll_schemas::event::Event as Schema;
use plimsoll_schemas::events::CorrelatorState;
use plimsoll_schemas::topics::{self, TOPICS};

#[path = "../../core/tests/support/mod.rs"]
pub mod world;

/// Longest wait for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn image(number: usize) -> String {
    format!("image/sha256:{number:064x}")
}

fn encode(codec: &Codec, event: Event, artifact: &str) -> EncodedRecord {
    fn go<E: Schema>(codec: &Codec, mut event: E, set: impl FnOnce(&mut E)) -> EncodedRecord {
        set(&mut event);
        codec.encode(&event).unwrap()
    }
    let key = artifact.to_owned();
    match event {
        Event::Manifest(e) => go(codec, e, |e| e.artifact = key),
        Event::Package(e) => go(codec, e, |e| e.artifact = key),
        Event::Findings(e) => go(codec, e, |e| e.artifact = key),
        Event::Ownership(e) => go(codec, e, |e| e.artifact = key),
        Event::Workload(e) => go(codec, e, |e| e.artifact = key),
        Event::Usage(e) => go(codec, e, |e| e.artifact = key),
        Event::Alert(e) => go(codec, e, |e| e.artifact = key),
        Event::Tick { .. } => panic!("not an input"),
    }
}

/// The inputs of `count` images: the topics of each image by turns, so that all of them overlap.
pub fn inputs(codec: &Codec, count: usize) -> Vec<OutgoingRecord> {
    inputs_of(codec, 0..count)
}

/// As [`inputs`], of the images with these numbers.
pub fn inputs_of(codec: &Codec, numbers: std::ops::Range<usize>) -> Vec<OutgoingRecord> {
    let mut queues: Vec<(String, std::collections::VecDeque<Event>)> = Vec::new();
    for number in numbers {
        for topic in world::world() {
            queues.push((image(number), topic.into_iter().map(|(event, _)| event).collect()));
        }
    }
    let mut records = Vec::new();
    while !queues.is_empty() {
        for (artifact, queue) in &mut queues {
            let Some(event) = queue.pop_front() else { continue };
            let record = encode(codec, event, artifact);
            records.push(OutgoingRecord::new(record.topic, record.partition, record.key, record.value));
        }
        queues.retain(|(_, queue)| !queue.is_empty());
    }
    records
}

pub struct Feed {
    producer: Box<dyn Producer>,
}

impl Feed {
    pub fn new(connections: &Connections) -> Self {
        Self { producer: connections.broker.producer(ProducerOptions::idempotent("feed")).unwrap() }
    }

    pub fn send(&mut self, records: &[OutgoingRecord]) {
        let deadline = Instant::now() + PATIENCE;
        for record in records {
            loop {
                match self.producer.send(record) {
                    Ok(()) => break,
                    Err(error) if error.is_retriable() && Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        self.producer.flush(PATIENCE).unwrap();
    }
}

pub fn section(instance: &str) -> CorrelatorSection {
    CorrelatorSection {
        instance: instance.to_owned(),
        commit_interval_ms: 5,
        batch_max_records: 40,
        retry_max_ms: 100,
        tick_interval_ms: 0,
        ..CorrelatorSection::default()
    }
}

/// A correlator on a thread of this process.
pub struct Running {
    pub context: ServiceContext,
    thread: Option<JoinHandle<Result<(), CorrelatorError>>>,
}

impl Running {
    pub fn start(connections: &Connections, section: CorrelatorSection) -> Self {
        let context = ServiceContext::detached(ServiceInfo::new("correlator", "test"));
        // Not ready before its thread says that it is starting.
        drop(context.health.readiness("correlator"));
        let thread = Correlator::spawn(connections.clone(), section, context.clone()).unwrap();
        Self { context, thread: Some(thread) }
    }

    /// Whether it has begun.
    pub fn is_ready(&self) -> bool {
        self.context.health.unready_reasons().is_empty()
    }

    pub fn stop(mut self) -> Result<(), CorrelatorError> {
        self.context.shutdown.trigger();
        self.thread.take().unwrap().join().unwrap()
    }

    /// Whether it ended by itself.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// What it ended with by itself.
    pub fn ended(mut self) -> Result<(), CorrelatorError> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.context.shutdown.trigger();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn catch_up(connections: &Connections) {
    let done = wait_until_caught_up(connections, Instant::now() + PATIENCE).unwrap();
    assert!(done, "the correlator did not catch up within {PATIENCE:?}");
}

/// Topic, key and value of all that lives.
pub type Content = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// Bytes of the wire format that name the schema: registries number them as they like.
const WIRE_PREFIX_BYTES: usize = 5;

/// What the compacted topics hold: outputs, and the state, without the schema's number.
pub fn compacted(connections: &Connections) -> Content {
    let mut content = Content::new();
    for topic in TOPICS.iter().filter(|topic| topic.compact) {
        for (key, value) in records(connections, &topic.full_name(&connections.prefix)) {
            match value {
                Some(value) => {
                    content.insert((topic.name.to_owned(), key), value[WIRE_PREFIX_BYTES..].to_vec());
                }
                None => drop(content.remove(&(topic.name.to_owned(), key))),
            }
        }
    }
    content
}

/// All records of a topic: key and value.
pub fn records(connections: &Connections, topic: &str) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut records = Vec::new();
    for partition in 0..connections.partitions {
        let at = TopicPartition::new(topic, partition);
        // Markers are written a moment after a commit.
        let deadline = Instant::now() + PATIENCE;
        while {
            let marks = connections.broker.watermarks(&at).unwrap();
            marks.last_stable < marks.high && Instant::now() < deadline
        } {
            std::thread::sleep(Duration::from_millis(10));
        }
        read_to_end(&*connections.broker, &at, 0, ReaderOptions::default(), deadline, |record| {
            let key = record.key.map(|key| key.to_vec()).unwrap_or_default();
            records.push((key, record.value.map(|value| value.to_vec())));
        })
        .unwrap();
    }
    records
}

/// Compares, naming the first entries that differ.
pub fn assert_same(got: &Content, expect: &Content) {
    let name = |(topic, key): &(String, Vec<u8>)| format!("{topic} {}", String::from_utf8_lossy(key));
    let missing: Vec<String> = expect.keys().filter(|k| !got.contains_key(*k)).map(name).take(5).collect();
    let surplus: Vec<String> = got.keys().filter(|k| !expect.contains_key(*k)).map(name).take(5).collect();
    let differ: Vec<String> = expect
        .iter()
        .filter(|(k, v)| got.get(*k).is_some_and(|g| g != *v))
        .map(|(k, _)| name(k))
        .take(5)
        .collect();
    assert!(
        missing.is_empty() && surplus.is_empty() && differ.is_empty(),
        "missing {missing:?}\nsurplus {surplus:?}\ndiffer {differ:?}"
    );
}

/// The outputs that the core gives for the same inputs, read from the topics of `connections`, without any service.
/// Offsets matter to the state, so this is only comparable over the same topics.
pub fn reference(connections: &Connections) -> Content {
    let codec = connections.codec();
    let mut artifacts: BTreeMap<String, Artifact> = BTreeMap::new();
    for topic in plimsoll_correlator::input_topics(&connections.prefix) {
        for partition in 0..connections.partitions {
            let at = TopicPartition::new(topic.as_str(), partition);
            let deadline = Instant::now() + PATIENCE;
            let take = |record: plimsoll_kit::broker::IncomingRecord| {
                let order = Order { epoch: 0, offset: record.offset };
                let (Some(key), Some(value)) = (&record.key, &record.value) else { return };
                let Some(event) = decode(&codec, &topic, key, value) else { return };
                let (artifact, _) = plimsoll_schemas::key::split(key).unwrap();
                let entry = artifacts.entry(artifact.to_owned());
                let _ = entry.or_insert_with(|| Artifact::new(artifact)).apply(event, order);
            };
            read_to_end(&*connections.broker, &at, 0, ReaderOptions::default(), deadline, take).unwrap();
        }
    }
    let mut content = Content::new();
    for (key, artifact) in &mut artifacts {
        let finished = artifact.finish();
        for change in finished.changes {
            let state = CorrelatorState {
                artifact: key.clone(),
                kind: change.kind.into(),
                entity: change.entity,
                format: 1,
                body: change.body.clone().unwrap_or_default(),
            };
            if change.body.is_some() {
                let record = codec.encode(&state).unwrap();
                let value = record.value.unwrap()[WIRE_PREFIX_BYTES..].to_vec();
                content.insert((CorrelatorState::TOPIC.to_owned(), record.key), value);
            }
        }
        for output in finished.outputs {
            use plimsoll_correlator_core::Output;
            let record = match &output {
                Output::Artifact(record) => codec.encode(&**record),
                Output::Package(record) => codec.encode(&**record),
                Output::Usage(record) => codec.encode(&**record),
                Output::Finding(record) => codec.encode(&**record),
                Output::Alert(record) => codec.encode(&**record),
                Output::Tombstone { .. } => continue,
            };
            let record = record.unwrap();
            let value = record.value.unwrap()[WIRE_PREFIX_BYTES..].to_vec();
            content.insert((output.topic().to_owned(), record.key), value);
        }
    }
    content
}

fn decode(codec: &Codec, topic: &str, key: &[u8], value: &[u8]) -> Option<Event> {
    let name = topics::find_full(codec.prefix(), topic)?.name;
    Some(match name {
        "scan.artifacts" => Event::Manifest(codec.decode(key, value).ok()?),
        "scan.packages" => Event::Package(codec.decode(key, value).ok()?),
        "scan.findings" => Event::Findings(codec.decode(key, value).ok()?),
        "package.ownership" => Event::Ownership(codec.decode(key, value).ok()?),
        "runtime.workloads" => Event::Workload(codec.decode(key, value).ok()?),
        "runtime.usage" => Event::Usage(codec.decode(key, value).ok()?),
        "runtime.alerts" => Event::Alert(codec.decode(key, value).ok()?),
        _ => return None,
    })
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
