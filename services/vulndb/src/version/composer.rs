//! Composer's version order: normalised as composer/semver does (getcomposer.org/doc/articles/versions.md), then
//! compared as PHP's version_compare. Never orders a named branch (`dev-main`), nor what Composer refuses.

use super::compare_digits;
use super::semver::leading_number;
use std::cmp::Ordering;

/// Longest version that is parsed, in bytes.
const MAX_VERSION_BYTES: usize = 1024;
/// What stands for `x` in a numeric branch: `2.x-dev` is behind every release of 2.
const BRANCH_NUMBER: &str = "9999999";
/// Most digits of a first number; more are a date.
const MAX_FIRST_DIGITS: usize = 5;

/// What can stand between dots after normalisation, in version_compare's order; the end of the version stands
/// between `Candidate` and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Dev,
    Alpha,
    Beta,
    Candidate,
    Patch,
}

#[derive(Clone, Copy, Debug)]
enum Part<'a> {
    Number(&'a str),
    Word(Word),
}

/// A normalised version.
#[derive(Clone, Debug)]
pub struct Version<'a> {
    parts: Vec<Part<'a>>,
}

impl<'a> Version<'a> {
    /// Parses `text`, surrounding blanks ignored; `None` for named branches and where Composer reports an error.
    pub fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim_matches([' ', '\t', '\n', '\r', '\0', '\x0b']);
        if text.len() > MAX_VERSION_BYTES || starts_with_word(text, "dev-") {
            return None;
        }
        let text = match text.split_once('+') {
            Some((_, build)) if build.is_empty() || build.contains(char::is_whitespace) => return None,
            Some((version, _)) => version,
            None => text,
        };
        let bare = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let parts = classical(bare).or_else(|| dated(bare)).or_else(|| numeric_branch(text, bare))?;
        Some(Version { parts })
    }

    /// The one spelling that equal versions share.
    pub fn canonical(&self) -> String {
        let texts: Vec<&str> = self
            .parts
            .iter()
            .map(|part| match *part {
                Part::Number(digits) => match digits.trim_start_matches('0') {
                    "" => "0",
                    stripped => stripped,
                },
                Part::Word(Word::Dev) => "dev",
                Part::Word(Word::Alpha) => "alpha",
                Part::Word(Word::Beta) => "beta",
                Part::Word(Word::Candidate) => "RC",
                Part::Word(Word::Patch) => "patch",
            })
            .collect();
        texts.join(".")
    }
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// One to four numbers and a modifier; missing numbers are 0.
fn classical(text: &str) -> Option<Vec<Part<'_>>> {
    let (first, mut rest) = leading_number(text)?;
    if first.len() > MAX_FIRST_DIGITS {
        return None;
    }
    let mut parts = vec![Part::Number(first)];
    while parts.len() < 4 {
        match rest.strip_prefix('.').and_then(leading_number) {
            Some((digits, behind)) => {
                parts.push(Part::Number(digits));
                rest = behind;
            }
            None => parts.push(Part::Number("0")),
        }
    }
    add_modifier(parts, rest)
}

/// `\d{4}(?:[.:-]?\d{2}){1,6}(?:[.:-]?\d{1,3})?` and a modifier: the runs of digits are the numbers.
fn dated(text: &str) -> Option<Vec<Part<'_>>> {
    let (first, mut rest) = leading_number(text)?;
    let mut runs = vec![first];
    while let Some((digits, behind)) = rest.strip_prefix(['.', ':', '-']).and_then(leading_number) {
        runs.push(digits);
        rest = behind;
    }
    let digits_of = |position: usize, run: &str| match position {
        0 => run.len().checked_sub(4),
        _ => Some(run.len()),
    };
    let last = runs.len() - 1;
    let mut pairs = 0;
    for (position, run) in runs.iter().enumerate().take(last) {
        let digits = digits_of(position, run).filter(|digits| digits % 2 == 0)?;
        pairs += digits / 2;
    }
    // The last run may end with one to three digits of their own.
    let digits = digits_of(last, runs[last])?;
    let mut possible = digits.saturating_sub(3).div_ceil(2)..=digits / 2;
    if !possible.any(|more| (1..=6).contains(&(pairs + more))) {
        return None;
    }
    add_modifier(runs.into_iter().map(Part::Number).collect(), rest)
}

/// `2.x-dev`, `2.1.x-dev`: a branch named by numbers.
fn numeric_branch<'a>(text: &'a str, bare: &'a str) -> Option<Vec<Part<'a>>> {
    let at = text.len().checked_sub(3).filter(|&at| text.is_char_boundary(at))?;
    if !text[at..].eq_ignore_ascii_case("dev") {
        return None;
    }
    let branch = &bare[..bare.len() - 3];
    let branch = branch.strip_suffix(['.', '-']).unwrap_or(branch).trim();
    let (first, mut rest) = leading_number(branch)?;
    let mut parts = vec![Part::Number(first)];
    while parts.len() < 4 {
        let number = match rest.strip_prefix('.') {
            Some(behind) if behind.starts_with(['x', 'X', '*']) => {
                rest = &behind[1..];
                BRANCH_NUMBER
            }
            Some(behind) => {
                let (digits, behind) = leading_number(behind)?;
                rest = behind;
                digits
            }
            None => BRANCH_NUMBER,
        };
        parts.push(Part::Number(number));
    }
    parts.push(Part::Word(Word::Dev));
    rest.is_empty().then_some(parts)
}

