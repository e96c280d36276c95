use super::super::manifest::Manifest;
use super::*;

#[track_caller]
fn check_name(file_name: &str, expect: &str) {
    let name = FileName::parse(file_name);
    assert_eq!(format!("{} {}", name.artifact, name.version), expect);
}

#[test]
fn file_names() {
    check_name("log4j-core-2.14.1.jar", "log4j-core 2.14.1");
    check_name("log4j-1.2-api-2.17.1.jar", "log4j-1.2-api 2.17.1");
    check_name("kafka_2.13-4.4.0.jar", "kafka_2.13 4.4.0");
    check_name("guava-31.1-jre.jar", "guava 31.1-jre");
    check_name(
        "netty-transport-native-epoll-4.1.97.Final-linux-x86_64.jar",
        "netty-transport-native-epoll 4.1.97.Final",
    );
    check_name("app-1.0-SNAPSHOT-jar-with-dependencies.jar", "app 1.0-SNAPSHOT");
    check_name("zstd-jni-1.5.7-17.jar", "zstd-jni 1.5.7-17");
    check_name("spring-core-5.3.0-RC2.jar", "spring-core 5.3.0-RC2");
    check_name("org.apache.commons.lang_3.1.0.jar", "org.apache.commons.lang 3.1.0");
    check_name("scala-asm-9.5.0-scala-1.jar", "scala-asm 9.5.0-scala-1");
    check_name("app.jar", "app ");
    check_name("-1.jar", "-1 ");
    check_name("", " ");
}

fn pom(coordinates: &str) -> Pom {
    let mut parts = coordinates.split(':').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Pom { group: next(), artifact: next(), version: next(), by_directory: false }
}

#[track_caller]
fn check(file_name: &str, poms: &[&str], directories: &[&str], manifest: &str, expect: &[&str]) {
    let facts = Facts {
        poms: poms.iter().map(|text| pom(text)).collect(),
        manifest: Manifest::parse(manifest.as_bytes(), &mut LeftOut::default()),
        class_directories: directories.iter().map(|name| ((*name).to_owned(), 1)).collect(),
        class_count: directories.len() as u64,
        ..Facts::default()
    };
    let found: Vec<String> = identify(&facts, file_name, false, &mut LeftOut::default())
        .iter()
        .map(|c| {
            let prefixes = c.prefixes.join(",");
            format!("{}:{}:{} by {} [{prefixes}]", c.group, c.artifact, c.version, c.identified_by)
        })
        .collect();
    assert_eq!(found, expect, "{file_name}");
}

#[test]
fn one_component() {
    check(
        "slf4j-api-1.7.36.jar",
        &["org.slf4j:slf4j-api:1.7.36"],
        &["org/slf4j"],
        "",
        &["org.slf4j:slf4j-api:1.7.36 by pom.properties []"],
    );
    check(
        "renamed.jar",
        &["org.slf4j:slf4j-api:1.7.36"],
        &["org/slf4j", "other"],
        "",
        &["org.slf4j:slf4j-api:1.7.36 by pom.properties []"],
    );
    check(
        "hash4j-0.22.0.jar",
        &[],
        &["com/dynatrace/hash4j/util"],
        "",
        &["com.dynatrace.hash4j:hash4j:0.22.0 by file name []"],
    );
    check(
        "snappy-java.jar",
        &[],
        &["org/xerial/snappy"],
        "Implementation-Vendor-Id: org.xerial.snappy\nImplementation-Version: 1.1.10\n\n",
        &["org.xerial.snappy:snappy-java:1.1.10 by manifest []"],
    );
    check(
        "spring-beans-5.3.1.jar",
        &[],
        &["org/springframework/beans"],
        "Implementation-Version: 5.3.1\n",
        &["org.springframework:spring-beans:5.3.1 by manifest []"],
    );
    check("app.jar", &[], &[], "", &[":app: by file name []"]);
}

