//! What the tests with real servers share: servers from the environment, a pipeline of the test's own, its oracle.
//! It must never touch topics or databases that are not the test's own.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod load;
pub mod oracle;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use plimsoll_kit::config::{KafkaConfig, SchemaRegistryConfig};
use plimsoll_kit::transport::Connections;

/// How long a condition may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Servers of the development stack.
pub struct Servers {
    pub kafka: String,
    pub registry: String,
    pub clickhouse: String,
}

/// The servers, or `None` with the reason printed. With `CI` set their absence is a failure.
pub fn servers() -> Option<Servers> {
    let value = |name: &str| std::env::var(name).ok();
    let servers = (|| {
        Some(Servers {
            kafka: value("PLIMSOLL_TEST_KAFKA")?,
            registry: value("PLIMSOLL_TEST_SCHEMA_REGISTRY")?,
            clickhouse: value("PLIMSOLL_TEST_CLICKHOUSE")?,
        })
    })();
    if servers.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI must have the development stack: run cargo xtask test");
        println!(
            "skipped: no development stack; run cargo xtask test, or set PLIMSOLL_TEST_KAFKA and its like"
        );
    }
    servers
}

/// A name that no other test and no other run has.
pub fn unique(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("sinktest_{what}_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

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

/// Topics, a database and a directory of one test's own.
pub struct Pipeline {
    pub connections: Connections,
    pub servers: Servers,
    pub clickhouse: ClickHouse,
    pub directory: tempfile::TempDir,
    pub group: String,
}

impl Pipeline {
    /// Makes topics and subjects; the sink makes the database.
    pub fn new(servers: Servers, what: &str) -> Self {
        let name = unique(what);
        let kafka = KafkaConfig {
            brokers: vec![servers.kafka.clone()],
            topic_prefix: name.clone(),
            partitions: 4,
            ..KafkaConfig::default()
        };
        let registry =
            SchemaRegistryConfig { url: Some(servers.registry.clone()), ..SchemaRegistryConfig::default() };
        let connections = Connections::open(&kafka, &registry).unwrap();
        connections.prepare_until(Instant::now() + PATIENCE).unwrap();
        let clickhouse = ClickHouse { url: servers.clickhouse.clone(), database: name.clone() };
        let directory = tempfile::tempdir().unwrap();
        Self { connections, servers, clickhouse, directory, group: format!("{name}.sink") }
    }

    /// Starts the real binary, with further `--set` arguments.
    pub fn start_sink(&self, settings: &[&str]) -> Sink {
        // Each its own: two that start at once would write over each other's.
        let address_file = self.directory.path().join(unique("admin-address"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.path().join("sink.log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll-sink"));
        command.stderr(Stdio::from(log)).stdout(Stdio::null());
        let mut set = |setting: String| {
            command.arg("--set").arg(setting);
        };
        set(format!("kafka.brokers={}", self.servers.kafka));
        set(format!("kafka.topic_prefix={}", self.connections.prefix));
        set(format!("kafka.partitions={}", self.connections.partitions));
        set(format!("schema_registry.url={}", self.servers.registry));
        set(format!("clickhouse.url={}", self.clickhouse.url));
        set(format!("clickhouse.database={}", self.clickhouse.database));
        set(format!("admin.address_file={}", address_file.display()));
        settings.iter().for_each(|setting| set((*setting).to_owned()));
        Sink { child: command.spawn().unwrap(), address_file }
    }

    /// The log of all sinks of this pipeline so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("sink.log")).unwrap_or_default()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let of_interest = log.lines().filter(|line| !line.contains("record refused"));
            let lines: Vec<&str> = of_interest.rev().take(60).collect();
            println!("--- end of the sink's log ---");
            lines.iter().rev().for_each(|line| println!("{line}"));
        }
        self.clickhouse.drop_database();
    }
}

/// A running sink; killed when dropped.
pub struct Sink {
    child: Child,
    address_file: PathBuf,
}

impl Sink {
    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([format!("-{name}"), pid]).status().unwrap().success());
    }

    /// SIGTERM; waits for the end and returns whether it was orderly.
    pub fn terminate(mut self) -> bool {
        self.signal("TERM");
        let status = wait_for("the sink's end", || self.child.try_wait().unwrap());
        status.success()
    }

    /// Whether it ended by itself, and how.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Processor time used so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.child.id())
    }

    /// Status and text of an admin page; `None` while there is no admin server yet.
    pub fn page(&self, path: &str) -> Option<(u16, String)> {
        let address = std::fs::read_to_string(&self.address_file).ok()?;
        get(&format!("http://{}{path}", address.trim()))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time that a process has used, in seconds (proc_pid_stat(5), fields 14 and 15 in ticks of 10 ms).
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn get(url: &str) -> Option<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into();
    let mut response = agent.get(url).call().ok()?;
    Some((response.status().as_u16(), response.body_mut().read_to_string().ok()?))
}

/// A database, asked without the sink's own client.
pub struct ClickHouse {
    pub url: String,
    pub database: String,
}

impl ClickHouse {
    /// The answer to a question, or what went wrong.
    pub fn ask(&self, question: &str) -> Result<String, String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let settings =
            "output_format_json_quote_64bit_integers=0&output_format_json_named_tuples_as_objects=1";
        let url = format!("{}/?database={}&{settings}", self.url, self.database);
        let mut response = agent.post(&url).send(question).map_err(|error| error.to_string())?;
        let limit = response.body_mut().with_config().limit(256 * 1024 * 1024).read_to_string();
        let text = limit.map_err(|error| error.to_string())?;
        if response.status().is_success() { Ok(text) } else { Err(text) }
    }

    /// All rows of a question, as JSON objects.
    pub fn rows(&self, question: &str) -> Vec<serde_json::Map<String, serde_json::Value>> {
        let text = self.ask(&format!("{question} FORMAT JSONEachRow")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn drop_database(&self) {
        let server = Self { url: self.url.clone(), database: "default".to_owned() };
        let _ = server.ask(&format!("DROP DATABASE IF EXISTS {}", self.database));
    }
}
