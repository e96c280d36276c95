//! What the tests of JVMs share: the JVMs of this machine, an application, and the JVM's own word on its classes.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)] // each test uses a part, and may

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plimsoll_runtime_agent::config::{AgentConfig, UseEbpf};
use plimsoll_runtime_agent::java::JavaConfig;
use plimsoll_runtime_agent::java::place::{Place, place_of};

use super::Collected;

/// Homes of JVMs on this machine, the oldest first. With CI=true there must be one.
pub fn homes() -> Vec<PathBuf> {
    let parent = Path::new("/usr/lib/jvm");
    let mut homes: Vec<PathBuf> = std::fs::read_dir(parent)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    homes.retain(|home| {
        home.join("lib/modules").is_file() && home.join("bin/java").is_file() && !home.is_symlink()
    });
    homes.sort();
    if homes.is_empty() {
        assert!(std::env::var("CI").is_err(), "in CI a JDK must be installed");
        println!("skipped: no JDK in /usr/lib/jvm");
    }
    homes
}

pub fn config(ebpf: UseEbpf) -> AgentConfig {
    let java = JavaConfig {
        helper: Some(env!("CARGO_BIN_EXE_plimsoll-runtime-agent").into()),
        ..JavaConfig::default()
    };
    AgentConfig { ebpf, java, ..super::config() }
}

/// Places by class; hidden classes left out.
pub type Classes = BTreeMap<String, BTreeSet<String>>;

/// What the JVM says (`-Xlog:class+load`): hidden classes, and those from anywhere but files, left out. An empty place: from
/// the archive of shared classes.
pub fn logged(log: &Path, home: &Path) -> Classes {
    let text = std::fs::read(log).unwrap();
    let modules = home.join("lib/modules").to_str().unwrap().to_owned();
    let mut classes = Classes::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let Some((class, source)) = line.split_once(" source: ") else { continue };
        let is_hidden = class.contains("/0x") || class.contains('+');
        let place = if source.starts_with("jrt:/") {
            modules.clone()
        } else if source.starts_with("shared objects file") {
            String::new()
        } else if let Place::Path(path) = place_of(source.as_bytes()) {
            format!("/{}", String::from_utf8(path).unwrap())
        } else {
            continue;
        };
        if !is_hidden {
            classes.entry(class.to_owned()).or_default().insert(place);
        }
    }
    classes
}

pub fn reported(collected: &Collected, root: &Path) -> Classes {
    let root = std::fs::canonicalize(root).unwrap();
    classes_of(collected, |artifact, path| match artifact.starts_with("component/") {
        true => root.join(path),
        false => Path::new("/").join(path),
    })
}

/// Classes that were reported; `place` makes a whole path of the artifact and the path within it.
pub fn classes_of(collected: &Collected, place: impl Fn(&str, &str) -> PathBuf) -> Classes {
    let mut classes = Classes::new();
    for (artifact, item) in collected.items() {
        if item.kind != "class" {
            continue;
        }
        assert_eq!((item.rung.as_str(), item.probe.as_str()), ("loaded", "jvmti"));
        let path = place(&artifact, &String::from_utf8(item.path).unwrap());
        classes.entry(item.name).or_default().insert(path.to_str().unwrap().to_owned());
    }
    classes
}

/// The line that a program says next.
pub fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Leads the waiting application to its end: up, `ready`, a late class.
pub fn talk(input: &mut impl Write, output: &mut impl BufRead, ready: impl FnOnce()) {
    while !line(output).starts_with("Thread-") {}
    ready();
    input.write_all(b"x").unwrap();
    input.flush().unwrap();
    assert_eq!(line(output), "late");
    input.write_all(b"x").unwrap();
    input.flush().unwrap();
}

