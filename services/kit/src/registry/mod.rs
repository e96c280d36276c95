//! The registry of Avro schemas: over HTTP by Confluent's API, or in memory.
//! Never blocks the hot path: what was seen once is answered from a cache.

mod http;
mod memory;

use std::sync::Arc;

use plimsoll_schemas::codec::{CodecError, SchemaStore};

pub use http::HttpRegistry;
pub use memory::MemoryRegistry;

/// Compatibility of all subjects (DESIGN section 2).
pub const COMPATIBILITY: &str = "FULL_TRANSITIVE";

/// The subject of a topic's values, Confluent's TopicNameStrategy.
pub fn value_subject(full_topic: &str) -> String {
    format!("{full_topic}-value")
}

/// A registry that did not do what was asked; the text names its URL and the remedy.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// It does not answer, or with an error of its own. Try again.
    #[error("schema registry {url} is not reachable: {reason}; check schema_registry.url and that it runs")]
    Unreachable {
        /// The URL asked.
        url: String,
        /// The system's words.
        reason: String,
    },
    /// It refuses our credentials.
    #[error(
        "schema registry {url} refuses access ({status}); check schema_registry.username and password_file"
    )]
    Unauthorized {
        /// The URL asked.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// It refuses the schema, for example as incompatible with the registered ones: this version must not run
    /// against that pipeline.
    #[error("schema registry {url} refuses the schema of {subject} ({status}): {reason}")]
    Refused {
        /// The URL asked.
        url: String,
        /// The subject.
        subject: String,
        /// HTTP status.
        status: u16,
        /// Its words.
        reason: String,
    },
    /// It has no such schema.
    #[error("schema registry {url} has no schema {id}; was the record written against another registry?")]
    UnknownSchema {
        /// The URL asked.
        url: String,
        /// The schema's id.
        id: u32,
    },
    /// Its URL is not usable.
    #[error("schema_registry.url {0:?} is not an http or https URL")]
    InvalidUrl(String),
}

impl RegistryError {
    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl From<RegistryError> for CodecError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::UnknownSchema { id, .. } => CodecError::UnknownSchema(id),
            other => CodecError::Registry(other.to_string()),
        }
    }
}

/// A schema registry. Every one is also the codec's [`SchemaStore`].
pub trait SchemaRegistry: SchemaStore {
    /// Its URL, for messages.
    fn name(&self) -> String;

    /// Id of a schema below a subject, registering it if it is new.
    ///
    /// # Errors
    /// [`RegistryError`].
    fn register(&self, subject: &str, schema_json: &str) -> Result<u32, RegistryError>;

    /// Schema of an id.
    ///
    /// # Errors
    /// [`RegistryError`].
    fn schema(&self, id: u32) -> Result<Arc<str>, RegistryError>;

    /// Sets the compatibility rule of a subject.
    ///
    /// # Errors
    /// [`RegistryError`].
    fn set_compatibility(&self, subject: &str, level: &str) -> Result<(), RegistryError>;

    /// Whether it answers.
    ///
    /// # Errors
    /// [`RegistryError`].
    fn check(&self) -> Result<(), RegistryError>;
}

/// Registers a schema below its subject with the project's compatibility rule.
///
/// # Errors
/// [`RegistryError`].
pub fn prepare_subject(
    registry: &dyn SchemaRegistry,
    subject: &str,
    schema_json: &str,
) -> Result<u32, RegistryError> {
    // Registries differ: some know a rule only for a subject that exists.
    let early = registry.set_compatibility(subject, COMPATIBILITY);
    let id = registry.register(subject, schema_json)?;
    if early.is_err() {
        registry.set_compatibility(subject, COMPATIBILITY)?;
    }
    Ok(id)
}
