//! What PHP itself packs into phar archives, and what PEAR's installer leaves in its registry, as PHP serialises it.
//! Needs php; without it the tests say so, except with CI=true.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::path::Path;
use std::process::Command;
use support::{has, listed, owners, place, run, survey};

fn php(directory: &Path, code: &str) {
    let has_written =
        run(Command::new("php").args(["-d", "phar.readonly=0", "-r", code]).current_dir(directory));
    has_written.unwrap();
}

/// An application with Composer's packages, packed in each way that PHP offers.
const PACK: &str = r##"
$installed = json_encode(["packages" => [
    ["name" => "monolog/monolog", "version" => "2.9.1", "type" => "library", "install-path" => "../monolog/monolog"],
    ["name" => "psr/log", "version" => "1.1.4", "type" => "library", "install-path" => "../psr/log"],
], "dev" => false]);
foreach (["plain" => null, "gz" => Phar::GZ, "bz2" => Phar::BZ2] as $name => $compression) {
    if ($compression === Phar::BZ2 && !Phar::canCompress(Phar::BZ2)) continue;
    $phar = new Phar("$name.phar");
    $phar["src/main.php"] = "<?php echo 1;";
    $phar["vendor/composer/installed.json"] = $installed;
    $phar["vendor/psr/log/Log.php"] = "<?php";
    $phar->setMetadata(["made" => "by a test"]);
    if ($name == "gz") $phar->setStub("#!/usr/bin/env php\n<?php Phar::mapPhar(); __HALT_COMPILER(); ?>");
    if ($compression) $phar->compressFiles($compression);
    unset($phar);
}
(new Phar("plain.phar"))->convertToExecutable(Phar::ZIP, Phar::NONE, "zipped.phar");
mkdir("usr/bin", 0777, true);
copy("gz.phar", "usr/bin/composer");
file_put_contents("damaged.phar", "no archive");
file_put_contents("usr/bin/phpunit", "#!/usr/bin/env php\n<?php echo 'no archive';");
"##;

#[test]
fn packages_within_phars_are_listed_and_never_said_to_be_unused() {
    if !has("php", "--version") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    php(directory.path(), PACK);
    let bzip2 = directory.path().join("bz2.phar");
    let has_bzip2 = bzip2.exists();
    let (outcome, _) = survey(directory.path());
    let archives = ["gz.phar", "plain.phar", "plain.zipped.phar", "usr/bin/composer"];
    let mut expected: Vec<String> = Vec::new();
    for (name, place) in [("monolog/monolog 2.9.1", "monolog/monolog"), ("psr/log 1.1.4", "psr/log")] {
        expected.extend(archives.iter().map(|archive| format!("{name} {archive}!/vendor/{place}")));
    }
    assert_eq!(listed(&outcome, "composer").into_iter().collect::<Vec<_>>(), expected);
    for package in &outcome.packages {
        assert!(package.observable_by.is_empty(), "{}", place(package));
        assert!(package.not_measurable_reason.contains("phar"), "{}", package.not_measurable_reason);
    }
    let warned: Vec<String> =
        outcome.warnings.iter().map(|one| format!("{} {}", one.code, one.subject)).collect();
    let mut expected = vec!["unreadable-archive bz2.phar"; usize::from(has_bzip2)];
    expected.push("unreadable-archive damaged.phar");
    assert_eq!(warned, expected);
}

/// A record as `pecl install redis` leaves it, and one of PEAR's own channel.
const REGISTER: &str = r#"
$base = "usr/local/lib/php";
$file = fn($role, $place) => ["role" => $role, "baseinstalldir" => "/", "installed_as" => "/$place"];
$of = fn($name, $channel, $version, $files) => ["attribs" => ["version" => "2.0"], "name" => $name,
    "channel" => $channel, "lead" => [["name" => "somebody"]], "version" => ["release" => $version, "api" => "1"],
    "license" => ["attribs" => ["uri" => "x"], "_content" => "PHP"], "filelist" => $files,
    "_lastversion" => null, "_lastmodified" => time(), "old" => ["version" => "0"]];
mkdir("$base/.registry/.channel.pecl.php.net", 0777, true);
mkdir("$base/extensions/no-debug", 0777, true);
mkdir("$base/doc", 0777, true);
mkdir("$base/Archive", 0777, true);
foreach (["extensions/no-debug/redis.so", "doc/README", "Archive/Tar.php"] as $made) touch("$base/$made");
file_put_contents("$base/.registry/.channel.pecl.php.net/redis.reg", serialize($of("redis", "pecl.php.net", "6.0.2", [
    "README" => $file("doc", "$base/doc/README"),
    "redis.c" => $file("src", "$base/never/redis.c"),
    "redis.so" => $file("ext", "$base/extensions/no-debug/redis.so"),
])));
file_put_contents("$base/.registry/archive_tar.reg", serialize($of("Archive_Tar", "pear.php.net", "1.4.14", [
    "Archive/Tar.php" => $file("php", "$base/Archive/Tar.php"),
])));
file_put_contents("$base/.registry/broken.reg", substr(serialize($of("b", "pear.php.net", "1", [])), 0, 30));
"#;

#[test]
fn extensions_of_pecl_and_libraries_of_pear() {
    if !has("php", "--version") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    php(directory.path(), REGISTER);
    let (outcome, index) = survey(directory.path());
    let packages: Vec<String> = outcome
        .packages
        .iter()
        .map(|one| format!("{} {} {} {}", one.purl, place(one), one.installer, one.observable_by.join(",")))
        .collect();
    const REGISTRY: &str = "usr/local/lib/php/.registry";
    assert_eq!(
        packages,
        [
            format!(
                "pkg:pear/pear.php.net/Archive_Tar@1.4.14 {REGISTRY}/archive_tar.reg pear ebpf-files,php-include"
            ),
            format!(
                "pkg:pear/pecl.php.net/redis@6.0.2 {REGISTRY}/.channel.pecl.php.net/redis.reg pecl ebpf-files,ld-audit"
            ),
        ]
    );
    assert_eq!(outcome.packages[1].licenses, ["PHP"]);
    for (path, owner) in [
        ("extensions/no-debug/redis.so", vec!["pecl.php.net/redis 6.0.2"]),
        ("Archive/Tar.php", vec!["pear.php.net/Archive_Tar 1.4.14"]),
        ("doc/README", vec![]),
    ] {
        assert_eq!(owners(&index, "pear", &format!("usr/local/lib/php/{path}")), owner, "{path}");
    }
    let warned: Vec<String> =
        outcome.warnings.iter().map(|one| format!("{} {}", one.code, one.subject)).collect();
    assert_eq!(warned, [format!("damaged-metadata {REGISTRY}/broken.reg")]);
}
