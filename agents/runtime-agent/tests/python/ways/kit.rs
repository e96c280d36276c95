//! The packages, and commands that run on them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support;
use super::support::languages::{Measured, cached, copy_of, fetch, mark, write};

/// The probe where eBPF is not at work.
pub const HOOK: &str = "python-import";

/// What the applications use, or do not.
const PACKAGES: &[&str] = &[
    "gunicorn==22.0.0",
    "packaging==24.0",
    "six==1.16.0",
    "tabulate==0.9.0",
    "iniconfig==2.0.0",
    "markupsafe==2.1.5",
    "zope.event==5.0",
    "zope.interface==7.0",
    "setuptools==70.1.0",
];
/// What packs applications, or installs packages.
const TOOLS: &[&str] = &[
    "pyinstaller==6.11.1",
    "pyinstaller-hooks-contrib==2025.1",
    "altgraph==0.17.4",
    "packaging==24.0",
    "setuptools==70.0.0",
    "cx_Freeze==7.2.7",
    "filelock==3.16.1",
    "pex==2.27.1",
    "shiv==1.0.8",
    "pip==24.0",
    "click==8.1.7",
    "uv==0.5.11",
];

/// Folders `packages`, `tools` and `wheels`, in the cache; `None` (said why) without a network.
pub fn folders() -> Option<PathBuf> {
    let version = support::python().arg("-V").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    cached(&format!("python-ways-{}", mark(&format!("{PACKAGES:?}{TOOLS:?}{version}"))), |folder| {
        let pip = |words: &[&str], into: &str| {
            let mut pip = support::python();
            pip.args(["-m", "pip", words[0], "--quiet", "--no-deps"]).args(&words[1..]);
            pip.arg(folder.join(into));
            pip
        };
        fetch(pip(&["install", "--target"], "packages").args(PACKAGES))?;
        fetch(pip(&["install", "--target"], "tools").args(TOOLS))?;
        fetch(pip(&["download", "--dest"], "wheels").args(["six==1.16.0", "packaging==24.0"]))
    })
}

/// A directory with a copy of the packages and these files.
pub fn application(files: &[(&str, &str)]) -> Option<tempfile::TempDir> {
    let folders = folders()?;
    let directory = tempfile::tempdir().unwrap();
    fs::rename(copy_of(&folders.join("packages")).keep(), directory.path().join("packages")).unwrap();
    write(directory.path(), files);
    Some(directory)
}

/// Python on the packages below the root.
pub fn python(root: &Path, arguments: &[&str]) -> Command {
    let mut command = support::python();
    command.args(arguments).env("PYTHONPATH", fs::canonicalize(root).unwrap().join("packages"));
    command.env_remove("PYTHONDONTWRITEBYTECODE");
    command
}

/// Files that were loaded as modules, relative to the root, by the names of their sources.
pub fn modules(measured: &Measured) -> BTreeSet<String> {
    let source = |path: String| match path.split_once("__pycache__/") {
        Some((folder, name)) => format!("{folder}{}.py", name.split('.').next().unwrap()),
        None => path,
    };
    measured.modules().into_iter().map(source).collect()
}

/// The reason why Python's packages cannot be measured; empty without one.
pub fn not_measurable(measured: &Measured) -> String {
    measured.workload().unavailable_probes.get("not-measurable:pypi").cloned().unwrap_or_default()
}
