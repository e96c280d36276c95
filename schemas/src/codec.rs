//! Events to and from bytes: Avro in the Confluent wire format, keys and partitions included.
//! It must never guess: a record that cannot be decoded, or whose key and value disagree, is an error.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use thiserror::Error;

use crate::avro::{self, WriterSchema};
use crate::event::Event;
use crate::identity::check_artifact_key;
use crate::{key, partition, topics};

/// Longest encoded value, in bytes: below Kafka's default limit of 1 MiB with room for key and headers.
pub const VALUE_MAX_BYTES: usize = 960 * 1024;
/// Most writer schemas kept parsed; a registry that hands out more than this is not ours.
pub const SCHEMA_CACHE_MAX_ENTRIES: usize = 4096;
/// First byte of the Confluent wire format.
const MAGIC: u8 = 0;

/// Why an event could not be encoded or decoded.
#[derive(Clone, Debug, Error)]
pub enum CodecError {
    /// The registry could not be asked; the record may be fine. Try again.
    #[error("schema registry: {0}")]
    Registry(String),
    /// The registry does not know the schema id: the record's producer is at fault.
    #[error("schema id {0} is not in the registry; was the record written against another registry?")]
    UnknownSchema(u32),
    /// The value is not in the Confluent wire format.
    #[error("value of {0} bytes is not in the Confluent wire format (0, 4-byte schema id, Avro body)")]
    NotFramed(usize),
    /// The body does not fit its schema, or its schema does not fit the event.
    #[error("value does not decode as {topic}: {reason}")]
    Undecodable {
        /// Topic without prefix.
        topic: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// The event cannot be written.
    #[error("event for {topic} does not encode: {reason}")]
    Unencodable {
        /// Topic without prefix.
        topic: &'static str,
        /// What the encoder said.
        reason: String,
    },
    /// The value is larger than a record may be; the producer must chunk it.
    #[error(
        "event for {topic} has {size_bytes} bytes, at most {VALUE_MAX_BYTES} are allowed; it must be chunked"
    )]
    TooLarge {
        /// Topic without prefix.
        topic: &'static str,
        /// Encoded size in bytes.
        size_bytes: usize,
    },
    /// The artifact key in the event is not a valid one.
    #[error("{0}")]
    Identity(#[from] crate::identity::IdentityError),
    /// Message key and value speak of different artifacts or entities.
    #[error("message key {0:?} does not belong to the value")]
    KeyMismatch(String),
}

impl CodecError {
    /// Whether the same bytes may decode later. Everything else belongs in the dead letters.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Registry(_))
    }
}

/// Schema ids of a registry. Implementations cache; a lookup of what was seen never blocks.
pub trait SchemaStore: Send + Sync {
    /// Id of `schema` (JSON) below `subject`, registering it if it is new.
    ///
    /// # Errors
    /// [`CodecError::Registry`] if the registry cannot be asked or refuses the schema.
    fn id_of(&self, subject: &str, schema: &str) -> Result<u32, CodecError>;

    /// Schema (JSON) of an id.
    ///
    /// # Errors
    /// [`CodecError::UnknownSchema`] if there is none, [`CodecError::Registry`] if the registry cannot be asked.
    fn schema_by_id(&self, id: u32) -> Result<Arc<str>, CodecError>;
}

/// A record ready for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedRecord {
    /// Full topic name.
    pub topic: Arc<str>,
    /// Partition, from the artifact key.
    pub partition: u32,
    /// Message key.
    pub key: Vec<u8>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// What writing to a topic needs.
#[derive(Clone)]
struct Written {
    topic: Arc<str>,
    schema_id: u32,
}

/// Encodes and decodes the events of one pipeline: one topic prefix, one partition count, one registry.
pub struct Codec {
    store: Arc<dyn SchemaStore>,
    prefix: String,
    partition_count: u32,
    written: RwLock<HashMap<&'static str, Written>>,
    readers: RwLock<HashMap<u32, Arc<WriterSchema>>>,
}

impl Codec {
    /// A codec for the pipeline below `prefix` whose topics all have `partition_count` partitions.
    pub fn new(store: Arc<dyn SchemaStore>, prefix: impl Into<String>, partition_count: u32) -> Self {
        assert!(partition_count > 0, "topics have at least one partition");
        Self {
            store,
            prefix: prefix.into(),
            partition_count,
            written: RwLock::default(),
            readers: RwLock::default(),
        }
    }

    /// Topic prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Partitions of every topic.
    pub fn partition_count(&self) -> u32 {
        self.partition_count
    }

    /// Full name of the topic of `E`.
    pub fn topic<E: Event>(&self) -> String {
        topics::full_name(&self.prefix, E::TOPIC)
    }

    /// Partition of an artifact key in every topic.
    pub fn partition(&self, artifact_key: &str) -> u32 {
        partition::murmur2_partition(artifact_key.as_bytes(), self.partition_count)
    }

