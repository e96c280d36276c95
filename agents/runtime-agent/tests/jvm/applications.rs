//! Applications of Java, Kotlin and Scala with libraries from their registry: what is reported is what the JVM logs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plimsoll_runtime_agent::config::UseEbpf;
use plimsoll_schemas::events::Observed;

use super::support;
use super::support::jvm::{Classes, compare, compile, config, logged, reported, with_javac};
use super::support::languages::{cached, fetch, mark, program};

const APPLICATION: &str = include_str!("../applications/jvm/pom.xml");
const TOOLS: &str = include_str!("../applications/jvm/tools.pom.xml");
const CLOJURE: &str = include_str!("../applications/jvm/clojure.pom.xml");
const JAVA: &str = include_str!("../applications/jvm/App.java");
const KOTLIN: &str = include_str!("../applications/jvm/app.kt");
const SCALA: &str = include_str!("../applications/jvm/app.scala");

/// Libraries and compiled classes, made once: `libs`, `tools`, `clojure`, `kotlin`, `scala`.
fn prepared(home: &Path) -> Option<PathBuf> {
    program("mvn", "apt install maven")?;
    let name = format!("jvm-application-{}", mark(&[APPLICATION, TOOLS, CLOJURE, KOTLIN, SCALA].concat()));
    cached(&name, |folder| {
        for (pom, to) in [(APPLICATION, "libs"), (TOOLS, "tools"), (CLOJURE, "clojure")] {
            fs::write(folder.join("pom.xml"), pom).map_err(|error| error.to_string())?;
            let output = format!("-DoutputDirectory={}", folder.join(to).display());
            let mut maven = Command::new("mvn");
            maven.args(["-q", "-B", "-f"]).arg(folder.join("pom.xml")).arg("dependency:copy-dependencies");
            fetch(maven.arg(output))?;
        }
        let tools = format!("{}/*", folder.join("tools").display());
        let compilers: [(&str, &str, &str, &[&str]); 2] = [
            ("kotlin", KOTLIN, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", &["-no-stdlib", "-no-reflect"]),
            ("scala", SCALA, "scala.tools.nsc.Main", &["-usejavacp"]),
        ];
        for (language, text, compiler, options) in compilers {
            let source = folder.join(format!("app.{}", if language == "kotlin" { "kt" } else { "scala" }));
            fs::write(&source, text).map_err(|error| error.to_string())?;
            let classes = folder.join(language);
            fs::create_dir_all(&classes).map_err(|error| error.to_string())?;
            let mut java = Command::new(home.join("bin/java"));
            java.env_remove("JAVA_TOOL_OPTIONS").args(["-cp", &tools, compiler]).args(options);
            if language == "kotlin" {
                java.arg("-cp").arg(jar_of(&folder.join("tools"), "kotlin-stdlib-"));
            }
            fetch(java.arg("-d").arg(&classes).arg(&source))?;
        }
        Ok(())
    })
}

/// The one jar in a folder whose name begins so.
fn jar_of(folder: &Path, begin: &str) -> PathBuf {
    let begins = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.strip_prefix(begin).is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
    };
    let mut files = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    files.find(begins).unwrap()
}

/// Runs it hooked, compares with the JVM's log, and gives its output and its classes.
fn run(home: &Path, root: &Path, least_generated: i64, arguments: &[&str]) -> (String, Classes) {
    let (agent, collected) = support::start(config(UseEbpf::Off));
    let tree = support::tree(&agent, root);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(home.join("bin/java"));
    command.arg(format!("-Xlog:class+load:file={}:none", log.path().display())).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tree.spawn(command).unwrap().wait_with_output().unwrap();
    agent.stop(false);
    assert!(output.status.success(), "{output:?}");
    let reported = reported(&collected, root);
    compare(&logged(log.path(), home), &reported);
    for workload in collected.workloads() {
        assert!(workload.watched.iter().any(|watch| watch.probe == "jvmti" && watch.from_first_exec));
        assert!(!workload.losses.iter().any(|loss| loss.probe == "jvmti"), "{workload:?}");
        let generated = |observed: &Observed| observed.counts.get("classes-generated").copied().unwrap_or(0);
        let generated: i64 = workload.observed.iter().map(generated).sum();
        assert!(generated >= least_generated, "{workload:?}");
    }
    (String::from_utf8(output.stdout).unwrap(), reported)
}

/// File names of the archives that classes came from.
fn archives(classes: &Classes) -> BTreeSet<String> {
    let places = classes.values().flatten().filter(|place| place.ends_with(".jar"));
    places.map(|place| place.rsplit('/').next().unwrap().to_owned()).collect()
}

