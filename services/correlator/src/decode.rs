//! From records of the input topics to events of the core.
//! It must never pass over a record: it comes out as an event, as a dead letter, or as "ask again".

use plimsoll_correlator_core::{Event, Order};
use plimsoll_kit::broker::IncomingRecord;
use plimsoll_schemas::codec::{Codec, CodecError};
use plimsoll_schemas::event::Event as Schema;
use plimsoll_schemas::events::{
    PackageOwnership, RuntimeAlert, RuntimeUsage, RuntimeWorkload, ScanArtifact, ScanFindings, ScanPackage,
};
use plimsoll_schemas::topics;

/// Generation of the topics whose offsets are compared (`Order.epoch`).
const TOPIC_EPOCH: u32 = 0;

/// A decoded record.
pub(crate) struct Decoded {
    pub artifact: String,
    pub event: Event,
    pub order: Order,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum Undecoded {
    /// The registry cannot be asked: the same record may decode later.
    Retry(String),
    /// The record is at fault: reason and detail of its dead letter.
    Refused(&'static str, String),
}

impl From<CodecError> for Undecoded {
    fn from(error: CodecError) -> Self {
        if error.is_retriable() {
            return Self::Retry(error.to_string());
        }
        Self::Refused("undecodable", error.to_string())
    }
}

pub(crate) fn decode(codec: &Codec, record: &IncomingRecord) -> Result<Decoded, Undecoded> {
    let name = topics::find_full(codec.prefix(), &record.topic).map(|topic| topic.name);
    let read = match name {
        Some(ScanArtifact::TOPIC) => read(codec, record, Event::Manifest),
        Some(ScanPackage::TOPIC) => read(codec, record, Event::Package),
        Some(ScanFindings::TOPIC) => read(codec, record, Event::Findings),
        Some(PackageOwnership::TOPIC) => read(codec, record, Event::Ownership),
        Some(RuntimeWorkload::TOPIC) => read(codec, record, Event::Workload),
        Some(RuntimeUsage::TOPIC) => read(codec, record, Event::Usage),
        Some(RuntimeAlert::TOPIC) => read(codec, record, Event::Alert),
        _ => {
            return Err(Undecoded::Refused("unknown-topic", format!("{} is no input", record.topic)));
        }
    };
    let (artifact, event) = read?;
    let expected = codec.partition(&artifact);
    if expected != record.partition {
        // The state of the artifact lies elsewhere; joining it here would split it in two.
        let detail = format!("{artifact} belongs in partition {expected}, not {}", record.partition);
        return Err(Undecoded::Refused("wrong-partition", detail));
    }
    Ok(Decoded { artifact, event, order: Order { epoch: TOPIC_EPOCH, offset: record.offset } })
}

fn read<E: Schema>(
    codec: &Codec,
    record: &IncomingRecord,
    event: fn(E) -> Event,
) -> Result<(String, Event), Undecoded> {
    let Some(key) = &record.key else {
        return Err(Undecoded::Refused("no-key", "the record has no key".to_owned()));
    };
    let Some(value) = &record.value else {
        let detail = "an input is an event and cannot be deleted".to_owned();
        return Err(Undecoded::Refused("tombstone", detail));
    };
    let decoded: E = codec.decode(key, value)?;
    Ok((decoded.artifact().to_owned(), event(decoded)))
}

/// Full names of the input topics.
pub fn input_topics(prefix: &str) -> Vec<String> {
    topics::consumed_by("correlator")
        .filter(|topic| !topic.compact)
        .map(|topic| topic.full_name(prefix))
        .collect()
}
