//! The laws of the layout (infra/adr and CONTRIBUTING.md name them), read from `cargo metadata` and git.
//! A law that must be broken is changed here, with its reason, in the same commit.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Long-running programs; what they share lives in kit, schemas, catalog and vulndb.
const SERVICES: [&str; 6] = [
    "plimsoll-scanner",
    "plimsoll-package-resolver",
    "plimsoll-correlator",
    "plimsoll-sink",
    "plimsoll-portal",
    "plimsoll-runtime-agent",
];
/// Compose the services: the local mode, and the load generator with its oracle.
const COMPOSERS: [&str; 2] = ["plimsoll-cli", "plimsoll-loadtest"];
const MAIN_LIMIT_LINES: usize = 100;

struct Member {
    name: String,
    manifest: PathBuf,
    /// Of every kind: normal, build and test.
    dependencies: Vec<String>,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

fn output(command: &mut Command) -> (bool, String) {
    let output = command.current_dir(workspace()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn members() -> Vec<Member> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let (ok, text) = output(Command::new(cargo).args(["metadata", "--no-deps", "--format-version", "1"]));
    assert!(ok, "cargo metadata failed");
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| Member {
            name: text(&package["name"]),
            manifest: text(&package["manifest_path"]).into(),
            dependencies: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .map(|d| text(&d["name"]))
                .collect(),
        })
        .collect()
}

/// Pairs "importer imports dependency" that the rule forbids.
fn offences(forbidden: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let members = members();
    assert!(members.len() > SERVICES.len(), "cargo metadata lists the workspace");
    let pairs = members.iter().flat_map(|m| m.dependencies.iter().map(|d| (m.name.as_str(), d.as_str())));
    pairs
        .filter(|(importer, dependency)| forbidden(importer, dependency))
        .map(|(i, d)| format!("{i} imports {d}"))
        .collect()
}

fn none(offences: Vec<String>, law: &str) {
    assert!(offences.is_empty(), "{law}, but:\n  {}", offences.join("\n  "));
}

#[test]
fn every_service_is_a_member() {
    let members = members();
    for name in SERVICES.iter().chain(&COMPOSERS) {
        assert!(
            members.iter().any(|member| member.name == *name),
            "{name} is gone: change this test with it"
        );
    }
}

#[test]
fn services_do_not_import_one_another() {
    let found = offences(|importer, dependency| {
        SERVICES.contains(&dependency) && importer != dependency && !COMPOSERS.contains(&importer)
    });
    none(found, "only cli and loadtest may import services");
}

#[test]
fn only_kit_imports_rdkafka() {
    let found = offences(|importer, dependency| {
        ["rdkafka", "rdkafka-sys"].contains(&dependency) && importer != "plimsoll-kit"
    });
    none(found, "only kit imports rdkafka");
}

#[test]
fn only_sink_portal_and_loadtest_import_clickhouse() {
    let allowed = ["plimsoll-sink", "plimsoll-portal", "plimsoll-loadtest"];
    let found = offences(|importer, dependency| dependency == "clickhouse" && !allowed.contains(&importer));
    none(found, "only sink, portal and loadtest import clickhouse");
}

#[test]
fn schemas_import_nothing_of_ours() {
    let found = offences(|importer, dependency| {
        importer == "plimsoll-schemas" && dependency.starts_with("plimsoll-")
    });
    none(found, "schemas is the bottom of the tree");
}

#[test]
fn the_correlators_core_is_pure() {
    let found = offences(|importer, dependency| {
        let input_output = ["tokio", "rdkafka", "plimsoll-kit", "fjall", "axum", "ureq"];
        importer == "plimsoll-correlator-core" && input_output.contains(&dependency)
    });
    none(found, "correlator/core has no clock, input or output");
}

#[test]
fn xtask_builds_without_the_product() {
    let found = offences(|importer, dependency| importer == "xtask" && dependency.starts_with("plimsoll-"));
    none(found, "xtask stays quick to build");
}

#[test]
fn main_is_wiring() {
    let mut long = Vec::new();
    for member in members() {
        let main = member.manifest.with_file_name("src").join("main.rs");
        let Ok(text) = std::fs::read_to_string(&main) else { continue };
        let lines = text.lines().count();
        if lines > MAIN_LIMIT_LINES {
            long.push(format!("{} has {lines}", main.display()));
        }
    }
    none(long, "a main.rs has at most 100 lines");
}

#[test]
fn committed_files_name_no_machine_and_no_registry_host() {
    // Joined, so that this file does not match itself. A path must begin a word: /proc/1/root/etc is none;
    // paths below /home are what examples are made of.
    let paths = ["work", "root"].map(|directory| format!("(^|[ \"'`=(<>])/{directory}/"));
    let hosts = [
        ["registry", "npmjs", "org"],
        ["repo1", "maven", "org"],
        ["maven", "apache", "org"],
        ["files", "pythonhosted", "org"],
        ["proxy", "golang", "org"],
        ["deb", "debian", "org"],
        ["security", "debian", "org"],
        ["static", "crates", "io"],
        ["index", "crates", "io"],
    ]
    .map(|parts| parts.join("\\."));
    let pattern = paths.iter().chain(&hosts).map(String::as_str).collect::<Vec<_>>().join("|");
    // The pom's name space is a name, not a place that anything is loaded from.
    let name_space = format!("http://{}/POM/", ["maven", "apache", "org"].join("."));
    let (_, text) = output(Command::new("git").args([
        "grep",
        "-I",
        "-n",
        "-E",
        &pattern,
        "--",
        ":!Cargo.lock",
        ":!LICENSE",
    ]));
    let found = text.lines().filter(|line| !line.contains(&name_space)).map(str::to_owned).collect();
    none(found, "a committed file works on every machine and with every registry");
}
