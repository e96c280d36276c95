//! JVMs: the classes that the agent reports are those that the JVM's own log of class loading lists, with their places.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use plimsoll_runtime_agent::config::{AgentConfig, UseEbpf};
use plimsoll_runtime_agent::java::JavaConfig;
use plimsoll_runtime_agent::java::place::{Place, place_of};
use support::Collected;

/// Homes of JVMs on this machine, the oldest first. With CI=true there must be one.
fn homes() -> Vec<PathBuf> {
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

fn config(ebpf: UseEbpf) -> AgentConfig {
    let java = JavaConfig {
        helper: Some(env!("CARGO_BIN_EXE_plimsoll-runtime-agent").into()),
        ..JavaConfig::default()
    };
    AgentConfig { ebpf, java, ..support::config() }
}

/// Places by class; hidden classes left out.
type Classes = BTreeMap<String, BTreeSet<String>>;

/// What the JVM says (`-Xlog:class+load`): hidden classes, and those from anywhere but files, left out. An empty place: from
/// the archive of shared classes.
fn logged(log: &Path, home: &Path) -> Classes {
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

fn reported(collected: &Collected, root: &Path) -> Classes {
    let root = std::fs::canonicalize(root).unwrap();
    let mut classes = Classes::new();
    for (artifact, item) in collected.items() {
        if item.kind != "class" {
            continue;
        }
        assert_eq!((item.rung.as_str(), item.probe.as_str()), ("loaded", "jvmti"));
        let path = String::from_utf8(item.path).unwrap();
        let path = match artifact.starts_with("component/") {
            true => root.join(path),
            false => Path::new("/").join(path),
        };
        classes.entry(item.name).or_default().insert(path.to_str().unwrap().to_owned());
    }
    classes
}

/// Every class of the log is reported, with its place.
fn compare(logged: &Classes, reported: &Classes) {
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
fn compile(home: &Path, root: &Path, sources: &[(&str, &str)], class_path: &str) -> PathBuf {
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

fn with_javac() -> Option<PathBuf> {
    homes().into_iter().find(|home| home.join("bin/javac").is_file())
}

/// An archive of what is below a directory, stored in it at `inside`; others by their own names.
fn archive(home: &Path, file: &Path, options: &str, parts: &[(&Path, &str)]) {
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
struct Application {
    root: tempfile::TempDir,
    classes: PathBuf,
    libs: PathBuf,
}

impl Application {
    fn new(home: &Path) -> Self {
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

    fn command(&self, home: &Path, log: &Path) -> Command {
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

fn check_start(ebpf: UseEbpf) {
    let Some(javac) = with_javac() else { return };
    let application = Application::new(&javac);
    for home in homes() {
        let (agent, collected) = support::start(config(ebpf));
        let tree = support::tree(&agent, application.root.path());
        let log = application.root.path().join("log");
        let plain = application.command(&home, &log).env_remove("JAVA_TOOL_OPTIONS").output().unwrap();
        let mut command = application.command(&home, &log);
        command.env("JAVA_TOOL_OPTIONS", "-Dgiven=1");
        let output = tree.spawn(command).unwrap().wait_with_output().unwrap();
        agent.stop(false);
        assert_eq!((output.status.code(), &output.stdout), (Some(7), &plain.stdout), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("Picked up JAVA_TOOL_OPTIONS: -Dgiven=1 -agentpath:"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let reported = reported(&collected, application.root.path());
        compare(&logged(&log, &home), &reported);
        let place = |class: &str| reported.get(class).map(|places| places.iter().next().unwrap().as_str());
        let lib = |name: &str| application.libs.join(name).to_str().unwrap().to_owned();
        assert_eq!(place("lib.One"), Some(lib("lib one%.jar").as_str()));
        assert_eq!(place("quiet.Silent"), Some(lib("silent.jar").as_str()), "no code source, but a resource");
        assert_eq!(place("gone.Temporary"), Some(lib("temporary.jar").as_str()));
        assert_eq!(place("Main$Greets"), application.classes.to_str());
        assert_eq!(place("Late"), None);
        assert!(!reported.keys().any(|class| class.contains(".$Proxy") || class.contains("0x")));
        for workload in collected.workloads() {
            let watch = workload.watched.iter().find(|watch| watch.probe == "jvmti").unwrap();
            assert!(watch.from_first_exec);
            assert!(!workload.losses.iter().any(|loss| loss.probe == "jvmti"), "{workload:?}");
            assert!(!workload.unavailable_probes.keys().any(|probe| probe.starts_with("jvmti")));
        }
        assert!(!collected.paths(&["library"]).iter().any(|path| path.ends_with("libplimsoll_jvmti.so")));
    }
}

#[test]
fn every_class_from_the_start() {
    check_start(UseEbpf::Off);
}

#[test]
fn every_class_from_the_start_beside_ebpf() {
    if support::no_ebpf().is_none() {
        check_start(UseEbpf::Required);
    }
}

/// The line that a program says next.
fn line(output: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Runs the application without the environment of the hooks, so that it is attached to; gives its end.
fn run_late(
    application: &Application,
    command: Command,
    tree: &plimsoll_runtime_agent::agent::Tree,
    ready: impl Fn(),
) -> std::process::Output {
    let mut wrapped = Command::new("env");
    wrapped.args(["-u", "JAVA_TOOL_OPTIONS"]).arg(command.get_program()).args(command.get_args()).arg("wait");
    wrapped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let _ = application;
    let mut child: Child = tree.spawn(wrapped).unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    while !line(&mut output).starts_with("Thread-") {}
    ready();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"x").unwrap();
    assert_eq!(line(&mut output), "late");
    input.write_all(b"x").unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_jvm_that_runs_is_attached_to() {
    if support::no_ebpf().is_some() {
        return;
    }
    let Some(javac) = with_javac() else { return };
    let application = Application::new(&javac);
    for home in homes() {
        let mut config = config(UseEbpf::Required);
        config.java.attach_from_21 = true;
        let (agent, collected) = support::start(config);
        let tree = support::tree(&agent, application.root.path());
        let log = application.root.path().join("log");
        let output = run_late(&application, application.command(&home, &log), &tree, || {
            collected.wait("the attach", |collected| {
                collected.items().iter().any(|(_, item)| item.name == "lib.One")
            });
        });
        agent.stop(false);
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        let reported = reported(&collected, application.root.path());
        let mut logged = logged(&log, &home);
        // Gone before the agent came: the JVM says so, and nothing is called unused.
        let unloaded = !reported.contains_key("gone.Temporary");
        logged.remove("gone.Temporary");
        compare(&logged, &reported);
        assert!(reported.contains_key("Late"));
        let workload = &collected.workloads()[0];
        let watch = workload.watched.iter().find(|watch| watch.probe == "jvmti").unwrap();
        assert!(!watch.from_first_exec || !unloaded, "{workload:?}");
        assert!(!workload.losses.iter().any(|loss| loss.probe == "jvmti"), "{workload:?}");
        let left = std::fs::read_dir("/tmp").unwrap().flatten();
        let attach_file = |name: &str| name.starts_with(".attach_pid");
        assert!(!left.map(|entry| entry.file_name()).any(|name| attach_file(name.to_str().unwrap_or(""))));
    }
}

#[test]
fn jvms_that_refuse_are_named() {
    if support::no_ebpf().is_some() {
        return;
    }
    let Some(javac) = with_javac() else { return };
    let application = Application::new(&javac);
    let newest = homes().pop().unwrap();
    let mut cases = vec![
        (javac.clone(), "-XX:+DisableAttachMechanism", "DisableAttachMechanism"),
        (javac.clone(), "-Xrs", "would end it"),
    ];
    if newest != javac {
        cases.push((newest, "-Dx=y", "java.attach_from_21"));
    }
    for (home, option, expected) in cases {
        let (agent, collected) = support::start(config(UseEbpf::Required));
        let tree = support::tree(&agent, application.root.path());
        let log = application.root.path().join("log");
        let mut command = Command::new(home.join("bin/java"));
        command.arg(option).args(application.command(&home, &log).get_args());
        let output = run_late(&application, command, &tree, || {
            collected.wait("the reason", |collected| {
                let workloads = collected.workloads();
                workloads.iter().any(|workload| workload.unavailable_probes.contains_key("jvmti"))
                    && workloads.iter().any(|workload| {
                        workload.unavailable_probes.values().any(|reason| reason.contains(expected))
                    })
            });
        });
        agent.stop(false);
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        let workload = &collected.workloads()[0];
        assert!(!workload.watched.iter().any(|watch| watch.probe == "jvmti"));
        assert!(workload.losses.iter().any(|loss| loss.probe == "jvmti"));
    }
}

#[test]
fn a_jvm_that_is_killed_is_a_loss() {
    let Some(javac) = with_javac() else { return };
    let application = Application::new(&javac);
    let (agent, collected) = support::start(config(UseEbpf::Off));
    let tree = support::tree(&agent, application.root.path());
    let log = application.root.path().join("log");
    let mut command = application.command(&javac, &log);
    command.arg("wait");
    let mut child = tree.spawn(command).unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    while !line(&mut output).starts_with("Thread-") {}
    collected
        .wait("its classes", |collected| collected.items().iter().any(|(_, item)| item.name == "lib.One"));
    child.kill().unwrap();
    child.wait().unwrap();
    agent.stop(false);
    let workload = &collected.workloads()[0];
    assert!(workload.losses.iter().any(|loss| loss.probe == "jvmti"), "{workload:?}");
    assert!(
        workload
            .unavailable_probes
            .iter()
            .any(|(name, reason)| { name.starts_with("jvmti:") && reason.contains("last word") })
    );
}
