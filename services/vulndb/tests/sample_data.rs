//! The real sample of OSV beside the workspace, Debian and PyPI: known cases, and all of PyPI against an oracle in Python.
//! Skips, saying so, where the sample is absent; nothing of it is kept.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use plimsoll_vulndb::{Database, FeedKind, NotAssessedCode, Severity, status};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::process::Command;
use support::*;

#[test]
fn nothing_is_lost() {
    let Some((export, path)) = sample_database() else { return };
    let status = status(path).unwrap();
    let mut total = 0;
    for feed in status.feeds.iter().filter(|feed| feed.kind == FeedKind::Osv) {
        let zip = zip::ZipArchive::new(File::open(export.join(&feed.name).join("all.zip")).unwrap()).unwrap();
        assert_eq!(feed.records, zip.len() as u64, "{}", feed.name);
        assert_eq!(feed.skipped, 0, "{}", feed.name);
        total += feed.records;
    }
    // The same record can stand in two zips.
    assert!(status.records <= total && status.records + 10 > total, "{} of {total}", status.records);
    let names: BTreeSet<&str> = status.ecosystems.iter().map(|ecosystem| ecosystem.name.as_str()).collect();
    for expect in [
        "Debian:10",
        "Debian:11",
        "Debian:12",
        "PyPI",
        "npm",
        "Maven",
        "Go",
        "crates.io",
        "RubyGems",
        "Packagist",
    ] {
        assert!(names.contains(expect), "{expect} in {names:?}");
    }
}

#[test]
fn known_cases() {
    let Some((_, path)) = sample_database() else { return };
    let database = Database::open(path).unwrap();
    // (package, version, findings that must be there, findings that must not)
    for (name, version, present, absent) in [
        (
            "PyYAML",
            "5.3",
            &["CVE-2020-14343", "CVE-2020-1747"][..],
            &["CVE-2017-18342", "CVE-2019-20477"][..],
        ),
        ("pyyaml", "5.4", &[], &["CVE-2020-14343"]),
        ("Jinja2", "2.10", &["CVE-2019-10906", "CVE-2020-28493"], &["CVE-2014-1402"]),
        ("urllib3", "1.24.1", &["CVE-2019-11236", "CVE-2019-11324", "CVE-2020-26137"], &["CVE-2016-9015"]),
        ("requests", "2.19.0", &["CVE-2018-18074", "CVE-2023-32681"], &["CVE-2015-2296"]),
        ("requests", "2.20.0", &["CVE-2023-32681"], &["CVE-2018-18074"]),
    ] {
        let found: BTreeSet<String> = ids(&database, &pypi(name, version)).into_iter().collect();
        assert!(present.iter().all(|&id| found.contains(id)), "{name} {version}: {found:?}");
        assert!(!absent.iter().any(|&id| found.contains(id)), "{name} {version}: {found:?}");
    }
    for (release, source, version, present, absent) in [
        ("11", "openssl", "1.1.1k-1", &["CVE-2021-3711", "CVE-2022-0778", "CVE-2023-0286"][..], &[][..]),
        ("11", "openssl", "1.1.1n-0+deb11u3", &["CVE-2023-0286"], &["CVE-2022-2068", "CVE-2021-3711"]),
        ("11", "openssl", "1.1.1n-0+deb11u4", &[], &["CVE-2023-0286"]),
        ("12", "openssl", "3.0.0-1", &["CVE-2021-4044", "CVE-2022-0778"], &["CVE-2020-1967"]),
    ] {
        let found: BTreeSet<String> = ids(&database, &debian(release, source, version)).into_iter().collect();
        assert!(present.iter().all(|&id| found.contains(id)), "{source} {version}: {found:?}");
        assert!(!absent.iter().any(|&id| found.contains(id)), "{source} {version}: {found:?}");
    }
}

