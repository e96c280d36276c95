//! What the tests of JVMs share: the JVMs of this machine, an application, and the JVM's own word on its classes.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)] // each test uses a part, and may

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plimsoll_runtime_agent::config::{AgentConfig, UseEbpf};
use plimsoll_runtime_agent::java::JavaConfig;
use plimsoll_runtime_agent::java::place::{Place, place_of};
use plimsoll_schemas::events::Observed;
use plimsoll_schemas::words::java_package_of;

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
        super::skip("no JDK in /usr/lib/jvm");
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

/// What a JVM logged of its classes.
#[derive(Debug, Default)]
pub struct Logged {
    /// Those from files; an empty place: from the archive of shared classes.
    pub classes: Classes,
    pub hidden: i64,
    pub unloaded: i64,
}

/// What the JVM says (`-Xlog:class+load`): hidden classes, and those from anywhere but files, left out.
pub fn logged(log: &Path, home: &Path) -> Classes {
    let text = std::fs::read(log).unwrap();
    all_logged(&String::from_utf8_lossy(&text), home).classes
}

/// The same of a text, by JDK 8's words (`-XX:+TraceClassLoading`), too.
pub fn all_logged(text: &str, home: &Path) -> Logged {
    let modules = home.join("lib/modules").to_str().unwrap().to_owned();
    let mut logged = Logged::default();
    for line in text.lines() {
        logged.unloaded += i64::from(line.to_lowercase().contains("unloading class "));
        let of_8 =
            line.strip_prefix("[Loaded ").and_then(|line| line.strip_suffix(']')?.split_once(" from "));
        let Some((class, source)) = of_8.or_else(|| line.split_once(" source: ")) else { continue };
        if class.contains('/') || class.contains('+') {
            logged.hidden += 1;
            continue;
        }
        let place = if source.starts_with("jrt:/") {
            modules.clone()
        } else if source.starts_with("shared objects file") {
            String::new()
        } else if source.starts_with('/') {
            source.to_owned()
        } else if let Place::Path(path) = place_of(source.as_bytes()) {
            format!("/{}", String::from_utf8(path).unwrap())
        } else {
            continue;
        };
        logged.classes.entry(class.to_owned()).or_default().insert(place);
    }
    logged
}

/// Options that make a JVM log its classes: into `log`, or on its standard error for JDK 8.
pub fn log_options(is_8: bool, log: &str) -> Vec<String> {
    if is_8 {
        return ["-XX:+TraceClassLoading", "-XX:+TraceClassUnloading", "-XX:+DisplayVMOutputToStderr"]
            .map(str::to_owned)
            .to_vec();
    }
    vec![format!("-Xlog:class+load,class+unload:file={log}:none")]
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
        if java_package_of(&item.path).is_some() {
            continue;
        }
        let path = place(&artifact, &String::from_utf8(item.path).unwrap());
        classes.entry(item.name).or_default().insert(path.to_str().unwrap().to_owned());
    }
    classes
}

/// One class of each Java package that was told without a place, by artifact (its first word) and path.
pub fn placeless(collected: &Collected) -> BTreeSet<(String, String, String)> {
    let items = collected.items().into_iter();
    let placeless = items.filter(|(_, item)| java_package_of(&item.path).is_some());
    placeless
        .map(|(artifact, item)| {
            let first = artifact.split('/').next().unwrap().to_owned();
            (first, String::from_utf8(item.path).unwrap(), item.name)
        })
        .collect()
}

/// How the JVMs of the collected workloads were observed in this way, all together.
pub fn observed(collected: &Collected, how: &str) -> Observed {
    let workloads = collected.workloads();
    let all = workloads.iter().flat_map(|workload| &workload.observed);
    let mut sum = Observed::default();
    // Each artifact of a workload tells the same of it.
    for one in all.filter(|one| one.ecosystem == "maven" && one.probe == "jvmti" && one.how == how) {
        sum.processes = sum.processes.max(one.processes);
        for (word, number) in &one.counts {
            let known = sum.counts.entry(word.clone()).or_default();
            *known = (*known).max(*number);
        }
    }
    sum
}

/// The line that a program says next.
pub fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    assert!(output.read_line(&mut line).unwrap() > 0, "it ended");
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
    compile_for("11", home, root, sources, class_path)
}

