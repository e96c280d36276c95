//! What the orders by Semantic Versioning 2.0.0 (<https://semver.org>) share: identifiers and their precedence.
//! Never decides which spellings are versions; that is each ecosystem's own module.

use super::compare_digits;
use std::cmp::Ordering;

/// Whether `text` consists of letters, digits and hyphens, and has any.
pub(super) fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether `text` is a dotted list of identifiers, as build metadata and pre-releases are.
pub(super) fn is_identifier_list(text: &str) -> bool {
    text.split('.').all(is_identifier)
}

pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A number that the specification refuses: with a leading zero.
pub(super) fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && is_number(text)
}

/// Splits the digits at the start from the rest; `None` if there are none.
pub(super) fn leading_number(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Precedence of two pre-releases; an empty one is the release itself, which stands above all of them.
pub(super) fn compare_pre_release(a: &str, b: &str) -> Ordering {
    if a.is_empty() || b.is_empty() {
        return a.is_empty().cmp(&b.is_empty());
    }
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(x), Some(y)) => match (is_number(x), is_number(y)) {
                (true, true) => compare_digits(x, y),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => x.cmp(y),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A dotted pre-release with its numbers in one spelling.
pub(super) fn canonical_pre_release(pre: &str) -> String {
    let parts: Vec<&str> = pre
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0",
            stripped if is_number(part) => stripped,
            _ => part,
        })
        .collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_the_specifications_pre_releases() {
        let sorted = ["alpha", "alpha.1", "alpha.beta", "beta", "beta.2", "beta.11", "rc.1", ""];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(compare_pre_release(a, b), i.cmp(&j), "{a} against {b}");
            }
        }
    }
}
