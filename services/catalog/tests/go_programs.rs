//! Compares the modules of real Go programs, however they were linked and stripped, with `go version -m` and
//! `go tool nm`. Needs Go and its module proxy; without Go the tests say so and pass, except with CI=true.

// A test may fail by panicking and says on its output what it left out.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use plimsoll_catalog::{DirectoryOptions, DirectoryTree, OwnershipIndex, PackageRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Directory of the application below this crate.
const APPLICATION: &str = "tests/go_app/app";
const MAIN: &str = "example.com/plimsoll/app";
/// Only its constraints on types are used: no code, no type of it is left in the program.
const NOT_LINKED: &str = "golang.org/x/exp";

/// How a program is built, and what is done to it then.
struct Build {
    name: &'static str,
    arguments: &'static [&'static str],
    cgo: &'static str,
    /// The earlier one whose section table is taken out, instead of building.
    bared: Option<&'static str>,
}

const BUILDS: [Build; 5] = [
    Build { name: "plain", arguments: &["."], cgo: "0", bared: None },
    Build { name: "stripped", arguments: &["-ldflags=-s -w", "."], cgo: "0", bared: None },
    Build { name: "bare", arguments: &[], cgo: "0", bared: Some("stripped") },
    Build {
        name: "pie",
        arguments: &["-buildmode=pie", "-trimpath", "-ldflags=-s -w", "./small"],
        cgo: "1",
        bared: None,
    },
    Build { name: "bare-pie", arguments: &[], cgo: "1", bared: Some("pie") },
];

fn has_go() -> bool {
    let works = Command::new("go").arg("version").output().is_ok_and(|output| output.status.success());
    assert!(works || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must have go");
    if !works {
        println!("skipped: there is no go here");
    }
    works
}

fn go(arguments: &[&str], cgo: &str, directory: &Path) -> String {
    let mut command = Command::new("go");
    // Modules are fetched once, into Go's own cache.
    let output = command
        .args(arguments)
        .env("CGO_ENABLED", cgo)
        .env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "go {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn build(build: &Build, directory: &Path) {
    let program = directory.join(build.name);
    let Some(from) = build.bared else {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(APPLICATION);
        let mut arguments = vec!["build", "-o", program.to_str().unwrap()];
        arguments.extend(build.arguments);
        go(&arguments, build.cgo, &source);
        return;
    };
    std::fs::copy(directory.join(from), &program).unwrap();
    let mut bytes = std::fs::read(&program).unwrap();
    // e_shoff, and e_shnum with e_shstrndx.
    bytes[40..48].fill(0);
    bytes[60..64].fill(0);
    std::fs::write(&program, bytes).unwrap();
}

/// Reported name → version by `go version -m`, and module path → reported name.
fn listed(program: &Path) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let text = go(&["version", "-m", program.to_str().unwrap()], "0", Path::new("/"));
    let (mut versions, mut names) = (BTreeMap::new(), BTreeMap::new());
    let mut last = String::new();
    let known = |version: &str| if version == "(devel)" { String::new() } else { version.to_owned() };
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.trim().split('\t').collect();
        match fields[..] {
            ["mod" | "dep", path, version, ..] => {
                last = path.to_owned();
                versions.insert(path.to_owned(), known(version));
                names.insert(path.to_owned(), path.to_owned());
            }
            ["mod" | "dep", path] => {
                versions.insert(path.to_owned(), String::new());
                names.insert(path.to_owned(), path.to_owned());
            }
            ["=>", _, "(devel)", ..] => {
                versions.insert(last.clone(), String::new());
            }
            ["=>", path, version, ..] => {
                versions.remove(&last);
                versions.insert(path.to_owned(), version.to_owned());
                names.insert(last.clone(), path.to_owned());
            }
            _ => {}
        }
    }
    let toolchain = text.lines().next().unwrap().rsplit(' ').next().unwrap();
    versions.insert("stdlib".to_owned(), toolchain.strip_prefix("go").unwrap().to_owned());
    (versions, names)
}

/// Modules of which the symbol table has a function.
fn with_symbols(program: &Path, names: &BTreeMap<String, String>) -> BTreeSet<String> {
    let text = go(&["tool", "nm", program.to_str().unwrap()], "0", Path::new("/"));
    let mut found = BTreeSet::from(["stdlib".to_owned(), MAIN.to_owned()]);
    for line in text.lines() {
        let mut fields = line.split_whitespace().skip_while(|field| field.len() != 1);
        let (Some("t" | "T"), Some(symbol)) = (fields.next(), fields.next()) else { continue };
        let symbol = symbol.split(['(', '[']).next().unwrap().replace("%2e", ".");
        let module = names
            .iter()
            .filter(|(path, _)| {
                symbol.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with(['.', '/']))
            })
            .max_by_key(|(path, _)| path.len());
        found.extend(module.map(|(_, name)| name.clone()));
    }
    found
}

/// Import paths of the packages of which the symbol table has a function.
fn packages_with_symbols(program: &Path) -> BTreeSet<String> {
    let text = go(&["tool", "nm", program.to_str().unwrap()], "0", Path::new("/"));
    let symbols = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip_while(|field| field.len() != 1);
        let (Some("t" | "T"), Some(symbol)) = (fields.next(), fields.next()) else { return None };
        let name = symbol.split(['(', '[']).next()?;
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let (package, _) = name[last..].split_once('.')?;
        Some(format!("{}{package}", &name[..last]).replace("%2e", "."))
    });
    symbols.filter(|package| !package.contains(':') && package != "main").collect()
}

