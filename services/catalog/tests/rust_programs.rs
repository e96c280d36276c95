//! Compares the crates of a real program, stripped too, with `cargo metadata`. cargo-auditable's section is made here,
//! as its format page says: installing that tool would cost more than all other tests of this crate.
//! Needs rustc, cargo and objcopy; without them the test says so and passes, except with CI=true.

// A test may fail by panicking and says on its output what it left out.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use flate2::Compression;
use flate2::write::ZlibEncoder;
use plimsoll_catalog::{DirectoryOptions, DirectoryTree};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::Command;

const ROOT: &str = "plimsoll-catalog";

/// The output of a tool; `None`, said on the output, where it is missing.
fn tool(name: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    match Command::new(name).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output() {
        Ok(output) if output.status.success() => Some(output.stdout),
        other => {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must have {name}: {other:?}");
            println!("skipped: {name} does not work here");
            None
        }
    }
}

/// The list that cargo-auditable would make of this crate, and the crates that end up in a program.
fn list(metadata: &Value) -> (Value, BTreeSet<(String, String)>) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages: BTreeMap<String, &Value> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (text(&package["id"]), package))
        .collect();
    let nodes: BTreeMap<String, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (text(&node["id"]), node))
        .collect();
    let is_macro = |id: &str| {
        let mut targets = packages[id]["targets"].as_array().unwrap().iter();
        targets.any(|target| target["kind"][0] == "proc-macro")
    };
    // Dependencies of one crate: id, and whether they are part of the program.
    let edges = |id: &str| -> Vec<(String, bool)> {
        let mut out = Vec::new();
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let to = text(&dependency["pkg"]);
            for kind in dependency["dep_kinds"].as_array().unwrap() {
                match kind["kind"].as_str() {
                    None => out.push((to.clone(), !is_macro(&to))),
                    Some("build") => out.push((to.clone(), false)),
                    _ => {}
                }
            }
        }
        out
    };
    let root = packages.iter().find(|(_, package)| package["name"] == ROOT).unwrap().0.clone();
    let mut runtime = BTreeSet::new();
    let mut all = BTreeSet::new();
    let mut pending = vec![(root.clone(), true)];
    while let Some((id, is_runtime)) = pending.pop() {
        let is_new = all.insert(id.clone());
        if (is_runtime && runtime.insert(id.clone())) || is_new {
            pending.extend(edges(&id).into_iter().map(|(to, part)| (to, part && is_runtime)));
        }
    }
    let order: Vec<&String> = all.iter().collect();
    let listed: Vec<Value> = order
        .iter()
        .map(|id| {
            let dependencies: BTreeSet<usize> =
                edges(id).iter().filter_map(|(to, _)| order.iter().position(|other| *other == to)).collect();
            let mut one = json!({
                "name": packages[*id]["name"],
                "version": packages[*id]["version"],
                "source": if packages[*id]["source"].is_null() { "local" } else { "crates.io" },
                "dependencies": dependencies,
            });
            if !runtime.contains(*id) {
                one["kind"] = "build".into();
            }
            if **id == root {
                one["root"] = true.into();
            }
            one
        })
        .collect();
    let in_program = runtime.iter().map(|id| (text(&packages[id]["name"]), text(&packages[id]["version"])));
    (json!({ "packages": listed }), in_program.collect())
}

fn build(directory: &Path, list: &Value) -> Option<()> {
    let (source, program, section) =
        (directory.join("main.rs"), directory.join("audited"), directory.join("section"));
    std::fs::write(&source, "fn main() {}\n").unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    tool("rustc", &["-o", &path(&program), &path(&source)])?;
    std::fs::copy(&program, directory.join("plain")).unwrap();
    let mut encoder = ZlibEncoder::new(std::fs::File::create(&section).unwrap(), Compression::best());
    encoder.write_all(list.to_string().as_bytes()).unwrap();
    encoder.finish().unwrap();
    let added = format!(".dep-v0={}", path(&section));
    let flags = "--set-section-flags=.dep-v0=contents,alloc,readonly";
    tool("objcopy", &["--add-section", &added, flags, &path(&program)])?;
    tool("objcopy", &["--strip-all", &path(&program), &path(&directory.join("stripped"))])?;
    Some(())
}

#[test]
fn crates_are_what_cargo_says() {
    let arguments =
        ["metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"];
    let Some(metadata) = tool("cargo", &arguments) else { return };
    let (list, expect) = list(&serde_json::from_slice(&metadata).unwrap());
    let count = list["packages"].as_array().unwrap().len();
    assert!(expect.len() > 15 && count > expect.len(), "{} of {count} crates", expect.len());
    let directory = tempfile::tempdir().unwrap();
    if build(directory.path(), &list).is_none() {
        return;
    }
    let tree = DirectoryTree::open(directory.path(), DirectoryOptions::default()).unwrap();
    let (outcome, index) = plimsoll_catalog::catalog_with_ownership(&tree);
    for name in ["audited", "stripped"] {
        let here = outcome.packages.iter().filter(|package| package.locations[0].path == name.as_bytes());
        let found: BTreeSet<(String, String)> =
            here.map(|package| (package.name.clone(), package.version.clone())).collect();
        assert_eq!(found, expect, "{name}");
        assert_eq!(index.lookup(name.as_bytes()).unwrap().owners.len(), expect.len(), "{name}");
    }
    assert!(index.lookup(b"plain").is_none());
    let warnings: Vec<(&str, &str)> =
        outcome.warnings.iter().map(|warning| (warning.code, warning.subject.as_str())).collect();
    assert_eq!(warnings, [("rust-without-crate-list", "plain")]);
}
