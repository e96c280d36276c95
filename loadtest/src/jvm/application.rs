//! The application whose start is measured where none is named: a web service on Spring Boot, fetched by Maven.
//! It must never write beside the target folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Its own threads begin and end as the processor has time for them: without the one that warms up classes beside `main`,
/// and with compilation that `main` waits for, two starts differ least.
const OPTIONS: &[&str] = &[
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:CICompilerCount=1",
    "-Xbatch",
    "-Xms512m",
    "-Xmx512m",
    "-Dspring.backgroundpreinitializer.ignore=true",
];
const MAIN_CLASS: &str = "a.App";
/// A port of its own for each run, reached from nowhere else.
const ARGUMENTS: &[&str] = &["--server.port=0", "--server.address=127.0.0.1"];

/// What follows `java` on its command line. It ends by itself when it has started.
///
/// # Errors
/// What Maven or the compiler say.
pub fn build() -> anyhow::Result<Vec<OsString>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = root.join("peers/jvmti/application");
    let target = root.join("../target/loadtest/jvm-startup");
    std::fs::create_dir_all(&target)?;
    let target = target.canonicalize()?;
    let libraries = target.join("libs");
    if !libraries.is_dir() {
        let partial = target.join("partial-libs");
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
        maven.arg(format!("-DoutputDirectory={}", partial.display()));
        run(maven.arg("-f").arg(source.join("pom.xml")))?;
        std::fs::rename(partial, &libraries)?;
    }
    let mut jars: Vec<PathBuf> = std::fs::read_dir(&libraries)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    // As a folder lists them would differ from machine to machine.
    jars.sort();
    let class_path = std::env::join_paths([target.clone()].iter().chain(&jars))?;
    let mut javac = Command::new("javac");
    javac.args(["--release", "17", "-cp"]).arg(&class_path).arg("-d").arg(&target);
    run(javac.arg(source.join("src/a/App.java")))?;
    let mut words: Vec<OsString> = OPTIONS.iter().map(OsString::from).collect();
    words.extend(["-cp".into(), class_path, MAIN_CLASS.into()]);
    words.extend(ARGUMENTS.iter().map(OsString::from));
    Ok(words)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{command:?} does not start; `apt install maven default-jdk-headless`"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}
