//! Java programs in local mode: whose the classes are that a run loaded from a jar in which several components are
//! merged. Needs a JDK and the cache of `cargo xtask test`; else the tests say so, except with CI=true.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::{cached, has_ebpf, plimsoll};

const NAMES: [&str; 6] = ["-a", "backend", "-c", "javaapp", "-V", "1.0"];

/// Loads a class of commons-net that Maven's shade plugin moved into kafka-clients, and none of the latter.
const MAIN: &str = r#"
public class Main {
    public static void main(String[] arguments) throws Exception {
        var net = new org.apache.kafka.shaded.org.apache.commons.net.util.SubnetUtils("10.0.0.0/8");
        System.out.println(net.getInfo().getAddressCountLong());
        Class.forName("org.same.Thing");
    }
}"#;

fn kafka() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let jars = base.join("plimsoll/kafka-4.4.0/libs");
    let is_there = jars.is_dir() && Command::new("javac").arg("--version").output().is_ok();
    assert!(
        is_there || std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "CI must have {jars:?} and a JDK"
    );
    if !is_there {
        println!("skipped: needs a JDK, and {} (run cargo xtask test once)", jars.display());
    }
    is_there.then_some(jars)
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn tool(name: &str, directory: &Path, arguments: &[&str]) -> String {
    ok(&Command::new(name).args(arguments).current_dir(directory).output().unwrap())
}

/// Two components of one Java package merged into one jar: nothing tells whose a class is.
fn merged(app: &Path) {
    for artifact in ["one", "two"] {
        let directory = app.join(format!("merged/META-INF/maven/org.same/{artifact}"));
        std::fs::create_dir_all(&directory).unwrap();
        let text = format!("groupId=org.same\nartifactId={artifact}\nversion=1\n");
        std::fs::write(directory.join("pom.properties"), text).unwrap();
    }
    std::fs::write(app.join("Thing.java"), "package org.same; public class Thing {}").unwrap();
    tool("javac", app, &["-d", "merged", "Thing.java"]);
    tool("jar", app, &["--create", "--file", "merged.jar", "-C", "merged", "."]);
    std::fs::remove_dir_all(app.join("merged")).unwrap();
}

/// As OSGi frameworks do: defines classes of archives within a jar, and names that jar as the source of all of them.
const FRAMEWORK: &str = r#"
import java.io.*;
import java.net.URL;
import java.security.*;
import java.util.zip.*;
public class Framework extends SecureClassLoader {
    final File bundle;
    Framework(File bundle) { this.bundle = bundle; }
    static byte[] entry(InputStream archive, String name) throws IOException {
        ZipInputStream zip = new ZipInputStream(archive);
        for (ZipEntry entry; (entry = zip.getNextEntry()) != null; )
            if (entry.getName().equals(name)) return zip.readAllBytes();
        return null;
    }
    protected Class<?> findClass(String name) throws ClassNotFoundException {
        String path = name.replace('.', '/') + ".class";
        try {
            CodeSource source = new CodeSource(bundle.toURI().toURL(), (CodeSigner[]) null);
            byte[] bytes = entry(new FileInputStream(bundle), path);
            for (String nested : new String[] {"lib/inner.jar", "lib/other.jar"})
                if (bytes == null)
                    bytes = entry(new ByteArrayInputStream(entry(new FileInputStream(bundle), nested)), path);
            if (bytes != null) return defineClass(name, bytes, 0, bytes.length, source);
        } catch (IOException error) { throw new ClassNotFoundException(name, error); }
        throw new ClassNotFoundException(name);
    }
    public static void main(String[] classes) throws Exception {
        Framework loader = new Framework(new File("bundle-1.jar"));
        for (String name : classes) Class.forName(name, true, loader);
    }
}"#;

