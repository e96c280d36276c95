//! `plimsoll run … -- docker run --detach …`: the container is the workload, not the client that starts it.
//! Needs eBPF and the engine of PLIMSOLL_TEST_DOCKER_HOST; without them the tests say so and pass, except under CI=true.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "plimsoll-test-detached:1";

struct Engine {
    host: String,
    directory: tempfile::TempDir,
    /// Container that this test starts.
    name: String,
}

impl Engine {
    /// With an image of one static program that sleeps.
    fn new(test: &str) -> Option<Self> {
        let host = std::env::var("PLIMSOLL_TEST_DOCKER_HOST").ok().filter(|host| !host.is_empty());
        if host.is_none() || !rustix::process::geteuid().is_root() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must have Docker and run as root");
            println!("skipped: needs root and PLIMSOLL_TEST_DOCKER_HOST (run by cargo xtask test)");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let name = format!("plimsoll-test-{test}-{}", std::process::id());
        let engine = Self { host: host.unwrap(), directory, name };
        let at = |name: &str| engine.directory.path().join(name);
        std::fs::create_dir(at("root")).unwrap();
        std::fs::write(at("s.c"), "#include <stdlib.h>\n#include <unistd.h>\nint main(int c, char **v) { sleep(c > 1 ? atoi(v[1]) : 1); return 0; }\n").unwrap();
        run(Command::new("cc").arg("-static").arg("-o").arg(at("root/sleeper")).arg(at("s.c")));
        run(Command::new("tar").arg("-C").arg(at("root")).arg("-cf").arg(at("image.tar")).arg("."));
        run(engine.docker(&["import"]).arg(at("image.tar")).arg(IMAGE));
        Some(engine)
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.host]).args(arguments);
        command
    }

    /// Observes a detached container that sleeps so many seconds; the files take what the command says.
    fn observe(&self, seconds: &str) -> Child {
        let file = |name: &str| std::fs::File::create(self.file(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PLIMSOLL_") {
                command.env_remove(name);
            }
        }
        command.env("XDG_STATE_HOME", self.file("state")).env("XDG_DATA_HOME", self.file("data"));
        command.args(["run", "-a", "test", "-c", "detached", "-V", "1", "-o", "json", "--"]);
        command.args(["docker", "-H", &self.host, "run", "-d", "--network", "none", "--name", &self.name]);
        command.args([IMAGE, "/sleeper", seconds]);
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).spawn().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    fn state(&self) -> String {
        let output = run(&mut self.docker(&["inspect", "--format", "{{.State.Status}}", &self.name]));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn wait_for_word(&self, child: &mut Child, word: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.text("err").contains(word) {
            assert!(child.try_wait().unwrap().is_none(), "it ended: {}", self.text("err"));
            assert!(Instant::now() < deadline, "it does not say {word:?}: {}", self.text("err"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The report that the run ends with, behind the container's id that docker printed.
    fn report(&self) -> serde_json::Value {
        let text = self.text("out");
        let start = text.find('{').unwrap_or_else(|| panic!("no report: {text}{}", self.text("err")));
        serde_json::from_str(&text[start..]).unwrap()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.docker(&["rm", "-f", &self.name]).output();
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn end(mut child: Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("the run does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn it_is_observed_until_it_stops() {
    let Some(engine) = Engine::new("stops") else { return };
    let mut child = engine.observe("4");
    engine.wait_for_word(&mut child, "the container runs on");
    assert_eq!(engine.state(), "running");
    let status = end(child);
    assert_eq!(engine.state(), "exited", "the run ended before its container");
    assert_eq!(status.code(), Some(0), "{}", engine.text("err"));
    let report = engine.report();
    assert!(report["packages"].is_array(), "{report}");
}

#[test]
fn an_interrupt_ends_the_observation_and_leaves_it_running() {
    let Some(engine) = Engine::new("interrupt") else { return };
    let mut child = engine.observe("600");
    engine.wait_for_word(&mut child, "the container runs on");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = end(child);
    assert_eq!(status.code(), Some(0), "{}", engine.text("err"));
    assert_eq!(engine.state(), "running");
    engine.report();
}
