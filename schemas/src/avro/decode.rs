//! Avro's binary encoding to a serde type. Fields of the type that the writer did not know keep their defaults, fields
//! that the type does not know are passed over. It must never trust a length.

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::schema::{Node, NodeId, Plan, Record, WriterSchema};
use super::{AvroError, DEPTH_MAX, EMPTY_ITEMS_MAX};

/// Decodes one record that was written with `schema`.
///
/// # Errors
/// If the bytes are not a whole record of the schema, or do not fit the type.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8], schema: &WriterSchema) -> Result<T, AvroError> {
    let mut input = Input { bytes };
    let decoder = Decoder { input: &mut input, schema, node: schema.root(), depth: 0 };
    let value = T::deserialize(decoder)?;
    if !input.bytes.is_empty() {
        return Err(AvroError::new(format!("{} bytes are left behind the record", input.bytes.len())));
    }
    Ok(value)
}

struct Input<'de> {
    bytes: &'de [u8],
}

impl<'de> Input<'de> {
    fn take(&mut self, count: usize) -> Result<&'de [u8], AvroError> {
        let (taken, rest) =
            self.bytes.split_at_checked(count).ok_or_else(|| AvroError::new("the record is truncated"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn long(&mut self) -> Result<i64, AvroError> {
        let mut value: u64 = 0;
        for (index, byte) in self.bytes.iter().enumerate() {
            // The tenth byte may only carry the last bit.
            if index == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[index + 1..];
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
            if index == 9 {
                break;
            }
        }
        Err(AvroError::new("a number is truncated or too long"))
    }

    fn sized(&mut self) -> Result<&'de [u8], AvroError> {
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| AvroError::new("a negative length"))?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'de str, AvroError> {
        std::str::from_utf8(self.sized()?).map_err(|_| AvroError::new("a string is not UTF-8"))
    }
}

struct Decoder<'a, 'de> {
    input: &'a mut Input<'de>,
    schema: &'a WriterSchema,
    node: NodeId,
    depth: usize,
}

impl<'a, 'de> Decoder<'a, 'de> {
    fn at(self, node: NodeId) -> Self {
        Self { node, ..self }
    }

    /// Reads the branch of a union.
    fn branch(self, branches: &[NodeId]) -> Result<Self, AvroError> {
        let index = usize::try_from(self.input.long()?).ok();
        let node = index
            .and_then(|index| branches.get(index))
            .ok_or_else(|| AvroError::new("no such union branch"))?;
        Ok(self.at(*node))
    }
}

