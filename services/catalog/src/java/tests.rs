use super::archive::{MAX_CLASS_DIRECTORIES, MAX_DEPTH, MAX_POMS, look_into};
use crate::testing::{self, Node, catalog, check_owners, owners, tree};
use crate::zip::tests::{Keep, Writer};
use crate::{CatalogOutcome, OwnershipIndex, PackageRecord};
use Keep::{Deflated, Stored};
use proptest::prelude::*;

fn properties(coordinates: &str) -> (String, String) {
    let parts: Vec<&str> = coordinates.split(':').collect();
    let text = format!("groupId={}\nartifactId={}\nversion={}\n", parts[0], parts[1], parts[2]);
    (format!("META-INF/maven/{}/{}/pom.properties", parts[0], parts[1]), text)
}

/// A jar of these Maven coordinates and classes.
fn jar(coordinates: &[&str], classes: &[&str]) -> Vec<u8> {
    let mut writer = Writer::default();
    for one in coordinates {
        let (path, text) = properties(one);
        writer = writer.add(&path, text.as_bytes(), Deflated);
    }
    for class in classes {
        writer = writer.add(&format!("{class}.class"), b"\xca\xfe\xba\xbe", Stored);
    }
    writer.finish()
}

fn log4j() -> Vec<u8> {
    jar(
        &["org.apache.logging.log4j:log4j-core:2.14.1"],
        &["org/apache/logging/log4j/core/Logger", "META-INF/versions/9/module-info"],
    )
}

/// A fat jar in Spring Boot's layout: nested jars stored, classes below BOOT-INF/classes.
fn boot() -> Vec<u8> {
    let manifest =
        b"Main-Class: org.springframework.boot.loader.JarLauncher\nStart-Class: com.acme.shop.Main\n\n";
    let (path, text) = properties("com.acme:shop:1.0");
    Writer::default()
        .add("META-INF/MANIFEST.MF", manifest, Deflated)
        .add(&path, text.as_bytes(), Deflated)
        .add("org/springframework/boot/loader/JarLauncher.class", b"", Stored)
        .add("BOOT-INF/classes/com/acme/shop/Main.class", b"", Deflated)
        .add("BOOT-INF/lib/log4j-core-2.14.1.jar", &log4j(), Stored)
        .add(
            "BOOT-INF/lib/slf4j-api-1.7.36.jar",
            &jar(&["org.slf4j:slf4j-api:1.7.36"], &["org/slf4j/Logger"]),
            Deflated,
        )
        .finish()
}

/// `purl place by reason` of each package.
fn described(outcome: &CatalogOutcome) -> Vec<String> {
    let one = |package: &PackageRecord| {
        let place = String::from_utf8(package.locations[0].identity_bytes()).unwrap();
        let reason = &package.not_measurable_reason;
        format!(
            "{} {place} by {}{}{reason}",
            package.purl,
            package.identified_by,
            if reason.is_empty() { "" } else { ": " }
        )
    };
    outcome.packages.iter().filter(|package| package.ecosystem != "debian").map(one).collect()
}

fn warnings(outcome: &CatalogOutcome) -> Vec<String> {
    outcome.warnings.iter().map(|warning| format!("{} {}", warning.subject, warning.message)).collect()
}

