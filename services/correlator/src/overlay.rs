//! The artifacts in memory and the batch that is being gathered over them.
//! It must never let go of an artifact that holds what the store does not hold yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use plimsoll_correlator_core::{Artifact, Event, Order, Output, Refusal, STATE_FORMAT};
use plimsoll_kit::broker::{IncomingRecord, OutgoingRecord, TopicPartition};
use plimsoll_kit::telemetry::{self, TraceParent};
use plimsoll_schemas::codec::{Codec, CodecError};
use plimsoll_schemas::events::CorrelatorState;
use plimsoll_schemas::key::message_key;
use plimsoll_schemas::topics;

use crate::error::CorrelatorError;
use crate::metrics::Meters;
use crate::store::{Store, StoreError, Write, data_key, data_value, load_artifact};

/// Records that an input leads to, about: room made for them at once.
const RECORDS_PER_INPUT: usize = 3;

struct Held {
    artifact: Artifact,
    partition: u32,
    /// The current batch may have changed it.
    dirty: bool,
    /// Number of the last batch that changed it.
    changed_in: u64,
    /// Number of the last batch that looked at it.
    used_in: u64,
    /// Whose trace its outputs continue.
    trace: Option<TraceParent>,
}

/// Artifacts and the current batch.
#[derive(Default)]
pub(crate) struct Overlay {
    artifacts: HashMap<String, Held>,
    /// Keys of the artifacts that the current batch may have changed.
    dirty: Vec<String>,
    letters: Vec<OutgoingRecord>,
    /// Next offsets of the inputs in the batch.
    offsets: BTreeMap<TopicPartition, i64>,
    pub records: usize,
    pub bytes: usize,
    /// When the batch began.
    pub since: Option<Instant>,
    /// Number of the current batch.
    number: u64,
}

/// The content of a batch.
pub(crate) struct Batch {
    pub number: u64,
    pub records: Vec<OutgoingRecord>,
    pub offsets: BTreeMap<TopicPartition, i64>,
    pub writes: Vec<Write>,
    pub partitions: BTreeSet<u32>,
}

impl Overlay {
    /// Joins one event. The artifact is loaded if it is not in memory.
    pub fn apply(
        &mut self,
        store: &dyn Store,
        partition: u32,
        artifact: &str,
        event: Event,
        order: Order,
        trace: Option<TraceParent>,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let held = match self.artifacts.get_mut(artifact) {
            Some(held) => held,
            None => {
                let loaded = load_artifact(store, partition, artifact)?;
                self.artifacts.entry(artifact.to_owned()).or_insert(Held {
                    artifact: loaded,
                    partition,
                    dirty: false,
                    changed_in: 0,
                    used_in: 0,
                    trace: None,
                })
            }
        };
        held.changed_in = self.number;
        held.used_in = self.number;
        held.trace = trace.or(held.trace.take());
        let applied = held.artifact.apply(event, order);
        if !held.dirty {
            held.dirty = true;
            self.dirty.push(artifact.to_owned());
        }
        self.since.get_or_insert_with(Instant::now);
        Ok(applied)
    }

    /// Notes that a record is done, whatever came of it.
    pub fn done(&mut self, record: &IncomingRecord) {
        self.offsets.insert(record.topic_partition(), record.next_offset());
        self.records += 1;
        self.bytes += record.size_bytes();
        self.since.get_or_insert_with(Instant::now);
    }

    pub fn dead_letter(&mut self, letter: OutgoingRecord) {
        self.letters.push(letter);
    }

