//! Go programs in local mode: which of their modules a run used. Needs Go and its module proxy.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const NAMES: [&str; 6] = ["-a", "backend", "-c", "goapp", "-V", "1.0"];
/// Sources that the catalog's tests build too, so that Go compiles them once.
const SOURCES: &str = "../catalog/tests/go_app/app";
/// Named by the build information, but nothing of it is linked in.
const NOT_LINKED: &str = "golang.org/x/exp";

struct World {
    directory: tempfile::TempDir,
}

impl World {
    /// `server` is static and `tool` is not; both are in the application's directory.
    fn new() -> Option<Self> {
        let works = Command::new("go").arg("version").output().is_ok_and(|output| output.status.success());
        assert!(works || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must have go");
        if !works {
            println!("skipped: there is no go here");
            return None;
        }
        let world = Self { directory: tempfile::tempdir().unwrap() };
        world.build("server", &["."], "0");
        world.build("tool", &["-buildmode=pie", "-trimpath", "-ldflags=-s -w", "./small"], "1");
        Some(world)
    }

    fn build(&self, name: &str, arguments: &[&str], cgo: &str) {
        let output = Command::new("go")
            .args(["build", "-o"])
            .arg(self.app().join(name))
            .args(arguments)
            .env("CGO_ENABLED", cgo)
            .env("GOFLAGS", "-mod=readonly -buildvcs=false")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(SOURCES))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn app(&self) -> std::path::PathBuf {
        self.directory.path().join("app")
    }

    fn plimsoll(&self, arguments: &[&str]) -> Output {
        support::plimsoll(self.directory.path()).args(arguments).current_dir(self.app()).output().unwrap()
    }

    /// Scans, runs one of the programs, and gives the report that the run ends with.
    fn run(&self, options: &[&str], program: &str) -> Value {
        let scanned = self.plimsoll(&[&["scan", "-s", "fs"][..], &NAMES, &["."]].concat());
        assert!(scanned.status.success(), "{}", String::from_utf8_lossy(&scanned.stderr));
        let output =
            self.plimsoll(&[&["run"][..], &NAMES, options, &["-o", "json", "--cmd", program]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        // The program prints JSON too, on one line.
        let start = text.find("{\n").unwrap_or_else(|| panic!("no report: {text}"));
        serde_json::from_str(&text[start..]).unwrap()
    }
}

/// The use of a module in one of the programs.
fn usage<'a>(report: &'a Value, program: &str, module: &str) -> &'a str {
    let is_it = |package: &&Value| {
        let mut locations = package["locations"].as_array().unwrap().iter();
        package["name"] == module && locations.any(|location| location["path"] == program)
    };
    let found = report["packages"].as_array().unwrap().iter().find(is_it);
    let found = found.unwrap_or_else(|| panic!("{module} of {program} is not in {report:#}"));
    found["use"].as_str().unwrap()
}

#[track_caller]
fn check(report: &Value, program: &str, expect: &[(&str, &str)]) {
    for (module, usage_expected) in expect {
        assert_eq!(usage(report, program, module), *usage_expected, "{module} of {program}: {report:#}");
    }
}

#[test]
fn a_run_tells_linked_from_unlinked_modules_by_ebpf() {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "CI must run as root, so that eBPF is tested");
    let Some(world) = World::new().filter(|_| root) else { return };
    let report = world.run(&[], "./server");
    let used = ["stdlib", "example.com/plimsoll/app", "github.com/spf13/cobra", "gopkg.in/yaml.v3"];
    check(&report, "server", &used.map(|module| (module, "used")));
    check(&report, "server", &[(NOT_LINKED, "unused")]);
    // The other program was not run.
    check(&report, "tool", &[("stdlib", "unused"), ("github.com/google/uuid", "unused")]);
}

#[test]
fn a_run_tells_linked_from_unlinked_modules_by_hooks() {
    let Some(world) = World::new() else { return };
    let report = world.run(&["--no-ebpf"], "./tool");
    check(&report, "tool", &[("github.com/google/uuid", "used"), (NOT_LINKED, "unused")]);
    // No hook can establish that a static program did not run.
    check(&report, "server", &[("github.com/spf13/cobra", "not_measured")]);
    let report = world.run(&["--no-ebpf"], "./server");
    check(&report, "server", &[("github.com/spf13/cobra", "used"), (NOT_LINKED, "not_measured")]);
}

