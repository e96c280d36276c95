//! Topics of a test's own, requests to the scanner, and all that it published, read back and checked.
//! It must never touch topics that are not the test's own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use plimsoll_kit::broker::{
    BrokerError, IncomingRecord, OutgoingRecord, Producer, ProducerOptions, ReaderOptions, TopicPartition,
    Watermarks, read_to_end,
};
use plimsoll_kit::config::{KafkaConfig, SchemaRegistryConfig};
use plimsoll_kit::transport::Connections;
use plimsoll_scanner::scan::package_hash;
use plimsoll_scanner::service::group;
use plimsoll_schemas::codec::Codec;
use plimsoll_schemas::event::{Event, Stamper};
use plimsoll_schemas::events::{ScanArtifact, ScanFindings, ScanPackage, ScanRequest};

/// How long a condition may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Waits until `condition` gives a value; panics with `what` when it takes too long.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kafka and schema registry; `None` where there are none, which CI does not allow.
pub fn servers() -> Option<(String, String)> {
    let kafka = std::env::var("PLIMSOLL_TEST_KAFKA").ok();
    let found = kafka.zip(std::env::var("PLIMSOLL_TEST_SCHEMA_REGISTRY").ok());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI must have the development stack: run cargo xtask test");
        println!("skipped: PLIMSOLL_TEST_KAFKA and PLIMSOLL_TEST_SCHEMA_REGISTRY are not set");
    }
    found
}

/// The scan topics of one test.
pub struct Pipeline {
    pub connections: Connections,
    pub codec: std::sync::Arc<Codec>,
    pub directory: tempfile::TempDir,
    pub kafka: String,
    pub registry: String,
    stamper: Stamper,
    producer: Box<dyn Producer>,
}

/// One scan as the topics have it.
#[derive(Debug)]
pub struct PublishedScan {
    pub manifest: ScanArtifact,
    pub packages: Vec<ScanPackage>,
    pub findings: Vec<ScanFindings>,
}

/// All that the topics have.
#[derive(Debug, Default)]
pub struct Published {
    pub scans: Vec<PublishedScan>,
    /// Scan ids of packages and findings without a manifest.
    pub halves: Vec<String>,
    pub letters: Vec<IncomingRecord>,
}

impl Pipeline {
    /// Topics on real servers, by a prefix that no other test and no other run has.
    pub fn on(servers: (String, String), what: &str) -> Self {
        let (kafka, registry) = servers;
        let config = KafkaConfig {
            brokers: vec![kafka.clone()],
            topic_prefix: format!("scannertest-{what}-{}", std::process::id()),
            partitions: 4,
            ..KafkaConfig::default()
        };
        let registry_config =
            SchemaRegistryConfig { url: Some(registry.clone()), ..SchemaRegistryConfig::default() };
        let connections = Connections::open(&config, &registry_config).unwrap();
        connections.prepare_until(Instant::now() + PATIENCE).unwrap();
        Self::over(connections, kafka, registry)
    }

    /// Topics over connections that are prepared.
    pub fn over(connections: Connections, kafka: String, registry: String) -> Self {
        Self {
            codec: connections.codec(),
            producer: connections.broker.producer(ProducerOptions::idempotent("scanner-test")).unwrap(),
            connections,
            directory: tempfile::tempdir().unwrap(),
            kafka,
            registry,
            stamper: Stamper::new("scanner-test", "boot"),
        }
    }

    /// Publishes a request. The artifact of a directory's is its component.
    pub fn request(&mut self, request: &ScanRequest) {
        let mut request = request.clone();
        self.stamper.stamp(&mut request, 0);
        let record = self.codec.encode(&request).unwrap();
        let value = record.value.unwrap();
        self.send(&OutgoingRecord::new(record.topic, record.partition, record.key, Some(value)));
    }

    pub fn send(&mut self, record: &OutgoingRecord) {
        self.producer.send(record).unwrap();
        self.producer.flush(PATIENCE).unwrap();
    }

    pub fn topic<E: Event>(&self) -> String {
        self.codec.topic::<E>()
    }

    fn read(&self, topic: &str, mut each: impl FnMut(IncomingRecord)) {
        for partition in 0..self.connections.partitions {
            let place = TopicPartition::new(topic, partition);
            let mut records = Vec::new();
            self.patiently("reading a topic", || {
                records.clear();
                let (deadline, options) = (Instant::now() + PATIENCE, ReaderOptions::default());
                let take = |record| records.push(record);
                read_to_end(&*self.connections.broker, &place, 0, options, deadline, take)
            });
            records.into_iter().for_each(&mut each);
        }
    }

    /// Asks the broker again while it is away: some tests restart it.
    fn patiently<T>(&self, what: &str, mut ask: impl FnMut() -> Result<T, BrokerError>) -> T {
        wait_for(what, || match ask() {
            Ok(answer) => Some(answer),
            Err(error) if error.is_retriable() => None,
            Err(error) => panic!("{what}: {error}"),
        })
    }

    fn watermarks(&self, topic: &str, partition: u32) -> Watermarks {
        let place = TopicPartition::new(topic, partition);
        self.patiently("asking for the ends", || self.connections.broker.watermarks(&place))
    }

    fn events<E: Event>(&self) -> Vec<E> {
        let mut events = Vec::new();
        self.read(&self.topic::<E>(), |record| {
            events.push(self.codec.decode::<E>(&record.key.unwrap(), &record.value.unwrap()).unwrap());
        });
        events
    }

