//! Jars that are more than classes: signed ones, multi-release ones, OSGi bundles with a class path of their own, and
//! relocated components; made by the JDK's own tools, or real ones of Maven Central.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::path::Path;
use std::process::Command;
use support::java::{has_jdk, jar, kafka, tool};
use support::{cached, has, listed, owners, run, survey};

/// A signature changes neither what a jar is nor whose its classes are.
#[test]
fn signed_jars() {
    let (Some(jars), true) = (kafka(), has_jdk()) else { return };
    const JAR: &str = "kafka-clients-4.4.0.jar";
    let directory = tempfile::tempdir().unwrap();
    let of = |root: &str| {
        let root = directory.path().join(root);
        std::fs::create_dir(&root).unwrap();
        std::fs::copy(jars.join(JAR), root.join(JAR)).unwrap();
        root
    };
    let (plain, signed) = (of("plain"), of("signed"));
    let store = ["-keystore", "../keys", "-storepass", "secret"];
    let key = ["-genkeypair", "-alias", "me", "-keyalg", "EC", "-dname", "CN=me", "-keypass", "secret"];
    tool("keytool", &signed, &[&key[..], &store[..]].concat());
    tool("jarsigner", &signed, &[&store[..], &[JAR, "me"]].concat());
    assert!(tool("jar", &signed, &["tf", JAR]).contains("META-INF/ME.SF"), "it is not signed");

    let facts = |root: &Path| {
        let (outcome, index) = survey(root);
        assert_eq!(outcome.warnings, [], "{}", root.display());
        let packages = outcome.packages.iter();
        let packages: Vec<_> = packages.map(|one| (one.purl.clone(), one.loadable_file_count)).collect();
        let prefixes = index.lookup(JAR.as_bytes()).unwrap().owners;
        let prefixes: Vec<_> = prefixes.iter().map(|owner| owner.class_prefixes.to_vec()).collect();
        (packages, prefixes)
    };
    assert_eq!(facts(&signed), facts(&plain));
    assert_eq!(facts(&plain).0.len(), 2, "{:?}", facts(&plain));
}

/// Classes for later versions of Java are counted with those that they stand for, and are the same component's.
#[test]
fn multi_release_jars() {
    if !has_jdk() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let pom = "META-INF/maven/org.acme/thing/pom.properties";
    let coordinates = b"groupId=org.acme\nartifactId=thing\nversion=1.5\n";
    let other = "META-INF/maven/org.other/part/pom.properties";
    let others = b"groupId=org.other\nartifactId=part\nversion=2\n";
    jar(
        directory.path(),
        "thing-1.5.jar",
        &[
            (pom, coordinates),
            (other, others),
            ("org/acme/thing/A.class", b"\xca\xfe\xba\xbe"),
            ("META-INF/versions/11/org/acme/thing/A.class", b"\xca\xfe\xba\xbe"),
            ("META-INF/versions/17/org/other/part/Only17.class", b"\xca\xfe\xba\xbe"),
        ],
    );
    let (outcome, index) = survey(directory.path());
    assert_eq!(outcome.warnings, []);
    let expected = ["org.acme:thing 1.5 thing-1.5.jar", "org.other:part 2 thing-1.5.jar"];
    assert_eq!(listed(&outcome, "maven").into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(outcome.packages[0].loadable_file_count, 3);
    for (class, owner) in [
        ("org/acme/thing/A.class", "org.acme:thing 1.5"),
        ("META-INF/versions/11/org/acme/thing/A.class", "org.acme:thing 1.5"),
        ("META-INF/versions/17/org/other/part/Only17.class", "org.other:part 2"),
    ] {
        assert_eq!(owners(&index, "maven", &format!("thing-1.5.jar!/{class}")), [owner], "{class}");
    }
}

/// A bundle of Maven Central that carries the libraries on its Bundle-ClassPath.
#[test]
fn bundles_carry_archives_on_their_class_path() {
    const BUNDLE: &str = "org.apache.jackrabbit:oak-blob-cloud-azure:1.10.0";
    if !has("mvn", "--version") {
        return;
    }
    let Some(bundle) = cached("catalog-bundle-1", |directory| {
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "dependency:copy", &format!("-Dartifact={BUNDLE}")]);
        maven.arg(format!("-DoutputDirectory={}", directory.display())).current_dir(directory);
        run(&mut maven).map(drop)
    }) else {
        return;
    };
    let (outcome, index) = survey(&bundle);
    assert_eq!(outcome.warnings, []);
    const JAR: &str = "oak-blob-cloud-azure-1.10.0.jar";
    let expected = [
        format!("com.microsoft.azure:azure-keyvault-core 0.9.7 {JAR}!/azure-keyvault-core-0.9.7.jar"),
        format!("com.microsoft.azure:azure-storage 5.0.0 {JAR}!/azure-storage-5.0.0.jar"),
        format!("org.apache.jackrabbit:oak-blob-cloud-azure 1.10.0 {JAR}"),
    ];
    assert_eq!(listed(&outcome, "maven").into_iter().collect::<Vec<_>>(), expected);
    for (place, owner) in [
        ("azure-storage-5.0.0.jar", "com.microsoft.azure:azure-storage 5.0.0"),
        (
            "azure-storage-5.0.0.jar!/com/microsoft/azure/storage/CloudStorageAccount.class",
            "com.microsoft.azure:azure-storage 5.0.0",
        ),
        (
            "org/apache/jackrabbit/oak/blob/cloud/azure/x.class",
            "org.apache.jackrabbit:oak-blob-cloud-azure 1.10.0",
        ),
    ] {
        assert_eq!(owners(&index, "maven", &format!("{JAR}!/{place}")), [owner], "{place}");
    }
}