#[test]
fn merged_components() {
    check(
        "kafka-clients-4.4.0.jar",
        &["commons-net:commons-net:3.6"],
        &["org/apache/kafka/clients", "org/apache/kafka/common", "org/apache/commons/net"],
        "",
        &[
            "commons-net:commons-net:3.6 by pom.properties [org.apache.commons.net.]",
            "org.apache.kafka:kafka-clients:4.4.0 by file name [,org.apache.kafka.clients.]",
        ],
    );
    check(
        "service-1.0.jar",
        &["com.acme:service:1.0", "org.slf4j:slf4j-api:1.7.36", "com.acme.other:mystery:2"],
        &["com/acme", "org/slf4j"],
        "",
        &[
            "com.acme:service:1.0 by pom.properties [,com.acme.]",
            "org.slf4j:slf4j-api:1.7.36 by pom.properties [org.slf4j.]",
            "com.acme.other:mystery:2 by pom.properties []",
        ],
    );
    check(
        "app.jar",
        &["com.acme:service:1.0", "org.slf4j:slf4j-api:1.7.36"],
        &["com/acme/web", "org/slf4j"],
        "Main-Class: com.acme.web.Main\n",
        &[
            "com.acme:service:1.0 by pom.properties [,com.acme.]",
            "org.slf4j:slf4j-api:1.7.36 by pom.properties [org.slf4j.]",
        ],
    );
}

/// A group that is guessed from the classes may be that of what is merged into the archive.
#[test]
fn the_main_components_own_packages() {
    let of = |main_class: &str, expect: &str| {
        check(
            "app.jar",
            &["org.slf4j:slf4j-api:1.7.36", "org.glassfish:jakarta.el:4.0.2"],
            &["com/acme/shop", "com/acme/shop/web", "org/slf4j"],
            main_class,
            &[
                "org.slf4j:slf4j-api:1.7.36 by pom.properties [org.slf4j.]",
                "org.glassfish:jakarta.el:4.0.2 by pom.properties []",
                expect,
            ],
        );
    };
    of("Main-Class: com.acme.shop.web.Main\n", "com.acme.shop:app: by file name [,com.acme.shop.]");
    of("Main-Class: launcher.Main\n", "com.acme.shop:app: by file name []");
    of("", "com.acme.shop:app: by file name []");
}

#[test]
fn names_that_begin_with_the_group() {
    let facts =
        |poms: &[&str]| Facts { poms: poms.iter().map(|text| pom(text)).collect(), ..Facts::default() };
    let vertx = facts(&["io.vertx:vertx-core:4.5"]);
    assert!(names_its_group(&vertx, "io.vertx.vertx-core-4.5.jar"));
    assert!(!names_its_group(&vertx, "vertx-core-4.5.jar"));
    for (name, expect) in [
        ("com.github.luben.zstd-jni-1.5.6-4.jar", "com.github.luben:zstd-jni:1.5.6-4"),
        ("modified-com.h2database.h2-2.3.jar", "com.h2database:h2:2.3"),
        ("plain-1.jar", ":plain:1"),
    ] {
        let found = identify(&facts(&[]), name, true, &mut LeftOut::default());
        assert_eq!(format!("{}:{}:{}", found[0].group, found[0].artifact, found[0].version), expect);
    }
}

#[test]
fn prefixes_of_many_components_are_shortened() {
    let component = |number: usize| Component {
        group: String::new(),
        artifact: String::new(),
        version: String::new(),
        identified_by: identified_by::POM_PROPERTIES,
        prefixes: (0..4).map(|part| format!("com.acme.x{number}.part{part}.")).collect(),
    };
    let mut few: Vec<Component> = (0..200).map(component).collect();
    bound_prefixes(&mut few, &mut LeftOut::default());
    assert_eq!(few[0].prefixes.len(), 4);
    let mut many: Vec<Component> = (0..900).map(component).collect();
    bound_prefixes(&mut many, &mut LeftOut::default());
    assert_eq!(many[899].prefixes, ["com.acme.x899."]);
    let mut absurd: Vec<Component> = (0..900).map(component).collect();
    absurd[0].prefixes = vec![format!("{}.", "x".repeat(100_000))];
    bound_prefixes(&mut absurd, &mut LeftOut::default());
    assert!(absurd.iter().all(|component| component.prefixes.is_empty()));
}