fn index(nodes: &[(&str, Node<'_>)]) -> OwnershipIndex {
    OwnershipIndex::build(&tree(nodes))
}

#[test]
fn java_packages_tell_which_archives_have_them() {
    let (fat, log4j) = (boot(), log4j());
    let shaded = jar(
        &["com.acme:tool:1", "org.slf4j:slf4j-api:1.7.36"],
        &["com/acme/tool/Main", "com/acme/tool/shaded/org/slf4j/Logger", "Bare"],
    );
    let nodes = [
        ("srv/app.jar", Node::File(&fat)),
        ("lib/log.jar", Node::File(&log4j)),
        ("lib/tool.jar", Node::File(&shaded)),
        ("webapps/shop/WEB-INF/classes/com/acme/web/Shop.class", Node::File(b"x")),
        ("webapps/shop/META-INF/MANIFEST.MF", Node::File(b"Implementation-Version: 2\n\n")),
    ];
    let index = index(&nodes);
    let check = |directory: &str, expect: &[&str]| {
        let found = index.lookup_java_package(directory.as_bytes());
        let names: Vec<&str> =
            found.iter().flat_map(|found| &found.owners).map(|owner| owner.package.name.as_str()).collect();
        assert_eq!(names, expect, "{directory}");
    };
    check("com/acme/shop", &["com.acme:shop"]);
    // In two archives: two copies of one package.
    check("org/apache/logging/log4j/core", &["org.apache.logging.log4j:log4j-core"; 2]);
    check("org/apache/logging/log4j", &[]);
    check("org/slf4j", &["org.slf4j:slf4j-api"]);
    check("com/acme/tool/shaded/org/slf4j", &["org.slf4j:slf4j-api"]);
    check("com/acme/tool", &["com.acme:tool"]);
    check("", &["com.acme:tool"]);
    check("com/acme/web", &["com.acme.web:shop"]);
    check("BOOT-INF/classes/com/acme/shop", &[]);
    check("META-INF", &[]);
}

#[test]
fn an_archive_with_too_many_directories_may_have_any_java_package() {
    let classes: Vec<String> =
        (0..=super::archive::MAX_CLASS_DIRECTORIES).map(|number| format!("a/b/c{number}/X")).collect();
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    let big = jar(&["com.acme:big:1"], &classes);
    let index = index(&[("lib/big.jar", Node::File(&big))]);
    let found = index.lookup_java_package(b"org/elsewhere").unwrap();
    assert_eq!(found.owners[0].package.name, "com.acme:big");
}

#[test]
fn fat_jars_are_read_in_place() {
    let jar = boot();
    let nodes = [("srv/app.jar", Node::File(&jar)), ("srv/link.jar", Node::Link("app.jar"))];
    let outcome = catalog(&tree(&nodes));
    assert_eq!(
        described(&outcome),
        [
            "pkg:maven/com.acme/shop@1.0 srv/app.jar by pom.properties",
            "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1 srv/app.jar!/BOOT-INF/lib/log4j-core-2.14.1.jar by pom.properties",
            "pkg:maven/org.slf4j/slf4j-api@1.7.36 srv/app.jar!/BOOT-INF/lib/slf4j-api-1.7.36.jar by pom.properties",
        ]
    );
    assert_eq!(warnings(&outcome), [""; 0]);
    let package = testing::package(&outcome, "org.apache.logging.log4j:log4j-core");
    assert_eq!((package.loadable_file_count, &package.observable_by[..]), (1, &["jvmti"][..]));
    assert_eq!(package.locations[0].layer, "sha256:layer");
    let index = index(&nodes);
    check_owners(
        &index,
        &[
            ("srv/app.jar", "com.acme:shop jar code"),
            ("srv/app.jar!/BOOT-INF/classes", "com.acme:shop jar code"),
            (
                "srv/app.jar!/BOOT-INF/lib/log4j-core-2.14.1.jar",
                "org.apache.logging.log4j:log4j-core jar code",
            ),
            ("srv/app.jar!/somewhere/else", "com.acme:shop jar code"),
            ("srv/other.jar!/x", "-"),
        ],
    );
    let tree = tree(&nodes);
    let linked = index.lookup_in(&tree, b"srv/link.jar!/BOOT-INF/lib/slf4j-api-1.7.36.jar").unwrap();
    assert_eq!(linked.owners[0].package.name, "org.slf4j:slf4j-api");
    assert!(index.covers(b"srv/app.jar!/x") && !index.covers(b"srv/new.jar"));
}

/// Only what was seen to be used is known of them.
#[test]
fn sources_that_run_as_they_are_leave_no_class_of_the_archive() {
    let with = |source: &str| {
        let jar = Writer::default().add("com/acme/A.class", b"", Stored).add(source, b"", Stored).finish();
        let outcome = catalog(&tree(&[("lib/a-1.0.jar", Node::File(&jar))]));
        assert_eq!(outcome.packages[0].observable_by, ["jvmti"]);
        outcome.packages[0].not_measurable_reason.clone()
    };
    for source in ["com/acme/core.clj", "com/acme/core.cljc", "acme.rb", "Lib/acme.py"] {
        assert!(with(source).contains("sources of Clojure"), "{source}");
    }
    // Without any class, too: Clojure's libraries are mostly that.
    let sources = Writer::default().add("acme/core.clj", b"", Stored).finish();
    let outcome = catalog(&tree(&[("lib/a-1.0.jar", Node::File(&sources))]));
    assert!(outcome.packages[0].not_measurable_reason.contains("sources of Clojure"));
    assert!(outcome.packages[0].observable_by.is_empty());
    for other in ["META-INF/a.clj", "clj-kondo.exports/a/hooks.clj", "project.clj", "a.js", "a.cljs"] {
        assert_eq!(with(other), "", "{other}");
    }
}

#[test]
fn ears_hold_wars_that_hold_jars() {
    let war = Writer::default()
        .add("WEB-INF/classes/com/acme/Servlet.class", b"", Stored)
        .add("WEB-INF/lib/log4j-core-2.14.1.jar", &log4j(), Deflated)
        .finish();
    let ear = Writer::default().add("shop-web-2.0.war", &war, Deflated).finish();
    let outcome = catalog(&tree(&[("deployments/shop-2.0.ear", Node::File(&ear))]));
    assert_eq!(
        described(&outcome),
        [
            "pkg:maven/com.acme/shop-web@2.0 deployments/shop-2.0.ear!/shop-web-2.0.war by file name",
            "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1 deployments/shop-2.0.ear!/shop-web-2.0.war!/WEB-INF/lib/log4j-core-2.14.1.jar by pom.properties",
            "pkg:maven/shop@2.0 deployments/shop-2.0.ear by file name: it has no class",
        ]
    );
}

#[test]
fn merged_components_share_a_jar_by_class_prefixes() {
    let shaded = jar(
        &["com.acme:agent:1.0", "org.apache.logging.log4j:log4j-core:2.14.1", "org.slf4j:slf4j-api:1.7.36"],
        &["com/acme/Agent", "com/acme/shaded/org/apache/logging/log4j/core/Logger", "org/slf4j/Logger"],
    );
    let index = index(&[("agent-1.0.jar", Node::File(&shaded))]);
    let found = index.lookup(b"agent-1.0.jar").unwrap();
    let described: Vec<String> = found
        .owners
        .iter()
        .map(|owner| format!("{} {:?}", owner.package.name, owner.class_prefixes))
        .collect();
    assert_eq!(
        described,
        [
            r#"com.acme:agent ["", "com.acme."]"#,
            r#"org.apache.logging.log4j:log4j-core ["com.acme.shaded.org.apache.logging.log4j.core."]"#,
            r#"org.slf4j:slf4j-api ["org.slf4j."]"#,
        ]
    );
}

/// As OpenTelemetry's and Elastic's agents ship what they do not want the application to see.
#[test]
fn classes_under_other_endings_belong_to_their_component() {
    let (path, text) = properties("org.slf4j:slf4j-api:1.7.36");
    let agent = Writer::default()
        .add("com/acme/Agent.class", b"", Stored)
        .add("inst/org/slf4j/spi/Logger.classdata", b"", Stored)
        .add("agent/com/acme/Core.esclazz", b"", Stored)
        .add(&format!("inst/{path}"), text.as_bytes(), Stored)
        .finish();
    let nodes = [("agent-1.0.jar", Node::File(&agent))];
    let index = index(&nodes);
    let slf4j = index
        .lookup(b"agent-1.0.jar")
        .unwrap()
        .owners
        .into_iter()
        .find(|owner| owner.package.name == "org.slf4j:slf4j-api");
    assert_eq!(slf4j.map(|owner| owner.class_prefixes), Some(&["org.slf4j.".to_owned()][..]));
    let counts: Vec<u64> =
        catalog(&tree(&nodes)).packages.iter().map(|one| one.loadable_file_count).collect();
    assert_eq!(counts, [3, 3], "both have the archive's classes");
}

const STATUS: &str = "Package: liblog4j2-java\nStatus: install ok installed\nArchitecture: all\nSource: apache-log4j2\nVersion: 2.14.1-1\n\nPackage: vendor-suite\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n";

#[test]
fn jars_in_packages_of_the_distribution() {
    let jar = log4j();
    let lists = [
        "/usr/share/java/log4j-core.jar\n/usr/share/java/log4j-core-2.14.1.jar\n",
        "/opt/vendor/lib/log4j-core-2.14.1.jar\n",
    ];
    let outcome = catalog(&tree(&[
        ("var/lib/dpkg/status", Node::File(STATUS.as_bytes())),
        ("var/lib/dpkg/info/liblog4j2-java.list", Node::File(lists[0].as_bytes())),
        ("var/lib/dpkg/info/vendor-suite.list", Node::File(lists[1].as_bytes())),
        ("usr/share/java/log4j-core-2.14.1.jar", Node::File(&jar)),
        ("usr/share/java/log4j-core.jar", Node::Link("log4j-core-2.14.1.jar")),
        ("opt/vendor/lib/log4j-core-2.14.1.jar", Node::File(&jar)),
    ]));
    let mut carried: Vec<(String, &str)> = outcome
        .packages
        .iter()
        .filter(|package| package.ecosystem == "maven")
        .map(|package| {
            (
                String::from_utf8_lossy(&package.locations[0].path).into_owned(),
                package.provided_by_name.as_str(),
            )
        })
        .collect();
    carried.sort_unstable();
    assert_eq!(
        carried,
        [
            ("opt/vendor/lib/log4j-core-2.14.1.jar".to_owned(), ""),
            ("usr/share/java/log4j-core-2.14.1.jar".to_owned(), "liblog4j2-java"),
        ]
    );
}

#[test]
fn exploded_applications() {
    let (path, text) = properties("com.acme:shop:1.0");
    let nodes = [
        ("webapps/shop/META-INF/MANIFEST.MF", Node::File(b"Manifest-Version: 1.0\n".as_slice())),
        (&format!("webapps/shop/{path}"), Node::File(text.as_bytes())),
        ("webapps/shop/WEB-INF/classes/com/acme/Shop.class", Node::File(b"x")),
        ("app/META-INF/MANIFEST.MF", Node::File(b"Implementation-Title: tool\nImplementation-Version: 3\n")),
        ("app/BOOT-INF/classes/com/acme/tool/Main.class", Node::File(b"x")),
        ("other/META-INF/MANIFEST.MF", Node::File(b"Implementation-Title: nothing\n")),
    ];
    assert_eq!(
        described(&catalog(&tree(&nodes))),
        [
            "pkg:maven/com.acme.tool/tool@3 app/META-INF/MANIFEST.MF by manifest",
            "pkg:maven/com.acme/shop@1.0 webapps/shop/META-INF/maven/com.acme/shop/pom.properties by pom.properties",
        ]
    );
    let index = index(&nodes);
    check_owners(
        &index,
        &[
            ("webapps/shop/WEB-INF/classes", "com.acme:shop jar-directory code"),
            ("webapps/shop/WEB-INF/classes/com/acme/Shop.class", "com.acme:shop jar-directory code"),
            ("app/BOOT-INF/classes", "com.acme.tool:tool jar-directory code"),
            ("webapps/shop", "-"),
        ],
    );
}

const RELEASE: &[u8] = b"IMPLEMENTOR=\"Eclipse Adoptium\"\nJAVA_VERSION=\"17.0.15\"\n";

#[test]
fn runtimes() {
    let jar = log4j();
    let nodes = [
        ("opt/jdk/release", Node::File(RELEASE)),
        ("opt/jdk/lib/modules", Node::File(b"\xda\xda\xfe\xca")),
        ("opt/jdk/lib/jrt-fs.jar", Node::File(&jar)),
        ("opt/other/release", Node::File(b"1.0")),
    ];
    let outcome = catalog(&tree(&nodes));
    assert_eq!(described(&outcome), ["pkg:generic/openjdk@17.0.15 opt/jdk/lib/modules by release file"]);
    let index = index(&nodes);
    assert_eq!(owners(&index, "opt/jdk/lib/modules"), "openjdk java-release data");
    assert_eq!(owners(&index, "opt/jdk/lib/jrt-fs.jar"), "openjdk java-release code");
}

#[test]
fn runtimes_of_the_distribution_are_named_once() {
    let status = "Package: openjdk-17-jre-headless\nStatus: install ok installed\nArchitecture: amd64\nVersion: 17.0.15+6-1\n";
    let nodes = [
        ("var/lib/dpkg/status", Node::File(status.as_bytes())),
        (
            "var/lib/dpkg/info/openjdk-17-jre-headless.list",
            Node::File(b"/usr/lib/jvm/j/release\n/usr/lib/jvm/j/lib/modules\n"),
        ),
        ("usr/lib/jvm/j/release", Node::File(RELEASE)),
        ("usr/lib/jvm/j/lib/modules", Node::File(b"\xda\xda\xfe\xca")),
    ];
    assert_eq!(described(&catalog(&tree(&nodes))), [""; 0]);
    assert_eq!(owners(&index(&nodes), "usr/lib/jvm/j/lib/modules"), "openjdk-17-jre-headless dpkg data");
}

/// A module of which not every directory of classes is known may have any Java package; the others beside it may not.
#[test]
fn modules_of_an_image_are_held_back_each_by_itself() {
    let directories: Vec<String> = (0..=MAX_CLASS_DIRECTORIES).map(|n| format!("org/big/d{n}")).collect();
    let mut files: Vec<(&str, &str, &str, &str, &[u8])> =
        directories.iter().map(|directory| ("org.big", directory.as_str(), "A", "class", &b""[..])).collect();
    files.push(("org.small", "org/small", "A", "class", b""));
    let check = |image: &[u8], directory: &str, expect: &str| {
        let index =
            index(&[("opt/jre/release", Node::File(RELEASE)), ("opt/jre/lib/modules", Node::File(image))]);
        let found = index.lookup_java_package(directory.as_bytes());
        let owners = found.iter().flat_map(|found| &found.owners);
        let names: Vec<&str> = owners.map(|owner| owner.package.name.as_str()).collect();
        assert_eq!(names.join(","), expect, "{directory}");
    };
    let image = super::jimage::tests::image(&files);
    check(&image, "org/small", "org.big:org.big,org.small:org.small");
    check(&image, "org/elsewhere", "org.big:org.big");
    // An entry of the index that cannot be read may be any module's.
    let mut damaged = super::jimage::tests::image(&files[files.len() - 2..]);
    check(&damaged, "org/elsewhere", "");
    damaged[28 + 2 * 4 + 3] = 0x7f;
    check(&damaged, "org/small", "org.small:org.small");
    check(&damaged, "org/elsewhere", "org.small:org.small");
}

#[test]
fn damaged_archives_are_named_and_everything_else_is_reported() {
    let jar = log4j();
    let mut inner = log4j();
    inner.truncate(inner.len() - 30);
    let outer = Writer::default()
        .add("lib/bad.jar", &inner, Stored)
        .add("lib/log4j-core-2.14.1.jar", &jar, Stored)
        .add("A.class", b"", Stored)
        .finish();
    let outcome = catalog(&tree(&[
        ("a.jar", Node::File(&outer)),
        ("b.jar", Node::File(b"version https://git-lfs.github.com/spec/v1\n")),
        ("c.jar", Node::File(&jar[..jar.len() - 30])),
    ]));
    assert_eq!(outcome.packages.len(), 2, "{:?}", described(&outcome));
    let subjects: Vec<&str> = outcome.warnings.iter().map(|warning| warning.subject.as_str()).collect();
    assert_eq!(subjects, ["a.jar!/lib/bad.jar", "b.jar", "c.jar"], "{:?}", outcome.warnings);
}

#[test]
fn archives_nested_a_thousand_deep_end_at_the_bound() {
    // Compressing again what is compressed makes it longer, so not as often.
    for (keep, depth) in [(Stored, 1_000), (Deflated, 30)] {
        let mut jar = log4j();
        for _ in 0..depth {
            jar = Writer::default().add("inner.jar", &jar, keep).finish();
        }
        let found = look_into(&jar);
        assert_eq!(found.archives.len(), MAX_DEPTH + 1);
        assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
        assert!(found.notes[0].1.contains("archives deep"));
    }
}

#[test]
fn what_is_left_out_of_an_archive_is_noted() {
    let mut outer =
        Writer::default().add("lib/xx.jar", &log4j(), Deflated).add("lib/xx.class", b"", Stored).finish();
    while let Some(at) = memchr::memmem::find(&outer, b"/xx") {
        outer[at + 1] = 0xff;
    }
    let notes = look_into(&outer).notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].0.ends_with("x.jar") && notes[0].1.contains("UTF-8"), "{notes:?}");
    assert!(notes[1].1.starts_with("2 of its members"), "{notes:?}");
    let mut many = Writer::default();
    for number in 0..MAX_POMS + 2 {
        many = many.add(&format!("META-INF/maven/g/a{number}/pom.xml"), b"", Stored);
    }
    let left_out = look_into(&many.finish()).archives[0].left_out.text();
    assert!(left_out.contains("pom.xml"), "{left_out}");
}

