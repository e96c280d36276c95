//! Where broker, registry and ClickHouse are.
//! It must never connect to anything but loopback.

use anyhow::ensure;
use plimsoll_kit::config::{KafkaConfig, SchemaRegistryConfig};
use plimsoll_kit::transport::Connections;

/// Partitions of the topics, as in development.
pub const PARTITIONS: u32 = 4;

#[derive(Clone, Debug, clap::Args)]
pub struct Servers {
    /// Bootstrap server.
    #[arg(long, env = "PLIMSOLL_TEST_KAFKA", default_value = "")]
    pub kafka: String,
    /// Schema registry.
    #[arg(long, env = "PLIMSOLL_TEST_SCHEMA_REGISTRY", default_value = "")]
    pub registry: String,
    /// ClickHouse; only for `pipeline`.
    #[arg(long, env = "PLIMSOLL_TEST_CLICKHOUSE")]
    pub clickhouse: Option<String>,
}

impl Servers {
    pub fn kafka_config(&self, prefix: &str) -> KafkaConfig {
        KafkaConfig {
            brokers: vec![self.kafka.clone()],
            topic_prefix: prefix.to_owned(),
            partitions: PARTITIONS,
            replication_factor: Some(1),
            ..KafkaConfig::default()
        }
    }

    pub fn registry_config(&self) -> SchemaRegistryConfig {
        SchemaRegistryConfig { url: Some(self.registry.clone()), ..SchemaRegistryConfig::default() }
    }

    /// # Errors
    /// A server that is not on loopback, or a wrong address.
    pub fn connect(&self, prefix: &str) -> anyhow::Result<Connections> {
        ensure!(
            !self.kafka.is_empty() && !self.registry.is_empty(),
            "--kafka and --registry are needed; `cargo xtask stack run` starts both and says where they are"
        );
        let all = [Some(&self.kafka), Some(&self.registry), self.clickhouse.as_ref()];
        for server in all.into_iter().flatten() {
            let host = server.split("://").last().unwrap_or(server);
            let local = ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| host.starts_with(name));
            ensure!(local, "{server} is not on loopback; load tests are for servers of your own machine");
        }
        Ok(Connections::open(&self.kafka_config(prefix), &self.registry_config())?)
    }
}