/// The same for JVMs from this version on.
pub fn compile_for(
    release: &str,
    home: &Path,
    root: &Path,
    sources: &[(&str, &str)],
    class_path: &str,
) -> PathBuf {
    let classes = root.join("classes");
    let mut command = Command::new(home.join("bin/javac"));
    command.arg("-d").arg(&classes).args(["--release", release, "-nowarn", "-cp", class_path]);
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

/// Runs on JDK 8 to 25. With a second argument it waits twice for a byte on its standard input.
const MAIN: &str = r#"
import java.io.*;
import java.lang.invoke.MethodHandles;
import java.lang.reflect.*;
import java.net.*;
import java.nio.file.*;
import java.util.*;
public class Main {
    static Object kept;
    interface Greets { String greet(); }
    static byte[] bytes(InputStream in) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (int b; (b = in.read()) >= 0;) out.write(b);
        return out.toByteArray();
    }
    static Object make(ClassLoader loader, String name) throws Exception {
        return loader.loadClass(name).getDeclaredConstructor().newInstance();
    }
    /** A class without a name of its own: hidden since JDK 15, anonymous to the VM before. */
    static Class<?> hide() throws Exception {
        byte[] bytes = bytes(Main.class.getResourceAsStream("Concealed.class"));
        try {
            Class<?> option = Class.forName("java.lang.invoke.MethodHandles$Lookup$ClassOption");
            Method define = MethodHandles.Lookup.class.getMethod("defineHiddenClass", byte[].class, boolean.class, Array.newInstance(option, 0).getClass());
            return ((MethodHandles.Lookup) define.invoke(MethodHandles.lookup(), bytes, true, Array.newInstance(option, 0))).lookupClass();
        } catch (ClassNotFoundException before15) {
            Class<?> unsafe = Class.forName("sun.misc.Unsafe");
            Field field = unsafe.getDeclaredField("theUnsafe");
            field.setAccessible(true);
            return (Class<?>) unsafe.getMethod("defineAnonymousClass", Class.class, byte[].class, Object[].class).invoke(field.get(null), Main.class, bytes, null);
        }
    }
    /** Loads a class, and waits until it is unloaded: an agent holds it until it has told it. */
    static void drop(Path libs) throws Exception {
        for (int i = 0; i < 2; i++) {
            URLClassLoader loader = new URLClassLoader(new URL[]{libs.resolve("temporary.jar").toUri().toURL()}, null);
            make(loader, "gone.Temporary");
            java.lang.ref.WeakReference<Object> gone = new java.lang.ref.WeakReference<>(loader);
            loader = null;
            for (int wait = 0; wait < 500 && gone.get() != null; wait++) { System.gc(); Thread.sleep(10); }
        }
    }
    public static void main(String[] arguments) throws Exception {
        Path libs = Paths.get(arguments[0]);
        Greets proxy = (Greets) java.lang.reflect.Proxy.newProxyInstance(Main.class.getClassLoader(), new Class<?>[]{Greets.class}, (p, m, a) -> "proxy");
        System.out.println(proxy.greet());
        Arrays.asList(1, 2).stream().map(n -> n + 1).forEach(n -> {});
        kept = make(new URLClassLoader(new URL[]{libs.resolve("lib one%.jar").toUri().toURL()}, null), "lib.One");
        System.out.println(hide().getDeclaredConstructor().newInstance().getClass().getName().startsWith("Concealed"));
        javax.crypto.Cipher.getInstance("AES/CBC/PKCS5Padding");
        drop(libs);
        try { Class.forName("booted.Booted"); } catch (ClassNotFoundException notOnTheBootPath) { }
        new java.net.ServerSocket(0).close();
        System.out.println(new Thread().getName());
        if (arguments.length > 1) { System.in.read(); make(Main.class.getClassLoader(), "Late"); drop(libs); System.out.println("late"); System.in.read(); }
        System.exit(7);
    }
}
"#;

/// An agent of the JVM's own kind that puts an archive onto the boot loader's path, as those that trace applications do.
const APPENDS: &str = "
public class Appends {
    public static void premain(String archive, java.lang.instrument.Instrumentation jvm) throws Exception {
        jvm.appendToBootstrapClassLoaderSearch(new java.util.jar.JarFile(archive));
    }
}
";

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
        let parts = [plain("lib.One"), plain("booted.Booted"), plain("gone.Temporary")];
        let sources: Vec<(&str, &str)> =
            parts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let libs = path.join("libs");
        std::fs::create_dir(&libs).unwrap();
        let built = compile_for("8", home, &path.join("parts"), &sources, "");
        for (file, part) in [("lib one%.jar", "lib"), ("boot.jar", "booted"), ("temporary.jar", "gone")] {
            archive(home, &libs.join(file), "cf", &[(&built, part)]);
        }
        let agent = compile_for("8", home, &path.join("agent"), &[("Appends.java", APPENDS)], "");
        std::fs::write(path.join("manifest"), "Premain-Class: Appends\n").unwrap();
        let mut jar = Command::new(home.join("bin/jar"));
        jar.env_remove("JAVA_TOOL_OPTIONS").arg("cfm").arg(libs.join("agent.jar")).arg(path.join("manifest"));
        assert!(jar.arg("-C").arg(&agent).arg("Appends.class").status().unwrap().success());
        let sources = [
            ("Main.java", MAIN),
            ("Late.java", "public class Late {}"),
            ("Concealed.java", "public class Concealed { public Concealed() {} }"),
        ];
        let classes = compile_for("8", home, &path, &sources, "");
        Self { classes, libs, root }
    }

    pub fn command(&self, home: &Path, log: &Path) -> Command {
        let mut command = Command::new(home.join("bin/java"));
        command
            .args(log_options(false, log.to_str().unwrap()))
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
