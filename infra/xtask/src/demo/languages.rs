//! The demo's services in Java and Node.js: their libraries, how they are started, and what each language itself says of
//! what was loaded. It never takes Plimsoll's own word for the truth.

use super::application::Application;
use super::pipeline::Component;
use super::{Demo, inputs};
use crate::{cache, run, setup};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const JAVA: Component = Component { application: "backend", component: "javaapp", version: "1.0" };
pub const NODE: Component = Component { application: "backend", component: "nodeapp", version: "1.0" };

/// Pages of the Node.js service that load what they need when they are first asked for.
pub const NODE_PAGES: &[&str] = &["/", "/template", "/text", "/directory", "/self-check", "/id", "/data"];

/// The second version of a library of the Java service, loaded by a class loader of its own.
const JAVA_PLUGIN: &str = "org.apache.commons:commons-lang3:3.4";
/// What the JVM wrote about its classes, in the logs' directory.
const CLASS_LOG: &str = "java-classes.log";
/// Fewer loaded packages than this would mean that the comparison went wrong.
const LOADED_MIN: usize = 10;

/// What a service loads late, never, and only reads as data: purls without version, names, names.
pub struct Expected {
    pub ecosystem: &'static str,
    pub late: &'static str,
    pub never: &'static str,
    pub data: &'static str,
    /// A package of which one version is used; of two Java versions both are.
    pub twice: &'static str,
}

/// Of one of these services.
pub fn expected(component: &Component) -> Option<Expected> {
    match *component {
        JAVA => Some(Expected {
            ecosystem: "maven",
            late: "pkg:maven/com.google.code.gson/gson@",
            never: "joda-time:joda-time",
            data: "com.h2database:h2",
            twice: "org.apache.commons:commons-lang3",
        }),
        NODE => Some(Expected {
            ecosystem: "npm",
            late: "pkg:npm/moment@",
            never: "jsonwebtoken",
            data: "jquery",
            twice: "minimist",
        }),
        _ => None,
    }
}

/// `mydir/javaapp` below `directory`: the service with its libraries, compiled.
pub fn java(directory: &Path) -> anyhow::Result<()> {
    setup::ensure(&[setup::MAVEN, setup::JAVA])?;
    let sources = inputs::sources().join("javaapp");
    let pom = fs::read_to_string(sources.join("pom.xml"))?;
    let jars = cache::entry(
        &format!("demo-java-{}", cache::mark(&format!("{pom}{JAVA_PLUGIN}"))),
        "the demo's Java libraries with Maven",
        |directory, log| {
            fs::write(directory.join("pom.xml"), &pom)?;
            let maven = |goal: &str, options: &[String]| {
                let mut maven = run::command("mvn");
                maven.args(["--batch-mode", "--no-transfer-progress", goal]).args(options);
                run::logged(maven.current_dir(directory), log)
            };
            let into = |folder: &str| format!("-DoutputDirectory={}", directory.join(folder).display());
            maven("dependency:copy-dependencies", &[into("lib")])?;
            maven("dependency:copy", &[into("plugins"), format!("-Dartifact={JAVA_PLUGIN}")])
        },
    )?;
    let application = directory.join("mydir/javaapp");
    inputs::fresh_copy(&sources, &application)?;
    for folder in ["lib", "plugins"] {
        inputs::copy(&jars.join(folder), &application.join(folder))?;
    }
    let mut compiler = run::command("javac");
    compiler.args([
        "--release",
        "17",
        "-d",
        "classes",
        "-cp",
        "lib/*",
        "src/demo/Main.java",
        "src/demo/Late.java",
    ]);
    run::logged(compiler.current_dir(&application), &directory.join("logs/javac.log"))
}

