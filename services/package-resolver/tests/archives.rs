//! Places within archives and class directories: owners, class prefixes, and drift of the archive that they lie in.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::path::Path;

use common::{IMAGE, OpenRoot, Stage, brief, settle, write};

/// A fat jar: an application that merged log4j-core, relocated, and carries slf4j-api as a nested jar.
const BOOT: &[u8] = include_bytes!("../../catalog/src/java/fixtures/boot.jar");

fn put(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// The same members with a comment behind them: another file.
fn changed() -> Vec<u8> {
    let mut bytes = BOOT.to_vec();
    let end = bytes.len();
    bytes[end - 2] = 1;
    bytes.push(b'x');
    bytes
}

#[test]
fn places_within_archives_have_owners() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for root in ["lower", "a", "b"] {
        put(&at(root), "srv/app.jar", BOOT);
        put(&at(root), "srv/cut.jar", &BOOT[..700]);
        put(&at(root), "webapps/shop/WEB-INF/classes/com/acme/Shop.class", b"x");
        write(
            &at(root),
            "webapps/shop/META-INF/maven/com.acme/shop/pom.properties",
            "groupId=com.acme\nartifactId=shop\nversion=2\n",
        );
        std::os::unix::fs::symlink("app.jar", at(root).join("srv/current.jar")).unwrap();
    }
    for upper in ["upper-a", "upper-b"] {
        std::fs::create_dir_all(at(upper)).unwrap();
    }
    put(&at("b"), "srv/app.jar", &changed());
    put(&at("upper-b"), "srv/app.jar", &changed());
    put(&at("b"), "srv/new.jar", BOOT);
    put(&at("upper-b"), "srv/new.jar", BOOT);
    for root in ["a", "upper-a"] {
        put(&at(root), "tmp/jetty-1/lib/copy.jar", BOOT);
        put(&at(root), "tmp/cache1.tmp", BOOT);
        put(&at(root), "tmp/unpacked/classes/com/acme/Unpacked.class", b"x");
        put(&at(root), "srv/classes/com/acme/Late.class", b"x");
    }
    put(&at("lower"), "srv/classes/com/acme/Own.class", b"x");
    put(&at("a"), "srv/classes/com/acme/Own.class", b"x");
    settle();

    let stage = Stage::new();
    let mut agent = stage.agent();
    let text = |name: &str| at(name).to_str().unwrap().to_owned();
    let lower = text("lower");
    for workload in ["a", "b"] {
        let (root, upper) = (text(workload), text(&format!("upper-{workload}")));
        agent.open(OpenRoot {
            artifact: IMAGE,
            workload,
            root: &root,
            upper: Some(&upper),
            layers: &[&lower],
            component: false,
        });
    }
    let nested = "srv/app.jar!/BOOT-INF/lib/slf4j-api-1.7.36.jar";
    let asked = [
        "srv/app.jar",
        nested,
        "srv/current.jar!/BOOT-INF/lib/slf4j-api-1.7.36.jar",
        "srv/app.jar!/BOOT-INF/classes",
        "webapps/shop/WEB-INF/classes",
        "srv/gone.jar!/x.jar",
        "srv/cut.jar",
        "tmp/jetty-1/lib/copy.jar!/BOOT-INF/lib/slf4j-api-1.7.36.jar",
        "tmp/jetty-1/lib/gone.jar",
        "tmp/cache1.tmp",
        "tmp/unpacked/classes",
        "srv/classes",
    ];
    let answers = agent.resolve(IMAGE, "a", &asked);
    let found: Vec<String> = answers.iter().map(brief).collect();
    assert_eq!(
        found,
        [
            "owned com.acme:shop@1.0+org.apache.logging.log4j:log4j-core@2.14.1 image unchanged",
            "owned org.slf4j:slf4j-api@1.7.36 image unchanged",
            "owned org.slf4j:slf4j-api@1.7.36 image unchanged",
            "owned com.acme:shop@1.0+org.apache.logging.log4j:log4j-core@2.14.1 image unchanged",
            "owned com.acme:shop@2 image unchanged",
            "unresolved  image new",
            "unresolved  image unchanged",
            // What the container made is listed where it is known by its name; of the rest, it is told that it is new.
            "owned org.slf4j:slf4j-api@1.7.36 sha256 new",
            "unresolved  image new",
            "unowned  sha256 new",
            // Directories: what the container unpacked, and the image's own, to which it added.
            "unowned  image new",
            "unowned  image unknown",
        ]
    );
    let of_java_packages = agent.resolve(
        IMAGE,
        "a",
        &[
            "?!/com/acme/shaded/org/apache/logging/log4j/core",
            "?!/org/slf4j",
            "?!/com/acme",
            "?!/com/nobody",
            "?!/",
            "?/tmp/jetty-*/gone.jar!/org/slf4j",
            "?/tmp/jetty-*/gone.jar!/com/nobody",
            "?@/srv/app.jar!/com/acme",
            "?@/srv/app.jar!/org/slf4j",
            "?@/srv/app.jar!/com/nobody",
            "?@/srv/app.jar!/BOOT-INF/lib/slf4j-api-1.7.36.jar!/org/slf4j",
            "?@/srv/app.jar!/BOOT-INF/lib/slf4j-api-1.7.36.jar!/com/acme",
            "?@/srv/current.jar!/com/nobody",
            "?@/srv/nobodys.jar!/com/acme",
        ],
    );
    let found: Vec<String> = of_java_packages.iter().map(brief).collect();
    assert_eq!(
        found,
        [
            "unresolved org.apache.logging.log4j:log4j-core@2.14.1+org.apache.logging.log4j:log4j-core@2.14.1 image unknown",
            "unresolved org.slf4j:slf4j-api@1.7.36+org.slf4j:slf4j-api@1.7.36+org.slf4j:slf4j-api@1.7.36+org.slf4j:slf4j-api@1.7.36 image unknown",
            "unresolved com.acme:shop@1.0+com.acme:shop@1.0+com.acme:shop@2 image unknown",
            "unowned  image unknown",
            "unowned  image unknown",
            // The same, whatever was copied.
            "unresolved org.slf4j:slf4j-api@1.7.36+org.slf4j:slf4j-api@1.7.36+org.slf4j:slf4j-api@1.7.36+org.slf4j:slf4j-api@1.7.36 image unknown",
            "unowned  image unknown",
            // Whether the archive has it; if nobody knows, as if.
            "owned  image unknown",
            "unowned  image unknown",
            "unowned  image unknown",
            "owned  image unknown",
            "unowned  image unknown",
            "unowned  image unknown",
            "owned  image unknown",
        ]
    );

    let prefixes: Vec<&[String]> =
        answers[0].owners.iter().map(|owner| owner.class_prefixes.as_slice()).collect();
    // The main component gets the rest, and names what is its own beyond doubt.
    let expected = [vec!["", "com.acme."], vec!["com.acme.shaded.org.apache.logging.log4j.core."]];
    assert_eq!(prefixes, expected);
    assert_eq!((answers[1].method.as_str(), answers[1].role.as_str()), ("jar", "code"));

    let changed = agent.one(IMAGE, "b", nested);
    assert_eq!(brief(&changed), "owned org.slf4j:slf4j-api@1.7.36 sha256 modified");
    let digest = plimsoll_schemas::identity::Sha256Digest::of(&self::changed());
    assert_eq!(changed.file_identity, digest.to_string());
    let new = agent.one(IMAGE, "b", "srv/new.jar!/BOOT-INF/lib/slf4j-api-1.7.36.jar");
    assert_eq!(brief(&new), "owned org.slf4j:slf4j-api@1.7.36 sha256 new");
}

