//! Configuration of the command: where servers are, if any, and where local state lies.
//! It must never need a server to be configured: without a broker everything runs locally.

use std::path::PathBuf;

use plimsoll_kit::config::{
    AdminConfig, DOCKER_HOST, KafkaConfig, SchemaRegistryConfig, Sensitive, StateConfig, TelemetryConfig,
};
use serde::{Deserialize, Serialize};

/// Configuration of the command line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CliConfig {
    /// The broker; without one everything runs locally.
    pub kafka: KafkaConfig,
    /// The schema registry.
    pub schema_registry: SchemaRegistryConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Unused by the command; there so that one file serves all.
    pub admin: AdminConfig,
    /// The portal, which answers reports where a broker is configured.
    pub portal: PortalAccess,
    /// Vulnerability database; default `$XDG_DATA_HOME/plimsoll/vulnerabilities.db`.
    pub database: Option<PathBuf>,
    /// Container engine.
    pub docker: DockerAccess,
    /// Local state; default `$XDG_STATE_HOME/plimsoll`.
    pub state: StateConfig,
}

/// How to reach the container engine; the key is kit's, the default is this command's own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerAccess {
    /// Endpoint of the engine's API; default `$DOCKER_HOST`, else `unix:///var/run/docker.sock`.
    pub host: Option<String>,
}

/// How to reach the portal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PortalAccess {
    /// Address, for example `http://127.0.0.1:8080`.
    pub url: Option<String>,
    /// Token, where the portal wants one.
    pub token: Option<Sensitive<String>>,
    /// File with the token.
    pub token_file: Option<PathBuf>,
}

plimsoll_kit::service_config!(CliConfig);

impl CliConfig {
    /// Whether servers are configured.
    pub fn has_broker(&self) -> bool {
        !self.kafka.brokers.is_empty()
    }

    /// The vulnerability database's path.
    pub fn database_path(&self) -> PathBuf {
        self.database.clone().unwrap_or_else(|| {
            xdg("XDG_DATA_HOME", ".local/share", "/var/lib/plimsoll").join("vulnerabilities.db")
        })
    }

    /// The container engine's endpoint.
    pub fn docker_host(&self) -> String {
        let environment = || std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        self.docker.host.clone().or_else(environment).unwrap_or_else(|| DOCKER_HOST.to_owned())
    }

    /// Directory of local state.
    pub fn state_directory(&self) -> PathBuf {
        self.state
            .directory
            .clone()
            .unwrap_or_else(|| xdg("XDG_STATE_HOME", ".local/state", "/var/lib/plimsoll"))
    }
}

/// `plimsoll` below a base directory (XDG Base Directory Specification 0.8).
fn xdg(variable: &str, below_home: &str, homeless: &str) -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable)
        .or_else(|| absolute("HOME").map(|home| home.join(below_home)))
        .map_or_else(|| PathBuf::from(homeless), |base| base.join("plimsoll"))
}
