//! The real sample of OSV, ecosystem by ecosystem: well-known packages, and every record of each ecosystem against an
//! evaluation that shares nothing with Plimsoll. Skips, saying so, where the sample is absent; nothing of it is kept.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use plimsoll_vulndb::{Assessment, Database, Finding, NotAssessedCode, PackageQuery, Severity};
use std::collections::BTreeSet;
use std::process::Command;
use support::oracle::{self, Tool};
use support::*;

/// Asks about thousands of (package, version) pairs: boundaries, listed versions, and versions right beside them.
fn check(ecosystem: &'static str, osv_name: &str, suffixes: &[&str], tool: Option<Tool>) {
    let Some((export, path)) = sample_database() else { return };
    if !tool_present(osv_name, tool.is_some()) {
        return;
    }
    let tool = tool.unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/evaluate.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(export)
        .args([osv_name, &serde_json::to_string(suffixes).unwrap()])
        .args(tool.command_line())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let database = Database::open(path).unwrap();
    let (mut asked, mut matched, mut refused) = (0, 0, 0);
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        type Ids = BTreeSet<String>;
        let (name, version, records, others, cves): (String, String, Option<Ids>, Ids, Ids) =
            serde_json::from_str(line).unwrap();
        let query = application(ecosystem, &name, &version);
        let Some(records) = records else {
            let answer = database.match_package(&query);
            let code = NotAssessedCode::UnparseableVersion;
            assert!(
                matches!(answer, Assessment::NotAssessed { code: c, .. } if c == code),
                "{name} {version}: {answer:?}"
            );
            refused += 1;
            continue;
        };
        let found = findings(&database, &query);
        let advisories: Ids = found.iter().flat_map(|f| &f.advisories).cloned().collect();
        assert!(
            advisories.is_superset(&records),
            "{name} {version}: {advisories:?} lacks some of {records:?}"
        );
        let extra: Vec<&String> =
            advisories.difference(&records).filter(|id| !others.contains(*id)).collect();
        assert!(extra.is_empty(), "{name} {version}: {extra:?} are too many");
        let ids: Ids = found.iter().map(|f| f.id.clone()).collect();
        assert_eq!(ids.len(), found.len(), "one finding for each id of {name} {version}");
        assert!(ids.is_superset(&cves), "{name} {version}: {ids:?} lacks some of {cves:?}");
        asked += 1;
        matched += found.len();
    }
    println!(
        "{osv_name}: {asked} questions, {matched} findings agree with {}; {refused} invalid versions",
        tool.name
    );
    assert!(asked > 1000 && matched > 500, "{asked} {matched}");
}

#[test]
fn maven_agrees() {
    check("maven", "Maven", &["-SNAPSHOT", ".1", "-rc1", ".Final", "-jre"], oracle::maven());
}

#[test]
fn npm_agrees() {
    check("npm", "npm", &["-rc.1", "-0", "+build", "beta", "_1"], oracle::node_semver(true));
}

#[test]
fn rubygems_agrees() {
    check("gem", "RubyGems", &[".rc1", ".0", ".1", "-x86-linux", "_"], oracle::rubygems());
}

#[test]
fn packagist_agrees() {
    check("composer", "Packagist", &["-RC1", "-p1", "-dev", "+x", "-foo"], oracle::composer());
}

#[test]
fn go_agrees() {
    check("golang", "Go", &["-rc.1", "-0.20200101000000-abcdefabcdef", "-"], oracle::go_semver());
}

#[test]
fn crates_io_agrees() {
    check("cargo", "crates.io", &["-rc.1", "-0", "+build", ".x"], oracle::node_semver(false));
}

struct Known {
    ecosystem: &'static str,
    name: &'static str,
    version: &'static str,
    present: &'static [&'static str],
    absent: &'static [&'static str],
}

