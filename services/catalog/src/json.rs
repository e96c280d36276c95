//! Reads JSON objects field by field, so that what stands before a damage is still known.
//! Never builds a tree of values: deep nesting and long lists cost no memory and no stack beyond their own bytes.

use crate::bounds::LeftOut;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Most entries of one object or list; one more is kept, so that [`Shallow::bounded`] can tell.
pub(crate) const MAX_ENTRIES: usize = 2_000;

/// A value, and of objects and lists the texts directly in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shallow {
    /// Null, a number, or a value within another that is no text.
    Other,
    Bool(bool),
    Text(String),
    /// Keys with their texts, empty for values that are none.
    Map(Vec<(String, String)>),
    /// The texts of a list; of objects in it the text of their field `type`.
    List(Vec<String>),
}

impl Shallow {
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The keys of an object; none of everything else.
    pub fn keys(self) -> Vec<String> {
        match self {
            Self::Map(entries) => entries.into_iter().map(|(key, _)| key).collect(),
            _ => Vec::new(),
        }
    }

    /// With at most [`MAX_ENTRIES`] entries; `left_out` gets to know of more of `what`.
    pub fn bounded(mut self, what: &str, left_out: &mut LeftOut) -> Self {
        match &mut self {
            Self::Map(entries) => left_out.keep(entries, MAX_ENTRIES, what),
            Self::List(texts) => left_out.keep(texts, MAX_ENTRIES, what),
            Self::Bool(_) | Self::Other | Self::Text(_) => {}
        }
        self
    }

    /// A text, the texts of a list, or the field `type` of an object.
    pub fn texts(self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text],
            Self::List(texts) => texts,
            Self::Map(entries) => {
                entries.into_iter().filter(|(key, _)| key == "type").map(|(_, value)| value).collect()
            }
            Self::Bool(_) | Self::Other => Vec::new(),
        }
    }
}

/// Without the byte order mark that some editors write.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Calls `visit` with each field of the object that `bytes` hold, in their order.
///
/// # Errors
/// When it is no JSON or no object; the fields before the damage have been visited.
pub(crate) fn read_fields(
    bytes: &[u8],
    visit: &mut dyn FnMut(&str, Shallow),
) -> Result<(), serde_json::Error> {
    let mut input = serde_json::Deserializer::from_slice(without_mark(bytes));
    Fields { visit, is_strict: true }.deserialize(&mut input)?;
    input.end()
}

/// Visits the fields of one object. Unless strict, another value than an object is passed over.
pub(crate) struct Fields<'v> {
    pub visit: &'v mut dyn FnMut(&str, Shallow),
    pub is_strict: bool,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl Fields<'_> {
    fn pass_over<E: Error>(&self, what: &str) -> Result<(), E> {
        if self.is_strict { Err(E::custom(format!("{what} instead of an object"))) } else { Ok(()) }
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(ShallowSeed)?;
            (self.visit)(&key, value);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.pass_over("a list")?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.pass_over("a truth value")
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.pass_over("a number")
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.pass_over("a number")
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.pass_over("a number")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.pass_over("a text")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.pass_over("null")
    }
}

/// Reads any value as a [`Shallow`] one.
pub(crate) struct ShallowSeed;

impl<'de> DeserializeSeed<'de> for ShallowSeed {
    type Value = Shallow;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Shallow, D::Error> {
        input.deserialize_any(ShallowVisitor { depth: 0 })
    }
}

/// At depth 0 the value itself, at depth 1 what is directly in it.
#[derive(Clone, Copy)]
struct ShallowVisitor {
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for ShallowVisitor {
    type Value = Shallow;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Shallow, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ShallowVisitor {
    type Value = Shallow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shallow, A::Error> {
        let mut entries: Vec<(String, String)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            // Within a list only the field `type` of an object is asked for.
            let is_kept = entries.len() <= MAX_ENTRIES && (self.depth == 0 || key == "type");
            if !is_kept {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value_seed(TextSeed)?;
            entries.push((key, value.unwrap_or_default()));
        }
        Ok(Shallow::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shallow, A::Error> {
        let mut texts = Vec::new();
        while self.depth == 0 && texts.len() <= MAX_ENTRIES {
            match list.next_element_seed(Self { depth: 1 })? {
                Some(value) => texts.extend(value.texts()),
                None => return Ok(Shallow::List(texts)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Shallow::List(texts))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Shallow, E> {
        Ok(Shallow::Bool(value))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Shallow, E> {
        Ok(Shallow::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Shallow, E> {
        Ok(Shallow::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Shallow, E> {
        Ok(Shallow::Other)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Shallow, E> {
        Ok(Shallow::Text(text.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Shallow, E> {
        Ok(Shallow::Other)
    }
}

/// A text; every other value is passed over.
struct TextSeed;

impl<'de> DeserializeSeed<'de> for TextSeed {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Option<String>, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextSeed {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<String>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Option<String>, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expect: &str) {
        let mut out = String::new();
        let result = read_fields(json.as_bytes(), &mut |key, value| out += &format!("{key}={value:?} "));
        out += if result.is_ok() { "ok" } else { "error" };
        assert_eq!(out, expect, "{json}");
    }

    #[test]
    fn fields() {
        check("\u{feff}{}", "ok");
        check(
            r#"{"a":"b","c":1,"d":-1.5,"e":null,"f":true}"#,
            r#"a=Text("b") c=Other d=Other e=Other f=Bool(true) ok"#,
        );
        check(r#"{"a":{"x":"1","y":{"z":[]}}}"#, r#"a=Map([("x", "1"), ("y", "")]) ok"#);
        check(r#"{"a":["x",1,{"type":"MIT","u":{}},["deep"]]}"#, r#"a=List(["x", "MIT"]) ok"#);
        check(r#"{"a":"kept","b":"#, r#"a=Text("kept") error"#);
        check("[1]", "error");
        check("5", "error");
        check("", "error");
        check("{} trailing", "error");
    }

    #[test]
    fn nesting_costs_no_stack() {
        let depth = 1_000_000;
        let json = format!(r#"{{"a":{}{},"b":"c"}}"#, "[".repeat(depth), "]".repeat(depth));
        check(&json, r#"a=List([]) b=Text("c") ok"#);
    }
}