/// `bundle-1.jar` with `lib/inner.jar`, `lib/other.jar` and `lib/never.jar` on its class path, and the framework.
fn bundle(app: &Path) {
    let bundled = app.join("build/bundled");
    for (artifact, classes, archives) in [
        ("inner", &["org.inner.Inner"][..], &[][..]),
        ("other", &["org.other.Other", "org.split.There"], &[]),
        ("never", &["org.never.Never", "org.split.Here"], &[]),
        ("bundled", &["org.bundled.Activator"], &["inner", "other", "never"]),
    ] {
        let content = app.join("build").join(artifact);
        let info = content.join(format!("META-INF/maven/org.{artifact}/{artifact}"));
        std::fs::create_dir_all(&info).unwrap();
        let text = format!("groupId=org.{artifact}\nartifactId={artifact}\nversion=1\n");
        std::fs::write(info.join("pom.properties"), text).unwrap();
        for class in classes {
            let (package, name) = class.rsplit_once('.').unwrap();
            let source = app.join(format!("build/{name}.java"));
            std::fs::write(&source, format!("package {package}; public class {name} {{}}")).unwrap();
            tool("javac", &content, &["-d", ".", source.to_str().unwrap()]);
        }
        if archives.is_empty() {
            let to = bundled.join(format!("lib/{artifact}.jar"));
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            tool("jar", &content, &["--create", "--file", to.to_str().unwrap(), "."]);
        }
    }
    let class_path = "Bundle-ClassPath: .,lib/inner.jar,lib/other.jar,lib/never.jar\n";
    std::fs::write(app.join("manifest"), format!("Bundle-SymbolicName: org.bundled\n{class_path}")).unwrap();
    tool(
        "jar",
        app,
        &["--create", "--file", "bundle-1.jar", "--manifest", "manifest", "-C", "build/bundled", "."],
    );
    std::fs::remove_dir_all(app.join("build")).unwrap();
    std::fs::write(app.join("Framework.java"), FRAMEWORK).unwrap();
    tool("javac", app, &["Framework.java"]);
}

