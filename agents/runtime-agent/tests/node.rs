//! Node.js: what is reported of a real application is what its own loaders say that they loaded.
//! The packages come from npm's own registry, once, into the cache.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::languages::{Measured, Way, below, cached, copy_of, fetch, mark, measure, program};

const PACKAGE: &str = include_str!("applications/node/package.json");
const FILES: &[(&str, &str)] = &[
    ("server.js", include_str!("applications/node/server.js")),
    ("worker.js", include_str!("applications/node/worker.js")),
    ("child.js", include_str!("applications/node/child.js")),
    ("truth.cjs", include_str!("applications/node/truth.cjs")),
    ("truth.mjs", include_str!("applications/node/truth.mjs")),
    ("truth-loader.mjs", include_str!("applications/node/truth-loader.mjs")),
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

fn probe(way: Way) -> &'static str {
    if way == Way::Ebpf { "ebpf-files" } else { "node-module" }
}

fn assert_complete(way: Way, measured: &Measured) {
    assert!(measured.is_watched_by(probe(way)), "{way:?} {:?}", measured.workload());
    assert_eq!(measured.lost(probe(way)), 0, "{way:?} {:?}", measured.workload());
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
        assert_complete(way, &measured);
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