/// Merged and unmarked jars of Maven Central, as they are there; the right coordinates are those of their place in it.
#[test]
fn jars_of_maven_central() {
    // Merged with one component only, whose classes were moved so that its coordinates do not tell them.
    check(
        "scala-compiler-2.13.10.jar",
        &["io.github.java-diff-utils:java-diff-utils:4.12"],
        &["scala/tools/nsc", "scala/tools/nsc/ast", "scala/reflect/reify"],
        "",
        &[
            "io.github.java-diff-utils:java-diff-utils:4.12 by pom.properties []",
            "org.scala-lang:scala-compiler:2.13.10 by file name []",
        ],
    );
    // A classifier that no list has.
    check(
        "orc-core-1.8.4-shaded-protobuf.jar",
        &["com.google.protobuf:protobuf-java:3.17.3", "org.apache.orc:orc-core:1.8.4"],
        &["org/apache/orc/protobuf", "org/apache/orc/impl", "org/threeten/extra/chrono"],
        "",
        &[
            "com.google.protobuf:protobuf-java:3.17.3 by pom.properties []",
            "org.apache.orc:orc-core:1.8.4 by pom.properties [,org.apache.orc.]",
        ],
    );
    for (file_name, directory, expect) in [
        ("asm-commons-9.4.jar", "org/objectweb/asm/commons", "org.ow2.asm:asm-commons:9.4"),
        ("zookeeper-3.4.6.jar", "org/apache/zookeeper/server", "org.apache.zookeeper:zookeeper:3.4.6"),
        ("gson-2.2.4.jar", "com/google/gson/internal", "com.google.code.gson:gson:2.2.4"),
        ("kotlin-stdlib-jdk8-1.8.10.jar", "META-INF", "org.jetbrains.kotlin:kotlin-stdlib-jdk8:1.8.10"),
        ("scala-xml_2.12-2.1.0.jar", "scala/xml", "org.scala-lang.modules:scala-xml_2.12:2.1.0"),
        ("flogger-0.7.1.jar", "com/google/common/flogger", "com.google.flogger:flogger:0.7.1"),
        (
            "elasticsearch-rest-client-7.17.9.jar",
            "org/elasticsearch/client",
            "org.elasticsearch.client:elasticsearch-rest-client:7.17.9",
        ),
        ("ehcache-2.10.jar", "net/sf/ehcache/store", "net.sf.ehcache:ehcache:2.10"),
        ("ehcache-3.3.1.jar", "org/ehcache/core", "org.ehcache:ehcache:3.3.1"),
    ] {
        check(file_name, &[], &[directory], "", &[&format!("{expect} by file name []")]);
    }
    // Gradle's names.
    check(
        "shop-1.2.3-SNAPSHOT-all.jar",
        &[],
        &["com/acme/shop"],
        "",
        &["com.acme.shop:shop:1.2.3-SNAPSHOT by file name []"],
    );
}

