//! crates.io's version order: Semantic Versioning 2.0.0 as cargo reads it (doc.rust-lang.org/cargo, "Versions").
//! Never accepts what cargo refuses: parsing and precedence are those of cargo's own library.

use std::cmp::Ordering;

/// Longest version that is parsed, in bytes.
const MAX_VERSION_BYTES: usize = 1024;

/// A version as cargo sees it; build metadata have no place in the order.
#[derive(Clone, Debug)]
pub struct Version(semver::Version);

impl Version {
    /// Parses `text`; `None` where cargo reports an error.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_VERSION_BYTES {
            return None;
        }
        semver::Version::parse(text).ok().map(Version)
    }

    /// The one spelling that equal versions share.
    pub fn canonical(&self) -> String {
        semver::Version { build: semver::BuildMetadata::EMPTY, ..self.0.clone() }.to_string()
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp_precedence(&other.0)
    }
}

super::ordered_by_cmp!(Version);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::laws;

    #[test]
    fn orders_as_cargo_does() {
        laws::sorted(
            Version::parse,
            &[
                "0.0.0-0",
                "0.1.0-0",
                "0.1.0-alpha.1",
                "0.1.0-rc.2",
                "0.1.0-rc.10",
                "0.1.0",
                "0.1.10",
                "1.0.0",
                "300.0.0",
            ],
        );
        laws::equal(Version::parse, &["1.0.0", "1.0.0+curl-8.0", "1.0.0+1"]);
    }

    #[test]
    fn refuses_what_cargo_refuses() {
        for text in [
            "",
            "1",
            "1.0",
            "v1.0.0",
            "01.0.0",
            "1.0.0.0",
            "1.0.0-",
            "1.0.0-01",
            "1.0.0+",
            "*",
            "1.0.0-ü",
            "99999999999999999999.0.0",
        ] {
            assert!(Version::parse(text).is_none(), "{text:?}");
        }
    }

    laws::total_order!("(0|[1-9][0-9]?)[.](0|[1-9])[.](0|[1-9])(-[1-9a-b]{1,2}([.][1-9a-b-]{1,2})?)?([+]a)?");
}
