//! Rebalances of a group member, noted for the caller of `poll`.
//! Never gives partitions up before the caller was told, except while the member closes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;

use super::client::{self, Hints};
use super::queue::Signal;
use crate::broker::types::TopicPartition;

/// A rebalance that the caller was not told yet.
pub(super) enum Rebalance {
    Assign(Vec<TopicPartition>),
    Revoke { lost: bool },
}

/// What a group member's client tells between calls.
pub(super) struct Context {
    pub hints: Hints,
    pub signal: Arc<Signal>,
    pub rebalances: Mutex<VecDeque<Rebalance>>,
    /// While closing, partitions are given up at once.
    pub closing: AtomicBool,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.hints.set(code, reason);
        }
    }
}

impl ConsumerContext for Context {
    /// Only notes the rebalance: the group waits (and this member keeps its place) until `poll` has told the caller and
    /// calls assign or unassign.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.closing.load(Ordering::SeqCst) {
            // Nothing is left to do with a failure here: the consumer goes.
            let _ = consumer.unassign();
            return;
        }
        let event = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(partitions_of(list)),
            _ => Rebalance::Revoke { lost: consumer.assignment_lost() },
        };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
    }
}

fn partitions_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let mut partitions: Vec<TopicPartition> = list
        .elements()
        .iter()
        .filter_map(|e| Some(TopicPartition::new(e.topic(), u32::try_from(e.partition()).ok()?)))
        .collect();
    partitions.sort();
    partitions
}
