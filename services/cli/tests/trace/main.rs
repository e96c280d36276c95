//! One trace from the agent's publisher through Kafka, correlator and sink to the row in ClickHouse.
//!
//! Each of the three runs in a process of its own, with telemetry of its own, so that nothing but the headers of
//! Kafka's records can connect their spans. Servers are those of the development stack; without them the test says so
//! and passes, except under CI=true. It stands here because only a composer may import several services.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod collector;

use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use collector::{Collector, Recorded};
use plimsoll_correlator::CorrelatorConfig;
use plimsoll_kit::broker::{OutgoingRecord, ProducerOptions};
use plimsoll_kit::config::{AdminConfig, ConfigArgs, KafkaConfig, SchemaRegistryConfig, TelemetryConfig};
use plimsoll_kit::lifecycle::{ServiceContext, ServiceInfo, run_service};
use plimsoll_kit::transport::Connections;
use plimsoll_runtime_agent::output::{BrokerOutput, Output as _, RuntimeEvent, producer_options};
use plimsoll_schemas::event::Stamper;
use plimsoll_schemas::events::{Owner, PackageOwnership, RuntimeUsage, RuntimeWorkload, UsageItem};
use plimsoll_sink::SinkConfig;
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = Duration::from_secs(60);
/// Set in a process that this test started: which service it is to be.
const SERVE: &str = "PLIMSOLL_TEST_SERVE";
/// Its settings, one a line.
const SETTINGS: &str = "PLIMSOLL_TEST_SETTINGS";
const ARTIFACT: &str = "image/sha256:00000000000000000000000000000000000000000000000000000000000000aa";

fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} is not set");
        println!("skipped: {name} is not set (run by cargo xtask test)");
    }
    value
}

/// What the agent's publisher needs of the agent's configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct PublisherConfig {
    kafka: KafkaConfig,
    schema_registry: SchemaRegistryConfig,
    telemetry: TelemetryConfig,
    admin: AdminConfig,
}
plimsoll_kit::service_config!(PublisherConfig);

/// No test by itself: the body of the processes that the test below starts from this same program.
#[test]
fn served() {
    let Ok(service) = std::env::var(SERVE) else { return };
    let settings = std::env::var(SETTINGS).unwrap_or_default();
    let arguments =
        ConfigArgs { set: settings.lines().map(str::to_owned).collect(), ..ConfigArgs::default() };
    let info = |name| ServiceInfo::new(name, "test");
    let code = match service.as_str() {
        "correlator" => {
            run_service::<CorrelatorConfig>(info("correlator"), &arguments, plimsoll_correlator::run)
        }
        "sink" => run_service::<SinkConfig>(info("sink"), &arguments, plimsoll_sink::service::run),
        _ => run_service::<PublisherConfig>(info("runtime-agent"), &arguments, publish),
    };
    std::process::exit(i32::from(code != ExitCode::SUCCESS));
}

/// A workload that uses a package.
fn publish(config: PublisherConfig, context: ServiceContext) -> anyhow::Result<()> {
    let connections = Connections::open(&config.kafka, &config.schema_registry)?;
    connections.prepare(&context)?;
    let stamper = Stamper::new("agent", "boot");
    let now_ms = plimsoll_kit::clock::now_ms();
    let mut ownership = PackageOwnership {
        artifact: ARTIFACT.into(),
        path: b"usr/bin/tool".to_vec(),
        file_identity: "image".into(),
        state: "owned".into(),
        owners: vec![Owner {
            package_id: "tool".into(),
            purl: "pkg:deb/debian/tool@1".into(),
            name: "tool".into(),
            version: "1".into(),
            kind: "os".into(),
            ecosystem: "debian".into(),
            ..Owner::default()
        }],
        role: "code".into(),
        ..PackageOwnership::default()
    };
    stamper.stamp(&mut ownership, now_ms);
    // The resolver's, outside any trace.
    let encoded = connections.codec().encode(&ownership)?;
    let mut resolver = connections.broker.producer(ProducerOptions::idempotent("resolver"))?;
    resolver.send(&OutgoingRecord::new(encoded.topic, encoded.partition, encoded.key, encoded.value))?;
    resolver.flush(PATIENCE)?;

    let (application, component, component_version) =
        ("traced".to_owned(), "tool".to_owned(), "1".to_owned());
    let mut workload = RuntimeWorkload {
        artifact: ARTIFACT.into(),
        application: application.clone(),
        component: component.clone(),
        component_version: component_version.clone(),
        workload_id: "node/1".into(),
        started_at_ms: now_ms,
        ..RuntimeWorkload::default()
    };
    let mut usage = RuntimeUsage {
        artifact: ARTIFACT.into(),
        application,
        component,
        component_version,
        workload_id: "node/1".into(),
        items: vec![UsageItem {
            kind: "executable".into(),
            path: b"usr/bin/tool".to_vec(),
            mount: "root".into(),
            rung: "loaded".into(),
            first_seen_ms: now_ms,
            last_seen_ms: now_ms,
            probe: "ebpf-files".into(),
            ..UsageItem::default()
        }],
        ..RuntimeUsage::default()
    };
    stamper.stamp(&mut workload, now_ms);
    stamper.stamp(&mut usage, now_ms);
    let producer = connections.broker.producer(producer_options("agent"))?;
    let mut output = BrokerOutput::new(connections.codec(), producer);
    output.publish(&[RuntimeEvent::Workload(workload), RuntimeEvent::Usage(usage)])?;
    Ok(())
}

