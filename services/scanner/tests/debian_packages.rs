//! Real packages of Debian that carry a package of a language: one component, matched once under the distribution's name,
//! and with the identity that the language gives it. What a vendor's package embeds keeps its findings.
//! Needs a network once; where there is none the test says so, except with CI=true.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../catalog/tests/support/mod.rs"]
mod catalog;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use plimsoll_scanner::{Component, ScanOptions, Target, scan};
use plimsoll_vulndb::Database;

/// Debian's package; its source package; the language's feed and name; the beginning of the language's package URL.
const PACKAGES: &[(&str, &str, &str, &str, &str)] = &[
    ("python3-yaml", "pyyaml", "PyPI", "PyYAML", "pkg:pypi/pyyaml@6"),
    ("node-semver", "node-semver", "npm", "semver", "pkg:npm/semver@7"),
    ("ruby-rack", "ruby-rack", "RubyGems", "rack", "pkg:gem/rack@2"),
    (
        "libjackson2-core-java",
        "jackson-core",
        "Maven",
        "com.fasterxml.jackson.core:jackson-core",
        "pkg:maven/com.fasterxml.jackson.core/jackson-core@2",
    ),
];
/// PHP classes without Composer, which are no package of the language; and programs in Go.
const OTHERS: &[&str] = &["php-psr-log", "age"];

