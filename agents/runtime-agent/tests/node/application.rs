//! Node.js: what is reported of a real application is what its own loaders say that they loaded.
//! The packages come from npm's own registry, once, into the cache.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::languages::{
    Way, assert_complete, below, cached, copy_of, fetch, mark, measure, program,
};
use super::support::node::HOOK;

const PACKAGE: &str = include_str!("../applications/node/package.json");
const FILES: &[(&str, &str)] = &[
    ("server.js", include_str!("../applications/node/server.js")),
    ("worker.js", include_str!("../applications/node/worker.js")),
    ("child.js", include_str!("../applications/node/child.js")),
    ("truth.cjs", include_str!("../applications/node/truth.cjs")),
    ("truth.mjs", include_str!("../applications/node/truth.mjs")),
    ("truth-loader.mjs", include_str!("../applications/node/truth-loader.mjs")),
];

/// The application in a directory of its own; `None` (said why) without Node.js or its packages.
fn application() -> Option<tempfile::TempDir> {
    program("node", "apt install nodejs npm")?;
    let packages = cached(&format!("node-application-{}", mark(PACKAGE)), |folder| {
        fs::write(folder.join("package.json"), PACKAGE).map_err(|error| error.to_string())?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        fetch(npm.current_dir(folder))
    })?;
    let directory = copy_of(&packages);
    for (name, text) in FILES {
        fs::write(directory.path().join(name), text).unwrap();
    }
    Some(directory)
}

/// What the loaders wrote, below `node_modules`. A package.json that was required is metadata.
fn truth(file: &Path, root: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    of_packages(below(&fs::canonicalize(root).unwrap(), text.lines().map(PathBuf::from)))
}

fn of_packages(paths: BTreeSet<String>) -> BTreeSet<String> {
    let counts = |path: &String| path.starts_with("node_modules/") && !path.ends_with("/package.json");
    paths.into_iter().filter(counts).collect()
}

#[test]
fn modules_are_what_the_loaders_say() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    for way in Way::all() {
        let written = root.join(format!("truth-{way:?}"));
        let mut node = Command::new("node");
        node.args(["--import", "./truth.mjs", "server.js"]).env("TRUTH", &written);
        let measured = measure(way, root, vec![node]);
        assert_eq!(measured.output, "true-true true 36\n", "{way:?}");
        assert_complete(way, HOOK, &measured);
        let (truth, reported) = (truth(&written, root), of_packages(measured.modules()));
        let missing: Vec<_> = truth.difference(&reported).collect();
        let invented: Vec<_> = reported.difference(&truth).collect();
        assert_eq!((missing, invented), (vec![], vec![]), "{way:?}");
        let uses =
            |package: &str| reported.iter().any(|path| path.starts_with(&format!("node_modules/{package}/")));
        for used in
            ["express", "debug", "express/node_modules/debug", "chalk", "uuid", "left-pad", "yaml", "nanoid"]
        {
            assert!(uses(used), "{way:?}: {used} was used: {reported:?}");
        }
        assert!(uses("picocolors") && uses("spdx-license-ids"), "{way:?}");
        for unused in
            ["normalize.css", "zod", "moment", "jquery", "minimist", "commander", "semver", "dotenv"]
        {
            assert!(!uses(unused), "{way:?}: {unused} was not used");
        }
        if way == Way::Ebpf {
            let read = measured.paths("file");
            assert!(read.iter().any(|path| path.ends_with("normalize.css/normalize.css")), "{read:?}");
        }
    }
}