/// A process, killed at the latest when it is dropped.
struct Process(Child);

impl Process {
    fn start(service: &str, settings: &[String]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "served", "--nocapture"]).env(SERVE, service);
        command.env(SETTINGS, settings.join("\n")).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn finish(&mut self) {
        assert!(self.0.wait().unwrap().success(), "it fails; see above");
    }

    fn terminate(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.finish();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_trace_leads_from_the_agents_publisher_to_the_row() {
    let (Some(kafka), Some(registry), Some(clickhouse)) = (
        variable("PLIMSOLL_TEST_KAFKA"),
        variable("PLIMSOLL_TEST_SCHEMA_REGISTRY"),
        variable("PLIMSOLL_TEST_CLICKHOUSE"),
    ) else {
        return;
    };
    let collector = Collector::start();
    let name = format!("trace_{}", std::process::id());
    let common = [
        format!("kafka.brokers={kafka}"),
        format!("kafka.topic_prefix={name}"),
        "kafka.partitions=4".to_owned(),
        format!("schema_registry.url={registry}"),
        "admin.bind=off".to_owned(),
        format!("telemetry.otlp_endpoint={}", collector.url()),
    ];
    let database = [format!("clickhouse.url={clickhouse}"), format!("clickhouse.database={name}")];
    let correlator = Process::start("correlator", &common);
    let sink = Process::start("sink", &[common.as_slice(), &database].concat());
    Process::start("publisher", &common).finish();

    let deadline = Instant::now() + PATIENCE;
    let chain = loop {
        let spans = collector.spans();
        if let Some(chain) = chain(&spans) {
            break chain;
        }
        assert!(Instant::now() < deadline, "no chain of publish, correlate and row in {spans:#?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    println!("{chain}");
    correlator.terminate();
    sink.terminate();
    ureq::post(&clickhouse).send(format!("DROP DATABASE IF EXISTS {name}")).unwrap();
}

/// The agent's span, the correlator's that continues it, and the sink's that continues that, found by their ids.
fn chain(spans: &[Recorded]) -> Option<String> {
    let by_id = |name: &str, id: &[u8]| spans.iter().find(|span| span.name == name && span.id == id);
    for row in spans.iter().filter(|span| span.name == "clickhouse row") {
        // Rows of the agent's own topics continue its span directly; those of the joined topics, the correlator's.
        let Some(join) = by_id("correlate", &row.parent) else { continue };
        let publish = by_id("publish", &join.parent)?;
        assert!(row.attributes.iter().any(|(_, text)| text.contains(".correlation.")), "{row:?}");
        assert!([join, row].iter().all(|span| span.trace == publish.trace), "one trace id");
        assert!(publish.parent.is_empty(), "the trace begins where the agent publishes");
        let services = [publish, join, row].map(|span| span.service.as_str());
        assert_eq!(services, ["plimsoll-runtime-agent", "plimsoll-correlator", "plimsoll-sink"]);
        return Some(services.join(" → "));
    }
    None
}
