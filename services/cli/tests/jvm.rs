//! Classes without a code source, or from a copy outside of the component, from a real JVM to the report: they hold back the
//! archives that have their Java package, and no other; whether the agent is there from the start or attached.
// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::has_ebpf;

const NAMES: [&str; 6] = ["-a", "shop", "-c", "javaapp", "-V", "1.0"];
/// Defines each class that the given files hold, without a protection domain, or loads it from a copy beside the component
/// that is deleted at the end (`unpack:…`), or from a directory of classes in the component that stays (`expand:…`); with a
/// last argument it waits until an agent was attached.
const MAIN: &str = r#"
import java.nio.file.*;
public class Main extends ClassLoader {
    static boolean has(String thread) throws Exception {
        try (DirectoryStream<Path> tasks = Files.newDirectoryStream(Paths.get("/proc/self/task"))) {
            for (Path task : tasks)
                if (new String(Files.readAllBytes(task.resolve("comm"))).trim().equals(thread))
                    return true;
        }
        return false;
    }
    static Path load(String jar, boolean stays) throws Exception {
        Path copy = Paths.get("webapp/WEB-INF/classes");
        if (stays) {
            Path file = copy.resolve("org/concealed/Concealed.class");
            Files.createDirectories(file.getParent());
            Files.write(file, read(jar));
        } else {
            copy = Files.createTempDirectory(Paths.get("..").toRealPath(), "unpacked").resolve("1.jar");
            Files.copy(Paths.get(jar), copy);
        }
        java.net.URL[] places = {copy.toUri().toURL()};
        try (java.net.URLClassLoader loader = new java.net.URLClassLoader(places, null)) {
            System.out.println(loader.loadClass("org.concealed.Concealed").getDeclaredConstructor().newInstance());
        }
        return copy;
    }
    static byte[] read(String jar) throws Exception {
        try (FileSystem opened = FileSystems.newFileSystem(Paths.get(jar), (ClassLoader) null)) {
            return Files.readAllBytes(opened.getPath("org/concealed/Concealed.class"));
        }
    }
    public static void main(String[] arguments) throws Exception {
        Path copy = null;
        Main loader = new Main();
        org.given.Given.greet();
        for (int i = 0; i + 1 < arguments.length; i++) {
            byte[] bytes;
            if (arguments[i].startsWith("unpack:")) {
                copy = load(arguments[i].substring(7), false);
                continue;
            }
            if (arguments[i].startsWith("expand:")) {
                load(arguments[i].substring(7), true);
                continue;
            }
            if (arguments[i].endsWith(".jar"))
                bytes = read(arguments[i]);
            else
                bytes = Files.readAllBytes(Paths.get(arguments[i]));
            Class<?> made = loader.defineClass(null, bytes, 0, bytes.length);
            System.out.println(made.getDeclaredConstructor().newInstance().getClass().getName());
        }
        // The JVM's end waits until the agent's thread has told everything.
        for (int i = 0; i < 3000 && arguments[arguments.length - 1].equals("wait") && !has("plimsoll"); i++)
            Thread.sleep(10);
        if (copy != null) {
            Files.delete(copy);
            Files.delete(copy.getParent());
        }
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

fn succeed(command: &mut Command) {
    let output = command.env_remove("JAVA_TOOL_OPTIONS").output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `lib/given.jar`, `lib/concealed.jar`, `lib/never.jar`, `made.bin` with a class that no archive has, and `classes`.
fn build(home: &Path, root: &Path) {
    let (app, built) = (root.join("app"), root.join("built"));
    std::fs::create_dir_all(app.join("lib")).unwrap();
    let mut compiler = Command::new(home.join("bin/javac"));
    compiler.args(["--release", "11", "-d"]).arg(&built);
    let mut add = |name: &str, text: &str| {
        std::fs::write(root.join(name), text).unwrap();
        compiler.arg(root.join(name));
    };
    let classes = [
        ("org.given", "Given"),
        ("org.concealed", "Concealed"),
        ("org.never", "Never"),
        ("made.by.nobody", "Made"),
    ];
    for (package, name) in classes {
        let body = format!("public {name}() {{}} public static void greet() {{}}");
        add(&format!("{name}.java"), &format!("package {package}; public class {name} {{ {body} }}"));
    }
    add("Main.java", MAIN);
    succeed(&mut compiler);
    for name in ["given", "concealed", "never"] {
        let info = built.join(format!("META-INF/maven/org.{name}/{name}"));
        std::fs::create_dir_all(&info).unwrap();
        let properties = format!("groupId=org.{name}\nartifactId={name}\nversion=1.0\n");
        std::fs::write(info.join("pom.properties"), properties).unwrap();
        let mut archiver = Command::new(home.join("bin/jar"));
        archiver.arg("cf").arg(app.join(format!("lib/{name}.jar"))).current_dir(&built);
        succeed(archiver.arg(format!("org/{name}")).arg(format!("META-INF/maven/org.{name}")));
    }
    std::fs::rename(built.join("made/by/nobody/Made.class"), app.join("made.bin")).unwrap();
    std::fs::create_dir(app.join("classes")).unwrap();
    std::fs::rename(built.join("Main.class"), app.join("classes/Main.class")).unwrap();
}

fn plimsoll(root: &Path, state: &Path, arguments: &[&str]) -> Command {
    let mut command = support::plimsoll(state);
    command.args(arguments).current_dir(root.join("app"));
    command
}

fn check(
    home: &Path,
    root: &Path,
    (options, wrapper): (&[&str], &[&str]),
    (defined, last): (&[&str], &str),
    expected: [&str; 3],
    reason: &str,
) {
    let state = tempfile::tempdir_in(root).unwrap();
    let scan = [&["scan", "-s", "fs"][..], &NAMES, &["-o", "json", "."]].concat();
    let scanned = plimsoll(root, state.path(), &scan).output().unwrap();
    assert!(scanned.status.success(), "{}", String::from_utf8_lossy(&scanned.stderr));
    let java = home.join("bin/java").to_str().unwrap().to_owned();
    let program =
        [wrapper, &[java.as_str(), "-cp", "classes:lib/given.jar", "Main"], defined, &[last]].concat();
    let run = [&["run"][..], &NAMES, options, &["-o", "json", "--cmd"], &program].concat();
    let output = plimsoll(root, state.path(), &run).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = format!("{text} {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_str(&text[text.find('{').expect("a report")..]).unwrap();
    let packages = report["packages"].as_array().unwrap();
    let found = ["given", "concealed", "never"].map(|name| {
        let name = format!("org.{name}:{name}");
        let found = packages.iter().find(|package| package["name"] == name.as_str());
        found.unwrap_or_else(|| panic!("{name}: {said}"))
    });
    let used = found.map(|package| package["use"].as_str().unwrap());
    assert_eq!(used, expected, "{found:#?} {said}");
    let given = found[1]["use_reason"].as_str().unwrap();
    assert!(given.contains(reason), "{given}");
}

#[test]
fn only_the_archives_that_have_the_java_package_are_held_back() {
    let Some(home) = jdk() else { return };
    let directory = tempfile::tempdir().unwrap();
    build(&home, directory.path());
    let start: (&[&str], &[&str]) = (&["--no-ebpf"], &[]);
    let attach: (&[&str], &[&str]) = (&["--java-attach-from-21"], &["env", "-u", "JAVA_TOOL_OPTIONS"]);
    let mut ways = vec![(start, "end")];
    ways.extend(has_ebpf().then_some((attach, "wait")));
    for (way, last) in ways {
        let check = |defined, used, reason| {
            check(&home, directory.path(), way, (defined, last), ["used", used, "unused"], reason);
        };
        let concealed: &[&str] = &["lib/concealed.jar", "made.bin"];
        check(concealed, "not_measured", "org.concealed.Concealed was loaded from no file");
        // No archive has it.
        check(&["made.bin"], "unused", "none of its files was used");
        check(&["unpack:lib/concealed.jar"], "not_measured", "/unpacked*/1.jar, which no scan lists");
        // As Tomcat does with a war; it stays, so the resolver finds it, and nothing says whose it is.
        let expanded = "/app/webapp/WEB-INF/classes, which no scan lists";
        check(&["expand:lib/concealed.jar"], "not_measured", expanded);
        std::fs::remove_dir_all(directory.path().join("app/webapp")).unwrap();
    }
}
