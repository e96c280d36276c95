//! Python's version order, as PEP 440 (packaging.python.org, "Version specifiers") defines it.
//! Never orders what PEP 440 refuses: legacy spellings give `None`, not a guess.

use super::compare_digits;
use std::cmp::Ordering;
use std::fmt::Write as _;

/// Longest version that is parsed, in bytes.
const MAX_VERSION_BYTES: usize = 1024;

/// A pre-release's kind, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PreRelease {
    Alpha,
    Beta,
    Candidate,
}

/// A parsed version. Numbers stay digits in the text, so none overflows.
#[derive(Clone, Debug)]
pub struct Version<'a> {
    epoch: &'a str,
    /// Without trailing zeros: `1.0.0` is `1`, `0.0` is empty.
    release: &'a str,
    pre: Option<(PreRelease, &'a str)>,
    post: Option<&'a str>,
    dev: Option<&'a str>,
    local: Option<&'a str>,
}

/// Reads the text from left to right; every method takes what it can and moves on.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn digits(&mut self) -> Option<&'a str> {
        let end = self.0.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at(end);
        self.0 = rest;
        (end > 0).then_some(digits)
    }

    fn byte(&mut self, wanted: &[u8]) -> bool {
        let found = self.0.as_bytes().first().is_some_and(|b| wanted.contains(&b.to_ascii_lowercase()));
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.0.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        if found {
            self.0 = &self.0[word.len()..];
        }
        found
    }

    /// `[-_.]? WORD [-_.]? [0-9]*`; the number is 0 where it is left out.
    fn segment<T: Copy>(&mut self, words: &[(&str, T)]) -> Option<(T, &'a str)> {
        let before = self.0;
        if before.is_empty() {
            return None;
        }
        self.byte(b"-_.");
        for &(word, kind) in words {
            if self.word(word) {
                self.byte(b"-_.");
                return Some((kind, self.digits().unwrap_or("0")));
            }
        }
        self.0 = before;
        None
    }
}

impl<'a> Version<'a> {
    /// Parses `text`, surrounding blanks ignored; `None` where PEP 440 has no meaning for it.
    pub fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        if text.len() > MAX_VERSION_BYTES {
            return None;
        }
        let mut cursor = Cursor(text);
        cursor.byte(b"v");
        let mut from = cursor.0;
        cursor.digits()?;
        let mut epoch = "0";
        if cursor.byte(b"!") {
            epoch = &from[..from.len() - cursor.0.len() - 1];
            from = cursor.0;
            cursor.digits()?;
        }
        while let Some(rest) = cursor.0.strip_prefix('.').filter(|r| starts_with_digit(r)) {
            cursor.0 = rest;
            cursor.digits();
        }
        let release = without_trailing_zeros(&from[..from.len() - cursor.0.len()]);
        use PreRelease::{Alpha, Beta, Candidate};
        // Longer words first: "a" would also match the start of "alpha".
        let pre = cursor.segment(&[
            ("alpha", Alpha),
            ("a", Alpha),
            ("beta", Beta),
            ("b", Beta),
            ("preview", Candidate),
            ("pre", Candidate),
            ("c", Candidate),
            ("rc", Candidate),
        ]);
        let implicit = cursor.0.strip_prefix('-').filter(|r| starts_with_digit(r));
        let post = if let Some(rest) = implicit {
            cursor.0 = rest;
            cursor.digits()
        } else {
            cursor.segment(&[("post", ()), ("rev", ()), ("r", ())]).map(|(_, number)| number)
        };
        let dev = cursor.segment(&[("dev", ())]).map(|(_, number)| number);
        let local = match cursor.0.strip_prefix('+') {
            Some(local) if local.split(['-', '_', '.']).all(is_local_part) => Some(local),
            Some(_) => return None,
            None if cursor.0.is_empty() => None,
            None => return None,
        };
        Some(Version { epoch, release, pre, post, dev, local })
    }

    /// The one spelling that equal versions share: trailing zeros of the release dropped, lower case.
    pub fn canonical(&self) -> String {
        let number = |digits: &str| match digits.trim_start_matches('0') {
            "" => "0".to_owned(),
            trimmed => trimmed.to_owned(),
        };
        let mut out = String::with_capacity(16);
        if number(self.epoch) != "0" {
            let _ = write!(out, "{}!", number(self.epoch));
        }
        let release: Vec<String> = segments(self.release).map(number).collect();
        out.push_str(if release.is_empty() { "0" } else { "" });
        out.push_str(&release.join("."));
        if let Some((kind, n)) = self.pre {
            let letters = match kind {
                PreRelease::Alpha => "a",
                PreRelease::Beta => "b",
                PreRelease::Candidate => "rc",
            };
            let _ = write!(out, "{letters}{}", number(n));
        }
        for (name, value) in [("post", self.post), ("dev", self.dev)] {
            if let Some(n) = value {
                let _ = write!(out, ".{name}{}", number(n));
            }
        }
        if let Some(local) = self.local {
            let parts: Vec<String> = local
                .split(['-', '_', '.'])
                .map(|p| if is_number(p) { number(p) } else { p.to_ascii_lowercase() })
                .collect();
            let _ = write!(out, "+{}", parts.join("."));
        }
        out
    }

    /// Whether there is a `+local` part.
    pub fn has_local(&self) -> bool {
        self.local.is_some()
    }

    /// The same version without its `+local` part.
    #[must_use]
    pub fn public(&self) -> Self {
        Version { local: None, ..self.clone() }
    }

    /// See [`super::Version::compare_to_boundary`].
    pub fn compare_to_boundary(&self, boundary: &Self) -> Ordering {
        let local = if boundary.has_local() { self.local } else { None };
        self.compare_public(boundary).then_with(|| compare_local(local, boundary.local))
    }

    fn compare_public(&self, other: &Self) -> Ordering {
        compare_digits(self.epoch, other.epoch)
            .then_with(|| compare_release(self.release, other.release))
            .then_with(|| compare_pre(self, other))
            .then_with(|| compare_optional(self.post, other.post, Ordering::Less))
            .then_with(|| compare_optional(self.dev, other.dev, Ordering::Greater))
    }
}

