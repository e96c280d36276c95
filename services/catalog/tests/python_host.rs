//! Compares Python packages and their files with what importlib.metadata says of the same environments.
//! Needs python3; where it is missing the tests say so and pass, except with CI=true.

// A test may fail by panicking and says on its output what it left out.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use plimsoll_catalog::{DirectoryOptions, DirectoryTree, OwnershipIndex, PackageKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Name, version and files of every distribution on a path, one field per line, as importlib.metadata finds them.
const LIST: &str = r#"
import importlib.metadata, os, re, sys
site = sys.argv[1]
for dist in importlib.metadata.distributions(path=[site]):
    name = re.sub(r"[-_.]+", "-", dist.metadata["Name"]).lower()
    print("D", name, dist.version)
    for file in dist.files or []:
        path = os.path.normpath(os.path.join(site, str(file)))
        if os.path.isfile(path):
            print("F", path)
"#;

fn python(arguments: &[&str]) -> Option<String> {
    let output = Command::new("python3").args(arguments).output();
    match output {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        other => {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must have python3: {other:?}");
            println!("skipped: python3 does not work here");
            None
        }
    }
}

/// Builds the index over `root` and compares it with importlib.metadata's view of `site`, a directory below it.
fn compare(root: &Path, site: &Path) {
    let Some(listed) = python(&["-c", LIST, site.to_str().unwrap()]) else { return };
    let mut expect: BTreeSet<String> = BTreeSet::new();
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut name = String::new();
    for line in listed.lines() {
        if let Some(distribution) = line.strip_prefix("D ") {
            expect.insert(distribution.to_owned());
            name = distribution.split(' ').next().unwrap().to_owned();
        } else if let Some(path) = line.strip_prefix("F ") {
            files.entry(path.to_owned()).or_default().insert(name.clone());
        }
    }
    let tree = DirectoryTree::open(root, DirectoryOptions::default()).unwrap();
    let (outcome, index) = plimsoll_catalog::catalog_with_ownership(&tree);
    let relative = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().as_bytes().to_vec();
    let site_prefix = [relative(site).as_slice(), b"/"].concat();
    let found: BTreeSet<String> = outcome
        .packages
        .iter()
        .filter(|package| package.kind == PackageKind::Application)
        .filter(|package| {
            let below = package.locations[0].path.strip_prefix(site_prefix.as_slice());
            below.is_some_and(|below| !below.contains(&b'/'))
        })
        .map(|package| format!("{} {}", package.name, package.version))
        .collect();
    assert_eq!(found, expect);
    let mut wrong = Vec::new();
    for (path, names) in &files {
        let Ok(path_in_root) = Path::new(path).strip_prefix(root) else { continue };
        let owners: BTreeSet<String> = index
            .lookup(path_in_root.to_str().unwrap().as_bytes())
            .map(|found| found.owners)
            .unwrap_or_default()
            .iter()
            .filter(|owner| owner.package.kind == PackageKind::Application)
            .map(|owner| owner.package.name.clone())
            .collect();
        if !names.is_subset(&owners) {
            wrong.push(format!("{path}: found {owners:?}, importlib.metadata says {names:?}"));
        }
    }
    println!("{} distributions, {} files", expect.len(), files.len());
    assert!(!expect.is_empty() && !files.is_empty());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), files.len(), wrong.join("\n"));
}

#[test]
fn a_virtual_environment_made_by_pip() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let venv = root.join("app/.venv");
    // ensurepip carries pip (and with older Pythons setuptools) with it, so this works offline.
    let Some(_) = python(&["-m", "venv", venv.to_str().unwrap()]) else { return };
    let lib = std::fs::read_dir(venv.join("lib")).unwrap().next().unwrap().unwrap().path();
    compare(&root, &lib.join("site-packages"));
    let tree = DirectoryTree::open(&root, DirectoryOptions::default()).unwrap();
    let index = OwnershipIndex::build(&tree);
    assert!(index.lookup(b"app/.venv/bin/pip").is_some());
    for path in ["app/.venv/bin/python3", "app/.venv/pyvenv.cfg", "app/.venv/bin/activate"] {
        assert!(root.join(path).symlink_metadata().is_ok(), "{path}");
        assert_eq!(index.lookup(path.as_bytes()), None, "{path}");
    }
}

#[test]
fn the_environment_of_this_machine() {
    let Some(site) = python(&["-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]) else {
        return;
    };
    let Ok(site) = Path::new(site.trim()).canonicalize() else { return };
    // The environment's own root: bin/ and lib/ stand in it.
    let Some(root) = site.ancestors().nth(3) else { return };
    let is_used = std::fs::read_dir(&site).is_ok_and(|mut names| {
        names.any(|name| name.is_ok_and(|name| name.file_name().to_string_lossy().ends_with(".dist-info")))
    });
    if is_used {
        compare(root, &site);
    }
}
