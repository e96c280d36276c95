//! The version orders against the ecosystems' own tools, over thousands of pairs: generated edge cases, and real
//! versions of the OSV sample where it is present.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use plimsoll_vulndb::version::{Scheme, dpkg};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::process::Command;
use support::oracle::{self, Tool};
use support::{sample_export, tool_present, versions_of_sample};

/// Generated pairs compared in one process of the tool's library.
const PAIRS: usize = 20_000;
/// Pairs of real versions.
const REAL_PAIRS: usize = 10_000;
/// Pairs compared by a process of dpkg each (about 2 ms).
const DPKG_PROCESSES: usize = 400;

/// A small generator with a fixed seed (xorshift64*): the pairs are the same in every run.
struct Generator(u64);

impl Generator {
    fn new() -> Self {
        Generator(0x9e37_79b9_7f4a_7c15)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn pick<'a>(&mut self, parts: &[&'a str]) -> &'a str {
        parts[self.below(parts.len())]
    }

    fn join(&mut self, shape: &[&[&str]]) -> String {
        shape.iter().map(|parts| self.pick(parts)).collect()
    }
}

const NUMBERS: &[&str] = &["0", "1", "2", "10", "010", "3", "99999999999999999999"];
const SMALL: &[&str] = &["0", "1", "2", "10", "3", "11"];

fn debian_version(random: &mut Generator) -> String {
    random.join(&[
        &["", "", "", "0:", "1:", "2:"],
        NUMBERS,
        &["", ".0", ".1", ".10", "~rc1", "~", "a", "+", ".", "-1"],
        &["", "", "+dfsg", "~beta2", ".2", "+git2020", "-0"],
        &["", "", "-1", "-0", "-1.1", "-1~bpo11+1", "-1+deb12u1", "-1~deb12u1", "-2build1", "-~"],
    ])
}

fn python_version(random: &mut Generator) -> String {
    random.join(&[
        &["", "", "", "v", "1!", "0!"],
        NUMBERS,
        &["", "", ".0", ".1", ".0.0", ".2.0", ".10"],
        &["", "", "", "a1", "-alpha.2", "b", ".beta2", "rc1", "c2", "-pre", "preview1", ".", "x"],
        &["", "", "", ".post1", "-1", "-r2", "rev", ".post", "_post_3"],
        &["", "", "", ".dev1", "dev", "-dev02", ".DEV3"],
        &["", "", "", "+abc", "+1", "+abc.1", "+1.abc", "+ABC-01", "+", "+abc.2"],
    ])
}

fn maven_version(random: &mut Generator) -> String {
    const WORDS: &[&str] = &[
        "",
        "",
        "a",
        "alpha",
        "b",
        "Beta",
        "m",
        "milestone",
        "rc",
        "CR",
        "SNAPSHOT",
        "ga",
        "Final",
        "RELEASE",
        "sp",
        "jre",
        "x",
        "_1",
        "android",
        "+b1",
        "GA_CP01",
        "v",
    ];
    const JOINTS: &[&str] = &["", ".", "-", "-", "."];
    const TAILS: &[&str] = &["", "", "", "1", "2", "0", "10", "007", "99999999999999999999"];
    random.join(&[
        SMALL,
        &["", ".0", ".1", ".10", ".0.0", "-1", "-0", ".-1", "--1"],
        JOINTS,
        WORDS,
        JOINTS,
        TAILS,
        &["", "", "", "-SNAPSHOT", ".sp", "-jre8", ".Final", "-0", ".0", "-x-1", "rc1"],
    ])
}

fn npm_version(random: &mut Generator) -> String {
    random.join(&[
        &["", "", "", "", "v", "=", " v", "=v"],
        &["0", "1", "2", "10", "01", "9007199254740991", "9007199254740992"],
        &[".0", ".1", ".10", ".02", ".x"],
        &[".0", ".1", ".0", ".3", ".10", ".9", ""],
        &["", "", "", "-", "-alpha", "beta", "-rc", "-0", "-1", "-01", "rc1", "-a-b", "--", "-A"],
        &["", "", "", ".1", ".2", ".10", ".x", ".0a", ".", ".03"],
        &["", "", "", "+build", "+1.2", "+", "+a_b"],
    ])
}

