//! The peer: the same join on Kafka Streams with EOS v2, built by Maven below the target folder.
//! It must never be given less to do its work with than the correlator has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use plimsoll_correlator::input_topics;
use plimsoll_kit::broker::{CleanupPolicy, CommittedOffset, TopicPartition, TopicSpec};
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::events::{CorrelationPackage, CorrelationUsage};

use crate::child::{Process, until};
use crate::servers::Servers;

const MAIN_CLASS: &str = "CorrelationPeer";

/// The compiled peer.
pub struct Peer {
    class_path: String,
    schemas: PathBuf,
}

/// Where its packages go.
pub fn output_topic(prefix: &str) -> String {
    format!("{prefix}.peer.packages")
}

fn usage_topic(prefix: &str) -> String {
    format!("{prefix}.peer.usage")
}

impl Peer {
    /// Fetches what it needs by Maven and compiles it.
    ///
    /// # Errors
    /// What `mvn` or `javac` say.
    pub fn build() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let source = root.join("peers/streams");
        let target = root.join("../target/loadtest/streams");
        std::fs::create_dir_all(&target)?;
        let target = target.canonicalize()?;
        let libraries = target.join("libs");
        if !libraries.is_dir() {
            let mut maven = Command::new("mvn");
            maven.args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
            maven.arg(format!("-DoutputDirectory={}", libraries.display()));
            run(maven.arg("-f").arg(source.join("pom.xml")))?;
        }
        let class_path = format!("{}:{}/*", target.display(), libraries.display());
        let mut javac = Command::new("javac");
        javac.args(["-cp", &class_path, "-d"]).arg(&target);
        run(javac.arg(source.join("src").join(format!("{MAIN_CLASS}.java"))))?;
        Ok(Self { class_path, schemas: root.join("../schemas/avro").canonicalize()? })
    }

    /// Starts it over the topics of `connections`.
    ///
    /// # Errors
    /// What the broker or the system says.
    pub fn start(
        &self,
        servers: &Servers,
        connections: &Connections,
        state: &Path,
    ) -> anyhow::Result<Process> {
        let prefix = &connections.prefix;
        let outputs = [output_topic(prefix), usage_topic(prefix)].map(|name| {
            let mut spec = TopicSpec::new(name, connections.partitions, CleanupPolicy::Compact);
            spec.replication_factor = Some(1);
            spec
        });
        connections.broker.ensure_topics(&outputs)?;
        let codec = connections.codec();
        // The peer writes the wire format with the ids of the registered schemas.
        let ids = [
            codec.encode_value(&CorrelationPackage::default())?,
            codec.encode_value(&CorrelationUsage::default())?,
        ]
        .map(|value| u32::from_be_bytes([value[1], value[2], value[3], value[4]]).to_string());
        let mut command = Command::new("java");
        command.args(["-Xmx2g", "-cp", &self.class_path, MAIN_CLASS, &servers.kafka, prefix]);
        command.arg(&self.schemas).arg(state).args(ids);
        Process::start("the Kafka Streams peer", command.stderr(std::process::Stdio::null()))
    }

    /// Waits until its group has committed all inputs.
    ///
    /// # Errors
    /// If it does not within `limit`, or ends.
    pub fn wait(
        &self,
        connections: &Connections,
        process: &mut Process,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let mut ends = Vec::new();
        for topic in input_topics(&connections.prefix) {
            for partition in 0..connections.partitions {
                let at = TopicPartition::new(topic.as_str(), partition);
                let marks = connections.broker.watermarks(&at)?;
                if marks.high > marks.low {
                    ends.push((at, marks.high));
                }
            }
        }
        let inputs: Vec<TopicPartition> = ends.iter().map(|(at, _)| at.clone()).collect();
        let group = format!("{}-peer", connections.prefix);
        until("the Kafka Streams peer has committed all inputs", limit, || {
            ensure!(process.runs(), "the Kafka Streams peer ended; run its java command by hand to see why");
            let committed = connections.broker.committed(&group, &inputs)?;
            let at = |wanted: &TopicPartition| -> Option<&CommittedOffset> {
                committed.iter().find(|offset| offset.partition == *wanted)
            };
            Ok(ends.iter().all(|(input, end)| at(input).is_some_and(|offset| offset.offset >= *end)))
        })
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
