//! What matches in each language's ecosystem, on small exports made for one question each.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use plimsoll_vulndb::{Assessment, Database, NotAssessedCode, PackageQuery, status};
use support::*;

/// A record of one package, ranges given as `TYPE: kind version, …`, then listed versions.
fn record(ecosystem: &str, name: &str, ranges: &[(&str, &[(&str, &str)])], versions: &[&str]) -> String {
    let ranges: Vec<serde_json::Value> = ranges
        .iter()
        .map(|(kind, events)| {
            let events: Vec<_> =
                events.iter().map(|(event, version)| serde_json::json!({ *event: version })).collect();
            serde_json::json!({ "type": kind, "events": events })
        })
        .collect();
    serde_json::json!({
        "id": "X-1",
        "affected": [{ "package": { "ecosystem": ecosystem, "name": name }, "ranges": ranges, "versions": versions }]
    })
    .to_string()
}

fn database(folder: &str, record: &str) -> Database {
    let export = Export::new();
    export.records(folder, &[record]);
    let database = export.database();
    let status = status(&export.output()).unwrap();
    assert!(
        status.ecosystems.iter().all(|ecosystem| ecosystem.matched && !ecosystem.version_order.is_empty())
    );
    database
}

/// Versions that must match, that must not, and that must be refused.
fn check(
    ecosystem: &str,
    name: &str,
    database: &Database,
    affected: &[&str],
    unaffected: &[&str],
    refused: &[&str],
) {
    for (versions, expect) in [(affected, Some(1)), (unaffected, Some(0)), (refused, None)] {
        for version in versions {
            let found = match database.match_package(&application(ecosystem, name, version)) {
                Assessment::Assessed { findings, feeds, .. } => {
                    assert!(!feeds.is_empty());
                    Some(findings.len())
                }
                Assessment::NotAssessed { code, reason, remedy } => {
                    assert_eq!(code, NotAssessedCode::UnparseableVersion, "{ecosystem} {version}");
                    assert!(reason.contains(&format!("{version:?}")) && !remedy.is_empty());
                    None
                }
            };
            assert_eq!(found, expect, "{ecosystem} {name} {version}");
        }
    }
}

#[test]
fn maven() {
    let ranges: &[(&str, &[(&str, &str)])] = &[
        ("ECOSYSTEM", &[("introduced", "2.0-beta9"), ("fixed", "2.15.0")]),
        ("ECOSYSTEM", &[("introduced", "3.0"), ("last_affected", "3.1.0.Final")]),
        ("GIT", &[("introduced", "0")]),
    ];
    let db = database("Maven", &record("Maven", "org.x:y", ranges, &["1.0.RELEASE"]));
    let affected = [
        "2.0-beta9",
        "2.0-beta10",
        "2.0",
        "2.14.1",
        "2.15.0-rc1",
        "2.15-SNAPSHOT",
        "3.1",
        "3.1.0",
        "1",
        "1.0.0",
    ];
    let refused = ["", "${revision}", "1.0 beta", "[1,2)", "LATEST", "2.14.1\u{0}"];
    check(
        "maven",
        "org.x:y",
        &db,
        &affected,
        &["2.0-beta8", "2.15.0", "2.15", "3.1.1", "3.1-sp1", "1.1"],
        &refused,
    );
    check("maven", "Org.X:y", &db, &[], &["2.14.1"], &[]);
    check("maven", "y", &db, &[], &["2.14.1"], &[]);
}

