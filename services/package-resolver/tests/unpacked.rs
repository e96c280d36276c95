//! Archives that an application unpacks from the artifact's archives after its start, and places in the virtual file system
//! of JBoss: they are what they were unpacked from.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use plimsoll_schemas::identity::package_id;

use common::{Agent, OpenRoot, Stage, brief, settle, zip};

const COMPONENT: &str = "component/a/b/1";
const HOST: &str = "host/m";

/// An archive of one component with one class.
fn library(name: &str) -> Vec<u8> {
    let pom = format!("groupId=org.{name}\nartifactId={name}\nversion=1\n");
    zip(&[
        (&format!("META-INF/maven/org.{name}/{name}/pom.properties"), pom.as_bytes()),
        (&format!("org/{name}/Thing.class"), b"class"),
    ])
}

fn put(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn war(libraries: &[&str]) -> Vec<u8> {
    let members: Vec<(String, Vec<u8>)> =
        libraries.iter().map(|name| (format!("WEB-INF/lib/{name}.jar"), library(name))).collect();
    let mut members: Vec<(&str, &[u8])> =
        members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    members.push(("WEB-INF/classes/com/acme/Shop.class", b"class"));
    zip(&members)
}

#[track_caller]
fn check(agent: &mut Agent, artifact: &str, cases: &[(&str, &str, &str)]) {
    let asked: Vec<&str> = cases.iter().map(|(path, ..)| *path).collect();
    let answers = agent.resolve(artifact, "w", &asked);
    for ((asked, path, owners), answer) in cases.iter().zip(&answers) {
        let found = (String::from_utf8_lossy(&answer.path).into_owned(), brief(answer));
        assert_eq!((found.0.as_str(), found.1.as_str()), (*path, *owners), "{asked}: {answer:?}");
    }
}

#[test]
fn what_was_unpacked_since_the_start_is_the_archives_own() {
    let directory = tempfile::tempdir().unwrap();
    let host = directory.path();
    let app = host.join("app");
    put(&app, "webapps/one.war", &war(&["shared", "alone"]));
    put(&app, "webapps/two.war", &war(&["shared"]));
    put(&app, "lib/loader.jar", &zip(&[("inner.jar", &library("inner")), ("a/B.class", b"class")]));
    // Those were there before: a scan may list the one, and the other is no copy of this component's.
    put(&app, "old/inner.jar", &library("inner"));
    put(host, "tmp/old.jar", &library("inner"));
    let content = "standalone/data/content/59/e8f15002bc46b3c5cba8fa052a151d11de78c2/content";
    put(&app, content, &war(&["managed"]));
    settle();
    let stage = Stage::new();
    let mut agent = stage.agent();
    let (app_root, host_root) = (app.to_str().unwrap(), host.to_str().unwrap());
    for (artifact, root, component) in [(COMPONENT, app_root, true), (HOST, host_root, false)] {
        agent.open(OpenRoot { artifact, workload: "w", root, component, ..OpenRoot::default() });
        agent.resolve(artifact, "w", &["old/inner.jar"]);
    }
    settle();
    for (path, name) in [
        ("webapps/one/WEB-INF/lib/shared.jar", "shared"),
        ("tmp/vfs/alone.jar-1f/alone.jar", "alone"),
        ("tmp/shared.jar", "shared"),
        ("tmp/other.jar", "other"),
    ] {
        put(&app, path, &library(name));
    }
    let copy = "standalone/data/content/60/e8f15002bc46b3c5cba8fa052a151d11de78c2/content";
    put(&app, copy, &war(&["shared", "alone"]));
    put(&app, "webapps/one/WEB-INF/classes/com/acme/Shop.class", b"class");
    for (path, name) in
        [("tmp/inner_0f.jar", "inner"), ("tmp/shared.tmp", "shared"), ("tmp/other.jar", "other")]
    {
        put(host, path, &library(name));
    }
    let own = |path, owners| (path, path, owners);
    check(
        &mut agent,
        COMPONENT,
        &[
            // With the copy itself, which a scan of now lists.
            own(
                "webapps/one/WEB-INF/lib/shared.jar",
                "owned org.shared:shared@1+org.shared:shared@1 image unknown",
            ),
            own("tmp/vfs/alone.jar-1f/alone.jar", "owned org.alone:alone@1+org.alone:alone@1 image unknown"),
            own("webapps/one/WEB-INF/classes/com/acme/Shop.class", "owned com.acme:one@ image unknown"),
            own("webapps/one/WEB-INF/classes", "owned com.acme:one@ image unknown"),
            // A server's own copy of a deployment.
            own(copy, "owned com.acme:one@+com.acme:one@ image unknown"),
            // Of both.
            own(
                "tmp/shared.jar",
                "owned org.shared:shared@1+org.shared:shared@1+org.shared:shared@1 image unknown",
            ),
            // Its package is found once the directory is looked at again.
            own("tmp/other.jar", "unresolved  image unknown"),
            own("old/inner.jar", "owned org.inner:inner@1 image unknown"),
            ("?#/tmp/inner_0f.jar", "lib/loader.jar!/inner.jar", "owned org.inner:inner@1 image unknown"),
            (
                "?#/tmp/shared.tmp",
                "webapps/one.war!/WEB-INF/lib/shared.jar",
                "owned org.shared:shared@1+org.shared:shared@1 sha256 unknown",
            ),
            own("?#/tmp/other.jar", "unowned  image unknown"),
            own("?#/tmp/old.jar", "unowned  image unknown"),
            own("?#/tmp/gone.jar", "unowned  image unknown"),
        ],
    );
    let answers = agent.resolve(
        COMPONENT,
        "w",
        &[
            "webapps/one/WEB-INF/lib/shared.jar",
            "webapps/one.war!/WEB-INF/lib/shared.jar",
            "old/inner.jar",
            "lib/loader.jar!/inner.jar",
        ],
    );
    let ids: Vec<Vec<&str>> = answers
        .iter()
        .map(|answer| answer.owners.iter().map(|owner| owner.package_id.as_str()).collect())
        .collect();
    let listed = package_id("pkg:maven/org.shared/shared@1", Some(b"webapps/one/WEB-INF/lib/shared.jar"));
    assert_eq!(ids[0], [ids[1][0], &listed]);
    assert_ne!(ids[2], ids[3]);
    // A package of the host is none of these, once the host's packages are looked at again.
    let deadline = std::time::Instant::now() + common::SOON;
    while agent.one(HOST, "w", "tmp/other.jar").owners.is_empty() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    check(
        &mut agent,
        HOST,
        &[
            own("tmp/inner_0f.jar", "unowned  image unknown"),
            own("tmp/other.jar", "owned org.other:other@1 image unknown"),
            own("tmp/old.jar", "owned org.inner:inner@1 image unknown"),
        ],
    );
}

#[test]
fn places_of_the_virtual_file_system_are_those_of_deployments() {
    let directory = tempfile::tempdir().unwrap();
    let app = directory.path().join("app");
    let content = |number: u32| format!("standalone/data/content/59/{number:038x}/content");
    let one = war(&["shared", "alone"]);
    put(&app, "standalone/deployments/one.war", &one);
    put(&app, "standalone/deployments/two.war", &war(&["shared"]));
    put(&app, "standalone/deployments/ejb.jar", &library("ejb"));
    put(&app, "standalone/deployments/open.war/WEB-INF/lib/open.jar", &library("open"));
    put(&app, "standalone/deployments/all.ear", &zip(&[("web.war", &war(&["deep"]))]));
    // The server's own copy, and what was given to it otherwise.
    put(&app, &content(1), &one);
    put(&app, &content(2), &war(&["shared", "managed"]));
    put(&app, &content(3), &war(&["twice"]));
    put(&app, &content(4), &war(&["twice", "managed2"]));
    put(&app, &content(5), b"no archive");
    settle();
    let stage = Stage::new();
    let mut agent = stage.agent();
    let root = app.to_str().unwrap();
    agent.open(OpenRoot { artifact: COMPONENT, workload: "w", root, component: true, ..OpenRoot::default() });
    let nowhere = |path| (path, path, "unowned  image unknown");
    check(
        &mut agent,
        COMPONENT,
        &[
            (
                "?#/vfs:/content/two.war/WEB-INF/lib/shared.jar",
                "standalone/deployments/two.war!/WEB-INF/lib/shared.jar",
                "owned org.shared:shared@1 image unknown",
            ),
            (
                "?#/vfs:/content/one.war/WEB-INF/lib/alone.jar",
                &format!("{}!/WEB-INF/lib/alone.jar", content(1)),
                "owned org.alone:alone@1+org.alone:alone@1 sha256 unknown",
            ),
            (
                "?#/vfs:/content/two.war/WEB-INF/classes",
                "standalone/deployments/two.war!/WEB-INF/classes",
                "owned com.acme:two@ image unknown",
            ),
            (
                "?#/vfs:/content/ejb.jar",
                "standalone/deployments/ejb.jar",
                "owned org.ejb:ejb@1 image unknown",
            ),
            (
                "?#/vfs:/content/open.war/WEB-INF/lib/open.jar",
                "standalone/deployments/open.war/WEB-INF/lib/open.jar",
                "owned org.open:open@1 image unknown",
            ),
            (
                "?#/vfs:/content/all.ear/web.war/WEB-INF/lib/deep.jar",
                "standalone/deployments/all.ear!/web.war!/WEB-INF/lib/deep.jar",
                "owned org.deep:deep@1 image unknown",
            ),
            (
                "?#/vfs:/content/given.war/WEB-INF/lib/managed.jar",
                &format!("{}!/WEB-INF/lib/managed.jar", content(2)),
                "owned org.managed:managed@1 image unknown",
            ),
            (
                "?#/vfs:/content/given.war/WEB-INF/lib/twice.jar",
                &format!("{}!/WEB-INF/lib/twice.jar", content(3)),
                "owned org.twice:twice@1+org.twice:twice@1 sha256 unknown",
            ),
            nowhere("?#/vfs:/content/one.war/WEB-INF/lib/none.jar"),
            nowhere("?#/vfs:/content"),
        ],
    );
}
