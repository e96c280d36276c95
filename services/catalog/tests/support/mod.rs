//! What the tests of languages share: programs of this machine, trees kept in the cache, the catalog of a directory.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)] // each test uses a part, and may

pub mod cache;
pub mod java;

// Not all of it in each.
#[allow(unused_imports)]
pub use cache::{cached, skip};

use plimsoll_catalog::{CatalogOutcome, DirectoryOptions, DirectoryTree, OwnershipIndex, PackageRecord};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

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
