//! The records of the output topics, and the hash by which a record that did not change is not sent again.
//! A record must be a function of the state: no time of sending, no number of its own stands in it.

use plimsoll_schemas::event::Event as _;
use plimsoll_schemas::events::{
    CorrelationAlert, CorrelationArtifact, CorrelationFinding, CorrelationPackage, CorrelationUsage,
};
use plimsoll_schemas::key::SEPARATOR;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::entity::{self, EmittedKey, OutputTopic};

/// `producer_id` of all outputs; boot and sequence stay empty, since a replay must give the same bytes.
pub(crate) const PRODUCER_ID: &str = "correlator";

/// A record to send. Boxed, since maps and lists of a kilobyte for each entry cost more than what stands in them.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// correlation.artifacts.
    Artifact(Box<CorrelationArtifact>),
    /// correlation.packages.
    Package(Box<CorrelationPackage>),
    /// correlation.usage.
    Usage(Box<CorrelationUsage>),
    /// correlation.findings.
    Finding(Box<CorrelationFinding>),
    /// correlation.alerts.
    Alert(Box<CorrelationAlert>),
    /// The entity of the topic is gone.
    Tombstone {
        /// Topic without prefix and generation.
        topic: &'static str,
        /// Entity id: the message key behind the artifact key.
        entity: Vec<u8>,
    },
}

impl Output {
    /// Topic without prefix and generation.
    pub fn topic(&self) -> &'static str {
        match self {
            Self::Artifact(_) => CorrelationArtifact::TOPIC,
            Self::Package(_) => CorrelationPackage::TOPIC,
            Self::Usage(_) => CorrelationUsage::TOPIC,
            Self::Finding(_) => CorrelationFinding::TOPIC,
            Self::Alert(_) => CorrelationAlert::TOPIC,
            Self::Tombstone { topic, .. } => topic,
        }
    }

    /// Entity id: the message key behind the artifact key.
    pub fn entity(&self) -> Vec<u8> {
        match self {
            Self::Artifact(record) => record.entity(),
            Self::Package(record) => record.entity(),
            Self::Usage(record) => record.entity(),
            Self::Finding(record) => record.entity(),
            Self::Alert(record) => record.entity(),
            Self::Tombstone { entity, .. } => entity.clone(),
        }
    }

    /// `buffer` is only for working in: what it holds is overwritten.
    pub(crate) fn hash(&self, buffer: &mut Vec<u8>) -> u64 {
        match self {
            Self::Artifact(record) => hash(record, buffer),
            Self::Package(record) => hash(record, buffer),
            Self::Usage(record) => hash(record, buffer),
            Self::Finding(record) => hash(record, buffer),
            Self::Alert(record) => hash(record, buffer),
            Self::Tombstone { .. } => 0,
        }
    }

    /// The tombstone of a record emitted for `id` (a package, an alert; empty for the artifact).
    pub(crate) fn tombstone(id: &str, key: &EmittedKey) -> Self {
        let parts: Vec<String> = match key.topic {
            OutputTopic::Artifact => Vec::new(),
            OutputTopic::Package | OutputTopic::Alert => vec![id.to_owned()],
            OutputTopic::Finding => vec![id.to_owned(), key.part.clone()],
            OutputTopic::Usage => vec![key.part.clone(), id.to_owned(), key.chunk.to_string()],
        };
        let topic = match key.topic {
            OutputTopic::Artifact => CorrelationArtifact::TOPIC,
            OutputTopic::Package => CorrelationPackage::TOPIC,
            OutputTopic::Usage => CorrelationUsage::TOPIC,
            OutputTopic::Finding => CorrelationFinding::TOPIC,
            OutputTopic::Alert => CorrelationAlert::TOPIC,
        };
        Self::Tombstone { topic, entity: parts.join(&char::from(SEPARATOR).to_string()).into_bytes() }
    }
}

fn hash<T: Serialize>(record: &T, buffer: &mut Vec<u8>) -> u64 {
    entity::encode_into(record, buffer);
    let digest: [u8; 32] = Sha256::digest(buffer).into();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_have_the_key_of_what_they_delete() {
        let key = |topic, part: &str, chunk| EmittedKey { topic, part: part.into(), chunk };
        let usage = CorrelationUsage {
            application: "a b".into(),
            component: "c".into(),
            component_version: "1".into(),
            package_id: "p".into(),
            chunk: 3,
            ..CorrelationUsage::default()
        };
        let finding = CorrelationFinding {
            package_id: "p".into(),
            vulnerability_id: "CVE-1".into(),
            ..CorrelationFinding::default()
        };
        let package = CorrelationPackage { package_id: "p".into(), ..CorrelationPackage::default() };
        let alert = CorrelationAlert { alert_id: "p".into(), ..CorrelationAlert::default() };
        let cases = [
            (Output::Usage(usage.into()), key(OutputTopic::Usage, "a%20b/c/1", 3)),
            (Output::Finding(finding.into()), key(OutputTopic::Finding, "CVE-1", 0)),
            (Output::Package(package.into()), key(OutputTopic::Package, "", 0)),
            (Output::Alert(alert.into()), key(OutputTopic::Alert, "", 0)),
            (Output::Artifact(Box::default()), key(OutputTopic::Artifact, "", 0)),
        ];
        for (record, key) in cases {
            let tombstone = Output::tombstone("p", &key);
            assert_eq!((tombstone.topic(), tombstone.entity()), (record.topic(), record.entity()));
        }
    }
}
