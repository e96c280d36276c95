//! The sections of configuration that services share.
//! Never holds a key of one service only.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sensitive::Sensitive;

/// `kafka.*`: the broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct KafkaConfig {
    /// Bootstrap servers, `host:port`. Empty: no broker is configured (local mode of the cli).
    pub brokers: Vec<String>,
    /// First part of all topic names; one per tenant.
    pub topic_prefix: String,
    /// Partitions of the topics that this process creates and expects. Fixed at creation, the same everywhere.
    pub partitions: u32,
    /// Replication factor of topics at creation; unset: the broker's default.
    pub replication_factor: Option<u16>,
    /// How to talk to the broker.
    pub security_protocol: SecurityProtocol,
    /// Credentials, for `sasl_plaintext` and `sasl_ssl`.
    pub sasl: SaslConfig,
    /// Certificates, for `ssl` and `sasl_ssl`.
    pub tls: KafkaTlsConfig,
    /// How long one request to the broker may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long a start waits for the broker, in milliseconds, before it says so and goes on trying.
    pub start_timeout_ms: u64,
    /// Further librdkafka settings, for tuning. Settings that the guarantees rest on are refused.
    pub client: BTreeMap<String, String>,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            topic_prefix: "plimsoll".into(),
            partitions: 48,
            replication_factor: None,
            security_protocol: SecurityProtocol::Plaintext,
            sasl: SaslConfig::default(),
            tls: KafkaTlsConfig::default(),
            request_timeout_ms: 10_000,
            start_timeout_ms: 60_000,
            client: BTreeMap::new(),
        }
    }
}

impl KafkaConfig {
    /// Whether a broker is configured.
    pub fn is_configured(&self) -> bool {
        !self.brokers.is_empty()
    }
    /// `request_timeout_ms` as a duration.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }
}

/// `kafka.security_protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProtocol {
    /// Neither encryption nor authentication.
    #[default]
    Plaintext,
    /// TLS; the server's certificate and name are always verified.
    Ssl,
    /// SASL without encryption.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// As in Kafka's `security.protocol`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }
    /// Whether credentials are used.
    pub fn uses_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
    /// Whether the connection is encrypted.
    pub fn uses_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

/// `kafka.sasl.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct SaslConfig {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: String,
    /// User name.
    pub username: Option<String>,
    /// Password; better by `password_file`.
    pub password: Option<Sensitive<String>>,
    /// File that holds the password.
    pub password_file: Option<PathBuf>,
}

impl Default for SaslConfig {
    fn default() -> Self {
        Self { mechanism: "SCRAM-SHA-512".into(), username: None, password: None, password_file: None }
    }
}

/// `kafka.tls.*`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KafkaTlsConfig {
    /// Certificates of the authorities to trust (PEM); unset: the system's.
    pub ca_file: Option<PathBuf>,
    /// Own certificate (PEM), for mutual TLS.
    pub certificate_file: Option<PathBuf>,
    /// Own private key (PEM).
    pub key_file: Option<PathBuf>,
    /// Password of the private key; better by `key_password_file`.
    pub key_password: Option<Sensitive<String>>,
    /// File that holds the private key's password.
    pub key_password_file: Option<PathBuf>,
}

/// `schema_registry.*`: the registry of Avro schemas, by Confluent's API.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct SchemaRegistryConfig {
    /// Base URL, for example `http://127.0.0.1:8081`. Unset: none is configured (local mode of the cli).
    pub url: Option<String>,
    /// User name for basic authentication.
    pub username: Option<String>,
    /// Password; better by `password_file`.
    pub password: Option<Sensitive<String>>,
    /// File that holds the password.
    pub password_file: Option<PathBuf>,
    /// How long one request may take, in milliseconds.
    pub request_timeout_ms: u64,
}

impl Default for SchemaRegistryConfig {
    fn default() -> Self {
        Self { url: None, username: None, password: None, password_file: None, request_timeout_ms: 5_000 }
    }
}

/// Default of `docker.host`, the container engine's endpoint: where it usually listens.
pub const DOCKER_HOST: &str = "unix:///var/run/docker.sock";

/// `state.*`: what a service keeps over its restarts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StateConfig {
    /// Directory; each service keeps its own in a folder of its name in it. Unset: see the service.
    pub directory: Option<PathBuf>,
}

/// `clickhouse.*`: how to reach the database, for all that do; flattened into a section with keys of their own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct ClickHouseServer {
    /// Base URL of the HTTP interface; with `https://` the server's certificate is verified.
    pub url: String,
    /// Database of the tables.
    pub database: String,
    /// User name.
    pub user: String,
    /// Password; better by `password_file`.
    pub password: Option<Sensitive<String>>,
    /// File that holds the password.
    pub password_file: Option<PathBuf>,
}

impl Default for ClickHouseServer {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8123".into(),
            database: "plimsoll".into(),
            user: "default".into(),
            password: None,
            password_file: None,
        }
    }
}

/// `telemetry.*`: logs and traces.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct TelemetryConfig {
    /// `text` or `json`, to standard error.
    pub log_format: LogFormat,
    /// Level, or directives as of tracing's `EnvFilter` (`info,plimsoll_sink=debug`).
    pub log_level: String,
    /// OTLP/HTTP endpoint for traces, for example `http://127.0.0.1:4318`. Unset: no traces are exported.
    pub otlp_endpoint: Option<String>,
    /// Share of traces that are exported, 0 to 1.
    pub trace_ratio: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log_format: LogFormat::Text, log_level: "info".into(), otlp_endpoint: None, trace_ratio: 1.0 }
    }
}

/// `telemetry.log_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `admin.*`: health, metrics and shutdown.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct AdminConfig {
    /// Address of `/healthz`, `/readyz` and `/metrics`; port 0 takes a free one; `off`: none.
    pub bind: String,
    /// File that gets the bound address, for what must find a free port.
    pub address_file: Option<PathBuf>,
    /// How long an orderly shutdown may take, in milliseconds.
    pub shutdown_timeout_ms: u64,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { bind: "127.0.0.1:0".into(), address_file: None, shutdown_timeout_ms: 10_000 }
    }
}