/// Each class is the component's of the archive on the bundle's class path that has its Java package.
#[test]
fn classes_of_a_bundle_are_those_of_the_archives_on_its_class_path() {
    let is_there = Command::new("javac").arg("--version").output().is_ok();
    assert!(is_there || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must have a JDK");
    if !is_there {
        println!("skipped: needs a JDK");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let app = directory.path().join("app");
    std::fs::create_dir(&app).unwrap();
    bundle(&app);
    for (loaded, expected) in [
        (&["org.inner.Inner"][..], [("inner", "used"), ("other", "unused"), ("never", "unused")]),
        (&["org.bundled.Activator"], [("inner", "unused"), ("other", "unused"), ("bundled", "used")]),
        // Two have its Java package.
        (&["org.split.There"], [("other", "used"), ("never", "used"), ("bundled", "unused")]),
    ] {
        let state = tempfile::tempdir().unwrap();
        let run =
            |arguments: &[&str]| plimsoll(state.path()).args(arguments).current_dir(&app).output().unwrap();
        ok(&run(&[&["scan", "-s", "fs"][..], &NAMES, &["."]].concat()));
        let java = [&["--", "java", "-cp", ".", "Framework"], loaded].concat();
        let text = ok(&run(&[&["run"][..], &NAMES, &["--no-ebpf", "-o", "json"], &java].concat()));
        let report: Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
        let packages = report["packages"].as_array().unwrap();
        for (name, used) in expected {
            let found = packages.iter().find(|one| one["name"] == format!("org.{name}:{name}"));
            let found = found.unwrap_or_else(|| panic!("no {name}: {report:#}"));
            assert_eq!(found["use"], used, "{loaded:?}: {found:#}");
            let is_shared = used == "used" && loaded == ["org.split.There"];
            let other = if name == "other" { "never" } else { "other" };
            let shared = is_shared.then(|| format!("pkg:maven/org.{other}/{other}@1"));
            let others = found["ambiguous_with"].as_array().unwrap();
            let others: Vec<&str> = others.iter().map(|one| one.as_str().unwrap()).collect();
            assert_eq!(others, shared.iter().map(String::as_str).collect::<Vec<_>>(), "{loaded:?}: {name}");
        }
    }
}

/// Starts Apache Felix with an empty cache, installs each bundle from a stream, and loads `org.NAME.Thing` of those marked by `+`.
const FELIX: &str = r#"
import java.io.ByteArrayInputStream;
import java.nio.file.*;
import java.util.*;
import org.osgi.framework.Bundle;
import org.osgi.framework.launch.Framework;
public class Felix {
    public static void main(String[] arguments) throws Exception {
        Map<String, String> settings = new HashMap<>();
        settings.put("org.osgi.framework.storage", "felix-cache");
        settings.put("org.osgi.framework.storage.clean", "onFirstInit");
        Framework felix = new org.apache.felix.framework.FrameworkFactory().newFramework(settings);
        felix.start();
        for (String argument : arguments) {
            Path path = Paths.get(argument.replace("+", ""));
            byte[] bytes = Files.readAllBytes(path);
            Bundle bundle = felix.getBundleContext().installBundle("stream:" + path, new ByteArrayInputStream(bytes));
            if (argument.startsWith("+"))
                System.out.println(bundle.loadClass(bundle.getSymbolicName() + ".Thing").getConstructor().newInstance());
        }
        felix.stop();
        felix.waitForStop(0);
    }
}"#;

/// The framework's jar, `Felix.class`, and bundles `inside/NAME.jar` and `../outside/NAME.jar`.
fn felix(app: &Path) -> bool {
    const ARTIFACT: &str = "org.apache.felix:org.apache.felix.framework:7.0.5";
    let Some(folder) = cached("cli-felix-7.0.5", |folder| {
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "dependency:copy", &format!("-Dartifact={ARTIFACT}")]);
        maven.arg(format!("-DoutputDirectory={}", folder.display())).current_dir(folder);
        let output = maven.output().map_err(|error| format!("mvn: {error}"))?;
        output.status.success().then_some(()).ok_or(String::from_utf8_lossy(&output.stdout).into_owned())
    }) else {
        return false;
    };
    std::fs::copy(folder.join("org.apache.felix.framework-7.0.5.jar"), app.join("felix.jar")).unwrap();
    std::fs::write(app.join("Felix.java"), FELIX).unwrap();
    tool("javac", app, &["-cp", "felix.jar", "Felix.java"]);
    for (place, name) in [("inside", "one"), ("inside", "never"), ("../outside", "two")] {
        let content = app.join("../build").join(name);
        let info = content.join(format!("META-INF/maven/org.{name}/{name}"));
        std::fs::create_dir_all(&info).unwrap();
        let text = format!("groupId=org.{name}\nartifactId={name}\nversion=1\n");
        std::fs::write(info.join("pom.properties"), text).unwrap();
        std::fs::write(content.join("Thing.java"), format!("package org.{name}; public class Thing {{}}"))
            .unwrap();
        tool("javac", &content, &["-d", ".", "Thing.java"]);
        let manifest =
            format!("Bundle-ManifestVersion: 2\nBundle-SymbolicName: org.{name}\nBundle-Version: 1.0.0\n");
        std::fs::write(content.join("manifest"), manifest).unwrap();
        std::fs::create_dir_all(app.join(place)).unwrap();
        let jar = app.join(place).join(format!("{name}.jar"));
        let jar = jar.to_str().unwrap();
        tool("jar", &content, &["--create", "--file", jar, "--manifest", "manifest", "org", "META-INF"]);
    }
    true
}

