//! The version orders against the ecosystems' own tools, over thousands of pairs.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use plimsoll_vulndb::version::{dpkg, pep440};
use std::cmp::Ordering;
use std::io::Write as _;
use std::process::{Command, Stdio};
use support::tool_present;

/// Pairs compared in one process of the tool's library.
const PAIRS: usize = 20_000;
/// Pairs compared by a process of dpkg each (about 2 ms).
const DPKG_PROCESSES: usize = 400;

/// A small generator with a fixed seed (xorshift64*): the pairs are the same in every run.
struct Generator(u64);

impl Generator {
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

fn pairs(version: fn(&mut Generator) -> String) -> Vec<(String, String)> {
    let mut random = Generator(0x9e37_79b9_7f4a_7c15);
    (0..PAIRS).map(|_| (version(&mut random), version(&mut random))).collect()
}

/// Runs a script that reads `A<TAB>B` lines and prints `-1`, `0`, `1` or `invalid` for each.
fn ask(program: &str, script: &str, pairs: &[(String, String)]) -> Option<Vec<String>> {
    let mut child = Command::new(program)
        .args([if program == "perl" { "-e" } else { "-c" }, script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let input: String = pairs.iter().map(|(a, b)| format!("{a}\t{b}\n")).collect();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (output.status.success() && lines.len() == pairs.len()).then_some(lines)
}

fn word(order: Option<Ordering>) -> &'static str {
    match order {
        None => "invalid",
        Some(Ordering::Less) => "-1",
        Some(Ordering::Equal) => "0",
        Some(Ordering::Greater) => "1",
    }
}

fn ours_dpkg(a: &str, b: &str) -> Option<Ordering> {
    Some(dpkg::Version::parse(a)?.cmp(&dpkg::Version::parse(b)?))
}

fn ours_pep440(a: &str, b: &str) -> Option<Ordering> {
    Some(pep440::Version::parse(a)?.cmp(&pep440::Version::parse(b)?))
}

fn check(
    name: &str,
    pairs: &[(String, String)],
    theirs: Option<Vec<String>>,
    ours: fn(&str, &str) -> Option<Ordering>,
) {
    if !tool_present(name, theirs.is_some()) {
        return;
    }
    let mut invalid = 0;
    for ((a, b), theirs) in pairs.iter().zip(theirs.unwrap()) {
        assert_eq!(word(ours(a, b)), theirs, "{name}: {a} against {b}");
        invalid += usize::from(theirs == "invalid");
    }
    println!("{name}: {} pairs agree, {invalid} of them with an invalid version", pairs.len());
    assert!(invalid < pairs.len() / 2);
}

#[test]
fn dpkg_library_agrees() {
    let script = r#"use Dpkg::Version; while (<STDIN>) { chomp; my ($a, $b) = map { Dpkg::Version->new($_, check => 0) } split /\t/;
        print((($a->is_valid && $b->is_valid) ? ($a <=> $b) : "invalid"), "\n"); }"#;
    let pairs = pairs(debian_version);
    check("perl's Dpkg::Version (libdpkg-perl)", &pairs, ask("perl", script, &pairs), ours_dpkg);
}

#[test]
fn dpkg_itself_agrees() {
    let present = Command::new("dpkg").arg("--version").output().is_ok_and(|output| output.status.success());
    if !tool_present("dpkg", present) {
        return;
    }
    for (a, b) in pairs(debian_version).iter().take(DPKG_PROCESSES) {
        let Some(ours) = ours_dpkg(a, b) else { continue };
        let relation = match ours {
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
    let script = r#"
import sys
try:
    from packaging.version import Version, InvalidVersion
except ImportError:
    from pip._vendor.packaging.version import Version, InvalidVersion
for line in sys.stdin:
    a, b = line.rstrip("\n").split("\t")
    try:
        a, b = Version(a), Version(b)
        print((a > b) - (a < b))
    except InvalidVersion:
        print("invalid")
"#;
    let pairs = pairs(python_version);
    check("Python's packaging", &pairs, ask("python3", script, &pairs), ours_pep440);
}
