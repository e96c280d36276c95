//! Node.js: what runs modules in ways that the hook cannot see is said by name, so that nothing of it is called unused;
//! and what runs while packages are installed is no use of them.

use std::fs;
use std::process::Command;

use plimsoll_runtime_agent::hooks::HookSession;
use plimsoll_runtime_agent::hooks::language::Language;
use plimsoll_runtime_agent::hooks::report::ReportKind;

use super::support::node::versions;

const FILES: &[(&str, &str)] = &[
    ("node_modules/jest-runtime/index.js", "module.exports = 1;"),
    ("node_modules/vitest/package.json", r#"{ "name": "vitest", "version": "1.0.0", "type": "module" }"#),
    ("node_modules/vitest/dist/index.js", "export const vitest = 1;"),
    ("node_modules/vite-node/index.mjs", "export const runner = 1;"),
    ("node_modules/jest/index.js", "module.exports = 1;"),
    ("lib/jest-runtime/index.js", "module.exports = 1;"),
    ("worker.js", "require('jest');"),
];

/// Text of an ECMAScript module, and what is said that the hook cannot see, in words of the reasons.
const PROGRAMS: &[(&str, &[&str])] = &[
    (
        "import { createRequire } from 'module'; createRequire(import.meta.url)('jest-runtime');",
        &["(jest-runtime)"],
    ),
    (
        "import './node_modules/vitest/dist/index.js'; import './node_modules/vitest/dist/index.js?2';",
        &["(vitest)"],
    ),
    (
        "import './node_modules/vite-node/index.mjs'; await import('./node_modules/vitest/dist/index.js');",
        &["(vite-node)", "(vitest)"],
    ),
    ("import 'jest'; import './lib/jest-runtime/index.js';", &[]),
    (
        "import { Worker } from 'worker_threads'; new Worker('./worker.js', { env: { A: '1' } });",
        &["a thread with an environment of its own"],
    ),
    (
        "import { Worker } from 'worker_threads';
         new Worker('./worker.js'); new Worker('./worker.js', { env: { ...process.env } });",
        &[],
    ),
];

#[test]
fn what_the_hook_cannot_see_is_said() {
    let root = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(root.path()).unwrap();
    for (name, text) in FILES {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), text).unwrap();
    }
    for node in versions() {
        for (number, (text, expected)) in PROGRAMS.iter().enumerate() {
            fs::write(root.join("app.mjs"), text).unwrap();
            let mut session = HookSession::start(&root).unwrap();
            let mut command = Command::new(&node);
            command.arg("app.mjs").current_dir(&root);
            session.environment().apply(&mut command);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{} {number}: {output:?}", node.display());
            let mut said = Vec::new();
            session.drain(|_, report, _| {
                if report.kind == ReportKind::HookFailed(Language::Node) {
                    said.push(String::from_utf8_lossy(&report.name).into_owned());
                }
            });
            said.sort();
            let is_each = said.len() == expected.len()
                && said
                    .iter()
                    .zip(*expected)
                    .all(|(reason, word)| reason.starts_with("blind: ") && reason.contains(word));
            assert!(is_each, "{} {number}: {said:?}", node.display());
        }
    }
}

/// npm's command and the script that it runs, and whether what that loads is a use.
const SCRIPTS: &[(&str, &str, bool)] = &[
    ("install", "postinstall", false),
    ("rebuild", "install", false),
    ("run-script", "postinstall", true),
    ("start", "start", true),
    ("install", "", true),
];

#[test]
fn scripts_of_an_installation_use_nothing() {
    let root = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(root.path()).unwrap();
    fs::create_dir_all(root.join("node_modules/left")).unwrap();
    fs::write(root.join("node_modules/left/index.js"), "module.exports = 1;").unwrap();
    fs::write(root.join("app.js"), "require('left'); import('left');").unwrap();
    for node in versions() {
        for (command, event, is_use) in SCRIPTS {
            let mut session = HookSession::start(&root).unwrap();
            let mut program = Command::new(&node);
            program.arg("app.js").current_dir(&root).env("npm_command", command);
            program.env("npm_lifecycle_event", event);
            session.environment().apply(&mut program);
            let output = program.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let mut loaded = 0;
            session.drain(|_, report, _| {
                loaded += u32::from(report.kind == ReportKind::Module(Language::Node));
            });
            assert_eq!(loaded > 0, *is_use, "{} {command} {event}: {loaded}", node.display());
        }
    }
}
