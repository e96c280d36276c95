//! Compares the catalog and the ownership of this machine's root with what dpkg itself says.
//! Needs dpkg; where it is missing the tests say so and pass, except with CI=true.

// A test may fail by panicking and says on its output what it left out.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use plimsoll_catalog::{DirectoryOptions, DirectoryTree, FileTree, OwnershipIndex, PackageKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Paths compared in each of the two spellings.
const SAMPLE: usize = 400;

fn host() -> Option<DirectoryTree> {
    if !Path::new("/var/lib/dpkg/status").exists()
        || Command::new("dpkg-query").arg("--version").output().is_err()
    {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must run this on Debian");
        println!("skipped: this machine has no dpkg");
        return None;
    }
    Some(DirectoryTree::open(Path::new("/"), DirectoryOptions::default()).unwrap())
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn packages_are_those_of_dpkg_query() {
    let Some(tree) = host() else { return };
    let format =
        "${db:Status-Status} ${Package} ${Version} ${Architecture} ${source:Package} ${source:Version}\n";
    let expect: BTreeSet<String> = run("dpkg-query", &["-W", "-f", format])
        .lines()
        .filter_map(|line| line.strip_prefix("installed ").map(str::to_owned))
        .collect();
    let outcome = plimsoll_catalog::catalog(&tree);
    let found: BTreeSet<String> = outcome
        .packages
        .iter()
        .filter(|package| package.kind == PackageKind::Os)
        .map(|p| {
            format!("{} {} {} {} {}", p.name, p.version, p.architecture, p.source_name, p.source_version)
        })
        .collect();
    assert!(expect.len() > 10, "dpkg-query answered nothing");
    assert_eq!(found, expect);
    let damaged: Vec<_> =
        outcome.warnings.iter().filter(|warning| warning.subject.contains("dpkg")).collect();
    assert!(damaged.is_empty(), "{damaged:?}");
}

#[test]
fn owners_are_those_of_dpkg_search() {
    let Some(tree) = host() else { return };
    let index = OwnershipIndex::build(&tree);
    assert!(index.is_current(&tree));
    let listed: BTreeSet<String> = run("dpkg-query", &["-W", "-f", "${db-fsys:Files}"])
        .lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| line.starts_with('/') && !line.contains(['*', '?', '[', '\\']))
        .filter(|line| std::fs::metadata(line).is_ok_and(|found| !found.is_dir()))
        .collect();
    let step = (listed.len() / SAMPLE).max(1);
    let sample: Vec<&str> = listed.iter().step_by(step).map(String::as_str).collect();
    let mut command = vec!["-S"];
    command.extend(&sample);
    let mut expect: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in run("dpkg", &command).lines().filter(|line| !line.starts_with("diversion ")) {
        let (owners, path) = line.split_once(": ").unwrap();
        let owners = owners.split(", ").map(|owner| owner.split(':').next().unwrap_or(owner).to_owned());
        expect.entry(path.to_owned()).or_default().extend(owners);
    }
    assert!(expect.len() > SAMPLE / 2, "dpkg -S answered only {} of {} paths", expect.len(), sample.len());
    let diverted: BTreeSet<String> = run("dpkg-divert", &["--list"])
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2).map(str::to_owned))
        .collect();
    let (mut wrong, mut other_spellings) = (Vec::new(), 0);
    for (path, owners) in expect.iter().filter(|(path, _)| !diverted.contains(*path)) {
        for spelling in spellings(path) {
            other_spellings += usize::from(spelling != *path);
            let found: BTreeSet<String> = index
                .lookup(spelling.trim_start_matches('/').as_bytes())
                .map(|found| found.owners)
                .unwrap_or_default()
                .iter()
                .filter(|owner| owner.package.kind == PackageKind::Os)
                .map(|owner| owner.package.name.clone())
                .collect();
            if found != *owners {
                wrong.push(format!("{spelling}: found {found:?}, dpkg says {owners:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), expect.len(), wrong.join("\n"));
    assert!(other_spellings > 10, "nothing below /usr/bin, /usr/lib or the like in the sample");
}

/// The path as given and, on a merged /usr, as seen through the other name of its directory.
fn spellings(path: &str) -> Vec<String> {
    let other = match path.strip_prefix("/usr") {
        Some(rest) => rest.to_owned(),
        None => format!("/usr{path}"),
    };
    let first = other.trim_start_matches("/usr").split('/').nth(1).unwrap_or("");
    let is_merged = ["bin", "sbin", "lib", "lib64", "lib32"].contains(&first)
        && Path::new(&format!("/{first}")).is_symlink();
    if is_merged { vec![path.to_owned(), other] } else { vec![path.to_owned()] }
}

#[test]
fn generated_files_have_owners() {
    let Some(tree) = host() else { return };
    let index = OwnershipIndex::build(&tree);
    let mut checked = 0;
    for (path, expect) in [
        ("etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
        ("etc/ld.so.cache", "libc-bin"),
        ("etc/passwd", "base-passwd"),
        ("usr/bin/awk", "mawk"),
        ("etc/alternatives/awk", "mawk"),
        ("var/lib/dpkg/info/libc6:amd64.list", "libc6"),
    ] {
        if tree.metadata(path.as_bytes()).is_err() {
            continue;
        }
        let found = index.lookup(path.as_bytes()).unwrap_or_else(|| panic!("{path} has no owner"));
        let names: Vec<&str> = found.owners.iter().map(|owner| owner.package.name.as_str()).collect();
        assert!(names.iter().any(|name| *name == expect || path.contains("awk")), "{path}: {names:?}");
        checked += 1;
    }
    assert!(checked > 2, "only {checked} of the files exist here");
    assert_eq!(index.lookup(b"nowhere/at/all"), None);
}