/// An advisory of everything below version 99 of a module, in one of its packages.
fn advisory(id: &str, module: &str, import: &str) -> (String, String) {
    let record = serde_json::json!({
        "id": id, "modified": "2024-01-01T00:00:00Z", "summary": "x",
        "affected": [{
            "package": {"ecosystem": "Go", "name": module},
            "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "99.0.0"}]}],
            "ecosystem_specific": {"imports": [{"path": import, "symbols": ["F"]}]},
        }],
    });
    (format!("{id}.json"), record.to_string())
}

/// A finding whose affected packages are not in the program says so, wherever it is shown, and is shown all the same.
#[test]
fn findings_say_whether_what_is_affected_is_linked_in() {
    let Some(world) = World::new() else { return };
    let osv = world.directory.path().join("osv/Go");
    std::fs::create_dir_all(&osv).unwrap();
    let mut pack = Command::new("python3");
    pack.args(["-m", "zipfile", "-c", "all.zip"]).current_dir(&osv);
    for (name, text) in [
        advisory("GO-2099-0001", "github.com/spf13/cobra", "github.com/spf13/cobra"),
        advisory("GO-2099-0002", "github.com/spf13/cobra", "github.com/spf13/cobra/doc"),
        advisory("GO-2099-0003", "stdlib", "net/http/cgi"),
        advisory("GO-2099-0004", "stdlib", "net/http"),
    ] {
        std::fs::write(osv.join(&name), text).unwrap();
        pack.arg(name);
    }
    assert!(pack.status().expect("python3 is needed").success());
    let built = world.plimsoll(&["db", "build", osv.parent().unwrap().to_str().unwrap()]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    const NONE: &str = "no function of the affected packages is linked into the program";
    let expect = [
        (
            "github.com/spf13/cobra",
            "GO-2099-0001",
            "functions of github.com/spf13/cobra are linked into the program",
        ),
        ("github.com/spf13/cobra", "GO-2099-0002", NONE),
        ("stdlib", "GO-2099-0003", NONE),
        ("stdlib", "GO-2099-0004", "functions of net/http are linked into the program"),
    ];
    let check = |answer: &Value| {
        for (module, id, text) in expect {
            let packages = answer["packages"].as_array().unwrap().iter();
            let mut here =
                packages.filter(|one| one["name"] == module && one["locations"][0]["path"] == "server");
            let found = here.next().unwrap()["vulnerabilities"].as_array().unwrap();
            let entry =
                found.iter().find(|entry| entry["id"] == id).unwrap_or_else(|| panic!("no {id}: {found:#?}"));
            let reason = entry["match_reason"].as_str().unwrap();
            assert!(reason.ends_with(text), "{id}: {reason}");
        }
    };
    let scan = |options: &[&str]| {
        let output = world.plimsoll(&[&["scan", "-s", "fs"][..], &NAMES, options, &["."]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    check(&serde_json::from_str(&scan(&["-o", "json"])).unwrap());
    let says_so = |text: &str| text.lines().any(|line| line.contains("GO-2099-0002") && line.contains(NONE));
    let table = scan(&["-v"]);
    assert!(says_so(&table), "{table}");
    assert!(!says_so(&scan(&[])));
    let report = |options: &[&str]| {
        let output = world.plimsoll(&[&["report"][..], &NAMES, options].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    check(&serde_json::from_str(&report(&["-o", "json"])).unwrap());
    let table = report(&["-v"]);
    assert!(says_so(&table), "{table}");

    // On a narrow terminal no line is broken by it, and the table is the same otherwise.
    let narrow = support::plimsoll(world.directory.path())
        .args(["report", "-v"])
        .args(NAMES)
        .env("COLUMNS", "60")
        .output()
        .unwrap();
    let narrow = String::from_utf8(narrow.stdout).unwrap();
    let long: Vec<&str> = narrow.lines().filter(|line| line.chars().count() > 60).collect();
    assert!(long.is_empty(), "{long:#?}");
    let words = |text: &str| text.split_whitespace().filter(|word| *word == "GO-2099-0002").count();
    assert_eq!(words(&narrow), words(&table));
}
