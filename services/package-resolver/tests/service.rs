//! The program itself: the rights it is left with, its end, and publication through a real broker.
//! The last needs PLIMSOLL_TEST_KAFKA and PLIMSOLL_TEST_SCHEMA_REGISTRY; without them it is left out, except with CI=true.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{IMAGE, SOON, brief, debian};
use plimsoll_kit::broker::{ReaderOptions, TopicPartition, read_to_end};
use plimsoll_kit::config::{KafkaConfig, SchemaRegistryConfig};
use plimsoll_kit::transport::Connections;
use plimsoll_kit::unix::UnixChannel;
use plimsoll_schemas::events::PackageOwnership;
use plimsoll_schemas::resolver_protocol::{PathQuery, ResolverReply, ResolverRequest};
use rustix::process::{Pid, Signal};

/// CAP_DAC_READ_SEARCH, as /proc/PID/status shows it.
const DAC_READ_SEARCH: &str = "0000000000000004";

struct Service {
    child: Child,
    socket: PathBuf,
}

impl Service {
    fn start(directory: &Path, settings: &[String]) -> Self {
        let socket = directory.join("made/resolver.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll-package-resolver"));
        command.args(["--set", &format!("resolver.socket={}", socket.display())]);
        command.args(["--set", "admin.bind=off"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let log = File::create(directory.join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let service = Self { child, socket };
        let deadline = Instant::now() + SOON;
        while UnixChannel::connect(&service.socket).is_err() {
            let log = std::fs::read_to_string(directory.join("log")).unwrap();
            assert!(Instant::now() < deadline, "it does not answer: {log}");
            std::thread::yield_now();
        }
        service
    }

    fn ask(&self, root: &Path, path: &str) -> PackageOwnership {
        let mut channel = UnixChannel::connect(&self.socket).unwrap();
        let (artifact, workload_id) = (IMAGE.to_owned(), "w".to_owned());
        let open = ResolverRequest::Open {
            artifact: artifact.clone(),
            workload_id: workload_id.clone(),
            has_upper_directory: false,
            component: false,
            started_at_ms: 0,
        };
        let directory = File::open(root).unwrap();
        channel.send(&serde_json::to_vec(&open).unwrap(), &[directory.as_fd()]).unwrap();
        let paths = vec![PathQuery { path: path.into(), ..PathQuery::default() }];
        let resolve = ResolverRequest::Resolve { request_id: 1, artifact, workload_id, paths };
        channel.send(&serde_json::to_vec(&resolve).unwrap(), &[]).unwrap();
        let frame = channel.receive(SOON).unwrap().unwrap();
        match serde_json::from_slice(&frame.bytes).unwrap() {
            ResolverReply::Ownership { mut entries, .. } => entries.remove(0),
            ResolverReply::Failed { reason, .. } => panic!("{reason}"),
        }
    }

    /// Asks it to end; how long that took.
    fn end(mut self) -> (Duration, bool) {
        let begun = Instant::now();
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        (begun.elapsed(), status.success())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn has_the_least_rights_and_answers_without_a_broker() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    debian(&root, &[("libz1", "1", &["usr/lib/libz.so.1"])]);
    // Nothing listens there.
    let nowhere =
        ["kafka.brokers=127.0.0.1:1".to_owned(), "schema_registry.url=http://127.0.0.1:1".to_owned()];
    let service = Service::start(directory.path(), &nowhere);
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.child.id())).unwrap();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("{name}"))
            .trim()
            .to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(
        (field("CapInh:").as_str(), field("CapAmb:").as_str()),
        ("0000000000000000", "0000000000000000")
    );
    let is_root = rustix::process::geteuid().is_root();
    let kept = if is_root { DAC_READ_SEARCH } else { "0000000000000000" };
    assert_eq!((field("CapEff:").as_str(), field("CapPrm:").as_str()), (kept, kept));
    if is_root {
        assert_eq!(field("CapBnd:"), DAC_READ_SEARCH);
        // Another user's private files are what this capability is for.
        let database = root.join("var/lib/dpkg/status");
        chown(&database, Some(12_345), Some(12_345)).unwrap();
        std::fs::set_permissions(&database, PermissionsExt::from_mode(0o600)).unwrap();
    }
    assert_eq!(brief(&service.ask(&root, "usr/lib/libz.so.1")), "owned libz1@1 image unknown");
    let socket = service.socket.clone();
    let (elapsed, success) = service.end();
    assert!(success && elapsed < Duration::from_secs(10), "{elapsed:?}");
    assert!(!socket.exists());
    let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(log.contains("before the broker took all"), "a loss is said: {log}");
}

#[test]
fn publishes_through_kafka() {
    let variables =
        ["PLIMSOLL_TEST_KAFKA", "PLIMSOLL_TEST_SCHEMA_REGISTRY"].map(|name| std::env::var(name).ok());
    let [Some(kafka), Some(registry)] = variables else {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must have a broker");
        println!("skipped: no broker; run `cargo xtask test`, or set PLIMSOLL_TEST_KAFKA");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    debian(&root, &[("libz1", "1", &["usr/lib/libz.so.1"])]);
    let prefix = format!("resolver-test-{}", std::process::id());
    let settings = [
        format!("kafka.brokers={kafka}"),
        format!("kafka.topic_prefix={prefix}"),
        "kafka.partitions=1".to_owned(),
        format!("schema_registry.url={registry}"),
    ];
    let service = Service::start(directory.path(), &settings);
    for path in ["usr/lib/libz.so.1", "usr/lib/libz.so.1", "usr/lib/nobody"] {
        service.ask(&root, path);
    }
    let (elapsed, success) = service.end();
    assert!(success && elapsed < Duration::from_secs(15), "{elapsed:?}");
    let connections = Connections::open(
        &KafkaConfig { brokers: vec![kafka], topic_prefix: prefix, partitions: 1, ..KafkaConfig::default() },
        &SchemaRegistryConfig { url: Some(registry), ..SchemaRegistryConfig::default() },
    )
    .unwrap();
    let codec = connections.codec();
    let place = TopicPartition { topic: codec.topic::<PackageOwnership>().as_str().into(), partition: 0 };
    let mut states = Vec::new();
    let options = ReaderOptions::default();
    read_to_end(&*connections.broker, &place, 0, options, Instant::now() + SOON, |record| {
        let (key, value) = (record.key.unwrap(), record.value.unwrap());
        states.push(brief(&codec.decode::<PackageOwnership>(&key, &value).unwrap()));
    })
    .unwrap();
    assert_eq!(states, ["owned libz1@1 image unknown", "unowned  image unknown"]);
}
