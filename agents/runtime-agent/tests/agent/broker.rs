//! From a process tree to a broker's topics, over the memory broker: what others read there.

use std::process::Command;
use std::time::{Duration, Instant};

use plimsoll_kit::broker::{ReaderOptions, TopicPartition, read_to_end};
use plimsoll_kit::transport::Connections;
use plimsoll_runtime_agent::agent::Agent;
use plimsoll_runtime_agent::config::AgentConfig;
use plimsoll_runtime_agent::output::{BrokerOutput, producer_options};
use plimsoll_schemas::event::Event;
use plimsoll_schemas::events::{RuntimeUsage, RuntimeWorkload};

use super::support;

fn read<E: Event>(connections: &Connections) -> Vec<E> {
    let codec = connections.codec();
    let mut events = Vec::new();
    for partition in 0..connections.partitions {
        let partition = TopicPartition::new(codec.topic::<E>(), partition);
        let deadline = Instant::now() + Duration::from_secs(10);
        let options = ReaderOptions::default();
        read_to_end(&*connections.broker, &partition, 0, options, deadline, |record| {
            let event: E =
                codec.decode(record.key.as_ref().unwrap(), record.value.as_ref().unwrap()).unwrap();
            assert_eq!(codec.partition(event.artifact()), partition.partition);
            events.push(event);
        })
        .unwrap();
    }
    events
}

#[test]
fn an_outage_of_the_broker_loses_nothing() {
    let memory = plimsoll_kit::broker::memory::MemoryBroker::new();
    let connections = Connections::from_memory(memory.clone());
    connections.prepare_once().unwrap();
    let producer = connections.broker.producer(producer_options("test")).unwrap();
    let output = BrokerOutput::new(connections.codec(), producer);
    let directory = tempfile::tempdir().unwrap();
    // Works with and without eBPF: the way out is the same.
    let config = AgentConfig {
        ebpf: plimsoll_runtime_agent::config::UseEbpf::Preferred,
        spool: Some((directory.path().join("spool"), 1 << 20)),
        ..support::config()
    };
    let agent = Agent::start(config, Box::new(output)).unwrap();
    let tree = support::tree(&agent, directory.path());
    memory.set_available(false);
    support::run(&tree, Command::new("cat").arg("/proc/self/maps"));
    let spool = directory.path().join("spool");
    let spooled = || std::fs::read_dir(&spool).unwrap().count() > 0;
    let deadline = Instant::now() + Duration::from_secs(30);
    while !spooled() {
        assert!(Instant::now() < deadline, "nothing was spooled");
        std::thread::sleep(Duration::from_millis(20));
    }
    memory.set_available(true);
    let maps = support::run(&tree, Command::new("cat").arg("/proc/self/maps"));
    agent.stop(false);
    assert!(!spooled(), "the spool is empty again");

    let usage: Vec<RuntimeUsage> = read(&connections);
    let loaded: Vec<String> = usage
        .iter()
        .flat_map(|event| &event.items)
        .filter(|item| item.rung == "loaded")
        .map(|item| format!("/{}", String::from_utf8_lossy(&item.path)))
        .collect();
    for path in support::mapped(&maps).iter().filter(|path| !path.to_str().unwrap().contains("plimsoll")) {
        let path = path.to_str().unwrap();
        assert!(loaded.iter().any(|loaded| loaded == path), "{path} is not in {loaded:?}");
    }
    let workloads: Vec<RuntimeWorkload> = read(&connections);
    assert!(workloads.iter().any(|workload| workload.stopped_at_ms > 0));
    assert!(workloads.iter().all(|workload| workload.losses.is_empty()), "{workloads:#?}");
    // Numbered without gaps, whatever the way out.
    let mut numbers: Vec<i64> = usage
        .iter()
        .map(|event| event.sequence)
        .chain(workloads.iter().map(|event| event.sequence))
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (1..=i64::try_from(numbers.len()).unwrap()).collect::<Vec<_>>());
}
