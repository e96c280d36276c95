//! Node.js: what an application has run before itself (`--require`, in each of its spellings) runs once, and tools that
//! measure which lines a test covers do not count the hook.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use plimsoll_runtime_agent::hooks::HookSession;
use plimsoll_runtime_agent::hooks::language::Language;
use plimsoll_runtime_agent::hooks::report::ReportKind;

use super::support::languages::set;
use super::support::node::{names, said, versions};

/// Each line that is written is an effect; a port can be listened on once.
const FILES: &[(&str, &str)] = &[
    ("count.js", "require('fs').appendFileSync('effects', `count ${require('left').name}\\n`);"),
    ("other one.js", "require('fs').appendFileSync('effects', 'other\\n');"),
    (
        "listen.js",
        "const fs = require('fs');
         require('net').createServer().listen('socket', () => fs.appendFileSync('effects', 'listens\\n')).unref();
         process.on('exit', () => fs.unlinkSync('socket'));",
    ),
    ("hide.js", "delete process.env.NODE_OPTIONS; require('fs').appendFileSync('effects', 'hides\\n');"),
    (
        "app.mjs",
        "import { a } from 'outer'; import { x } from 'named'; import left from 'left';
         import { setImmediate } from 'timers/promises';
         await setImmediate();
         console.log(a, x, left.name, process.execArgv);",
    ),
    (
        "thread.mjs",
        "import { Worker } from 'worker_threads';
         const [mode, ...execArgv] = process.argv.slice(2);
         const worker = new Worker(new URL('./app.mjs', import.meta.url), mode === 'own' ? { execArgv } : {});
         worker.on('exit', (code) => console.log(code));",
    ),
    ("node_modules/left/package.json", r#"{ "name": "left", "version": "1.0.0" }"#),
    ("node_modules/left/index.js", "module.exports = function left() { return 1 };\n//# sourceURL=left.js"),
    (
        "node_modules/outer/package.json",
        r#"{ "name": "outer", "version": "1.0.0", "type": "module", "exports": "./i.js" }"#,
    ),
    ("node_modules/outer/i.js", "export { x as a } from 'inner';"),
    ("node_modules/inner/package.json", r#"{ "name": "inner", "version": "1.0.0", "exports": "./i.mjs" }"#),
    ("node_modules/inner/i.mjs", "export const x = 1;"),
    ("node_modules/named/package.json", r#"{ "name": "named", "version": "1.0.0", "exports": "./i.mjs" }"#),
    // By another name than the file's.
    ("node_modules/named/i.mjs", "export const x = 2;\n//# sourceURL=somewhere.js"),
];

/// The application's NODE_OPTIONS, and the words of Node.js.
const STARTS: &[(&str, &[&str])] = &[
    ("", &["app.mjs"]),
    ("", &["-r", "./listen.js", "-r", "./count.js", "app.mjs"]),
    ("", &["--require", "./count.js", "app.mjs"]),
    ("", &["--require=./count.js", "--require=./other one.js", "app.mjs"]),
    ("", &["--import", "./count.js", "app.mjs"]),
    ("--require ./count.js", &["app.mjs"]),
    ("-r ./count.js", &["-r", "./other one.js", "app.mjs"]),
    ("--require \"./count.js\"", &["app.mjs"]),
    ("--require=\"./other one.js\" --max-old-space-size=100", &["app.mjs"]),
    ("-r ./count.js -r ./hide.js", &["app.mjs"]),
    ("-r ./count.js", &["thread.mjs"]),
    ("", &["-r", "./count.js", "thread.mjs", "own"]),
    ("", &["thread.mjs", "own", "-r", "./count.js"]),
    ("-r ./count.js", &["--no-warnings", "thread.mjs", "own"]),
    ("", &["--frozen-intrinsics", "app.mjs"]),
    ("--no-warnings", &["--enable-source-maps", "app.mjs"]),
];

fn write(root: &Path) {
    for (name, text) in FILES {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// Runs it plain and hooked, and gives the packages that the hook told. `kept` are the lines of its output that are the
/// same each time.
fn differential(
    root: &Path,
    what: &str,
    kept: fn(&str) -> bool,
    make: impl Fn() -> Command,
) -> BTreeSet<String> {
    let effects = root.join("effects");
    let mut done = Vec::new();
    let mut session = HookSession::start(root).unwrap();
    for hooked in [false, true] {
        let mut command = make();
        command.current_dir(root);
        if hooked {
            session.environment().apply(&mut command);
        }
        let output = command.output().unwrap();
        let effects_of_it = fs::read_to_string(&effects).unwrap_or_default();
        let _ = fs::remove_file(&effects);
        let lines: Vec<String> =
            said(&output.stdout).lines().filter(|line| kept(line)).map(str::to_owned).collect();
        done.push((lines, said(&output.stderr), output.status, effects_of_it));
    }
    assert_eq!(done[1], done[0], "{what}");
    let mut modules = BTreeSet::new();
    session.drain(|_, report, _| match report.kind {
        ReportKind::Module(Language::Node) => {
            modules.insert(String::from_utf8_lossy(&report.path).into_owned());
        }
        ReportKind::HookFailed(_) => panic!("{what}: {}", String::from_utf8_lossy(&report.name)),
        _ => {}
    });
    names(&modules)
}

#[test]
fn what_runs_before_the_application_runs_once() {
    let root = tempfile::tempdir().unwrap();
    write(root.path());
    for node in versions() {
        for (options, words) in STARTS {
            let what = format!("{} {options} {words:?}", node.display());
            let told = differential(
                root.path(),
                &what,
                |_| true,
                || {
                    let mut command = Command::new(&node);
                    command.args(*words).env("NODE_OPTIONS", options);
                    command
                },
            );
            assert_eq!(told, set(&["inner", "left", "named", "outer"]), "{what}");
        }
    }
}

#[test]
fn tests_cover_as_much_as_without_the_hook() {
    let root = tempfile::tempdir().unwrap();
    write(root.path());
    fs::write(root.path().join("short.js"), "module.exports = (a) => (a ? 1 : 2);").unwrap();
    let test = "require('node:test').test('a', () => { require('./short.js')(1); return import('outer') });";
    fs::write(root.path().join("b.test.js"), test).unwrap();
    let is_kept = |line: &str| !line.contains("duration");
    for node in versions() {
        for preload in [&[][..], &["-r", "./count.js"]] {
            let what = format!("{} {preload:?}", node.display());
            let told = differential(root.path(), &what, is_kept, || {
                let mut command = Command::new(&node);
                command.args(preload).args(["--test", "--test-reporter=tap", "--experimental-test-coverage"]);
                command.arg("b.test.js").env_remove("NODE_OPTIONS");
                command
            });
            assert!(told.contains("inner") && told.contains("outer"), "{what}: {told:?}");
        }
    }
}
