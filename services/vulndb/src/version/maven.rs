//! Maven's version order: ComparableVersion of maven-artifact (Maven's POM reference, "Version Order
//! Specification"). Never orders what Maven refuses as a version: empty, with a blank, a placeholder or an illegal character.
//! The order is Maven's even where that contradicts itself, so sort by `sort_by_version`.

use super::compare_digits;
use super::semver::is_number;
use std::cmp::Ordering;

/// Longest version that is parsed, in bytes; Maven has no bound.
const MAX_VERSION_BYTES: usize = 1024;
/// What Maven's model validation refuses in a version.
const ILLEGAL: &[u8] = b"\\/:\"<>|?*[](){},";
/// Qualifiers that Maven knows, in order; all others stand behind them, by their text.
const KNOWN: [&str; 7] = ["alpha", "beta", "milestone", "rc", "snapshot", "", "sp"];
/// The release itself among [`KNOWN`].
const RELEASE: usize = 5;

/// Maven's items are lists within lists, but a list is always the last item of the one around it. So a version
/// is one row, in which `Open` says that the rest is the inner list.
#[derive(Clone, Copy, Debug)]
enum Item<'a> {
    Number(&'a str),
    /// Position in [`KNOWN`].
    Known(usize),
    /// In any case of letters; without order among the known ones.
    Other(&'a str),
    Open,
}

/// A parsed version.
#[derive(Clone, Debug)]
pub struct Version<'a> {
    items: Vec<Item<'a>>,
}

impl<'a> Version<'a> {
    /// Parses `text`, surrounding blanks ignored.
    pub fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let legal = |b: u8| b.is_ascii_graphic() && !ILLEGAL.contains(&b);
        // The two words stand for "whatever is newest", not for a version.
        let meta = text == "RELEASE" || text == "LATEST";
        if text.is_empty() || text.len() > MAX_VERSION_BYTES || !text.bytes().all(legal) || meta {
            return None;
        }
        Some(Version { items: without_empty_ends(&split(text)) })
    }

    /// The one spelling that equal versions share.
    pub fn canonical(&self) -> String {
        let mut out = String::with_capacity(16);
        for item in &self.items {
            if !out.is_empty() && !out.ends_with('-') && !matches!(item, Item::Open) {
                out.push('.');
            }
            match item {
                Item::Open => out.push('-'),
                Item::Known(RELEASE) => out.push_str("final"),
                Item::Known(rank) => out.push_str(KNOWN[*rank]),
                Item::Other(text) => out.extend(text.chars().map(|c| c.to_ascii_lowercase())),
                Item::Number(digits) => match digits.trim_start_matches('0') {
                    "" => out.push('0'),
                    stripped => out.push_str(stripped),
                },
            }
        }
        out
    }
}

/// Splits at dots, hyphens and between digits and letters; a hyphen and such a change open a list.
fn split(text: &str) -> Vec<Item<'_>> {
    let mut items = Vec::with_capacity(8);
    let mut digits = false;
    let mut start = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'.' | b'-' => {
                items.push(if at == start { Item::Number("0") } else { item(&text[start..at], false) });
                start = at + 1;
                if byte == b'-' {
                    items.push(Item::Open);
                }
            }
            _ if byte.is_ascii_digit() != digits => {
                if at > start {
                    let before = &text[start..at];
                    if !digits && is_filled(&items) {
                        items.push(Item::Open);
                    }
                    items.push(item(before, !digits));
                    items.push(Item::Open);
                    start = at;
                }
                digits = !digits;
            }
            _ => {}
        }
    }
    if start < text.len() {
        if !digits && is_filled(&items) {
            items.push(Item::Open);
        }
        items.push(item(&text[start..], false));
    }
    items
}

/// Whether the list that is open has an item.
fn is_filled(items: &[Item<'_>]) -> bool {
    !matches!(items.last(), None | Some(Item::Open))
}

fn item(text: &str, before_digit: bool) -> Item<'_> {
    if is_number(text) {
        return Item::Number(text);
    }
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    let short = before_digit && text.len() == 1;
    let known = match () {
        () if short && is("a") => Some(0),
        () if short && is("b") => Some(1),
        () if short && is("m") => Some(2),
        () if is("cr") => Some(3),
        () if is("ga") || is("final") || is("release") => Some(RELEASE),
        () => KNOWN.iter().position(|known| is(known)),
    };
    known.map_or(Item::Other(text), Item::Known)
}

