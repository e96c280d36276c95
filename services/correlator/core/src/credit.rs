//! Which of the packages in one archive a class belongs to: that with the longest matching prefix of class names.
//! What several could have loaded must never be taken from any of them: all are credited, and the use is ambiguous.

use std::collections::BTreeMap;

use plimsoll_schemas::events::Owner;
use plimsoll_schemas::words::{language, package_kind};

/// Ecosystems of which all packages in one binary are used together: sharing a path raises no doubt.
const LINKED_TOGETHER: &[&str] = &["golang", "cargo"];

/// The language whose packages an archive of classes is made of; runtimes are of none.
const JAVA: &str = "Java";

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
const SAYS_NOTHING: &[&str] = &["api", "core", "common", "all", "spi", "impl", "main"];

/// The packages of a path that several own and of which each of its classes may be, by the class names that they claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Credits {
    /// By package id.
    contenders: BTreeMap<String, Contender>,
    /// Package ids by prefix, which ends with a dot.
    by_prefix: BTreeMap<String, Vec<String>>,
    /// Package ids that get what nobody claims: main components and those without prefixes, or else all.
    rest: Vec<String>,
    /// Whether prefixes are guesses by names; those of modules in a runtime image are not.
    guessed: bool,
}

/// One of the packages that share the classes of a path.
#[derive(Clone, Debug, Default, PartialEq)]
struct Contender {
    /// With their trailing dots. Those of a main component are its own beyond doubt, and it gets the rest besides.
    claims: Vec<String>,
    /// The Java package of its group, with a trailing dot; empty without a group.
    group: String,
    is_main: bool,
    /// All that it claims is the Java package of its group, though its name says more.
    claims_only_its_group: bool,
}

/// Whose the classes of one Java package are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attribution<'a> {
    /// The longest claim; empty if nobody claims the Java package.
    pub prefix: &'a str,
    /// Package ids that the classes count for.
    pub credited: Vec<&'a str>,
    /// Package ids that the classes may be of as well as not: the credited ones, and those whose claim is as long but says
    /// less.
    pub named: Vec<&'a str>,
}

impl Contender {
    fn of(owner: &Owner) -> Self {
        let mut claims: Vec<String> = owner.class_prefixes.clone();
        claims.retain(|prefix| !prefix.is_empty());
        for prefix in claims.iter_mut().filter(|prefix| !prefix.ends_with('.')) {
            prefix.push('.');
        }
        claims.sort();
        claims.dedup();
        let group = owner.name.split_once(':').map_or("", |(group, _)| group).replace('-', "_");
        Self {
            claims_only_its_group: !claims.is_empty() && says_only_its_group(owner, &claims),
            claims,
            group: if group.is_empty() { group } else { group + "." },
            is_main: owner.class_prefixes.iter().any(String::is_empty),
        }
    }

    /// Whether a prefix is the Java package of the group, here or renamed.
    fn is_its_group(&self, prefix: &str) -> bool {
        !self.group.is_empty()
            && prefix
                .strip_suffix(self.group.as_str())
                .is_some_and(|above| above.is_empty() || above.ends_with('.'))
    }

    /// Whether a Java package is below that of the group, and not renamed to stand there.
    fn has_in_its_group(&self, java_package: &str) -> bool {
        !self.group.is_empty() && is_below(java_package, &self.group)
    }
}

impl Credits {
    /// `None` where there is nothing to choose: fewer than two packages of which a class of the path may be. What owns the
    /// archive as a file (a wheel, an OS package) is not one of them: all its classes are used from that package.
    pub fn of(owners: &[Owner]) -> Option<Self> {
        let mut credits = Self { guessed: true, ..Self::default() };
        for owner in owners.iter().filter(|owner| has_classes(owner)) {
            credits.contenders.insert(owner.package_id.clone(), Contender::of(owner));
            credits.guessed &= owner.ecosystem == "maven";
        }
        if credits.contenders.len() < 2 {
            return None;
        }
        for (id, contender) in &credits.contenders {
            for prefix in &contender.claims {
                credits.by_prefix.entry(prefix.clone()).or_default().push(id.clone());
            }
            if contender.is_main || contender.claims.is_empty() {
                credits.rest.push(id.clone());
            }
        }
        if credits.rest.is_empty() {
            credits.rest = credits.contenders.keys().cloned().collect();
        }
        Some(credits)
    }