    /// Everything committed. Manifests are read first: what they promise must be there when they are.
    pub fn published(&self) -> Published {
        let mut scans: BTreeMap<String, PublishedScan> = self
            .events::<ScanArtifact>()
            .into_iter()
            .map(|manifest| {
                let id = manifest.scan_id.clone();
                (id, PublishedScan { manifest, packages: Vec::new(), findings: Vec::new() })
            })
            .collect();
        let mut published = Published::default();
        for package in self.events::<ScanPackage>() {
            match scans.get_mut(&package.scan_id) {
                Some(scan) => scan.packages.push(package),
                None => published.halves.push(package.scan_id),
            }
        }
        for findings in self.events::<ScanFindings>() {
            match scans.get_mut(&findings.scan_id) {
                Some(scan) => scan.findings.push(findings),
                None => published.halves.push(findings.scan_id),
            }
        }
        self.read(&format!("{}.dlq", self.topic::<ScanRequest>()), |record| published.letters.push(record));
        published.scans = scans.into_values().collect();
        published
    }

    /// Waits until every request so far is answered, then gives everything committed. Kafka shows a transaction a
    /// moment after its commit, each partition by itself.
    pub fn answered(&self) -> Published {
        let topic = self.topic::<ScanRequest>();
        let group = group(&self.connections.prefix);
        for partition in 0..self.connections.partitions {
            let place = TopicPartition::new(topic.as_str(), partition);
            let end = self.watermarks(&topic, partition).high;
            wait_for("all requests to be answered", || {
                let places = std::slice::from_ref(&place);
                let committed = self.connections.broker.committed(&group, places).unwrap_or_default();
                (end == 0 || committed.iter().any(|committed| committed.offset >= end)).then_some(())
            });
        }
        self.settled()
    }

    /// Everything committed, once no transaction is open any more.
    pub fn settled(&self) -> Published {
        let letters = format!("{}.dlq", self.topic::<ScanRequest>());
        let topics = [
            self.topic::<ScanArtifact>(),
            self.topic::<ScanPackage>(),
            self.topic::<ScanFindings>(),
            letters,
        ];
        wait_for("open transactions to end", || {
            let settled = topics.iter().all(|topic| {
                (0..self.connections.partitions).all(|partition| {
                    let marks = self.watermarks(topic, partition);
                    marks.last_stable == marks.high
                })
            });
            settled.then_some(())
        });
        self.published()
    }

    /// How many records of packages there are, committed or not.
    pub fn uncommitted_packages(&self) -> i64 {
        let topic = self.topic::<ScanPackage>();
        (0..self.connections.partitions).map(|partition| self.watermarks(&topic, partition).high).sum()
    }

    /// Starts the real program as replica `instance`, with further settings.
    pub fn start(&self, instance: &str, settings: &[&str]) -> Scanner {
        let path = self.directory.path().join(format!("{instance}.log"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll-scanner"));
        command.stderr(Stdio::from(log)).stdout(Stdio::null());
        let mut set = |setting: String| {
            command.arg("--set").arg(setting);
        };
        set(format!("kafka.brokers={}", self.kafka));
        set(format!("kafka.topic_prefix={}", self.connections.prefix));
        set(format!("kafka.partitions={}", self.connections.partitions));
        set(format!("schema_registry.url={}", self.registry));
        set(format!("scanner.instance={instance}"));
        settings.iter().for_each(|setting| set((*setting).to_owned()));
        Scanner { child: command.spawn().unwrap(), log: path }
    }
}

/// A running scanner; killed when dropped.
pub struct Scanner {
    child: Child,
    log: PathBuf,
}

impl Scanner {
    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; waits for an orderly end.
    pub fn terminate(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = wait_for("the scanner's end", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its log since it was started for the `life`th time, counted from 0.
    pub fn log_of_life(&self, life: usize) -> String {
        self.log().split("scanner started").nth(life + 1).unwrap_or_default().to_owned()
    }

    /// Whether it ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- {} ---\n{}", self.log.display(), self.log());
        }
    }
}

impl PublishedScan {
    /// Every promise of the manifest, held by what was published with it.
    pub fn assert_whole(&self) {
        let manifest = &self.manifest;
        let id = &manifest.scan_id;
        assert_eq!(self.packages.len() as i64, manifest.package_count, "packages of scan {id}");
        let mut ids: Vec<&str> = self.packages.iter().map(|package| package.package_id.as_str()).collect();
        assert_eq!(package_hash(ids.iter().copied()), manifest.package_hash, "package hash of scan {id}");
        let mut with_findings: Vec<&str> =
            self.findings.iter().filter(|f| f.chunk == 0).map(|f| f.package_id.as_str()).collect();
        ids.sort_unstable();
        with_findings.sort_unstable();
        assert_eq!(ids, with_findings, "every package of scan {id} has its findings");
        // One producer numbers what it sends: the manifest came last.
        let of_packages = self.packages.iter().map(|package| (package.boot_id.as_str(), package.sequence));
        let of_findings = self.findings.iter().map(|findings| (findings.boot_id.as_str(), findings.sequence));
        for (boot_id, sequence) in of_packages.chain(of_findings) {
            assert_eq!(boot_id, manifest.boot_id);
            assert!(sequence < manifest.sequence, "the manifest of scan {id} is not its last record");
        }
        let (mut artifacts, key) = (self.packages.iter().map(|p| &p.artifact), &manifest.artifact);
        assert!(
            artifacts.all(|artifact| artifact == key) && self.findings.iter().all(|f| f.artifact == *key)
        );
    }
}