/// `mydir/nodeapp` below `directory`: the service with its packages, those of its lock file.
pub fn node(directory: &Path) -> anyhow::Result<()> {
    setup::ensure(&[setup::NPM])?;
    let sources = inputs::sources().join("nodeapp");
    let read = |name: &str| fs::read_to_string(sources.join(name)).with_context(|| format!("no {name}"));
    let (package, lock) = (read("package.json")?, read("package-lock.json")?);
    let modules = cache::entry(
        &format!("demo-node-{}", cache::mark(&format!("{package}{lock}"))),
        "the demo's Node.js packages with npm",
        |directory, log| {
            fs::write(directory.join("package.json"), &package)?;
            fs::write(directory.join("package-lock.json"), &lock)?;
            let mut npm = run::command("npm");
            npm.args(["ci", "--ignore-scripts", "--no-bin-links", "--no-audit", "--no-fund"]);
            run::logged(npm.current_dir(directory), log)
        },
    )?;
    let application = directory.join("mydir/nodeapp");
    inputs::fresh_copy(&sources, &application)?;
    inputs::copy(&modules.join("node_modules"), &application.join("node_modules"))
}

impl Demo {
    /// Both services, each under `plimsoll run`.
    pub(super) fn run_service(&self, component: Component, port: u16) -> anyhow::Result<Application> {
        let mut run = self.plimsoll(&["run", "-v"], &component);
        run.arg("--cmd");
        if component == JAVA {
            let log = self.directory.join("logs").join(CLASS_LOG);
            run.arg("java").arg(format!("-Xlog:class+load=info:file={}:none:filecount=0", log.display()));
            run.args(["-Xmx64m", "-XX:TieredStopAtLevel=1", "-cp", "classes:lib/*", "demo.Main"]);
        } else {
            run.args(["node", "server.js"]);
        }
        run.current_dir(self.service_directory(&component)).env("PORT", port.to_string());
        Application::start(component, &mut run, port, self.log_path(&format!("run-{}", component.component)))
    }

    fn service_directory(&self, component: &Component) -> PathBuf {
        self.directory.join("mydir").join(component.component)
    }

    /// `plimsoll scan -s fs` of the service's directory.
    pub(super) fn scan_service(&self, component: &Component) -> anyhow::Result<()> {
        let mut scan: Command = self.plimsoll(&["scan", "-s", "fs"], component);
        scan.arg(format!("mydir/{}", component.component)).current_dir(&self.directory);
        run::logged(&mut scan, &self.log_path(&format!("scan-{}", component.component)))
    }

    /// Places of the packages that the JVM's own log names as sources of classes. Asked for when it has ended.
    pub(super) fn places_of_classes(&self) -> anyhow::Result<BTreeSet<String>> {
        let file = self.directory.join("logs").join(CLASS_LOG);
        let log = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(class_sources(&log, &self.service_directory(&JAVA)))
    }
}

/// Archives below `root` that the lines `NAME source: file:/PATH` of `-Xlog:class+load` name.
pub fn class_sources(log: &str, root: &Path) -> BTreeSet<String> {
    let below = |line: &str| {
        let source = line.split_once(" source: file:")?.1.trim();
        let path = Path::new(source).strip_prefix(root).ok()?;
        source.ends_with(".jar").then(|| path.display().to_string())
    };
    log.lines().filter_map(below).collect()
}

/// Places of the packages whose modules a Node.js service says that it has loaded.
pub fn places_of_modules(application: &Application) -> anyhow::Result<BTreeSet<String>> {
    let answer: Value = serde_json::from_str(&application.get("/modules")?)?;
    let modules = answer["modules"].as_array().context("/modules tells no modules")?;
    Ok(modules.iter().filter_map(Value::as_str).filter_map(package_directory).collect())
}

/// The directory of the package that a file below node_modules belongs to.
pub fn package_directory(file: &str) -> Option<String> {
    const MODULES: &str = "node_modules/";
    let begin = file.rfind(MODULES)? + MODULES.len();
    let names = if file[begin..].starts_with('@') { 2 } else { 1 };
    let name: Vec<&str> = file[begin..].split('/').take(names).collect();
    Some(format!("{}{}", &file[..begin], name.join("/")))
}

