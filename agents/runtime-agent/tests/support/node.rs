//! What the tests of Node.js share: tools of the registry in one folder of the cache, and runs of many commands, each as a
//! workload of its own.
#![allow(dead_code, clippy::unwrap_used)] // each test uses a part, and may

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plimsoll_schemas::events::RuntimeWorkload;

use super::languages::{Measured, Way, cached, fetch, mark, program};
use super::tree;

const VERSIONS: &str = include_str!("../applications/node/versions.json");

/// The hook's probe.
pub const HOOK: &str = "node-module";

/// A folder of the cache with the packages of this package.json; `None` (said why) without Node.js or a network.
pub fn packages(name: &str, manifest: &str) -> Option<PathBuf> {
    program("node", "apt install nodejs npm")?;
    cached(&format!("{name}-{}", mark(manifest)), |folder| {
        fs::write(folder.join("package.json"), manifest).map_err(|error| error.to_string())?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        fetch(npm.current_dir(folder))
    })
}

/// Paths below `node_modules`, without package.json.
pub fn of_packages(paths: BTreeSet<String>) -> BTreeSet<String> {
    let counts = |path: &String| path.starts_with("node_modules/") && !path.ends_with("/package.json");
    paths.into_iter().filter(counts).collect()
}

/// Names of the packages that paths below `node_modules` lie in, nested ones by their own.
pub fn names(paths: &BTreeSet<String>) -> BTreeSet<String> {
    let name = |path: &String| {
        let rest = &path[path.rfind("node_modules/")? + "node_modules/".len()..];
        let parts = if rest.starts_with('@') { 2 } else { 1 };
        Some(rest.split('/').take(parts).collect::<Vec<_>>().join("/"))
    };
    paths.iter().filter_map(name).collect()
}

/// What became of one command.
pub struct Ran {
    pub output: String,
    pub measured: Measured,
    workload_id: String,
}

impl Ran {
    pub fn workload(&self) -> RuntimeWorkload {
        let workloads = self.measured.collected.workloads();
        workloads.into_iter().find(|workload| workload.workload_id == self.workload_id).unwrap()
    }

    /// Why packages could not be measured.
    pub fn not_measurable(&self) -> Option<String> {
        self.workload().unavailable_probes.get("not-measurable:npm").cloned()
    }
}

/// Why packages are not known to be unused where nothing but tools ran.
pub fn only_tools(measured: &Measured) -> Option<String> {
    measured.workload().unavailable_probes.get("not-measured:npm").cloned()
}

/// Runs each command in a tree of its own, one after the other. What was loaded is one list for all.
pub fn run_each(way: Way, root: &Path, commands: Vec<Command>) -> Vec<Ran> {
    let (agent, collected) = way.start();
    let mut ran = Vec::new();
    for mut command in commands {
        let tree = tree(&agent, root);
        command.current_dir(root).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let what = format!("{command:?}");
        let done = tree.spawn(command).unwrap().wait_with_output().unwrap();
        let output = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{way:?} {what}: {} {output}", done.status);
        ran.push((output, tree.workload_id().to_owned()));
    }
    agent.stop(false);
    let made =
        |(output, workload_id)| Ran { output, measured: Measured::new(collected.clone(), root), workload_id };
    ran.into_iter().map(made).collect()
}

/// `node` with these arguments.
pub fn node(arguments: &[&str]) -> Command {
    let mut node = Command::new("node");
    node.args(arguments);
    node
}

/// Node.js as it is installed here, and the newest of other lines; none (said why) where it is not installed.
pub fn versions() -> Vec<PathBuf> {
    let Some(installed) = program("node", "apt install nodejs npm") else { return Vec::new() };
    let others = packages("node-versions", VERSIONS).into_iter().flat_map(|folder| {
        ["node22", "node24"].map(|name| folder.join("node_modules").join(name).join("bin/node"))
    });
    std::iter::once(installed).chain(others).collect()
}

/// Without the process's number in a warning: `(node:4711) Warning: …`.
pub fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(|line| {
        let number = line.strip_prefix("(node:").and_then(|rest| rest.split_once(") "));
        number.map_or_else(|| line.to_owned(), |(_, warning)| warning.to_owned())
    });
    lines.collect::<Vec<_>>().join("\n")
}
