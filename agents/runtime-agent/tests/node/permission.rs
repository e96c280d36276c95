//! Node.js with its permission model, or with a file of options, started below the first process of a tree: it runs as
//! without the module hook, which is left out, and what it loads is not measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use plimsoll_runtime_agent::hooks::HookSession;
use plimsoll_runtime_agent::hooks::language::Language;
use plimsoll_runtime_agent::hooks::report::ReportKind;

use super::support::languages::{Way, both, measure};
use super::support::node::{HOOK, said, versions};

/// What it may do, and what it got of its environment.
const APPLICATION: &str = "
    const { permission, env } = process;
    const may = permission && ['/', __filename].map((file) => permission.has('fs.read', file));
    console.log(may, 'NODE_OPTIONS' in env, (env.NODE_OPTIONS ?? '').split(/ +/).filter(Boolean), process.title);
    console.log(require('./other.js'), require('child_process').constructor.name);";

const OPTIONS: &str = r#"{ "nodeOptions": { "title": "of a file", "stack-trace-limit": 3 } }"#;

/// As a script of an operator has it. Versions that do not know an option refuse it, with and without the hook.
const STARTS: &[&str] = &[
    "$NODE --experimental-permission --allow-fs-read=$PWD/ app.js",
    "$NODE --permission --allow-fs-read=$PWD/ app.js",
    "$NODE --no-warnings --permission '--allow-fs-read=*' app.js",
    "NODE_OPTIONS=\"$NODE_OPTIONS --no-warnings\" $NODE --permission '--allow-fs-read=*' app.js",
    "NODE_OPTIONS=\"--title=own $NODE_OPTIONS\" $NODE --permission '--allow-fs-read=*' app.js",
    "NODE_OPTIONS=\"$NODE_OPTIONS --permission --allow-fs-read=$PWD/\" $NODE app.js",
    "$NODE --experimental-config-file=options.json app.js",
];

fn write_application(root: &Path) {
    for (name, text) in
        [("app.js", APPLICATION), ("other.js", "module.exports = 1;"), ("options.json", OPTIONS)]
    {
        fs::write(root.join(name), text).unwrap();
    }
}

fn shell(node: &Path, script: &str, root: &Path) -> Command {
    let mut shell = Command::new("sh");
    // Not its last command, which it would replace itself by.
    shell.args(["-c", &format!("{script}; exit $?")]).env("NODE", node).current_dir(root);
    shell.env_remove("NODE_OPTIONS");
    shell
}

#[test]
fn it_runs_as_without_the_hook() {
    let root = tempfile::tempdir().unwrap();
    write_application(root.path());
    for node in versions() {
        for script in STARTS {
            let what = format!("{} {script}", node.display());
            let mut session = HookSession::start(root.path()).unwrap();
            let (plain, hooked) = both(&session, || shell(&node, script, root.path()));
            assert_eq!(said(&hooked.stdout), said(&plain.stdout), "{what}");
            assert_eq!(said(&hooked.stderr), said(&plain.stderr), "{what}");
            assert_eq!(hooked.status, plain.status, "{what}");
            let mut told = Vec::new();
            session.drain(|_, report, _| match report.kind {
                ReportKind::HookFailed(Language::Node) => told.push(report.name),
                ReportKind::HookStarted(Language::Node) | ReportKind::Module(Language::Node) => {
                    panic!("{what}: {:?}", String::from_utf8_lossy(&report.path))
                }
                _ => {}
            });
            assert_eq!(told.len(), 1, "{what}");
            assert!(String::from_utf8_lossy(&told[0]).contains("--permission"), "{what}");
        }
        // The hook is for all others, whatever stands behind their script.
        let mut session = HookSession::start(root.path()).unwrap();
        let (plain, hooked) = both(&session, || shell(&node, "$NODE other.js --title", root.path()));
        assert_eq!(hooked.status, plain.status);
        let mut modules = 0;
        session
            .drain(|_, report, _| modules += usize::from(report.kind == ReportKind::Module(Language::Node)));
        assert_eq!(modules, 1, "{}", node.display());
    }
}

#[test]
fn what_it_loads_is_not_measured() {
    let root = tempfile::tempdir().unwrap();
    write_application(root.path());
    let Some(node) = versions().into_iter().next_back() else { return };
    let measured = measure(Way::Hooks, root.path(), vec![shell(&node, STARTS[1], root.path())]);
    let workload = measured.workload();
    let reason = &workload.unavailable_probes[HOOK];
    assert!(reason.contains("--permission") && reason.contains("; give the agent eBPF"), "{reason}");
    let lost = workload.losses.iter().find(|loss| loss.probe == HOOK).map(|loss| loss.events_lost);
    assert_eq!(lost, Some(1), "{:?}", workload.losses);
    let observed = workload.observed.iter().map(|one| (one.probe.as_str(), one.how.as_str(), one.processes));
    assert_eq!(observed.collect::<Vec<_>>(), [(HOOK, "refused", 1)]);
}
