//! npm's version order: node-semver in its loose mode (docs.npmjs.com, "semver"), which npm uses for what is
//! installed and for advisories. Never splits a number to make a version fit, as that mode would.

use super::semver::{canonical_pre_release, compare_pre_release, is_identifier_list, leading_number};
use std::cmp::Ordering;

/// Longest version that node-semver reads, in bytes.
const MAX_VERSION_BYTES: usize = 256;
/// Largest number that node-semver reads (`Number.MAX_SAFE_INTEGER`).
const MAX_NUMBER: u64 = 9_007_199_254_740_991;

/// `major.minor.patch[-pre]`; build metadata have no place in the order and are dropped.
#[derive(Clone, Debug)]
pub struct Version<'a> {
    numbers: [u64; 3],
    /// Dotted; empty for a release.
    pre: &'a str,
}

impl<'a> Version<'a> {
    /// Parses `text`: `v` or `=` in front, leading zeros and a pre-release without its hyphen are allowed.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_VERSION_BYTES {
            return None;
        }
        let mut rest = text.trim().trim_start_matches(|c: char| c == 'v' || c == '=' || c.is_whitespace());
        let mut numbers = [0; 3];
        for (position, number) in numbers.iter_mut().enumerate() {
            if position > 0 {
                rest = rest.strip_prefix('.')?;
            }
            let (digits, behind) = leading_number(rest)?;
            *number = digits.parse::<u64>().ok().filter(|&number| number <= MAX_NUMBER)?;
            rest = behind;
        }
        let (pre, build) = rest.split_once('+').map_or((rest, None), |(pre, build)| (pre, Some(build)));
        if build.is_some_and(|build| !is_identifier_list(build)) {
            return None;
        }
        let bare = pre.strip_prefix('-').filter(|bare| is_identifier_list(bare));
        let pre = bare.unwrap_or(pre);
        (pre.is_empty() || is_identifier_list(pre)).then_some(Version { numbers, pre })
    }

    /// The one spelling that equal versions share.
    pub fn canonical(&self) -> String {
        let [major, minor, patch] = self.numbers;
        match self.pre {
            "" => format!("{major}.{minor}.{patch}"),
            pre => format!("{major}.{minor}.{patch}-{}", canonical_pre_release(pre)),
        }
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| compare_pre_release(self.pre, other.pre))
    }
}

super::ordered_by_cmp!(Version<'_>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::laws;

    #[test]
    fn orders_as_npm_does() {
        laws::sorted(
            Version::parse,
            &[
                "0.0.1-0",
                "0.0.1",
                "v1.0.0-alpha",
                "1.0.0-alpha.1",
                "1.0.0-alpha.beta",
                "1.0.0-beta.2",
                "1.0.0-beta.11",
                "1.0.0-rc.1",
                "=1.0.0",
                "1.0.1beta",
                "1.0.1",
                "1.2.0",
                "1.10.0",
            ],
        );
        laws::equal(Version::parse, &["1.0.0", "v1.0.0", "= v1.0.0", "01.0.00", "1.0.0+build.5"]);
        laws::equal(Version::parse, &["1.0.0-rc.1", "1.0.0rc.1", "1.0.0-rc.01"]);
    }

    #[test]
    fn refuses_what_npm_refuses() {
        let long = format!("1.0.{}", "1".repeat(300));
        for text in [
            "",
            "1",
            "1.2",
            "1.2.x",
            "*",
            "latest",
            "1.2.3.4",
            "1.2.34.5",
            "1.2.3-",
            "1.2.3-a..b",
            "1.2.3+",
            "1.2.3+a_b",
            "9007199254740992.0.0",
            "file:../a",
            "1.2.3-ü",
            "workspace:*",
            &long,
        ] {
            // "1.2.3-" is a pre-release named "-" in the loose mode.
            assert_eq!(Version::parse(text).is_some(), text == "1.2.3-", "{text:?}");
        }
    }

    laws::total_order!("[v=]?[0-9]{1,2}[.][0-9][.][0-9]{1,2}(-?[0-9a-b-]{1,3}([.][0-9a-b]{1,2})?)?([+]a)?");
}
