//! Opens broker and schema registry from configuration, and makes topics and subjects as the contracts say.
//! Never names a topic: the table in `plimsoll_schemas::topics` does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_schemas::codec::Codec;
use plimsoll_schemas::topics::{DEAD_LETTER_RETENTION_MS, DELETE_RETENTION_MS, TOPICS, Topic};

use crate::broker::kafka::KafkaBroker;
use crate::broker::memory::MemoryBroker;
use crate::broker::{Broker, BrokerError, CleanupPolicy, TopicReport, TopicSpec};
use crate::config::{KafkaConfig, SchemaRegistryConfig};
use crate::lifecycle::ServiceContext;
use crate::registry::{
    HttpRegistry, MemoryRegistry, RegistryError, SchemaRegistry, prepare_subject, value_subject,
};

/// Partitions of the memory broker's topics.
const MEMORY_PARTITIONS: u32 = plimsoll_schemas::topics::DEVELOPMENT_PARTITION_COUNT;
/// Wait between two tries to reach what is away at start.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Broker or registry that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The broker's fault, or its configuration's.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The registry's fault, or its configuration's.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The process was asked to end while it waited.
    #[error("asked to end while waiting for broker and schema registry")]
    Ended,
}

impl TransportError {
    /// Whether waiting may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Broker(error) => error.is_retriable(),
            Self::Registry(error) => error.is_retriable(),
            Self::Ended => false,
        }
    }
}

/// Broker and registry of one pipeline. Clones share them.
#[derive(Clone)]
pub struct Connections {
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// The schema registry.
    pub registry: Arc<dyn SchemaRegistry>,
    /// First part of all topic names.
    pub prefix: String,
    /// Partitions of every topic.
    pub partitions: u32,
    replication_factor: Option<u16>,
    warn_after: Duration,
}

impl Connections {
    /// Opens both; needs neither to be up.
    ///
    /// # Errors
    /// A wrong configuration.
    pub fn open(kafka: &KafkaConfig, registry: &SchemaRegistryConfig) -> Result<Self, TransportError> {
        Ok(Self {
            broker: Arc::new(KafkaBroker::new(kafka)?),
            registry: Arc::new(HttpRegistry::new(registry)?),
            prefix: kafka.topic_prefix.clone(),
            partitions: kafka.partitions,
            replication_factor: kafka.replication_factor,
            warn_after: Duration::from_millis(kafka.start_timeout_ms),
        })
    }

    /// A pipeline inside this process, for local mode and tests.
    pub fn memory() -> Self {
        Self::from_memory(MemoryBroker::new())
    }

    /// As [`Connections::memory`], over a broker that the caller keeps (for its faults).
    pub fn from_memory(broker: MemoryBroker) -> Self {
        Self {
            broker: Arc::new(broker),
            registry: Arc::new(MemoryRegistry::new()),
            prefix: "plimsoll".into(),
            partitions: MEMORY_PARTITIONS,
            replication_factor: None,
            warn_after: Duration::from_secs(1),
        }
    }

    /// A codec over this registry, for this prefix and partition count.
    pub fn codec(&self) -> Arc<Codec> {
        Arc::new(Codec::new(self.registry.clone(), self.prefix.clone(), self.partitions))
    }

    /// Specifications of all topics, dead letters included.
    pub fn topic_specs(&self) -> Vec<TopicSpec> {
        TOPICS.iter().flat_map(|topic| self.specs_of(topic)).collect()
    }

    fn specs_of(&self, topic: &Topic) -> Vec<TopicSpec> {
        let cleanup = if topic.compact { CleanupPolicy::Compact } else { CleanupPolicy::Delete };
        let mut spec = TopicSpec::new(topic.full_name(&self.prefix), self.partitions, cleanup);
        spec.replication_factor = self.replication_factor;
        if topic.compact {
            spec.settings.insert("delete.retention.ms".into(), DELETE_RETENTION_MS.to_string());
        } else {
            spec.retention_ms = Some(topic.retention_ms);
        }
        let mut specs = vec![spec];
        if topic.dead_letter {
            let name = topic.dead_letter_name(&self.prefix);
            let mut letters = TopicSpec::new(name, self.partitions, CleanupPolicy::Delete);
            letters.replication_factor = self.replication_factor;
            letters.retention_ms = Some(DEAD_LETTER_RETENTION_MS);
            specs.push(letters);
        }
        specs
    }

    /// Creates and checks all topics, and registers all schemas with their compatibility. Idempotent; every service
    /// does it at start.
    ///
    /// # Errors
    /// What exists differs from the contracts, or broker or registry are away (retriable).
    pub fn prepare_once(&self) -> Result<TopicReport, TransportError> {
        let report = self.broker.ensure_topics(&self.topic_specs())?;
        for topic in TOPICS {
            let subject = value_subject(&topic.full_name(&self.prefix));
            prepare_subject(&*self.registry, &subject, topic.schema_json)?;
        }
        Ok(report)
    }

    /// As [`Connections::prepare_once`], trying again until `deadline` while broker or registry are away.
    ///
    /// # Errors
    /// As there; the last one at the deadline.
    pub fn prepare_until(&self, deadline: Instant) -> Result<TopicReport, TransportError> {
        loop {
            match self.prepare_once() {
                Err(error) if error.is_retriable() && Instant::now() < deadline => {
                    std::thread::sleep(
                        RETRY_INTERVAL.min(deadline.saturating_duration_since(Instant::now())),
                    );
                }
                done => return done,
            }
        }
    }

    /// As [`Connections::prepare_once`], trying until it works or the process is asked to end; meanwhile `/readyz` and
    /// the log say what is missing.
    ///
    /// # Errors
    /// What trying again does not mend, or [`TransportError::Ended`].
    pub fn prepare(&self, context: &ServiceContext) -> Result<TopicReport, TransportError> {
        let check = context.health.readiness("transport");
        let mut last_warning: Option<Instant> = None;
        loop {
            match self.prepare_once() {
                Ok(report) => {
                    if !report.created.is_empty() {
                        tracing::info!(
                            "created {} topics: {}",
                            report.created.len(),
                            report.created.join(", ")
                        );
                    }
                    check.ready();
                    return Ok(report);
                }
                Err(error) if error.is_retriable() => {
                    check.not_ready(error.to_string());
                    if last_warning.is_none_or(|last| last.elapsed() >= self.warn_after) {
                        tracing::warn!("waiting: {error}");
                        last_warning = Some(Instant::now());
                    }
                }
                Err(error) => return Err(error),
            }
            if context.shutdown.wait(RETRY_INTERVAL) {
                return Err(TransportError::Ended);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_topics_are_made_once() {
        let connections = Connections::memory();
        let specs = connections.topic_specs();
        let letters = TOPICS.iter().filter(|topic| topic.dead_letter).count();
        assert_eq!(specs.len(), TOPICS.len() + letters);
        assert_eq!(connections.prepare_once().unwrap().created.len(), specs.len());
        assert!(connections.prepare_once().unwrap().created.is_empty());
        for spec in &specs {
            assert_eq!(connections.broker.partition_count(&spec.name).unwrap(), connections.partitions);
        }
    }
}
