//! A serde type to Avro's binary encoding. The type is its schema: fields are written in the order of the struct,
//! which the build takes from the schema. It must never write what our subset of Avro does not have.

use serde::Serialize;
use serde::ser::{self, Impossible};

use super::AvroError;

/// Appends the encoding of `value` to `out`. Options are unions of null and one other type.
///
/// # Errors
/// If the value has a type outside of our subset of Avro.
pub fn to_vec<T: Serialize>(value: &T, out: Vec<u8>) -> Result<Vec<u8>, AvroError> {
    let mut encoder = Encoder { out };
    value.serialize(&mut encoder)?;
    Ok(encoder.out)
}

struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    fn long(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.out.push((rest as u8) | 0x80);
            rest >>= 7;
        }
        self.out.push(rest as u8);
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.long(bytes.len() as i64);
        self.out.extend_from_slice(bytes);
    }

    /// Starts an array or map of known length, in one block.
    fn block(&mut self, length: Option<usize>) -> Result<Block<'_>, AvroError> {
        let length = length.ok_or_else(|| AvroError::new("a list of unknown length"))?;
        if length > 0 {
            self.long(length as i64);
        }
        Ok(Block { encoder: self })
    }
}

fn outside<T>(what: &str) -> Result<T, AvroError> {
    Err(AvroError::new(format!("{what} is outside of our subset of Avro")))
}

struct Block<'a> {
    encoder: &'a mut Encoder,
}

impl ser::SerializeSeq for Block<'_> {
    type Ok = ();
    type Error = AvroError;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), AvroError> {
        value.serialize(&mut *self.encoder)
    }

    fn end(self) -> Result<(), AvroError> {
        self.encoder.long(0);
        Ok(())
    }
}

impl ser::SerializeMap for Block<'_> {
    type Ok = ();
    type Error = AvroError;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), AvroError> {
        key.serialize(&mut *self.encoder)
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), AvroError> {
        value.serialize(&mut *self.encoder)
    }

    fn end(self) -> Result<(), AvroError> {
        self.encoder.long(0);
        Ok(())
    }
}

struct Fields<'a> {
    encoder: &'a mut Encoder,
}

impl ser::SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = AvroError;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), AvroError> {
        value.serialize(&mut *self.encoder)
    }

    fn end(self) -> Result<(), AvroError> {
        Ok(())
    }
}

impl<'a> ser::Serializer for &'a mut Encoder {
    type Ok = ();
    type Error = AvroError;
    type SerializeSeq = Block<'a>;
    type SerializeMap = Block<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeTuple = Impossible<(), AvroError>;
    type SerializeTupleStruct = Impossible<(), AvroError>;
    type SerializeTupleVariant = Impossible<(), AvroError>;
    type SerializeStructVariant = Impossible<(), AvroError>;

    fn serialize_bool(self, value: bool) -> Result<(), AvroError> {
        self.out.push(u8::from(value));
        Ok(())
    }
    fn serialize_i32(self, value: i32) -> Result<(), AvroError> {
        self.long(i64::from(value));
        Ok(())
    }
    fn serialize_i64(self, value: i64) -> Result<(), AvroError> {
        self.long(value);
        Ok(())
    }
    fn serialize_f64(self, value: f64) -> Result<(), AvroError> {
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }
    fn serialize_str(self, value: &str) -> Result<(), AvroError> {
        self.sized(value.as_bytes());
        Ok(())
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<(), AvroError> {
        self.sized(value);
        Ok(())
    }
    fn serialize_none(self) -> Result<(), AvroError> {
        self.long(0);
        Ok(())
    }
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), AvroError> {
        self.long(1);
        value.serialize(self)
    }
    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), AvroError> {
        value.serialize(self)
    }
    fn serialize_seq(self, length: Option<usize>) -> Result<Block<'a>, AvroError> {
        self.block(length)
    }
    fn serialize_map(self, length: Option<usize>) -> Result<Block<'a>, AvroError> {
        self.block(length)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, AvroError> {
        Ok(Fields { encoder: self })
    }

    fn serialize_i8(self, _: i8) -> Result<(), AvroError> {
        outside("i8")
    }
    fn serialize_i16(self, _: i16) -> Result<(), AvroError> {
        outside("i16")
    }
    fn serialize_u8(self, _: u8) -> Result<(), AvroError> {
        outside("u8")
    }
    fn serialize_u16(self, _: u16) -> Result<(), AvroError> {
        outside("u16")
    }
    fn serialize_u32(self, _: u32) -> Result<(), AvroError> {
        outside("u32")
    }
    fn serialize_u64(self, _: u64) -> Result<(), AvroError> {
        outside("u64")
    }
    fn serialize_f32(self, _: f32) -> Result<(), AvroError> {
        outside("f32")
    }
    fn serialize_char(self, _: char) -> Result<(), AvroError> {
        outside("char")
    }
    fn serialize_unit(self) -> Result<(), AvroError> {
        outside("unit")
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), AvroError> {
        outside("a unit struct")
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), AvroError> {
        outside("an enum")
    }
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), AvroError> {
        outside("an enum")
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, AvroError> {
        outside("a tuple")
    }
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, AvroError> {
        outside("a tuple")
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, AvroError> {
        outside("an enum")
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, AvroError> {
        outside("an enum")
    }
    fn is_human_readable(&self) -> bool {
        false
    }
}
