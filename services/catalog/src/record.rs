//! What is known of one installed package, in plain Rust; the scanner turns it into `scan.packages`.
//! Holds facts only: whether a package is vulnerable or used is decided elsewhere.

use crate::not_measurable;
use plimsoll_schemas::identity;
use plimsoll_schemas::words::package_kind;
use serde::Serialize;

/// Who installed the package: the distribution or the application's own package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageKind {
    Os,
    Application,
}

impl PackageKind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Os => package_kind::OS,
            Self::Application => package_kind::APPLICATION,
        }
    }
}

/// Where a copy of a package stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Location {
    /// Relative to the root, without a leading slash.
    pub path: Vec<u8>,
    /// Path inside the archive at `path`; empty outside of archives.
    pub nested_path: Vec<u8>,
    /// Diff ID of the layer that last wrote `path`; empty outside of images.
    pub layer: String,
}

/// One installed package. Lists are sorted and without repetitions; texts that are not known are empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageRecord {
    /// Stable hash of the purl and, for application packages, the location.
    pub package_id: String,
    pub purl: String,
    /// Normalised as the ecosystem's rules say.
    pub name: String,
    pub version: String,
    pub kind: PackageKind,
    /// `debian`, `pypi` and so on.
    pub ecosystem: &'static str,
    /// Source package that it was built from; empty outside of OS packages.
    pub source_name: String,
    pub source_version: String,
    pub architecture: String,
    pub licenses: Vec<String>,
    pub locations: Vec<Location>,
    /// Names as declared, alternatives joined by ` | `; no versions.
    pub dependencies: Vec<String>,
    /// Other names under which packages may depend on it (dpkg: Provides).
    pub provides: Vec<String>,
    /// Whether the system cannot do without it (dpkg: Essential, Protected, or Priority required).
    pub essential: bool,
    /// Package id of the OS package whose files hold this application package; empty if none does.
    pub provided_by: String,
    /// Name of the package that `provided_by` names, for people.
    pub provided_by_name: String,
    /// Probes that could observe a use.
    pub observable_by: Vec<&'static str>,
    /// Why no probe could tell whether it is used; empty if one could.
    pub not_measurable_reason: String,
    /// Files that could be executed, mapped, loaded or read, documentation and package metadata not counted.
    pub loadable_file_count: u64,
    /// What installed it (pip, uv, …); empty if it left no note.
    pub installer: String,
    /// By what it was identified where that may be doubted (`pom.properties`, `manifest`, `file name`); else empty.
    pub identified_by: &'static str,
    /// Go: import paths of its packages that are linked into the program; `None` where that is not known. Not part of
    /// any event: the scanner compares it with what advisories affect.
    #[serde(skip)]
    pub linked_packages: Option<Vec<String>>,
    /// Maven: what else tells whose it is, where the group in its name is a guess; `None` where it is known. Not part of
    /// any event: the scanner matches other groups as well then.
    #[serde(skip)]
    pub group_hints: Option<Vec<String>>,
}

impl PackageRecord {
    /// A record with only what every package has; the package id is set when it is added to a catalog.
    pub(crate) fn new(kind: PackageKind, ecosystem: &'static str, name: String, version: String) -> Self {
        Self {
            package_id: String::new(),
            purl: String::new(),
            name,
            version,
            kind,
            ecosystem,
            source_name: String::new(),
            source_version: String::new(),
            architecture: String::new(),
            licenses: Vec::new(),
            locations: Vec::new(),
            dependencies: Vec::new(),
            provides: Vec::new(),
            essential: false,
            provided_by: String::new(),
            provided_by_name: String::new(),
            observable_by: Vec::new(),
            not_measurable_reason: String::new(),
            loadable_file_count: 0,
            installer: String::new(),
            identified_by: "",
            linked_packages: None,
            group_hints: None,
        }
    }

    /// Sets the package id from purl, kind and first location, and brings the lists into order.
    pub(crate) fn complete(&mut self) {
        debug_assert!(
            not_measurable::is_known(&self.not_measurable_reason),
            "a reason without a remedy: {}",
            self.not_measurable_reason
        );
        for list in [&mut self.licenses, &mut self.dependencies, &mut self.provides] {
            list.sort();
            list.dedup();
        }
        self.observable_by.sort_unstable();
        self.observable_by.dedup();
        let location = match self.kind {
            PackageKind::Os => None,
            PackageKind::Application => self.locations.first().map(Location::identity_bytes),
        };
        self.package_id = identity::package_id(&self.purl, location.as_deref());
    }
}

impl Location {
    /// The location as it enters a package id: path, then `!/` and the nested path if there is one.
    pub fn identity_bytes(&self) -> Vec<u8> {
        let mut bytes = self.path.clone();
        if !self.nested_path.is_empty() {
            bytes.extend_from_slice(b"!/");
            bytes.extend_from_slice(&self.nested_path);
        }
        bytes
    }
}