/// Unpacks the archives into a root as dpkg does, with its database.
const INSTALL: &str = r#"set -e
mkdir -p "$2/var/lib/dpkg/info" "$2/etc"
printf 'ID=debian\nVERSION_ID="12"\n' > "$2/etc/os-release"
for deb in "$1"/*.deb; do
    dpkg-deb -x "$deb" "$2"
    { dpkg-deb -f "$deb"; printf 'Status: install ok installed\n\n'; } >> "$2/var/lib/dpkg/status"
    dpkg-deb --fsys-tarfile "$deb" | tar -t | sed 's,^\.,,; s,/$,,' > "$2/var/lib/dpkg/info/$(dpkg-deb -f "$deb" Package).list"
done
"#;

fn zip(entries: &[(String, String)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// One advisory for every version below 99 of each package, by both names.
fn database(directory: &Path) -> Arc<Database> {
    let sources = PACKAGES.iter().map(|(_, source, ..)| ("Debian", *source)).chain([("Debian", "age")]);
    let names = PACKAGES.iter().map(|(_, _, feed, name, _)| (*feed, *name));
    let log4j = ("Maven", "org.apache.logging.log4j:log4j-core");
    let all: Vec<(&str, &str)> = sources.chain(names).chain([log4j]).collect();
    for feed in ["Debian", "PyPI", "npm", "RubyGems", "Maven"] {
        let ecosystem = if feed == "Debian" { "Debian:12" } else { feed };
        let fixed = if feed == "npm" { "99.0.0" } else { "99" };
        let record = |(_, name): &(&str, &str)| {
            let record = serde_json::json!({
                "id": format!("TEST-{feed}-{name}"),
                "affected": [{
                    "package": { "ecosystem": ecosystem, "name": name },
                    "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": fixed }] }]
                }]
            });
            (format!("{}.json", name.replace(['/', ':'], "_")), record.to_string())
        };
        let entries: Vec<(String, String)> = all.iter().filter(|(of, _)| *of == feed).map(record).collect();
        std::fs::create_dir_all(directory.join("osv").join(feed)).unwrap();
        std::fs::write(directory.join("osv").join(feed).join("all.zip"), zip(&entries)).unwrap();
    }
    let output = directory.join("test.db");
    let _ = plimsoll_vulndb::build(&directory.join("osv"), &output, &mut |_| ()).unwrap();
    Arc::new(Database::open(&output).unwrap())
}

#[test]
fn packages_of_debian_and_of_a_vendor() {
    if !catalog::has("dpkg-deb", "--version") {
        return;
    }
    let names: Vec<&str> = PACKAGES.iter().map(|(name, ..)| *name).chain(OTHERS.iter().copied()).collect();
    let archives = catalog::cached("scanner-debian-1", |folder| {
        catalog::run(Command::new("apt-get").arg("download").args(&names).current_dir(folder)).map(drop)
    });
    let Some(archives) = archives else { return };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    catalog::run(Command::new("sh").args(["-c", INSTALL, "sh"]).arg(&archives).arg(&root)).unwrap();
    // A vendor's package, as most are made: with a library of its own below /opt.
    let log4j = "groupId=org.apache.logging.log4j\nartifactId=log4j-core\nversion=2.14.1\n";
    let jar = zip(&[
        ("META-INF/maven/org.apache.logging.log4j/log4j-core/pom.properties".into(), log4j.into()),
        ("org/apache/logging/log4j/core/Logger.class".into(), "\u{0}".into()),
    ]);
    let stanza = "Package: vendor\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n";
    let dpkg = root.join("var/lib/dpkg");
    std::fs::OpenOptions::new()
        .append(true)
        .open(dpkg.join("status"))
        .unwrap()
        .write_all(stanza.as_bytes())
        .unwrap();
    std::fs::write(dpkg.join("info/vendor.list"), "/opt/vendor/lib/log4j-core-2.14.1.jar\n").unwrap();
    std::fs::create_dir_all(root.join("opt/vendor/lib")).unwrap();
    std::fs::write(root.join("opt/vendor/lib/log4j-core-2.14.1.jar"), jar).unwrap();

    let database = database(directory.path());
    let target = Target::parse("fs", root.to_str().unwrap()).unwrap();
    let options = ScanOptions { database: Some(database), docker_host: "unix:///nowhere", progress: &|_| {} };
    let scan = scan(&target, Some(&Component::new("a", "c", "1").unwrap()), &options).unwrap();
    let ids_of = |id: &str| -> Vec<&str> {
        let found = scan.findings.iter().filter(|found| found.package_id == id);
        found.flat_map(|found| &found.findings).map(|finding| finding.id.as_str()).collect()
    };
    let os = |name: &str| {
        let mut named = scan.packages.iter().filter(|package| package.kind == "os" && package.name == name);
        let package = named.next().unwrap();
        assert!(named.next().is_none(), "{name} stands twice");
        package
    };
    for (name, source, _, _, purl) in PACKAGES {
        let carrier = os(name);
        assert_eq!(ids_of(&carrier.package_id), [format!("TEST-Debian-{source}")], "{name}");
        let mut own = scan.packages.iter().filter(|package| package.purl.starts_with(purl));
        let package = own.next().unwrap_or_else(|| panic!("no {purl}"));
        assert!(own.next().is_none(), "{purl} stands twice");
        assert_eq!(package.provided_by, carrier.package_id, "{purl}");
        assert_eq!(ids_of(&package.package_id), [""; 0], "{purl}");
        let said = scan.findings.iter().find(|found| found.package_id == package.package_id).unwrap();
        assert_eq!(
            (said.assessed, said.feeds.join(",").as_str()),
            (true, "by the operating system's package")
        );
    }
    let carried = |name: &str| -> Vec<&str> {
        let carrier = &os(name).package_id;
        let of = scan.packages.iter().filter(|package| package.provided_by == *carrier);
        of.map(|package| package.purl.as_str()).collect()
    };
    assert_eq!(carried("php-psr-log"), [""; 0]);
    assert_eq!(ids_of(&os("age").package_id), ["TEST-Debian-age"]);
    // Debian builds without modules, so that a program names only the standard library: one for each of its two.
    let programs = carried("age");
    assert!(programs.len() == 2 && programs.iter().all(|purl| purl.starts_with("pkg:golang/stdlib@1")));
    let embedded = scan.packages.iter().find(|package| package.purl.contains("/log4j-core@2.14.1")).unwrap();
    assert_eq!(ids_of(&embedded.package_id), ["TEST-Maven-org.apache.logging.log4j:log4j-core"]);
}
