//! One record in: decoded by its topic's schema and turned into rows, or refused.
//! It must never pass over a record: it becomes rows, a dead letter, or an error that is tried again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use plimsoll_kit::broker::{IncomingRecord, TopicPartition};
use plimsoll_kit::dead_letter::{self, DeadLetter};
use plimsoll_kit::lifecycle::ServiceInfo;
use plimsoll_kit::metrics::Counter;
use plimsoll_kit::telemetry;
use plimsoll_schemas::codec::{Codec, CodecError};
use plimsoll_schemas::event::Event;
use plimsoll_schemas::events::{
    CorrelationAlert, CorrelationArtifact, CorrelationFinding, CorrelationPackage, CorrelationUsage,
    RuntimeAlert, RuntimeUsage, RuntimeWorkload, ScanArtifact,
};
use plimsoll_schemas::key;

use crate::batch::{Filling, PackageTombstone};
use crate::metrics::SinkMetrics;
use crate::rows::{self, HistoryEvent, HistoryTable, KeyError, Position, StateEvent};

/// What a topic's records become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Latest state.
    State,
    /// History.
    History(HistoryTable),
}

/// Why a record becomes no rows.
#[derive(Debug)]
enum Refusal {
    /// The registry could not be asked: try the same record again.
    Retry(CodecError),
    /// Its own fault, or its producer's: to the dead letters.
    DeadLetter { reason: &'static str, detail: String },
}

impl From<CodecError> for Refusal {
    fn from(error: CodecError) -> Self {
        if error.is_retriable() {
            return Self::Retry(error);
        }
        let reason = match error {
            CodecError::Identity(_) | CodecError::KeyMismatch(_) => "invalid",
            _ => "undecodable",
        };
        Self::DeadLetter { reason, detail: error.to_string() }
    }
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        Self::DeadLetter { reason: "invalid", detail: error.to_string() }
    }
}

type Take = fn(&Codec, &IncomingRecord, &mut Filling) -> Result<(), Refusal>;

struct Route {
    destination: Destination,
    take: Take,
    records: Counter,
    dead_letters: Counter,
}

struct Builder<'a> {
    codec: &'a Codec,
    metrics: &'a SinkMetrics,
    routes: HashMap<String, Route>,
}

impl Builder<'_> {
    fn add<E: Event>(&mut self, destination: Destination, take: Take) {
        let topic = self.codec.topic::<E>();
        let records = self.metrics.records.with(&[&topic]);
        let dead_letters = self.metrics.dead_letters.with(&[&topic]);
        self.routes.insert(topic, Route { destination, take, records, dead_letters });
    }
}

/// The topics that the sink reads, and where their records go.
pub struct Router {
    codec: Arc<Codec>,
    routes: HashMap<String, Route>,
    refused_by: ServiceInfo,
}

/// What became of a record.
#[derive(Debug)]
#[must_use]
pub enum Taken {
    /// Its rows wait.
    Rows,
    /// It waits as a dead letter.
    DeadLetter(String),
    /// The registry could not be asked; nothing was taken.
    Retry(CodecError),
}

impl Router {
    /// The topics below the codec's prefix.
    pub fn new(codec: Arc<Codec>, refused_by: ServiceInfo, metrics: &SinkMetrics) -> Self {
        let state = Destination::State;
        let mut builder = Builder { codec: &codec, metrics, routes: HashMap::new() };
        builder.add::<CorrelationArtifact>(state, take_state::<CorrelationArtifact>);
        builder.add::<CorrelationPackage>(state, take_package);
        builder.add::<CorrelationFinding>(state, take_state::<CorrelationFinding>);
        builder.add::<CorrelationUsage>(state, take_state::<CorrelationUsage>);
        builder.add::<CorrelationAlert>(state, take_state::<CorrelationAlert>);
        builder.add::<RuntimeWorkload>(state, take_state::<RuntimeWorkload>);
        builder.add::<ScanArtifact>(state, take_state::<ScanArtifact>);
        builder.add::<RuntimeUsage>(Destination::History(RuntimeUsage::TABLE), take_history::<RuntimeUsage>);
        builder.add::<RuntimeAlert>(Destination::History(RuntimeAlert::TABLE), take_history::<RuntimeAlert>);
        let routes = builder.routes;
        Self { codec, routes, refused_by }
    }

