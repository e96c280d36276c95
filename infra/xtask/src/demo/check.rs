//! Compares what Plimsoll says of the demo with what interpreter, kernel and package manager say themselves.
//! It never takes Plimsoll's own word for the truth, and never passes because there was nothing to compare.

use super::application::{Application, normalised};
use super::pipeline::Pipeline;
use crate::{paths, run};
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// From a library's load to its row in ClickHouse, at rest.
pub const LATENCY_LIMIT: Duration = Duration::from_secs(2);
/// Installed in both, and nothing imports it.
const NEVER_IMPORTED: &str = "sqlparse";
/// In every Debian system; nothing in the demo's container opens a file of it.
const NEVER_OPENED: &str = "gzip";
/// Evidence that a library was mapped or a binary executed.
const LOADED: [&str; 3] = ["loaded", "executed", "symbol_executed"];
/// Fewer libraries than this would mean that the comparison went wrong.
const LIBRARY_PACKAGES_MIN: usize = 3;

/// What was true while one instance ran.
#[derive(Debug)]
pub struct Truth {
    /// Normalised names of the distributions whose modules were loaded.
    pub distributions: BTreeSet<String>,
    /// Packages of the operating system whose libraries were mapped or whose programs were executed, each with one
    /// such path; nothing on a host without dpkg.
    pub system_packages: Option<BTreeMap<String, String>>,
}

impl Truth {
    /// Ask the running application; `container` is its Docker and its name where it runs in one.
    pub fn of(application: &Application, container: Option<(&str, &str)>) -> anyhow::Result<Self> {
        let distributions = application.loaded_distributions()?;
        ensure!(!distributions.is_empty(), "the application says that it has loaded no packages at all");
        let mut files = application.executable_mappings()?;
        files.insert(application.executed_program()?);
        let database = match container {
            Some((docker_host, name)) => {
                // From outside, so that the container itself executes nothing.
                let mut inspect = run::command("docker");
                inspect.env("DOCKER_HOST", docker_host);
                let process = run::output(inspect.args(["inspect", "--format", "{{.State.Pid}}", name]))?;
                format!("/proc/{}/root/var/lib/dpkg", process.trim())
            }
            None => "/var/lib/dpkg".to_owned(),
        };
        let has_dpkg = paths::find_program("dpkg-query").is_some();
        ensure!(has_dpkg || container.is_none(), "the check needs dpkg-query to ask the image's dpkg");
        let system_packages = has_dpkg.then(|| owners(&database, &files));
        Ok(Self { distributions, system_packages })
    }
}

/// Asks the dpkg of a database who owns files.
pub fn owners(database: &str, files: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in files {
        for spelling in spellings(file) {
            let mut query = run::command("dpkg-query");
            query.args(["--admindir", database, "--search", &spelling]);
            // An unknown path is an error of the command.
            let Ok(answer) = run::output(&mut query) else { continue };
            for line in answer.lines().filter(|line| !line.starts_with("diversion ")) {
                // name[:arch][, name…]: path
                let Some((names, _)) = line.split_once(": ") else { continue };
                for name in names.split(", ") {
                    let name = name.split(':').next().unwrap_or(name);
                    found.insert(name.to_owned(), file.clone());
                }
            }
        }
    }
    found
}

/// A path with and without `/usr`: dpkg knows the one that its package was built with.
fn spellings(path: &str) -> Vec<String> {
    let mut both = vec![path.to_owned()];
    match path.strip_prefix("/usr") {
        Some(rest) => both.push(rest.to_owned()),
        None => both.push(format!("/usr{path}")),
    }
    both
}

/// One line for each thing that holds; all that do not make the error.
pub struct Findings {
    held: Vec<String>,
    broken: Vec<String>,
}

impl Findings {
    pub fn new() -> Self {
        Self { held: Vec::new(), broken: Vec::new() }
    }

    pub fn check(&mut self, what: impl Into<String>, result: anyhow::Result<()>) {
        let what = what.into();
        match result {
            Ok(()) => self.held.push(what),
            Err(error) => self.broken.push(format!("{what}: {error:#}")),
        }
    }

    /// Print what held; fail with what did not.
    pub fn conclude(self) -> anyhow::Result<()> {
        for line in &self.held {
            println!("  holds: {line}");
        }
        for line in &self.broken {
            println!("  BROKEN: {line}");
        }
        ensure!(
            self.broken.is_empty(),
            "{} of {} checks failed",
            self.broken.len(),
            self.broken.len() + self.held.len()
        );
        Ok(())
    }
}

fn packages<'a>(report: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    report["packages"].as_array().into_iter().flatten().filter(move |package| package["kind"] == kind)
}

/// All four combinations of vulnerable and used occur among a component's application packages.
pub fn four_cells(report: &Value) -> anyhow::Result<()> {
    for vulnerable in ["yes", "no"] {
        for usage in ["used", "unused"] {
            let found =
                packages(report, "application").any(|p| p["vulnerable"] == vulnerable && p["use"] == usage);
            ensure!(found, "no package is vulnerable {vulnerable} and {usage}");
        }
    }
    Ok(())
}