/// Jars of Maven Central without coordinates: what their manifests say, and the packages that most of their classes
/// are in. Where that leads to another group than theirs, the match has to allow for it (`group::hints`).
#[test]
fn groups_of_manifests() {
    let of = |file_name: &str, directories: &[&str], manifest: &str, expect: &str| {
        check(file_name, &[], directories, manifest, &[&format!("{expect} by manifest []")]);
    };
    of(
        "bcprov-jdk18on-1.78.1.jar",
        &["org/bouncycastle", "org/bouncycastle/jcajce/util", "org/bouncycastle/crypto/engines"],
        "Bundle-SymbolicName: bcprov\nBundle-Version: 1.78.1\n",
        "org.bouncycastle:bcprov-jdk18on:1.78.1",
    );
    of(
        "groovy-4.0.22.jar",
        &["org/codehaus/groovy/ast", "org/codehaus/groovy/runtime", "org/apache/groovy/util"],
        "Automatic-Module-Name: org.apache.groovy\nBundle-SymbolicName: groovy\nImplementation-Version: 4.0.22\n",
        "org.apache.groovy:groovy:4.0.22",
    );
    of(
        "groovy-ant-4.0.22.jar",
        &["org/codehaus/groovy/ant"],
        "Automatic-Module-Name: org.apache.groovy.ant\nBundle-SymbolicName: groovy-ant\n",
        "org.apache.groovy:groovy-ant:4.0.22",
    );
    of(
        "objenesis-3.3.jar",
        &["org/objenesis", "org/objenesis/instantiator", "org/objenesis/instantiator/sun"],
        "Automatic-Module-Name: org.objenesis\nBundle-SymbolicName: org.objenesis\nImplementation-Version: 3.3\n",
        "org.objenesis:objenesis:3.3",
    );
    of(
        "websocket-api-9.4.51.jar",
        &["org/eclipse/jetty/websocket/api"],
        "Bundle-SymbolicName: org.eclipse.jetty.websocket.api\n",
        "org.eclipse.jetty.websocket:websocket-api:9.4.51",
    );
    of(
        "caffeine-3.1.8.jar",
        &["com/github/benmanes/caffeine/cache"],
        "Automatic-Module-Name: com.github.benmanes.caffeine\nBundle-Version: 3.1.8\n",
        "com.github.ben-manes.caffeine:caffeine:3.1.8",
    );
    // One manifest, two groups: org.hibernate until version 5, org.hibernate.orm since 6.
    of(
        "hibernate-core-6.4.9.Final.jar",
        &["org/hibernate/internal"],
        "Automatic-Module-Name: org.hibernate.orm.core\nImplementation-Vendor-Id: org.hibernate\nImplementation-Version: 6.4.9.Final\n",
        "org.hibernate:hibernate-core:6.4.9.Final",
    );
    of(
        "hibernate-commons-annotations-6.0.6.Final.jar",
        &["org/hibernate/annotations/common"],
        "Implementation-Vendor-Id: org.hibernate\nImplementation-Version: 6.0.6.Final\n",
        "org.hibernate:hibernate-commons-annotations:6.0.6.Final",
    );
    of(
        "flink-metrics-datadog-1.18.1.jar",
        &["okhttp3", "okhttp3/internal/http2", "okhttp3/internal", "org/apache/flink/metrics/datadog"],
        "Implementation-Vendor-Id: org.apache.flink\nImplementation-Version: 1.18.1\n",
        "org.apache.flink:flink-metrics-datadog:1.18.1",
    );
    of(
        "flink-scala_2.12-1.18.1.jar",
        &["scala", "scala/reflect/internal", "scala/tools/nsc"],
        "Implementation-Vendor-Id: org.apache.flink\nImplementation-Version: 1.18.1\n",
        "org.apache.flink:flink-scala_2.12:1.18.1",
    );
    of(
        "scala-asm-9.5.0-scala-1.jar",
        &["scala/tools/asm", "scala/tools/asm/tree"],
        "Bundle-SymbolicName: org.scala-lang.modules.scala-asm\nBundle-Version: 9.5.0.scala1\n",
        "org.scala-lang.modules:scala-asm:9.5.0-scala-1",
    );
    // A vendor that neither the classes nor the name know.
    check(
        "okhttp-4.12.0.jar",
        &[],
        &["okhttp3", "okhttp3/internal"],
        "Implementation-Vendor-Id: com.acme.repackaged\n",
        &["com.squareup.okhttp3:okhttp:4.12.0 by file name []"],
    );
    of(
        "spring-jcl-5.3.39.jar",
        &["org/apache/commons/logging", "org/apache/commons/logging/impl"],
        "Automatic-Module-Name: spring.jcl\nImplementation-Version: 5.3.39\n",
        "org.apache.commons:spring-jcl:5.3.39",
    );
}

#[test]
fn hints_of_guessed_groups() {
    let facts = Facts {
        manifest: Manifest::parse(
            b"Automatic-Module-Name: spring.jcl\nBundle-SymbolicName: plain\n",
            &mut LeftOut::default(),
        ),
        class_directories: [("org/apache/commons/logging", 2), ("com/acme", 3), ("top", 1)]
            .map(|(name, count)| (name.to_owned(), count))
            .into(),
        ..Facts::default()
    };
    let mut component = identify(&facts, "x-1.jar", false, &mut LeftOut::default()).remove(0);
    let hints = group::hints(&component, &facts).unwrap();
    assert_eq!(hints, ["spring.jcl", "com.acme", "org.apache", "top"]);
    for known in [identified_by::POM_PROPERTIES, identified_by::POM_DIRECTORY, identified_by::MODULE] {
        component.identified_by = known;
        assert_eq!(group::hints(&component, &facts), None);
    }
}