/// A fat jar as Spring Boot makes it: the libraries stored within.
fn fat_jar(home: &Path, prepared: &Path, root: &Path) -> PathBuf {
    let libs = prepared.join("libs");
    let inside = root.join("BOOT-INF/lib");
    fs::create_dir_all(&inside).unwrap();
    for entry in fs::read_dir(&libs).unwrap().flatten() {
        fs::copy(entry.path(), inside.join(entry.file_name())).unwrap();
    }
    let built = compile(home, &root.join("build"), &[("App.java", JAVA)], &format!("{}/*", libs.display()));
    fs::rename(built, root.join("BOOT-INF/classes")).unwrap();
    let loader = jar_of(&prepared.join("tools"), "spring-boot-loader-");
    let unpacked = Command::new(home.join("bin/jar"))
        .env_remove("JAVA_TOOL_OPTIONS")
        .current_dir(root)
        .args(["xf", loader.to_str().unwrap(), "org"])
        .status();
    assert!(unpacked.unwrap().success());
    let manifest = "Main-Class: org.springframework.boot.loader.launch.JarLauncher\nStart-Class: App\n\
        Spring-Boot-Classes: BOOT-INF/classes/\nSpring-Boot-Lib: BOOT-INF/lib/\n";
    fs::write(root.join("manifest"), manifest).unwrap();
    let jar = root.join("application.jar");
    let manifest = root.join("manifest");
    let mut command = Command::new(home.join("bin/jar"));
    command
        .env_remove("JAVA_TOOL_OPTIONS")
        .arg("cfm0")
        .arg(&jar)
        .arg(manifest)
        .arg("-C")
        .arg(root)
        .arg("org");
    assert!(command.arg("-C").arg(root).arg("BOOT-INF").status().unwrap().success());
    jar
}

#[test]
fn java_in_a_fat_jar() {
    let Some(home) = with_javac() else { return };
    let Some(prepared) = prepared(&home) else { return };
    let root = tempfile::tempdir().unwrap();
    let jar = fat_jar(&home, &prepared, root.path());
    let other = jar_of(&prepared.join("tools"), "commons-codec-");
    let jar_name = jar.to_str().unwrap();
    let (output, classes) = run(&home, root.path(), 0, &["-jar", jar_name, other.to_str().unwrap()]);
    assert!(output.contains("{\"a\":1} 9dd4e461268c8034f5c8564e155c67a6"), "{output}");
    let place = |class: &str| classes.get(class).map(|places| places.iter().cloned().collect::<Vec<_>>());
    let jar = fs::canonicalize(&jar).unwrap().to_str().unwrap().to_owned();
    let inner = |name: &str| format!("{jar}!/BOOT-INF/lib/{name}");
    assert_eq!(place("App"), Some(vec![jar.clone()]));
    assert_eq!(place("org.springframework.boot.loader.launch.JarLauncher"), Some(vec![jar.clone()]));
    assert_eq!(place("com.google.gson.Gson"), Some(vec![inner("gson-2.11.0.jar")]));
    assert_eq!(place("org.yaml.snakeyaml.Yaml"), Some(vec![inner("snakeyaml-2.2.jar")]), "late");
    let mut codecs = place("org.apache.commons.codec.digest.DigestUtils").unwrap();
    codecs.sort_by_key(|place| place.contains("1.17"));
    assert_eq!(
        codecs,
        [other.to_str().unwrap().to_owned(), inner("commons-codec-1.17.1.jar")],
        "two versions"
    );
    let used = archives(&classes);
    for unused in ["joda-time", "commons-io", "guava", "commons-csv", "commons-collections4", "commons-text"]
    {
        assert!(
            !used.iter().any(|name| name.starts_with(unused)),
            "{unused} was only read, or never touched"
        );
    }
    for name in ["jackson-databind", "jackson-core", "jackson-annotations", "logback-classic", "logback-core"]
    {
        assert!(used.iter().any(|used| used.starts_with(name)), "{name}: {used:?}");
    }
    assert!(!classes.keys().any(|class| class.contains("ByteBuddy$")), "a generated class has no place");
}

#[test]
fn kotlin_and_scala() {
    let Some(home) = with_javac() else { return };
    let Some(prepared) = prepared(&home) else { return };
    let root = tempfile::tempdir().unwrap();
    for (language, main, expected, library) in [
        ("kotlin", "plimsoll.kotlin.AppKt", "A, B 3s", "kotlin-stdlib-"),
        ("scala", "plimsoll.scala.Main", "a -> A b -> B", "scala-library-"),
    ] {
        let jar = jar_of(&prepared.join("tools"), library);
        let class_path =
            format!("{}:{}/*", prepared.join(language).display(), prepared.join("tools").display());
        let (output, classes) = run(&home, root.path(), 0, &["-cp", &class_path, main]);
        assert!(output.contains(expected), "{output}");
        let name = jar.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(archives(&classes), BTreeSet::from([name]), "of {language}, nothing else is used");
        let own = fs::canonicalize(prepared.join(language)).unwrap();
        assert_eq!(classes[main].iter().next().map(String::as_str), own.to_str());
    }
}

/// It compiles what it runs, libraries among it, into classes that no archive has: these are no loss.
#[test]
fn clojure() {
    let Some(home) = with_javac() else { return };
    let Some(prepared) = prepared(&home) else { return };
    let root = tempfile::tempdir().unwrap();
    let class_path = format!("{}/*", prepared.join("clojure").display());
    let program =
        "(require '[clojure.data.json :as json]) (defn f [x] (inc x)) (println (json/write-str {:a (f 1)}))";
    let (output, classes) = run(&home, root.path(), 50, &["-cp", &class_path, "clojure.main", "-e", program]);
    assert!(output.contains("{\"a\":2}"), "{output}");
    let name =
        |begin| jar_of(&prepared.join("clojure"), begin).file_name().unwrap().to_str().unwrap().to_owned();
    let used = ["clojure-", "spec.alpha-"].map(name);
    assert_eq!(archives(&classes), BTreeSet::from(used), "all others have sources only");
    assert!(
        !classes.keys().any(|class| class.starts_with("user$") || class.starts_with("clojure.data.json"))
    );
}
