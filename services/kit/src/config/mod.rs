//! Configuration in layers: defaults, file, environment, flags; each value knows where it came from.
//! Never accepts a key that nobody reads, and never shows a secret.
//!
//! Sources, later ones win: the struct's `Default` · a TOML file (`--config`, `PLIMSOLL_CONFIG`, or
//! `/etc/plimsoll/<service>.toml` when it exists) · environment (`kafka.brokers` is `PLIMSOLL_KAFKA_BROKERS`) · flags
//! (`--set kafka.brokers=a:9092,b:9092`). A secret `x` may be given by a file named in its sibling key `x_file`.

mod keys;
mod load;
mod sections;
mod sensitive;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use load::{load, load_from};
pub use sections::*;
pub use sensitive::{HIDDEN, Sensitive};

/// A service's configuration: a struct of sections with `#[serde(default)]` at every level. Implemented by
/// [`service_config!`](crate::service_config).
pub trait ServiceConfig: Serialize + DeserializeOwned + Default {
    /// Logs and traces.
    fn telemetry(&self) -> &TelemetryConfig;
    /// Health, metrics and shutdown.
    fn admin(&self) -> &AdminConfig;
}

/// Implements [`ServiceConfig`](crate::config::ServiceConfig) for a struct with fields `telemetry` and `admin`.
#[macro_export]
macro_rules! service_config {
    ($type:ty) => {
        impl $crate::config::ServiceConfig for $type {
            fn telemetry(&self) -> &$crate::config::TelemetryConfig {
                &self.telemetry
            }
            fn admin(&self) -> &$crate::config::AdminConfig {
                &self.admin
            }
        }
    };
}

/// The flags that every service has; flatten it into its own.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgs {
    /// Configuration file (TOML). Default: $PLIMSOLL_CONFIG, else /etc/plimsoll/<service>.toml if it exists
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set a configuration key, for example kafka.brokers=127.0.0.1:9092; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the configuration in force, with the source of each value and secrets hidden, and exit
    #[arg(long)]
    pub print_config: bool,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The program.
    Default,
    /// A file of configuration.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// `--set`.
    Flag,
    /// A file that holds this one secret.
    SecretFile(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("flag --set"),
            Self::SecretFile(path) => write!(f, "secret file {}", path.display()),
        }
    }
}

/// A configuration that cannot be used; the text names the key, its source and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key that nobody reads.
    #[error("{origin}: unknown key {key}{}", suggestion(.nearest))]
    UnknownKey {
        /// The key, dotted, or the environment variable.
        key: String,
        /// Where it stands.
        origin: Source,
        /// The nearest known key.
        nearest: Option<String>,
    },
    /// A value of the wrong type or outside its range.
    #[error("{origin}: {key}: {reason}")]
    InvalidValue {
        /// The key, dotted.
        key: String,
        /// Where it stands.
        origin: Source,
        /// What was expected.
        reason: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {}: {reason}; check the path given by {given_by}", .path.display())]
    UnreadableFile {
        /// The file.
        path: PathBuf,
        /// Which flag or key names it.
        given_by: String,
        /// The system's or the parser's words.
        reason: String,
    },
    /// `--set` without `=`.
    #[error("--set {0}: expected KEY=VALUE")]
    MalformedSet(String),
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |nearest| format!("; did you mean {nearest}?"))
}

/// A loaded configuration.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The values in force.
    pub value: T,
    /// Source of each key that is not a default.
    pub sources: BTreeMap<String, Source>,
    /// What a person should know but need not fix (a foreign environment variable).
    pub warnings: Vec<String>,
}

impl<T: Serialize> Loaded<T> {
    /// The configuration in force as TOML-like lines `key = value  # source`, secrets hidden.
    pub fn print(&self) -> String {
        let tree = serde_json::to_value(&self.value).unwrap_or_default();
        let mut text = String::new();
        for (key, value) in keys::leaves(&tree) {
            let source = self.sources.get(&key).cloned().unwrap_or(Source::Default);
            let shown = if value.is_null() { "# unset".to_owned() } else { format!("= {value}") };
            text.push_str(&format!("{key} {shown}  # {source}\n"));
        }
        text
    }
}