/// Frameworks name the bundle as the source of the classes of archives on its class path: whose they are, their Java
/// packages tell.
#[test]
fn classes_of_archives_on_the_class_path_of_a_bundle() {
    if !has_jdk() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let properties = |artifact: &str| {
        let path = format!("META-INF/maven/org.{artifact}/{artifact}/pom.properties");
        (path, format!("groupId=org.{artifact}\nartifactId={artifact}\nversion=1\n"))
    };
    let class = b"\xca\xfe\xba\xbe".as_slice();
    let jar = |name: &str, artifact: &str, classes: &[&str], archives: &[&str]| {
        let (path, text) = properties(artifact);
        let nested: Vec<_> =
            archives.iter().map(|archive| std::fs::read(directory.path().join(archive)).unwrap()).collect();
        let places: Vec<_> = archives.iter().map(|archive| format!("lib/{archive}")).collect();
        let mut files = vec![(path.as_str(), text.as_bytes())];
        files.extend(classes.iter().map(|one| (*one, class)));
        files.extend(places.iter().zip(&nested).map(|(place, bytes)| (place.as_str(), bytes.as_slice())));
        jar(directory.path(), name, &files);
    };
    jar("a.jar", "a", &["org/a/A.class", "org/a/in/B.class", "org/two/T.class"], &[]);
    jar("b.jar", "b", &["org/b/B.class", "org/two/T.class", "org/own/impl/X.class"], &[]);
    jar("away.jar", "away", &["org/away/X.class"], &[]);
    let own = ["org/own/Activator.class", "org/own/impl/Y.class", "org/a/in/deep/Z.class"];
    jar("bundle-1.jar", "bundle", &own, &["a.jar", "b.jar", "away.jar"]);
    let manifest = directory.path().join("manifest");
    std::fs::write(&manifest, "Bundle-SymbolicName: org.bundle\nBundle-ClassPath: .,lib/a.jar,lib/b.jar\n")
        .unwrap();
    tool("jar", directory.path(), &["--update", "--file", "bundle-1.jar", "--manifest", "manifest"]);
    for name in ["a.jar", "b.jar", "away.jar"] {
        std::fs::remove_file(directory.path().join(name)).unwrap();
    }
    let (outcome, index) = survey(directory.path());
    assert_eq!(outcome.warnings, []);
    for (class, expected) in [
        ("org/a/A.class", &["org.a:a 1"][..]),
        ("org/a/in/B.class", &["org.a:a 1"]),
        ("org/b/B.class", &["org.b:b 1"]),
        // Which of two it is, only the framework knows.
        ("org/two/T.class", &["org.a:a 1", "org.b:b 1"]),
        ("org/own/impl/Y.class", &["org.b:b 1", "org.bundle:bundle 1"]),
        ("org/own/Activator.class", &["org.bundle:bundle 1"]),
        ("org/a/in/deep/Z.class", &["org.bundle:bundle 1"]),
    ] {
        assert_eq!(owners(&index, "maven", &format!("bundle-1.jar!/{class}")), expected, "{class}");
    }
    assert_eq!(owners(&index, "maven", "bundle-1.jar").len(), 3);
    assert_eq!(owners(&index, "maven", "bundle-1.jar!/lib/away.jar"), ["org.away:away 1"]);
}

/// A directory on a Bundle-ClassPath is no part of the names of the classes below it.
#[test]
fn directories_on_the_class_path_of_a_bundle() {
    if !has_jdk() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let properties = |group: &str, artifact: &str| {
        let path = format!("META-INF/maven/{group}/{artifact}/pom.properties");
        (path, format!("groupId={group}\nartifactId={artifact}\nversion=1\n"))
    };
    let (acme, part) = (properties("org.acme", "bundle"), properties("org.other", "part"));
    jar(
        directory.path(),
        "bundle-1.jar",
        &[
            (&acme.0, acme.1.as_bytes()),
            (&part.0, part.1.as_bytes()),
            ("org/acme/bundle/Activator.class", b"\xca\xfe\xba\xbe"),
            ("inner/bin/org/other/part/P.class", b"\xca\xfe\xba\xbe"),
        ],
    );
    let manifest = directory.path().join("manifest");
    std::fs::write(&manifest, "Bundle-SymbolicName: org.acme.bundle\nBundle-ClassPath: .,inner/bin\n")
        .unwrap();
    tool("jar", directory.path(), &["--update", "--file", "bundle-1.jar", "--manifest", "manifest"]);
    let (_, index) = survey(directory.path());
    let found = index.lookup(b"bundle-1.jar").unwrap().owners;
    let part = found.iter().find(|owner| owner.package.name == "org.other:part").unwrap();
    assert_eq!(part.class_prefixes, ["org.other.part."]);
    assert!(owners(&index, "maven", "bundle-1.jar!/inner/bin").len() == 2);
}

/// kafka-clients carries commons-net, renamed by Maven's shade plugin.
#[test]
fn a_relocated_class_is_its_components() {
    let Some(jars) = kafka() else { return };
    let (_, index) = survey(&jars);
    const JAR: &str = "kafka-clients-4.4.0.jar";
    for (class, owner) in [
        (
            "org/apache/kafka/shaded/org/apache/commons/net/util/SubnetUtils.class",
            "commons-net:commons-net 3.13.0",
        ),
        ("org/apache/kafka/clients/producer/KafkaProducer.class", "org.apache.kafka:kafka-clients 4.4.0"),
    ] {
        assert_eq!(owners(&index, "maven", &format!("{JAR}!/{class}")), [owner], "{class}");
    }
    // What is no class is told of no one of them.
    assert_eq!(owners(&index, "maven", &format!("{JAR}!/LICENSE")).len(), 2);
}
