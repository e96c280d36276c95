//! Downloads of the development servers, by package name with the user's own maven and npm.
//! A download appears under its final name only when complete, so that it can be reused without a check.

use crate::{paths, run, setup};
use anyhow::Context;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const KAFKA_VERSION: &str = "4.4.0";
const REGISTRY_VERSION: &str = "3.0.9";
const CHDB_VERSION: &str = "26.7.3-stable.1";
const KAFKA_POM: &str = include_str!("../assets/kafka-pom.xml");
const LAUNCHER: &str = include_str!("../assets/clickhouse_launcher.c");

/// Directory with Kafka's jars.
pub fn kafka_libs() -> anyhow::Result<PathBuf> {
    entry(&format!("kafka-{KAFKA_VERSION}"), "Apache Kafka from Maven", |directory, log| {
        setup::ensure(&[setup::MAVEN, setup::JAVA])?;
        let pom = directory.join("pom.xml");
        fs::write(&pom, KAFKA_POM)?;
        let mut maven = maven(directory);
        maven.arg("-f").arg(&pom).arg("dependency:copy-dependencies");
        maven.arg(format!("-DoutputDirectory={}", directory.join("libs").display()));
        run::logged(&mut maven, log)
    })
    .map(|directory| directory.join("libs"))
}

/// The runnable jar of the schema registry.
pub fn registry_jar() -> anyhow::Result<PathBuf> {
    entry(
        &format!("apicurio-registry-{REGISTRY_VERSION}"),
        "Apicurio Registry from Maven",
        |directory, log| {
            setup::ensure(&[setup::MAVEN, setup::JAVA])?;
            let mut maven = maven(directory);
            maven.arg("dependency:unpack");
            maven.arg(format!("-Dartifact=io.apicurio:apicurio-registry-app:{REGISTRY_VERSION}:zip:all"));
            maven.arg(format!("-DoutputDirectory={}", directory.display()));
            run::logged(&mut maven, log)
        },
    )
    .map(|directory| directory.join(format!("apicurio-registry-app-{REGISTRY_VERSION}-runner.jar")))
}

/// ClickHouse as a library, from npm.
pub fn chdb_library() -> anyhow::Result<PathBuf> {
    const PACKAGE: &str = "@chdb/lib-linux-x64-gnu";
    if std::env::consts::ARCH != "x86_64" {
        anyhow::bail!("{PACKAGE} is for x86_64: install a `clickhouse` binary, it is used when found");
    }
    entry(&format!("chdb-{CHDB_VERSION}"), "ClickHouse (chdb) from npm", |directory, log| {
        setup::ensure(&[setup::NPM])?;
        let mut npm = run::command("npm");
        npm.args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        npm.arg(directory).arg(format!("{PACKAGE}@{CHDB_VERSION}")).current_dir(directory);
        run::logged(&mut npm, log)?;
        let library = directory.join("node_modules").join(PACKAGE).join("libchdb.so");
        fs::rename(&library, directory.join("libchdb.so"))
            .with_context(|| format!("the npm package has no {}", library.display()))
    })
    .map(|directory| directory.join("libchdb.so"))
}

/// The program that turns that library into a server, compiled once.
pub fn clickhouse_launcher() -> anyhow::Result<PathBuf> {
    // A change of the source must not find the binary of the old one.
    entry(&format!("clickhouse-launcher-{}", mark(LAUNCHER)), "ClickHouse launcher", |directory, log| {
        setup::ensure(&[setup::C_COMPILER])?;
        let source = directory.join("launcher.c");
        fs::write(&source, LAUNCHER)?;
        let mut compiler = run::command("cc");
        compiler.args(["-O1", "-Wall", "-o"]).arg(directory.join("launcher")).arg(&source).arg("-ldl");
        run::logged(&mut compiler, log)
    })
    .map(|directory| directory.join("launcher"))
}

fn maven(directory: &Path) -> std::process::Command {
    let mut maven = run::command("mvn");
    maven.args(["--batch-mode", "--no-transfer-progress"]).current_dir(directory);
    maven
}

/// A word for a content (FNV-1a, 64 bits), stable over builds of this program.
pub fn mark(content: &str) -> String {
    let hash = content.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// The cache's folder of this name; `fill` makes it in a temporary folder that is renamed when complete.
pub fn entry(
    name: &str,
    what: &str,
    fill: impl FnOnce(&Path, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let cache = paths::cache();
    let done = cache.join(name);
    if done.is_dir() {
        return Ok(done);
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot create the cache {}", cache.display()))?;
    let lock = File::create(cache.join(format!("{name}.lock")))?;
    lock.lock().context("cannot lock the cache")?;
    if done.is_dir() {
        return Ok(done);
    }
    eprintln!("xtask: fetching {what} into {}", done.display());
    let partial = cache.join(format!("{name}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir(&partial)?;
    let log = cache.join(format!("{name}.log"));
    fill(&partial, &log).with_context(|| format!("cannot fetch {what}"))?;
    fs::rename(&partial, &done)?;
    Ok(done)
}
