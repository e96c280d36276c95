//! What jlink links into a runtime image, and what `.jmod` files hold, made by the JDK's own tools.
//! Needs a JDK and the cache of `cargo xtask test`; where these are missing the tests say so, except with CI=true.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::path::Path;
use support::java::{has_jdk, kafka, tool};
use support::survey;

/// A modular jar of Maven Central: with `module-info.class` and `pom.properties`.
const JACKSON: &str = "jackson-core-2.21.7.jar";

/// Compiles the module of an application and packs it, with a version, as `app.jar`.
fn application(directory: &Path, modules: &Path) {
    let sources = directory.join("src/com/acme/app");
    std::fs::create_dir_all(&sources).unwrap();
    let info = "module com.acme.app { requires com.fasterxml.jackson.core; }";
    std::fs::write(directory.join("src/module-info.java"), info).unwrap();
    std::fs::write(
        sources.join("Main.java"),
        "package com.acme.app; public class Main { public static void main(String[] arguments) {\n\
         System.out.print(new com.fasterxml.jackson.core.JsonFactory().version()); } }",
    )
    .unwrap();
    let path = modules.to_str().unwrap();
    let files = ["src/module-info.java", "src/com/acme/app/Main.java"];
    tool("javac", directory, &["-p", path, "-d", "out", files[0], files[1]]);
    let jar = modules.join("app.jar");
    let version = ["--module-version", "3.2.1", "-C", "out", "."];
    tool("jar", directory, &[&["--create", "--file", jar.to_str().unwrap()], &version[..]].concat());
}

/// `purl place by reason: why not measurable` of each package, and the warnings.
fn listed(root: &Path) -> Vec<String> {
    let (outcome, index) = survey(root);
    let packages = outcome.packages.iter().map(|package| {
        let place = package.locations[0].identity_bytes();
        let owners = index.lookup(&place).unwrap().owners;
        let is_own = owners.iter().any(|owner| owner.package.package_id == package.package_id);
        assert!(is_own, "{} owns not {}", package.purl, String::from_utf8_lossy(&place));
        let reason = &package.not_measurable_reason;
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        format!("{} {} by {}{reason}", package.purl, String::from_utf8_lossy(&place), package.identified_by)
    });
    packages.chain(outcome.warnings.iter().map(ToString::to_string)).collect()
}

#[test]
fn modules_that_jlink_linked_in_are_listed_and_own_their_classes() {
    let (Some(jars), true) = (kafka(), has_jdk()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let modules = directory.path().join("modules");
    std::fs::create_dir(&modules).unwrap();
    std::fs::copy(jars.join(JACKSON), modules.join(JACKSON)).unwrap();
    application(directory.path(), &modules);
    let root = directory.path().join("root");
    let image = root.join("opt/app");
    std::fs::create_dir_all(root.join("opt")).unwrap();
    let path = modules.to_str().unwrap();
    // One of the files that tell what a module is, compressed; the others as they are.
    let compressed = "--compress=2:filter=**/pom.properties";
    let to = image.to_str().unwrap();
    let arguments = ["-p", path, "--add-modules", "com.acme.app", compressed, "--output", to];
    tool("jlink", directory.path(), &arguments);
    let java = std::process::Command::new(image.join("bin/java"))
        .args(["-m", "com.acme.app/com.acme.app.Main"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&java.stdout), "2.21.7", "the image is of no use: {java:?}");

    let version = tool("java", directory.path(), &["--version"]);
    let version = version.split_whitespace().nth(1).unwrap();
    assert_eq!(
        listed(&root),
        [
            format!("pkg:generic/openjdk@{version} opt/app/lib/modules by release file"),
            "pkg:maven/com.acme.app/com.acme.app@3.2.1 opt/app/lib/modules!/com.acme.app by module name"
                .to_owned(),
            "pkg:maven/com.fasterxml.jackson.core/jackson-core@2.21.7 opt/app/lib/modules!/com.fasterxml.jackson.core by pom.properties"
                .to_owned(),
        ]
    );
    let (_, index) = survey(&root);
    let owners = index.lookup(b"opt/app/lib/modules").unwrap().owners;
    let prefixes = |name: &str| -> &[String] {
        owners.iter().find(|owner| owner.package.name == name).unwrap().class_prefixes
    };
    assert_eq!(prefixes("openjdk"), [""; 0]);
    assert_eq!(prefixes("com.acme.app:com.acme.app"), ["com.acme.app."]);
    let jackson = prefixes("com.fasterxml.jackson.core:jackson-core");
    assert!(jackson.iter().any(|prefix| prefix == "com.fasterxml.jackson.core.json."), "{jackson:?}");
    assert_eq!(index.lookup(b"opt/app/bin/java").unwrap().owners.len(), 1);

    // Without the release file the version is not known, and is not guessed; the modules are as they were.
    std::fs::remove_file(image.join("release")).unwrap();
    let without = listed(&root);
    assert!(
        without.contains(&"pkg:generic/openjdk opt/app/lib/modules by release file".to_owned()),
        "{without:?}"
    );
    assert!(
        without.iter().any(|line| line.starts_with("pkg:maven/com.fasterxml.jackson.core/")),
        "{without:?}"
    );
}

#[test]
fn a_jmod_is_listed_and_never_said_to_be_unused() {
    let (Some(jars), true) = (kafka(), has_jdk()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let classes = directory.path().join("classes");
    for directory in [&classes, &directory.path().join("root/lib")] {
        std::fs::create_dir_all(directory).unwrap();
    }
    tool("jar", &classes, &["--extract", "--file", jars.join(JACKSON).to_str().unwrap()]);
    // jmod wants it at the top, not in the part of a multi-release jar.
    let versions = std::fs::read_dir(classes.join("META-INF/versions")).into_iter().flatten();
    for info in versions.map(|version| version.unwrap().path().join("module-info.class")) {
        if info.is_file() {
            std::fs::rename(info, classes.join("module-info.class")).unwrap();
        }
    }
    tool("jmod", directory.path(), &["create", "--class-path", "classes", "root/lib/json.jmod"]);
    assert_eq!(
        listed(&directory.path().join("root")),
        [
            "pkg:maven/com.fasterxml.jackson.core/jackson-core@2.21.7 lib/json.jmod by pom.properties: jlink takes modules from it; no JVM loads a class of a .jmod"
        ]
    );
}

/// A JDK as it is installed: the image, the `.jmod` files and the jars of its own are one runtime, listed once.
#[test]
fn a_jdk_is_one_package() {
    if !has_jdk() {
        return;
    }
    let java = std::fs::canonicalize(support::java::find("javac").unwrap()).unwrap();
    let home = java.parent().and_then(Path::parent).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let jdk = directory.path().join("opt/jdk");
    std::fs::create_dir_all(jdk.join("lib")).unwrap();
    std::fs::create_dir_all(jdk.join("jmods")).unwrap();
    for file in ["release", "lib/modules", "lib/jrt-fs.jar", "jmods/java.base.jmod", "jmods/java.sql.jmod"] {
        // Links would lead out of the tree; not every JDK has .jmod files (JEP 493).
        let copied =
            std::fs::copy(std::fs::canonicalize(home.join(file)).unwrap_or_default(), jdk.join(file));
        assert!(copied.is_ok() || file.starts_with("jmods"), "{file}: {copied:?}");
    }
    let found = listed(directory.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("pkg:generic/openjdk@")
            && found[0].ends_with(" opt/jdk/lib/modules by release file"),
        "{found:?}"
    );
}
