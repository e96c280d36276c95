//! Which of the packages in one archive a class belongs to: that with the longest matching prefix of class names.
//! What several could have loaded must never be taken from any of them: all are credited, and the use is ambiguous.

use std::collections::BTreeMap;

use plimsoll_schemas::events::Owner;
use plimsoll_schemas::words::package_kind;

/// Ecosystems of which all packages in one binary are used together: sharing a path raises no doubt.
const LINKED_TOGETHER: &[&str] = &["golang", "cargo"];

/// The application packages of a path that several own, by the class names that they claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Credits {
    /// Package ids by prefix, which ends with a dot.
    by_prefix: BTreeMap<String, Vec<String>>,
    /// Package ids that get what nobody claims: those without prefixes, or else all.
    rest: Vec<String>,
    /// Prefixes by package id.
    claims: BTreeMap<String, Vec<String>>,
}

impl Credits {
    /// `None` where there is nothing to choose: fewer than two application packages.
    pub fn of(owners: &[Owner]) -> Option<Self> {
        let applications: Vec<&Owner> =
            owners.iter().filter(|owner| owner.kind == package_kind::APPLICATION).collect();
        if applications.len() < 2 {
            return None;
        }
        let mut credits = Self::default();
        for owner in &applications {
            let claims = credits.claims.entry(owner.package_id.clone()).or_default();
            for prefix in owner.class_prefixes.iter().filter(|prefix| !prefix.is_empty()) {
                let prefix = if prefix.ends_with('.') { prefix.clone() } else { format!("{prefix}.") };
                claims.push(prefix);
            }
            claims.sort();
            claims.dedup();
        }
        for (id, prefixes) in &credits.claims {
            for prefix in prefixes {
                credits.by_prefix.entry(prefix.clone()).or_default().push(id.clone());
            }
            if prefixes.is_empty() {
                credits.rest.push(id.clone());
            }
        }
        if credits.rest.is_empty() {
            credits.rest = credits.claims.keys().cloned().collect();
        }
        Some(credits)
    }

    /// The longest claimed prefix of a Java package (with its trailing dot); `None` if nobody claims it.
    pub fn longest(&self, java_package: &str) -> Option<&str> {
        let mut rest = java_package;
        while !rest.is_empty() {
            if let Some((prefix, _)) = self.by_prefix.get_key_value(rest) {
                return Some(prefix);
            }
            let name = rest.strip_suffix('.').unwrap_or(rest);
            rest = &rest[..name.rfind('.').map_or(0, |dot| dot + 1)];
        }
        None
    }

    /// The packages that the classes of a Java package belong to; more than one if that cannot be told.
    pub fn credited(&self, java_package: &str) -> &[String] {
        self.longest(java_package).and_then(|prefix| self.by_prefix.get(prefix)).unwrap_or(&self.rest)
    }

    /// The prefixes that a package claims.
    pub fn claims(&self, package_id: &str) -> &[String] {
        self.claims.get(package_id).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a package gets what nobody claims.
    pub fn gets_rest(&self, package_id: &str) -> bool {
        self.rest.iter().any(|id| id == package_id)
    }
}

/// The owners of a path that a use of it, not of a class in it, may belong to instead of `package_id`.
pub(crate) fn rivals<'o: 'a, 'a>(
    owners: &'o [Owner],
    package_id: &'a str,
) -> impl Iterator<Item = &'o Owner> + use<'o, 'a> {
    let own = owners.iter().find(|owner| owner.package_id == package_id);
    owners.iter().filter(move |other| {
        own.is_some_and(|own| {
            own.package_id != other.package_id
                && own.kind == other.kind
                && own.ecosystem == other.ecosystem
                && !LINKED_TOGETHER.contains(&own.ecosystem.as_str())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(id: &str, kind: &str, prefixes: &[&str]) -> Owner {
        Owner {
            package_id: id.into(),
            kind: kind.into(),
            ecosystem: if kind == "os" { "debian" } else { "maven" }.into(),
            class_prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
            ..Owner::default()
        }
    }

    fn check(owners: &[Owner], java_package: &str, expect: &[&str]) {
        let credits = Credits::of(owners).unwrap_or_default();
        assert_eq!(credits.credited(java_package), expect, "{java_package}");
    }

    #[test]
    fn the_longest_prefix_decides() {
        let jar = [
            owner("app", "application", &[]),
            owner("log4j", "application", &["org.apache.logging.log4j."]),
            owner("log4j-core", "application", &["org.apache.logging.log4j.core."]),
            owner("guava-a", "application", &["com.google.common", "shaded.guava."]),
            owner("guava-b", "application", &["com.google.common."]),
        ];
        check(&jar, "org.apache.logging.log4j.", &["log4j"]);
        check(&jar, "org.apache.logging.log4j.spi.", &["log4j"]);
        check(&jar, "org.apache.logging.log4j.core.", &["log4j-core"]);
        check(&jar, "org.apache.logging.log4j.core.net.ssl.", &["log4j-core"]);
        check(&jar, "org.apache.logging.log4jx.", &["app"]);
        check(&jar, "com.google.common.collect.", &["guava-a", "guava-b"]);
        check(&jar, "shaded.guava.", &["guava-a"]);
        check(&jar, "com.example.", &["app"]);
        check(&jar, "", &["app"]);
    }

    #[test]
    fn what_nobody_claims_may_be_anyones() {
        let jar = [owner("a", "application", &["a."]), owner("b", "application", &["b."])];
        check(&jar, "a.x.", &["a"]);
        check(&jar, "c.", &["a", "b"]);
    }

    #[test]
    fn one_application_package_leaves_nothing_to_choose() {
        assert_eq!(Credits::of(&[owner("a", "application", &["a."]), owner("deb", "os", &[])]), None);
    }

    #[test]
    fn rivals_are_of_the_same_ecosystem_and_not_linked_together() {
        let names = |owners: &[Owner], id: &str| -> Vec<String> {
            rivals(owners, id).map(|owner| owner.package_id.clone()).collect()
        };
        let mut owners =
            vec![owner("a", "application", &[]), owner("b", "application", &[]), owner("c", "os", &[])];
        assert_eq!(names(&owners, "a"), ["b"]);
        assert_eq!(names(&owners, "c"), [""; 0]);
        owners.iter_mut().for_each(|owner| owner.ecosystem = "golang".into());
        assert_eq!(names(&owners, "a"), [""; 0]);
    }
}
