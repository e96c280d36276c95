//! JVMs from JDK 8 to 25, of 32 bits and on musl: from their start and attached to in containers, each compared with its own
//! log of classes.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use plimsoll_runtime_agent::config::{AgentConfig, UseEbpf};

use super::support;
use super::support::jvm::{
    Application, Classes, Logged, all_logged, classes_of, compare, config, log_options, observed, talk,
    with_javac,
};
use super::support::jvms::{HOMES, home, is_8, root};

/// What a JVM logged, in whichever way.
fn logged_by(home: &str, log: &Path, said: &Path) -> Logged {
    let file = if is_8(home) { said } else { log };
    all_logged(&String::from_utf8_lossy(&fs::read(file).unwrap()), Path::new(home))
}

/// Every class with its place, those of the boot loader and JDK 8's many archives among them.
fn check_classes(name: &str, home: &str, logged: &Logged, reported: &Classes) {
    println!(
        "{name}: {} classes, {} hidden, {} unloaded",
        logged.classes.len(),
        logged.hidden,
        logged.unloaded
    );
    compare(&logged.classes, reported);
    assert!(logged.hidden > 0 && logged.unloaded > 0, "{name}: {logged:?}");
    let place = |class: &str| reported[class].iter().next().unwrap().clone();
    assert_eq!(place("lib.One"), "/app/libs/lib one%.jar", "{name}");
    assert_eq!(place("booted.Booted"), "/app/libs/boot.jar", "{name}: on the boot loader's path");
    let crypto = if is_8(home) { "/jre/lib/jce.jar" } else { "/lib/modules" };
    assert_eq!(place("javax.crypto.Cipher"), format!("{home}{crypto}"), "{name}");
    assert!(!reported.contains_key("Concealed"), "{name}: hidden, or anonymous to the VM");
    assert!(!reported.keys().any(|class| class.contains('/')), "{name}");
}

#[test]
fn every_class_from_the_start() {
    let (Some(javac), Some(root)) = (with_javac(), root()) else { return };
    let application = Application::new(&javac);
    let app = application.root.path();
    // In another root, which has the hook's folder at the same place: as a JVM of the system that it was made for.
    // By a variable: the agent stays out of scripts that are seen to enter another root.
    let script = app.join("start.sh");
    fs::write(
        &script,
        r#"[ "$INSIDE" ] || { export INSIDE=1 chroot="exec chroot"; exec unshare -m sh "$0" "$@"; }
unset LD_AUDIT INSIDE
root=$1 app=$2; shift 2
hook=${JAVA_TOOL_OPTIONS##*-agentpath:}; hook=${hook%%/'$PLATFORM'*}
mount -t proc proc "$root/proc" && mount -t tmpfs tmpfs "$root/tmp" && mkdir -p "$root$hook" &&
mount --bind "$hook" "$root$hook" && mount --bind "$app" "$root/app" && $chroot "$root" "$@""#,
    )
    .unwrap();
    for (name, home) in HOMES {
        let (agent, collected) = support::start(config(UseEbpf::Off));
        let tree = support::tree(&agent, app);
        let (log, said) = (app.join("log"), app.join("said"));
        let mut command = Command::new("sh");
        command.arg(&script);
        command.arg(&root).arg(app).arg(format!("{home}/bin/java")).args(log_options(is_8(home), "/app/log"));
        command.args([
            "-javaagent:/app/libs/agent.jar=/app/libs/boot.jar",
            "-cp",
            "/app/classes",
            "Main",
            "/app/libs",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&said).unwrap());
        let output = tree.spawn(command).unwrap().wait_with_output().unwrap();
        agent.stop(false);
        let words = fs::read_to_string(&said).unwrap();
        assert_eq!(output.status.code(), Some(7), "{name}: {words}");
        let logged = logged_by(home, &log, &said);
        let reported = classes_of(&collected, |_, path| Path::new("/").join(path));
        check_classes(name, home, &logged, &reported);
        let observed = observed(&collected, "at-start");
        assert_eq!((observed.processes, observed.counts["classes-hidden"]), (1, logged.hidden), "{name}");
        assert!(observed.counts["classes-generated"] >= 1, "{name}: {observed:?}");
        // Some go while the JVM ends.
        let unloaded = observed.counts["classes-unloaded"];
        assert!((1..=logged.unloaded).contains(&unloaded), "{name}: {unloaded} of {}", logged.unloaded);
        for workload in collected.workloads() {
            assert!(!workload.losses.iter().any(|loss| loss.probe == "jvmti"), "{name}: {workload:?}");
        }
    }
}

/// The system with the application as an image.
struct Image {
    endpoint: String,
    name: String,
    id: String,
}

impl Image {
    fn new(root: &Path, application: &Application) -> Option<Self> {
        let endpoint = support::docker()?;
        let name = format!("plimsoll-test-jvms:{}", std::process::id());
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(root).args(["-c", "--exclude=./proc/*", "--exclude=./app", "."]);
        // Names only: links have targets that begin so.
        tar.arg(r"--transform=flags=r;s,^\(classes\|libs\)\(/\|$\),app/\1\2,");
        tar.arg("-C").arg(application.root.path()).args(["classes", "libs"]);
        let mut tar = tar.stdout(Stdio::piped()).spawn().unwrap();
        let mut import = Command::new("docker");
        import.args(["-H", &endpoint, "import", "-", &name]).stdin(tar.stdout.take().unwrap());
        let output = import.output().unwrap();
        assert!(tar.wait().unwrap().success() && output.status.success(), "{output:?}");
        let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        Some(Self { endpoint, name, id })
    }

    fn config(&self, attach_from_21: bool) -> AgentConfig {
        let mut config = AgentConfig {
            watch_containers: true,
            docker_endpoint: Some(self.endpoint.clone()),
            // Others use this Docker, too.
            only_label: Some(("plimsoll.test".to_owned(), self.name.clone())),
            ..config(UseEbpf::Required)
        };
        config.java.attach_from_21 = attach_from_21;
        config
    }

    fn start(&self, container: &str, home: &str, logs: &Path) -> (Child, PathBuf) {
        let mut command = Command::new("docker");
        let name = format!("{}-{container}", self.name.replace(':', "-"));
        command.args(["-H", &self.endpoint, "run", "--rm", "-i", "--net=none", "--name", &name, "--label"]);
        command
            .arg(format!("plimsoll.test={}", self.name))
            .arg("-v")
            .arg(format!("{}:/logs", logs.display()));
        command.arg(&self.name).arg(format!("{home}/bin/java")).args(log_options(is_8(home), "/logs/log"));
        command.args([
            "-Xbootclasspath/a:/app/libs/boot.jar",
            "-cp",
            "/app/classes",
            "Main",
            "/app/libs",
            "wait",
        ]);
        let said = logs.join("said");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&said).unwrap());
        (command.spawn().unwrap(), said)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // What is left behind is only disk.
        let _ = Command::new("docker").args(["-H", &self.endpoint, "rmi", "-f", &self.id]).output();
    }
}

