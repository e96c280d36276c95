//! Which of the packages in one archive a class belongs to: that with the longest matching prefix of class names.
//! What several could have loaded must never be taken from any of them: all are credited, and the use is ambiguous.

use std::collections::BTreeMap;

use plimsoll_schemas::events::Owner;
use plimsoll_schemas::words::package_kind;

/// Ecosystems of which all packages in one binary are used together: sharing a path raises no doubt.
const LINKED_TOGETHER: &[&str] = &["golang", "cargo"];

/// Java packages below a main component's own that may hold what was merged in under another name.
const RELOCATED: &[&str] = &[
    "com",
    "org",
    "net",
    "io",
    "javax",
    "jakarta",
    "edu",
    "gov",
    "shaded",
    "shade",
    "shadow",
    "repackaged",
    "repackage",
    "relocated",
    "thirdparty",
    "third_party",
    "vendor",
    "embedded",
    "bundled",
];

/// Words of an artifact's name that say nothing of which Java packages it has.
const SAYS_NOTHING: &[&str] = &["api", "core", "all", "spi", "impl", "main"];

/// The application packages of a path that several own, by the class names that they claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Credits {
    /// Package ids by prefix, which ends with a dot.
    by_prefix: BTreeMap<String, Vec<String>>,
    /// Package ids that get what nobody claims: those without prefixes, or else all.
    rest: Vec<String>,
    /// Prefixes by package id.
    claims: BTreeMap<String, Vec<String>>,
    /// Package ids of main components, which get the rest, by the Java packages that are their own beyond doubt.
    mains: BTreeMap<String, Vec<String>>,
    /// Whether prefixes are guesses by names; those of modules in a runtime image are not.
    guessed: bool,
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
            let is_main = owner.class_prefixes.iter().any(String::is_empty);
            for prefix in owner.class_prefixes.iter().filter(|prefix| !prefix.is_empty()) {
                let prefix = if prefix.ends_with('.') { prefix.clone() } else { format!("{prefix}.") };
                claims.push(prefix);
            }
            claims.sort();
            claims.dedup();
            if is_main {
                credits.mains.insert(owner.package_id.clone(), std::mem::take(claims));
            }
        }
        credits.guessed = applications.iter().all(|owner| owner.ecosystem == "maven");
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

    /// How many packages share the path.
    pub fn count(&self) -> usize {
        self.claims.len()
    }

    /// Whether classes of a Java package that are not credited to `owner` may be its own all the same: that a Java package
    /// resembles the name of a component is a guess.
    pub fn may_be_its(&self, owner: &Owner, java_package: &str) -> bool {
        let id = &owner.package_id;
        // Nothing that is in a Java package can use classes of none: no library has any.
        if !self.guessed || java_package.is_empty() || self.mains.contains_key(id) {
            return false;
        }
        let Some(claims) = self.claims.get(id) else { return false };
        let closest = self.longest(java_package);
        if closest.is_none() && self.is_mains(owner, java_package) {
            return false;
        }
        if claims.is_empty() || says_only_its_group(owner, claims) {
            return true;
        }
        let is_below =
            |prefix: &String| java_package.strip_prefix(prefix).is_some_and(|rest| !may_be_relocated(rest));
        closest.is_none() || claims.iter().any(is_below)
    }

    /// Whether a Java package is a main component's own, and surely not `owner`'s.
    fn is_mains(&self, owner: &Owner, java_package: &str) -> bool {
        let group = format!("{}.", group_of(owner));
        self.mains.values().flatten().any(|own| {
            let is_kin = own.starts_with(&group) || group.starts_with(own.as_str());
            !is_kin && java_package.strip_prefix(own).is_some_and(|rest| !may_be_relocated(rest))
        })
    }

    /// Whether a package gets what nobody claims.
    pub fn gets_rest(&self, package_id: &str) -> bool {
        self.rest.iter().any(|id| id == package_id)
    }
}

/// The Maven group of an owner; empty if it has none.
fn group_of(owner: &Owner) -> &str {
    owner.name.split_once(':').map_or("", |(group, _)| group)
}

/// Whether all that a component claims is the Java package of its group, though its name says more: the group is that of
/// many, and its own classes may stand anywhere.
fn says_only_its_group(owner: &Owner, claims: &[String]) -> bool {
    let Some((group, artifact)) = owner.name.split_once(':') else { return false };
    let group = format!("{}.", group.replace('-', "_"));
    let is_group = |prefix: &String| *prefix == group || prefix.ends_with(&format!(".{group}"));
    let bare = |word: &str| word.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
    let is_said = |word: &str| {
        SAYS_NOTHING.contains(&bare(word).as_str()) || group.split('.').any(|part| bare(part) == bare(word))
    };
    claims.iter().all(is_group) && !artifact.split(['-', '.', '_']).all(is_said)
}

/// Whether what follows a prefix looks like a Java package that was renamed to stand there.
fn may_be_relocated(rest: &str) -> bool {
    let parts: Vec<&str> = rest.split('.').filter(|part| !part.is_empty()).collect();
    parts.iter().enumerate().any(|(at, part)| {
        // An application's own package for input and output is called so as well.
        let is_own = ["io", "net"].contains(part) && at + 1 == parts.len();
        !is_own && RELOCATED.contains(part)
    })
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
    fn whose_a_class_may_be_besides() {
        let named = |name: &str, prefixes: &[&str]| Owner {
            name: name.into(),
            ..owner(name, "application", prefixes)
        };
        let mut jar = vec![
            named("com.acme:app", &["", "com.acme."]),
            named("com.acme.parts:hidden", &[]),
            named("com.sun.activation:jakarta.activation", &["com.sun.activation."]),
            named("jakarta.activation:jakarta.activation-api", &["jakarta.activation."]),
            named("org.glassfish:jakarta.el", &[]),
            named("org.slf4j:slf4j-api", &["org.slf4j."]),
        ];
        let may_be = |jar: &[Owner], java_package: &str| -> Vec<String> {
            let credits = Credits::of(jar).unwrap();
            let artifact = |owner: &Owner| owner.name.split(':').nth(1).unwrap().to_owned();
            jar.iter().filter(|owner| credits.may_be_its(owner, java_package)).map(artifact).collect()
        };
        let nothing = [""; 0];
        // Of the main component's group, though nothing resembles it.
        assert_eq!(may_be(&jar, "com.acme.web."), ["hidden"]);
        assert_eq!(
            may_be(&jar, "org.slf4j.spi."),
            ["hidden", "jakarta.activation", "jakarta.el", "slf4j-api"]
        );
        assert_eq!(
            may_be(&jar, "jakarta.activation."),
            ["hidden", "jakarta.activation", "jakarta.activation-api", "jakarta.el"]
        );
        let all = ["hidden", "jakarta.activation", "jakarta.activation-api", "jakarta.el", "slf4j-api"];
        assert_eq!(may_be(&jar, "com.sun.el."), all);
        assert_eq!(may_be(&jar, ""), nothing);
        // The credits are as if the main component's list were empty.
        check(&jar, "com.acme.web.", &["com.acme.parts:hidden", "com.acme:app", "org.glassfish:jakarta.el"]);
        // In a runtime image the modules' packages are known.
        jar.push(Owner { ecosystem: "openjdk".into(), ..named("openjdk", &[]) });
        assert_eq!(may_be(&jar, "com.sun.el."), nothing);
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