#[test]
fn one_finding_in_full() {
    let Some((_, path)) = sample_database() else { return };
    let database = Database::open(path).unwrap();
    let found = findings(&database, &pypi("PyYAML", "5.3"));
    let finding = found.iter().find(|finding| finding.id == "CVE-2020-14343").unwrap();
    assert_eq!(finding.aliases, ["GHSA-8q59-q68h-6hv4", "PYSEC-2021-142"]);
    assert_eq!(finding.advisories, ["PYSEC-2021-142"]);
    assert_eq!(finding.fixed_versions, ["5.4"]);
    assert_eq!(finding.match_reason, "PyYAML 5.3 < fixed 5.4 (PYSEC-2021-142)");

    let found = findings(&database, &debian("11", "openssl", "1.1.1k-1"));
    let finding = found.iter().find(|finding| finding.id == "CVE-2022-0778").unwrap();
    assert_eq!(finding.match_reason, "source package openssl 1.1.1k-1 < fixed 1.1.1k-1+deb11u2 (DSA-5103-1)");
    assert!(finding.aliases.is_empty());

    // Only the advisory's two CVEs, each alone.
    let both: Vec<&str> =
        found.iter().filter(|f| f.advisories == ["DSA-5103-1"]).map(|f| f.id.as_str()).collect();
    assert_eq!(both, ["CVE-2021-4160", "CVE-2022-0778"]);
}

#[test]
fn known_exploited_ones_are_flagged() {
    let Some((_, path)) = sample_database() else { return };
    let database = Database::open(path).unwrap();
    let found = findings(&database, &pypi("salt", "3000.1"));
    let flagged: Vec<&str> = found.iter().filter(|f| f.known_exploited).map(|f| f.id.as_str()).collect();
    assert_eq!(flagged, ["CVE-2020-11651", "CVE-2020-11652", "CVE-2020-16846"]);
    assert!(found.iter().all(|f| f.known_exploited != f.known_exploited_due_date.is_empty()));
}

#[test]
fn what_no_feed_covers_is_not_assessed() {
    let Some((_, path)) = sample_database() else { return };
    let database = Database::open(path).unwrap();
    for (query, expect) in [
        (debian("99", "openssl", "1"), NotAssessedCode::NoFeed),
        (
            plimsoll_vulndb::PackageQuery { distro_id: "ubuntu", ..debian("22.04", "openssl", "1") },
            NotAssessedCode::NoFeed,
        ),
        (
            plimsoll_vulndb::PackageQuery { ecosystem: "npm", ..pypi("lodash", "latest") },
            NotAssessedCode::UnparseableVersion,
        ),
        (plimsoll_vulndb::PackageQuery { ecosystem: "nuget", ..pypi("x", "1") }, NotAssessedCode::NoFeed),
    ] {
        let assessment = database.match_package(&query);
        let plimsoll_vulndb::Assessment::NotAssessed { code, .. } = assessment else {
            panic!("{query:?}: {assessment:?}")
        };
        assert_eq!(code, expect, "{query:?}");
    }
}

/// A Debian advisory has no severity of its own; another ecosystem's record of the same CVE lends its own.
#[test]
fn severities_come_from_other_records_of_the_cve() {
    let Some((_, path)) = sample_database() else { return };
    let database = Database::open(path).unwrap();
    for (release, source, cve, expect) in [
        ("8", "libspring-java", "CVE-2014-3578", Severity::Medium),
        ("6", "ruby1.9.1", "CVE-2013-0269", Severity::High),
        ("11", "openssl", "CVE-2022-0778", Severity::Unknown),
    ] {
        let found = findings(&database, &debian(release, source, "0.1"));
        let finding = found.iter().find(|finding| finding.id == cve).unwrap();
        assert_eq!(finding.severity, expect, "{finding:?}");
    }
}

/// Every PyPI record of the sample, evaluated in Python by `packaging` from the zip itself.
const ORACLE: &str = r#"
import json, re, sys, zipfile
try:
    from packaging.version import Version, InvalidVersion
