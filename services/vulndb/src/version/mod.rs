//! Version orders of the ecosystems: which of two versions of one package is the newer one.
//! One module per ordering; an ordering must never guess about a version that its specification refuses.

pub mod cargo;
pub mod composer;
pub mod dpkg;
pub mod golang;
#[cfg(test)]
mod laws;
pub mod maven;
pub mod npm;
pub mod pep440;
pub mod rubygems;
mod semver;

use std::borrow::Cow;
use std::cmp::Ordering;

/// Compares two strings of ASCII digits by value, whatever their length, so no number overflows.
fn compare_digits(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Stable merge sort for an order that may contradict itself: Maven's own has cycles, on which the standard library's
/// sort is free to panic.
pub(crate) fn sort_by_version<T: Copy>(items: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    let mut width = 1;
    while width < items.len() {
        let mut merged = Vec::with_capacity(items.len());
        for pair in items.chunks(2 * width) {
            let (mut left, mut right) = pair.split_at(width.min(pair.len()));
            while let (Some(a), Some(b)) = (left.first(), right.first()) {
                let side = if compare(a, b).is_gt() { &mut right } else { &mut left };
                merged.push(side[0]);
                *side = &side[1..];
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        *items = merged;
        width *= 2;
    }
}

/// Equality and partial order of a version by its `Ord`: two spellings of one version are equal.
macro_rules! ordered_by_cmp {
    ($version:ty) => {
        impl PartialOrd for $version {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl PartialEq for $version {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other) == Ordering::Equal
            }
        }

        impl Eq for $version {}
    };
}
use ordered_by_cmp;

/// The ordering that an ecosystem uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Debian: [`dpkg`].
    Dpkg,
    /// PyPI: [`pep440`].
    Pep440,
    /// Maven: [`maven`].
    Maven,
    /// npm: [`npm`].
    Npm,
    /// RubyGems: [`rubygems`].
    RubyGems,
    /// Packagist: [`composer`].
    Composer,
    /// Go modules and Go's own releases: [`golang`].
    Go,
    /// crates.io: [`cargo`].
    Cargo,
}

impl Scheme {
    /// The ordering of an OSV ecosystem, without its suffix (`Debian`, `PyPI`); `None` where Plimsoll has none yet.
    pub fn of_osv_ecosystem(base: &str) -> Option<Scheme> {
        match base {
            "Debian" => Some(Scheme::Dpkg),
            "PyPI" => Some(Scheme::Pep440),
            "Maven" => Some(Scheme::Maven),
            "npm" => Some(Scheme::Npm),
            "RubyGems" => Some(Scheme::RubyGems),
            "Packagist" => Some(Scheme::Composer),
            "Go" => Some(Scheme::Go),
            "crates.io" => Some(Scheme::Cargo),
            _ => None,
        }
    }

    /// What people call the ordering.
    pub fn title(self) -> &'static str {
        match self {
            Scheme::Dpkg => "dpkg",
            Scheme::Pep440 => "PEP 440",
            Scheme::Maven => "Maven",
            Scheme::Npm => "npm",
            Scheme::RubyGems => "RubyGems",
            Scheme::Composer => "Composer",
            Scheme::Go => "Go",
            Scheme::Cargo => "cargo",
        }
    }

    /// The spelling of a package's name under which records are found: PyPI's is normalised, Packagist knows only
    /// lower case, all others compare exactly (npm keeps old names with capitals apart, crates.io `-` and `_`).
    pub fn normalise_name(self, name: &str) -> Cow<'_, str> {
        match self {
            Scheme::Pep440 => Cow::Owned(pep440::normalise_name(name)),
            Scheme::Composer => Cow::Owned(name.trim().to_ascii_lowercase()),
            _ => Cow::Borrowed(name),
        }
    }

    /// Parses `text`; `None` where the scheme's specification refuses it.
    pub fn parse(self, text: &str) -> Option<Version<'_>> {
        match self {
            Scheme::Dpkg => dpkg::Version::parse(text).map(Version::Dpkg),
            Scheme::Pep440 => pep440::Version::parse(text).map(Version::Pep440),
            Scheme::Maven => maven::Version::parse(text).map(Version::Maven),
            Scheme::Npm => npm::Version::parse(text).map(Version::Npm),
            Scheme::RubyGems => rubygems::Version::parse(text).map(Version::RubyGems),
            Scheme::Composer => composer::Version::parse(text).map(Version::Composer),
            Scheme::Go => golang::Version::parse(text).map(Version::Go),
            Scheme::Cargo => cargo::Version::parse(text).map(Version::Cargo),
        }
    }

    /// One spelling for all spellings of the same version, used to look a version up in a list.
    /// A version that cannot be parsed stands for itself.
    pub fn canonical(self, text: &str) -> String {
        self.parse(text).map_or_else(|| text.to_owned(), |version| version.canonical())
    }
}

