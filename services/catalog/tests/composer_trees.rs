//! Compares an application installed by Composer with what `composer show` says of it.
//! Needs composer; where it is missing the test says so, except with CI=true. Its packages are made here.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use support::{has, listed, owners, run, survey};

const PACKAGES: usize = 16;

fn write(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

#[test]
fn composer_says_the_same() {
    if !has("composer", "--version") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let mut require = Vec::new();
    for number in 0..PACKAGES {
        let package = root.join(format!("sources/p{number}"));
        let kind = if number == 3 { "metapackage" } else { "library" };
        let manifest = format!(
            r#"{{"name":"vendor{}/p{number}","version":"v1.{number}.0","type":"{kind}","license":"MIT"{}}}"#,
            number % 3,
            match number {
                3 => "",
                5 => r#","autoload":{"classmap":["src/"]},"bin":["bin/tool"]"#,
                _ => r#","autoload":{"classmap":["src/"]}"#,
            },
        );
        write(&package, "composer.json", &manifest);
        write(&package, "src/X.php", &format!("<?php class X{number} {{}}\n"));
        write(&package, "bin/tool", "#!/usr/bin/env php\n<?php\n");
        require.push(format!(r#""vendor{}/p{number}":"*""#, number % 3));
    }
    // One is linked, the others are copied.
    let repositories = r#"{"packagist.org":false},
        {"type":"path","url":"../sources/p0","options":{"symlink":true}},
        {"type":"path","url":"../sources/*","options":{"symlink":false}}"#;
    let application = root.join("app");
    let manifest = format!(
        r#"{{"name":"me/app","repositories":[{repositories}],"require":{{{}}},"minimum-stability":"dev"}}"#,
        require.join(",")
    );
    write(&application, "composer.json", &manifest);
    let composer = |arguments: &[&str]| {
        let mut command = Command::new("composer");
        command.args(arguments).args(["--no-interaction", "--no-ansi"]).current_dir(&application);
        command.env("COMPOSER_ALLOW_SUPERUSER", "1").env("COMPOSER_HOME", root.join("home"));
        run(command.env("COMPOSER_DISABLE_NETWORK", "1"))
    };
    composer(&["install", "--quiet"]).unwrap();
    let said = |flag: &str| -> serde_json::Value {
        serde_json::from_str(&composer(&["show", "--format=json", flag]).unwrap()).unwrap()
    };
    let installed = said("--installed");
    let expect: BTreeSet<String> = installed["installed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            format!("{} {}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap())
        })
        .collect();
    assert_eq!(expect.len(), PACKAGES);
    let (outcome, index) = survey(&root);
    let found: BTreeSet<String> =
        listed(&outcome, "composer").iter().map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect();
    assert_eq!(found, expect);
    assert_eq!(outcome.warnings, []);
    for package in said("--path")["installed"].as_array().unwrap() {
        let (name, Some(path)) = (package["name"].as_str().unwrap(), package["path"].as_str()) else {
            continue;
        };
        // Of links, what they lead to. A metapackage has no files.
        let Ok(path) = Path::new(path).join("src/X.php").canonicalize() else { continue };
        let path = path.strip_prefix(&root).unwrap();
        let owner = owners(&index, "composer", path.to_str().unwrap());
        assert_eq!(owner.len(), 1, "{name}");
        assert!(owner[0].starts_with(&format!("{name} ")), "{name}: {owner:?}");
    }
    assert_eq!(owners(&index, "composer", "app/vendor/bin/tool"), ["vendor2/p5 v1.5.0"]);
    assert_eq!(owners(&index, "composer", "app/vendor/autoload.php"), [""; 0]);
}
