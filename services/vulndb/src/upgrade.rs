//! Which version to upgrade to: the least one at which nothing is left that a version fixes.
//! Never names a version of which the database was not asked itself: a fix of one vulnerability may have the next.

use crate::matching::{Database, osv_ecosystem};
use crate::query::{Finding, PackageQuery, Upgrade};
use crate::version::{Scheme, Version};
use std::cmp::Ordering;

/// Versions that are tried: each fixes all that was known of the one before, and seldom has anything new.
const STEPS_MAX: usize = 16;

impl Database {
    /// The least version above the package's that none of `findings` that has a fix applies to, nor any other vulnerability
    /// that has one. `findings` are those of [`Database::match_package`] for the same query. `None` if no version fixes any
    /// of them, or none was found within 16 steps.
    pub fn upgrade(&self, query: &PackageQuery<'_>, findings: &[Finding]) -> Option<Upgrade> {
        let scheme = Scheme::of_osv_ecosystem(osv_ecosystem(query.ecosystem))?;
        let mut next = least_of_all(scheme, installed_of(query), findings)?;
        for _ in 0..STEPS_MAX {
            let assessment = self.match_package(&at_version(query, &next));
            let left = assessment.assessed()?;
            match least_of_all(scheme, &next, left) {
                Some(above) => next = above,
                None => return Some(Upgrade { version: next, left: left.len() }),
            }
        }
        None
    }
}

/// The version that the database orders: of a Debian package its source's.
fn installed_of<'a>(query: &PackageQuery<'a>) -> &'a str {
    if query.source_version.is_empty() { query.version } else { query.source_version }
}

fn at_version<'a>(query: &PackageQuery<'a>, version: &'a str) -> PackageQuery<'a> {
    let source_version = if query.source_version.is_empty() { "" } else { version };
    PackageQuery { version, source_version, ..*query }
}

/// The greatest of the findings' first fixes above a version: nothing below it is free of all of them.
fn least_of_all(scheme: Scheme, above: &str, findings: &[Finding]) -> Option<String> {
    let above = scheme.parse(above)?;
    let is_greater = |one: &Version<'_>, other: &Version<'_>| one.compare(other) == Some(Ordering::Greater);
    let fixes = findings.iter().filter_map(|finding| {
        let parsed = finding.fixed_versions.iter().map(|text| (text, scheme.parse(text)));
        parsed
            .filter_map(|(text, version)| Some((text, version?)))
            .find(|(_, version)| is_greater(version, &above))
    });
    let greatest = fixes.reduce(|most, one| if is_greater(&one.1, &most.1) { one } else { most });
    greatest.map(|(text, _)| text.clone())
}
