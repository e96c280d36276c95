//! Values of ClickHouse columns and how they are written: RowBinary, little-endian, lengths as LEB128.
//! It must never write a value in another form than its type name says.
//!
//! Format: <https://clickhouse.com/docs/interfaces/formats/RowBinary>.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

/// A value of one column.
pub trait Value {
    /// The column's type in ClickHouse, without LowCardinality (which RowBinary does not show).
    fn type_name() -> &'static str;

    /// Appends the value to a row.
    fn encode(&self, out: &mut Vec<u8>);

    /// The value as JSON, for tests and messages.
    fn show(&self) -> serde_json::Value;
}

/// Bytes that are text for people: a path. Kept as they are in a String column.
pub struct Bytes<'a>(pub &'a [u8]);

/// JSON text of a record or a list of records; bytes in it become UTF-8, lossy.
pub struct Json<'a, T: ?Sized>(pub &'a T);

/// JSON text of an optional record; empty text if there is none.
pub struct OptionalJson<'a, T>(pub Option<&'a T>);

/// Milliseconds since the epoch in a `DateTime64(3, 'UTC')` column, held within the years that ClickHouse can show.
pub struct Timestamp(pub i64);

/// 2100-01-01, the last moment that all of ClickHouse's date types can hold, in milliseconds since the epoch.
const TIMESTAMP_MAX_MS: i64 = 4_102_444_800_000;

fn encode_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push((length as u8) | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    encode_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

macro_rules! number {
    ($rust:ty, $name:literal) => {
        impl Value for $rust {
            fn type_name() -> &'static str {
                $name
            }
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn show(&self) -> serde_json::Value {
                (*self).into()
            }
        }
    };
}

number!(i64, "Int64");
number!(i32, "Int32");
number!(u64, "UInt64");
number!(u32, "UInt32");
number!(u8, "UInt8");

impl Value for bool {
    fn type_name() -> &'static str {
        "Bool"
    }
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn show(&self) -> serde_json::Value {
        (*self).into()
    }
}

impl Value for String {
    fn type_name() -> &'static str {
        "String"
    }
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(self.as_bytes(), out);
    }
    fn show(&self) -> serde_json::Value {
        self.as_str().into()
    }
}

impl Value for Bytes<'_> {
    fn type_name() -> &'static str {
        "String"
    }
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(self.0, out);
    }
    fn show(&self) -> serde_json::Value {
        String::from_utf8_lossy(self.0).into()
    }
}

impl Value for Timestamp {
    fn type_name() -> &'static str {
        "DateTime64(3, 'UTC')"
    }
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.clamp(0, TIMESTAMP_MAX_MS).encode(out);
    }
    fn show(&self) -> serde_json::Value {
        self.0.clamp(0, TIMESTAMP_MAX_MS).into()
    }
}

impl Value for Option<f64> {
    fn type_name() -> &'static str {
        "Nullable(Float64)"
    }
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(1),
            Some(number) => {
                out.push(0);
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
    fn show(&self) -> serde_json::Value {
        (*self).into()
    }
}

impl Value for Vec<String> {
    fn type_name() -> &'static str {
        "Array(String)"
    }
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        self.iter().for_each(|item| item.encode(out));
    }
    fn show(&self) -> serde_json::Value {
        self.as_slice().into()
    }
}

impl Value for Vec<i64> {
    fn type_name() -> &'static str {
        "Array(Int64)"
    }
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        self.iter().for_each(|item| item.encode(out));
    }
    fn show(&self) -> serde_json::Value {
        self.as_slice().into()
    }
}

impl Value for BTreeMap<String, String> {
    fn type_name() -> &'static str {
        "Map(String, String)"
    }
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }
    fn show(&self) -> serde_json::Value {
        self.iter()
            .map(|(key, value)| (key.clone(), value.as_str().into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

impl<T: Serialize + ?Sized> Value for Json<'_, T> {
    fn type_name() -> &'static str {
        "String"
    }
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(&json_text(self.0), out);
    }
    fn show(&self) -> serde_json::Value {
        String::from_utf8_lossy(&json_text(self.0)).into()
    }
}

impl<T: Serialize> Value for OptionalJson<'_, T> {
    fn type_name() -> &'static str {
        "String"
    }
    fn encode(&self, out: &mut Vec<u8>) {
        match self.0 {
            Some(record) => Json(record).encode(out),
            None => out.push(0),
        }
    }
    fn show(&self) -> serde_json::Value {
        self.0.map_or_else(|| "".into(), |record| Json(record).show())
    }
}

/// Writes bytes as text instead of as an array of numbers.
struct LossyBytes(CompactFormatter);

impl Formatter for LossyBytes {
    fn write_byte_array<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: &[u8]) -> io::Result<()> {
        serde_json::to_writer(writer, &String::from_utf8_lossy(value)).map_err(io::Error::from)
    }
}

fn json_text<T: Serialize + ?Sized>(record: &T) -> Vec<u8> {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, LossyBytes(CompactFormatter));
    // Events have text keys and no failing Serialize; a Vec takes every write.
    if record.serialize(&mut serializer).is_err() {
        text.clear();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: &impl Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out);
        out
    }

    #[test]
    fn writes_row_binary() {
        assert_eq!(encoded(&-2i32), [0xfe, 0xff, 0xff, 0xff]);
        assert_eq!(encoded(&true), [1]);
        assert_eq!(encoded(&"né".to_owned()), [3, b'n', 0xc3, 0xa9]);
        assert_eq!(encoded(&Bytes(&[0xff, 0])), [2, 0xff, 0]);
        assert_eq!(encoded(&vec!["a".to_owned(), String::new()]), [2, 1, b'a', 0]);
        assert_eq!(encoded(&BTreeMap::from([("k".to_owned(), "v".to_owned())])), [1, 1, b'k', 1, b'v']);
        assert_eq!(encoded(&None::<f64>), [1]);
        assert_eq!(encoded(&Some(1.0)), [0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        assert_eq!(encoded(&Timestamp(-5)), 0i64.to_le_bytes());
        assert_eq!(encoded(&Timestamp(i64::MAX)), TIMESTAMP_MAX_MS.to_le_bytes());
        let long = "x".repeat(300);
        assert_eq!(encoded(&long)[..3], [0xac, 0x02, b'x']);
    }

    #[test]
    fn json_shows_bytes_as_text() {
        use plimsoll_schemas::events::Location;
        let location = Location { path: b"usr/\xffb\"".to_vec(), ..Location::default() };
        let shown = Json(&[location][..]).show();
        assert_eq!(shown, "[{\"path\":\"usr/\u{fffd}b\\\"\",\"layer\":\"\",\"nested_path\":\"\"}]");
        assert_eq!(OptionalJson(None::<&Location>).show(), "");
    }
}