/// The used application packages are exactly those whose modules the interpreter has loaded.
pub fn used_distributions(report: &Value, truth: &Truth) -> anyhow::Result<()> {
    let used: BTreeSet<String> = packages(report, "application")
        .filter(|package| package["use"] == "used")
        .filter_map(|package| package["name"].as_str().map(normalised))
        .collect();
    let missed: Vec<&String> = truth.distributions.difference(&used).collect();
    let wrong: Vec<&String> = used.difference(&truth.distributions).collect();
    ensure!(
        missed.is_empty() && wrong.is_empty(),
        "loaded but not used: {missed:?}; used but not loaded: {wrong:?}"
    );
    Ok(())
}

/// Every package of the system whose library was mapped or binary executed is used, with rung loaded.
pub fn loaded_system_packages(report: &Value, loaded: &BTreeMap<String, String>) -> anyhow::Result<()> {
    ensure!(loaded.len() >= LIBRARY_PACKAGES_MIN, "dpkg named only {loaded:?} as owners of what was mapped");
    let mut wrong = Vec::new();
    for (name, path) in loaded {
        let Some(package) = packages(report, "os").find(|package| package["name"] == name.as_str()) else {
            wrong.push(format!("{name} is not in the report"));
            continue;
        };
        let rung = package["rung"].as_str().unwrap_or("none");
        if package["use"] != "used" || !LOADED.contains(&rung) {
            wrong.push(format!("{name} is {} with rung {rung}, though {path} was loaded", package["use"]));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// What nothing opened is unused, and that rests on watching from the first exec.
pub fn untouched_packages(report: &Value, with_system: bool) -> anyhow::Result<()> {
    let names = [("application", NEVER_IMPORTED), ("os", NEVER_OPENED)];
    for (kind, name) in names.into_iter().take(if with_system { 2 } else { 1 }) {
        let package = packages(report, kind).find(|package| package["name"] == name);
        let package = package.with_context(|| format!("{name} is not in the report"))?;
        ensure!(
            package["use"] == "unused" && package["coverage"]["from_first_exec"] == true,
            "{name} is {} ({}) with coverage {}",
            package["use"],
            package["use_reason"],
            package["coverage"]
        );
    }
    Ok(())
}

/// Nothing is unused that was not watched from a first exec on.
pub fn unused_was_watched(report: &Value) -> anyhow::Result<()> {
    let mut all = report["packages"].as_array().into_iter().flatten();
    let unwatched =
        all.find(|package| package["use"] == "unused" && package["coverage"]["from_first_exec"] != true);
    match unwatched {
        Some(package) => bail!("{} is unused with coverage {}", package["purl"], package["coverage"]),
        None => Ok(()),
    }
}

/// The measured latency stays below the limit.
pub fn latency(measured: Duration) -> anyhow::Result<()> {
    ensure!(measured < LATENCY_LIMIT, "{} ms", measured.as_millis());
    Ok(())
}

/// What is recorded for a component's instances in ClickHouse: they have been seen to end.
pub fn ended_workloads(pipeline: &Pipeline, application: &super::pipeline::Component) -> anyhow::Result<u64> {
    pipeline.count(&format!(
        "SELECT uniqExact(workload_id) FROM workloads FINAL WHERE {} AND stopped_at_ms > 0",
        application.condition()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(packages: &[(&str, &str, &str, &str)]) -> Value {
        let packages: Vec<Value> = packages
            .iter()
            .map(|(kind, name, vulnerable, usage)| {
                json!({"kind": kind, "name": name, "vulnerable": vulnerable, "use": usage, "rung": "loaded",
                       "coverage": {"from_first_exec": *usage == "unused"}})
            })
            .collect();
        json!({ "packages": packages })
    }

    #[test]
    fn cells() {
        let check = |packages: &[(&str, &str, &str, &str)], expect: bool| {
            assert_eq!(four_cells(&report(packages)).is_ok(), expect, "{packages:?}");
        };
        let all = [
            ("application", "a", "yes", "used"),
            ("application", "b", "yes", "unused"),
            ("application", "c", "no", "used"),
            ("application", "d", "no", "unused"),
        ];
        check(&all, true);
        check(&all[..3], false);
        check(&[all[0], all[1], all[2], ("application", "d", "no", "not_measured")], false);
        check(&[all[0], all[1], all[2], ("os", "d", "no", "unused")], false);
    }

    #[test]
    fn distributions() {
        let check = |used: &[&str], loaded: &[&str], expect: bool| {
            let packages: Vec<_> = used.iter().map(|name| ("application", *name, "no", "used")).collect();
            let truth = Truth {
                distributions: loaded.iter().map(|name| (*name).to_owned()).collect(),
                system_packages: None,
            };
            assert_eq!(used_distributions(&report(&packages), &truth).is_ok(), expect);
        };
        check(&["Flask", "jinja2"], &["flask", "jinja2"], true);
        check(&["flask"], &["flask", "jinja2"], false);
        check(&["flask", "jinja2"], &["flask"], false);
    }

    #[test]
    fn path_spellings() {
        assert_eq!(spellings("/usr/bin/date"), ["/usr/bin/date", "/bin/date"]);
        assert_eq!(spellings("/lib64/ld.so"), ["/lib64/ld.so", "/usr/lib64/ld.so"]);
    }
}
