//! JVMs: the classes that the agent reports are those that the JVM's own log of class loading lists, with their places.

use std::io::BufReader;
use std::process::{Child, Command, Stdio};

use plimsoll_runtime_agent::config::UseEbpf;

use super::support;
use super::support::jvm::{
    Application, compare, compile, config, homes, line, logged, reported, talk, with_javac,
};

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
        let said = support::jvm::all_logged(&std::fs::read_to_string(&log).unwrap(), &home);
        compare(&said.classes, &reported);
        let observed = support::jvm::observed(&collected, "at-start");
        assert_eq!((observed.processes, observed.counts["classes-hidden"]), (1, said.hidden));
        assert!(observed.counts["classes-generated"] >= 1, "{observed:?}");
        let told = observed.counts["classes-told"];
        assert!(told >= i64::try_from(reported.len()).unwrap(), "{told} of {}", reported.len());
        let unloaded = observed.counts["classes-unloaded"];
        assert!((1..=said.unloaded).contains(&unloaded), "{unloaded} of {}", said.unloaded);
        let place = |class: &str| reported.get(class).map(|places| places.iter().next().unwrap().as_str());
        let lib = |name: &str| application.libs.join(name).to_str().unwrap().to_owned();
        assert_eq!(place("lib.One"), Some(lib("lib one%.jar").as_str()));
        assert_eq!(place("Concealed"), None, "hidden");
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

/// Runs the application without the environment of the hooks, so that it is attached to; gives its end.
fn run_late(
    command: Command,
    tree: &plimsoll_runtime_agent::agent::Tree,
    ready: impl FnOnce(),
) -> (u32, std::process::Output) {
    let mut wrapped = Command::new("env");
    wrapped.args(["-u", "JAVA_TOOL_OPTIONS"]).arg(command.get_program()).args(command.get_args()).arg("wait");
    wrapped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child: Child = tree.spawn(wrapped).unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut input = child.stdin.take().unwrap();
    talk(&mut input, &mut output, ready);
    (child.id(), child.wait_with_output().unwrap())
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
        let (pid, output) = run_late(application.command(&home, &log), &tree, || {
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
        let lossy = workload.losses.iter().any(|loss| loss.probe == "jvmti");
        assert_eq!(lossy, !watch.from_first_exec, "{workload:?}");
        assert!(!std::path::Path::new("/tmp").join(format!(".attach_pid{pid}")).exists());
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
        let (_, output) = run_late(command, &tree, || {
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

#[test]
fn a_jvm_with_a_cleared_environment_is_a_loss() {
    let Some(javac) = with_javac() else { return };
    let application = Application::new(&javac);
    let mut config = config(UseEbpf::Off);
    config.java.attach = false;
    let (agent, collected) = support::start(config);
    let tree = support::tree(&agent, application.root.path());
    let log = application.root.path().join("log");
    let command = application.command(&javac, &log);
    let mut wrapped = Command::new("env");
    wrapped.arg("-i").arg(command.get_program()).args(command.get_args()).arg("wait");
    wrapped.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = tree.spawn(wrapped).unwrap();
    collected.wait("the reason", |collected| {
        collected.workloads().iter().any(|workload| {
            let reasons = &workload.unavailable_probes;
            reasons.iter().any(|(name, reason)| name.starts_with("jvmti:/") && reason.contains("java.attach"))
        })
    });
    child.kill().unwrap();
    child.wait().unwrap();
    agent.stop(false);
    let workload = &collected.workloads()[0];
    assert!(workload.losses.iter().any(|loss| loss.probe == "jvmti"), "{workload:?}");
}

const MUTE: &str = r#"
public class Mute extends ClassLoader {
    Mute() { super(null); }
    @Override public java.net.URL getResource(String name) { System.out.println("asked"); return Mute.class.getResource(name); }
    public static void main(String[] arguments) throws Exception {
        for (String name : new String[]{"part.Part", "part.Other", "Bare"}) {
            byte[] bytes = Mute.class.getResourceAsStream(name.replace('.', '/') + ".class").readAllBytes();
            System.out.println(new Mute().defineClass(name, bytes, 0, bytes.length).getDeclaredConstructor().newInstance());
        }
    }
}
"#;

/// By its Java package, of each artifact that may have archives. Nor is its loader asked: that would run the application's
/// code.
#[test]
fn a_class_without_a_place_is_told_by_its_java_package() {
    let Some(javac) = with_javac() else { return };
    let root = tempfile::tempdir().unwrap();
    let part = |name: &str| format!("package part; public class {name} {{ public {name}() {{}} }}");
    let (one, other) = (part("Part"), part("Other"));
    let sources = [
        ("Mute.java", MUTE),
        ("part/Part.java", one.as_str()),
        ("part/Other.java", other.as_str()),
        ("Bare.java", "public class Bare { public Bare() {} }"),
    ];
    let classes = compile(&javac, root.path(), &sources, "");
    let (agent, collected) = support::start(config(UseEbpf::Off));
    let tree = support::tree(&agent, root.path());
    let mut command = Command::new(javac.join("bin/java"));
    command.arg("-cp").arg(classes).arg("Mute").stdin(Stdio::null()).stdout(Stdio::piped());
    let output = tree.spawn(command).unwrap().wait_with_output().unwrap();
    agent.stop(false);
    assert!(output.status.success() && output.stdout.starts_with(b"part.Part@"), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("asked"), "{output:?}");
    let workload = &collected.workloads()[0];
    assert!(!workload.losses.iter().any(|loss| loss.probe == "jvmti"), "{workload:?}");
    let expected = ["component", "host"].into_iter().flat_map(|artifact| {
        [("?!/part", "part.Part"), ("?!/", "Bare")]
            .map(|(path, class)| (artifact.to_owned(), path.to_owned(), class.to_owned()))
    });
    assert_eq!(support::jvm::placeless(&collected), expected.collect());
    let observed = support::jvm::observed(&collected, "at-start");
    assert_eq!(observed.counts["classes-generated"], 3, "{observed:?}");
}

/// As start scripts do: the JVM is gone before it can be attached to, and whoever reads this did use `plimsoll run`.
#[test]
fn a_start_script_that_removes_the_variable_is_named() {
    let Some(javac) = with_javac() else { return };
    if support::no_ebpf().is_some() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let (agent, collected) = support::start(config(UseEbpf::Required));
    let tree = support::tree(&agent, root.path());
    let mut command = Command::new("env");
    // Over long before the time that an agent of the start has to say hello.
    command
        .args(["-u", "JAVA_TOOL_OPTIONS"])
        .arg(javac.join("bin/java"))
        .arg("-version")
        .stderr(Stdio::null());
    assert!(tree.spawn(command).unwrap().wait().unwrap().success());
    agent.stop(false);
    let workload = &collected.workloads()[0];
    let reason = workload.unavailable_probes.get("jvmti").map(String::as_str).unwrap_or_default();
    assert!(reason.contains("without the JAVA_TOOL_OPTIONS of `plimsoll run`"), "{workload:?}");
}