fn is_number(part: &str) -> bool {
    part.bytes().all(|b| b.is_ascii_digit())
}

fn is_local_part(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

fn without_trailing_zeros(mut release: &str) -> &str {
    loop {
        let (before, last) = release.rsplit_once('.').unwrap_or(("", release));
        if release.is_empty() || last.bytes().any(|b| b != b'0') {
            return release;
        }
        release = before;
    }
}

fn segments(release: &str) -> impl Iterator<Item = &str> {
    release.split('.').filter(|segment| !segment.is_empty())
}

fn compare_release(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (segments(a), segments(b));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(x), Some(y)) => compare_digits(x, y),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// `1.0.dev1` sorts before `1.0a1`, which sorts before `1.0`: a version with neither pre nor post
/// but with dev counts as before every pre-release.
fn compare_pre(a: &Version<'_>, b: &Version<'_>) -> Ordering {
    let rank = |v: &Version<'_>| match v.pre {
        None if v.post.is_none() && v.dev.is_some() => 0,
        Some(_) => 1,
        None => 2,
    };
    rank(a).cmp(&rank(b)).then_with(|| match (a.pre, b.pre) {
        (Some((x, n)), Some((y, m))) => x.cmp(&y).then_with(|| compare_digits(n, m)),
        _ => Ordering::Equal,
    })
}

/// `absent`: where a version without this part stands relative to one that has it.
fn compare_optional(a: Option<&str>, b: Option<&str>, absent: Ordering) -> Ordering {
    match (a, b) {
        (Some(x), Some(y)) => compare_digits(x, y),
        (None, None) => Ordering::Equal,
        (None, Some(_)) => absent,
        (Some(_), None) => absent.reverse(),
    }
}

