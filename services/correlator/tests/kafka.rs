//! The real binary on a real Kafka: killed again and again under load, its disk lost, its replica gone, the broker
//! paused and killed. In the end the topics hold what an undisturbed run makes of the same inputs, and no dead letter
//! twice. Servers: PLIMSOLL_TEST_KAFKA, PLIMSOLL_TEST_SCHEMA_REGISTRY, PLIMSOLL_XTASK; without them these tests say so
//! and pass, except under CI=true.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::*;
use plimsoll_correlator::CorrelatorSection;
use plimsoll_kit::broker::TopicPartition;
use plimsoll_kit::config::{KafkaConfig, SchemaRegistryConfig};
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::events::RuntimeUsage;

const KILLS: usize = 20;
/// Images whose topics are fed by turns.
const IMAGES_AT_ONCE: usize = 8;
/// Wait between two pieces of it: the load.
const FEED_INTERVAL: Duration = Duration::from_millis(150);

struct Servers {
    kafka: String,
    registry: String,
}

fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} is not set");
        println!("skipped: {name} is not set (run by cargo xtask test)");
    }
    value
}

fn servers() -> Option<Servers> {
    Some(Servers {
        kafka: variable("PLIMSOLL_TEST_KAFKA")?,
        registry: variable("PLIMSOLL_TEST_SCHEMA_REGISTRY")?,
    })
}

impl Servers {
    fn connections(&self, name: &str) -> Connections {
        let kafka = KafkaConfig {
            brokers: vec![self.kafka.clone()],
            topic_prefix: format!("correlator-{}-{name}", std::process::id()),
            partitions: 4,
            request_timeout_ms: 5_000,
            ..KafkaConfig::default()
        };
        let registry =
            SchemaRegistryConfig { url: Some(self.registry.clone()), ..SchemaRegistryConfig::default() };
        let connections = Connections::open(&kafka, &registry).unwrap();
        connections.prepare_until(Instant::now() + PATIENCE).unwrap();
        connections
    }

    /// The real service.
    fn start(&self, connections: &Connections, instance: &str, state: &Path, log: &Path) -> Service {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let settings = [
            format!("kafka.brokers={}", self.kafka),
            format!("kafka.topic_prefix={}", connections.prefix),
            "kafka.partitions=4".to_owned(),
            format!("schema_registry.url={}", self.registry),
            format!("correlator.instance={instance}"),
            format!("state.directory={}", state.display()),
            "correlator.commit_interval_ms=20".to_owned(),
            "correlator.batch_max_records=200".to_owned(),
            "correlator.tick_interval_ms=0".to_owned(),
            "correlator.cache_max_entities=2000".to_owned(),
            "admin.bind=off".to_owned(),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll-correlator"));
        for setting in settings {
            command.args(["--set", &setting]);
        }
        let child = command.stdin(Stdio::null()).stderr(file).spawn().unwrap();
        Service { child, log: log.to_owned() }
    }
}

/// A process of ours, killed at the latest when it is dropped.
struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    fn kill(mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "it ended by itself; see its log");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn terminate(mut self) -> bool {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Feeds on and on until told to stop; one record of each group is garbage.
struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Load {
    fn start(connections: &Connections) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (connections, stopped) = (connections.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let codec = connections.codec();
            let mut feed = Feed::new(&connections);
            let mut groups = 0;
            while !stopped.load(Ordering::Relaxed) {
                let first = groups * IMAGES_AT_ONCE;
                let mut records = inputs_of(&codec, first..first + IMAGES_AT_ONCE);
                let usage = codec.topic::<RuntimeUsage>();
                let mut garbage = records.iter().find(|record| *record.topic == *usage).unwrap().clone();
                garbage.value = Some(format!("garbage {groups}").into_bytes().into());
                records.insert(records.len() / 2, garbage);
                for slice in records.chunks(50) {
                    feed.send(slice);
                    std::thread::sleep(FEED_INTERVAL);
                }
                groups += 1;
            }
            groups
        });
        Self { stop, thread: Some(thread) }
    }

    /// Number of groups that were fed.
    fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Moments that differ from run to run and can be told.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        println!("moments from seed {}", now.as_nanos());
        Self(now.as_nanos() as u64 | 1)
    }

    fn below_ms(&mut self, bound: u64) -> Duration {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(self.0 % bound)
    }
}

/// How many inputs are committed; 0 while the broker does not say.
fn committed(connections: &Connections) -> i64 {
    let topics = plimsoll_correlator::input_topics(&connections.prefix);
    let inputs =
        topics.iter().flat_map(|topic| (0..4).map(|number| TopicPartition::new(topic.as_str(), number)));
    let group = plimsoll_correlator::group(&connections.prefix);
    let committed = connections.broker.committed(&group, &inputs.collect::<Vec<_>>()).unwrap_or_default();
    committed.iter().map(|offset| offset.offset).sum()
}

/// All inputs are joined: the compacted topics hold, byte for byte, what the core makes of the inputs in one piece, and
/// each refused record is one dead letter.
fn check(connections: &Connections, groups: usize) -> Content {
    let content = compacted(connections);
    assert_same(&content, &reference(connections));
    let letters = records(connections, &format!("{}.dlq", connections.codec().topic::<RuntimeUsage>()));
    assert_eq!(letters.len(), groups, "each refused record is one dead letter");
    println!("{groups} groups of {IMAGES_AT_ONCE} images, {} entities compared", content.len());
    content
}