/// A parsed version of any scheme. Versions of different schemes have no order.
#[derive(Clone, Debug)]
pub enum Version<'a> {
    /// See [`dpkg::Version`].
    Dpkg(dpkg::Version<'a>),
    /// See [`pep440::Version`].
    Pep440(pep440::Version<'a>),
    /// See [`maven::Version`].
    Maven(maven::Version<'a>),
    /// See [`npm::Version`].
    Npm(npm::Version<'a>),
    /// See [`rubygems::Version`].
    RubyGems(rubygems::Version<'a>),
    /// See [`composer::Version`].
    Composer(composer::Version<'a>),
    /// See [`golang::Version`].
    Go(golang::Version<'a>),
    /// See [`cargo::Version`].
    Cargo(cargo::Version),
}

impl Version<'_> {
    /// Compares an installed version with the boundary of a range. PEP 440 compares the installed
    /// version's public part (without `+local`) unless the boundary has a local part itself, as its
    /// version specifiers do: `1.0+cu118` is still covered by "last affected 1.0".
    pub fn compare_to_boundary(&self, boundary: &Version<'_>) -> Option<Ordering> {
        match (self, boundary) {
            (Version::Pep440(a), Version::Pep440(b)) => Some(a.compare_to_boundary(b)),
            _ => self.compare(boundary),
        }
    }

    /// See [`Scheme::canonical`].
    pub fn canonical(&self) -> String {
        match self {
            Version::Dpkg(version) => version.text().to_owned(),
            Version::Pep440(version) => version.canonical(),
            Version::Maven(version) => version.canonical(),
            Version::Npm(version) => version.canonical(),
            Version::RubyGems(version) => version.canonical(),
            Version::Composer(version) => version.canonical(),
            Version::Go(version) => version.canonical(),
            Version::Cargo(version) => version.canonical(),
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
            (Version::Maven(a), Version::Maven(b)) => Some(a.cmp(b)),
            (Version::Npm(a), Version::Npm(b)) => Some(a.cmp(b)),
            (Version::RubyGems(a), Version::RubyGems(b)) => Some(a.cmp(b)),
            (Version::Composer(a), Version::Composer(b)) => Some(a.cmp(b)),
            (Version::Go(a), Version::Go(b)) => Some(a.cmp(b)),
            (Version::Cargo(a), Version::Cargo(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sorting_survives_an_order_with_cycles() {
        let cycle = ["6SNAPSHOT", "6", "6.sp-0"];
        let mut versions: Vec<&str> = cycle.into_iter().cycle().take(1000).collect();
        sort_by_version(&mut versions, |a, b| maven::Version::parse(a).cmp(&maven::Version::parse(b)));
        assert_eq!(versions.len(), 1000);
        assert!(cycle.iter().all(|version| versions.contains(version)));
    }

    proptest! {
        #[test]
        fn sorts_as_the_standard_library(mut pairs in proptest::collection::vec((0u8..20, any::<u8>()), 0..200)) {
            let mut expect = pairs.clone();
            expect.sort_by_key(|pair| pair.0);
            sort_by_version(&mut pairs, |a, b| a.0.cmp(&b.0));
            prop_assert_eq!(pairs, expect);
        }
    }
}
