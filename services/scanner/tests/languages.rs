//! Packages of languages inside and outside of a distribution's packages: which are matched, and which only once.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use plimsoll_scanner::{Component, Scan, ScanOptions, Target, scan};
use plimsoll_vulndb::Database;

fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn jar(group: &str, artifact: &str, version: &str, inner: Option<Vec<u8>>) -> Vec<u8> {
    let properties = format!("groupId={group}\nartifactId={artifact}\nversion={version}\n");
    let mut entries = vec![
        (format!("META-INF/maven/{group}/{artifact}/pom.properties"), properties.into_bytes()),
        (format!("{}/A.class", group.replace('.', "/")), b"\xca\xfe\xba\xbe".to_vec()),
    ];
    entries.extend(inner.map(|inner| ("BOOT-INF/lib/inner.jar".to_owned(), inner)));
    zip(&entries)
}

/// One advisory for every version below 99 of every package that a test scans.
fn database(directory: &Path) -> Arc<Database> {
    let packages = [
        ("Debian", "Debian:12", &["pyyaml", "apache-log4j2", "node-lodash", "ruby-rack"][..]),
        ("PyPI", "PyPI", &["PyYAML", "urllib3"]),
        (
            "Maven",
            "Maven",
            &[
                "com.alibaba:common",
                "org.apache.groovy:groovy",
                "org.apache.logging.log4j:log4j-core",
                "org.bouncycastle:bcprov-jdk18on",
                "org.example:app",
                "org.hibernate.common:hibernate-commons-annotations",
                "org.hibernate.orm:hibernate-core",
                "org.objenesis:objenesis",
                "org.springframework:spring-jcl",
            ],
        ),
        ("npm", "npm", &["lodash", "@scope/odd"]),
        ("RubyGems", "RubyGems", &["rack"]),
    ];
    for (folder, ecosystem, names) in packages {
        let record = |name: &str| {
            let fixed = if ecosystem == "npm" { "99.0.0" } else { "99" };
            let record = serde_json::json!({
                "id": format!("TEST-{ecosystem}-{name}"),
                "affected": [{
                    "package": { "ecosystem": ecosystem, "name": name },
                    "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": fixed }] }]
                }]
            });
            (format!("{}.json", name.replace(['/', ':'], "_")), record.to_string().into_bytes())
        };
        let entries: Vec<(String, Vec<u8>)> = names.iter().map(|name| record(name)).collect();
        std::fs::create_dir_all(directory.join("osv").join(folder)).unwrap();
        std::fs::write(directory.join("osv").join(folder).join("all.zip"), zip(&entries)).unwrap();
    }
    let output = directory.join("test.db");
    let _ = plimsoll_vulndb::build(&directory.join("osv"), &output, &mut |_| ()).unwrap();
    Arc::new(Database::open(&output).unwrap())
}

