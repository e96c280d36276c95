//! What is asked and what is answered: the public types of matching.
//! Never lets "not assessed" look like "nothing found".

use crate::severity::Severity;
use serde::Serialize;

/// A package as the scanner found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackageQuery<'a> {
    /// Plimsoll's name of the ecosystem: `debian`, or the purl type (`maven`, `npm`, `gem`, `composer`, `golang`,
    /// `cargo`, `pypi`).
    pub ecosystem: &'a str,
    /// Name as in the ecosystem: Maven's `group:artifact`, npm's `@scope/name`, Go's module path or `stdlib`;
    /// PyPI's and Packagist's are normalised here.
    pub name: &'a str,
    /// Installed version.
    pub version: &'a str,
    /// Debian: the source package; empty = the same as `name`.
    pub source_name: &'a str,
    /// Debian: the source package's version; empty = the same as `version`.
    pub source_version: &'a str,
    /// `ID` of os-release (`debian`); only for OS packages.
    pub distro_id: &'a str,
    /// `VERSION_ID` of os-release (`12`).
    pub distro_version: &'a str,
    /// Go: what the program was built for, `GOOS/GOARCH` (`linux/amd64`); empty where that is not known.
    pub platform: &'a str,
    /// Maven: given if the name's group is a guess, then with everything else that tells whose the package is: class
    /// packages, names of its bundle and module. Names with other groups are matched as well then.
    pub group_hints: Option<&'a [String]>,
}

/// The answer for one package.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "assessment", rename_all = "snake_case")]
#[must_use]
pub enum Assessment {
    /// The feeds cover the package: `findings` is complete, and maybe empty.
    Assessed {
        /// Version of the database that said so.
        database_version: String,
        /// Feeds that were applied (`Debian:12`, `CISA KEV`).
        feeds: Vec<String>,
        /// Sorted by id.
        findings: Vec<Finding>,
        /// Advisories of this version that do not apply all the same, and why; sorted by id.
        not_applicable: Vec<NotApplicable>,
    },
    /// Nothing can be said about the package.
    NotAssessed {
        /// Stable code for programs.
        code: NotAssessedCode,
        /// Why, for people.
        reason: String,
        /// What would change it.
        remedy: String,
    },
}

impl Assessment {
    /// The findings; empty when not assessed, so look at the variant before saying "not vulnerable".
    pub fn findings(&self) -> &[Finding] {
        match self {
            Assessment::Assessed { findings, .. } => findings,
            Assessment::NotAssessed { .. } => &[],
        }
    }

    /// The findings, unless it was not assessed.
    pub(crate) fn assessed(&self) -> Option<&[Finding]> {
        match self {
            Assessment::Assessed { findings, .. } => Some(findings),
            Assessment::NotAssessed { .. } => None,
        }
    }
}

/// What to upgrade to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upgrade {
    /// The version; of a Debian package its source's.
    pub version: String,
    /// Vulnerabilities that the database knows of that version; no version fixes them yet.
    pub left: usize,
}

/// An advisory that names the package's version but does not apply to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotApplicable {
    /// Id of the advisory.
    pub id: String,
    /// For people: `only for windows; this program was built for linux/amd64`.
    pub reason: String,
}

/// Why a package was not assessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotAssessedCode {
    /// No feed for this ecosystem, distribution or release.
    NoFeed,
    /// The database has records of the ecosystem, but this program cannot order its versions.
    NoMatcher,
    /// The release of the distribution is not known.
    UnknownRelease,
    /// The ecosystem's version order does not know what to do with the version.
    UnparseableVersion,
    /// The package's Maven group is not known, and one that it may be of is vulnerable.
    UnknownGroup,
    /// The database file is damaged.
    DatabaseDamaged,
}

/// One vulnerability of one package.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Finding {
    /// CVE id where there is one, else the id of an advisory. Does not change with the package's version.
    pub id: String,
    /// Other ids of the same vulnerability, sorted; never another CVE.
    pub aliases: Vec<String>,
    /// Ids of the records that matched, sorted.
    pub advisories: Vec<String>,
    /// From the CVSS vector; else the source's word; else what any other record says of this CVE.
    pub severity: Severity,
    /// Vector of the newest CVSS version given; empty if there is none.
    pub cvss_vector: String,
    /// Score of the vector, 0 to 10.
    pub cvss_score: Option<f64>,
    /// In CISA's catalogue of known exploited vulnerabilities.
    pub known_exploited: bool,
    /// CISA's date for federal agencies to act by, `YYYY-MM-DD`; empty if not in the catalogue.
    pub known_exploited_due_date: String,
    /// FIRST's probability of exploitation in the next 30 days, 0 to 1.
    pub epss: Option<f64>,
    /// First fixed versions above the installed one, ascending; the last one satisfies every advisory.
    pub fixed_versions: Vec<String>,
    /// Page of the first advisory, or the name of its database.
    pub source: String,
    /// Why it matched, for people.
    pub match_reason: String,
    /// One line.
    pub summary: String,
    /// First publication by any of the advisories; 0 unknown.
    pub published_ms: i64,
    /// Last change of any of the advisories; 0 unknown.
    pub modified_ms: i64,
    /// Go: import paths of the packages within the module that hold the vulnerability, sorted; empty = all of it.
    pub imports: Vec<String>,
    /// The distribution's own urgency (Debian: `unimportant`, `low`, …); empty if it gives none.
    pub urgency: String,
}
