//! Compares the packages of a real application with what npm, pnpm and yarn's Plug'n'Play say of their own trees.
//! Needs node, npm and the registry for the first run; where they are missing the tests say so, except with CI=true.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use support::{cached, files_below, has, listed, owners, run, survey};

/// Debug, semver and lodash stand in two versions each, lodash under another name; with scopes, type declarations, data
/// and a native program.
const APPLICATION: &str = r#"{"name":"app","version":"1.0.0","private":true,"dependencies":{
    "@babel/core":"7.23.5","@types/node":"20.10.4","axios":"1.6.2","chalk":"4.1.2","commander":"11.1.0",
    "date-fns":"2.30.0","debug":"4.3.4","esbuild":"0.19.9","express":"4.18.2","lodash":"4.17.21",
    "lodash3":"npm:lodash@3.10.1","mime-db":"1.52.0","react":"18.2.0","react-dom":"18.2.0","semver":"7.5.4",
    "uuid":"9.0.1","ws":"8.14.2","yargs":"17.7.2"}}"#;
const PNPM: &str = "pnpm@9.15.0";
const YARN: &str = "@yarnpkg/cli-dist@4.5.3";

fn npm(directory: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("npm");
    run(command.current_dir(directory).args(arguments).env("NPM_CONFIG_UPDATE_NOTIFIER", "false"))
}

fn install(directory: &Path, package: &str) -> Result<(), String> {
    let flags = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", "."];
    npm(directory, &[&flags[..], &[package]].concat()).map(drop)
}

