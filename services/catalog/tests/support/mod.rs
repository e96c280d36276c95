//! What the tests of languages share: programs of this machine, trees kept in the cache, the catalog of a directory.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)] // each test uses a part, and may

pub mod java;

use plimsoll_catalog::{CatalogOutcome, DirectoryOptions, DirectoryTree, OwnershipIndex, PackageRecord};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| ci == "true")
}

/// Says why a test is left out; in CI it must not be.
pub fn skip(why: &str) {
    assert!(!is_ci(), "in CI this must run: {why}");
    println!("skipped: {why}");
}

/// Whether a program of this machine answers.
pub fn has(program: &str, argument: &str) -> bool {
    let works = Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success());
    if !works {
        skip(&format!("{program} is missing (cargo xtask setup installs it)"));
    }
    works
}

/// What a command prints.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{command:?}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// A folder of the cache, filled once; `None` (said why) if that fails, for want of a network.
pub fn cached(name: &str, fill: impl FnOnce(&Path) -> Result<(), String>) -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let cache = base.join("plimsoll");
    fs::create_dir_all(&cache).unwrap();
    let done = cache.join(name);
    let lock = File::create(cache.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if !done.exists() {
        let partial = cache.join(format!("{name}.partial"));
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).unwrap();
        if let Err(error) = fill(&partial) {
            skip(&format!("{name} cannot be made: {error}"));
            return None;
        }
        fs::rename(&partial, &done).unwrap();
    }
    Some(done)
}

/// Everything of a directory.
pub fn survey(root: &Path) -> (CatalogOutcome, OwnershipIndex) {
    let tree = DirectoryTree::open(root, DirectoryOptions::default()).unwrap();
    plimsoll_catalog::catalog_with_ownership(&tree)
}

/// `name version path` of the packages of an ecosystem.
pub fn listed(outcome: &CatalogOutcome, ecosystem: &str) -> BTreeSet<String> {
    let packages = outcome.packages.iter().filter(|package| package.ecosystem == ecosystem);
    packages.map(|package| format!("{} {} {}", package.name, package.version, place(package))).collect()
}

pub fn place(package: &PackageRecord) -> String {
    String::from_utf8_lossy(&package.locations[0].identity_bytes()).into_owned()
}

/// `name version` of the owners of a path in one ecosystem.
pub fn owners(index: &OwnershipIndex, ecosystem: &str, path: &str) -> Vec<String> {
    let found = index.lookup(path.as_bytes()).map(|found| found.owners).unwrap_or_default();
    let found = found.iter().filter(|owner| owner.package.ecosystem == ecosystem);
    found.map(|owner| format!("{} {}", owner.package.name, owner.package.version)).collect()
}

/// All regular files below a directory, relative to `root`.
pub fn files_below(root: &Path, directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}
