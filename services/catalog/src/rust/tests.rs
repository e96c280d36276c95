use crate::binary::testing::Shape;
use crate::ownership::OwnershipIndex;
use crate::testing::{Node, catalog, owners, package, tree};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::io::Write;

fn program(sections: &[(&str, &[u8])]) -> Vec<u8> {
    Shape::USUAL.program(sections)
}

fn compressed(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn audited(list: &[u8]) -> Vec<u8> {
    program(&[(".dep-v0", &compressed(list))])
}

const LIST: &[u8] = br#"{"packages":[
    {"name":"app","version":"1.0.0","source":"local","dependencies":[1,2],"root":true},
    {"name":"serde","version":"1.0.210","source":"crates.io","dependencies":[]},
    {"name":"cc","version":"1.1.0","source":"crates.io","kind":"build"}]}"#;
const LOCK: &[u8] = b"version = 4\n\n[[package]]\nname = \"app\"\nversion = \"1.0.0\"\ndependencies = [\n \"serde\",\n \"x 1.0.0 (registry+y)\",\n]\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.210\"\nsource = \"registry+x\"\nchecksum = \"00\"\n";

#[test]
fn crates_of_an_audited_program_own_it_but_not_what_only_the_build_needed() {
    let tree = tree(&[("usr/bin/app", Node::File(&audited(LIST)))]);
    let outcome = catalog(&tree);
    let names: Vec<&str> = outcome.packages.iter().map(|package| package.purl.as_str()).collect();
    assert_eq!(names, ["pkg:cargo/app@1.0.0", "pkg:cargo/serde@1.0.210"]);
    assert_eq!(outcome.warnings, []);
    let app = package(&outcome, "app");
    assert_eq!(app.dependencies, ["cc", "serde"]);
    assert_eq!(app.observable_by, ["ebpf-files"]);
    let index = OwnershipIndex::build(&tree);
    assert_eq!(owners(&index, "usr/bin/app"), "app,serde cargo-auditable code");
}

#[track_caller]
fn check_warning(program: &[u8], expect: &str) {
    let outcome = catalog(&tree(&[("app", Node::File(program))]));
    let codes: Vec<&str> = outcome.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!((codes.join(","), outcome.packages.len()), (expect.to_owned(), 0));
    assert!(outcome.warnings.iter().all(|warning| warning.subject == "app"));
}

#[test]
fn the_fixture_is_an_audited_program() {
    let outcome = catalog(&tree(&[("app", Node::File(include_bytes!("fixtures/audited.elf")))]));
    assert_eq!(outcome.packages.len(), 2);
}

#[test]
fn what_cannot_be_read_is_said() {
    check_warning(&program(&[(".dep-v0", b"no zlib")]), "rust-crate-list-damaged");
    check_warning(&program(&[(".dep-v0", b"x\x9c")]), "rust-crate-list-damaged");
    check_warning(&audited(b"[]"), "rust-crate-list-damaged");
    check_warning(&audited(&b"[".repeat(100_000)), "rust-crate-list-damaged");
    check_warning(&audited(&vec![b' '; 200 << 20]), "rust-crate-list-too-long");
    check_warning(&program(&[(".comment", b"rustc version 1.95.0\0")]), "rust-without-crate-list");
    check_warning(&program(&[(".comment", b"GCC: 12\0")]), "");
}

#[track_caller]
fn check_lock(nodes: &[(&str, Node<'_>)], expect: &[&str]) {
    let outcome = catalog(&tree(nodes));
    let found: Vec<String> = outcome
        .packages
        .iter()
        .map(|package| {
            let place = String::from_utf8_lossy(&package.locations[0].path).into_owned();
            let measured = if package.not_measurable_reason.is_empty() { "" } else { " not measurable" };
            format!("{} {place}{measured}", package.name)
        })
        .collect();
    assert_eq!(found, expect);
}

#[test]
fn a_lock_declares_unless_the_program_speaks_for_itself() {
    let lock = || Node::File(LOCK);
    check_lock(
        &[("app/Cargo.lock", lock())],
        &["app app/Cargo.lock not measurable", "serde app/Cargo.lock not measurable"],
    );
    check_lock(
        &[("app/Cargo.lock", lock()), ("app/target/app", Node::File(&audited(LIST)))],
        &["app app/target/app", "serde app/target/app"],
    );
    check_lock(&[("r/serde-1/Cargo.lock", lock()), ("r/serde-1/.cargo-ok", Node::File(b""))], &[]);
    check_lock(&[("app/Cargo.lock", Node::File(b"[[package]]\nname = 3\n"))], &[]);
    check_lock(&[("app/Cargo.lock", Node::File(b"\xff\xfe"))], &[]);
}

#[test]
fn a_program_of_the_distribution_is_its_package_and_its_crates() {
    let status = b"Package: tool\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0-1\n";
    let program = audited(LIST);
    let tree = tree(&[
        ("usr/bin/app", Node::File(&program)),
        ("bin", Node::Link("usr/bin")),
        ("var/lib/dpkg/status", Node::File(status)),
        ("var/lib/dpkg/info/tool.list", Node::File(b"/.\n/bin\n/bin/app\n")),
    ]);
    let outcome = catalog(&tree);
    let carrier = package(&outcome, "tool").package_id.clone();
    assert_eq!(package(&outcome, "serde").provided_by, carrier);
    assert_eq!(package(&outcome, "serde").provided_by_name, "tool");
    let index = OwnershipIndex::build(&tree);
    assert_eq!(owners(&index, "usr/bin/app"), "tool,app,serde dpkg code");
}
