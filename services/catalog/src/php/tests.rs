use crate::OwnershipIndex;
use crate::testing::Node::{File, Link};
use crate::testing::{catalog, check_owners, package, tree};
use crate::tree::MemoryTree;

fn application() -> MemoryTree {
    let installed = br#"{"packages":[
        {"name":"Monolog/Monolog","version":"v2.9.1","type":"library","license":["MIT"],"require":{"php":">=7.2","psr/log":"^1.0"},"install-path":"../monolog/monolog"},
        {"name":"psr/log","version":"1.1.4","type":"library","install-path":"../psr/log","bin":["bin/log"]},
        {"name":"a/meta","version":"1.0.0","type":"metapackage","install-path":null},
        {"name":"a/assets","version":"1.0.0","type":"library","install-path":"../a/assets"},
        {"name":"a/absent","version":"1.0.0","type":"library","install-path":"../a/absent"},
        {"name":"a/outside","version":"1.0.0","type":"library","install-path":"../../../../../.."},
        {"name":"a/path","version":"dev-main","type":"library","install-path":"../../packages/path"},
        {"name":"a/linked","version":"1.0.0","type":"library","install-path":"../a/linked"},
        {"name":"drupal/core","version":"10.0.0","type":"drupal-core","install-path":"../../web/core"}
    ],"dev":true,"dev-package-names":[]}"#;
    tree(&[
        ("app/composer.json", File(br#"{"name":"me/app","require":{"not/installed":"1"}}"#)),
        ("app/composer.lock", File(br#"{"packages":[{"name":"not/installed","version":"1"}]}"#)),
        ("app/vendor/composer/installed.json", File(installed)),
        ("app/vendor/composer/installed.php", File(b"<?php return array();")),
        ("app/vendor/composer/ClassLoader.php", File(b"")),
        ("app/vendor/autoload.php", File(b"")),
        ("app/vendor/bin/log", File(b"")),
        ("app/vendor/monolog/monolog/src/Monolog/Logger.php", File(b"")),
        ("app/vendor/monolog/monolog/composer.json", File(b"{}")),
        ("app/vendor/psr/log/Psr/Log/LoggerInterface.php", File(b"")),
        ("app/vendor/a/assets/style.css", File(b"")),
        ("app/packages/path/src/X.php", File(b"")),
        ("app/packages/linked/src/Y.php", File(b"")),
        ("app/vendor/a/linked", Link("../../packages/linked")),
        ("app/web/core/core.module", File(b"")),
        ("app/src/App.php", File(b"")),
        // Composer 1, and no JSON at all.
        ("old/vendor/composer/installed.json", File(br#"[{"name":"psr/log","version":"1.0.0"}]"#)),
        ("old/vendor/psr/log/Log.php", File(b"")),
        ("bad/vendor/composer/installed.json", File(b"<?php system('x');")),
    ])
}

#[test]
fn packages_with_their_facts() {
    let outcome = catalog(&application());
    let listed: Vec<String> = outcome
        .packages
        .iter()
        .map(|package| {
            let path = String::from_utf8_lossy(&package.locations[0].path);
            format!("{} {path} {}", package.purl, package.loadable_file_count)
        })
        .collect();
    assert_eq!(
        listed,
        [
            "pkg:composer/a/assets@1.0.0 app/vendor/a/assets 0",
            "pkg:composer/a/linked@1.0.0 app/vendor/a/linked 1",
            "pkg:composer/a/meta@1.0.0 app/vendor/composer/installed.json 0",
            "pkg:composer/a/path@dev-main app/packages/path 1",
            "pkg:composer/drupal/core@10.0.0 app/web/core 1",
            "pkg:composer/monolog/monolog@v2.9.1 app/vendor/monolog/monolog 1",
            "pkg:composer/psr/log@1.0.0 old/vendor/psr/log 1",
            "pkg:composer/psr/log@1.1.4 app/vendor/psr/log 1",
        ]
    );
    let monolog = package(&outcome, "monolog/monolog");
    assert_eq!(monolog.dependencies, ["psr/log"]);
    assert_eq!(monolog.observable_by.join(","), "ebpf-files,php-include");
    assert_eq!(package(&outcome, "a/meta").not_measurable_reason, "a metapackage: it has no files");
    assert_eq!(package(&outcome, "a/assets").not_measurable_reason, "it has no loadable file");
    let warned: Vec<String> =
        outcome.warnings.iter().map(|warning| format!("{} {}", warning.code, warning.subject)).collect();
    assert_eq!(
        warned,
        [
            "damaged-metadata bad/vendor/composer/installed.json",
            "missing-package app/vendor/composer/installed.json",
            "missing-package app/vendor/composer/installed.json",
        ]
    );
}

#[test]
fn ownership() {
    let index = OwnershipIndex::build(&application());
    check_owners(
        &index,
        &[
            ("app/vendor/monolog/monolog/src/Monolog/Logger.php", "monolog/monolog composer code"),
            ("app/vendor/monolog/monolog/composer.json", "monolog/monolog composer metadata"),
            ("app/vendor/bin/log", "psr/log composer code"),
            ("app/vendor/autoload.php", "-"),
            ("app/vendor/composer/ClassLoader.php", "-"),
            ("app/packages/path/src/X.php", "a/path composer code"),
            ("app/vendor/a/linked/src/Y.php", "a/linked composer code"),
            ("app/packages/linked/src/Y.php", "a/linked composer code"),
            ("app/web/core/core.module", "drupal/core composer data"),
            ("app/src/App.php", "-"),
            ("old/vendor/psr/log/Log.php", "psr/log composer code"),
        ],
    );
    assert!(index.covers(b"app/vendor/psr/log/New.php"));
    assert!(!index.covers(b"new/vendor/psr/log/New.php"));
}
