//! Which version to upgrade to, on small exports made for one question each, and on the sample.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use plimsoll_vulndb::{Database, PackageQuery, Upgrade};
use support::*;

/// Vulnerabilities of one package of PyPI, each by its ranges `introduced..fixed`; without `fixed` nothing ends it.
fn database(vulnerabilities: &[&[&str]]) -> Database {
    let record = |(number, ranges): (usize, &&[&str])| {
        let events: Vec<_> = ranges
            .iter()
            .flat_map(|range| {
                let (introduced, fixed) = range.split_once("..").unwrap();
                let fixed = (!fixed.is_empty()).then(|| serde_json::json!({ "fixed": fixed }));
                std::iter::once(serde_json::json!({ "introduced": introduced })).chain(fixed)
            })
            .collect();
        serde_json::json!({
            "id": format!("CVE-2026-{number:04}"),
            "affected": [{
                "package": { "ecosystem": "PyPI", "name": "p" },
                "ranges": [{ "type": "ECOSYSTEM", "events": events }]
            }]
        })
        .to_string()
    };
    let records: Vec<String> = vulnerabilities.iter().enumerate().map(record).collect();
    let export = Export::new();
    export.records("PyPI", &records.iter().map(String::as_str).collect::<Vec<_>>());
    export.database()
}

/// Of version 1.0: `to` and how many vulnerabilities are left there.
fn check(vulnerabilities: &[&[&str]], expect: Option<(&str, usize)>) {
    let database = database(vulnerabilities);
    let query = pypi("p", "1.0");
    let got = database.upgrade(&query, &findings(&database, &query));
    let expect = expect.map(|(version, left)| Upgrade { version: version.to_owned(), left });
    assert_eq!(got, expect, "{vulnerabilities:?}");
}

#[test]
fn the_least_version_that_nothing_with_a_fix_applies_to() {
    check(&[], None);
    check(&[&["0..1.5"]], Some(("1.5", 0)));
    // The order is the ecosystem's, not that of letters.
    check(&[&["0..1.9"], &["0..1.10"]], Some(("1.10", 0)));
    // What came only later, and is fixed later still.
    check(&[&["0..1.5"], &["1.4..1.7"]], Some(("1.7", 0)));
    // A fix in each of two branches: the first branch has none of the second vulnerability.
    check(&[&["0..1.5", "2.0..2.4"], &["0..2.1"]], Some(("2.4", 0)));
    // Nothing fixes these.
    check(&[&["0.."]], None);
    check(&[&["0..1.5"], &["0.."], &["1.2.."]], Some(("1.5", 2)));
    // The version itself is not affected.
    check(&[&["0..0.9"], &["1.1..1.2"]], None);
}

#[test]
fn a_chain_without_end_is_given_up() {
    let ranges: Vec<String> = (0..40).map(|step| format!("1.{step}..1.{}", step + 1)).collect();
    let chain: Vec<[&str; 1]> = ranges.iter().map(|range| [range.as_str()]).collect();
    let chain: Vec<&[&str]> = chain.iter().map(<[&str; 1]>::as_slice).collect();
    check(&chain[..10], Some(("1.10", 0)));
    check(&chain, None);
}

#[test]
fn of_a_debian_package_it_is_the_sources() {
    let export = Export::new();
    let record = r#"{"id":"CVE-2026-1","affected":[{"package":{"ecosystem":"Debian:12","name":"src"},
        "ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1.0-1+deb12u2"}]}]}]}"#;
    export.records("Debian", &[record]);
    let database = export.database();
    let query = debian("12", "src", "1.0-1+deb12u1");
    let upgrade = database.upgrade(&query, &findings(&database, &query)).unwrap();
    assert_eq!(upgrade, Upgrade { version: "1.0-1+deb12u2".to_owned(), left: 0 });
    // A binary package of the same name and version as its source.
    let query = PackageQuery { name: "src", version: "1.0-1", source_name: "", source_version: "", ..query };
    assert_eq!(database.upgrade(&query, &findings(&database, &query)).unwrap().version, "1.0-1+deb12u2");
}

#[test]
fn known_packages_of_the_sample() {
    let Some((_, path)) = sample_database() else { return };
    let database = Database::open(path).unwrap();
    for (ecosystem, name, version) in [
        ("maven", "org.apache.logging.log4j:log4j-core", "2.14.1"),
        ("maven", "com.fasterxml.jackson.core:jackson-databind", "2.9.8"),
        ("npm", "lodash", "4.17.15"),
        ("pypi", "pillow", "8.0.0"),
        ("pypi", "django", "3.2"),
        ("gem", "rack", "2.0.1"),
        ("golang", "golang.org/x/net", "0.1.0"),
    ] {
        let query = application(ecosystem, name, version);
        let found = findings(&database, &query);
        let upgrade = database.upgrade(&query, &found);
        let upgrade = upgrade.unwrap_or_else(|| panic!("no version to upgrade {name} {version} to"));
        println!("{name} {version}, {} vulnerabilities: {upgrade:?}", found.len());
        let left = findings(&database, &application(ecosystem, name, &upgrade.version));
        assert_eq!(left.len(), upgrade.left, "{name} {upgrade:?}");
        assert!(left.iter().all(|finding| finding.fixed_versions.is_empty()), "{name} {upgrade:?}: {left:?}");
        assert!(upgrade.left < found.len(), "{name} {upgrade:?}");
    }
}