#[test]
fn installers_use_nothing_and_runners_run() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    // A script of a package that an installer runs, by way of a shell.
    let package = root.join("node_modules/lodash/package.json");
    let text = fs::read_to_string(&package).unwrap();
    let script = r#""scripts": { "install": "node -e \"require('moment'); require('fs').writeFileSync('ran', '')\"" }"#;
    let head = text.trim_end().strip_suffix('}').unwrap();
    fs::write(&package, format!("{head}, {script} }}\n")).unwrap();
    // Where npm remembers that the package has none.
    fs::remove_file(root.join("node_modules/.package-lock.json")).unwrap();
    let ran = root.join("node_modules/lodash/ran");
    for way in Way::all() {
        let npm = |arguments: &[&str]| {
            let mut npm = Command::new("npm");
            npm.args(arguments).env("npm_config_audit", "false").env("npm_config_fund", "false");
            npm.env("npm_config_update_notifier", "false");
            npm
        };
        let mut tsc = Command::new("node");
        tsc.args(["--check", "node_modules/jquery/dist/jquery.js"]);
        let quiet =
            measure(way, root, vec![npm(&["ls", "--all"]), npm(&["rebuild", "--foreground-scripts"]), tsc]);
        assert!(ran.exists(), "the script of the package ran");
        fs::remove_file(&ran).unwrap();
        assert_eq!(of_packages(quiet.modules()), BTreeSet::new(), "{way:?}");

        let mut npx = Command::new("npx");
        npx.args(["--no-install", "cowsay", "moo"]).env("npm_config_update_notifier", "false");
        let loud = measure(way, root, vec![npx]);
        assert!(loud.output.contains("moo"), "{}", loud.output);
        let modules = of_packages(loud.modules());
        assert!(modules.contains("node_modules/cowsay/cli.js"), "{way:?} {modules:?}");
        assert!(!modules.iter().any(|path| path.starts_with("node_modules/lodash/")), "{way:?} {modules:?}");
        assert_complete(way, HOOK, &loud);
    }
}

#[test]
fn the_application_keeps_its_options_and_notices_nothing() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    fs::write(root.join("own.cjs"), "globalThis.own = require('semver').valid('1.2.3');\n").unwrap();
    let script = "const m = require('module'); require('dotenv'); require('./none.json');";
    fs::write(root.join("none.json"), "{}").unwrap();
    let program = format!(
        "{script} console.log(own, Object.keys(require.cache).length, Object.keys(globalThis).length, \
         process.execArgv, Object.keys(m.Module._extensions), delete require.cache[require.resolve('dotenv')], \
         new Error('x').stack.split('\\n').slice(0, 3), require.main === module);\n\
         process.exitCode = 3; process.on('exit', () => {{ throw new Error('at the end') }});"
    );
    fs::write(root.join("strange.js"), program).unwrap();
    let command = || {
        let mut command = Command::new("node");
        command.arg("strange.js").env("NODE_OPTIONS", "--require ./own.cjs").current_dir(root);
        command
    };
    let plain = command().output().unwrap();
    let session = plimsoll_runtime_agent::hooks::HookSession::start(root).unwrap();
    let mut hooked = command();
    session.environment().apply(&mut hooked);
    let hooked = hooked.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&hooked.stdout), text(&plain.stdout));
    assert_eq!(text(&hooked.stderr), text(&plain.stderr));
    assert_eq!(hooked.status, plain.status);
}

#[test]
fn a_bundle_is_named_as_what_cannot_be_measured() {
    if program("node", "apt install nodejs").is_none() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let bundle = "/******/ (() => { // webpackBootstrap\nvar __webpack_modules__ = {};\nconsole.log(1);\n/******/ })();\n";
    fs::write(root.path().join("bundle.js"), bundle).unwrap();
    fs::write(root.path().join("plain.js"), "console.log(1);\n").unwrap();
    for way in Way::all() {
        for (script, expected) in [("bundle.js", true), ("plain.js", false)] {
            let mut node = Command::new("node");
            node.arg(script);
            let workload = measure(way, root.path(), vec![node]).workload();
            let reason = workload.unavailable_probes.get("not-measurable:npm");
            assert_eq!(reason.is_some(), expected, "{way:?} {script}");
            assert!(reason.is_none_or(|reason| reason.contains("webpack") && reason.contains(script)));
        }
    }
}