except ImportError:
    from pip._vendor.packaging.version import Version, InvalidVersion
cache = {}
def parse(text):
    if text not in cache:
        try: cache[text] = Version(text)
        except InvalidVersion: cache[text] = None
    return cache[text]
packages = {}
archive = zipfile.ZipFile(sys.argv[1])
for name in archive.namelist():
    record = json.loads(archive.read(name))
    if "withdrawn" in record: continue
    for affected in record.get("affected", []):
        key = re.sub(r"[-_.]+", "-", affected["package"]["name"]).lower()
        packages.setdefault(key, []).append((record, affected))
def in_range(version, events):
    ordered = []
    for event in events:
        for kind, text in event.items():
            boundary = Version("0.dev0") if (kind, text) == ("introduced", "0") else parse(text)
            if boundary is None: return False
            ordered.append((boundary, kind))
    ordered.sort(key=lambda item: item[0])
    affected = False
    for boundary, kind in ordered:
        if kind == "introduced" and version >= boundary: affected = True
        if kind == "fixed" and version >= boundary: affected = False
        if kind == "last_affected" and version > boundary: affected = False
    return affected
for package, entries in sorted(packages.items()):
    texts = {"0.0.1", "9999"}
    for record, affected in entries:
        listed = affected.get("versions") or []
        texts.update(listed[:2] + listed[-3:])
        for a_range in affected.get("ranges", []):
            if a_range["type"] == "ECOSYSTEM":
                texts.update(text for event in a_range["events"] for text in event.values())
    for text in sorted(texts):
        version = parse(text)
        if version is None: continue
        records, cves = set(), set()
        for record, affected in entries:
            hit = any(parse(listed) == version for listed in affected.get("versions") or [])
            hit = hit or any(r["type"] == "ECOSYSTEM" and in_range(version, r["events"]) for r in affected.get("ranges", []))
            if hit:
                records.add(record["id"])
                cves.update(a for a in record.get("aliases", []) if a.startswith("CVE-"))
        print(json.dumps([package, text, sorted(records), sorted(cves)]))
"#;

#[test]
fn pypi_agrees_with_packaging() {
    let Some((export, path)) = sample_database() else { return };
    let oracle = Command::new("python3").args(["-c", ORACLE]).arg(export.join("PyPI/all.zip")).output();
    let present = oracle.as_ref().is_ok_and(|output| output.status.success());
    if !tool_present("Python's packaging", present) {
        return;
    }
    let database = Database::open(path).unwrap();
    let (mut asked, mut matched) = (0, 0);
    for line in String::from_utf8(oracle.unwrap().stdout).unwrap().lines() {
        type Row = (String, String, BTreeSet<String>, BTreeSet<String>);
        let (name, version, records, cves): Row = serde_json::from_str(line).unwrap();
        let found = findings(&database, &pypi(&name, &version));
        let mut by_id = BTreeMap::new();
        for finding in &found {
            assert!(
                by_id.insert(&finding.id, finding).is_none(),
                "{} twice for {name} {version}",
                finding.id
            );
            assert!(finding.aliases.iter().all(|alias| !alias.starts_with("CVE-")), "{finding:?}");
        }
        let advisories: BTreeSet<String> =
            found.iter().flat_map(|f| &f.advisories).filter(|id| id.starts_with("PYSEC-")).cloned().collect();
        assert_eq!(advisories, records, "{name} {version}");
        let ours: BTreeSet<String> =
            found.iter().map(|f| &f.id).filter(|id| id.starts_with("CVE-")).cloned().collect();
        assert!(ours.is_superset(&cves), "{name} {version}: {ours:?} lacks some of {cves:?}");
        asked += 1;
        matched += found.len();
    }
    println!("{asked} questions, {matched} findings agree with Python's packaging");
    assert!(asked > 1000 && matched > 1000);
}