/// `[._-]?(?:(stable|beta|b|RC|alpha|a|patch|pl|p)((?:[.-]?\d+)*)?)?([.-]?dev)?`, in any case of letters.
fn add_modifier<'a>(mut parts: Vec<Part<'a>>, text: &'a str) -> Option<Vec<Part<'a>>> {
    const WORDS: [(&str, Option<Word>); 9] = [
        ("stable", None),
        ("beta", Some(Word::Beta)),
        ("b", Some(Word::Beta)),
        ("rc", Some(Word::Candidate)),
        ("alpha", Some(Word::Alpha)),
        ("a", Some(Word::Alpha)),
        ("patch", Some(Word::Patch)),
        ("pl", Some(Word::Patch)),
        ("p", Some(Word::Patch)),
    ];
    let mut rest = text.strip_prefix(['.', '_', '-']).unwrap_or(text);
    let mut stable = false;
    if let Some((word, meaning)) = WORDS.into_iter().find(|(word, _)| starts_with_word(rest, word)) {
        rest = &rest[word.len()..];
        stable = meaning.is_none();
        let first = parts.len();
        parts.extend(meaning.map(Part::Word));
        while let Some((digits, behind)) = leading_number(rest.strip_prefix(['.', '-']).unwrap_or(rest)) {
            parts.push(Part::Number(digits));
            rest = behind;
        }
        if stable {
            parts.truncate(first);
        }
    } else if starts_with_word(text, ".dev") || starts_with_word(text, "-dev") {
        rest = text;
    }
    let dev = rest.strip_prefix(['.', '-']).unwrap_or(rest);
    if dev.eq_ignore_ascii_case("dev") {
        // A version that says "stable" is that, whatever follows.
        if !stable {
            parts.push(Part::Word(Word::Dev));
        }
        return Some(parts);
    }
    rest.is_empty().then_some(parts)
}

/// Where a part stands among the kinds of parts; `None` is the end of the version.
fn rank(part: Option<&Part<'_>>) -> u32 {
    match part {
        Some(Part::Word(Word::Patch)) => 6,
        Some(Part::Number(_)) => 5,
        None => 4,
        Some(Part::Word(word)) => *word as u32,
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        for position in 0..self.parts.len().max(other.parts.len()) {
            let (a, b) = (self.parts.get(position), other.parts.get(position));
            let order = match (a, b) {
                (Some(Part::Number(a)), Some(Part::Number(b))) => compare_digits(a, b),
                _ => rank(a).cmp(&rank(b)),
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
    fn orders_as_composer_does() {
        laws::sorted(
            Version::parse,
            &[
                "0.7.1",
                "1.0.0-dev",
                "1.0-alpha3",
                "1.0.0-alpha.4",
                "1.0b2-dev",
                "1.0b2",
                "1.0-RC1",
                "1.0.0",
                "1.0.0.1",
                "1.0.0.1-patch2",
                "1.0.x-dev",
                "1.1",
                "1.x-dev",
                "2.0",
                "10.0",
                "2010.01.02",
                "20100102",
                "20100102-203040",
            ],
        );
        laws::equal(
            Version::parse,
            &["1", "v1.0", "V1.0.0", "1.0.0.0", "1.0-stable", "1.0.0+build", "01.00", "1.0."],
        );
        laws::equal(Version::parse, &["1.0b1", "1.0-beta1", "1.0.0.BETA.1", "1.0_b1"]);
        laws::equal(Version::parse, &["2.x-dev", "2.X-dev", "2.*-dev", "v2.x.x-dev"]);
        laws::equal(Version::parse, &["2010-01-02", "2010:01:02"]);
    }

    #[test]
    fn refuses_what_has_no_order() {
        for text in [
            "",
            "dev-main",
            "DEV-x",
            "master",
            "1.0.0.0.0",
            "feature-dev",
            "1.2.3-foo",
            "^1.0",
            "1.0 as 2.0",
            "1.0+",
            "1.ü",
            "1234567.1.2",
            "a",
        ] {
            assert!(Version::parse(text).is_none(), "{text:?}");
        }
    }

    laws::total_order!(
        "v?[0-9]{1,2}([.][0-9x]){0,3}([-._]?(alpha|beta|b|RC|pl|patch|stable)?[.-]?[0-9]?)?(-dev)?"
    );
}
