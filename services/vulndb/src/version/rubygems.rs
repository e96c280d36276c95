//! RubyGems' version order, as Gem::Version defines it (guides.rubygems.org, "Patterns": a letter makes a pre-release).
//! Never accepts what `Gem::Version.correct?` refuses, nor an empty text, which RubyGems reads as 0.

use super::compare_digits;
use super::semver::leading_number;
use std::cmp::Ordering;

/// Longest version that is parsed, in bytes.
const MAX_VERSION_BYTES: usize = 1024;

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Number(&'a str),
    Letters(&'a str),
}

impl Segment<'_> {
    fn is_zero(&self) -> bool {
        matches!(self, Segment::Number(digits) if digits.bytes().all(|b| b == b'0'))
    }
}

/// The canonical segments: without the zeros that end the numbers in front of the first letter, or the whole.
#[derive(Clone, Debug)]
pub struct Version<'a> {
    segments: Vec<Segment<'a>>,
}

impl<'a> Version<'a> {
    /// Parses `text`, surrounding blanks ignored; `None` where RubyGems reports a malformed version.
    pub fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
        if text.len() > MAX_VERSION_BYTES || !is_correct(text) {
            return None;
        }
        let mut segments = Vec::with_capacity(6);
        let mut first_letters = None;
        let mut rest = text;
        while let Some(&byte) = rest.as_bytes().first() {
            let length = if byte.is_ascii_digit() {
                let (digits, _) = leading_number(rest)?;
                segments.push(Segment::Number(digits));
                digits.len()
            } else {
                let end = rest.bytes().position(|b| !b.is_ascii_alphabetic()).unwrap_or(rest.len());
                if end > 0 || byte == b'-' {
                    first_letters.get_or_insert(segments.len());
                    // A hyphen is another way to write `.pre.`.
                    segments.push(Segment::Letters(if byte == b'-' { "pre" } else { &rest[..end] }));
                }
                end.max(1)
            };
            rest = &rest[length..];
        }
        let first_letters = first_letters.unwrap_or(segments.len());
        let mut numbers = first_letters;
        while numbers > 0 && segments[numbers - 1].is_zero() {
            numbers -= 1;
        }
        segments.drain(numbers..first_letters);
        while segments.len() > numbers && segments.last().is_some_and(Segment::is_zero) {
            segments.pop();
        }
        Some(Version { segments })
    }

    /// The one spelling that equal versions share.
    pub fn canonical(&self) -> String {
        let parts: Vec<&str> = self
            .segments
            .iter()
            .map(|segment| match *segment {
                Segment::Letters(letters) => letters,
                Segment::Number(digits) => match digits.trim_start_matches('0') {
                    "" => "0",
                    stripped => stripped,
                },
            })
            .collect();
        if parts.is_empty() { "0".to_owned() } else { parts.join(".") }
    }
}

/// `[0-9]+(\.[0-9a-zA-Z]+)*(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?`
fn is_correct(text: &str) -> bool {
    let (release, pre) = text.split_once('-').map_or((text, None), |(release, pre)| (release, Some(pre)));
    let mut parts = release.split('.');
    let first = parts.next().unwrap_or("");
    !first.is_empty()
        && first.bytes().all(|b| b.is_ascii_digit())
        && parts.all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()))
        && pre.is_none_or(super::semver::is_identifier_list)
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        use Segment::{Letters, Number};
        for position in 0..self.segments.len().max(other.segments.len()) {
            let at = |version: &Self| version.segments.get(position).copied().unwrap_or(Number("0"));
            let order = match (at(self), at(other)) {
                (Number(a), Number(b)) => compare_digits(a, b),
                (Letters(a), Letters(b)) => a.cmp(b),
                (Letters(_), Number(_)) => Ordering::Less,
                (Number(_), Letters(_)) => Ordering::Greater,
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }
}

super::ordered_by_cmp!(Version<'_>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::laws;

    #[test]
    fn orders_as_rubygems_does() {
        laws::sorted(
            Version::parse,
            &[
                "0.a",
                "0",
                "0.9",
                "1.0.a.2",
                "1.0.a10",
                "1.0.b1",
                "1.0-rc1",
                "1.0.pre",
                "1.0.rc1",
                "1.0",
                "1.0.1",
                "1.2.3",
                "1.10",
                "2.1.0pre1",
                "2.1",
                "4.25.14p12",
                "4.25.14",
            ],
        );
        laws::equal(Version::parse, &["1", "1.0", "1.0.0", "01", " 1.0 "]);
        laws::equal(Version::parse, &["1.0-rc1", "1.0.pre.rc1", "1.pre.rc.1", "1-rc1.0"]);
    }

    #[test]
    fn refuses_what_rubygems_refuses() {
        for text in ["", " ", "a", "1a", "v1", "1.", ".1", "1..2", "1_2", "1.0-", "1 2", "1.ü", "1.2+3"] {
            assert!(Version::parse(text).is_none(), "{text:?}");
        }
    }

    laws::total_order!("[0-9]{1,2}([.][0-9a-bB]{1,3}){0,3}(-[0-9a-b-]{1,2}([.][0-9a])?)?");
}