    /// Whose the classes of a Java package (with its trailing dot) are.
    pub fn attribute(&self, java_package: &str) -> Attribution<'_> {
        let Some((prefix, claimants)) = self.closest(java_package) else {
            let rest: Vec<&str> = self.rest.iter().map(String::as_str).collect();
            return Attribution { prefix: "", credited: rest.clone(), named: rest };
        };
        if !self.guessed {
            return Attribution { prefix, credited: claimants.clone(), named: claimants };
        }
        // A group says less than a name: an aggregator claims all that its group has.
        let by_name = |id: &&str| !self.contenders[*id].claims_only_its_group;
        let mut named = claimants;
        let mut credited: Vec<&str> = named.iter().copied().filter(by_name).collect();
        if credited.is_empty() {
            credited.clone_from(&named);
        }
        if self.is_a_group(prefix, &named) {
            for (id, main) in self.contenders.iter().filter(|(_, contender)| contender.is_main) {
                if !main.is_its_group(prefix) && !main.has_in_its_group(java_package) {
                    continue;
                }
                for list in [&mut credited, &mut named] {
                    if !list.contains(&id.as_str()) {
                        list.push(id);
                    }
                }
            }
        }
        Attribution { prefix, credited, named }
    }

    /// The longest claim of a Java package, and whose it is; `None` if nobody claims it.
    fn closest(&self, java_package: &str) -> Option<(&str, Vec<&str>)> {
        let mut rest = java_package;
        while !rest.is_empty() {
            if let Some((prefix, ids)) = self.by_prefix.get_key_value(rest) {
                let is_its = |id: &&str| !self.contenders[*id].is_main || is_below(java_package, prefix);
                let claimants: Vec<&str> = ids.iter().map(String::as_str).filter(is_its).collect();
                if !claimants.is_empty() {
                    return Some((prefix, claimants));
                }
            }
            let name = rest.strip_suffix('.').unwrap_or(rest);
            rest = &rest[..name.rfind('.').map_or(0, |dot| dot + 1)];
        }
        None
    }

    /// Whether a claim is only the group of somebody who claims it.
    fn is_a_group(&self, prefix: &str, claimants: &[&str]) -> bool {
        claimants.iter().any(|id| self.contenders[*id].is_its_group(prefix))
    }

    /// The prefixes below which the classes of a package lie; the empty one for all of the path.
    pub fn reach(&self, package_id: &str) -> Vec<&str> {
        if self.rest.iter().any(|id| id == package_id) {
            return vec![""];
        }
        let claims = self.contenders.get(package_id).map(|contender| contender.claims.as_slice());
        claims.unwrap_or_default().iter().map(String::as_str).collect()
    }

    /// Whether a package is one of those that share the classes.
    pub fn contends(&self, package_id: &str) -> bool {
        self.contenders.contains_key(package_id)
    }

    /// How many packages share the classes.
    pub fn count(&self) -> usize {
        self.contenders.len()
    }

    /// Whether classes of a Java package that are not credited to a package may be its own all the same: that a Java package
    /// resembles the name of a component is a guess.
    pub fn may_be_its(&self, package_id: &str, java_package: &str) -> bool {
        // Nothing that is in a Java package can use classes of none: no library has any.
        if !self.guessed || java_package.is_empty() {
            return false;
        }
        let Some(contender) = self.contenders.get(package_id) else { return false };
        let Attribution { prefix, credited, named } = self.attribute(java_package);
        if credited.contains(&package_id) {
            return false;
        }
        let is_of_its_claims = contender.claims.iter().any(|claim| is_below(java_package, claim));
        if contender.is_main {
            let is_within_its_own = contender.claims.iter().any(|own| java_package.starts_with(own));
            return is_within_its_own || contender.has_in_its_group(java_package);
        }
        let may_be_mains = prefix.is_empty() || named.iter().any(|id| self.contenders[*id].is_main);
        if may_be_mains && self.is_mains(contender, java_package) {
            return false;
        }
        prefix.is_empty()
            || contender.claims.is_empty()
            || contender.claims_only_its_group
            || is_of_its_claims
            // Of its group, and nobody claims it more closely than by that.
            || self.is_a_group(prefix, &named)
                && (contender.is_its_group(prefix) || contender.has_in_its_group(java_package))
    }

    /// Whether a Java package is a main component's own, and surely not of this other one.
    fn is_mains(&self, other: &Contender, java_package: &str) -> bool {
        let group = &other.group;
        self.contenders.values().filter(|contender| contender.is_main).flat_map(|main| &main.claims).any(
            |own| {
                let is_kin = !group.is_empty() && (own.starts_with(group) || group.starts_with(own));
                !is_kin && is_below(java_package, own)
            },
        )
    }
}

