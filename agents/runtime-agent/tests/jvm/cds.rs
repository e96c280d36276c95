//! JVMs that write an archive of their classes (CDS): they start and write it as without the agent, which is not in them from
//! their start, and are attached to, or named.

use std::fs;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::support;
use super::support::Collected;
use super::support::jvm::{Application, archive, config, homes, observed, reported, talk, with_javac};
use super::support::jvms;
use super::support::languages::Way;
use plimsoll_runtime_agent::config::UseEbpf;

/// How a start script brings the options to the JVM; `<file>` is the archive, and a file of options stands beside it.
const STARTS: [(&str, &str); 6] = [
    ("", "<option>"),
    ("export JAVA_TOOL_OPTIONS=\"<option> $JAVA_TOOL_OPTIONS\";", ""),
    ("export JAVA_TOOL_OPTIONS=\"$JAVA_TOOL_OPTIONS <option>\";", ""),
    ("export JDK_JAVA_OPTIONS='<option>';", ""),
    ("", "--add-modules java.base @<file>.options"),
    ("", "-XX:Flags=<file>.flags"),
];

struct Jvm {
    /// Enters the system that it needs, in a shell.
    enter: String,
    home: PathBuf,
    is_17: bool,
}

/// JDK 17 of this machine, and 25 of the matrix.
fn jvms_of_test() -> Vec<Jvm> {
    let of_17 = homes().into_iter().filter(|home| home.to_string_lossy().contains("17"));
    let of_17 = of_17.map(|home| Jvm { enter: String::new(), home, is_17: true });
    let of_25 = jvms::root().map(|root| Jvm {
        enter: format!(
            "mount --rbind /tmp {0}/tmp && mount -t proc proc {0}/proc && $chroot {0}",
            root.display()
        ),
        home: jvms::home("25").into(),
        is_17: false,
    });
    of_17.take(1).chain(of_25).collect()
}

impl Jvm {
    fn option(&self, file: &str) -> String {
        match self.is_17 {
            true => format!("-XX:ArchiveClassesAtExit={file}"),
            false => format!("-XX:+AutoCreateSharedArchive -XX:SharedArchiveFile={file}"),
        }
    }

    /// A script that starts the application, behind one that tells nothing of it.
    fn script(&self, folder: &Path, start: (&str, &str), rest: &str) -> PathBuf {
        let file = folder.join("a.jsa");
        let option = self.option(file.to_str().unwrap());
        fs::write(folder.join("a.jsa.options"), option.replace(' ', "\n")).unwrap();
        let flags = option.split(' ').map(|word| word.trim_start_matches("-XX:").to_owned() + "\n");
        fs::write(folder.join("a.jsa.flags"), flags.collect::<String>()).unwrap();
        let words = |text: &str| text.replace("<option>", &option).replace("<file>", file.to_str().unwrap());
        let own = folder.join("own");
        fs::create_dir_all(&own).unwrap();
        let java = format!("{} {}/bin/java {} {rest}", self.enter, self.home.display(), words(start.1));
        fs::write(own.join("start"), format!("{}\n{java}\nexit $?\n", words(start.0))).unwrap();
        let outer = folder.join("outer.sh");
        let text = if self.enter.is_empty() { "sh" } else { "export chroot=chroot; unshare -m sh" };
        fs::write(&outer, format!("{text} {}\nexit $?\n", own.join("start").display())).unwrap();
        outer
    }
}

