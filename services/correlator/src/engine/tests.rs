//! The engine step by step over the memory broker: what is open in its outputs when it begins, and after that.
//! Never runs its loop: each look is asked for.
#![allow(clippy::unwrap_used)]

use plimsoll_kit::broker::memory::MemoryBroker;
use plimsoll_kit::broker::{Broker, OutgoingRecord};
use plimsoll_kit::lifecycle::ServiceInfo;

use super::*;
use crate::left_open::{self, Name};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

struct Pipeline {
    broker: MemoryBroker,
    connections: Connections,
    section: CorrelatorSection,
    context: ServiceContext,
    /// Two partitions of an output.
    outputs: [TopicPartition; 2],
}

impl Pipeline {
    fn new() -> Self {
        let broker = MemoryBroker::new();
        let connections = Connections::from_memory(broker.clone());
        connections.prepare_once().unwrap();
        let topic = connections.codec().topic::<CorrelationPackage>();
        let outputs = [0, 1].map(|number| TopicPartition::new(topic.as_str(), number));
        // Each turn is one look.
        let section = CorrelatorSection { left_open_after_ms: 0, ..CorrelatorSection::default() };
        let context = ServiceContext::detached(ServiceInfo::new("correlator", "test"));
        Self { broker, connections, section, context, outputs }
    }

    fn engine(&self) -> Engine<'_> {
        Engine::new(&self.connections, &self.section, &self.context).unwrap()
    }

    /// An instance writes to an output in a transaction, whose end is heard there or not.
    fn write_as(&self, instance: &str, output: usize, is_heard: bool) {
        let TopicPartition { topic, partition } = self.outputs[output].clone();
        let section = CorrelatorSection { instance: instance.to_owned(), ..self.section.clone() };
        let id = client_id(&self.connections, &section);
        let mut producer = self.broker.producer(ProducerOptions::transactional(id.clone(), id)).unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        let key = b"unidentified/test/container".as_slice();
        let mut records = [OutgoingRecord::tombstone(topic.clone(), partition, key)];
        let name = Name { life: "test".to_owned(), number: 1 };
        left_open::mark(&mut records, &name, &client_id(&self.connections, &section));
        producer.send(&records[0]).unwrap();
        if !is_heard {
            self.broker.forget_next_end_in(&topic);
        }
        producer.commit_transaction(None, PATIENCE).unwrap();
    }

    fn is_open(&self, output: usize) -> bool {
        let marks = self.broker.watermarks(&self.outputs[output]).unwrap();
        marks.last_stable < marks.high
    }

    /// What the metrics say was closed.
    fn closed(&self) -> String {
        let all = self.context.metrics.encode();
        let lines = all.lines().filter(|line| line.contains("left_open") && !line.starts_with('#'));
        lines.map(|line| line.split_once('{').unwrap().1).collect()
    }
}

/// Polls until it has its partitions, and so has begun.
fn join_group(engine: &mut Engine<'_>) {
    let deadline = Instant::now() + PATIENCE;
    while engine.partitions.is_empty() {
        assert!(Instant::now() < deadline, "no partitions");
        for event in engine.consumer.poll(POLL_WAIT, POLL_MAX_RECORDS).unwrap() {
            assert!(engine.handle(event).unwrap() == Flow::Continue);
        }
    }
    assert!(engine.restored);
}

/// As many looks as can be due.
fn look_at_all(engine: &mut Engine<'_>) {
    for _ in 0..=2 * engine.partitions.len() {
        engine.look_whether_settled().unwrap();
    }
}

#[test]
fn what_another_instance_left_open_in_an_output_is_closed_in_vain_once_and_not_counted() {
    let pipeline = Pipeline::new();
    pipeline.write_as("gone", 0, false);
    let mut engine = pipeline.engine();
    join_group(&mut engine);
    assert!(pipeline.is_open(0));
    let (begun, marks) = (engine.begun, pipeline.broker.watermarks(&pipeline.outputs[0]).unwrap());
    for _ in 0..3 {
        look_at_all(&mut engine);
        engine.looks.again(engine.partitions.len());
    }
    assert_eq!(engine.begun, begun, "begun anew for what it cannot end");
    // A new producer looks at the outputs again, and leaves that alone too.
    engine.producer_ready = false;
    engine.begin().unwrap();
    assert!(engine.restored);
    assert_eq!(pipeline.broker.watermarks(&pipeline.outputs[0]).unwrap(), marks, "written to");
    assert_eq!(pipeline.closed(), "");
    // The remedy: that instance is started again.
    pipeline.write_as("gone", 0, true);
    assert!(!pipeline.is_open(0));
}

#[test]
fn what_another_instance_left_open_while_the_engine_runs_is_closed_in_vain_once_and_ours_beside_it_is_counted()
 {
    let pipeline = Pipeline::new();
    let mut engine = pipeline.engine();
    join_group(&mut engine);
    let begun = engine.begun;
    pipeline.write_as("gone", 0, false);
    for _ in 0..3 {
        look_at_all(&mut engine);
    }
    assert_eq!(engine.begun, begun + 1);
    assert_eq!(pipeline.closed(), "");
    // This fences the engine's producer: it begins with a new one.
    pipeline.write_as(&pipeline.section.instance, 1, false);
    engine.producer_ready = false;
    engine.begin().unwrap();
    assert!(pipeline.is_open(0) && !pipeline.is_open(1));
    assert_eq!(pipeline.closed(), "end=\"committed\"} 1");
}

#[test]
fn a_closing_that_is_left_open_as_well_is_no_other_instances() {
    let pipeline = Pipeline::new();
    pipeline.write_as(&pipeline.section.instance, 0, false);
    pipeline.broker.forget_next_end_in(&pipeline.outputs[0].topic);
    let mut engine = pipeline.engine();
    join_group(&mut engine);
    assert!(!pipeline.is_open(0));
    assert_eq!(pipeline.closed(), "end=\"committed\"} 1");
}

/// As when it joined the group anew because nothing was polled for long, with a producer that is new.
#[test]
fn a_beginning_that_was_given_up_before_it_looked_at_the_outputs_leaves_that_to_the_next() {
    let pipeline = Pipeline::new();
    pipeline.write_as(&pipeline.section.instance, 0, false);
    let mut engine = pipeline.engine();
    assert!(engine.take_over().is_ok());
    assert!(pipeline.is_open(0));
    join_group(&mut engine);
    assert!(!pipeline.is_open(0));
}
