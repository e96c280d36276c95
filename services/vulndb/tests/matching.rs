//! What matches, on small exports made for one question each.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use plimsoll_vulndb::{Assessment, Finding, NotAssessedCode, PackageQuery, Severity, status};
use std::io::Write as _;
use support::*;

fn pypi_record(rest: &str) -> String {
    format!(
        r#"{{"id":"PYSEC-1","affected":[{{"package":{{"ecosystem":"PyPI","name":"Some.Package"}},{rest}}}]}}"#
    )
}

fn range(kind: &str, events: &str) -> String {
    pypi_record(&format!(r#""ranges":[{{"type":"{kind}","events":[{events}]}}]"#))
}

/// Versions that must and that must not match one record.
fn check(record: &str, affected: &[&str], unaffected: &[&str]) {
    let export = Export::new();
    export.records("PyPI", &[record]);
    let database = export.database();
    for (versions, expect) in [(affected, 1), (unaffected, 0)] {
        for version in versions {
            let found = ids(&database, &pypi("some_package", version));
            assert_eq!(found.len(), expect, "{version} in {record}");
        }
    }
}

#[test]
fn ranges_follow_the_schemas_evaluation() {
    let ecosystem = |events| range("ECOSYSTEM", events);
    check(
        &ecosystem(r#"{"introduced":"0"},{"fixed":"2.0"}"#),
        &["0.1", "2.0rc1", "1.9+local"],
        &["2.0", "2.0.post1"],
    );
    check(
        &ecosystem(r#"{"introduced":"1.0"},{"last_affected":"2.0"}"#),
        &["1", "2.0.0", "2.0+cu118"],
        &["0.9", "2.0.post1"],
    );
    check(&ecosystem(r#"{"introduced":"0"}"#), &["0.0.1", "99"], &[]);
    // Several intervals, out of order in the record; adjoining ones leave no gap.
    check(
        &ecosystem(r#"{"fixed":"2.0"},{"introduced":"1.0"},{"introduced":"0"},{"fixed":"0.5"}"#),
        &["0.4", "1.0", "1.9"],
        &["0.5", "0.9", "2.0"],
    );
    check(
        &ecosystem(r#"{"introduced":"0"},{"fixed":"1"},{"introduced":"1"},{"fixed":"2"}"#),
        &["0.9", "1", "1.5"],
        &["2"],
    );
    check(&ecosystem(r#"{"introduced":"1"},{"fixed":"1"}"#), &[], &["0.9", "1", "2"]);
    check(&ecosystem(r#"{"introduced":"0"},{"limit":"2.0"}"#), &["1.9"], &["2.0", "3"]);
    check(&ecosystem(r#"{"introduced":"0"},{"limit":"*"}"#), &["3"], &[]);
    // Git commits say nothing about versions, and a boundary without an order matches nothing.
    check(&range("GIT", r#"{"introduced":"0"}"#), &[], &["1.0"]);
    check(&ecosystem(r#"{"introduced":"0"},{"fixed":"2019-09-12"}"#), &[], &["1.0"]);
    check(
        &pypi_record(r#""versions":["1.0.0","1.1a1"]"#),
        &["1", "1.0", "1.1-alpha.1", "1.0+local"],
        &["1.1", "1.0.1"],
    );
}

/// Of a version that its record only lists, the next fix is the lowest above it; an `introduced` is none.
#[test]
fn the_fix_of_what_is_only_listed_is_the_next_above_it() {
    let events = r#"{"introduced":"2"},{"fixed":"3"},{"introduced":"4"},{"fixed":"5"}"#;
    let record = |kind: &str| {
        let ranges =
            format!(r#""versions":["1","3.5","6"],"ranges":[{{"type":"{kind}","events":[{events}]}}]"#);
        let export = Export::new();
        export.records("PyPI", &[&pypi_record(&ranges)]);
        export.database()
    };
    let database = record("ECOSYSTEM");
    for (version, fixed) in
        [("1", &["3"][..]), ("2.5", &["3"]), ("3.5", &["5"]), ("4.5", &["5"]), ("6", &[]), ("7", &[])]
    {
        let found = findings(&database, &pypi("some-package", version));
        let fixes: Vec<&String> = found.iter().flat_map(|finding| &finding.fixed_versions).collect();
        assert_eq!(fixes, fixed, "{version}: {found:?}");
        assert_eq!(found.is_empty(), version == "7", "{version}");
    }
}

/// A name that only another ecosystem has matches nothing, not what stands beside it.
#[test]
fn names_belong_to_their_ecosystem() {
    let record = |id: &str, ecosystem: &str, name: &str| {
        format!(
            r#"{{"id":"{id}","affected":[{{"package":{{"ecosystem":"{ecosystem}","name":"{name}"}},"ranges":[{{"type":"ECOSYSTEM","events":[{{"introduced":"0"}}]}}]}}]}}"#
        )
    };
    let export = Export::new();
    export.records("PyPI", &[&record("PYSEC-A", "PyPI", "aa"), &record("PYSEC-Z", "PyPI", "zz")]);
    export.records("npm", &[&record("GHSA-M", "npm", "mm")]);
    let database = export.database();
    for (ecosystem, name, expect) in [
        ("pypi", "aa", &["PYSEC-A"][..]),
        ("pypi", "zz", &["PYSEC-Z"]),
        ("npm", "mm", &["GHSA-M"]),
        ("pypi", "mm", &[]),
        ("npm", "aa", &[]),
        ("npm", "zz", &[]),
    ] {
        assert_eq!(ids(&database, &application(ecosystem, name, "1.0.0")), expect, "{ecosystem} {name}");
    }
}

#[test]
fn withdrawn_records_never_match() {
    let record = r#"{"id":"PYSEC-1","withdrawn":"2024-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"PyPI","name":"a"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}"#;
    let export = Export::new();
    export.records("PyPI", &[record]);
    assert!(ids(&export.database(), &pypi("a", "1")).is_empty());
    assert_eq!(status(&export.output()).unwrap().withdrawn, 1);
}

/// A finding as the issue's consumers see it, from three records about one CVE and a Debian advisory of two.
#[test]
fn findings_carry_everything_known() {
    let export = Export::new();
    export.file(
        "kev.json",
        br#"{"dateReleased":"2025-08-25T00:00:00Z","vulnerabilities":[{"cveID":"CVE-2024-1","dueDate":"2025-09-15"}]}"#,
    );
    let mut epss = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    epss.write_all(b"#score_date:2025-08-25\ncve,epss,percentile\nCVE-2024-1,0.25,0.9\n").unwrap();
    export.file("epss_scores-current.csv.gz", &epss.finish().unwrap());
    let affected = |fixed: &str| {
        format!(
            r#""affected":[{{"package":{{"ecosystem":"PyPI","name":"a"}},"ranges":[{{"type":"ECOSYSTEM","events":[{{"introduced":"1"}},{{"fixed":"{fixed}"}}]}}]}}]"#
        )
    };
    export.records(
        "PyPI",
        &[
            &format!(r#"{{"id":"PYSEC-1","aliases":["CVE-2024-1","GHSA-x"],"details":"Bad thing. More.","published":"2024-01-02T00:00:00Z","modified":"2024-02-01T00:00:00Z",{}}}"#, affected("1.10")),
            &format!(r#"{{"id":"GHSA-x","aliases":["CVE-2024-1"],"severity":[{{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}},{{"type":"CVSS_V4","score":"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}}],"modified":"2024-03-01T00:00:00Z",{}}}"#, affected("1.9")),
            &format!(r#"{{"id":"PYSEC-2","aliases":["GHSA-x"],{}}}"#, affected("1.9.0")),
        ],
    );
    export.records(
        "Debian",
        &[r#"{"id":"DSA-1-1","upstream":["CVE-2024-1","CVE-2024-2"],"affected":[{"package":{"ecosystem":"Debian:12","name":"python-a"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1.9-1~deb12u1"}]}],"ecosystem_specific":{"urgency":"unimportant"}}]}"#],
    );
    let database = export.database();
    let found = findings(&database, &pypi("a", "1.2"));
    let strings = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
    let expect = Finding {
        id: "CVE-2024-1".into(),
        aliases: strings(&["GHSA-x", "PYSEC-1", "PYSEC-2"]),
        advisories: strings(&["GHSA-x", "PYSEC-1", "PYSEC-2"]),
        severity: Severity::Critical,
        cvss_vector: "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N".into(),
        cvss_score: Some(9.3),
        known_exploited: true,
        known_exploited_due_date: "2025-09-15".into(),
        epss: Some(0.25),
        fixed_versions: strings(&["1.9", "1.10"]),
        source: "https://github.com/advisories/GHSA-x".into(),
        match_reason: "a 1.2 < fixed 1.9, affected since 1 (GHSA-x, PYSEC-1, PYSEC-2)".into(),
        summary: "Bad thing.".into(),
        published_ms: 1_704_153_600_000,
        modified_ms: 1_709_251_200_000,
        imports: Vec::new(),
        urgency: String::new(),
    };
    assert_eq!(found, [expect]);

    let found = findings(&database, &debian("12", "python-a", "1.8-1"));
    let brief: Vec<_> =
        found.iter().map(|f| (f.id.as_str(), f.severity, f.cvss_score, f.known_exploited)).collect();
    // The severity of CVE-2024-1 comes from the PyPI record, and "unimportant" bounds it.
    assert_eq!(
        brief,
        [("CVE-2024-1", Severity::Low, Some(9.3), true), ("CVE-2024-2", Severity::Low, None, false)]
    );
    assert_eq!(found[1].match_reason, "source package python-a 1.8-1 < fixed 1.9-1~deb12u1 (DSA-1-1)");
    assert_eq!((&found[1].aliases, &found[1].advisories), (&vec![], &strings(&["DSA-1-1"])));
    assert!(ids(&database, &debian("12", "python-a", "1.9-1~deb12u1")).is_empty());
}

#[test]
fn severity_without_a_vector() {
    let record = |id: &str, rest: &str| {
        format!(
            r#"{{"id":"{id}",{rest}"affected":[{{"package":{{"ecosystem":"PyPI","name":"{id}"}},"versions":["1"]}}]}}"#
        )
    };
    let export = Export::new();
    export.records(
        "PyPI",
        &[
            &record("word", r#""database_specific":{"severity":"MODERATE"},"#),
            &record("nothing", ""),
            &record("broken", r#""severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N"}],"database_specific":{"severity":"HIGH"},"#),
            &record("v2", r#""severity":[{"type":"CVSS_V2","score":"AV:N/AC:L/Au:N/C:P/I:P/A:P"}],"#),
        ],
    );
    let database = export.database();
    for (name, severity, score) in [
        ("word", Severity::Medium, None),
        ("nothing", Severity::Unknown, None),
        ("broken", Severity::High, None),
        ("v2", Severity::High, Some(7.5)),
    ] {
        let found = findings(&database, &pypi(name, "1"));
        assert_eq!((found[0].severity, found[0].cvss_score), (severity, score), "{name}");
    }
}

#[test]
fn says_why_a_package_is_not_assessed() {
    let export = Export::new();
    export.records("PyPI", &[&pypi_record(r#""versions":["1"]"#)]);
    export.records("Hex", &[r#"{"id":"GHSA-2","affected":[{"package":{"ecosystem":"Hex","name":"a"}}]}"#]);
    export.records(
        "npm",
        &[r#"{"id":"GHSA-1","affected":[{"package":{"ecosystem":"npm","name":"a"}},{"package":{"ecosystem":"NuGet","name":"b"}}]}"#],
    );
    export.records(
        "Debian",
        &[r#"{"id":"DSA-1-1","affected":[{"package":{"ecosystem":"Debian:12","name":"a"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}"#],
    );
    let database = export.database();
    use NotAssessedCode::*;
    let os = |id, release| PackageQuery { distro_id: id, ..debian(release, "a", "1") };
    for (query, expect) in [
        (pypi("a", "1"), None),
        (pypi("a", "not a version"), Some(UnparseableVersion)),
        (pypi("a", ""), Some(UnparseableVersion)),
        (PackageQuery { ecosystem: "Hex", ..pypi("a", "1") }, Some(NoMatcher)),
        (PackageQuery { ecosystem: "npm", ..pypi("a", "1") }, Some(UnparseableVersion)),
        (PackageQuery { ecosystem: "npm", ..pypi("a", "1.0.0") }, None),
        // A record in npm's folder also names NuGet: that is no NuGet feed.
        (PackageQuery { ecosystem: "nuget", ..pypi("b", "1") }, Some(NoFeed)),
        (PackageQuery { ecosystem: "golang", ..pypi("a", "1") }, Some(NoFeed)),
        (os("debian", "12"), None),
        (os("debian", "12.5"), None),
        (os("debian", "13"), Some(NoFeed)),
        (os("debian", ""), Some(UnknownRelease)),
        (os("ubuntu", "12"), Some(NoFeed)),
        (os("", ""), Some(UnknownRelease)),
        (PackageQuery { source_version: "1:x", ..debian("12", "a", "") }, Some(UnparseableVersion)),
        // Without a source package the binary package's own name and version count.
        (PackageQuery { name: "a", version: "2", ..debian("12", "", "") }, None),
    ] {
        match database.match_package(&query) {
            Assessment::Assessed { feeds, .. } => {
                assert_eq!(expect, None, "{query:?}");
                assert!(!feeds.is_empty());
            }
            Assessment::NotAssessed { code, reason, remedy } => {
                assert_eq!(Some(code), expect, "{query:?}");
                assert!(!reason.is_empty() && !remedy.is_empty());
            }
        }
    }
}

#[test]
fn the_answer_as_json() {
    let export = Export::new();
    export.records("PyPI", &[&pypi_record(r#""versions":["1"]"#)]);
    let json = serde_json::to_value(export.database().match_package(&pypi("some-package", "1"))).unwrap();
    assert_eq!(json["assessment"], "assessed");
    assert_eq!(json["feeds"], serde_json::json!(["PyPI", "CISA KEV"]));
    assert_eq!(json["findings"][0]["severity"], "unknown");
}