#[test]
fn known_cases() {
    let Some((_, path)) = sample_database() else { return };
    let database = Database::open(path).unwrap();
    let known =
        |ecosystem, name, version, present, absent| Known { ecosystem, name, version, present, absent };
    for Known { ecosystem, name, version, present, absent } in [
        known(
            "maven",
            "org.apache.logging.log4j:log4j-core",
            "2.14.1",
            &["CVE-2021-44228", "CVE-2021-45046"],
            &[],
        ),
        known(
            "maven",
            "org.apache.logging.log4j:log4j-core",
            "2.15.0",
            &["CVE-2021-45046"],
            &["CVE-2021-44228"],
        ),
        known("maven", "org.apache.logging.log4j:log4j-api", "2.14.1", &[], &["CVE-2021-44228"]),
        known("npm", "lodash", "4.17.20", &["CVE-2021-23337"], &[]),
        known("npm", "lodash", "4.17.21", &[], &["CVE-2021-23337"]),
        known("npm", "Lodash", "4.17.20", &[], &["CVE-2021-23337"]),
        known("maven", "org.springframework:spring-beans", "5.3.17", &["CVE-2022-22965"], &[]),
        known("maven", "org.springframework:spring-beans", "5.2.20.RELEASE", &[], &["CVE-2022-22965"]),
        known("maven", "org.apache.commons:commons-text", "1.9", &["CVE-2022-42889"], &[]),
        known("maven", "org.apache.commons:commons-text", "1.10.0", &[], &["CVE-2022-42889"]),
        known("npm", "minimist", "1.2.5", &["CVE-2021-44906"], &[]),
        known("npm", "minimist", "0.2.4", &[], &["CVE-2021-44906"]),
        known("npm", "ws", "7.5.9", &["CVE-2024-37890"], &[]),
        known("npm", "ws", "7.5.10", &[], &["CVE-2024-37890"]),
        known("gem", "rack", "1.4.1", &["CVE-2012-6109", "CVE-2013-0262"], &["CVE-2011-5036"]),
        known("gem", "nokogiri", "1.6.7.rc4", &["CVE-2015-5312"], &["CVE-2013-6460"]),
        known("composer", "symfony/http-kernel", "v5.1.4", &["CVE-2020-15094"], &[]),
        known("composer", "Symfony/Http-Kernel", "5.1.5.0", &[], &["CVE-2020-15094"]),
        known("composer", "guzzlehttp/guzzle", "7.4.x-dev", &[], &["CVE-2022-29248"]),
        known("composer", "guzzlehttp/guzzle", "4.0.0-RC2", &["CVE-2016-5385"], &[]),
        known("golang", "golang.org/x/crypto", "v0.0.0-20200109152110-61a87790db17", &["CVE-2020-9283"], &[]),
        known("golang", "golang.org/x/crypto", "v0.0.0-20200220183623-bac4c82f6975", &[], &["CVE-2020-9283"]),
        known("golang", "golang.org/x/net", "v0.0.0-20180816102801-aaf60122140c", &["CVE-2018-17075"], &[]),
        known("golang", "github.com/gin-gonic/gin", "v1.6.3", &["CVE-2020-28483"], &["CVE-2020-36567"]),
        known("golang", "stdlib", "go1.15.4", &["CVE-2020-28362"], &["CVE-2021-27919"]),
        known("golang", "stdlib", "go1.16rc1", &["CVE-2021-27919"], &["CVE-2020-28362"]),
        known("golang", "stdlib", "1.16.1", &[], &["CVE-2021-27919"]),
        known("cargo", "smallvec", "1.6.0", &["CVE-2021-25900"], &["CVE-2019-15551"]),
        known("cargo", "smallvec", "1.6.1", &[], &["CVE-2021-25900"]),
        known("cargo", "regex", "1.5.4", &["CVE-2022-24713"], &[]),
        known("cargo", "arrow2", "0.10.0", &[], &["RUSTSEC-2022-0012"]),
    ] {
        let found: BTreeSet<String> =
            ids(&database, &application(ecosystem, name, version)).into_iter().collect();
        assert!(present.iter().all(|&id| found.contains(id)), "{name} {version}: {found:?}");
        assert!(!absent.iter().any(|&id| found.contains(id)), "{name} {version}: {found:?}");
    }
}

fn one(database: &Database, ecosystem: &str, name: &str, version: &str, id: &str) -> Finding {
    let found = findings(database, &application(ecosystem, name, version));
    found
        .iter()
        .find(|finding| finding.id == id)
        .unwrap_or_else(|| panic!("{id} of {name}: {found:?}"))
        .clone()
}

#[test]
fn log4shell_in_full() {
    let Some((_, path)) = sample_database() else { return };
    let database = Database::open(path).unwrap();
    let finding = one(&database, "maven", "org.apache.logging.log4j:log4j-core", "2.14.1", "CVE-2021-44228");
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(finding.cvss_score, Some(10.0));
    assert!(finding.known_exploited && !finding.known_exploited_due_date.is_empty());
    assert_eq!(finding.fixed_versions, ["2.15.0"]);
    assert_eq!(finding.aliases, ["GHSA-jfh8-c2jp-5v3q"]);
    assert_eq!(finding.advisories, ["CVE-2021-44228", "GHSA-jfh8-c2jp-5v3q"]);
}

#[test]
fn go_findings_name_the_packages() {
    let Some((_, path)) = sample_database() else { return };
    let database = Database::open(path).unwrap();
    let finding = one(
        &database,
        "golang",
        "golang.org/x/crypto",
        "v0.0.0-20200109152110-61a87790db17",
        "CVE-2020-9283",
    );
    assert_eq!(finding.imports, ["golang.org/x/crypto/ssh"]);
    let finding = one(&database, "golang", "stdlib", "go1.15.4", "CVE-2020-28362");
    assert_eq!(
        (finding.imports, finding.fixed_versions),
        (vec!["math/big".to_owned()], vec!["1.15.5".to_owned()])
    );
}

/// Windows' own path handling, in a program for Linux, for Windows, and for nobody knows what.
#[test]
fn go_advisories_hold_for_their_platforms() {
    let Some((_, path)) = sample_database() else { return };
    let database = Database::open(path).unwrap();
    for (platform, expect) in [
        ("linux/amd64", Some("only for windows; this program was built for linux/amd64")),
        ("windows/arm64", None),
        ("", None),
    ] {
        let query = PackageQuery {
            ecosystem: "golang",
            name: "stdlib",
            version: "1.19.5",
            platform,
            ..PackageQuery::default()
        };
        let Assessment::Assessed { findings, not_applicable, .. } = database.match_package(&query) else {
            panic!("not assessed")
        };
        let reason =
            not_applicable.iter().find(|one| one.id == "GO-2023-1568").map(|one| one.reason.as_str());
        assert_eq!(reason, expect, "{platform}");
        let is_found = findings.iter().any(|found| found.id == "CVE-2022-41722");
        assert_eq!(
            is_found,
            expect.is_none(),
            "{platform}: {:?}",
            findings.iter().map(|f| &f.id).collect::<Vec<_>>()
        );
        // What holds everywhere is found everywhere.
        assert!(findings.iter().any(|found| found.id == "CVE-2023-24538"), "{platform}");
    }
}

/// RustSec also says which crates are unmaintained: known, but no vulnerability.
#[test]
fn notices_have_no_severity() {
    let Some((_, path)) = sample_database() else { return };
    let database = Database::open(path).unwrap();
    let finding = one(&database, "cargo", "cassandra", "0.8.1", "RUSTSEC-2016-0006");
    assert_eq!((finding.severity, finding.cvss_score), (Severity::None, None));
}
