//! Classes without a code source, from a real JVM to the report: they hold back the archives that have their Java package,
//! and no other; whether the agent is there from the start or attached.
// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

const NAMES: [&str; 6] = ["-a", "shop", "-c", "javaapp", "-V", "1.0"];
/// Defines each class that the given files hold, without a protection domain; with a last argument it waits until an agent
/// was attached.
const MAIN: &str = r#"
import java.nio.file.*;
public class Main extends ClassLoader {
    public static void main(String[] arguments) throws Exception {
        Main loader = new Main();
        org.given.Given.greet();
        for (int i = 0; i + 1 < arguments.length; i++) {
            byte[] bytes;
            if (arguments[i].endsWith(".jar"))
                try (FileSystem jar = FileSystems.newFileSystem(Paths.get(arguments[i]), (ClassLoader) null)) {
                    bytes = Files.readAllBytes(jar.getPath("org/concealed/Concealed.class"));
                }
            else
                bytes = Files.readAllBytes(Paths.get(arguments[i]));
            Class<?> made = loader.defineClass(null, bytes, 0, bytes.length);
            System.out.println(made.getDeclaredConstructor().newInstance().getClass().getName());
        }
        for (int i = 0; i < 3000 && arguments[arguments.length - 1].equals("wait"); i++) {
            if (Thread.getAllStackTraces().keySet().stream().anyMatch(thread -> thread.getName().equals("plimsoll")))
                break;
            Thread.sleep(10);
        }
        // Time for it to tell what was loaded before; its end waits for the rest.
        Thread.sleep(arguments[arguments.length - 1].equals("wait") ? 1000 : 0);
    }
}
"#;

/// A JDK with a compiler. With CI=true there must be one.
fn jdk() -> Option<PathBuf> {
    let homes = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let mut homes: Vec<PathBuf> = homes.map(|home| home.path()).collect();
    homes.retain(|home| home.join("bin/javac").is_file() && home.join("lib/modules").is_file());
    homes.sort();
    if homes.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "CI must have a JDK (apt install default-jdk-headless)");
        println!("skipped: no JDK in /usr/lib/jvm");
    }
    homes.into_iter().next()
}

/// eBPF is permitted here; CI must permit it.
fn has_ebpf() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "CI must run as root, so that eBPF is tested");
    if !root {
        println!("skipped: eBPF needs root rights");
    }
    root
}

fn succeed(command: &mut Command) {
    let output = command.env_remove("JAVA_TOOL_OPTIONS").output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `lib/given.jar`, `lib/concealed.jar`, `lib/never.jar`, `made.bin` with a class that no archive has, and `classes`.
fn build(home: &Path, root: &Path) {
    let class = |package: &str, name: &str| {
        format!(
            "package {package}; public class {name} {{ public {name}() {{}} public static void greet() {{}} }}"
        )
    };
    let compile = |to: &Path, name: &str, text: &str| {
        let source = root.join("sources").join(format!("{name}.java"));
        std::fs::create_dir_all(source.parent().unwrap()).unwrap();
        std::fs::write(&source, text).unwrap();
        let mut command = Command::new(home.join("bin/javac"));
        succeed(
            command
                .args(["--release", "11", "-cp"])
                .arg(root.join("lib/given.jar"))
                .arg("-d")
                .arg(to)
                .arg(source),
        );
    };
    std::fs::create_dir_all(root.join("app/lib")).unwrap();
    std::os::unix::fs::symlink("app/lib", root.join("lib")).unwrap();
    for (package, name) in [("given", "Given"), ("concealed", "Concealed"), ("never", "Never")] {
        let inside = root.join("built").join(package);
        compile(&inside, name, &class(&format!("org.{package}"), name));
        let info = inside.join(format!("META-INF/maven/org.{package}/{package}"));
        std::fs::create_dir_all(&info).unwrap();
        std::fs::write(
            info.join("pom.properties"),
            format!("groupId=org.{package}\nartifactId={package}\nversion=1.0\n"),
        )
        .unwrap();
        let jar = root.join(format!("app/lib/{package}.jar"));
        succeed(Command::new(home.join("bin/jar")).arg("cf").arg(jar).arg("-C").arg(&inside).arg("."));
    }
    compile(&root.join("built/made"), "Made", &class("made.by.nobody", "Made"));
    std::fs::copy(root.join("built/made/made/by/nobody/Made.class"), root.join("app/made.bin")).unwrap();
    compile(&root.join("app/classes"), "Main", MAIN);
}

fn plimsoll(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PLIMSOLL_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .current_dir(root.join("app"))
        .env("XDG_STATE_HOME", root.join("state"))
        .env("XDG_DATA_HOME", root.join("data"))
        .stdin(Stdio::null());
    command
}

fn check(options: &[&str], wrapper: &[&str], defined: &[&str], last: &str, expected: [&str; 3]) {
    let Some(home) = jdk() else { return };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    build(&home, root);
    let scanned = plimsoll(root, &[&["scan", "-s", "fs"][..], &NAMES, &["-o", "json", "."]].concat());
    let scanned = { scanned }.output().unwrap();
    assert!(scanned.status.success(), "{}", String::from_utf8_lossy(&scanned.stderr));
    let java = home.join("bin/java").to_str().unwrap().to_owned();
    let program =
        [wrapper, &[java.as_str(), "-cp", "classes:lib/given.jar", "Main"], defined, &[last]].concat();
    let arguments = [&["run"][..], &NAMES, options, &["-o", "json", "--cmd"], &program].concat();
    let output = plimsoll(root, &arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = format!("{text} {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_str(&text[text.find('{').expect("a report")..]).unwrap();
    let packages = report["packages"].as_array().unwrap();
    let found = ["given", "concealed", "never"].map(|name| {
        let name = format!("org.{name}:{name}");
        packages
            .iter()
            .find(|package| package["name"] == name.as_str())
            .unwrap_or_else(|| panic!("{name}: {said}"))
    });
    let used = found.map(|package| package["use"].as_str().unwrap());
    assert_eq!(used, expected, "{found:#?} {said}");
    if expected[1] == "not_measured" {
        let reason = found[1]["use_reason"].as_str().unwrap();
        assert!(reason.contains("org.concealed.Concealed was loaded without a code source"), "{reason}");
    }
}

const CONCEALED: [&str; 2] = ["lib/concealed.jar", "made.bin"];

#[test]
fn from_the_start_only_the_archive_that_has_the_java_package_is_held_back() {
    check(&["--no-ebpf"], &[], &CONCEALED, "end", ["used", "not_measured", "unused"]);
}

#[test]
fn from_the_start_classes_that_no_archive_has_hold_back_nothing() {
    check(&["--no-ebpf"], &[], &["made.bin"], "end", ["used", "unused", "unused"]);
}

#[test]
fn attached_only_the_archive_that_has_the_java_package_is_held_back() {
    if has_ebpf() {
        let without = ["env", "-u", "JAVA_TOOL_OPTIONS"];
        check(&["--java-attach-from-21"], &without, &CONCEALED, "wait", ["used", "not_measured", "unused"]);
        check(&["--java-attach-from-21"], &without, &["made.bin"], "wait", ["used", "unused", "unused"]);
    }
}
