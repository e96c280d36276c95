//! The broker as Apache Kafka, by librdkafka.
//! Never shows a type of rdkafka outside this module, and never creates a topic except in `ensure_topics`.

mod admin;
mod client;
mod consumer;
mod errors;
mod producer;
mod queue;
mod reader;
mod rebalance;
mod revival;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{IsError, KafkaError};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use self::client::PlainContext;
use self::revival::Revival;
use super::types::{
    CommittedOffset, GroupOptions, ProducerOptions, ReaderOptions, TopicPartition, TopicReport, TopicSpec,
    Watermarks,
};
use super::{
    Broker, BrokerError, BrokerErrorKind as Kind, BrokerResult, GroupConsumer, PartitionReader, Producer,
};
use crate::config::KafkaConfig;

/// Longest single try of `wait_until_reachable`.
const REACH_STEP: Duration = Duration::from_secs(2);
/// Events of a client handled by one poll.
const CLIENT_EVENTS_MAX: usize = 64;

/// A Kafka cluster.
pub struct KafkaBroker {
    servers: String,
    config: ClientConfig,
    request_timeout: Duration,
    /// For metadata and log ends, as seen by readers of everything.
    all: BaseConsumer<PlainContext>,
    /// For last stable offsets.
    committed_only: BaseConsumer<PlainContext>,
    revival: Revival,
}

impl KafkaBroker {
    /// Opens a cluster; does not need it to be up.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: &KafkaConfig) -> BrokerResult<Self> {
        let servers = config.brokers.join(",");
        let base = client::base_config(config)?;
        let open = |isolation: &str| {
            let mut config = base.clone();
            config.set("client.id", "plimsoll-metadata").set("isolation.level", isolation);
            BaseConsumer::from_config_and_context(&config, PlainContext::default())
                .map_err(|error| errors::from_kafka(&servers, "opening a client", &error, None))
        };
        Ok(Self {
            all: open("read_uncommitted")?,
            committed_only: open("read_committed")?,
            revival: Revival::new(&servers),
            servers,
            config: base,
            request_timeout: config.request_timeout(),
        })
    }

    /// The error of a failed call, with what the connections said meanwhile.
    fn failed(&self, what: &str, error: &KafkaError) -> BrokerError {
        let due = self.revival.is_due();
        for client in [&self.all, &self.committed_only] {
            if due {
                // SAFETY: the client is ours.
                unsafe { self.revival.add(client.client().native_ptr()) };
            }
            // Serves what waits, so that the context hears of it.
            for _ in 0..CLIENT_EVENTS_MAX {
                let _ = client.poll(Duration::ZERO);
            }
        }
        let hints = [&self.all.context().hints, &self.committed_only.context().hints];
        if let Some(reason) = hints.iter().find_map(|hints| hints.refused()) {
            return errors::error(Kind::Unauthorized, &self.servers, what, &reason);
        }
        let hint = hints.iter().find_map(|hints| hints.reason());
        errors::from_kafka(&self.servers, what, error, hint.as_deref())
    }

    /// Forgets what connections said before they worked. Not after a failure: librdkafka says the same only once.
    fn reached(&self) {
        [&self.all, &self.committed_only].iter().for_each(|client| client.context().hints.clear());
    }

    /// Committed offsets of a group. `read_committed` waits for those of a transaction that is being ended.
    fn committed_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        isolation: &str,
    ) -> BrokerResult<Vec<CommittedOffset>> {
        let what = format!("reading committed offsets of group {group}");
        let mut config = self.config.clone();
        config.set("group.id", group).set("isolation.level", isolation);
        let client: BaseConsumer<PlainContext> =
            BaseConsumer::from_config_and_context(&config, PlainContext::default())
                .map_err(|error| self.failed(&what, &error))?;
        client
            .committed_offsets(partition_list(partitions), self.request_timeout)
            .and_then(|list| committed_from(&list))
            .map_err(|error| self.failed(&what, &error))
    }

    /// Partition counts of all topics.
    fn partition_counts(&self) -> BrokerResult<BTreeMap<String, u32>> {
        let metadata = self
            .all
            .fetch_metadata(None, self.request_timeout)
            .map_err(|error| self.failed("reading metadata", &error))?;
        self.reached();
        Ok(metadata
            .topics()
            .iter()
            .map(|topic| {
                (topic.name().to_owned(), u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX))
            })
            .collect())
    }
}

