//! Avro's binary encoding (Apache Avro 1.12 specification) between bytes and serde types, driven by the writer's schema.
//! It must never allocate ahead of the bytes that it has, nor recurse deeper than its bound.
//!
//! Written here because the fast library carries a licence that cannot be linked statically, and the well-known one
//! builds a tree of values for each record; see `infra/adr/avro-codec.md`. Tests compare with the latter.

mod decode;
mod encode;
mod schema;

pub use decode::from_slice;
pub use encode::to_vec;
pub use schema::WriterSchema;

use std::fmt;

/// Deepest nesting of a schema, and so of a value.
pub const DEPTH_MAX: usize = 64;
/// Most items of zero size in one array or map: they take no bytes that could bound them.
pub const EMPTY_ITEMS_MAX: usize = 1 << 16;

/// Why bytes or a schema are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvroError(String);

impl AvroError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for AvroError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AvroError {}

impl serde::de::Error for AvroError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl serde::ser::Error for AvroError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::events::{Finding, ScanFindings, ScanPackage};
    use proptest::prelude::*;

    fn findings() -> ScanFindings {
        let finding =
            Finding { cvss_score: Some(9.8), epss: None, known_exploited: true, ..Finding::default() };
        ScanFindings {
            artifact: "host/é".into(),
            sequence: i64::MIN,
            chunk: -7,
            feeds: vec!["a".into(), String::new()],
            findings: vec![finding, Finding::default()],
            ..ScanFindings::default()
        }
    }

    #[test]
    fn the_reference_implementation_reads_what_we_write() {
        let schema = apache_avro::Schema::parse_str(ScanFindings::SCHEMA).unwrap();
        let ours = to_vec(&findings(), Vec::new()).unwrap();
        let value = apache_avro::from_avro_datum(&schema, &mut ours.as_slice(), None).unwrap();
        assert_eq!(apache_avro::from_value::<ScanFindings>(&value).unwrap(), findings());
        let theirs = apache_avro::to_avro_datum(&schema, value).unwrap();
        let parsed = WriterSchema::parse(ScanFindings::SCHEMA).unwrap();
        assert_eq!(from_slice::<ScanFindings>(&theirs, &parsed).unwrap(), findings());
    }

    #[test]
    fn fields_of_other_versions_are_defaulted_or_passed_over() {
        let written = r#"{"type":"record","name":"ScanFindings","namespace":"plimsoll.v1","fields":[
            {"name":"novel","type":["null",{"type":"record","name":"Novel","fields":[
                {"name":"list","type":{"type":"array","items":{"type":"map","values":"long"}}},
                {"name":"again","type":["null","Novel"]}]}]},
            {"name":"mood","type":{"type":"enum","name":"Mood","symbols":["calm","wild"]}},
            {"name":"mark","type":{"type":"fixed","name":"Mark","size":3}},
            {"name":"chunk","type":"int"},
            {"name":"artifact","type":"string"}]}"#;
        // One list of one map {"k": 1}, its block with a size; then again = null; wild; "abc"; 5; "host/x".
        let bytes = [&[2, 1, 12, 2, 2, b'k', 2, 0, 0, 0, 2][..], b"abc", &[10, 12], b"host/x"].concat();
        let schema = WriterSchema::parse(written).unwrap();
        let read: ScanFindings = from_slice(&bytes, &schema).unwrap();
        assert_eq!(read, ScanFindings { artifact: "host/x".into(), chunk: 5, ..ScanFindings::default() });
    }

    #[test]
    fn lengths_are_not_trusted() {
        let schema = WriterSchema::parse(ScanPackage::SCHEMA).unwrap();
        let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(from_slice::<ScanPackage>(&huge, &schema).is_err());
        let nulls = WriterSchema::parse(
            r#"{"type":"record","name":"R","fields":[{"name":"x","type":{"type":"array","items":"null"}}]}"#,
        )
        .unwrap();
        assert!(from_slice::<ScanPackage>(&huge, &nulls).is_err());
        let deep = format!("{}\"long\"{}", r#"{"type":"array","items":"#.repeat(100), "}".repeat(100));
        assert!(WriterSchema::parse(&deep).is_err());
    }

    #[test]
    fn a_value_may_not_nest_without_end() {
        let schema = WriterSchema::parse(
            r#"{"type":"record","name":"R","fields":[{"name":"next","type":["null","R"]}]}"#,
        )
        .unwrap();
        assert!(from_slice::<ScanPackage>(&[2; 100_000], &schema).is_err());
        assert!(from_slice::<ScanPackage>(&[2, 2, 0], &schema).is_ok());
    }

    proptest! {
        #[test]
        fn random_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let schema = WriterSchema::parse(ScanFindings::SCHEMA).unwrap();
            if let Ok(read) = from_slice::<ScanFindings>(&bytes, &schema) {
                let again = to_vec(&read, Vec::new()).unwrap();
                // Equality of bytes, since NaN differs from itself.
                let twice: ScanFindings = from_slice(&again, &schema).unwrap();
                prop_assert_eq!(to_vec(&twice, Vec::new()).unwrap(), again);
            }
        }
    }
}