#[test]
fn kills_lose_nothing_and_double_nothing() {
    let Some(servers) = servers() else { return };
    let connections = servers.connections("kill");
    let directory = tempfile::tempdir().unwrap();
    let (state, log) = (directory.path().join("state"), directory.path().join("log"));
    let load = Load::start(&connections);
    let mut moments = Moments::new();
    for kill in 0..KILLS {
        let before = committed(&connections);
        let service = servers.start(&connections, "0", &state, &log);
        if kill % 2 == 0 {
            // Somewhere on its way into the group, or soon behind.
            std::thread::sleep(moments.below_ms(1000));
        } else {
            until("it works", || committed(&connections) > before);
            std::thread::sleep(moments.below_ms(500));
        }
        service.kill();
        if kill % 7 == 5 && state.exists() {
            // The disk is lost too.
            std::fs::remove_dir_all(&state).unwrap();
        }
    }
    let groups = load.stop();
    println!("{} inputs were joined between the kills", committed(&connections));
    let service = servers.start(&connections, "0", &state, &log);
    let started = Instant::now();
    catch_up(&connections);
    println!("caught up in {:?}", started.elapsed());
    assert!(service.terminate(), "it ends in order: {}", std::fs::read_to_string(&log).unwrap());
    let content = check(&connections, groups);
    let calm = servers.connections("calm");
    let mut feed = Feed::new(&calm);
    for group in 0..groups {
        feed.send(&inputs_of(&calm.codec(), group * IMAGES_AT_ONCE..(group + 1) * IMAGES_AT_ONCE));
    }
    let running = Running::start(&calm, CorrelatorSection { commit_interval_ms: 50, ..section("calm") });
    catch_up(&calm);
    running.stop().unwrap();
    // The state holds offsets, and the calm topics have no garbage in them; the outputs must be the same.
    let outputs = |content: Content| -> Content {
        content.into_iter().filter(|((topic, _), _)| topic != "correlator.state").collect()
    };
    assert_same(&outputs(content), &outputs(compacted(&calm)));
}

#[test]
fn a_replica_takes_over_what_a_killed_one_held() {
    let Some(servers) = servers() else { return };
    let connections = servers.connections("replicas");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let load = Load::start(&connections);
    let first = servers.start(&connections, "0", &path("state0"), &path("log0"));
    std::thread::sleep(Duration::from_millis(700));
    let second = servers.start(&connections, "1", &path("state1"), &path("log1"));
    let assigned = || std::fs::read_to_string(path("log1")).unwrap().contains("partitions assigned");
    until("the second one has partitions", assigned);
    std::thread::sleep(Duration::from_millis(700));
    first.kill();
    let groups = load.stop();
    // After the session timeout of 10 s.
    catch_up(&connections);
    assert!(second.terminate(), "{}", std::fs::read_to_string(path("log1")).unwrap());
    check(&connections, groups);
}

/// A stack of this test's own.
struct Stack {
    xtask: PathBuf,
    directory: tempfile::TempDir,
}

impl Stack {
    fn run(&self, arguments: &[&str]) {
        let mut command = Command::new(&self.xtask);
        command.arg("stack").args(arguments).arg("--dir").arg(self.directory.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn kafka(&self) -> String {
        let env = std::fs::read_to_string(self.directory.path().join("env")).unwrap();
        env.lines().find_map(|line| line.strip_prefix("PLIMSOLL_TEST_KAFKA=")).unwrap().to_owned()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut command = Command::new(&self.xtask);
        let _ = command.args(["stack", "down", "--dir"]).arg(self.directory.path()).output();
    }
}

#[test]
fn a_broker_that_stalls_or_dies_loses_nothing() {
    let Some(shared) = servers() else { return };
    let Some(xtask) = variable("PLIMSOLL_XTASK") else { return };
    let stack = Stack { xtask: xtask.into(), directory: tempfile::tempdir().unwrap() };
    stack.run(&["up", "--only", "kafka"]);
    let servers = Servers { kafka: stack.kafka(), registry: shared.registry };
    let connections = servers.connections("broker");
    let directory = tempfile::tempdir().unwrap();
    let (state, log) = (directory.path().join("state"), directory.path().join("log"));
    let load = Load::start(&connections);
    let service = servers.start(&connections, "0", &state, &log);
    let mut before = 0;
    let mut until_it_works = |when: &str| {
        until(when, || committed(&connections) > before);
        before = committed(&connections);
    };
    until_it_works("it works at first");
    stack.run(&["pause", "kafka"]);
    // Longer than a transaction and a session may last.
    std::thread::sleep(Duration::from_secs(12));
    stack.run(&["resume", "kafka"]);
    until_it_works("it works after a pause");
    stack.run(&["kill", "kafka"]);
    stack.run(&["restart", "kafka"]);
    until_it_works("it works after a death");
    let groups = load.stop();
    catch_up(&connections);
    assert!(service.terminate(), "{}", std::fs::read_to_string(&log).unwrap());
    check(&connections, groups);
}