fn compare_local(a: Option<&str>, b: Option<&str>) -> Ordering {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        _ => return compare_optional(a, b, Ordering::Less),
    };
    let (mut a, mut b) = (a.split(['-', '_', '.']), b.split(['-', '_', '.']));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(x), Some(y)) => match (is_number(x), is_number(y)) {
                (true, true) => compare_digits(x, y),
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => x.to_ascii_lowercase().cmp(&y.to_ascii_lowercase()),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.compare_public(other).then_with(|| compare_local(self.local, other.local))
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

/// PyPI's normalised project name: lower case, runs of `-`, `_` and `.` as one `-`.
pub fn normalise_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.trim().chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            c => out.push(c.to_ascii_lowercase()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sorts_the_specifications_examples() {
        let sorted = [
            "1.dev0",
            "1.0.dev456",
            "1.0a1",
            "1.0a2.dev456",
            "1.0a12.dev456",
            "1.0a12",
            "1.0b1.dev456",
            "1.0b2",
            "1.0b2.post345.dev456",
            "1.0b2.post345",
            "1.0rc1.dev456",
            "1.0rc1",
            "1.0",
            "1.0+abc.5",
            "1.0+abc.7",
            "1.0+5",
            "1.0.post456.dev34",
            "1.0.post456",
            "1.0.15",
            "1.1.dev1",
            "1!0.1",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                let order = Version::parse(a).unwrap().cmp(&Version::parse(b).unwrap());
                assert_eq!(order, i.cmp(&j), "{a} against {b}");
            }
        }
    }

    #[test]
    fn one_spelling_for_equal_versions() {
        for (text, expect) in [
            ("1.0", "1"),
            ("v1.0.0", "1"),
            ("0.0", "0"),
            ("1.0-alpha.1", "1a1"),
            ("1.0preview3", "1rc3"),
            ("1.0C", "1rc0"),
            ("1.0-5", "1.post5"),
            ("1.0-rev", "1.post0"),
            ("1.0.DEV", "1.dev0"),
            ("01!1.010", "1!1.10"),
            ("1.0+Ubuntu-01", "1+ubuntu.1"),
            ("1.0prer1", "1rc0.post1"),
            ("1.0a-", "1a0"),
        ] {
            assert_eq!(Version::parse(text).unwrap().canonical(), expect, "{text}");
        }
    }

    #[test]
    fn refuses_what_the_specification_refuses() {
        for text in
            ["", "x", "1.0.", "1..0", "1.0+", "1.0+a..b", "1.0-x", "2019-09-12", "1.0 2", "1!", "0.2.0-n653"]
        {
            assert!(Version::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn local_versions_meet_public_boundaries() {
        let compare = |a, b| Version::parse(a).unwrap().compare_to_boundary(&Version::parse(b).unwrap());
        assert_eq!(compare("1.0+cu118", "1.0"), Ordering::Equal);
        assert_eq!(compare("1.0+cu118", "1.0+cu117"), Ordering::Greater);
        assert_eq!(compare("1.0", "1.0+cu117"), Ordering::Less);
    }

    #[test]
    fn normalises_names() {
        for (name, expect) in [("PyYAML", "pyyaml"), ("zope.interface", "zope-interface"), ("a-_.b", "a-b")] {
            assert_eq!(normalise_name(name), expect);
        }
    }

    const PATTERN: &str = "([0-2]!)?[0-9]{1,2}(\\.[0-2]){0,3}([-_.]?(a|b|rc|c|pre)[0-2]?)?(-[0-2]|\\.?post[0-2])?(\\.dev[0-2]?)?(\\+[a-b0-2]{1,2}(\\.[a-b0-2])?)?";

    proptest! {
        #[test]
        fn is_a_total_order(texts in proptest::array::uniform3(PATTERN)) {
            let v: Vec<_> = texts.iter().map(|t| Version::parse(t).unwrap()).collect();
            prop_assert_eq!(v[0].cmp(&v[0]), Ordering::Equal);
            prop_assert_eq!(v[0].cmp(&v[1]), v[1].cmp(&v[0]).reverse());
            if v[0] <= v[1] && v[1] <= v[2] {
                prop_assert!(v[0] <= v[2]);
            }
            prop_assert_eq!(v[0] == v[1], v[0].canonical() == v[1].canonical());
            let (canonical, _) = (v[0].canonical(), ());
            prop_assert!(Version::parse(&canonical).unwrap() == v[0]);
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,24}") {
            let _ = Version::parse(&text).map(|v| v.canonical());
        }
    }
}
