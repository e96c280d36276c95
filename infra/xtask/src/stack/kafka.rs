//! One Apache Kafka node (KRaft: broker and controller in one process).
//! It never creates topics: that is for `topics.yaml` and the services' admin client.

use super::certificates::Certificates;
use super::probe::Probe;
use super::server::Server;
use super::{Ports, given, java, places};
use crate::{cache, run};
use std::fs;
use std::path::Path;

const EXPORT: &str = "PLIMSOLL_TEST_KAFKA";
/// Directory of `ca.pem`, `stranger.pem`, `client.pem` and `client.key`.
const EXPORT_CERTIFICATES: &str = "PLIMSOLL_TEST_KAFKA_CERTIFICATES";
/// Listener that wants TLS and a client's certificate.
const EXPORT_TLS: &str = "PLIMSOLL_TEST_KAFKA_TLS";
/// Listener that wants TLS, user name and password.
const EXPORT_SASL: &str = "PLIMSOLL_TEST_KAFKA_SASL";
/// `user:password` of that listener, by PLAIN or SCRAM-SHA-512.
const EXPORT_USER: &str = "PLIMSOLL_TEST_KAFKA_USER";
/// A throw-away broker on loopback has no secrets.
const USER: &str = "plimsoll";
const PASSWORD: &str = "development";
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
    let free = || ports.free().map(|port| format!("127.0.0.1:{port}"));
    let (address, controller) = (free()?, free()?);
    let secured = Secured::prepare(&home, free()?, free()?)?;

    let data = home.join("data");
    let properties = home.join("server.properties");
    fs::write(&properties, settings(&address, &controller, &data, &secured))?;
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
        format.args(["--add-scram", &format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]")]);
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
        exports: [vec![(EXPORT.into(), address)], secured.exports()].concat(),
        data: vec![home],
        stale: Vec::new(),
        after_previous: false,
    }])
}

/// The listeners that encrypt.
struct Secured {
    certificates: Certificates,
    tls: String,
    sasl: String,
}

impl Secured {
    fn prepare(home: &Path, tls: String, sasl: String) -> anyhow::Result<Self> {
        crate::setup::ensure(&[crate::setup::OPENSSL])?;
        Ok(Self { certificates: Certificates::make(&home.join("certificates"))?, tls, sasl })
    }

    fn exports(&self) -> Vec<(String, String)> {
        vec![
            (EXPORT_CERTIFICATES.into(), self.certificates.path("").display().to_string()),
            (EXPORT_TLS.into(), self.tls.clone()),
            (EXPORT_SASL.into(), self.sasl.clone()),
            (EXPORT_USER.into(), format!("{USER}:{PASSWORD}")),
        ]
    }

    fn settings(&self) -> String {
        let (server, authority) = (self.certificates.path("server.pem"), self.certificates.path("ca.pem"));
        let (server, authority) = (server.display(), authority.display());
        let module = "org.apache.kafka.common.security";
        format!(
            "ssl.keystore.type=PEM
ssl.keystore.location={server}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.tls.ssl.client.auth=required
listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
listener.name.sasl.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;
"
        )
    }
}

/// The short session lets a killed broker register again at once instead of after nine seconds.
fn settings(address: &str, controller: &str, data: &Path, secured: &Secured) -> String {
    let data = data.display();
    let Secured { tls, sasl, .. } = secured;
    let secured = secured.settings();
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={controller}
listeners=PLAINTEXT://{address},CONTROLLER://{controller},TLS://{tls},SASL://{sasl}
advertised.listeners=PLAINTEXT://{address},CONTROLLER://{controller},TLS://{tls},SASL://{sasl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,SASL:SASL_SSL
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
{secured}"
    )
}