/// Felix keeps a copy of each bundle, in a directory that was scanned before and that it writes anew, and names no file as the
/// source of classes: the copy that ran there is not called unused, wherever the bundle came from.
#[test]
fn bundles_that_were_installed_from_a_stream_are_held_back_with_their_copies() {
    let directory = tempfile::tempdir().unwrap();
    let app = directory.path().join("app");
    std::fs::create_dir(&app).unwrap();
    if !felix(&app) {
        return;
    }
    const JAVA: [&str; 7] =
        ["java", "-cp", ".:felix.jar", "Felix", "+inside/one.jar", "inside/never.jar", "+../outside/two.jar"];
    let ways: &[&[&str]] = if has_ebpf() { &[&["--no-ebpf"], &[]] } else { &[&["--no-ebpf"]] };
    for way in ways {
        // What an earlier run left is what the scan finds.
        tool(JAVA[0], &app, &JAVA[1..]);
        let state = tempfile::tempdir().unwrap();
        let run =
            |arguments: &[&str]| plimsoll(state.path()).args(arguments).current_dir(&app).output().unwrap();
        ok(&run(&[&["scan", "-s", "fs"][..], &NAMES, &["."]].concat()));
        let log = ["--", "java", "-Xlog:class+load:file=../loaded.txt"];
        let text = ok(&run(&[&["run"][..], &NAMES, way, &["-o", "json"], &log, &JAVA[1..]].concat()));
        let report: Value = serde_json::from_str(&text[text.find("{\n").unwrap()..]).unwrap();
        let loaded = std::fs::read_to_string(directory.path().join("loaded.txt")).unwrap();
        let copy = |number| format!("felix-cache/bundle{number}/version0.0/bundle.jar");
        for (name, path, expected) in [
            ("one", "inside/one.jar".to_owned(), "not_measured"),
            ("one", copy(1), "not_measured"),
            ("never", "inside/never.jar".to_owned(), "unused"),
            ("never", copy(2), "unused"),
            ("two", copy(3), "not_measured"),
        ] {
            // The JVM's own word.
            let ran = loaded.contains(&format!(" org.{name}.Thing "));
            assert_eq!(ran, expected != "unused", "{name}: {loaded}");
            let packages = report["packages"].as_array().unwrap().iter();
            let mut found = packages.filter(|one| {
                one["name"] == format!("org.{name}:{name}") && one["locations"][0]["path"] == path.as_str()
            });
            let found = found.next().unwrap_or_else(|| panic!("no {path}: {report:#}"));
            assert_eq!(found["use"], expected, "{way:?}: {found:#}");
            let reason = found["use_reason"].as_str().unwrap();
            assert_eq!(
                reason.contains(&format!("org.{name}.Thing was loaded from no file")),
                ran,
                "{reason}"
            );
        }
    }
}

/// Unpacks `inner.jar` of `loader.jar` and loads `org.inner.Thing` from there.
const UNPACKER: &str = r#"
import java.io.InputStream;
import java.net.*;
import java.nio.file.*;
public class Unpacker {
    public static void main(String[] arguments) throws Exception {
        Path to = Paths.get(arguments[0]);
        Files.createDirectories(to.getParent());
        URL loader = new URL("jar:" + Paths.get("loader.jar").toUri() + "!/inner.jar");
        try (InputStream inner = loader.openStream()) { Files.copy(inner, to, StandardCopyOption.REPLACE_EXISTING); }
        // Left open: where it lies is asked while it runs.
        URLClassLoader unpacked = new URLClassLoader(new URL[] {to.toUri().toURL()});
        System.out.println(Class.forName("org.inner.Thing", true, unpacked));
    }
}"#;

/// An archive that a program unpacks, wherever to, is no package of its own: what the scan lists is used.
#[test]
fn archives_that_a_program_unpacks_are_those_that_the_scan_lists() {
    let directory = tempfile::tempdir().unwrap();
    let app = directory.path().join("app");
    if Command::new("javac").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must have a JDK");
        return println!("skipped: needs a JDK");
    }
    std::fs::create_dir(&app).unwrap();
    for name in ["inner", "never"] {
        let content = directory.path().join(name);
        let info = content.join(format!("META-INF/maven/org.{name}/{name}"));
        std::fs::create_dir_all(&info).unwrap();
        let properties = format!("groupId=org.{name}\nartifactId={name}\nversion=1\n");
        std::fs::write(info.join("pom.properties"), properties).unwrap();
        let source = format!("package org.{name}; public class Thing {{}}");
        std::fs::write(content.join("Thing.java"), source).unwrap();
        tool("javac", &content, &["-d", ".", "Thing.java"]);
        let jar = directory.path().join(format!("packed/{name}.jar"));
        std::fs::create_dir_all(jar.parent().unwrap()).unwrap();
        tool("jar", &content, &["--create", "--file", jar.to_str().unwrap(), "META-INF", "org"]);
    }
    tool("jar", directory.path(), &["--create", "--file", "app/loader.jar", "-C", "packed", "."]);
    std::fs::write(app.join("Unpacker.java"), UNPACKER).unwrap();
    tool("javac", &app, &["Unpacker.java"]);
    let ways: &[&[&str]] = if has_ebpf() { &[&["--no-ebpf"], &[]] } else { &[&["--no-ebpf"]] };
    for (number, way) in ways.iter().enumerate() {
        for place in ["work", "../outside"] {
            let state = tempfile::tempdir().unwrap();
            let run = |arguments: &[&str]| {
                plimsoll(state.path()).args(arguments).current_dir(&app).output().unwrap()
            };
            ok(&run(&[&["scan", "-s", "fs"][..], &NAMES, &["."]].concat()));
            let to = format!("{place}/inner_{number}5e.jar");
            let java = ["--", "java", "-cp", ".", "Unpacker", &to];
            let text = ok(&run(&[&["run"][..], &NAMES, way, &["-o", "json"], &java].concat()));
            let report: Value = serde_json::from_str(&text[text.find("{\n").unwrap()..]).unwrap();
            let packages = report["packages"].as_array().unwrap();
            let of = |name: &str| -> Vec<&Value> {
                packages.iter().filter(|one| one["name"].as_str().unwrap().ends_with(name)).collect()
            };
            let all: Vec<&str> = packages
                .iter()
                .filter(|one| one["ecosystem"] == "maven" && one["use"] != "unused")
                .map(|one| one["name"].as_str().unwrap())
                .collect();
            let [inner] = of(":inner")[..] else { panic!("{way:?} {place}: {report:#}") };
            assert_eq!(inner["locations"][0]["nested_path"], "inner.jar", "{way:?} {place}: {inner:#}");
            assert_eq!(inner["use"], "used", "{way:?} {place}: {inner:#}");
            assert_eq!(inner["classes"][0]["name"], "org.inner.Thing", "{way:?} {place}: {inner:#}");
            assert_eq!(of(":never")[0]["use"], "unused", "{way:?} {place}");
            assert!(!all.iter().any(|name| name.contains("_")), "{way:?} {place}: {all:?}");
            // The next scan must not find it.
            std::fs::remove_file(app.join(to)).unwrap();
        }
    }
}

