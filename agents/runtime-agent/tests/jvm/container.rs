//! JVMs in real containers: attached to from outside, as their user, and nothing stays behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use plimsoll_runtime_agent::config::{AgentConfig, UseEbpf};

use super::support;
use super::support::jvm::{Application, compare, config, logged, with_javac};

struct Image {
    endpoint: String,
    name: String,
    id: String,
    application: Application,
}

impl Image {
    /// A small image of a JVM and the application; `None` (said why) without a Docker for tests.
    fn new() -> Option<Self> {
        support::no_ebpf().is_none().then_some(())?;
        let endpoint = support::docker()?;
        let home = with_javac()?;
        let application = Application::new(&home);
        let root = tempfile::tempdir().unwrap();
        let jre = root.path().join("jre");
        let linked = Command::new(home.join("bin/jlink"))
            .args(["--add-modules", "java.base", "--strip-debug", "--output"])
            .arg(&jre)
            .output()
            .unwrap();
        assert!(linked.status.success(), "{linked:?}");
        let mut files = vec![PathBuf::from("/bin/sh")];
        for directory in ["lib", "lib/server", "bin"] {
            let entries = std::fs::read_dir(jre.join(directory)).unwrap().flatten();
            files.extend(entries.map(|entry| entry.path()).filter(|path| path.is_file()));
        }
        for file in files {
            let output = Command::new("ldd").arg(&file).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let needed = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
            let own = (!file.starts_with(&jre)).then(|| file.clone());
            for file in needed.filter(|path| !path.starts_with(root.path())).chain(own) {
                let to = root.path().join(file.strip_prefix("/").unwrap());
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::copy(&file, to).unwrap();
            }
        }
        copy(&application.classes, &root.path().join("app/classes"));
        copy(&application.libs, &root.path().join("app/libs"));
        std::fs::create_dir(root.path().join("logs")).unwrap();
        // Each test sees its own containers only.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("plimsoll-test-jvm:{}-{number}", std::process::id());
        let archive = root.path().join("image.tar");
        let tar = Command::new("tar")
            .args(["-C", root.path().to_str().unwrap(), "--exclude=./image.tar", "-cf"])
            .arg(&archive)
            .arg(".")
            .status()
            .unwrap();
        assert!(tar.success());
        let output = Command::new("docker")
            .args(["-H", &endpoint, "import"])
            .arg(&archive)
            .arg(&name)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        Some(Self { endpoint, name, id, application })
    }

    fn config(&self) -> AgentConfig {
        AgentConfig {
            watch_containers: true,
            docker_endpoint: Some(self.endpoint.clone()),
            // Others use this Docker, too.
            only_label: Some(("plimsoll.test".to_owned(), self.name.clone())),
            ..config(UseEbpf::Required)
        }
    }

