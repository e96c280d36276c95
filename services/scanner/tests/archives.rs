//! Jars in images and directories, looked into in place: what is in a layer, replaced by a layer, damaged, or large.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use plimsoll_scanner::{Component, Scan, ScanOptions, Target, scan};
use support::{digest, docker_archive};

/// A fat jar: an application that merged log4j-core, relocated, and carries slf4j-api as a nested jar, twice.
const BOOT: &[u8] = include_bytes!("../../catalog/src/java/fixtures/boot.jar");
/// Longer than what is held in memory of one file.
const LARGE_BYTES: usize = 33 * 1024 * 1024;

fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn scan_with(source: &str, target: &str) -> Scan {
    let component = Component::new("shop", "web", "1").unwrap();
    let options = ScanOptions { database: None, docker_host: "unix:///nowhere", progress: &|_| {} };
    scan(&Target::parse(source, target).unwrap(), Some(&component), &options).unwrap()
}

fn scan_layers(layers: &[Vec<u8>]) -> Scan {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("image.tar");
    docker_archive(&archive, layers);
    scan_with("image", &format!("archive:{}", archive.display()))
}

/// `purl path!/nested` of each package.
fn described(scan: &Scan) -> Vec<String> {
    let one = |package: &plimsoll_schemas::events::ScanPackage| {
        let place = &package.locations[0];
        let [path, nested] =
            [&place.path, &place.nested_path].map(|bytes| String::from_utf8(bytes.clone()).unwrap());
        format!("{} {path} {nested}", package.purl)
    };
    scan.packages.iter().map(one).collect()
}

const FOUND: [&str; 4] = [
    "pkg:maven/com.acme/shop@1.0 srv/app.jar ",
    "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1 srv/app.jar ",
    "pkg:maven/org.slf4j/slf4j-api@1.7.36 srv/app.jar BOOT-INF/lib/copy.jar",
    "pkg:maven/org.slf4j/slf4j-api@1.7.36 srv/app.jar BOOT-INF/lib/slf4j-api-1.7.36.jar",
];

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[test]
fn an_image_and_a_directory_hold_the_same_packages() {
    let base = layer(&[("etc/os-release", b"ID=debian\nVERSION_ID=\"12\"\n")]);
    let top = layer(&[("srv/app.jar", BOOT)]);
    let image = scan_layers(&[base, top.clone()]);
    assert_eq!(sorted(described(&image)), FOUND);
    assert!(image.manifest.warnings.is_empty(), "{:?}", image.manifest.warnings);
    assert!(image.packages.iter().all(|package| package.locations[0].layer == digest(&top)));
    assert!(image.packages.iter().all(|package| package.observable_by == ["jvmti"]));

    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("srv")).unwrap();
    std::fs::write(directory.path().join("srv/app.jar"), BOOT).unwrap();
    let found = scan_with("fs", directory.path().to_str().unwrap());
    assert_eq!(sorted(described(&found)), FOUND);
    let ids = |scan: &Scan| sorted(scan.packages.iter().map(|package| package.package_id.clone()).collect());
    assert_eq!(ids(&found), ids(&image));
}

#[test]
fn upper_layers_replace_and_remove_archives() {
    let lower = layer(&[("srv/app.jar", BOOT), ("srv/b.jar", BOOT)]);
    let upper =
        layer(&[("srv/app.jar", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), ("srv/.wh.b.jar", b"")]);
    assert_eq!(described(&scan_layers(&[lower, upper])), ["pkg:maven/app srv/app.jar "]);
}

#[test]
fn large_archives_go_through_the_disk() {
    // Something in front of an archive, as a start script is.
    let large = [b"#!/bin/sh\n".as_slice(), &vec![b'\n'; LARGE_BYTES], BOOT].concat();
    let scan = scan_layers(&[layer(&[("srv/app.jar", &large), ("srv/small.txt", b"x")])]);
    assert_eq!(sorted(described(&scan)), FOUND);
}

#[test]
fn damaged_archives_are_named() {
    // Before the end of the nested archive: the JVM, too, takes the last end record for the archive's.
    let cut = &BOOT[..700];
    let scan =
        scan_layers(&[layer(&[("srv/app.jar", BOOT), ("srv/cut.jar", cut), ("srv/text.jar", b"text")])]);
    assert_eq!(sorted(described(&scan)), FOUND);
    let subjects: Vec<&str> = scan.manifest.warnings.iter().map(|warning| warning.subject.as_str()).collect();
    assert_eq!(subjects, ["srv/cut.jar", "srv/text.jar"]);
}