/// A loader that names its own archive as the source of all that it defines, from wherever its bytes are.
const DEFINER: &str = r#"
package org.app;
import java.util.jar.*;
public class Definer extends ClassLoader {
    Class<?> define(String jar, String name) throws Exception {
        try (JarFile archive = new JarFile(jar)) {
            byte[] bytes = archive.getInputStream(archive.getEntry(name.replace('.', '/') + ".class")).readAllBytes();
            return defineClass(name, bytes, 0, bytes.length, Definer.class.getProtectionDomain());
        }
    }
    public static void main(String[] arguments) throws Exception {
        for (int i = 0; i < arguments.length; i += 2)
            new Definer().define(arguments[i], arguments[i + 1]).getConstructor().newInstance();
    }
}"#;

/// The archive that such a class names does not have its Java package: those that have it are not called unused. And it is
/// no reason to hold back others, nor are classes of the archive's own Java packages.
#[test]
fn classes_defined_as_another_archives_are_held_back() {
    let directory = tempfile::tempdir().unwrap();
    let app = directory.path().join("app");
    let sources = [
        ("app", "org.app", "Definer", DEFINER.to_owned()),
        ("plain", "org.plain.lib", "Thing", String::new()),
        ("never", "org.never", "Thing", String::new()),
        // A part of its Java package is elsewhere.
        ("part", "org.app", "Part", String::new()),
    ];
    if Command::new("javac").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must have a JDK");
        return println!("skipped: needs a JDK");
    }
    std::fs::create_dir(&app).unwrap();
    for (name, package, class, text) in sources {
        let content = directory.path().join(name);
        let info = content.join(format!("META-INF/maven/org.{name}/{name}"));
        std::fs::create_dir_all(&info).unwrap();
        let properties = format!("groupId=org.{name}\nartifactId={name}\nversion=1\n");
        std::fs::write(info.join("pom.properties"), properties).unwrap();
        let plain = format!("package {package}; public class {class} {{ public {class}() {{}} }}");
        std::fs::write(content.join(format!("{class}.java")), if text.is_empty() { plain } else { text })
            .unwrap();
        tool("javac", &content, &["-d", ".", &format!("{class}.java")]);
        std::fs::remove_file(content.join(format!("{class}.java"))).unwrap();
        let jar = app.join(format!("{name}-1.jar"));
        tool("jar", &content, &["--create", "--file", jar.to_str().unwrap(), "."]);
    }
    let ways: &[&[&str]] = if has_ebpf() { &[&["--no-ebpf"], &[]] } else { &[&["--no-ebpf"]] };
    for (index, way) in ways.iter().enumerate() {
        let cases = [
            (&["plain-1.jar", "org.plain.lib.Thing"][..], [("plain", "not_measured"), ("never", "unused")]),
            (&[], [("plain", "unused"), ("never", "unused")]),
            // Whose it is, its Java package does not tell: a limit.
            (&["part-1.jar", "org.app.Part"], [("plain", "unused"), ("part", "unused")]),
        ];
        // The rest is the same in each.
        for (defined, expected) in cases.into_iter().take(if index == 0 { 3 } else { 1 }) {
            let state = tempfile::tempdir().unwrap();
            let run = |arguments: &[&str]| {
                plimsoll(state.path()).args(arguments).current_dir(&app).output().unwrap()
            };
            ok(&run(&[&["scan", "-s", "fs"][..], &NAMES, &["."]].concat()));
            let java = [&["--", "java", "-cp", "app-1.jar", "org.app.Definer"], defined].concat();
            let text = ok(&run(&[&["run"][..], &NAMES, way, &["-o", "json"], &java].concat()));
            let report: Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
            let packages = report["packages"].as_array().unwrap();
            for (name, used) in expected.into_iter().chain([("app", "used")]) {
                let found = packages.iter().find(|one| one["name"] == format!("org.{name}:{name}"));
                let found = found.unwrap_or_else(|| panic!("no {name}: {report:#}"));
                assert_eq!(found["use"], used, "{way:?} {defined:?}: {found:#}");
            }
        }
    }
}