/// Files of the root, and of which OS package (with its source package) each is.
fn root(directory: &Path, release: &str, files: &[(&str, &str, Vec<u8>)]) {
    let put = |path: &str, content: &[u8]| {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    put("etc/os-release", release.as_bytes());
    let mut carriers: Vec<&str> =
        files.iter().map(|(carrier, ..)| *carrier).filter(|c| !c.is_empty()).collect();
    carriers.sort_unstable();
    carriers.dedup();
    let mut status = String::new();
    for carrier in carriers {
        let (name, source) = carrier.split_once('/').unwrap();
        status += &format!(
            "Package: {name}\nSource: {source}\nStatus: install ok installed\nVersion: 1.0-1\nArchitecture: all\nDescription: x\n\n"
        );
        let list: String =
            files.iter().filter(|(of, ..)| *of == carrier).map(|(_, path, _)| format!("/{path}\n")).collect();
        put(&format!("var/lib/dpkg/info/{name}.list"), list.as_bytes());
    }
    put("var/lib/dpkg/status", status.as_bytes());
    for (_, path, content) in files {
        put(path, content);
    }
}

fn scan_root(root: &Path, database: &Arc<Database>) -> Scan {
    let component = Component::new("a", "c", "1").unwrap();
    let target = Target::parse("fs", root.to_str().unwrap()).unwrap();
    let options =
        ScanOptions { database: Some(database.clone()), docker_host: "unix:///nowhere", progress: &|_| {} };
    scan(&target, Some(&component), &options).unwrap()
}

/// `name at path: finding ids`, or why there are none.
fn application_packages(scan: &Scan) -> Vec<String> {
    let mut lines: Vec<String> = scan
        .packages
        .iter()
        .filter(|package| package.kind == "application")
        .map(|package| {
            let location = &package.locations[0];
            let path = String::from_utf8_lossy(&location.path);
            let nested = String::from_utf8_lossy(&location.nested_path);
            let found = scan.findings.iter().find(|found| found.package_id == package.package_id).unwrap();
            let verdict = match found.findings.iter().map(|f| f.id.as_str()).collect::<Vec<_>>().join(" ") {
                ids if !ids.is_empty() => ids,
                _ if found.assessed => found.feeds.join(" "),
                _ => "not assessed".to_owned(),
            };
            format!("{} {path}{}{nested}: {verdict}", package.name, if nested.is_empty() { "" } else { "!/" })
        })
        .collect();
    lines.sort();
    lines
}

fn files() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let log4j = || jar("org.apache.logging.log4j", "log4j-core", "2.14.1", None);
    let python = |name: &str| format!("Metadata-Version: 2.1\nName: {name}\nVersion: 6.0\n").into_bytes();
    let node =
        |name: &str, version: &str| format!(r#"{{"name":"{name}","version":"{version}"}}"#).into_bytes();
    vec![
        // The distribution's own packages of a component.
        (
            "python3-yaml/pyyaml",
            "usr/lib/python3/dist-packages/PyYAML-6.0.dist-info/METADATA",
            python("PyYAML"),
        ),
        (
            "python3-yaml/pyyaml",
            "usr/lib/python3/dist-packages/PyYAML-6.0.dist-info/RECORD",
            b"yaml/__init__.py,,\n".to_vec(),
        ),
        ("python3-yaml/pyyaml", "usr/lib/python3/dist-packages/yaml/__init__.py", Vec::new()),
        ("liblog4j2-java/apache-log4j2", "usr/share/java/log4j-core-2.14.1.jar", log4j()),
        ("node-lodash/node-lodash", "usr/share/nodejs/lodash/package.json", node("lodash", "4.17.20")),
        ("node-lodash/node-lodash", "usr/share/nodejs/lodash/index.js", Vec::new()),
        (
            "ruby-rack/ruby-rack",
            "usr/share/rubygems-integration/all/specifications/rack-2.2.4.gemspec",
            b"# stub: rack 2.2.4 ruby lib\n".to_vec(),
        ),
        // What a vendor's package brings along, and an application's own.
        ("vendor-agent/vendor-agent", "opt/vendor/lib/log4j-core-2.14.1.jar", log4j()),
        (
            "vendor-agent/vendor-agent",
            "opt/vendor/lib/agent.jar",
            jar("org.example", "app", "1.0", Some(log4j())),
        ),
        (
            "vendor-agent/vendor-agent",
            "opt/vendor/node_modules/lodash/package.json",
            node("lodash", "4.17.20"),
        ),
        ("vendor-agent/vendor-agent", "opt/vendor/node_modules/lodash/index.js", Vec::new()),
        ("", "srv/app/node_modules/@scope/odd/package.json", node("@scope/odd", "latest")),
        ("", "srv/app/node_modules/@scope/odd/index.js", Vec::new()),
    ]
}

#[test]
fn a_component_is_matched_once_and_what_a_vendor_embeds_keeps_its_findings() {
    let directory = tempfile::tempdir().unwrap();
    let database = database(directory.path());
    let path = directory.path().join("root");
    root(&path, support::OS_RELEASE, &files());
    let scan = scan_root(&path, &database);
    let log4j = "TEST-Maven-org.apache.logging.log4j:log4j-core";
    let expect = [
        "@scope/odd srv/app/node_modules/@scope/odd: not assessed".to_owned(),
        "lodash opt/vendor/node_modules/lodash: TEST-npm-lodash".to_owned(),
        "lodash usr/share/nodejs/lodash: by the operating system's package".to_owned(),
        "org.apache.logging.log4j:log4j-core opt/vendor/lib/agent.jar!/BOOT-INF/lib/inner.jar: ".to_owned() + log4j,
        "org.apache.logging.log4j:log4j-core opt/vendor/lib/log4j-core-2.14.1.jar: ".to_owned() + log4j,
        "org.apache.logging.log4j:log4j-core usr/share/java/log4j-core-2.14.1.jar: by the operating system's package".to_owned(),
        "org.example:app opt/vendor/lib/agent.jar: TEST-Maven-org.example:app".to_owned(),
        "pyyaml usr/lib/python3/dist-packages/PyYAML-6.0.dist-info: by the operating system's package".to_owned(),
        "rack usr/share/rubygems-integration/all/specifications/rack-2.2.4.gemspec: by the operating system's package".to_owned(),
    ];
    assert_eq!(application_packages(&scan), expect);
    let found = scan.findings.iter().flat_map(|found| &found.findings);
    let log4j: Vec<&str> =
        found.filter(|finding| finding.id == log4j).map(|f| f.match_reason.as_str()).collect();
    assert!(log4j.len() == 2 && log4j.iter().all(|why| why.ends_with("identified by its pom.properties")));
    for found in scan.findings.iter().filter(|found| !found.findings.is_empty()) {
        let fixed = &found.findings[0].fixed_versions[0];
        assert_eq!((&found.upgrade_to, found.upgrade_left), (fixed, 0), "{found:?}");
    }
    assert!(scan.findings.iter().all(|found| found.findings.is_empty() == found.upgrade_to.is_empty()));
    // Once, and under the package that the distribution updates.
    let operating_system: Vec<&str> = scan
        .findings
        .iter()
        .flat_map(|found| &found.findings)
        .map(|finding| finding.id.as_str())
        .filter(|id| id.starts_with("TEST-Debian"))
        .collect();
    assert_eq!(operating_system.len(), 4, "{operating_system:?}");
}

/// No feed covers the distribution's package: then the language's own feed is all there is.
#[test]
fn without_the_distributions_feed_the_language_speaks() {
    let directory = tempfile::tempdir().unwrap();
    let database = database(directory.path());
    let path = directory.path().join("root");
    root(&path, "ID=debian\nVERSION_ID=\"99\"\n", &files());
    let packages = application_packages(&scan_root(&path, &database));
    assert!(
        packages.iter().all(|package| !package.ends_with("by the operating system's package")),
        "{packages:#?}"
    );
    assert_eq!(packages.iter().filter(|package| package.contains(": TEST-")).count(), 8, "{packages:#?}");
}

/// A jar that does not name its Maven group: what manifests of Maven Central say, and where their classes are.
#[test]
fn jars_without_coordinates_are_not_called_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let database = database(directory.path());
    let unnamed = |path: &'static str, manifest: &str, packages: &[&str]| {
        let mut entries = vec![("META-INF/MANIFEST.MF".to_owned(), format!("{manifest}\n").into_bytes())];
        entries.extend(packages.iter().map(|name| (format!("{name}/A.class"), b"\xca\xfe\xba\xbe".to_vec())));
        ("", path, zip(&entries))
    };
    let path = directory.path().join("root");
    let jars = [
        unnamed(
            "app/bcprov-jdk18on-1.78.1.jar",
            "Bundle-SymbolicName: bcprov\nBundle-Version: 1.78.1",
            &["org/bouncycastle/jcajce/util", "org/bouncycastle/jcajce/spec"],
        ),
        unnamed(
            "app/spring-jcl-5.3.39.jar",
            "Automatic-Module-Name: spring.jcl\nImplementation-Version: 5.3.39",
            &["org/apache/commons/logging"],
        ),
        unnamed(
            "app/groovy-4.0.22.jar",
            "Automatic-Module-Name: org.apache.groovy\nImplementation-Version: 4.0.22",
            &["org/codehaus/groovy/ast", "groovy/lang"],
        ),
        unnamed(
            "app/hibernate-core-6.4.9.Final.jar",
            "Implementation-Vendor-Id: org.hibernate\nImplementation-Version: 6.4.9.Final",
            &["org/hibernate/internal"],
        ),
        unnamed(
            "app/hibernate-commons-annotations-6.0.6.Final.jar",
            "Implementation-Vendor-Id: org.hibernate\nImplementation-Version: 6.0.6.Final",
            &["org/hibernate/annotations/common"],
        ),
        unnamed(
            "app/objenesis-3.3.jar",
            "Automatic-Module-Name: org.objenesis\nImplementation-Version: 3.3",
            &["org/objenesis/instantiator"],
        ),
        unnamed("app/common-1.0.jar", "Implementation-Version: 1.0", &["com/acme/shop"]),
        unnamed("app/resources/common-1.0.jar", "Implementation-Version: 1.0", &[]),
    ];
    root(&path, support::OS_RELEASE, &jars);
    let scan = scan_root(&path, &database);
    let expect = [
        "com.acme.shop:common app/common-1.0.jar: Maven TEST-Maven-com.alibaba:common does not apply: it is for com.alibaba:common, and nothing in this archive points to that group; its own, com.acme.shop, is a guess",
        "common app/resources/common-1.0.jar: not assessed",
        "org.apache.commons:spring-jcl app/spring-jcl-5.3.39.jar: TEST-Maven-org.springframework:spring-jcl",
        "org.apache.groovy:groovy app/groovy-4.0.22.jar: TEST-Maven-org.apache.groovy:groovy",
        "org.bouncycastle.jcajce:bcprov-jdk18on app/bcprov-jdk18on-1.78.1.jar: TEST-Maven-org.bouncycastle:bcprov-jdk18on",
        "org.hibernate:hibernate-commons-annotations app/hibernate-commons-annotations-6.0.6.Final.jar: TEST-Maven-org.hibernate.common:hibernate-commons-annotations",
        "org.hibernate:hibernate-core app/hibernate-core-6.4.9.Final.jar: TEST-Maven-org.hibernate.orm:hibernate-core",
        "org.objenesis:objenesis app/objenesis-3.3.jar: TEST-Maven-org.objenesis:objenesis",
    ];
    assert_eq!(application_packages(&scan), expect);
    let reasons = scan.findings.iter().flat_map(|found| &found.findings).map(|f| f.match_reason.as_str());
    assert_eq!(reasons.filter(|reason| reason.contains("is a guess")).count(), 4);
}
