//! Rust programs in local mode: whose crates a run used. The list of crates is put in as `cargo auditable` does it.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

const NAMES: [&str; 6] = ["-a", "backend", "-c", "rustapp", "-V", "1.0"];
const SOURCE: &str = r#"
#[used]
#[unsafe(link_section = ".dep-v0")]
static CRATES: [u8; include_bytes!("crates").len()] = *include_bytes!("crates");
fn main() { println!("ran") }
"#;
/// Crates beside the program's own; the last one is in both programs, in two versions.
const CRATES: usize = 15;

struct World {
    directory: tempfile::TempDir,
}

impl World {
    /// `ran` and `idle`, each with crates of its own and one of which both have a version.
    fn new() -> Option<Self> {
        let works =
            Command::new("rustc").arg("--version").output().is_ok_and(|output| output.status.success());
        assert!(works || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must have rustc");
        if !works {
            support::skip("there is no rustc here");
            return None;
        }
        let world = Self { directory: tempfile::tempdir().unwrap() };
        std::fs::create_dir(world.app()).unwrap();
        world.build("ran", "1.0.0");
        world.build("idle", "2.0.0");
        Some(world)
    }

    fn build(&self, name: &str, shared_version: &str) {
        let mut packages = vec![json!({
            "name": name, "version": "1.0.0", "source": "local", "root": true,
            "dependencies": (1..=CRATES + 1).collect::<Vec<_>>(),
        })];
        for number in 1..CRATES {
            let name = format!("{name}-{number}");
            packages.push(json!({"name": name, "version": "1.0.0", "source": "crates.io"}));
        }
        packages.push(json!({"name": "shared", "version": shared_version, "source": "crates.io"}));
        packages.push(json!({"name": "cc", "version": "1.0.0", "source": "crates.io", "kind": "build"}));
        let directory = self.directory.path();
        let file = std::fs::File::create(directory.join("crates")).unwrap();
        let mut section = flate2::write::ZlibEncoder::new(file, flate2::Compression::best());
        section.write_all(json!({ "packages": packages }).to_string().as_bytes()).unwrap();
        section.finish().unwrap();
        std::fs::write(directory.join("main.rs"), SOURCE).unwrap();
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "-o"]).arg(self.app().join(name)).arg("main.rs").current_dir(directory);
        let output = rustc.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn app(&self) -> PathBuf {
        self.directory.path().join("app")
    }

    fn plimsoll(&self, arguments: &[&str]) -> Output {
        support::plimsoll(self.directory.path()).args(arguments).current_dir(self.app()).output().unwrap()
    }

    /// Scans, runs `ran`, and gives the report that the run ends with.
    fn run(&self, options: &[&str], words: &[&str]) -> Value {
        let scanned = self.plimsoll(&[&["scan", "-s", "fs"][..], &NAMES, &["."]].concat());
        assert!(scanned.status.success(), "{}", String::from_utf8_lossy(&scanned.stderr));
        let result = self.directory.path().join("result");
        let file = ["-o", "json", "--output-file", result.to_str().unwrap(), "--cmd"];
        let output = self.plimsoll(&[&["run"][..], &NAMES, options, &file, words].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ran\n");
        read(&result)
    }
}

fn read(result: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(result).unwrap()).unwrap()
}

/// Names and versions of the crates that have this use.
fn crates(report: &Value, usage: &str) -> BTreeSet<String> {
    let all = report["packages"].as_array().unwrap().iter();
    let found = all.filter(|package| package["ecosystem"] == "cargo" && package["use"] == usage);
    let text = |package: &Value, field: &str| package[field].as_str().unwrap().to_owned();
    found.map(|package| format!("{}@{}", text(package, "name"), text(package, "version"))).collect()
}

/// All crates of a program but those of its build.
fn all_of(name: &str, shared_version: &str) -> BTreeSet<String> {
    let numbered = (1..CRATES).map(|number| format!("{name}-{number}@1.0.0"));
    numbered.chain([format!("{name}@1.0.0"), format!("shared@{shared_version}")]).collect()
}

#[test]
fn a_run_uses_the_crates_of_the_program_that_ran_by_ebpf() {
    let Some(world) = World::new().filter(|_| support::has_ebpf()) else { return };
    let report = world.run(&[], &["./ran"]);
    assert_eq!(crates(&report, "used"), all_of("ran", "1.0.0"), "{report:#}");
    // Read as data only.
    let report = world.run(&[], &["sh", "-c", "cat idle > /dev/null; ./ran"]);
    assert_eq!(crates(&report, "unused"), all_of("idle", "2.0.0"), "{report:#}");
}

#[test]
fn a_run_uses_the_crates_of_the_program_that_ran_by_hooks() {
    let Some(world) = World::new() else { return };
    let report = world.run(&["--no-ebpf"], &["sh", "-c", "cat idle > /dev/null; ./ran"]);
    assert_eq!(crates(&report, "used"), all_of("ran", "1.0.0"), "{report:#}");
    assert_eq!(crates(&report, "unused"), all_of("idle", "2.0.0"), "{report:#}");
}