/// Every class of the log is reported, with its place.
pub fn compare(logged: &Classes, reported: &Classes) {
    assert!(logged.len() > 300, "only {} classes are in the log", logged.len());
    let missing: Vec<_> = logged
        .iter()
        .filter(|(class, places)| {
            !reported
                .get(*class)
                .is_some_and(|found| places.iter().all(|place| place.is_empty() || found.contains(place)))
        })
        .map(|(class, places)| (class, places, reported.get(class)))
        .take(10)
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Compiles Java sources below `root` into `root/classes`.
pub fn compile(home: &Path, root: &Path, sources: &[(&str, &str)], class_path: &str) -> PathBuf {
    let classes = root.join("classes");
    let mut command = Command::new(home.join("bin/javac"));
    command.arg("-d").arg(&classes).args(["--release", "11", "-nowarn", "-cp", class_path]);
    for (name, text) in sources {
        let file = root.join("sources").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        command.arg(file);
    }
    let output = command.env_remove("JAVA_TOOL_OPTIONS").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    classes
}

pub fn with_javac() -> Option<PathBuf> {
    homes().into_iter().find(|home| home.join("bin/javac").is_file())
}

/// An archive of what is below a directory, stored in it at `inside`; others by their own names.
pub fn archive(home: &Path, file: &Path, options: &str, parts: &[(&Path, &str)]) {
    let mut command = Command::new(home.join("bin/jar"));
    command.arg(options).arg(file);
    for (directory, part) in parts {
        command.arg("-C").arg(directory).arg(part);
    }
    let output = command.env_remove("JAVA_TOOL_OPTIONS").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const MAIN: &str = r#"
import java.lang.reflect.*;
import java.io.*;
import java.net.*;
import java.nio.file.*;
import java.util.*;
public class Main {
    static Object kept;
    interface Greets { String greet(); }
    /** Defines classes from a jar without telling a code source. */
    static class Silent extends ClassLoader {
        final URLClassLoader from;
        Silent(URL jar) { super(null); from = new URLClassLoader(new URL[]{jar}, null); }
        @Override protected Class<?> findClass(String name) throws ClassNotFoundException {
            try (InputStream in = from.getResourceAsStream(name.replace('.', '/') + ".class")) {
                byte[] bytes = in.readAllBytes();
                return defineClass(name, bytes, 0, bytes.length);
            } catch (IOException e) { throw new ClassNotFoundException(name, e); }
        }
        @Override public URL findResource(String name) { return from.findResource(name); }
    }
    static Object make(ClassLoader loader, String name) throws Exception {
        return loader.loadClass(name).getDeclaredConstructor().newInstance();
    }
    public static void main(String[] arguments) throws Exception {
        Path libs = Paths.get(arguments[0]);
        Greets proxy = (Greets) java.lang.reflect.Proxy.newProxyInstance(Main.class.getClassLoader(), new Class<?>[]{Greets.class}, (p, m, a) -> "proxy");
        System.out.println(proxy.greet());
        List.of(1, 2).stream().map(n -> n + 1).forEach(n -> {});
        kept = make(new URLClassLoader(new URL[]{libs.resolve("lib one%.jar").toUri().toURL()}, null), "lib.One");
        System.out.println(make(new Silent(libs.resolve("silent.jar").toUri().toURL()), "quiet.Silent"));
        for (int i = 0; i < 3; i++) {
            make(new URLClassLoader(new URL[]{libs.resolve("temporary.jar").toUri().toURL()}, null), "gone.Temporary");
            System.gc();
        }
        new java.net.ServerSocket(0).close();
        System.out.println(new Thread().getName());
        if (arguments.length > 1) { System.in.read(); make(Main.class.getClassLoader(), "Late"); System.out.println("late"); System.in.read(); }
        System.exit(7);
    }
}
"#;

/// The application: classes in a directory, jars at `libs`.
pub struct Application {
    pub root: tempfile::TempDir,
    pub classes: PathBuf,
    pub libs: PathBuf,
}

impl Application {
    pub fn new(home: &Path) -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = std::fs::canonicalize(root.path()).unwrap();
        let plain = |name: &str| {
            let (package, class) = name.split_once('.').unwrap();
            (format!("{package}/{class}.java"), format!("package {package}; public class {class} {{}}"))
        };
        let parts = [plain("lib.One"), plain("quiet.Silent"), plain("gone.Temporary")];
        let sources: Vec<(&str, &str)> =
            parts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let libs = path.join("libs");
        std::fs::create_dir(&libs).unwrap();
        let built = compile(home, &path.join("parts"), &sources, "");
        for (file, part) in [("lib one%.jar", "lib"), ("silent.jar", "quiet"), ("temporary.jar", "gone")] {
            archive(home, &libs.join(file), "cf", &[(&built, part)]);
        }
        let classes = compile(home, &path, &[("Main.java", MAIN), ("Late.java", "public class Late {}")], "");
        Self { classes, libs, root }
    }

    pub fn command(&self, home: &Path, log: &Path) -> Command {
        let mut command = Command::new(home.join("bin/java"));
        command
            .arg(format!("-Xlog:class+load:file={}:none", log.display()))
            .arg("-cp")
            .arg(&self.classes)
            .arg("Main")
            .arg(&self.libs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}