/// The used packages of the service's language are exactly those in these places.
pub fn used_packages(report: &Value, of: &Expected, loaded: &BTreeSet<String>) -> anyhow::Result<()> {
    ensure!(loaded.len() >= LOADED_MIN, "only {loaded:?} were loaded");
    let places = |package: &Value| -> Vec<String> {
        let locations = package["locations"].as_array().into_iter().flatten();
        locations.filter_map(|location| location["path"].as_str().map(str::to_owned)).collect()
    };
    let used: BTreeSet<String> =
        of_language(report, of).filter(|package| package["use"] == "used").flat_map(places).collect();
    let missed: Vec<&String> = loaded.difference(&used).collect();
    let wrong: Vec<&String> = used.difference(loaded).collect();
    ensure!(
        missed.is_empty() && wrong.is_empty(),
        "loaded but not used: {missed:?}; used but not loaded: {wrong:?}"
    );
    Ok(())
}

/// What nothing loaded, or only read as data, is unused; of two versions each has its own use.
pub fn late_and_never(report: &Value, of: &Expected) -> anyhow::Result<()> {
    for name in [of.never, of.data] {
        let package = of_language(report, of).find(|package| package["name"] == name);
        let package = package.with_context(|| format!("{name} is not in the report"))?;
        ensure!(
            package["use"] == "unused" && package["coverage"]["from_first_exec"] == true,
            "{name} is {} ({}) with coverage {}",
            package["use"],
            package["use_reason"],
            package["coverage"]
        );
    }
    let versions: BTreeSet<&str> = of_language(report, of)
        .filter(|package| package["name"] == of.twice)
        .filter_map(|package| package["version"].as_str())
        .collect();
    ensure!(versions.len() > 1, "of {} only {versions:?} was found", of.twice);
    Ok(())
}

/// Every used package lists the files or classes that it was used by, with first and last time.
pub fn lists_evidence(report: &Value, of: &Expected) -> anyhow::Result<()> {
    for package in of_language(report, of).filter(|package| package["use"] == "used") {
        let lists = [&package["files"], &package["classes"]];
        let mut entries = lists.into_iter().filter_map(Value::as_array).flatten().peekable();
        ensure!(entries.peek().is_some(), "{} is used, but by nothing", package["purl"]);
        let timed = |entry: &Value| {
            let time = |name: &str| entry[name].as_i64().unwrap_or(0);
            time("first_seen_ms") > 0 && time("last_seen_ms") >= time("first_seen_ms")
        };
        ensure!(entries.all(timed), "{} has entries without times", package["purl"]);
    }
    Ok(())
}

fn of_language<'a>(report: &'a Value, of: &'a Expected) -> impl Iterator<Item = &'a Value> {
    let all = report["packages"].as_array().into_iter().flatten();
    all.filter(|package| package["ecosystem"] == of.ecosystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_packages() {
        let check = |file: &str, expect: Option<&str>| {
            assert_eq!(package_directory(file).as_deref(), expect, "{file}");
        };
        check("server.js", None);
        check("node_modules/ms/index.js", Some("node_modules/ms"));
        check("node_modules/@a/b/c/d.js", Some("node_modules/@a/b"));
        check("node_modules/a/node_modules/ms/index.js", Some("node_modules/a/node_modules/ms"));
    }

    #[test]
    fn sources_of_classes() {
        let log = "java.lang.Object source: jrt:/java.base\n\
                   org.x.Y source: file:/srv/app/lib/y.jar\n\
                   org.x.Z source: file:/srv/app/lib/y.jar\n\
                   demo.Main source: file:/srv/app/classes/\n\
                   org.o.O source: file:/usr/share/java/o.jar\n";
        let sources: Vec<String> = class_sources(log, Path::new("/srv/app")).into_iter().collect();
        assert_eq!(sources, ["lib/y.jar"]);
    }
}