fn finish(mut child: std::process::Child, output: Option<BufReader<std::process::ChildStdout>>) -> Output {
    let Some(mut output) = output else { return child.wait_with_output().unwrap() };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    output.read_to_end(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    Output { status: child.wait().unwrap(), stdout, stderr }
}

fn reasons(collected: &Collected) -> String {
    let workloads = collected.workloads();
    workloads
        .iter()
        .flat_map(|workload| workload.unavailable_probes.values().cloned())
        .collect::<Vec<_>>()
        .join("; ")
}

#[test]
fn they_run_as_without_the_agent() {
    let Some(javac) = with_javac() else { return };
    let application = Application::new(&javac);
    let app = fs::canonicalize(application.root.path()).unwrap();
    // Directories of classes go into no archive.
    archive(&javac, &app.join("app.jar"), "cf", &[(&application.classes, ".")]);
    let rest = format!("-cp {0}/app.jar Main {0}/libs", app.display());
    for jvm in jvms_of_test() {
        for start in STARTS {
            let folder = tempfile::tempdir().unwrap();
            // Only the audit library sees what this starts.
            let script = jvm.script(folder.path(), start, &rest);
            check(&jvm, Way::Hooks, &application, folder.path(), &script, start);
        }
        for way in Way::all() {
            let folder = tempfile::tempdir().unwrap();
            jvm.script(folder.path(), STARTS[0], &rest);
            check(&jvm, way, &application, folder.path(), &folder.path().join("own/start"), STARTS[0]);
        }
    }
}

fn check(jvm: &Jvm, way: Way, application: &Application, folder: &Path, script: &Path, start: (&str, &str)) {
    let what = format!("{way:?} {} {start:?} {}", jvm.home.display(), script.display());
    let ebpf = if way == Way::Ebpf { UseEbpf::Required } else { UseEbpf::Off };
    let (agent, collected) = support::start(config(ebpf));
    let tree = support::tree(&agent, application.root.path());
    let attaches = jvm.is_17;
    if attaches {
        let text = fs::read_to_string(folder.join("own/start")).unwrap();
        fs::write(folder.join("own/start"), text.replace("/libs\n", "/libs wait\n")).unwrap();
    }
    let mut command = Command::new(if jvm.enter.is_empty() { "sh" } else { "unshare" });
    if !jvm.enter.is_empty() {
        command.args(["-m", "sh"]).env("chroot", "chroot");
    }
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tree.spawn(command).unwrap();
    let output = attaches.then(|| BufReader::new(child.stdout.take().unwrap())).map(|mut output| {
        talk(&mut child.stdin.take().unwrap(), &mut output, || {
            collected.wait("the attach", |collected| {
                collected.items().iter().any(|(_, item)| item.name == "lib.One")
            });
        });
        output
    });
    let output = finish(child, output);
    agent.stop(false);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(7), "{what}: {said}");
    assert!(!said.contains("Error occurred") && !said.contains("agentpath"), "{what}: {said}");
    if attaches {
        let classes = reported(&collected, application.root.path());
        assert!(classes.contains_key("lib.One") && classes.contains_key("Late"), "{what}");
        assert_eq!(observed(&collected, "attached").processes, 1, "{what}");
    } else {
        assert_eq!(observed(&collected, "at-start").processes, 0, "{what}");
        let named = reasons(&collected);
        assert!(named.contains("archive of its classes"), "{what}: {named}");
        assert!(collected.workloads()[0].losses.iter().any(|loss| loss.probe == "jvmti"), "{what}");
    }
    is_used(jvm, application, &folder.join("a.jsa"));
}

/// The archive has the application's class, and a JVM takes it from there.
fn is_used(jvm: &Jvm, application: &Application, file: &Path) {
    let app = fs::canonicalize(application.root.path()).unwrap();
    let java = format!(
        "{} {}/bin/java -XX:SharedArchiveFile={} -Xlog:class+load -cp {3}/app.jar Main {3}/libs",
        jvm.enter,
        jvm.home.display(),
        file.display(),
        app.display()
    );
    let mut command = Command::new("unshare");
    let output = command.args(["-m", "sh", "-c", &java]).env("chroot", "chroot").output().unwrap();
    let log = String::from_utf8_lossy(&output.stdout);
    let main = log.lines().find(|line| line.contains(" Main source: ")).unwrap_or_default();
    assert!(main.contains("shared objects file (top)"), "{main} {}", String::from_utf8_lossy(&output.stderr));
}
