//! The same commands without any server: scan, run and report in one process each, compared with the same truth.
//! It never gives the command an address of a server.

use super::check::{self, Findings, Truth};
use super::{DIRECTORY_COMPONENT, Demo};
use crate::run;
use crate::stack::Ports;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// With the best probe that is permitted, then with the hooks that need no rights.
pub fn run_all(demo: &Demo) -> anyhow::Result<()> {
    let mut findings = Findings::new();
    for (name, options) in [("local", [].as_slice()), ("local, by hooks", ["--no-ebpf"].as_slice())] {
        findings.check(
            format!("{name}: used packages are those in sys.modules, all four cells"),
            observe(demo, options),
        );
    }
    findings.conclude()
}

fn observe(demo: &Demo, options: &[&str]) -> anyhow::Result<()> {
    let state = demo.directory.join("local-state");
    if state.exists() {
        fs::remove_dir_all(&state)?;
    }
    let mut scan = plimsoll(demo, &state, &["scan", "-s", "fs"]);
    run::output(scan.arg("mydir/pythonapp").current_dir(&demo.directory))?;
    let mut command = plimsoll(demo, &state, &["run"]);
    let application = demo.start_process(command.args(options), Ports::default().free()?, "run-local")?;
    application.drive()?;
    let truth = Truth::of(&application, None)?;
    application.quit()?;
    let table = fs::read_to_string(demo.log_path("run-local"))?;
    ensure!(table.contains("RECOMMENDATION"), "`plimsoll run` ended without the table:\n{table}");
    let report = run::output(plimsoll(demo, &state, &["report"]).args(["-o", "json"]))?;
    let report: Value = serde_json::from_str(&report).context("`plimsoll report -o json` gives no JSON")?;
    check::used_distributions(&report, &truth)?;
    check::untouched_packages(&report, false)?;
    check::unused_was_watched(&report)?;
    if demo.assessed {
        check::four_cells(&report)?;
    }
    truth.system_packages.map_or(Ok(()), |loaded| check::loaded_system_packages(&report, &loaded))
}

/// A command whose only surroundings are a state directory and the vulnerability database.
fn plimsoll(demo: &Demo, state: &Path, words: &[&str]) -> Command {
    let of = &DIRECTORY_COMPONENT;
    let mut command = run::command(&demo.plimsoll);
    command.args(words).args(["-a", of.application, "-c", of.component, "-V", of.version]);
    let database = demo.environment.iter().find(|(name, _)| name == "PLIMSOLL_DATABASE");
    command.envs(database.map(|(name, value)| (name, value))).env("PLIMSOLL_STATE_DIRECTORY", state);
    command
}
