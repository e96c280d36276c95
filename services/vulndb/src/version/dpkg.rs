//! Debian's version order, as deb-version(7) describes it and dpkg implements it.
//! Never accepts what dpkg would refuse (spaces, an epoch that is no number, an empty version).

use super::compare_digits;
use std::cmp::Ordering;

/// Longest version that is parsed, in bytes; dpkg has no bound, real ones stay below 100.
const MAX_VERSION_BYTES: usize = 1024;

/// `[epoch:]upstream[-revision]`, borrowed from the text it was parsed from.
#[derive(Clone, Debug)]
pub struct Version<'a> {
    text: &'a str,
    epoch: u32,
    upstream: &'a str,
    revision: &'a str,
}

impl<'a> Version<'a> {
    /// Parses `text` with surrounding blanks ignored; `None` where dpkg reports an error.
    pub fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim_matches([' ', '\t', '\n']);
        if text.is_empty() || text.len() > MAX_VERSION_BYTES {
            return None;
        }
        let (epoch, rest) = match text.split_once(':') {
            // dpkg keeps the epoch in an int.
            Some((epoch, rest)) if epoch.bytes().all(|b| b.is_ascii_digit()) => {
                (epoch.parse::<u32>().ok().filter(|&e| e <= i32::MAX as u32)?, rest)
            }
            Some(_) => return None,
            None => (0, text),
        };
        let (upstream, revision) = match rest.rsplit_once('-') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (rest, ""),
        };
        let upstream_ok = |b: u8| b.is_ascii_alphanumeric() || b".+-:~".contains(&b);
        let revision_ok = |b: u8| b.is_ascii_alphanumeric() || b".+~".contains(&b);
        let valid = !upstream.is_empty()
            && upstream.as_bytes()[0].is_ascii_digit()
            && upstream.bytes().all(upstream_ok)
            && revision.bytes().all(revision_ok);
        valid.then_some(Version { text, epoch, upstream, revision })
    }

    /// The text without surrounding blanks.
    pub fn text(&self) -> &'a str {
        self.text
    }
}

/// dpkg's weight of a character outside a number: `~` before the end, the end before letters,
/// letters before everything else.
fn weight(byte: Option<u8>) -> i32 {
    match byte {
        None => 0,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b'~') => -1,
        Some(b) if b.is_ascii_alphabetic() => i32::from(b),
        Some(b) => i32::from(b) + 256,
    }
}

fn digits_at(text: &str, from: usize) -> &str {
    let rest = &text[from..];
    let end = rest.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
    &rest[..end]
}

/// Compares one part (upstream or revision): runs of non-digits by weight, runs of digits by value.
fn compare_part(a: &str, b: &str) -> Ordering {
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        loop {
            let (x, y) = (a.as_bytes().get(i).copied(), b.as_bytes().get(j).copied());
            let in_text = |c: Option<u8>| c.is_some_and(|c| !c.is_ascii_digit());
            if !in_text(x) && !in_text(y) {
                break;
            }
            match weight(x).cmp(&weight(y)) {
                // Equal weights mean the same character on both sides: neither is at its end here.
                Ordering::Equal => (i, j) = (i + 1, j + 1),
                unequal => return unequal,
            }
        }
        let (x, y) = (digits_at(a, i), digits_at(b, j));
        match compare_digits(x, y) {
            Ordering::Equal => (i, j) = (i + x.len(), j + y.len()),
            unequal => return unequal,
        }
    }
    Ordering::Equal
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare_part(self.upstream, other.upstream))
            .then_with(|| compare_part(self.revision, other.revision))
    }
}

impl PartialOrd for Version<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(a: &str, expect: Ordering, b: &str) {
        let (x, y) = (Version::parse(a).unwrap(), Version::parse(b).unwrap());
        assert_eq!(x.cmp(&y), expect, "{a} against {b}");
        assert_eq!(y.cmp(&x), expect.reverse(), "{b} against {a}");
    }

    #[test]
    fn orders_as_dpkg_does() {
        use Ordering::*;
        for (a, expect, b) in [
            ("1.0", Equal, "1.0"),
            ("1.0", Equal, "0:1.0"),
            ("1.0", Equal, "1.0-0"),
            ("1.0", Equal, "1.00"),
            ("1.0", Less, "1.0-1"),
            ("1.0~rc1", Less, "1.0"),
            ("1.0~~", Less, "1.0~"),
            ("1.0~", Less, "1.0"),
            ("1.0-1~deb12u1", Less, "1.0-1"),
            ("1.0-1+deb12u1", Greater, "1.0-1"),
            ("3.0.1-1", Less, "3.0.11-1~deb12u2"),
            ("1:0.1", Greater, "99.9"),
            ("1.0a", Less, "1.0+"),
            ("1.0a", Greater, "1.0"),
            ("1.2.3", Less, "1.2.10"),
            ("1.0.5+dfsg-1", Greater, "1.0.5-1"),
            ("2.31-13+deb11u3", Less, "2.31-13+deb11u11"),
            ("1.0-2-1", Less, "1.0-2-2"),
            ("20230311deb12u1", Less, "20230311+deb12u1"),
            ("99999999999999999999998", Less, "99999999999999999999999"),
        ] {
            check(a, expect, b);
        }
    }

    #[test]
    fn refuses_what_dpkg_refuses() {
        for text in
            ["", " ", "1.0 2", "a:1", ":1", "1:", "1.0-", "-1", "99999999999:1", "1.0_2", "x1", "1:-1", "1-ü"]
        {
            assert!(Version::parse(text).is_none(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn is_a_total_order(texts in proptest::array::uniform3("([0-9]:)?[0-9][0-9a-c.+~]{0,6}(-[0-9a-c.+~]{1,4})?")) {
            let v: Vec<_> = texts.iter().map(|t| Version::parse(t).unwrap()).collect();
            prop_assert_eq!(v[0].cmp(&v[0]), Ordering::Equal);
            prop_assert_eq!(v[0].cmp(&v[1]), v[1].cmp(&v[0]).reverse());
            if v[0] <= v[1] && v[1] <= v[2] {
                prop_assert!(v[0] <= v[2]);
            }
            if v[0] == v[1] {
                prop_assert_eq!(v[0].cmp(&v[2]), v[1].cmp(&v[2]));
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,24}") {
            let _ = Version::parse(&text);
        }
    }
}