#[test]
fn relocated_classes_are_their_components_and_ambiguous_ones_are_named_so() {
    let Some(jars) = kafka() else { return };
    const JAR: &str = "kafka-clients-4.4.0.jar";
    let directory = tempfile::tempdir().unwrap();
    let app = directory.path().join("app");
    std::fs::create_dir(&app).unwrap();
    std::fs::copy(jars.join(JAR), app.join(JAR)).unwrap();
    merged(&app);
    std::fs::write(app.join("Main.java"), MAIN).unwrap();
    tool("javac", &app, &["-cp", JAR, "Main.java"]);

    let class_path = format!(".:{JAR}:merged.jar");
    let run =
        |arguments: &[&str]| plimsoll(directory.path()).args(arguments).current_dir(&app).output().unwrap();
    ok(&run(&[&["scan", "-s", "fs"][..], &NAMES, &["."]].concat()));
    let java = ["--", "java", "-Xlog:class+load:file=loaded.txt", "-cp", &class_path, "Main"];
    let text = ok(&run(&[&["run"][..], &NAMES, &["--no-ebpf", "-o", "json"], &java].concat()));
    assert!(text.starts_with("16777214\n"), "{text}");
    let report: Value = serde_json::from_str(&text[text.find("{\n").unwrap()..]).unwrap();

    // The JVM's own word of what came out of the shaded jar.
    let log = std::fs::read_to_string(app.join("loaded.txt")).unwrap();
    let loaded = log.lines().filter(|line| line.contains(JAR)).map(|line| {
        line.split_whitespace().find(|word| word.starts_with("org.apache.kafka.")).unwrap().to_owned()
    });
    let mut loaded: Vec<String> = loaded.collect();
    loaded.sort();
    assert!(!loaded.is_empty() && loaded.iter().all(|class| class.contains(".shaded.")), "{loaded:?}");

    let package = |name: &str| -> &Value {
        let packages = report["packages"].as_array().unwrap();
        packages.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name}: {report:#}"))
    };
    let classes = |name: &str| -> Vec<String> {
        let classes = package(name)["classes"].as_array().unwrap().iter();
        let mut names: Vec<String> = classes.map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(package("commons-net:commons-net")["use"], "used");
    assert_eq!(classes("commons-net:commons-net"), loaded);
    assert_eq!(package("org.apache.kafka:kafka-clients")["use"], "unused");
    for (name, other) in [("org.same:one", "two"), ("org.same:two", "one")] {
        assert_eq!(package(name)["use"], "used", "{name}");
        assert_eq!(classes(name), ["org.same.Thing"]);
        let expected = format!("pkg:maven/org.same/{other}@1");
        assert_eq!(package(name)["ambiguous_with"].as_array().unwrap(), &[Value::from(expected)]);
    }
}
