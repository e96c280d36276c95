//! Measures opening a database and matching 10,000 packages of all ecosystems against the targets: half of them have no records,
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

/// (ecosystem, name, old version, version above every fix) of packages that installations really have, some with
/// dozens of records.
const KNOWN: &[(&str, &str, &str, &str)] = &[
    ("pypi", "PyYAML", "5.3", "1000"),
    ("pypi", "Jinja2", "2.10", "1000"),
    ("pypi", "urllib3", "1.24.1", "1000"),
    ("pypi", "requests", "2.19.0", "1000"),
    ("pypi", "Django", "3.2.1", "1000"),
    ("pypi", "numpy", "1.24.0", "1000"),
    ("pypi", "Pillow", "9.0.0", "1000"),
    ("pypi", "flask", "1.0", "1000"),
    ("pypi", "cryptography", "3.2", "1000"),
    ("pypi", "certifi", "2022.12.7", "3000"),
    ("debian", "bash", "5.1-2", "1000"),
    ("debian", "expat", "2.2.10-2", "1000"),
    ("debian", "openssl", "1.1.1k-1", "1000"),
    ("debian", "glibc", "2.31-13+deb11u3", "1000"),
    ("debian", "zlib", "1:1.2.11.dfsg-2", "1000:1"),
    ("debian", "curl", "7.74.0-1.3+deb11u1", "1000"),
    ("debian", "linux", "5.10.46-4", "1000"),
    ("debian", "systemd", "247.3-7", "1000"),
    ("maven", "org.apache.logging.log4j:log4j-core", "2.14.1", "1000"),
    ("maven", "com.fasterxml.jackson.core:jackson-databind", "2.9.4", "1000"),
    ("maven", "org.springframework:spring-core", "4.3.1.RELEASE", "1000"),
    ("maven", "org.apache.tomcat:tomcat-catalina", "8.5.4", "1000"),
    ("maven", "commons-io:commons-io", "2.4", "1000"),
    ("maven", "org.apache.commons:commons-text", "1.9", "1000"),
    ("maven", "org.yaml:snakeyaml", "1.26", "1000"),
    ("maven", "com.google.guava:guava", "23.6-jre", "1000"),
    ("npm", "handlebars", "4.0.11", "1000.0.0"),
    ("npm", "marked", "0.3.9", "1000.0.0"),
    ("npm", "qs", "6.2.0", "1000.0.0"),
    ("npm", "lodash", "4.17.4", "1000.0.0"),
    ("npm", "minimist", "1.2.0", "1000.0.0"),
    ("npm", "ws", "7.0.0", "1000.0.0"),
    ("npm", "moment", "2.10.0", "1000.0.0"),
    ("gem", "rack", "1.4.1", "1000"),
    ("gem", "actionpack", "4.2.0", "1000"),
    ("gem", "nokogiri", "1.6.7", "1000"),
    ("gem", "rake", "12.0.0", "1000"),
    ("gem", "json", "1.8.3", "1000"),
    ("gem", "sinatra", "2.0.0", "1000"),
    ("composer", "monolog/monolog", "1.11.0", "1000.0.0"),
    ("composer", "symfony/http-kernel", "v5.1.4", "1000.0.0"),
    ("composer", "twig/twig", "v2.7.0", "1000.0.0"),
    ("composer", "guzzlehttp/guzzle", "6.2.0", "1000.0.0"),
    ("golang", "stdlib", "go1.17.3", "go1000.0.0"),
    ("golang", "golang.org/x/net", "v0.0.0-20190404232315-eb5bcb51f2a3", "v1000.0.0"),
    ("golang", "golang.org/x/crypto", "v0.0.0-20200109152110-61a87790db17", "v1000.0.0"),
    ("golang", "github.com/gin-gonic/gin", "v1.5.0", "v1000.0.0"),
    ("golang", "gopkg.in/yaml.v2", "v2.2.2", "v1000.0.0"),
    ("cargo", "regex", "1.5.4", "1000.0.0"),
    ("cargo", "time", "0.2.20", "1000.0.0"),
    ("cargo", "openssl", "0.10.40", "1000.0.0"),
    ("cargo", "smallvec", "1.6.0", "1000.0.0"),
    ("cargo", "tokio", "1.7.0", "1000.0.0"),
];

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let path = PathBuf::from(arguments.next().context("give the path of a database")?);
    let gate = arguments.next().is_some_and(|a| a == "--gate");
    let unknown: Vec<String> = (0..PACKAGES).map(|i| format!("package-{i}")).collect();
    let queries: Vec<PackageQuery<'_>> = (0..PACKAGES)
        .map(|i| {
            let (ecosystem, known, old, newest) = KNOWN[(i / 4) % KNOWN.len()];
            let name = if i % 2 == 0 { known } else { unknown[i].as_str() };
            let version = if i % 4 == 2 { newest } else { old };
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