/// Name, version and directory of each package, one per line.
fn lines(text: &str) -> BTreeSet<String> {
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Every file belongs to the package with the longest directory that it lies in.
fn compare_files(root: &Path, packages: &BTreeSet<String>, modules: &str) {
    let (_, index) = survey(root);
    let by_directory: BTreeMap<&str, String> = packages
        .iter()
        .map(|line| {
            let (rest, directory) = line.rsplit_once(' ').unwrap();
            (directory, rest.to_owned())
        })
        .collect();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for file in files_below(root, &root.join(modules)) {
        let mut up = Path::new(&file);
        let expect = loop {
            let Some(parent) = up.parent() else { break None };
            let directory = parent.to_str().unwrap();
            if let Some(package) = by_directory.get(directory) {
                break Some(package);
            }
            if parent.file_name().is_none_or(|name| name == "node_modules" || name == ".bin") {
                break None;
            }
            up = parent;
        };
        // Links to programs and the notes of package managers are not compared.
        let Some(expect) = expect else { continue };
        compared += 1;
        let found = owners(&index, "npm", &file);
        if found != [expect.as_str()] {
            wrong.push(format!("{file}: {found:?}, but it is {expect}'s"));
        }
    }
    println!("{} packages, {compared} files", packages.len());
    assert!(
        compared > 1_000 && wrong.is_empty(),
        "{} of {compared}:\n{:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(9)]
    );
}

#[test]
fn npm_says_the_same() {
    if !has("npm", "--version") {
        return;
    }
    let Some(root) = cached("catalog-npm-1", |folder| {
        fs::write(folder.join("package.json"), APPLICATION).map_err(|error| error.to_string())?;
        npm(folder, &["install", "--no-audit", "--no-fund", "--ignore-scripts"]).map(drop)
    }) else {
        return;
    };
    let said = npm(&root, &["query", "*"]).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let expect: BTreeSet<String> = said
        .as_array()
        .unwrap()
        .iter()
        .map(|node| ["name", "version", "location"].map(|field| node[field].as_str().unwrap_or_default()))
        .filter(|[_, _, location]| !location.is_empty())
        .map(|fields| fields.join(" "))
        .collect();
    let (outcome, _) = survey(&root);
    assert_eq!(listed(&outcome, "npm"), expect);
    assert_eq!(outcome.warnings, []);
    compare_files(&root, &expect, "node_modules");
    let package = |name: &str| outcome.packages.iter().find(|package| package.name == name).unwrap();
    assert_eq!(package("express").installer, "npm");
    assert_eq!(package("express").observable_by, ["ebpf-files", "node-module"]);
    assert!(package("@types/node").not_measurable_reason.contains("type declarations"));
    assert_eq!(package("@esbuild/linux-x64").observable_by, ["ebpf-files"]);
}

#[test]
fn pnpm_says_the_same() {
    if !has("npm", "--version") {
        return;
    }
    let Some(root) = cached("catalog-pnpm-1", |folder| {
        let tool = folder.join("tool");
        fs::create_dir(&tool).map_err(|error| error.to_string())?;
        install(&tool, PNPM)?;
        let application = folder.join("app");
        fs::create_dir(&application).map_err(|error| error.to_string())?;
        fs::write(application.join("package.json"), APPLICATION).map_err(|error| error.to_string())?;
        let mut command = Command::new("node");
        command.arg(tool.join("node_modules/pnpm/bin/pnpm.cjs")).current_dir(&application);
        command.args(["install", "--ignore-scripts", "--store-dir", "../store"]);
        run(&mut command).map(drop)
    }) else {
        return;
    };
    // Node.js itself finds where each package of pnpm's list really stands.
    let script = r#"
const fs = require("fs"), path = require("path");
const root = fs.realpathSync(process.argv[1]), seen = new Set();
function visit(directory) {
  for (const name of fs.readdirSync(directory)) {
    const found = path.join(directory, name);
    if (name.startsWith("@")) { visit(found); continue; }
    if (name.startsWith(".")) { continue; }
    const real = fs.realpathSync(found);
    if (seen.has(real)) { continue; }
    seen.add(real);
    const manifest = JSON.parse(fs.readFileSync(path.join(real, "package.json")));
    console.log(manifest.name, manifest.version, path.relative(root, real));
    visit(real.slice(0, real.lastIndexOf("node_modules") + "node_modules".length));
  }
}
visit(path.join(root, "node_modules"));
"#;
    let root = root.join("app");
    let said = run(Command::new("node").args(["-e", script]).arg(&root)).unwrap();
    let expect = lines(&said);
    let (outcome, index) = survey(&root);
    assert_eq!(listed(&outcome, "npm"), expect);
    compare_files(&root, &expect, "node_modules");
    // As the application spells it, through pnpm's link.
    assert_eq!(owners(&index, "npm", "node_modules/express/index.js"), ["express 4.18.2"]);
    assert_eq!(owners(&index, "npm", "node_modules/lodash3/index.js"), ["lodash 3.10.1"]);
}

#[test]
fn plug_n_play_says_the_same() {
    if !has("npm", "--version") {
        return;
    }
    let Some(root) = cached("catalog-yarn-1", |folder| {
        let tool = folder.join("tool");
        fs::create_dir(&tool).map_err(|error| error.to_string())?;
        install(&tool, YARN)?;
        let application = folder.join("app");
        fs::create_dir(&application).map_err(|error| error.to_string())?;
        fs::write(application.join("package.json"), APPLICATION).map_err(|error| error.to_string())?;
        fs::write(application.join("yarn.lock"), "").map_err(|error| error.to_string())?;
        let registry = npm(folder, &["config", "get", "registry"])?;
        let mut command = Command::new("node");
        command.arg(tool.join("node_modules/@yarnpkg/cli-dist/bin/yarn.js")).arg("install");
        command.current_dir(&application).env("YARN_NPM_REGISTRY_SERVER", registry.trim());
        let settings = ["TELEMETRY", "GLOBAL_CACHE", "IMMUTABLE_INSTALLS", "SCRIPTS"]
            .map(|name| format!("YARN_ENABLE_{name}"));
        run(command.envs(settings.iter().map(|name| (name, "0")))).map(drop)
    }) else {
        return;
    };
    let root = root.join("app");
    let script = r#"
const path = require("path"), root = path.resolve(process.argv[1]);
const pnp = require(path.join(root, ".pnp.cjs"));
pnp.setup();
const fs = require("fs");
for (const locator of pnp.getAllLocators()) {
  if (!locator.name || locator.reference.startsWith("workspace:")) { continue; }
  const { packageLocation } = pnp.getPackageInformation(locator);
  const real = pnp.resolveVirtual(packageLocation) || packageLocation;
  // Named for another platform only.
  if (!fs.existsSync(path.join(real, "package.json"))) { continue; }
  const manifest = JSON.parse(fs.readFileSync(path.join(real, "package.json"), "utf8"));
  const place = path.relative(root, real).replace(".zip/", ".zip!/").replace(/\/$/, "");
  console.log(manifest.name, manifest.version, place);
}
"#;
    let said = run(Command::new("node").args(["-e", script]).arg(&root)).unwrap();
    let (outcome, index) = survey(&root);
    let found = listed(&outcome, "npm");
    assert_eq!(found, lines(&said));
    assert_eq!(outcome.warnings, []);
    for line in &found {
        let (package, place) = line.rsplit_once(' ').unwrap();
        let loaded = format!("{}/index.js", place.replace(".zip!/", ".zip/"));
        assert_eq!(owners(&index, "npm", &loaded), [package], "{loaded}");
    }
    println!("{} packages", found.len());
}