/// Drops what means nothing at the end of each list: zeros, release words and empty lists.
fn without_empty_ends<'a>(items: &[Item<'a>]) -> Vec<Item<'a>> {
    let mut kept = Vec::with_capacity(items.len());
    let mut at_end = true;
    for &item in items.iter().rev() {
        match item {
            Item::Open => {
                if !kept.is_empty() {
                    kept.push(item);
                }
                at_end = true;
            }
            item if at_end && against_nothing(item) == Ordering::Equal => {}
            item => {
                kept.push(item);
                at_end = false;
            }
        }
    }
    kept.reverse();
    kept
}

/// Where an item stands relative to none; a list is judged by what is in it.
fn against_nothing(item: Item<'_>) -> Ordering {
    match item {
        Item::Number(digits) if digits.bytes().all(|b| b == b'0') => Ordering::Equal,
        Item::Number(_) | Item::Other(_) => Ordering::Greater,
        Item::Known(rank) => rank.cmp(&RELEASE),
        Item::Open => Ordering::Equal,
    }
}

fn compare_items(a: Item<'_>, b: Item<'_>) -> Ordering {
    use Item::{Known, Number, Open, Other};
    let class = |item: &Item<'_>| match item {
        Known(_) => 0,
        Other(_) => 1,
        Open => 2,
        Number(_) => 3,
    };
    match (a, b) {
        (Number(a), Number(b)) => compare_digits(a, b),
        (Known(a), Known(b)) => a.cmp(&b),
        (Other(a), Other(b)) => {
            a.bytes().map(|b| b.to_ascii_lowercase()).cmp(b.bytes().map(|b| b.to_ascii_lowercase()))
        }
        _ => class(&a).cmp(&class(&b)),
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        for position in 0..self.items.len().max(other.items.len()) {
            let order = match (self.items.get(position), other.items.get(position)) {
                (Some(&a), Some(&b)) => compare_items(a, b),
                (Some(&a), None) => against_nothing(a),
                (None, Some(&b)) => against_nothing(b).reverse(),
                (None, None) => Ordering::Equal,
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
    fn orders_as_maven_does() {
        laws::sorted(
            Version::parse,
            &[
                "1-alpha2snapshot",
                "1-alpha2",
                "1-alpha-123",
                "1-beta-2",
                "1-beta123",
                "1-m2",
                "1-m11",
                "1-rc",
                "1-rc2",
                "1-SNAPSHOT",
                "1",
                "1-sp",
                "1-sp2",
                "1-abc",
                "1-jre",
                "1-1-snapshot",
                "1-1",
                "1-2",
                "1.1-SNAPSHOT",
                "1.1",
            ],
        );
        laws::sorted(Version::parse, &["2.9.1", "2.10.0", "2.14.1", "2.15.0-rc1", "2.15.0"]);
        laws::sorted(Version::parse, &["4.1.0.CR1", "4.1.0.Final", "4.1.1.Final"]);
        laws::equal(
            Version::parse,
            &["1", "1.0", "1.0.0", "1-ga", "1.0.Final", "1.0.0.RELEASE", "1-0", "01", "1."],
        );
        laws::equal(Version::parse, &["1a1", "1-alpha-1", "1.0-ALPHA1", "1alpha1"]);
        laws::equal(Version::parse, &["1-cr2", "1-rc2"]);
        laws::sorted(Version::parse, &["99999999999999999999998", "99999999999999999999999"]);
    }

    #[test]
    fn refuses_what_maven_refuses() {
        for text in [
            "",
            " ",
            "${project.version}",
            "1.0 beta",
            "[1.0,2.0)",
            "1/2",
            "1:2",
            "LATEST",
            "RELEASE",
            "1.0\u{1}",
            "1.ü",
        ] {
            assert!(Version::parse(text).is_none(), "{text:?}");
        }
    }

    /// Known of Maven itself: a qualifier between a dot and a hyphen, and a list within a list, contradict the
    /// rest of the order. Such versions hardly exist, and are compared as Maven does.
    #[test]
    fn has_the_cycles_that_maven_has() {
        let less = |a, b| Version::parse(a).unwrap() < Version::parse(b).unwrap();
        assert!(less("6SNAPSHOT", "6") && less("6", "6.sp-0") && less("6.sp-0", "6SNAPSHOT"));
        assert!(less("1-sp", "1-0-alpha") && less("1-0-alpha", "1") && less("1", "1-sp"));
    }

    laws::total_order!(
        "[0-9]{1,2}([.][0-9]){0,3}(-?(a|b|rc|sp|x)[1-9]?(-SNAPSHOT|-[1-9])?|[-.]final|-SNAPSHOT|-[1-9])?"
    );
}