/// An OSGi framework installs a bundle from a stream: the archive is new in a directory that was looked at before.
#[test]
fn archives_that_come_later_are_among_those_of_a_java_package() {
    const COMPONENT: &str = "component/a/c/1";
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    put(root, "bundles/shop.jar", BOOT);
    put(root, "cache/bundle1/version0.0/bundle.jar", BOOT);
    settle();
    let stage = Stage::new();
    let mut agent = stage.agent();
    let opened = OpenRoot {
        artifact: COMPONENT,
        workload: "w",
        root: root.to_str().unwrap(),
        component: true,
        ..OpenRoot::default()
    };
    agent.open(opened);
    let owners = |agent: &mut common::Agent| {
        let entry = agent.one(COMPONENT, "w", "?!/com/acme/shaded/org/apache/logging/log4j/core");
        assert_eq!(entry.state, "unresolved");
        entry.owners.len()
    };
    // The directory is written anew meanwhile.
    std::fs::remove_dir_all(root.join("cache")).unwrap();
    assert!(brief(&agent.one(COMPONENT, "w", "bundles/shop.jar")).starts_with("owned "));
    assert_eq!(owners(&mut agent), 1);
    put(root, "cache/bundle1/version0.0/bundle.jar", BOOT);
    settle();
    assert_eq!(owners(&mut agent), 2);
    put(root, "cache/bundle2/version0.0/bundle.jar", BOOT);
    settle();
    assert_eq!(owners(&mut agent), 3);
    // What is published says the same.
    assert_eq!(stage.published().last().unwrap().owners.len(), 3);
    // Questions about files alone build none.
    let builds = stage.metric("index_builds_total");
    assert!(builds >= 3.0, "{builds}");
    agent.one(COMPONENT, "w", "bundles/shop.jar");
    assert_eq!(stage.metric("index_builds_total"), builds);
}