/// What advisories' import paths are compared with: every package with a symbol, and none that was not compiled.
#[test]
fn linked_packages_are_what_go_says() {
    if !has_go() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    BUILDS[..3].iter().for_each(|one| build(one, directory.path()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(APPLICATION);
    let compiled = go(&["list", "-deps", "-f", "{{.ImportPath}}", "."], "0", &source);
    let compiled: BTreeSet<&str> = compiled.lines().collect();
    let (_, names) = listed(&directory.path().join("plain"));
    // Replaced modules keep the import paths of what they replace; advisories know them by their own.
    let replaced: Vec<&String> =
        names.iter().filter(|(path, name)| path != name).map(|(path, _)| path).collect();
    let is_of = |path: &str, module: &str| {
        path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut symbols = packages_with_symbols(&directory.path().join("plain"));
    symbols.retain(|path| {
        compiled.contains(path.as_str()) && !replaced.iter().any(|module| is_of(path, module))
    });
    assert!(symbols.contains("net/http") && symbols.len() > 60, "{symbols:?}");
    let tree = DirectoryTree::open(directory.path(), DirectoryOptions::default()).unwrap();
    let outcome = plimsoll_catalog::catalog(&tree);
    for build in &BUILDS[..3] {
        let here =
            outcome.packages.iter().filter(|package| package.locations[0].path == build.name.as_bytes());
        let mut found: BTreeSet<&str> = BTreeSet::new();
        for package in here {
            let linked = package.linked_packages.as_deref().unwrap();
            assert!(package.name != NOT_LINKED || linked.is_empty(), "{linked:?}");
            if names.get(&package.name) == Some(&package.name) || package.name == "stdlib" {
                found.extend(linked.iter().map(String::as_str));
            }
        }
        let missed: Vec<&String> = symbols.iter().filter(|path| !found.contains(path.as_str())).collect();
        assert!(missed.is_empty(), "{}: {missed:?}", build.name);
        // Functions that the runtime itself defines in the name of these.
        let of_runtime = ["os/signal", "runtime/debug"];
        let is_invented = |path: &&&str| !compiled.contains(**path) && !of_runtime.contains(*path);
        let invented: Vec<&&str> = found.iter().filter(is_invented).collect();
        assert!(invented.is_empty(), "{}: {invented:?}", build.name);
    }
}

fn owners(index: &OwnershipIndex, path: &str) -> BTreeSet<String> {
    let found = index.lookup(path.as_bytes());
    found
        .map(|found| found.owners.iter().map(|owner| owner.package.name.clone()).collect())
        .unwrap_or_default()
}

#[test]
fn modules_are_what_go_says_however_the_program_was_linked() {
    if !has_go() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    BUILDS.iter().for_each(|one| build(one, directory.path()));
    let tree = DirectoryTree::open(directory.path(), DirectoryOptions::default()).unwrap();
    let (outcome, index) = plimsoll_catalog::catalog_with_ownership(&tree);
    assert_eq!(outcome.warnings, []);
    let (all, names) = listed(&directory.path().join("plain"));
    assert!(all.len() > 25, "{all:?}");
    let symbols = with_symbols(&directory.path().join("plain"), &names);
    for build in &BUILDS {
        let name = build.name;
        let is_here = |package: &&PackageRecord| package.locations[0].path == name.as_bytes();
        let here: Vec<&PackageRecord> = outcome.packages.iter().filter(is_here).collect();
        let found: BTreeMap<String, String> =
            here.iter().map(|package| (package.name.clone(), package.version.clone())).collect();
        // Go's own tool finds nothing in some programs without sections.
        let expect = listed(&directory.path().join(build.bared.unwrap_or(name))).0;
        assert_eq!(found, expect, "{name}");
        let linked = owners(&index, name);
        let is_missed = |module: &&String| expect.contains_key(*module) && !linked.contains(*module);
        let missed: Vec<&String> = symbols.iter().filter(is_missed).collect();
        assert!(missed.is_empty(), "{name}: {missed:?}");
        let not_linked: Vec<&str> =
            expect.keys().filter(|module| !linked.contains(*module)).map(String::as_str).collect();
        assert_eq!(not_linked, [NOT_LINKED], "{name}");
        let probes = if build.cgo == "1" { vec!["ebpf-files", "ld-audit"] } else { vec!["ebpf-files"] };
        for package in here {
            assert_eq!(package.not_measurable_reason, "", "{name}: {}", package.name);
            assert!(package.architecture.starts_with("linux/"), "{name}: {:?}", package.architecture);
            assert_eq!(package.observable_by, probes, "{name}: {}", package.name);
        }
    }
    let purl = |name: &str| {
        let found = outcome.packages.iter().find(|package| package.name == name);
        found.map(|package| package.purl.clone()).unwrap_or_default()
    };
    assert_eq!(purl("github.com/BurntSushi/toml"), "pkg:golang/github.com/burntsushi/toml@v1.4.0");
    assert_eq!(purl("github.com/gofrs/uuid"), "pkg:golang/github.com/gofrs/uuid@v4.4.0%2Bincompatible");
    assert_eq!(purl("example.com/plimsoll/lib"), "pkg:golang/example.com/plimsoll/lib");
}
