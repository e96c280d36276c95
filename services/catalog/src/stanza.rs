//! Reads stanzas of `Field: value` lines (deb822, RFC 822 headers): dpkg's status, Python's METADATA, copyright files.
//! Never gives up: a line that is none is reported with its place, and everything else is still read. Copies nothing.

/// Longest line accepted, in bytes.
pub(crate) const MAX_LINE_BYTES: usize = 1024 * 1024;
/// Most fields kept of one stanza.
pub(crate) const MAX_FIELDS: usize = 1000;
/// Most damaged lines reported of one stanza.
pub(crate) const MAX_DAMAGES: usize = 8;

/// One field; the value is as it stands in the file, continuation lines included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
}

/// A line that cannot be what the format allows there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Counted from 1.
    pub line: usize,
    /// Byte offset of the line in its file.
    pub offset: usize,
    pub what: &'static str,
}

/// The fields between two empty lines.
#[derive(Debug, Default)]
pub(crate) struct Stanza<'a> {
    /// Line of its first field, counted from 1.
    pub line: usize,
    /// Byte offset of its first field.
    pub offset: usize,
    pub fields: Vec<Field<'a>>,
    pub damages: Vec<Damage>,
    /// Damaged lines beyond [`MAX_DAMAGES`].
    pub more_damages: usize,
}

impl<'a> Stanza<'a> {
    /// The value of the first field of this name, in any case, trimmed.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The values of all fields of this name.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        let matches = move |field: &&Field<'a>| field.name.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(matches).map(|field| field.value.trim_ascii())
    }

    fn damaged(&mut self, line: usize, offset: usize, what: &'static str) {
        if self.damages.len() < MAX_DAMAGES {
            self.damages.push(Damage { line, offset, what });
        } else {
            self.more_damages += 1;
        }
    }
}

/// Iterates over the stanzas of a file. `restart_field` names a field that can only begin a stanza: a second one means
/// that the empty line between two stanzas was lost.
pub(crate) struct Stanzas<'a> {
    bytes: &'a [u8],
    position: usize,
    line: usize,
    restart_field: Option<&'a str>,
}

impl<'a> Stanzas<'a> {
    pub fn new(bytes: &'a [u8], restart_field: Option<&'a str>) -> Self {
        Self { bytes, position: 0, line: 0, restart_field }
    }

    /// The next line without its end, and where it starts; does not advance.
    fn peek_line(&self) -> Option<(&'a [u8], usize)> {
        if self.position >= self.bytes.len() {
            return None;
        }
        let rest = &self.bytes[self.position..];
        let end = memchr::memchr(b'\n', rest);
        let next = self.position + end.map_or(rest.len(), |end| end + 1);
        let line = &rest[..end.unwrap_or(rest.len())];
        Some((line.strip_suffix(b"\r").unwrap_or(line), next))
    }
}

impl<'a> Iterator for Stanzas<'a> {
    type Item = Stanza<'a>;

    fn next(&mut self) -> Option<Stanza<'a>> {
        let mut stanza = Stanza::default();
        // Where the value of the last field starts, while continuation lines may still extend it.
        let mut value_start: Option<usize> = None;
        while let Some((line, next)) = self.peek_line() {
            let offset = self.position;
            if line.trim_ascii().is_empty() {
                self.position = next;
                self.line += 1;
                if stanza.fields.is_empty() && stanza.damages.is_empty() {
                    continue;
                }
                return Some(stanza);
            }
            let is_continuation = matches!(line.first(), Some(b' ' | b'\t'));
            let field = if is_continuation { None } else { field_of(line) };
            if let (Some((name, _)), Some(restart)) = (field, self.restart_field)
                && name.eq_ignore_ascii_case(restart.as_bytes())
                && stanza.get(restart).is_some()
            {
                stanza.damaged(self.line + 1, offset, "no empty line before this package");
                return Some(stanza);
            }
            self.position = next;
            self.line += 1;
            if stanza.line == 0 {
                (stanza.line, stanza.offset) = (self.line, offset);
            }
            if line.len() > MAX_LINE_BYTES {
                stanza.damaged(self.line, offset, "longer than a line may be");
                value_start = None;
            } else if is_continuation {
                match (value_start, stanza.fields.last_mut()) {
                    (Some(start), Some(last)) => last.value = &self.bytes[start..offset + line.len()],
                    _ => stanza.damaged(self.line, offset, "continues a field, but there is none before it"),
                }
            } else if let Some((name, value_at)) = field {
                value_start = None;
                if stanza.fields.len() < MAX_FIELDS {
                    value_start = Some(offset + value_at);
                    stanza.fields.push(Field { name, value: &line[value_at..] });
                } else {
                    stanza.damaged(self.line, offset, "more fields than a stanza may have");
                }
            } else {
                stanza.damaged(self.line, offset, "neither a field nor the continuation of one");
                value_start = None;
            }
        }
        (!stanza.fields.is_empty() || !stanza.damages.is_empty()).then_some(stanza)
    }
}

/// Name of the field, and where its value starts in the line.
fn field_of(line: &[u8]) -> Option<(&[u8], usize)> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    let is_name = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic());
    is_name.then_some((name, colon + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(input: &str, expect: &str) {
        let mut out = String::new();
        for stanza in Stanzas::new(input.as_bytes(), Some("Package")) {
            for field in &stanza.fields {
                let value = String::from_utf8_lossy(field.value);
                out += &format!("{}={:?} ", String::from_utf8_lossy(field.name), value.trim());
            }
            for damage in &stanza.damages {
                out += &format!("!{}@{} ", damage.line, damage.offset);
            }
            out += "| ";
        }
        assert_eq!(out.trim_end(), expect, "{input:?}");
    }

    #[test]
    fn stanzas() {
        check("", "");
        check("\n\n", "");
        check("Package: a\nVersion: 1\n\nPackage: b\n", r#"Package="a" Version="1" | Package="b" |"#);
        check("Package: a\r\nText: x\r\n y\r\n .\r\n\r\n", r#"Package="a" Text="x\r\n y\r\n ." |"#);
        check("Package: a\nPackage: b", r#"Package="a" !2@11 | Package="b" |"#);
        check("Package: a\n\u{1}garbage\n lost\nVersion: 1", r#"Package="a" Version="1" !2@11 !3@20 |"#);
        check(" first\nPackage: a", r#"Package="a" !1@0 |"#);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(proptest::sample::select(b"Package: \n\t\r\x00\xff".to_vec()), 0..300)) {
            for stanza in Stanzas::new(&bytes, Some("Package")) {
                prop_assert!(stanza.offset <= bytes.len());
                prop_assert!(stanza.all("package").count() <= 1);
            }
        }
    }
}