fn semantic_version(random: &mut Generator) -> String {
    random.join(&[
        &["0", "1", "2", "10", "01", "v1"],
        &[".0", ".1", ".10", ".02", ""],
        &[".0", ".1", ".0", ".3", ".10", ""],
        &["", "", "", "-alpha", "-rc", "-0", "-1", "-01", "-a-b", "--", "-A", "-"],
        &["", "", "", ".1", ".2", ".10", ".x", ".0a", ".", ".03"],
        &["", "", "", "+build", "+1.2", "+", "+001"],
    ])
}

fn ruby_version(random: &mut Generator) -> String {
    random.join(&[
        &["", "", "", "", " ", "v"],
        NUMBERS,
        &["", ".0", ".1", ".10", ".0.0", ".2.0", ".a", ".b1"],
        &["", "", ".pre", ".rc1", ".0.beta.2", ".1a2", ".Alpha", "..1", ".", "a"],
        &["", "", "", ".0", ".0.0", ".3", "-rc1", "-x86-linux", "-", "-1.0", "-a.b"],
    ])
}

fn composer_version(random: &mut Generator) -> String {
    random.join(&[
        &["", "", "", "v", "V", "dev-"],
        &["0", "1", "2", "10", "010", "99999", "123456", "2010", "20100102", "201001021530"],
        &["", ".0", ".1", ".10", ".x", ".*", "-01", ".01", ":02"],
        &["", "", ".0", ".2", ".x", "-03", ".123", ".1.1"],
        &[
            "", "", "", "-", ".", "_", "-alpha", "beta", "RC", "-rc", "b", "a", "-p", "pl", "-patch",
            "-stable", "-foo",
        ],
        &["", "", "1", ".2", "-3", "10", "1.2", "-"],
        &["", "", "", "-dev", ".dev", "dev", "-DEV", "+build", "+"],
    ])
}

fn go_version(random: &mut Generator) -> String {
    const PRE: &[&str] = &[
        "",
        "",
        "",
        "-rc1",
        "-rc.1",
        "-alpha.2",
        "-20190620200207-3b0461eec859",
        "-0.20200101000000-abcdefabcdef",
        "-pre.0.20210101000000-aaaaaaaaaaaa",
        "-01",
        "-",
        "-0",
        "-a..b",
        "-v2.20.0.20251208091519-4c879b4ef000",
    ];
    random.join(&[
        &["0", "1", "2", "10", "01", "99999999999999999999", "x"],
        &[".0", ".1", ".10", ".02", ""],
        &[".0", ".1", ".0", ".3", ".10", "", ".1.1"],
        PRE,
        &["", "", "", "+incompatible", "+dirty", "+", "+a.1"],
    ])
}

/// From Go 1.21 on the first release is called `go1.21.0`; `go1.21` is only the language.
fn go_release(random: &mut Generator) -> String {
    random.join(&[
        &["", "go"],
        &["1.", "1.", "1.", "2.", "01.", "x."],
        &[
            "19", "9", "20.3", "20", "21.0", "22.1", "22.10", "19rc1", "19rc2", "19beta1", "22rc1", "22rc10",
            "1.1", "20.03", "22beta1", "5.1",
        ],
    ])
}

fn pairs(version: fn(&mut Generator) -> String) -> Vec<(String, String)> {
    let mut random = Generator::new();
    (0..PAIRS).map(|_| (version(&mut random), version(&mut random))).collect()
}

/// Pairs of the versions that records of the sample name.
fn real_pairs(ecosystem: &str) -> Vec<(String, String)> {
    let Some(export) = sample_export() else { return Vec::new() };
    let versions: BTreeSet<String> = versions_of_sample(&export, ecosystem);
    let versions: Vec<&String> = versions.iter().filter(|version| !version.contains('\t')).collect();
    let mut random = Generator::new();
    let mut one = || versions[random.below(versions.len())].clone();
    (0..REAL_PAIRS).map(|_| (one(), one())).collect()
}

fn word(order: Option<Ordering>) -> &'static str {
    match order {
        None => "invalid",
        Some(Ordering::Less) => "-1",
        Some(Ordering::Equal) => "0",
        Some(Ordering::Greater) => "1",
    }
}

fn ours(scheme: Scheme, a: &str, b: &str) -> Option<Ordering> {
    scheme.parse(a)?.compare(&scheme.parse(b)?)
}