/// Whether the classes of an archive may be of such a package, rather than the archive one of its files.
fn has_classes(owner: &Owner) -> bool {
    owner.kind == package_kind::APPLICATION && language(&owner.ecosystem).is_none_or(|name| name == JAVA)
}

/// Whether a Java package lies below a prefix, and is not renamed to stand there.
fn is_below(java_package: &str, prefix: &str) -> bool {
    java_package.strip_prefix(prefix).is_some_and(|rest| !may_be_relocated(rest))
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
        assert_eq!(credits.attribute(java_package).credited, expect, "{java_package}");
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
            jar.iter()
                .filter(|owner| credits.may_be_its(&owner.package_id, java_package))
                .map(artifact)
                .collect()
        };
        let nothing = [""; 0];
        // Of the main component's group, though nothing resembles it.
        assert_eq!(may_be(&jar, "com.acme.web."), ["hidden"]);
        assert_eq!(may_be(&jar, "org.slf4j.spi."), ["hidden", "jakarta.activation", "jakarta.el"]);
        assert_eq!(may_be(&jar, "jakarta.activation."), ["hidden", "jakarta.activation", "jakarta.el"]);
        // Nobody's by name: credited to the main component and to those that resemble nothing.
        let rest = ["com.acme.parts:hidden", "com.acme:app", "org.glassfish:jakarta.el"];
        check(&jar, "com.sun.el.", &rest);
        let others = ["jakarta.activation", "jakarta.activation-api", "slf4j-api"];
        assert_eq!(may_be(&jar, "com.sun.el."), others);
        check(&jar, "com.acme.shaded.sun.el.", &rest);
        assert_eq!(may_be(&jar, ""), nothing);
        // The main component's own Java packages are its own.
        check(&jar, "com.acme.web.", &["com.acme:app"]);
        // In a runtime image the modules' packages are known.
        jar.push(Owner { ecosystem: "openjdk".into(), ..named("openjdk", &[]) });
        assert_eq!(may_be(&jar, "com.sun.el."), nothing);
    }

    fn named(name: &str, prefixes: &[&str]) -> Owner {
        Owner { name: name.into(), ..owner(name, "application", prefixes) }
    }

    /// Artifacts that a Java package is credited to, that it may be of besides, and that it cannot be of.
    fn check_group(jar: &[Owner], java_package: &str, credited: &[&str], held: &[&str]) {
        let credits = Credits::of(jar).unwrap();
        let artifact = |id: &str| id.split(':').nth(1).unwrap().to_owned();
        let got: Vec<String> = credits.attribute(java_package).credited.into_iter().map(artifact).collect();
        assert_eq!(got, credited, "{java_package}");
        let ids = jar.iter().map(|owner| owner.package_id.as_str());
        let got: Vec<String> = ids.filter(|id| credits.may_be_its(id, java_package)).map(artifact).collect();
        assert_eq!(got, held, "{java_package} besides");
    }

    #[test]
    fn a_main_component_takes_part_with_its_own_java_packages() {
        let jar = [
            named("com.acme:shop-common", &["com.acme.shop."]),
            named("com.acme:shop-server", &["", "com.acme.shop.server."]),
            named("org.log:log", &["org.log."]),
        ];
        check_group(&jar, "com.acme.shop.server.", &["shop-server"], &["shop-common"]);
        check_group(&jar, "com.acme.shop.server.web.", &["shop-server"], &["shop-common"]);
        // Closest to another's name, but of its group.
        check_group(&jar, "com.acme.shop.", &["shop-common"], &["shop-server"]);
        check_group(&jar, "com.acme.util.", &["shop-server"], &["shop-common", "log"]);
        check_group(&jar, "org.log.", &["log"], &[]);
        check_group(&jar, "com.acme.shop.server.shaded.org.log.", &["shop-common"], &["shop-server"]);
    }

    #[test]
    fn where_only_the_group_tells_all_of_it_are_named() {
        let jar = [
            named("com.acme:shop-common", &["com.acme."]),
            named("com.acme:shop-domain", &["com.acme."]),
            named("com.acme:shop-server", &["", "com.acme."]),
            named("com.acme:shop-web", &["com.acme.web."]),
            named("org.log:log", &["org.log."]),
        ];
        let all = ["shop-common", "shop-domain", "shop-server"];
        check_group(&jar, "com.acme.", &all, &["shop-web"]);
        check_group(&jar, "com.acme.web.", &["shop-web"], &all);
        // The main component is named, too, where its own claim is another.
        let mut other = jar.clone();
        other[2] = named("com.acme:shop-server", &["", "com.acme.shop.server."]);
        check_group(&other, "com.acme.util.", &all, &["shop-web"]);
    }

    #[test]
    fn an_aggregator_has_not_what_somebody_has_by_name() {
        let jar = [
            named("org.apache.hadoop:hadoop-client", &["org.apache.hadoop."]),
            named("org.apache.hadoop:hadoop-client-api", &["", "org.apache.hadoop."]),
            named("org.apache.hadoop:hadoop-common", &["org.apache.hadoop."]),
            named("org.apache.hadoop:hadoop-yarn-api", &["org.apache.hadoop.yarn.api."]),
        ];
        let conf = "org.apache.hadoop.conf.";
        check_group(
            &jar,
            conf,
            &["hadoop-common", "hadoop-client-api"],
            &["hadoop-client", "hadoop-yarn-api"],
        );
        let named_as_well = Credits::of(&jar).unwrap().attribute(conf).named.len();
        assert_eq!(named_as_well, 3);
        let yarn = "org.apache.hadoop.yarn.api.";
        check_group(
            &jar,
            yarn,
            &["hadoop-yarn-api"],
            &["hadoop-client", "hadoop-client-api", "hadoop-common"],
        );
        let avro = [
            named("org.apache.avro:avro", &["org.apache.avro."]),
            named("org.apache.avro:avro-mapred", &["org.apache.avro.mapred."]),
            named("org.apache.avro:avro-tools", &["", "org.apache.avro."]),
            named("org.apache.avro:trevni-core", &["org.apache.avro."]),
        ];
        check_group(&avro, "org.apache.avro.tool.", &["avro", "avro-tools"], &["avro-mapred", "trevni-core"]);
    }

    /// What owns the archive as one of its files changes nothing about whose its classes are.
    #[test]
    fn a_wheel_that_carries_the_archive_does_not_contend() {
        let mut jar = vec![
            named("com.acme:app", &["", "com.acme."]),
            named("com.acme.parts:hidden", &[]),
            named("org.log:log", &["org.log."]),
        ];
        let without = Credits::of(&jar);
        for ecosystem in ["pypi", "gem", "npm", "composer"] {
            jar.insert(0, Owner { ecosystem: ecosystem.into(), ..named(ecosystem, &[]) });
            assert_eq!(Credits::of(&jar), without, "{ecosystem}");
        }
        assert_eq!(Credits::of(&jar[3..=4]), None);
        assert!(without.unwrap().may_be_its("com.acme.parts:hidden", "org.log."));
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