#[test]
fn names_with_control_characters_never_reach_a_purl() {
    let outer = Writer::default()
        .add("META-INF/maven/a\u{1b}[31m/b\n/pom.properties", b"version=1\n", Stored)
        .add("META-INF/MANIFEST.MF", b"Implementation-Title: x\x07y\nImplementation-Version: 1\x00\n", Stored)
        .add("lib/\u{7}\n.jar", &log4j(), Stored)
        .add("a\u{1}b/C.class", b"", Stored)
        .finish();
    let outcome = catalog(&tree(&[("e\u{1b}vil.jar", Node::File(&outer))]));
    let json = serde_json::to_string(
        &outcome.packages.iter().map(|p| (&p.purl, &p.name, &p.version)).collect::<Vec<_>>(),
    )
    .unwrap();
    assert!(!json.contains("\\u00") && !json.contains("\\n"), "{json}");
    assert!(outcome.warnings.iter().all(|warning| !warning.subject.contains(char::is_control)));
}

#[test]
fn bombs_cost_little() {
    let bomb = Writer::default().add("x.jar", &vec![0; 200 << 20], Deflated).finish();
    let found = look_into(&bomb);
    assert_eq!(found.archives.len(), 1);
    assert!(found.notes[0].1.contains("inflates"), "{:?}", found.notes);
    // Manifests and coordinates are cut, not believed.
    let long = Writer::default()
        .add(
            "META-INF/MANIFEST.MF",
            &[b"Main-Class: a\n".as_slice(), &vec![b' '; 64 << 20]].concat(),
            Deflated,
        )
        .finish();
    assert_eq!(look_into(&long).archives[0].manifest.main_class, "a");
}

