//! What all events have in common: topic, key and envelope.
//! It must never let two producers share a sequence: each life of a producer has its own boot id.

use std::sync::atomic::{AtomicI64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// An event type; implemented by the build for every schema in `topics.yaml`.
pub trait Event: Serialize + DeserializeOwned + Default + Clone + Send + 'static {
    /// Topic without prefix and generation.
    const TOPIC: &'static str;
    /// Name of the Avro record.
    const RECORD: &'static str;
    /// Avro schema of the current version.
    const SCHEMA: &'static str;
    /// Artifact key as text.
    fn artifact(&self) -> &str;
    /// Entity id: the part of the message key behind the artifact key.
    fn entity(&self) -> Vec<u8>;
    /// The envelope; `None` for internal topics without one.
    fn envelope_mut(&mut self) -> Option<EnvelopeMut<'_>>;
}

/// Mutable view of the envelope that every event carries.
pub struct EnvelopeMut<'a> {
    /// Identity of the producing instance.
    pub producer_id: &'a mut String,
    /// Identity of one life of the producer.
    pub boot_id: &'a mut String,
    /// Number within the boot, from 1.
    pub sequence: &'a mut i64,
    /// When the event was written, milliseconds since the Unix epoch.
    pub emitted_at_ms: &'a mut i64,
}

/// Stamps the envelope of outgoing events for one life of a producer.
pub struct Stamper {
    producer_id: String,
    boot_id: String,
    sequence: AtomicI64,
}

impl Stamper {
    /// A stamper for one life of `producer_id`; `boot_id` must be new for each life.
    pub fn new(producer_id: impl Into<String>, boot_id: impl Into<String>) -> Self {
        Self { producer_id: producer_id.into(), boot_id: boot_id.into(), sequence: AtomicI64::new(0) }
    }

    /// The boot id that is stamped.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Fills the envelope; `now_ms` is milliseconds since the Unix epoch.
    pub fn stamp<E: Event>(&self, event: &mut E, now_ms: i64) {
        if let Some(envelope) = event.envelope_mut() {
            envelope.producer_id.clone_from(&self.producer_id);
            envelope.boot_id.clone_from(&self.boot_id);
            *envelope.sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
            *envelope.emitted_at_ms = now_ms;
        }
    }
}
