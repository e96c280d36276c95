//! What must stand in ClickHouse, from the topics alone; and the comparison of every row.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use plimsoll_kit::broker::{IncomingRecord, ReaderOptions, TopicPartition, read_to_end};
use plimsoll_kit::dead_letter;
use plimsoll_schemas::codec::Codec;
use plimsoll_schemas::events::{
    CorrelationAlert, CorrelationArtifact, CorrelationFinding, CorrelationPackage, CorrelationUsage,
    RuntimeAlert, RuntimeUsage, RuntimeWorkload, ScanArtifact,
};
use plimsoll_schemas::{key, topics};
use plimsoll_sink::rows::{Column, HistoryEvent, Position, Shown, StateEvent, write_state};

use super::{PATIENCE, Pipeline, wait_for};

type JsonRow = serde_json::Map<String, serde_json::Value>;

/// Everything in the topics, and what it must have become.
pub struct Oracle<'a> {
    pipeline: &'a Pipeline,
    codec: std::sync::Arc<Codec>,
    /// Offsets behind the last record of each partition.
    pub ends: BTreeMap<TopicPartition, i64>,
    refused: BTreeSet<(String, u32, i64)>,
    /// Rows compared.
    pub rows: usize,
}

impl<'a> Oracle<'a> {
    /// Reads the ends of all topics; nothing may write to them any more.
    pub fn new(pipeline: &'a Pipeline) -> Self {
        let codec = pipeline.connections.codec();
        let mut oracle = Self { pipeline, codec, ends: BTreeMap::new(), refused: BTreeSet::new(), rows: 0 };
        for topic in topics::consumed_by("sink") {
            for record in oracle.records(&topic.full_name(&pipeline.connections.prefix)) {
                oracle.ends.insert(record.topic_partition(), record.next_offset());
            }
        }
        oracle
    }

    fn records(&self, topic: &str) -> Vec<IncomingRecord> {
        let connections = &self.pipeline.connections;
        let read = |partition: &TopicPartition| {
            let mut records = Vec::new();
            let deadline = Instant::now() + PATIENCE;
            let options = ReaderOptions::default();
            match read_to_end(&*connections.broker, partition, 0, options, deadline, |record| {
                records.push(record)
            }) {
                Ok(_) => Some(records),
                Err(error) if error.is_retriable() => None,
                Err(error) => panic!("{error}"),
            }
        };
        (0..connections.partitions)
            .flat_map(|number| wait_for("a partition", || read(&TopicPartition::new(topic, number))))
            .collect()
    }

    /// Waits until the group has committed everything, and nothing is planned any more.
    pub fn wait_until_caught_up(&self) {
        let partitions: Vec<TopicPartition> = self.ends.keys().cloned().collect();
        let group = &self.pipeline.group;
        wait_for("the sink to catch up", || {
            let committed = self.pipeline.connections.broker.committed(group, &partitions).ok()?;
            let behind = partitions.iter().any(|partition| {
                !committed.iter().any(|c| {
                    c.partition == *partition && c.offset >= self.ends[partition] && c.metadata.is_empty()
                })
            });
            (!behind).then_some(())
        });
    }

    /// Compares every row of every table with the topics, and the dead letters with what is not readable.
    pub fn check(&mut self) {
        self.check_state::<CorrelationArtifact>(&["artifacts"]);
        self.check_state::<CorrelationPackage>(&["artifact_packages", "artifact_packages_by_purl"]);
        self.check_state::<CorrelationFinding>(&["findings", "findings_by_vulnerability"]);
        self.check_state::<CorrelationUsage>(&["package_usage"]);
        self.check_state::<CorrelationAlert>(&["alerts"]);
        self.check_state::<RuntimeWorkload>(&["workloads"]);
        self.check_state::<ScanArtifact>(&["scans"]);
        self.check_history::<RuntimeUsage>();
        self.check_history::<RuntimeAlert>();
        self.check_dead_letters();
    }

    fn decode<E: StateEvent>(&mut self, record: &IncomingRecord) -> Option<(E, bool)> {
        let message_key = record.key.as_deref().unwrap();
        let Some(value) = &record.value else {
            let (artifact, entity) = key::split(message_key).unwrap();
            return Some((E::from_key(artifact, entity).unwrap(), true));
        };
        match self.codec.decode(message_key, value) {
            Ok(event) => Some((event, false)),
            Err(error) => {
                assert!(!error.is_retriable(), "{error}");
                self.refused.insert((record.topic.to_string(), record.partition, record.offset));
                None
            }
        }
    }