    /// Full names of the topics, sorted.
    pub fn topics(&self) -> Vec<String> {
        let mut names: Vec<String> = self.routes.keys().cloned().collect();
        names.sort();
        names
    }

    /// Where a topic's records go; `None`: it is not one of ours.
    pub fn destination(&self, topic: &str) -> Option<Destination> {
        self.routes.get(topic).map(|route| route.destination)
    }

    /// Takes one record into `filling`.
    pub fn take(&self, record: &IncomingRecord, filling: &mut Filling, now: Instant) -> Taken {
        let Some(route) = self.routes.get(&*record.topic) else {
            // The group is subscribed to our topics only.
            return Taken::DeadLetter(format!("{} is not read by the sink", record.topic));
        };
        let span = filling.may_trace().then(|| span_of(record)).flatten();
        let outcome = match (route.take)(&self.codec, record, filling) {
            Ok(()) => {
                route.records.inc();
                Taken::Rows
            }
            Err(Refusal::Retry(error)) => return Taken::Retry(error),
            Err(Refusal::DeadLetter { reason, detail }) => {
                route.dead_letters.inc();
                let why = DeadLetter { reason, detail: &detail };
                filling.add_dead_letter(dead_letter::record(record, &why, self.refused_by));
                if let Destination::History(_) = route.destination {
                    filling.add_history(&record.topic_partition(), record.offset, 0, 0, |_| {});
                }
                Taken::DeadLetter(detail)
            }
        };
        if let Some(span) = span {
            filling.trace(span);
        }
        if route.destination == Destination::State {
            filling.state_taken(record.topic_partition(), record.offset);
        }
        filling.waits(record.timestamp_ms, now);
        outcome
    }
}

/// A span that continues the record's trace; `None` if it has none.
fn span_of(record: &IncomingRecord) -> Option<tracing::Span> {
    let parent = telemetry::extract(&record.headers)?;
    let (topic, partition, offset) = (&*record.topic, record.partition, record.offset);
    let span = tracing::info_span!("clickhouse row", topic, partition, offset);
    telemetry::set_parent(&span, &parent);
    Some(span)
}

fn position(record: &IncomingRecord) -> Position {
    Position { partition: record.partition, offset: record.offset }
}

/// Key and value of a record that must have a key.
fn message_key(record: &IncomingRecord) -> Result<&[u8], Refusal> {
    let missing = || Refusal::DeadLetter { reason: "invalid", detail: "the record has no key".to_owned() };
    record.key.as_deref().ok_or_else(missing)
}

/// The entity that a tombstone names.
fn tombstone<E: StateEvent>(message_key: &[u8]) -> Result<E, Refusal> {
    let bad = || Refusal::DeadLetter {
        reason: "invalid",
        detail: "the tombstone's key is not an artifact key and an entity id".to_owned(),
    };
    let (artifact, entity) = key::split(message_key).ok_or_else(bad)?;
    artifact
        .parse::<plimsoll_schemas::identity::ArtifactKey>()
        .map_err(|error| Refusal::from(CodecError::from(error)))?;
    Ok(E::from_key(artifact, entity)?)
}

fn take_state<E: StateEvent>(
    codec: &Codec,
    record: &IncomingRecord,
    filling: &mut Filling,
) -> Result<(), Refusal> {
    let message_key = message_key(record)?;
    let (event, deleted) = match &record.value {
        Some(value) => (codec.decode::<E>(message_key, value)?, false),
        None => (tombstone::<E>(message_key)?, true),
    };
    filling.add_state(E::TABLE, |row| rows::write_state(&event, position(record), deleted, row));
    Ok(())
}

fn take_package(codec: &Codec, record: &IncomingRecord, filling: &mut Filling) -> Result<(), Refusal> {
    if record.value.is_some() {
        return take_state::<CorrelationPackage>(codec, record, filling);
    }
    let event: CorrelationPackage = tombstone(message_key(record)?)?;
    let position = position(record);
    filling.add_package_tombstone(PackageTombstone {
        artifact: event.artifact,
        package_id: event.package_id,
        position,
    });
    Ok(())
}

