//! Dead letters: a refused record as received, with headers that say why, where from and which version refused it.
//! Never changes key or value, and never moves the record to another partition number.

use crate::broker::{IncomingRecord, OutgoingRecord};
use crate::lifecycle::ServiceInfo;

/// Ending of a dead-letter topic's name.
pub const DEAD_LETTER_SUFFIX: &str = ".dlq";
/// Header: why, as a code.
pub const REASON_HEADER: &str = "plimsoll-dlq-reason";
/// Header: why, for a person.
pub const DETAIL_HEADER: &str = "plimsoll-dlq-detail";
/// Header: original topic.
pub const TOPIC_HEADER: &str = "plimsoll-dlq-topic";
/// Header: original partition.
pub const PARTITION_HEADER: &str = "plimsoll-dlq-partition";
/// Header: original offset.
pub const OFFSET_HEADER: &str = "plimsoll-dlq-offset";
/// Header: original timestamp, milliseconds since the epoch.
pub const TIMESTAMP_HEADER: &str = "plimsoll-dlq-timestamp-ms";
/// Header: `<service>/<version>` that refused it.
pub const REFUSED_BY_HEADER: &str = "plimsoll-dlq-refused-by";
/// Longest detail, in bytes: the record must stay below the broker's limit.
pub const DETAIL_MAX_BYTES: usize = 1024;

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// Code, as the metric's label (`undecodable`, `invalid`, `unknown_value`).
    pub reason: &'a str,
    /// For a person; cut after [`DETAIL_MAX_BYTES`].
    pub detail: &'a str,
}

/// The dead letter of a record. A tombstone stays one; a missing key becomes an empty one.
pub fn record(refused: &IncomingRecord, why: &DeadLetter<'_>, by: ServiceInfo) -> OutgoingRecord {
    let mut end = why.detail.len().min(DETAIL_MAX_BYTES);
    while !why.detail.is_char_boundary(end) {
        end -= 1;
    }
    let mut headers = refused.headers.clone();
    headers.retain(|(name, _)| !name.starts_with("plimsoll-dlq-"));
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value.into_bytes()));
    add(REASON_HEADER, why.reason.to_owned());
    add(DETAIL_HEADER, why.detail[..end].to_owned());
    add(TOPIC_HEADER, refused.topic.to_string());
    add(PARTITION_HEADER, refused.partition.to_string());
    add(OFFSET_HEADER, refused.offset.to_string());
    add(TIMESTAMP_HEADER, refused.timestamp_ms.to_string());
    add(REFUSED_BY_HEADER, format!("{}/{}", by.name, by.version));
    OutgoingRecord {
        topic: format!("{}{DEAD_LETTER_SUFFIX}", refused.topic).into(),
        partition: refused.partition,
        key: refused.key.clone().unwrap_or_default(),
        value: refused.value.clone(),
        headers,
        timestamp_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_the_record_and_the_reason() {
        let refused = IncomingRecord {
            topic: "plimsoll.scan.packages.v1".into(),
            partition: 3,
            offset: 42,
            key: Some("k".into()),
            value: Some("garbage".into()),
            headers: vec![("traceparent".into(), b"t".to_vec())],
            timestamp_ms: 5,
        };
        let detail = "é".repeat(DETAIL_MAX_BYTES);
        let why = DeadLetter { reason: "undecodable", detail: &detail };
        let letter = record(&refused, &why, ServiceInfo::new("correlator", "0.1.0"));
        assert_eq!(&*letter.topic, "plimsoll.scan.packages.v1.dlq");
        assert_eq!((letter.partition, &letter.key, &letter.value), (3, &"k".into(), &Some("garbage".into())));
        let header = |name: &str| {
            let found = letter.headers.iter().find(|(n, _)| n == name);
            String::from_utf8(found.map(|(_, v)| v.clone()).unwrap_or_default()).unwrap()
        };
        for (name, expect) in [
            ("traceparent", "t"),
            (REASON_HEADER, "undecodable"),
            (TOPIC_HEADER, "plimsoll.scan.packages.v1"),
            (PARTITION_HEADER, "3"),
            (OFFSET_HEADER, "42"),
            (TIMESTAMP_HEADER, "5"),
            (REFUSED_BY_HEADER, "correlator/0.1.0"),
        ] {
            assert_eq!(header(name), expect, "{name}");
        }
        assert_eq!(header(DETAIL_HEADER).len(), DETAIL_MAX_BYTES);
    }
}