    /// Encodes an event with its key and partition.
    ///
    /// # Errors
    /// If the artifact key is invalid, the value is too large, or the registry cannot give the schema's id.
    pub fn encode<E: Event>(&self, event: &E) -> Result<EncodedRecord, CodecError> {
        check_artifact_key(event.artifact())?;
        let Written { topic, schema_id } = self.written::<E>()?;
        let value = framed(schema_id, event)?;
        Ok(EncodedRecord {
            topic,
            partition: self.partition(event.artifact()),
            key: key::message_key(event.artifact(), &event.entity()),
            value: Some(value),
        })
    }

    /// The tombstone of the entity that `event` describes.
    pub fn tombstone<E: Event>(&self, event: &E) -> EncodedRecord {
        let known = read_lock(&self.written).get(E::TOPIC).map(|written| written.topic.clone());
        EncodedRecord {
            topic: known.unwrap_or_else(|| self.topic::<E>().into()),
            partition: self.partition(event.artifact()),
            key: key::message_key(event.artifact(), &event.entity()),
            value: None,
        }
    }

    /// Encodes a value in the Confluent wire format.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn encode_value<E: Event>(&self, event: &E) -> Result<Vec<u8>, CodecError> {
        framed(self.written::<E>()?.schema_id, event)
    }

    /// Decodes a record and checks that its key belongs to it. The writer's schema decides how the bytes are read;
    /// fields that it lacks get their defaults, fields that we do not know are passed over.
    ///
    /// # Errors
    /// See [`CodecError`]; only [`CodecError::is_retriable`] errors may succeed later.
    pub fn decode<E: Event>(&self, message_key: &[u8], value: &[u8]) -> Result<E, CodecError> {
        let event: E = self.decode_value(value)?;
        check_artifact_key(event.artifact())?;
        if !key::is_message_key(message_key, event.artifact(), &event.entity()) {
            let shown = String::from_utf8_lossy(&message_key[..message_key.len().min(256)]).into_owned();
            return Err(CodecError::KeyMismatch(shown));
        }
        Ok(event)
    }

    /// Decodes a value without its key.
    ///
    /// # Errors
    /// As [`Codec::decode`].
    pub fn decode_value<E: Event>(&self, value: &[u8]) -> Result<E, CodecError> {
        let (id, body) = unframed(value).ok_or(CodecError::NotFramed(value.len()))?;
        let schema = self.reader(id)?;
        if schema.record() != E::RECORD {
            let reason = "the record was written with the schema of another event".to_owned();
            return Err(CodecError::Undecodable { topic: E::TOPIC, reason });
        }
        avro::from_slice(body, &schema)
            .map_err(|error| CodecError::Undecodable { topic: E::TOPIC, reason: error.to_string() })
    }

    fn written<E: Event>(&self) -> Result<Written, CodecError> {
        if let Some(written) = read_lock(&self.written).get(E::TOPIC) {
            return Ok(written.clone());
        }
        let topic = self.topic::<E>();
        let schema_id = self.store.id_of(&format!("{topic}-value"), E::SCHEMA)?;
        let written = Written { topic: topic.into(), schema_id };
        write_lock(&self.written).insert(E::TOPIC, written.clone());
        Ok(written)
    }

    fn reader(&self, id: u32) -> Result<Arc<WriterSchema>, CodecError> {
        if let Some(schema) = read_lock(&self.readers).get(&id) {
            return Ok(Arc::clone(schema));
        }
        let json = self.store.schema_by_id(id)?;
        let schema = WriterSchema::parse(&json).map(Arc::new).map_err(|error| CodecError::Undecodable {
            topic: "schema",
            reason: format!("schema {id} does not parse: {error}"),
        })?;
        let mut readers = write_lock(&self.readers);
        if readers.len() >= SCHEMA_CACHE_MAX_ENTRIES {
            readers.clear();
        }
        readers.insert(id, Arc::clone(&schema));
        Ok(schema)
    }
}

thread_local! {
    /// Where values grow, so that each is allocated once and in its size.
    static GROWING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The value in the Confluent wire format.
fn framed<E: Event>(schema_id: u32, event: &E) -> Result<Vec<u8>, CodecError> {
    let mut growing = GROWING.take();
    growing.clear();
    growing.push(MAGIC);
    growing.extend_from_slice(&schema_id.to_be_bytes());
    let grown = avro::to_vec(event, growing)
        .map_err(|error| CodecError::Unencodable { topic: E::TOPIC, reason: error.to_string() })?;
    let value = if grown.len() > VALUE_MAX_BYTES {
        Err(CodecError::TooLarge { topic: E::TOPIC, size_bytes: grown.len() })
    } else {
        Ok(grown.as_slice().to_vec())
    };
    if grown.capacity() <= VALUE_MAX_BYTES {
        GROWING.set(grown);
    }
    value
}

fn read_lock<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write_lock<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Id of the schema that an encoded value was written with; `None` if it is not framed as Confluent's wire format says.
#[must_use]
pub fn schema_id(value: &[u8]) -> Option<u32> {
    unframed(value).map(|(id, _)| id)
}

fn unframed(value: &[u8]) -> Option<(u32, &[u8])> {
    let [MAGIC, a, b, c, d, body @ ..] = value else { return None };
    Some((u32::from_be_bytes([*a, *b, *c, *d]), body))
}