proptest! {
    #[test]
    fn damaged_archives_never_panic(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = boot();
        for (at, value) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        let found = look_into(&bytes);
        for facts in &found.archives {
            prop_assert!(!super::coordinates::identify(facts, "app-1.0.jar", true, &mut Default::default()).is_empty());
        }
    }
}

/// The content of deployments that WildFly manages has no ending.
#[test]
fn managed_deployments() {
    const REST: &str = "e8f15002bc46b3c5cba8fa052a151d11de78c2";
    for (path, expected) in [
        (format!("standalone/data/content/59/{REST}/content"), true),
        (format!("data/content/59/{REST}/content"), true),
        (format!("domain/data/content/5g/{REST}/content"), false),
        (format!("domain/data/content/59/{}/content", &REST[1..]), false),
        (format!("data/contents/59/{REST}/content"), false),
        (format!("content/59/{REST}/content"), false),
        (format!("data/content/59/{REST}/content/x"), false),
        ("content".to_owned(), false),
    ] {
        assert_eq!(super::is_archive_path(path.as_bytes()), expected, "{path}");
    }
    let at = |number: u32| format!("wf/standalone/data/content/59/{number:038x}/content");
    let bytes = jar(&["com.acme:shop:1"], &["com/acme/Shop"]);
    let war = Writer::default().add("WEB-INF/lib/shop.jar", &bytes, Deflated).finish();
    let files = [(at(1), war.as_slice()), (at(2), b"no archive"), ("wf/content".to_owned(), &war)];
    let (outcome, index) = crate::catalog_with_ownership(&testing::tree_of(&files));
    check_owners(&index, &[(format!("{}!/WEB-INF/lib/shop.jar", at(1)), "com.acme:shop jar code")]);
    assert!(outcome.packages.iter().all(|package| package.locations[0].path == at(1).as_bytes()));
    assert_eq!(outcome.warnings.len(), 0, "{:?}", outcome.warnings);
}