/// `stricter` says which versions Plimsoll refuses on purpose though the tool takes them.
fn check(
    name: &str,
    tool: Option<Tool>,
    scheme: Scheme,
    pairs: &[(String, String)],
    stricter: impl Fn(&str) -> bool,
) {
    if !tool_present(name, tool.is_some()) || pairs.is_empty() {
        return;
    }
    let tool = tool.unwrap();
    let (mut invalid, mut refused) = (0, 0);
    let answers = tool.ask(pairs).unwrap_or_else(|| panic!("{name} failed"));
    for ((a, b), theirs) in pairs.iter().zip(&answers) {
        let found = word(ours(scheme, a, b));
        if found == "invalid" && theirs != "invalid" && (stricter(a) || stricter(b)) {
            refused += 1;
            continue;
        }
        assert_eq!(found, theirs, "{}: {a:?} against {b:?}", tool.name);
        invalid += usize::from(theirs == "invalid");
    }
    println!(
        "{}: {} pairs agree, {invalid} of them with an invalid version; {refused} refused here only",
        tool.name,
        pairs.len() - refused
    );
    assert!(invalid + refused < pairs.len() * 2 / 3, "{invalid} + {refused} of {} are invalid", pairs.len());
}

fn never(_: &str) -> bool {
    false
}

#[test]
fn dpkg_library_agrees() {
    check("perl's Dpkg::Version", oracle::dpkg_perl(), Scheme::Dpkg, &pairs(debian_version), never);
}

#[test]
fn dpkg_itself_agrees() {
    let present = Command::new("dpkg").arg("--version").output().is_ok_and(|output| output.status.success());
    if !tool_present("dpkg", present) {
        return;
    }
    for (a, b) in pairs(debian_version).iter().take(DPKG_PROCESSES) {
        let (Some(x), Some(y)) = (dpkg::Version::parse(a), dpkg::Version::parse(b)) else { continue };
        let relation = match x.cmp(&y) {
            Ordering::Less => "lt",
            Ordering::Equal => "eq",
            Ordering::Greater => "gt",
        };
        let status = Command::new("dpkg").args(["--compare-versions", a, relation, b]).status().unwrap();
        assert!(status.success(), "dpkg does not find {a} {relation} {b}");
    }
}

#[test]
fn packaging_agrees() {
    check("Python's packaging", oracle::packaging(), Scheme::Pep440, &pairs(python_version), never);
}

#[test]
fn maven_agrees() {
    let generated = pairs(maven_version);
    check("Maven", oracle::maven(), Scheme::Maven, &[generated, real_pairs("Maven")].concat(), never);
}

#[test]
fn npm_agrees() {
    // A number cut in two to make a version fit ("1.2.34.5" → 1.2.3-4.5): a guess that Plimsoll does not share.
    let cut = |version: &str| {
        version.trim_start_matches(['v', '=', ' ']).split(['-', '+']).next().unwrap_or("").split('.').count()
            > 3
    };
    let generated = pairs(npm_version);
    check("npm", oracle::node_semver(true), Scheme::Npm, &[generated, real_pairs("npm")].concat(), cut);
}

#[test]
fn rubygems_agrees() {
    check(
        "RubyGems",
        oracle::rubygems(),
        Scheme::RubyGems,
        &[pairs(ruby_version), real_pairs("RubyGems")].concat(),
        never,
    );
}

#[test]
fn composer_agrees() {
    let generated = pairs(composer_version);
    check(
        "Composer",
        oracle::composer(),
        Scheme::Composer,
        &[generated, real_pairs("Packagist")].concat(),
        never,
    );
}

#[test]
fn go_agrees() {
    let placeholder = |version: &str| version.ends_with("-000000000000");
    let generated = pairs(go_version);
    check("Go", oracle::go_semver(), Scheme::Go, &[generated, real_pairs("Go")].concat(), placeholder);
    check("Go's releases", oracle::go_release(), Scheme::Go, &pairs(go_release), never);
}

/// cargo's own library is the implementation; node-semver by the specification's grammar is the judge.
#[test]
fn cargo_agrees() {
    let with_v = |versions: Vec<(String, String)>| -> Vec<(String, String)> {
        versions.into_iter().filter(|(a, b)| !a.starts_with('v') && !b.starts_with('v')).collect()
    };
    let generated = with_v(pairs(semantic_version));
    check(
        "npm",
        oracle::node_semver(false),
        Scheme::Cargo,
        &[generated, real_pairs("crates.io")].concat(),
        never,
    );
}
