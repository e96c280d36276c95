//! What the agent says of a workload that hooks observe: which probes were at work, and what they did not see.

use std::process::{Command, Stdio};

use plimsoll_runtime_agent::config::{AgentConfig, UseEbpf};
use plimsoll_schemas::events::RuntimeWorkload;

use super::support;

/// The workload's last word after a command ran in its tree.
fn after(command: &mut Command) -> RuntimeWorkload {
    let (agent, collected) = support::start(AgentConfig { ebpf: UseEbpf::Off, ..support::config() });
    let root = tempfile::tempdir().unwrap();
    let tree = support::tree(&agent, root.path());
    support::run(&tree, command);
    agent.stop(false);
    collected.workloads().into_iter().next().unwrap()
}

fn check(command: &mut Command, watched: &[&str], lost: &[(&str, i64)], reason: (&str, &str)) {
    let workload = after(command);
    let probes: Vec<&str> = workload.watched.iter().map(|watch| watch.probe.as_str()).collect();
    assert_eq!(probes, watched, "{command:?}");
    assert!(
        workload.watched.iter().all(|watch| watch.from_first_exec && watch.from_ms == workload.started_at_ms)
    );
    assert!(workload.watched.iter().all(|watch| watch.until_ms > watch.from_ms));
    let losses: Vec<_> = workload.losses.iter().map(|loss| (loss.probe.as_str(), loss.events_lost)).collect();
    assert_eq!(losses, lost, "{command:?}: {:?}", workload.unavailable_probes);
    let (probe, text) = reason;
    if probe.is_empty() {
        // Of languages that did not run there is nothing more to say.
        let silent = |reason: &String| reason.starts_with("no ") && reason.contains(" has started");
        let unavailable = &workload.unavailable_probes;
        assert!(unavailable.iter().all(|(key, why)| key == "ebpf-files" || silent(why)), "{workload:?}");
    } else {
        assert!(workload.unavailable_probes[probe].contains(text), "{:?}", workload.unavailable_probes);
    }
}

#[test]
fn tells_what_was_at_work() {
    check(&mut Command::new("true"), &["ld-audit"], &[], ("python-import", "no Python interpreter"));
    let both = &["ld-audit", "python-import"];
    check(support::python().args(["-c", "import json"]), both, &[], ("", ""));
    check(
        support::python().args(["-V"]).stdout(Stdio::null()),
        &["ld-audit"],
        &[],
        ("python-import", "no Python"),
    );
}

#[test]
fn an_interpreter_without_the_hook_is_a_loss() {
    let isolated = &[("python-import", 1)];
    check(
        support::python().args(["-I", "-c", "pass"]),
        &["ld-audit"],
        isolated,
        ("python-import", "with -I"),
    );
    let child = "import subprocess, sys; subprocess.check_call([sys.executable, '-S', '-c', 'pass'])";
    let program = std::fs::canonicalize(support::python().get_program()).unwrap();
    let key = format!("python-import:{}", program.display());
    let watched = &["ld-audit", "python-import"];
    check(support::python().args(["-c", child]), watched, isolated, (&key, "with -S"));
}
