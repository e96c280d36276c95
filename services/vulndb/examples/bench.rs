//! Measures opening a database and matching 10,000 packages against the targets: half of them have no records,
//! a quarter is up to date, a quarter is old and has findings. Run with `cargo run --release -p plimsoll-vulndb --example bench -- DATABASE [--gate]`; never writes.
//! `--gate` exits with 1 when a target is missed.

#![allow(clippy::print_stdout)]

use anyhow::{Context, Result, ensure};
use plimsoll_vulndb::{Assessment, Database, PackageQuery};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Packages asked about.
const PACKAGES: usize = 10_000;
/// Runs; the best one counts, as others measure the machine.
const RUNS: usize = 5;
const OPEN_TARGET: Duration = Duration::from_millis(10);
const MATCH_TARGET: Duration = Duration::from_millis(50);

/// A version above every fix, in both orders.
const UP_TO_DATE: &str = "1000000";

/// (ecosystem, name, old version) of packages that installations really have, some with dozens of records.
const KNOWN: &[(&str, &str, &str)] = &[
    ("pypi", "PyYAML", "5.3"),
    ("pypi", "Jinja2", "2.10"),
    ("pypi", "urllib3", "1.24.1"),
    ("pypi", "requests", "2.19.0"),
    ("pypi", "Django", "3.2.1"),
    ("pypi", "flask", "1.0"),
    ("pypi", "numpy", "1.24.0"),
    ("pypi", "cryptography", "3.2"),
    ("pypi", "certifi", "2022.12.7"),
    ("pypi", "Pillow", "9.0.0"),
    ("debian", "openssl", "1.1.1k-1"),
    ("debian", "glibc", "2.31-13+deb11u3"),
    ("debian", "zlib", "1:1.2.11.dfsg-2"),
    ("debian", "curl", "7.74.0-1.3+deb11u1"),
    ("debian", "linux", "5.10.46-4"),
    ("debian", "bash", "5.1-2"),
    ("debian", "expat", "2.2.10-2"),
    ("debian", "systemd", "247.3-7"),
];

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let path = PathBuf::from(arguments.next().context("give the path of a database")?);
    let gate = arguments.next().is_some_and(|a| a == "--gate");
    let unknown: Vec<String> = (0..PACKAGES).map(|i| format!("package-{i}")).collect();
    let queries: Vec<PackageQuery<'_>> = (0..PACKAGES)
        .map(|i| {
            let (ecosystem, known, old) = KNOWN[(i / 4) % KNOWN.len()];
            let name = if i % 2 == 0 { known } else { unknown[i].as_str() };
            let version = if i % 4 == 2 { UP_TO_DATE } else { old };
            PackageQuery {
                ecosystem,
                name,
                version,
                distro_id: "debian",
                distro_version: "11",
                ..Default::default()
            }
        })
        .collect();
    let (mut best_open, mut best_match) = (Duration::MAX, Duration::MAX);
    for _ in 0..RUNS {
        let start = Instant::now();
        let database = Database::open(&path)?;
        best_open = best_open.min(start.elapsed());
        let start = Instant::now();
        let (mut findings, mut assessed) = (0, 0);
        for query in &queries {
            let assessment = database.match_package(query);
            assessed += usize::from(matches!(assessment, Assessment::Assessed { .. }));
            findings += assessment.findings().len();
        }
        let elapsed = start.elapsed();
        best_match = best_match.min(elapsed);
        println!("{assessed} of {PACKAGES} packages assessed, {findings} findings, {elapsed:?}");
    }
    println!("open {best_open:?} (target {OPEN_TARGET:?}), match {best_match:?} (target {MATCH_TARGET:?})");
    ensure!(!gate || (best_open <= OPEN_TARGET && best_match <= MATCH_TARGET), "a target is missed");
    Ok(())
}