    /// Artifacts in memory on which a tick may have an effect.
    pub fn open(&self, partition: u32) -> Vec<String> {
        let open = self.artifacts.iter().filter(|(_, h)| h.partition == partition && h.artifact.is_open());
        open.map(|(key, _)| key.clone()).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// Forgets everything, the batch and the artifacts.
    pub fn discard(&mut self) {
        let number = self.number + 1;
        *self = Self { number, ..Self::default() };
    }

    /// Ends the batch: lets the core say what changed, and encodes it.
    pub fn seal(&mut self, codec: &Codec, meters: &Meters) -> Result<Batch, CorrelatorError> {
        let mut batch = Batch {
            number: self.number,
            records: Vec::with_capacity(self.records * RECORDS_PER_INPUT),
            offsets: std::mem::take(&mut self.offsets),
            writes: Vec::with_capacity(self.records * RECORDS_PER_INPUT),
            partitions: BTreeSet::new(),
        };
        batch.records.append(&mut self.letters);
        let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
        self.dirty.sort_unstable();
        for key in std::mem::take(&mut self.dirty) {
            let Some(held) = self.artifacts.get_mut(&key) else { continue };
            held.dirty = false;
            let trace = held.trace.take();
            let finished = held.artifact.finish();
            if !finished.changes.is_empty() {
                batch.partitions.insert(held.partition);
            }
            meters.state_changes.inc_by(finished.changes.len() as u64);
            let mut state =
                CorrelatorState { artifact: key.clone(), format: STATE_FORMAT, ..CorrelatorState::default() };
            for change in finished.changes {
                let gone = change.body.is_none();
                change.kind.clone_into(&mut state.kind);
                state.entity = change.entity;
                state.body = change.body.unwrap_or_default();
                let encoded = if gone { Ok(codec.tombstone(&state)) } else { codec.encode(&state) };
                let encoded =
                    encoded.map_err(|source| CorrelatorError::Encode { artifact: key.clone(), source })?;
                let stored = encoded.value.is_some().then(|| data_value(STATE_FORMAT, &state.body));
                batch.writes.push((data_key(held.partition, &encoded.key), stored));
                batch.records.push(OutgoingRecord::new(
                    encoded.topic,
                    encoded.partition,
                    encoded.key,
                    encoded.value,
                ));
            }
            let span = trace.map(|parent| {
                let span =
                    tracing::info_span!("correlate", artifact = %key, outputs = finished.outputs.len());
                telemetry::set_parent(&span, &parent);
                (span, parent)
            });
            for output in finished.outputs {
                *counts.entry(output.topic()).or_default() += 1;
                if let Some(mut record) = encode_output(codec, &key, held.partition, &output, meters)? {
                    if let Some((span, parent)) = &span {
                        telemetry::inject(&mut record.headers, parent);
                        span.in_scope(|| telemetry::inject_current(&mut record.headers));
                    }
                    batch.records.push(record);
                }
            }
        }
        for (topic, count) in counts {
            meters.outputs.with(&[topic]).inc_by(count);
        }
        self.records = 0;
        self.bytes = 0;
        self.since = None;
        self.number += 1;
        Ok(batch)
    }

    /// Lets go of the artifacts that were unused for longest, down to `max_entities`; never of one that changed after
    /// batch `stored`.
    pub fn shrink(&mut self, max_entities: usize, stored: u64, meters: &Meters) {
        let mut total: usize = self.artifacts.values().map(|held| held.artifact.entity_count()).sum();
        if total > max_entities {
            let free = self.artifacts.iter().filter(|(_, held)| held.changed_in <= stored);
            let mut free: Vec<(u64, String)> = free.map(|(key, held)| (held.used_in, key.clone())).collect();
            free.sort();
            for (_, key) in free {
                if total <= max_entities {
                    break;
                }
                if let Some(held) = self.artifacts.remove(&key) {
                    total -= held.artifact.entity_count();
                }
            }
        }
        meters.cached_artifacts.set(i64::try_from(self.artifacts.len()).unwrap_or(i64::MAX));
        meters.cached_entities.set(i64::try_from(total).unwrap_or(i64::MAX));
    }
}

fn encode_output(
    codec: &Codec,
    artifact: &str,
    partition: u32,
    output: &Output,
    meters: &Meters,
) -> Result<Option<OutgoingRecord>, CorrelatorError> {
    let encoded = match output {
        Output::Artifact(record) => codec.encode(&**record),
        Output::Package(record) => codec.encode(&**record),
        Output::Usage(record) => codec.encode(&**record),
        Output::Finding(record) => codec.encode(&**record),
        Output::Alert(record) => codec.encode(&**record),
        Output::Tombstone { topic, entity } => {
            let topic = topics::full_name(codec.prefix(), topic);
            let key = message_key(artifact, entity);
            return Ok(Some(OutgoingRecord::tombstone(topic, partition, key)));
        }
    };
    match encoded {
        Ok(record) => Ok(Some(OutgoingRecord::new(record.topic, record.partition, record.key, record.value))),
        Err(error @ CodecError::TooLarge { .. }) => {
            // Holding up the whole partition for one record would hide more than it shows.
            tracing::error!(artifact, topic = output.topic(), "an output was left out: {error}");
            meters.outputs_too_large.inc();
            Ok(None)
        }
        Err(source) => Err(CorrelatorError::Encode { artifact: artifact.to_owned(), source }),
    }
}