impl<'de> de::Deserializer<'de> for Decoder<'_, 'de> {
    type Error = AvroError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, AvroError> {
        if self.depth > DEPTH_MAX {
            return Err(AvroError::new(format!("a value nested deeper than {DEPTH_MAX}")));
        }
        let schema = self.schema;
        match schema.node(self.node) {
            Node::Null => visitor.visit_unit(),
            Node::Boolean => match self.input.take(1)? {
                [0] => visitor.visit_bool(false),
                [1] => visitor.visit_bool(true),
                _ => Err(AvroError::new("a boolean is neither 0 nor 1")),
            },
            Node::Int | Node::Long => visitor.visit_i64(self.input.long()?),
            Node::Float => {
                let bytes = self.input.take(4)?;
                visitor.visit_f64(f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
            }
            Node::Double => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(self.input.take(8)?);
                visitor.visit_f64(f64::from_le_bytes(bytes))
            }
            Node::Bytes => visitor.visit_borrowed_bytes(self.input.sized()?),
            Node::String => visitor.visit_borrowed_str(self.input.text()?),
            Node::Fixed(size) => visitor.visit_borrowed_bytes(self.input.take(*size)?),
            Node::Enum(symbols) => {
                let index = usize::try_from(self.input.long()?).ok();
                let symbol = index.and_then(|index| symbols.get(index));
                visitor.visit_str(symbol.ok_or_else(|| AvroError::new("no such enum symbol"))?)
            }
            Node::Array(items) => {
                let item = Self { node: *items, depth: self.depth + 1, ..self };
                visitor.visit_seq(Blocks::begin(item)?)
            }
            Node::Map(values) => {
                let value = Self { node: *values, depth: self.depth + 1, ..self };
                visitor.visit_map(Blocks::begin(value)?)
            }
            Node::Union(branches) => self.branch(branches)?.deserialize_any(visitor),
            Node::Record(record) => {
                let decoder = Self { depth: self.depth + 1, ..self };
                visitor.visit_map(Fields { decoder, record, plan: None, next: 0 })
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, AvroError> {
        let schema = self.schema;
        match schema.node(self.node) {
            Node::Record(record) if self.depth <= DEPTH_MAX => {
                let decoder = Self { depth: self.depth + 1, ..self };
                visitor.visit_map(Fields { decoder, record, plan: record.plan(names), next: 0 })
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, AvroError> {
        let schema = self.schema;
        let decoder = match schema.node(self.node) {
            Node::Union(branches) => self.branch(branches)?,
            _ => self,
        };
        match schema.node(decoder.node) {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(decoder),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Fields<'a, 'de> {
    decoder: Decoder<'a, 'de>,
    record: &'a Record,
    /// `None`: fields are told by their names.
    plan: Option<&'a Plan>,
    next: usize,
}

impl<'de> de::MapAccess<'de> for Fields<'_, 'de> {
    type Error = AvroError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, AvroError> {
        if let Some(plan) = self.plan {
            let index = plan.indexes.get(self.next);
            // serde's derived structs take a field's index for its name, and pass over one behind the last.
            return index.map(|index| seed.deserialize((*index).into_deserializer())).transpose();
        }
        match self.record.fields.get(self.next) {
            Some((name, _)) => seed.deserialize(name.as_str().into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, AvroError> {
        let (_, node) =
            self.record.fields.get(self.next).ok_or_else(|| AvroError::new("a value without a field"))?;
        self.next += 1;
        seed.deserialize(Decoder {
            input: &mut *self.decoder.input,
            schema: self.decoder.schema,
            node: *node,
            depth: self.decoder.depth,
        })
    }
}

/// The blocks of an array or map.
struct Blocks<'a, 'de> {
    decoder: Decoder<'a, 'de>,
    left: u64,
    empty_items: usize,
    done: bool,
}

impl<'a, 'de> Blocks<'a, 'de> {
    fn begin(decoder: Decoder<'a, 'de>) -> Result<Self, AvroError> {
        let mut blocks = Self { decoder, left: 0, empty_items: 0, done: false };
        blocks.next_block()?;
        Ok(blocks)
    }

    fn next_block(&mut self) -> Result<(), AvroError> {
        let count = self.decoder.input.long()?;
        if count < 0 {
            // A negative count is followed by the block's size in bytes.
            self.decoder.input.long()?;
        }
        self.left = count.unsigned_abs();
        self.done = self.left == 0;
        Ok(())
    }

    /// Whether another item follows.
    fn advance(&mut self) -> Result<bool, AvroError> {
        if self.left == 0 && !self.done {
            self.next_block()?;
        }
        if self.done {
            return Ok(false);
        }
        self.left -= 1;
        Ok(true)
    }

    /// Items that the rest of the block may have: no more than it has bytes for.
    fn items_left(&self) -> Option<usize> {
        let bytes = self.decoder.input.bytes.len();
        Some(usize::try_from(self.left).unwrap_or(bytes).min(bytes))
    }

    fn item<T>(
        &mut self,
        read: impl FnOnce(Decoder<'_, 'de>) -> Result<T, AvroError>,
    ) -> Result<T, AvroError> {
        let before = self.decoder.input.bytes.len();
        let value = read(Decoder {
            input: &mut *self.decoder.input,
            schema: self.decoder.schema,
            node: self.decoder.node,
            depth: self.decoder.depth,
        })?;
        if self.decoder.input.bytes.len() == before {
            self.empty_items += 1;
            if self.empty_items > EMPTY_ITEMS_MAX {
                return Err(AvroError::new(format!("more than {EMPTY_ITEMS_MAX} items of no size")));
            }
        }
        Ok(value)
    }
}

impl<'de> de::SeqAccess<'de> for Blocks<'_, 'de> {
    type Error = AvroError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, AvroError> {
        if !self.advance()? {
            return Ok(None);
        }
        self.item(|decoder| seed.deserialize(decoder)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.items_left()
    }
}

impl<'de> de::MapAccess<'de> for Blocks<'_, 'de> {
    type Error = AvroError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, AvroError> {
        if !self.advance()? {
            return Ok(None);
        }
        let key = self.decoder.input.text()?;
        seed.deserialize(de::value::BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, AvroError> {
        self.item(|decoder| seed.deserialize(decoder))
    }
}