    fn start(&self, options: &[&str]) -> Child {
        let mut command = Command::new("docker");
        command.args(["-H", &self.endpoint, "run", "--rm", "-i", "--net=none", "--label"]);
        command.arg(format!("plimsoll.test={}", self.name)).args(options).arg(&self.name);
        command.args([
            "/jre/bin/java",
            "-Xlog:class+load:file=/logs/log:none",
            "-cp",
            "/app/classes",
            "Main",
        ]);
        command.args(["/app/libs", "wait"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().unwrap()
    }
}

impl Image {
    /// What the first process of a container has mapped executable.
    fn mapped(&self, container: &str) -> BTreeSet<PathBuf> {
        let mut command = Command::new("docker");
        command.args(["-H", &self.endpoint, "inspect", "-f", "{{.State.Pid}}", container]);
        let pid = String::from_utf8(command.output().unwrap().stdout).unwrap();
        support::mapped(&std::fs::read_to_string(format!("/proc/{}/maps", pid.trim())).unwrap())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // What is left behind is only disk.
        let _ = Command::new("docker").args(["-H", &self.endpoint, "rmi", "-f", &self.id]).output();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let status = Command::new("cp").arg("-r").arg(from.join(".")).arg(to).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_jvm_in_a_container_is_attached_to() {
    let Some(image) = Image::new() else { return };
    for user in ["0:0", "1234:1235"] {
        let logs = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(logs.path(), Some(user.split(':').next().unwrap().parse().unwrap()), None)
            .unwrap();
        let volume = format!("{}:/logs", logs.path().display());
        let libs =
            format!("{}:/app/libs/temporary.jar", image.application.libs.join("temporary.jar").display());
        let (agent, collected) = support::start(image.config());
        // A JVM that reads a jar from a volume.
        let mut child =
            image.start(&["--user", user, "--tmpfs", "/tmp:exec,mode=1777", "-v", &volume, "-v", &libs]);
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut input = child.stdin.take().unwrap();
        support::jvm::talk(&mut input, &mut output, || {
            collected.wait("the attach", |collected| {
                collected.items().iter().any(|(_, item)| item.name == "lib.One")
            });
        });
        assert_eq!(child.wait().unwrap().code(), Some(7));
        let key = format!("image/{}", image.id);
        collected.wait("the last word", |collected| {
            collected.workloads().iter().any(|workload| workload.stopped_at_ms > 0)
        });
        agent.stop(false);
        let reported = support::jvm::classes_of(&collected, |artifact, path| {
            assert_eq!(artifact, key);
            Path::new("/").join(path)
        });
        let mut logged = logged(&logs.path().join("log"), Path::new("/jre"));
        logged.remove("gone.Temporary");
        compare(&logged, &reported);
        assert!(reported["lib.One"].contains("/app/libs/lib one%.jar"));
        assert!(reported.contains_key("Late"));
        for (_, item) in collected.items() {
            let expected = if item.name == "gone.Temporary" { "other" } else { "root" };
            assert!(item.kind != "class" || item.mount == expected, "{item:?}");
        }
        let workload = &collected.workloads()[0];
        assert!(workload.watched.iter().any(|watch| watch.probe == "jvmti"), "{workload:?}");
        // In an image without /etc/passwd a user has no name, and its JVM no counters: what was unloaded before the
        // attach is not known, and nothing can be called unused.
        let jvmti = |probe: &str| probe == "jvmti";
        assert!(workload.losses.iter().any(|loss| jvmti(&loss.probe)), "{workload:?}");
        assert!(!workload.watched.iter().any(|watch| jvmti(&watch.probe) && watch.from_first_exec));
        assert!(workload.unavailable_probes.values().any(|why| why.contains("counters")), "{workload:?}");
    }
}

#[test]
fn a_container_without_a_writable_tmp_is_named_and_those_of_others_are_left_alone() {
    let Some(image) = Image::new() else { return };
    let logs = tempfile::tempdir().unwrap();
    let volume = format!("{}:/logs", logs.path().display());
    let config = image.config();
    // Not one of those that are to be observed; it runs before the agent.
    let name = image.name.replace(':', "-");
    let mut foreign = image.start(&[
        "--tmpfs",
        "/logs",
        "--tmpfs",
        "/tmp:exec",
        "--label",
        "plimsoll.test=",
        "--name",
        &name,
    ]);
    let mut foreign_output = std::io::BufReader::new(foreign.stdout.take().unwrap());
    let mut foreign_input = foreign.stdin.take().unwrap();
    support::jvm::talk(&mut foreign_input, &mut foreign_output, || {
        let (agent, collected) = support::start(config);
        let mut child = image.start(&["--read-only", "-v", &volume]);
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut input = child.stdin.take().unwrap();
        support::jvm::talk(&mut input, &mut output, || {
            collected.wait("the reason", |collected| {
                let workloads = collected.workloads();
                workloads.iter().any(|workload| {
                    workload.unavailable_probes.values().any(|reason| reason.contains("/tmp"))
                })
            });
        });
        assert_eq!(child.wait().unwrap().code(), Some(7));
        agent.stop(false);
        let workloads = collected.workloads();
        assert_eq!(workloads.len(), 1, "{workloads:?}");
        assert!(!workloads[0].watched.iter().any(|watch| watch.probe == "jvmti"), "{workloads:?}");
        let mapped = image.mapped(&name);
        assert!(mapped.iter().any(|path| path.ends_with("libjvm.so")), "{mapped:?}");
        // Its file is gone once it was loaded.
        let has_agent = |path: &PathBuf| path.to_str().unwrap().contains(plimsoll_jvmti::FILE_NAME);
        assert!(!mapped.iter().any(has_agent), "{mapped:?}");
    });
    assert_eq!(foreign.wait().unwrap().code(), Some(7));
}
