//! Jars of Maven Central as the development stack has them: the coordinates found against those of the dependency tree.
//! Needs the cache of `cargo xtask test`; where it is missing the test says so, except with CI=true.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use plimsoll_catalog::{DirectoryOptions, DirectoryTree, OwnershipIndex, catalog};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use support::java::kafka;
use zip::CompressionMethod::{Deflated, Stored};
use zip::write::{SimpleFileOptions, ZipWriter};

/// What Maven resolves for the broker of the development stack, and what is merged into these jars.
const KAFKA: &[&str] = &[
    "at.yawk.lz4:lz4-java:1.11.2",
    "com.dynatrace.hash4j:hash4j:0.22.0",
    "com.fasterxml.jackson.core:jackson-annotations:2.21",
    "com.fasterxml.jackson.core:jackson-core:2.21.7",
    "com.fasterxml.jackson.core:jackson-databind:2.21.7",
    "com.fasterxml.jackson.dataformat:jackson-dataformat-yaml:2.21.7",
    "com.fasterxml.jackson.datatype:jackson-datatype-jdk8:2.21.7",
    "com.github.ben-manes.caffeine:caffeine:3.2.0",
    "com.github.luben:zstd-jni:1.5.7-17",
    "com.google.re2j:re2j:1.8",
    "com.typesafe.scala-logging:scala-logging_2.13:3.9.6",
    "com.yammer.metrics:metrics-core:2.2.0",
    "commons-beanutils:commons-beanutils:1.11.0",
    "commons-collections:commons-collections:3.2.2",
    "commons-digester:commons-digester:2.1",
    "commons-logging:commons-logging:1.3.5",
    // Merged into kafka-clients.
    "commons-net:commons-net:3.13.0",
    "commons-validator:commons-validator:1.10.1",
    "net.sf.jopt-simple:jopt-simple:5.0.4",
    "net.sourceforge.argparse4j:argparse4j:0.7.0",
    "org.apache.kafka:kafka-clients:4.4.0",
    "org.apache.kafka:kafka-coordinator-common:4.4.0",
    "org.apache.kafka:kafka-group-coordinator-api:4.4.0",
    "org.apache.kafka:kafka-group-coordinator:4.4.0",
    "org.apache.kafka:kafka-metadata:4.4.0",
    "org.apache.kafka:kafka-raft:4.4.0",
    "org.apache.kafka:kafka-server-common:4.4.0",
    "org.apache.kafka:kafka-server:4.4.0",
    "org.apache.kafka:kafka-share-coordinator:4.4.0",
    "org.apache.kafka:kafka-storage-api:4.4.0",
    "org.apache.kafka:kafka-storage:4.4.0",
    "org.apache.kafka:kafka-tools-api:4.4.0",
    "org.apache.kafka:kafka-transaction-coordinator:4.4.0",
    "org.apache.kafka:kafka_2.13:4.4.0",
    "org.apache.logging.log4j:log4j-api:2.25.5",
    "org.apache.logging.log4j:log4j-core:2.25.5",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",
    "org.bitbucket.b_c:jose4j:0.9.6",
    "org.hdrhistogram:HdrHistogram:2.2.2",
    "org.jspecify:jspecify:1.0.0",
    "org.pcollections:pcollections:4.0.2",
    "org.scala-lang:scala-library:2.13.18",
    "org.scala-lang:scala-reflect:2.13.18",
    "org.slf4j:slf4j-api:1.7.36",
    "org.xerial.snappy:snappy-java:1.1.10.7",
    "org.yaml:snakeyaml:2.5",
];

#[test]
fn the_coordinates_of_a_brokers_jars() {
    let Some(directory) = kafka() else { return };
    let tree = DirectoryTree::open(&directory, DirectoryOptions { cross_mounts: true }).unwrap();
    let outcome = catalog(&tree);
    let found: BTreeSet<String> =
        outcome.packages.iter().map(|package| format!("{}:{}", package.name, package.version)).collect();
    let expected: BTreeSet<String> = KAFKA.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, expected);
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
}

#[test]
fn classes_of_a_shaded_jar_have_their_owners() {
    let Some(directory) = kafka() else { return };
    let tree = DirectoryTree::open(&directory, DirectoryOptions { cross_mounts: true }).unwrap();
    let index = OwnershipIndex::build(&tree);
    let owners = index.lookup(b"kafka-clients-4.4.0.jar").unwrap().owners;
    let described: Vec<(&str, &[String])> =
        owners.iter().map(|owner| (owner.package.name.as_str(), owner.class_prefixes)).collect();
    let [("commons-net:commons-net", [prefix]), ("org.apache.kafka:kafka-clients", [rest, own])] =
        described[..]
    else {
        panic!("{described:?}")
    };
    assert_eq!((rest.as_str(), own.as_str()), ("", "org.apache.kafka.clients."));
    assert!(prefix.ends_with("org.apache.commons.net.") || prefix.contains("commons.net."), "{prefix}");
    let alone = index.lookup(b"slf4j-api-1.7.36.jar").unwrap().owners;
    assert_eq!((alone.len(), alone[0].class_prefixes.len()), (1, 0));
}

/// Packs all jars of a directory into one, below `library`.
fn pack(jars: &Path, archive: &Path, library: &str, method: zip::CompressionMethod) {
    let mut writer = ZipWriter::new(File::create(archive).unwrap());
    let options = SimpleFileOptions::default().compression_method(method);
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(jars).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for jar in names.iter().filter(|path| path.extension().is_some_and(|extension| extension == "jar")) {
        let name = jar.file_name().unwrap().to_str().unwrap();
        writer.start_file(format!("{library}/{name}"), options).unwrap();
        writer.write_all(&std::fs::read(jar).unwrap()).unwrap();
    }
    writer
        .start_file(format!("{}/classes/com/acme/Main.class", library.split('/').next().unwrap()), options)
        .unwrap();
    writer.finish().unwrap();
}

/// Spring Boot stores its nested jars; a war deflates them.
#[test]
fn fat_jars_and_wars_of_real_jars() {
    let Some(jars) = kafka() else { return };
    let directory = tempfile::tempdir().unwrap();
    pack(&jars, &directory.path().join("broker-1.0.jar"), "BOOT-INF/lib", Stored);
    pack(&jars, &directory.path().join("broker-2.0.war"), "WEB-INF/lib", Deflated);
    let tree = DirectoryTree::open(directory.path(), DirectoryOptions { cross_mounts: true }).unwrap();
    let (outcome, index) = plimsoll_catalog::catalog_with_ownership(&tree);
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
    for (archive, version, library) in
        [("broker-1.0.jar", "1.0", "BOOT-INF/lib/"), ("broker-2.0.war", "2.0", "WEB-INF/lib/")]
    {
        let within: Vec<_> = outcome
            .packages
            .iter()
            .filter(|package| package.locations[0].path == archive.as_bytes())
            .collect();
        let found: BTreeSet<String> =
            within.iter().map(|package| format!("{}:{}", package.name, package.version)).collect();
        let mut expected: BTreeSet<String> = KAFKA.iter().map(|name| (*name).to_owned()).collect();
        expected.insert(format!("com.acme:broker:{version}"));
        assert_eq!(found, expected, "{archive}");
        for package in within.iter().filter(|package| !package.name.ends_with(":broker")) {
            assert!(package.locations[0].nested_path.starts_with(library.as_bytes()));
            let place = package.locations[0].identity_bytes();
            let owners = index.lookup(&place).unwrap().owners;
            assert!(owners.iter().any(|owner| owner.package.package_id == package.package_id));
        }
    }
}