    fn check_state<E: StateEvent>(&mut self, tables: &[&str]) {
        let mut latest: BTreeMap<Vec<u8>, JsonRow> = BTreeMap::new();
        for record in self.records(&self.codec.topic::<E>()) {
            let Some((event, deleted)) = self.decode::<E>(&record) else { continue };
            let message_key = record.key.clone().unwrap().to_vec();
            if deleted {
                latest.remove(&message_key);
            } else {
                let mut row = Shown::default();
                let position = Position { partition: record.partition, offset: record.offset };
                write_state(&event, position, false, &mut row);
                latest.insert(message_key, row.0);
            }
        }
        let expected: Vec<JsonRow> = latest.into_values().collect();
        for table in tables {
            let question = format!("SELECT {} FROM {table} FINAL", names(&E::TABLE.columns()));
            self.compare(table, expected.clone(), self.pipeline.clickhouse.rows(&question));
        }
    }

    fn check_history<E: HistoryEvent>(&mut self) {
        let mut expected = Vec::new();
        for record in self.records(&self.codec.topic::<E>()) {
            let value = record.value.as_deref().unwrap();
            let Ok(event) = self.codec.decode::<E>(record.key.as_deref().unwrap(), value) else {
                self.refused.insert((record.topic.to_string(), record.partition, record.offset));
                continue;
            };
            let position = Position { partition: record.partition, offset: record.offset };
            for index in 0..event.row_count() {
                let mut row = Shown::default();
                event.columns(index, position, &mut row);
                expected.push(row.0);
            }
        }
        let columns = names(&E::TABLE.columns());
        // Not `AS emitted_at`, which the columns would then mean too.
        let columns = columns.replace("`emitted_at`", "toUnixTimestamp64Milli(emitted_at) AS emitted_at");
        let table = E::TABLE.name();
        self.compare(
            table,
            expected,
            self.pipeline.clickhouse.rows(&format!("SELECT {columns} FROM {table}")),
        );
    }

    fn compare(&mut self, table: &str, expected: Vec<JsonRow>, found: Vec<JsonRow>) {
        let texts = |rows: Vec<JsonRow>| -> Vec<String> {
            let mut texts: Vec<String> =
                rows.into_iter().map(|row| serde_json::Value::from(row).to_string()).collect();
            texts.sort();
            texts
        };
        let (expected, found) = (texts(expected), texts(found));
        self.rows += expected.len();
        if expected == found {
            return;
        }
        let mut counts: BTreeMap<&String, i64> = BTreeMap::new();
        expected.iter().for_each(|row| *counts.entry(row).or_default() += 1);
        found.iter().for_each(|row| *counts.entry(row).or_default() -= 1);
        let wrong: Vec<(&String, i64)> =
            counts.into_iter().filter(|(_, count)| *count != 0).take(6).collect();
        for (row, count) in &wrong {
            println!("{table}: {} {row}", if *count > 0 { "missing" } else { "too many" });
        }
        panic!("{table}: {} rows expected, {} found", expected.len(), found.len());
    }

    /// Every refused record is in the dead letters with its origin, at least once, and nothing else is.
    fn check_dead_letters(&self) {
        let mut found = BTreeSet::new();
        for topic in topics::consumed_by("sink") {
            for letter in self.records(&topic.dead_letter_name(&self.pipeline.connections.prefix)) {
                let header = |name: &str| String::from_utf8(letter.header(name).unwrap().to_vec()).unwrap();
                assert!(header(dead_letter::REFUSED_BY_HEADER).starts_with("sink/"));
                assert!(!header(dead_letter::DETAIL_HEADER).is_empty());
                let partition: u32 = header(dead_letter::PARTITION_HEADER).parse().unwrap();
                assert_eq!(partition, letter.partition);
                let offset: i64 = header(dead_letter::OFFSET_HEADER).parse().unwrap();
                found.insert((header(dead_letter::TOPIC_HEADER), partition, offset));
            }
        }
        assert_eq!(found, self.refused);
    }

    /// How many records cannot be read.
    pub fn refused_count(&self) -> usize {
        self.refused.len()
    }
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| format!("`{}`", column.name)).collect::<Vec<_>>().join(", ")
}
