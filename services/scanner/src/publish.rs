//! A scan onto the topics: one transaction, the manifest last.
//! It must never leave half a scan visible, nor a second copy of it after an outcome that was unknown.

use std::time::Duration;

use plimsoll_kit::broker::{BrokerError, BrokerErrorKind, OutgoingRecord, Producer, TransactionOffsets};
use plimsoll_kit::clock::now_ms;
use plimsoll_kit::telemetry;
use plimsoll_schemas::codec::{Codec, CodecError};
use plimsoll_schemas::event::{Event, Stamper};

use crate::{Scan, ScanError};

/// Longest wait for the commit of a scan.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for an abort.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Publishes a scan in one transaction, with the offsets of the request that it answers, if any.
///
/// # Errors
/// [`ScanError::Publish`]: nothing of the scan is visible then, except after [`BrokerErrorKind::OutcomeUnknown`],
/// whose text says so; publishing again is harmless, since the newest manifest wins.
pub fn publish(
    scan: &Scan,
    producer: &mut dyn Producer,
    codec: &Codec,
    stamper: &Stamper,
    offsets: Option<TransactionOffsets>,
) -> Result<(), ScanError> {
    let failed = |reason: String| ScanError::Publish(format!("the scan could not be published: {reason}"));
    let records = encode(scan, codec, stamper).map_err(|error| failed(error.to_string()))?;
    transact(&records, producer, offsets).map_err(|error| failed(error.to_string()))
}

/// Sends records and input offsets in one transaction; all or nothing.
///
/// # Errors
/// As [`Producer::commit_transaction`] and [`Producer::send`]; the transaction was aborted then, unless its outcome is
/// unknown.
pub fn transact(
    records: &[OutgoingRecord],
    producer: &mut dyn Producer,
    offsets: Option<TransactionOffsets>,
) -> Result<(), BrokerError> {
    producer.begin_transaction()?;
    let sent = records.iter().try_for_each(|record| producer.send(record));
    let committed = sent.and_then(|()| producer.commit_transaction(offsets, COMMIT_TIMEOUT));
    committed.inspect_err(|error| {
        if error.kind() != BrokerErrorKind::OutcomeUnknown {
            // The transaction times out by itself if even this fails.
            let _ = producer.abort_transaction(ABORT_TIMEOUT);
        }
    })
}

/// The records of a scan, in the order in which they are published: the manifest last.
///
/// # Errors
/// [`CodecError`]: the registry is away, or an event breaks its contract.
pub fn encode(scan: &Scan, codec: &Codec, stamper: &Stamper) -> Result<Vec<OutgoingRecord>, CodecError> {
    let mut records = Vec::with_capacity(scan.packages.len() + scan.findings.len() + 1);
    for package in &scan.packages {
        records.push(encode_one(package, codec, stamper)?);
    }
    for findings in &scan.findings {
        records.push(encode_one(findings, codec, stamper)?);
    }
    records.push(encode_one(&scan.manifest, codec, stamper)?);
    Ok(records)
}

fn encode_one<E: Event>(event: &E, codec: &Codec, stamper: &Stamper) -> Result<OutgoingRecord, CodecError> {
    let mut event = event.clone();
    stamper.stamp(&mut event, now_ms());
    let encoded = codec.encode(&event)?;
    let mut record = OutgoingRecord::new(encoded.topic, encoded.partition, encoded.key, encoded.value);
    telemetry::inject_current(&mut record.headers);
    Ok(record)
}
