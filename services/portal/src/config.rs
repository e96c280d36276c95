//! The portal's configuration: where it listens, who may read, where ClickHouse is.
//! It must never print a secret; secrets come from files or the environment.

use std::path::PathBuf;

use plimsoll_kit::config::{
    AdminConfig, ClickHouseServer, KafkaConfig, SchemaRegistryConfig, Sensitive, TelemetryConfig,
};
use serde::{Deserialize, Serialize};

/// Everything that can be set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PortalConfig {
    /// The portal's own keys.
    pub portal: PortalSection,
    /// The database that it reads.
    pub clickhouse: ClickHouseConfig,
    /// Optional: a broker to publish scan requests to. Without it `POST /api/v1/scan-requests` answers 501.
    pub kafka: KafkaConfig,
    /// Needed where a broker is set.
    pub schema_registry: SchemaRegistryConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// `/healthz`, `/readyz`, `/metrics`.
    pub admin: AdminConfig,
}

plimsoll_kit::service_config!(PortalConfig);

/// Where the portal listens and who may read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct PortalSection {
    /// Address and port; port 0 takes a free one. Anything but a loopback address needs a token.
    pub bind: String,
    /// File to which the address in use is written as `host:port`, once the portal listens.
    pub address_file: Option<PathBuf>,
    /// The token that every request must carry, as bearer token or as password of basic authentication.
    pub token: Option<Sensitive<String>>,
    /// File that holds the token.
    pub token_file: Option<PathBuf>,
}

impl Default for PortalSection {
    fn default() -> Self {
        Self { bind: "127.0.0.1:8080".into(), address_file: None, token: None, token_file: None }
    }
}

/// `clickhouse.*`: the database. The account needs no more than SELECT.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct ClickHouseConfig {
    /// How to reach it.
    #[serde(flatten)]
    pub server: ClickHouseServer,
    /// Longest time that one query may take, in milliseconds. A whole report may take six times as long.
    pub query_timeout_ms: u64,
}

impl Default for ClickHouseConfig {
    fn default() -> Self {
        Self { server: ClickHouseServer::default(), query_timeout_ms: 10_000 }
    }
}
