//! Go's version order: Semantic Versioning as golang.org/x/mod/semver reads it, pseudo-versions and `+incompatible`
//! included, and releases of Go itself (`go1.22rc1`, go.dev/doc/toolchain). Never orders a version that says nothing about the code.

use super::compare_digits;
use super::semver::{
    compare_pre_release, has_leading_zero, is_identifier, is_identifier_list, leading_number,
};
use std::borrow::Cow;
use std::cmp::Ordering;

/// Longest version that is parsed, in bytes.
const MAX_VERSION_BYTES: usize = 1024;
/// What `go build` writes for a module that a `replace` took from a directory: no version at all.
const PLACEHOLDER: &str = "00010101000000-000000000000";

/// `major.minor.patch[-pre]`; build metadata (`+incompatible`) have no place in the order.
#[derive(Clone, Debug)]
pub struct Version<'a> {
    numbers: [&'a str; 3],
    /// Dotted; empty for a release.
    pre: Cow<'a, str>,
}

impl<'a> Version<'a> {
    /// Parses a module's version, with or without `v`, or that of a Go release, with or without `go`.
    /// `None` for `(devel)`, `devel +1234`, and the placeholder of a replaced module.
    pub fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        if text.len() > MAX_VERSION_BYTES {
            return None;
        }
        if let Some(release) = text.strip_prefix("go") {
            return parse_release(release);
        }
        match text.strip_prefix('v') {
            Some(version) => parse_module(version),
            // Without `go` in front, a suffix would be a module's.
            None => parse_module(text).or_else(|| parse_release(text).filter(|_| !text.contains(['+', '-']))),
        }
    }

    /// The one spelling that equal versions share.
    pub fn canonical(&self) -> String {
        let [major, minor, patch] = self.numbers;
        match self.pre.as_ref() {
            "" => format!("{major}.{minor}.{patch}"),
            pre => format!("{major}.{minor}.{patch}-{pre}"),
        }
    }
}

fn number(text: &str) -> Option<(&str, &str)> {
    leading_number(text).filter(|(digits, _)| !has_leading_zero(digits))
}

/// As x/mod/semver: `1` and `1.2` are short for `1.0.0` and `1.2.0`, but take no pre-release.
fn parse_module(text: &str) -> Option<Version<'_>> {
    let mut numbers = ["0"; 3];
    let mut rest = text;
    for (position, slot) in numbers.iter_mut().enumerate() {
        if position > 0 {
            if rest.is_empty() {
                break;
            }
            rest = rest.strip_prefix('.')?;
        }
        (*slot, rest) = number(rest)?;
        if position < 2 && !(rest.is_empty() || rest.starts_with('.')) {
            return None;
        }
    }
    let (rest, build) = rest.split_once('+').map_or((rest, None), |(rest, build)| (rest, Some(build)));
    if build.is_some_and(|build| !is_identifier_list(build)) {
        return None;
    }
    let pre = match rest.strip_prefix('-') {
        None => rest.is_empty().then_some("")?,
        Some(pre) => {
            let valid = |part: &str| is_identifier(part) && !has_leading_zero(part);
            pre.split('.').all(valid).then_some(pre)?
        }
    };
    (!pre.ends_with(PLACEHOLDER)).then_some(Version { numbers, pre: Cow::Borrowed(pre) })
}

/// `1.22`, `1.22.3`, `1.22rc1`; a vendor's suffix (`1.22.3-custom`, `1.22.3 X:boringcrypto`) does not change
/// which release it is (go.dev/doc/toolchain). A build of Go from between two releases is none of them.
fn parse_release(text: &str) -> Option<Version<'_>> {
    let (text, suffix) = text.split_at(text.find([' ', '\t', '-', '+']).unwrap_or(text.len()));
    if suffix.starts_with("-devel") {
        return None;
    }
    let (major, rest) = number(text)?;
    let (minor, rest) = match rest.strip_prefix('.') {
        Some(rest) => number(rest)?,
        None => ("0", rest),
    };
    let (patch, rest) = match rest.strip_prefix('.') {
        Some(rest) => number(rest)?,
        None => ("0", rest),
    };
    let numbers = [major, minor, patch];
    if rest.is_empty() {
        return Some(Version { numbers, pre: Cow::Borrowed("") });
    }
    let kind = ["alpha", "beta", "rc"].into_iter().find(|kind| rest.starts_with(kind))?;
    let (candidate, behind) = number(&rest[kind.len()..])?;
    behind.is_empty().then(|| Version { numbers, pre: Cow::Owned(format!("{kind}.{candidate}")) })
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let numbers = self.numbers.iter().zip(&other.numbers).map(|(a, b)| compare_digits(a, b));
        numbers.fold(Ordering::Equal, Ordering::then).then_with(|| compare_pre_release(&self.pre, &other.pre))
    }
}

super::ordered_by_cmp!(Version<'_>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::laws;

    #[test]
    fn orders_as_go_does() {
        laws::sorted(
            Version::parse,
            &[
                "v0.0.0-20190620200207-3b0461eec859",
                "v0.0.0-20210101000000-aaaaaaaaaaaa",
                "v0.0.0",
                "v0.1.0-pre",
                "v0.1.1-0.20200101000000-abcdefabcdef",
                "v0.1.1",
                "1.19.0-0",
                "go1.19beta1",
                "go1.19rc1",
                "go1.19rc2",
                "go1.19",
                "go1.19.1",
                "1.22rc1",
                "v1.22.0",
                "go1.22.3",
                "v2.0.0+incompatible",
                "v10.0.0",
                "v20.10.0-beta1+incompatible",
                "v99999999999999999999.0.0",
            ],
        );
        laws::equal(
            Version::parse,
            &["v1", "v1.0", "v1.0.0", "1.0.0", "go1", "v1.0.0+incompatible", "v1.0.0+dirty"],
        );
        laws::equal(Version::parse, &["go1.22.3", "1.22.3", "go1.22.3-custom", "go1.22.3 X:boringcrypto"]);
        laws::equal(Version::parse, &["go1.22rc1", "1.22.0-rc.1", "1.22rc1"]);
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "",
            "v",
            "(devel)",
            "devel +abc",
            "go1.26-devel_abc",
            "1.1+",
            "go",
            "godevel",
            "v01.0.0",
            "v1.0.0.0",
            "v1.2-pre",
            "v1.2.3-01",
            "v1.2.3-",
            "v1.2.3+",
            "v1.2.3-a..b",
            "v1.22rc1",
            "go1.22x1",
            "go1.22rc",
            "master",
            "v0.0.0-00010101000000-000000000000",
            "v1.0.0-ü",
            "unknown",
        ] {
            assert!(Version::parse(text).is_none(), "{text:?}");
        }
    }

    laws::total_order!(
        "(v|go)?(0|[1-9][0-9]?)([.](0|[1-9]))?([.](0|[1-9])(-[1-9a-b]{1,2}([.][1-9a-b-]{1,2})?)?([+]a)?)?(rc1)?"
    );
}
