//! One Apache Kafka node (KRaft: broker and controller in one process).
//! It never creates topics: that is for `topics.yaml` and the services' admin client.

use super::probe::Probe;
use super::server::Server;
use super::{Ports, given, java, places};
use crate::{cache, run};
use std::fs;
use std::path::Path;

const EXPORT: &str = "PLIMSOLL_TEST_KAFKA";
const LOGGING: &str = include_str!("../../assets/kafka-log4j2.properties");
/// Bounded memory, quick start: the server lives for minutes, and shares two cores with the tests.
const JVM: [&str; 4] = ["-Xms128m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

pub fn prepare(dir: &Path, ports: &Ports) -> anyhow::Result<Vec<Server>> {
    if let Some(address) = given("PLIMSOLL_STACK_KAFKA") {
        let probe = Probe::Kafka { address: address.clone() };
        return Ok(vec![Server::given("kafka", probe, EXPORT, address)]);
    }
    let java = java()?;
    let libraries = cache::kafka_libs()?;
    let (home, log) = places(dir, "kafka")?;
    let address = format!("127.0.0.1:{}", ports.free()?);
    let controller = format!("127.0.0.1:{}", ports.free()?);

    let data = home.join("data");
    let properties = home.join("server.properties");
    fs::write(&properties, settings(&address, &controller, &data))?;
    let logging = home.join("log4j2.properties");
    fs::write(&logging, LOGGING)?;
    let class_path = format!("{}/*", libraries.display());
    let logging = format!("-Dlog4j2.configurationFile={}", logging.display());

    if !data.exists() {
        let mut format = run::command(&java);
        format.args(JVM).arg(&logging).args([
            "-cp",
            &class_path,
            "kafka.tools.StorageTool",
            "format",
            "--standalone",
        ]);
        format.args(["-t", "cGxpbXNvbGwtZGV2LTAwMQ", "-c"]).arg(&properties);
        run::logged(&mut format, &dir.join("logs/kafka-format.log"))?;
    }
    let mut command = vec![java];
    command.extend(JVM.map(String::from));
    command.extend([
        logging,
        "-cp".into(),
        class_path,
        "kafka.Kafka".into(),
        properties.display().to_string(),
    ]);
    Ok(vec![Server {
        name: "kafka".into(),
        command: Some(command),
        environment: Vec::new(),
        process: None,
        log,
        probe: Probe::Kafka { address: address.clone() },
        exports: vec![(EXPORT.into(), address)],
        data: vec![home],
        stale: Vec::new(),
        after_previous: false,
    }])
}

/// The short session lets a killed broker register again at once instead of after nine seconds.
fn settings(address: &str, controller: &str, data: &Path) -> String {
    let data = data.display();
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={controller}
listeners=PLAINTEXT://{address},CONTROLLER://{controller}
advertised.listeners=PLAINTEXT://{address},CONTROLLER://{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
default.replication.factor=1
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
log.cleaner.dedupe.buffer.size=16777216
log.segment.bytes=67108864
num.network.threads=2
num.io.threads=4
"
    )
}
