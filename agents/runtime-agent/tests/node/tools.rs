//! Node.js: bundlers and linters use nothing, nor do their workers; an application that one of them starts is one.

use std::fs;
use std::process::Command;

use super::support::languages::{Way, program, set};
use super::support::node::{names, node, of_packages, run_each};

/// A bundler that has a worker, and runs what it is told to when it is done, itself or by a shell.
const BUNDLER: &str = "
    const { execFileSync, execSync } = require('child_process');
    require('of-bundler');
    execFileSync(process.execPath, [require.resolve('worker')]);
    const [how, script] = process.argv.slice(2);
    if (how === 'self') console.log(execFileSync(process.execPath, [script]).toString().trim());
    if (how === 'shell') console.log(execSync(`echo by a shell; node ${script}`).toString().trim());";

#[test]
fn what_a_bundler_starts_is_an_application() {
    if program("node", "apt install nodejs").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let package = |name: &str, text: &str| {
        let place = root.join("node_modules").join(name);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("package.json"), format!("{{\"name\":\"{name}\",\"version\":\"1.0.0\"}}"))
            .unwrap();
        fs::write(place.join("index.js"), text).unwrap();
    };
    package("tsup", BUNDLER);
    fs::rename(root.join("node_modules/tsup/index.js"), root.join("node_modules/tsup/tsup.js")).unwrap();
    package("of-bundler", "");
    package("worker", "require('of-worker');");
    package("of-worker", "");
    package("used", "");
    fs::write(root.join("app.js"), "require('used'); console.log('runs');").unwrap();
    // The same command line as the bundler's worker, started by nobody of them.
    let worker = root.join("node_modules/worker/index.js");
    let tool = |words: &[&str]| {
        let mut command = node(&["node_modules/tsup/tsup.js"]);
        command.args(words);
        command
    };
    for way in Way::all() {
        let ran = run_each(way, root, vec![tool(&[])]).remove(0);
        assert_eq!(names(&of_packages(ran.measured.modules())), set(&[]), "{way:?}");
        let said = ran.workload().unavailable_probes.get("not-measured:npm").cloned().unwrap_or_default();
        assert!(said.contains("only "), "{way:?}: {said:?}");
        for (how, output) in [("self", "runs\n"), ("shell", "by a shell\nruns\n")] {
            let ran = run_each(way, root, vec![tool(&[how, "app.js"])]).remove(0);
            assert_eq!(ran.output, output, "{way:?} {how}");
            assert_eq!(names(&of_packages(ran.measured.modules())), set(&["used"]), "{way:?} {how}");
            assert!(!ran.workload().unavailable_probes.contains_key("not-measured:npm"), "{way:?} {how}");
        }
        let itself = |worker| {
            let mut command = Command::new("node");
            command.arg(worker);
            command
        };
        let ran = run_each(way, root, vec![tool(&[]), itself(&worker)]);
        let used = names(&of_packages(ran[1].measured.modules()));
        assert_eq!(used, set(&["worker", "of-worker"]), "{way:?}");
    }
}
