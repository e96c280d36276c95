//! Version orders of the ecosystems: which of two versions of one package is the newer one.
//! One module per ordering; an ordering must never guess about a version that its specification refuses.

pub mod dpkg;
pub mod pep440;

use std::cmp::Ordering;

/// Compares two strings of ASCII digits by value, whatever their length, so no number overflows.
fn compare_digits(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// The ordering that an ecosystem uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Debian: [`dpkg`].
    Dpkg,
    /// PyPI: [`pep440`].
    Pep440,
}

impl Scheme {
    /// The ordering of an OSV ecosystem, without its release suffix (`Debian`, `PyPI`);
    /// `None` where Plimsoll has none yet.
    pub fn of_osv_ecosystem(base: &str) -> Option<Scheme> {
        match base {
            "Debian" => Some(Scheme::Dpkg),
            "PyPI" => Some(Scheme::Pep440),
            _ => None,
        }
    }

    /// Parses `text`; `None` where the scheme's specification refuses it.
    pub fn parse(self, text: &str) -> Option<Version<'_>> {
        match self {
            Scheme::Dpkg => dpkg::Version::parse(text).map(Version::Dpkg),
            Scheme::Pep440 => pep440::Version::parse(text).map(Version::Pep440),
        }
    }

    /// One spelling for all spellings of the same version, used to look a version up in a list.
    /// A version that cannot be parsed stands for itself.
    pub fn canonical(self, text: &str) -> String {
        match self {
            Scheme::Dpkg => text.to_owned(),
            Scheme::Pep440 => pep440::Version::parse(text).map_or_else(|| text.to_owned(), |v| v.canonical()),
        }
    }
}

/// A parsed version of either scheme. Versions of different schemes have no order.
#[derive(Clone, Debug)]
pub enum Version<'a> {
    /// See [`dpkg::Version`].
    Dpkg(dpkg::Version<'a>),
    /// See [`pep440::Version`].
    Pep440(pep440::Version<'a>),
}

impl Version<'_> {
    /// Compares an installed version with the boundary of a range. PEP 440 compares the installed
    /// version's public part (without `+local`) unless the boundary has a local part itself, as its
    /// version specifiers do: `1.0+cu118` is still covered by "last affected 1.0".
    pub fn compare_to_boundary(&self, boundary: &Version<'_>) -> Option<Ordering> {
        match (self, boundary) {
            (Version::Dpkg(a), Version::Dpkg(b)) => Some(a.cmp(b)),
            (Version::Pep440(a), Version::Pep440(b)) => Some(a.compare_to_boundary(b)),
            _ => None,
        }
    }

    /// See [`Scheme::canonical`].
    pub fn canonical(&self) -> String {
        match self {
            Version::Dpkg(version) => version.text().to_owned(),
            Version::Pep440(version) => version.canonical(),
        }
    }

    /// What to look for in a list of versions: the canonical spelling, and that of the public version
    /// where there is a local part.
    pub fn spellings(&self) -> (String, Option<String>) {
        let public = match self {
            Version::Pep440(version) if version.has_local() => Some(version.public().canonical()),
            _ => None,
        };
        (self.canonical(), public)
    }

    /// Total order within one scheme; `None` across schemes.
    pub fn compare(&self, other: &Version<'_>) -> Option<Ordering> {
        match (self, other) {
            (Version::Dpkg(a), Version::Dpkg(b)) => Some(a.cmp(b)),
            (Version::Pep440(a), Version::Pep440(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}