fn partition_list(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, i32::try_from(partition.partition).unwrap_or(i32::MAX));
    }
    list
}

fn offsets_list(offsets: &[CommittedOffset]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for CommittedOffset { partition, offset, metadata } in offsets {
        let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
        let mut element = list.add_partition(&partition.topic, number);
        element.set_offset(Offset::Offset(*offset))?;
        if !metadata.is_empty() {
            element.set_metadata(metadata.as_str());
        }
    }
    Ok(list)
}

/// Those of the list that have a committed offset.
fn committed_from(list: &TopicPartitionList) -> Result<Vec<CommittedOffset>, KafkaError> {
    let mut found = Vec::new();
    for element in list.elements() {
        element.error()?;
        let (Offset::Offset(offset), Ok(partition)) = (element.offset(), u32::try_from(element.partition()))
        else {
            continue;
        };
        let partition = TopicPartition::new(element.topic(), partition);
        found.push(CommittedOffset { partition, offset, metadata: element.metadata().to_owned() });
    }
    Ok(found)
}

impl Broker for KafkaBroker {
    fn name(&self) -> String {
        self.servers.clone()
    }

    fn wait_until_reachable(&self, deadline: Instant) -> BrokerResult<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let step = left.min(REACH_STEP).max(Duration::from_millis(1));
            let Err(error) = self.all.fetch_metadata(None, step) else {
                self.reached();
                return Ok(());
            };
            let error = self.failed("connecting", &error);
            if !error.is_retriable() || Instant::now() >= deadline {
                return Err(error);
            }
        }
    }

    fn ensure_topics(&self, topics: &[TopicSpec]) -> BrokerResult<TopicReport> {
        admin::ensure_topics(self, &self.config, topics, self.request_timeout)
    }

    fn partition_count(&self, topic: &str) -> BrokerResult<u32> {
        let what = format!("reading metadata of topic {topic}");
        let metadata = self
            .all
            .fetch_metadata(Some(topic), self.request_timeout)
            .map_err(|error| self.failed(&what, &error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        match found.map(|found| (found.error(), found.partitions().len())) {
            Some((None, count)) if count > 0 => Ok(u32::try_from(count).unwrap_or(u32::MAX)),
            Some((Some(code), _)) if code.is_error() => {
                Err(self.failed(&what, &KafkaError::MetadataFetch(code.into())))
            }
            _ => Err(errors::error(Kind::UnknownTopic, &self.servers, &what, "it does not exist")),
        }
    }

    fn watermarks(&self, partition: &TopicPartition) -> BrokerResult<Watermarks> {
        let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
        let ends = |client: &BaseConsumer<PlainContext>| {
            client
                .fetch_watermarks(&partition.topic, number, self.request_timeout)
                .map_err(|error| self.failed(&format!("reading the ends of {partition}"), &error))
        };
        let (_, last_stable) = ends(&self.committed_only)?;
        let (low, high) = ends(&self.all)?;
        Ok(Watermarks { low, high, last_stable })
    }

    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> BrokerResult<Vec<CommittedOffset>> {
        self.committed_offsets(group, partitions, "read_committed")
    }

    fn committed_so_far(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> BrokerResult<Vec<CommittedOffset>> {
        self.committed_offsets(group, partitions, "read_uncommitted")
    }

    fn producer(&self, options: ProducerOptions) -> BrokerResult<Box<dyn Producer>> {
        let producer = producer::KafkaProducer::open(self.servers.clone(), self.config.clone(), options)?;
        Ok(Box::new(producer))
    }

    fn group_consumer(&self, options: GroupOptions) -> BrokerResult<Box<dyn GroupConsumer>> {
        let consumer = consumer::KafkaConsumer::open(
            self.servers.clone(),
            self.config.clone(),
            options,
            self.request_timeout,
        )?;
        Ok(Box::new(consumer))
    }

    fn partition_reader(
        &self,
        partition: &TopicPartition,
        from_offset: i64,
        options: ReaderOptions,
    ) -> BrokerResult<Box<dyn PartitionReader>> {
        let reader = reader::KafkaReader::open(
            self.servers.clone(),
            self.config.clone(),
            partition,
            from_offset,
            &options,
        )?;
        Ok(Box::new(reader))
    }
}