#[test]
fn jvms_that_run_in_containers() {
    let (Some(javac), Some(root)) = (with_javac(), root()) else { return };
    let application = Application::new(&javac);
    let Some(image) = Image::new(&root, &application) else { return };
    for (name, home) in HOMES {
        let logs = tempfile::tempdir().unwrap();
        let (mut child, said) = image.start("attach", home, logs.path());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut watching = None;
        talk(&mut child.stdin.take().unwrap(), &mut output, || {
            // Classes were unloaded by now.
            let (agent, collected) = support::start(image.config(true));
            collected.wait("the attach", |collected| {
                collected.items().iter().any(|(_, item)| item.name == "lib.One")
            });
            watching = Some((agent, collected));
        });
        let (agent, collected) = watching.unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7), "{name}");
        collected.wait("the last word", |collected| {
            collected.workloads().iter().any(|workload| workload.stopped_at_ms > 0)
        });
        agent.stop(false);
        let mut logged = logged_by(home, &logs.path().join("log"), &said);
        let reported = classes_of(&collected, |_, path| Path::new("/").join(path));
        // Gone before the agent came; and once more while it was there.
        assert!(logged.classes.contains_key("gone.Temporary") && reported.contains_key("Late"), "{name}");
        logged.classes.remove("gone.Temporary");
        check_classes(name, home, &logged, &reported);
        let observed = observed(&collected, "attached");
        assert_eq!(observed.processes, 1, "{name}");
        for count in ["classes-hidden", "classes-generated", "classes-unloaded", "classes-unloaded-before"] {
            assert!(
                observed.counts.get(count).is_some_and(|number| *number > 0),
                "{name}: {count} {observed:?}"
            );
        }
        // Only those that are still there when the agent comes.
        assert!(observed.counts["classes-hidden"] <= logged.hidden, "{name}: {observed:?}");
        let words = fs::read_to_string(&said).unwrap();
        let warned = words.contains("WARNING: A JVM TI agent");
        assert_eq!(warned, ["21", "25"].contains(&name), "{name}: {words}");
    }
    from_jdk_21_on_only_by_choice(&image);
}

fn from_jdk_21_on_only_by_choice(image: &Image) {
    let home = home("21");
    let logs = tempfile::tempdir().unwrap();
    let (agent, collected) = support::start(image.config(false));
    let (mut child, said) = image.start("refuse", home, logs.path());
    let mut output = BufReader::new(child.stdout.take().unwrap());
    talk(&mut child.stdin.take().unwrap(), &mut output, || {
        collected.wait("the reason", |collected| {
            let reasons = collected.workloads().into_iter().flat_map(|workload| workload.unavailable_probes);
            reasons.into_iter().any(|(_, reason)| reason.contains("java.attach_from_21"))
        });
    });
    assert_eq!(child.wait().unwrap().code(), Some(7));
    agent.stop(false);
    assert_eq!(fs::read_to_string(said).unwrap(), "");
    assert_eq!(observed(&collected, "refused").processes, 1);
    assert!(classes_of(&collected, |_, path| path.into()).is_empty());
}