/// Packages whose group is a guess: what is found under which name, or why nothing is.
#[test]
fn guessed_groups_of_maven() {
    let all: &[(&str, &[(&str, &str)])] = &[("ECOSYSTEM", &[("introduced", "0"), ("fixed", "99")])];
    let export = Export::new();
    let names = [
        "com.alibaba:common",
        "org.apache.groovy:groovy",
        "org.bouncycastle:bcprov-jdk18on",
        "org.codehaus.groovy:groovy",
        "org.hibernate.orm:hibernate-core",
        "org.springframework:spring-jcl",
    ];
    let records: Vec<String> = names
        .iter()
        .map(|name| record("Maven", name, all, &[]).replace("X-1", &format!("X-{name}")))
        .collect();
    export.records("Maven", &records.iter().map(String::as_str).collect::<Vec<_>>());
    let database = export.database();
    let check = |guess: &str, version: &str, hints: &[&str], expect: &str| {
        let hints: Vec<String> = hints.iter().map(|hint| (*hint).to_owned()).collect();
        let query = PackageQuery { group_hints: Some(&hints), ..application("maven", guess, version) };
        let found = match database.match_package(&query) {
            Assessment::Assessed { findings, not_applicable, .. } => {
                for finding in &findings {
                    let is_own = finding.id == format!("X-{guess}");
                    assert_eq!(finding.match_reason.contains("is a guess"), !is_own, "{finding:?}");
                }
                let ids = findings.into_iter().map(|finding| finding.id);
                ids.chain(not_applicable.into_iter().map(|one| format!("not {}", one.id)))
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            Assessment::NotAssessed { code, reason, remedy } => {
                assert!(!reason.is_empty() && !remedy.is_empty());
                format!("{code:?}")
            }
        };
        assert_eq!(found, expect, "{guess} {version} {hints:?}");
    };
    check("org.bouncycastle.jcajce:bcprov-jdk18on", "1.78.1", &[], "X-org.bouncycastle:bcprov-jdk18on");
    check("org.apache.commons:spring-jcl", "5.3.39", &["spring.jcl"], "X-org.springframework:spring-jcl");
    check("org.hibernate:hibernate-core", "6.4.9.Final", &[], "X-org.hibernate.orm:hibernate-core");
    check(
        "org.codehaus.groovy:groovy",
        "4.0.22",
        &["org.apache.groovy"],
        "X-org.apache.groovy:groovy X-org.codehaus.groovy:groovy",
    );
    // A fixed version, an artifact that no advisory names, and one that others are called like.
    check("org.bouncycastle.jcajce:bcprov-jdk18on", "99", &[], "");
    check("com.acme:shop", "1", &["com.acme"], "");
    check("com.acme.common:common", "1", &["com.acme"], "not X-com.alibaba:common");
    check("com.acme.common:common", "99", &["com.acme"], "");
    check("common", "1", &[], "UnknownGroup");
    check("common", "99", &[], "");
    // A group that is known is not doubted.
    assert_eq!(ids(&database, &application("maven", "org.hibernate:hibernate-core", "6")), [""; 0]);
}

/// Records of other repositories than the ecosystem's own stand under their address.
#[test]
fn other_repositories_belong_to_their_ecosystem() {
    let all: &[(&str, &[(&str, &str)])] = &[("ECOSYSTEM", &[("introduced", "0"), ("fixed", "2")])];
    let db = database("Maven", &record("Maven:https://repository.example/maven", "org.x:y", all, &[]));
    check("maven", "org.x:y", &db, &["1"], &["2"], &[]);
    let db = database("Packagist", &record("Packagist:https://packages.example/8", "drupal/y", all, &[]));
    check("composer", "drupal/y", &db, &["1.9"], &["2.0"], &[]);
}

#[test]
fn npm() {
    let ranges: &[(&str, &[(&str, &str)])] = &[
        ("SEMVER", &[("introduced", "0"), ("fixed", "4.17.21")]),
        ("ECOSYSTEM", &[("introduced", "5.0.0-alpha"), ("limit", "5.0.0")]),
    ];
    let db = database("npm", &record("npm", "@x/Y", ranges, &["9.0.0"]));
    let affected = [
        "0.0.0",
        "4.17.20",
        "v4.17.20",
        "4.17.21-rc.1",
        "4.17.20+build",
        "4.17.21beta",
        "5.0.0-beta",
        "9.0.0",
        "9.0.0+b",
    ];
    let refused =
        ["", "1", "1.2", "latest", "*", "^1.0.0", "1.2.3.4", "file:..", "workspace:*", "npm:x@1.0.0"];
    check("npm", "@x/Y", &db, &affected, &["4.17.21", "5.0.0", "9.0.0-rc.1", "10.0.0"], &refused);
    check("npm", "@x/y", &db, &[], &["4.17.20"], &[]);
}

#[test]
fn rubygems() {
    let ranges: &[(&str, &[(&str, &str)])] = &[(
        "ECOSYSTEM",
        &[("introduced", "3.0.0.beta"), ("fixed", "3.0.4.1"), ("introduced", "3.1"), ("fixed", "3.1.0.1")],
    )];
    let db = database("RubyGems", &record("RubyGems", "a_b", ranges, &["1.0.0"]));
    let affected = ["3.0.0.beta", "3.0.0.rc1", "3.0.4", "3.0.4.1.pre", "3.1", "3.1.0", "1", "1.0"];
    check(
        "gem",
        "a_b",
        &db,
        &affected,
        &["3.0.0.alpha", "3.0.4.1", "3.1.0.1", "3.0.5"],
        &["", "v1", "1..2", "1.0-", "main"],
    );
    check("gem", "a-b", &db, &[], &["3.0.4"], &[]);
}

#[test]
fn packagist() {
    let ranges: &[(&str, &[(&str, &str)])] = &[
        ("ECOSYSTEM", &[("introduced", "5.1.0"), ("fixed", "5.1.5")]),
        ("SEMVER", &[("introduced", "6.0.0-beta1"), ("last_affected", "6.0.0-RC1")]),
    ];
    let db = database("Packagist", &record("Packagist", "Vendor/Name", ranges, &["1.0.0-beta2"]));
    let affected = ["v5.1.0", "5.1.4.0", "5.1.5-RC1", "6.0-RC1", "6.0.0.0-rc1", "1.0b2"];
    let refused = ["", "dev-main", "dev-5.1.0", "master", "1.0.0.0.0", "self.version", "^5.1"];
    check("composer", "vendor/name", &db, &affected, &["5.1.0-RC1", "5.1.5", "5.1.x-dev", "6.0.0"], &refused);
    check("composer", "VENDOR/Name", &db, &["5.1.4"], &[], &[]);
}

#[test]
fn go() {
    let ranges: &[(&str, &[(&str, &str)])] = &[
        ("SEMVER", &[("introduced", "0"), ("fixed", "0.0.0-20200220183623-bac4c82f6975")]),
        ("SEMVER", &[("introduced", "2.0.0+incompatible"), ("fixed", "2.1.0+incompatible")]),
    ];
    let db = database("Go", &record("Go", "example.com/x/v2", ranges, &[]));
    let affected = ["v0.0.0-20190101000000-abcdefabcdef", "v2.0.0+incompatible", "2.0.9", "v2.1.0-rc.1"];
    let refused =
        ["", "(devel)", "devel", "v0.0.0-00010101000000-000000000000", "v1.2.3.4", "latest", "v01.0.0"];
    let unaffected = ["v0.0.0-20200220183623-bac4c82f6975", "v1.0.0", "v2.1.0", "v2.1.0+incompatible"];
    check("golang", "example.com/x/v2", &db, &affected, &unaffected, &refused);
    check("golang", "Example.com/x/v2", &db, &[], &["v2.0.0"], &[]);

    let ranges: &[(&str, &[(&str, &str)])] = &[(
        "SEMVER",
        &[("introduced", "0"), ("fixed", "1.21.9"), ("introduced", "1.22.0-0"), ("fixed", "1.22.2")],
    )];
    let db = database("Go", &record("Go", "stdlib", ranges, &[]));
    let affected = [
        "go1.20",
        "go1.21.8",
        "1.21.8",
        "v1.21.8",
        "go1.22rc1",
        "go1.22.0",
        "go1.22.1-custom",
        "go1.22.1 X:boringcrypto",
    ];
    check(
        "golang",
        "stdlib",
        &db,
        &affected,
        &["go1.21.9", "go1.22.2", "go1.23.0"],
        &["devel go1.23-abc", "go1.23-devel_abc"],
    );
}

#[test]
fn crates_io() {
    let ranges: &[(&str, &[(&str, &str)])] = &[(
        "SEMVER",
        &[("introduced", "0.0.0-0"), ("fixed", "0.8.2-0"), ("introduced", "1.0.0"), ("fixed", "1.0.0")],
    )];
    let db = database("crates.io", &record("crates.io", "a-b", ranges, &[]));
    check(
        "cargo",
        "a-b",
        &db,
        &["0.0.0-alpha", "0.8.1", "0.8.1+c-8.0"],
        &["0.8.2-0", "0.8.2-rc.1", "1.0.0"],
        &["", "1.0", "v1.0.0", "01.0.0"],
    );
    check("cargo", "a_b", &db, &[], &["0.8.1"], &[]);
}

/// A boundary that the ecosystem refuses spoils its range, is told at the build, and matches nothing.
#[test]
fn broken_boundaries_are_told() {
    for (folder, ecosystem, boundary, version) in [
        ("Maven", "maven", "${fixed}", "1.0"),
        ("npm", "npm", "1.x", "1.0.0"),
        ("RubyGems", "gem", "1..0", "1.0"),
        ("Packagist", "composer", "dev-main", "1.0"),
        ("Go", "golang", "v1.2.3.4", "v1.0.0"),
        ("crates.io", "cargo", "1.0", "1.0.0"),
    ] {
        let export = Export::new();
        let broken: &[(&str, &[(&str, &str)])] =
            &[("ECOSYSTEM", &[("introduced", "0"), ("fixed", boundary)])];
        export.records(folder, &[&record(folder, "a", broken, &[])]);
        let report = export.build();
        assert!(
            report.warnings.iter().any(|w| w.problem.contains("cannot order")),
            "{folder}: {:?}",
            report.warnings
        );
        let database = Database::open(&export.output()).unwrap();
        assert!(ids(&database, &application(ecosystem, "a", version)).is_empty(), "{folder}");
    }
}

/// What an artifact calls a version is anybody's text: refused shortly, whatever its length.
#[test]
fn absurd_versions_are_refused_shortly() {
    let all: &[(&str, &[(&str, &str)])] = &[("ECOSYSTEM", &[("introduced", "0"), ("fixed", "1.0.0")])];
    for (folder, ecosystem) in [
        ("Maven", "maven"),
        ("npm", "npm"),
        ("RubyGems", "gem"),
        ("Packagist", "composer"),
        ("Go", "golang"),
        ("crates.io", "cargo"),
        ("PyPI", "pypi"),
    ] {
        let database = database(folder, &record(folder, "a", all, &[]));
        for piece in ["1.", "1-", "a", "\u{1}", "é", "1.0.0-", "0", "(", "v"] {
            let version = piece.repeat(1_000_000);
            let answer = database.match_package(&application(ecosystem, "a", &version));
            let Assessment::NotAssessed { code, reason, .. } = answer else {
                panic!("{ecosystem} {piece}: {answer:?}")
            };
            assert_eq!(code, NotAssessedCode::UnparseableVersion);
            assert!(reason.len() < 1000, "{} bytes", reason.len());
        }
    }
}