fn take_history<E: HistoryEvent>(
    codec: &Codec,
    record: &IncomingRecord,
    filling: &mut Filling,
) -> Result<(), Refusal> {
    let Some(value) = &record.value else {
        return Err(Refusal::DeadLetter {
            reason: "invalid",
            detail: format!("{} has no tombstones", E::TOPIC),
        });
    };
    let event: E = codec.decode(message_key(record)?, value)?;
    let (partition, row_count) = (record.topic_partition(), event.row_count());
    filling.add_history(&partition, record.offset, event.emitted_at_ms(), row_count, |row| {
        for index in 0..row_count {
            event.columns(index, position(record), row);
        }
    });
    Ok(())
}

/// A package's tombstone as a row, with the purl that was looked up.
pub fn write_package_tombstone(tombstone: &PackageTombstone, purl: &str, row: &mut rows::RowBinary) {
    let event = CorrelationPackage {
        artifact: tombstone.artifact.clone(),
        package_id: tombstone.package_id.clone(),
        purl: purl.to_owned(),
        ..CorrelationPackage::default()
    };
    rows::write_state(&event, tombstone.position, true, row);
}

/// Whether the partition's topic is read by the sink as history.
pub fn history_table(router: &Router, partition: &TopicPartition) -> Option<HistoryTable> {
    match router.destination(&partition.topic)? {
        Destination::History(table) => Some(table),
        Destination::State => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_schemas::topics;

    #[test]
    fn reads_exactly_the_topics_that_the_table_says() {
        use plimsoll_kit::transport::Connections;
        let connections = Connections::memory();
        let metrics = SinkMetrics::new(&plimsoll_kit::metrics::Metrics::new("sink"));
        let router = Router::new(connections.codec(), ServiceInfo::new("sink", "0"), &metrics);
        let mut expected: Vec<String> =
            topics::consumed_by("sink").map(|topic| topic.full_name(&connections.prefix)).collect();
        expected.sort();
        assert_eq!(router.topics(), expected);
        for topic in topics::consumed_by("sink").filter(|topic| topic.compact) {
            let destination = router.destination(&topic.full_name(&connections.prefix));
            assert_eq!(
                destination,
                Some(Destination::State),
                "{}: history of a compacted topic has holes",
                topic.name
            );
        }
    }

    #[test]
    fn a_trace_goes_on_until_the_rows_are_in() {
        use plimsoll_kit::broker::{Bytes, IncomingRecord};
        use plimsoll_kit::transport::Connections;
        use tracing_subscriber::layer::SubscriberExt as _;
        let connections = Connections::memory();
        connections.prepare_once().unwrap();
        let codec = connections.codec();
        let metrics = SinkMetrics::new(&plimsoll_kit::metrics::Metrics::new("sink"));
        let router = Router::new(codec.clone(), ServiceInfo::new("sink", "0"), &metrics);
        let encoded = codec
            .encode(&RuntimeWorkload {
                artifact: "host/a".into(),
                workload_id: "w".into(),
                ..Default::default()
            })
            .unwrap();
        let check = |headers: Vec<(String, Vec<u8>)>, expected: usize| {
            let record = IncomingRecord {
                topic: (&*encoded.topic).into(),
                partition: encoded.partition,
                offset: 0,
                key: Some(Bytes::from(encoded.key.clone())),
                value: encoded.value.clone().map(Bytes::from),
                headers,
                timestamp_ms: 1,
            };
            let mut filling = Filling::default();
            assert!(matches!(router.take(&record, &mut filling, Instant::now()), Taken::Rows));
            let limits = crate::history::BlockLimits { max_rows: 1, max_bytes: 1 };
            let batch = filling.cut(limits, Instant::now()).unwrap();
            assert_eq!(batch.spans.len(), expected);
            assert!(
                batch.spans.iter().all(|span| span.metadata().is_some_and(|m| m.name() == "clickhouse row"))
            );
        };
        let subscriber =
            tracing_subscriber::registry().with(tracing_subscriber::fmt::layer().with_test_writer());
        tracing::subscriber::with_default(subscriber, || {
            check(vec![], 0);
            check(vec![("traceparent".into(), b"no trace".to_vec())], 0);
            let traceparent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
            check(vec![("traceparent".into(), traceparent.to_vec())], 1);
        });
    }
}
