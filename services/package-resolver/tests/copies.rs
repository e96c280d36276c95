//! Questions about files that were used at a place which no scan lists: what is answered, and what is published.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{IMAGE, OpenRoot, Stage, settle, write};
use plimsoll_schemas::events::PackageOwnership;
use plimsoll_schemas::resolver_protocol::ResolverReply;

const COMPONENT: &str = "component/a/c/1";

fn package(root: &Path, place: &str, name: &str) {
    write(
        root,
        &format!("{place}/{name}/package.json"),
        &format!(r#"{{"name":"{name}","version":"1.0.0"}}"#),
    );
    write(root, &format!("{place}/{name}/index.js"), &format!("// {name} {}", "and more ".repeat(20)));
    write(
        root,
        &format!("{place}/{name}/lib/more.js"),
        &format!("// more {name} {}", "and more ".repeat(20)),
    );
}

fn ask(agent: &mut common::Agent, artifact: &str, paths: &[&str]) -> Vec<PackageOwnership> {
    let paths: Vec<&[u8]> = paths.iter().map(|path| path.as_bytes()).collect();
    agent.ask(artifact, "w", &paths);
    match agent.reply().unwrap() {
        ResolverReply::Ownership { entries, .. } => entries,
        ResolverReply::Failed { reason, .. } => panic!("failed: {reason}"),
    }
}

fn brief(entry: &PackageOwnership) -> String {
    let path = String::from_utf8(entry.path.clone()).unwrap();
    // Behind it stands a digest.
    let path = path.split('#').next().unwrap();
    let owners: Vec<&str> = entry.owners.iter().map(|owner| owner.name.as_str()).collect();
    format!("{} {path} {}", entry.state, owners.join("+"))
}

#[test]
fn a_copy_names_the_packages_that_it_may_be_of() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for name in ["one", "two"] {
        package(root, "app/node_modules", name);
    }
    package(root, "tmp/copy", "one");
    std::fs::copy(root.join("tmp/copy/one/index.js"), root.join("app/node_modules/two/same.js")).unwrap();
    settle();
    let stage = Stage::new();
    let mut agent = stage.agent();
    let (host, app) = (root.to_str().unwrap(), root.join("app"));
    let opened =
        |artifact, root| OpenRoot { artifact, workload: "w", root, component: true, ..OpenRoot::default() };
    agent.open(opened(COMPONENT, app.to_str().unwrap()));
    // Nobody can look at the used file.
    assert_eq!(brief(&ask(&mut agent, COMPONENT, &["?=/tmp/a.js"])[0]), "unresolved ?=/tmp/a.js ");
    agent.open(OpenRoot { component: false, ..opened("host/m", host) });
    let asked = [
        "?=/tmp/copy/one/lib/more.js",
        "?=/tmp/copy/one/index.js",
        "?=/tmp/none.js",
        "?=/app/node_modules/two/lib/more.js",
    ];
    let entries = ask(&mut agent, COMPONENT, &asked);
    let found: Vec<String> = entries.iter().map(brief).collect();
    assert_eq!(
        found,
        [
            "unresolved ?=/pkg:npm/one@1.0.0 one",
            "unresolved ?=/pkg:npm/one@1.0.0 one",
            "unowned ?=/tmp/none.js ",
            // It is that very file.
            "owned node_modules/two/lib/more.js two",
        ]
    );
    assert_eq!(entries[0].path, entries[1].path, "all files of a package are told as one");
    assert_eq!(entries[0].reason, "/tmp/copy/one/lib/more.js was used");
    let published: Vec<String> = stage.published().iter().map(brief).collect();
    assert_eq!(published, ["unresolved ?=/pkg:npm/one@1.0.0 one", "owned node_modules/two/lib/more.js two"]);
}

#[test]
fn what_lies_in_the_place_of_the_images_hides_it() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for root in ["root", "lower"] {
        package(&at(root), "app/node_modules", "one");
    }
    for path in ["srv/tool", "data/tool"] {
        write(&at("root"), path, "a tool");
    }
    write(&at("lower"), "srv/tool", "another tool");
    std::fs::create_dir(at("upper")).unwrap();
    settle();
    let stage = Stage::new();
    let mut agent = stage.agent();
    let text = |name: &str| at(name).to_str().unwrap().to_owned();
    let (root, upper, lower) = (text("root"), text("upper"), text("lower"));
    let upper = Some(upper.as_str());
    agent.open(OpenRoot {
        artifact: IMAGE,
        workload: "w",
        root: &root,
        upper,
        layers: &[&lower],
        component: false,
    });
    let entries = ask(&mut agent, IMAGE, &["?=/srv/tool", "?=/data/tool"]);
    let found: Vec<_> = entries.iter().map(|entry| (brief(entry), entry.drift.as_str())).collect();
    assert_eq!(
        found,
        [("unowned ?=/srv/tool ".to_owned(), "modified"), ("unowned ?=/data/tool ".to_owned(), "unknown")]
    );
    assert!(stage.published().is_empty());
}
