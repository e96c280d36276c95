//! The stack commands on real servers: life, death and restart, in stacks of their own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A stack below cargo's folder for tests, stopped at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let scratch =
            Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id())));
        std::fs::create_dir_all(&scratch.0).unwrap();
        scratch
    }

    fn xtask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("stack").args(arguments).arg("--dir").arg(&self.0).stdin(Stdio::null()).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) {
        let output = self.xtask(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn variables(&self) -> HashMap<String, String> {
        let text = std::fs::read_to_string(self.0.join("env")).unwrap();
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.xtask(&["down"]).status.success() && !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// Over HTTP, by the client that every machine with cargo's tests has: a socket.
fn query(url: &str, sql: &str) -> std::io::Result<String> {
    use std::io::{Read, Write};
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "POST / HTTP/1.0\r\nContent-Length: {}\r\n\r\n{sql}", sql.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned()).unwrap_or(answer))
}

fn wait_until(what: &str, limit: Duration, condition: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn clickhouse_keeps_port_and_data_over_kill_and_restart() {
    let stack = Scratch::new("clickhouse");
    stack.ok(&["up", "--only", "clickhouse"]);
    let before = stack.variables();
    let (url, pid) = (&before["PLIMSOLL_TEST_CLICKHOUSE"], &before["PLIMSOLL_TEST_CLICKHOUSE_PID"]);
    assert_eq!(query(url, "CREATE TABLE kept (n UInt8) ORDER BY n").unwrap(), "");
    assert_eq!(query(url, "INSERT INTO kept VALUES (7)").unwrap(), "");

    stack.ok(&["up", "--only", "clickhouse"]);
    assert_eq!(&stack.variables()["PLIMSOLL_TEST_CLICKHOUSE_PID"], pid, "a second `up` leaves it alone");

    stack.ok(&["kill", "clickhouse"]);
    assert!(!runs(pid));
    let status = stack.xtask(&["status"]);
    assert!(
        !status.status.success() && String::from_utf8_lossy(&status.stdout).contains("clickhouse: stopped")
    );
    stack.ok(&["restart", "clickhouse"]);
    let after = stack.variables();
    assert_eq!(&after["PLIMSOLL_TEST_CLICKHOUSE"], url);
    assert_ne!(&after["PLIMSOLL_TEST_CLICKHOUSE_PID"], pid);
    assert_eq!(query(url, "SELECT n FROM kept").unwrap(), "7");

    stack.ok(&["pause", "clickhouse"]);
    assert!(!stack.xtask(&["status"]).status.success());
    stack.ok(&["resume", "clickhouse"]);
    stack.ok(&["status"]);

    stack.ok(&["down", "--keep-data"]);
    assert!(query(url, "SELECT 1").is_err());
    stack.ok(&["up", "--only", "clickhouse"]);
    assert_eq!(query(url, "SELECT n FROM kept").unwrap(), "7");

    stack.ok(&["down"]);
    assert!(!stack.0.join("env").exists() && !stack.0.join("clickhouse").exists());
    assert!(stack.0.join("logs/clickhouse.log").exists(), "logs stay");
}

#[test]
fn kafka_comes_back_on_its_port() {
    let stack = Scratch::new("kafka");
    stack.ok(&["up", "--only", "kafka"]);
    let before = stack.variables();
    stack.ok(&["kill", "kafka"]);
    stack.ok(&["restart", "kafka"]);
    let after = stack.variables();
    assert_eq!(before["PLIMSOLL_TEST_KAFKA"], after["PLIMSOLL_TEST_KAFKA"]);
    assert_ne!(before["PLIMSOLL_TEST_KAFKA_PID"], after["PLIMSOLL_TEST_KAFKA_PID"]);
}

#[test]
fn a_command_within_a_stack_leaves_nothing_behind() {
    let stack = Scratch::new("run");
    let run = |script: &str| -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["stack", "run", "--only", "clickhouse", "--dir"]).arg(&stack.0);
        command.args(["--", "sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let output = run("echo $PLIMSOLL_TEST_CLICKHOUSE_PID").wait_with_output().unwrap();
    assert!(output.status.success());
    let pid = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert!(!pid.is_empty() && !runs(&pid));

    assert!(!run("exit 7").wait().unwrap().success(), "the command's failure is the result");

    // Interrupted: servers and command end, too.
    let mut interrupted = run("echo $$ > \"$PLIMSOLL_TEST_STACK_DIR/command\"; exec sleep 600");
    let command = stack.0.join("command");
    let written = || std::fs::read_to_string(&command).is_ok_and(|text| text.ends_with('\n'));
    wait_until("the command runs", Duration::from_secs(60), written);
    let server = stack.variables()["PLIMSOLL_TEST_CLICKHOUSE_PID"].clone();
    assert!(runs(&server));
    let sent = Command::new("kill").arg("-TERM").arg(interrupted.id().to_string()).status().unwrap();
    assert!(sent.success());
    assert!(!interrupted.wait().unwrap().success());
    assert!(!runs(&server), "the server was stopped");
    let command = std::fs::read_to_string(&command).unwrap();
    wait_until("the command ends", Duration::from_secs(10), || !runs(command.trim()));
}

/// An image of one static program, made on the spot: no registry is needed.
fn import_sleeper(host: &str, folder: &Path) {
    let source = folder.join("sleeper.c");
    std::fs::write(&source, "#include <unistd.h>\nint main() { sleep(600); return 0; }\n").unwrap();
    std::fs::create_dir_all(folder.join("image")).unwrap();
    let run = |command: &mut Command| {
        assert!(command.current_dir(folder).status().unwrap().success(), "{command:?}")
    };
    run(Command::new("cc").args(["-static", "-o", "image/sleeper", "sleeper.c"]));
    run(Command::new("tar").args(["-C", "image", "-cf", "image.tar", "."]));
    run(Command::new("docker").args(["-H", host, "import", "image.tar", "sleeper:1"]).stdout(Stdio::null()));
}

#[test]
fn docker_leaves_no_container_and_no_mount() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "a private dockerd needs root");
        println!("skipped: a private dockerd needs root");
        return;
    }
    let stack = Scratch::new("docker");
    stack.ok(&["up", "--only", "docker"]);
    let host = stack.variables()["PLIMSOLL_TEST_DOCKER_HOST"].clone();
    import_sleeper(&host, &stack.0);
    let docker = |arguments: &[&str]| -> String {
        let output = Command::new("docker").args(["-H", &host]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let container = docker(&["run", "-d", "--network", "host", "sleeper:1", "/sleeper"]);
    let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &container]);
    assert!(runs(&pid));

    // Killed, so neither stops the container.
    stack.ok(&["kill", "docker"]);
    stack.ok(&["kill", "containerd"]);
    assert!(runs(&pid));
    stack.ok(&["down"]);
    assert!(!runs(&pid), "the container of a killed dockerd ends with its stack");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(stack.0.to_str().unwrap()), "{mounts}");
}

#[test]
fn mistakes_are_named() {
    let check = |arguments: &[&str], expect: &str| {
        let stack = Scratch::new("mistakes");
        let output = stack.xtask(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(expect), "{arguments:?}: {text}");
    };
    check(&["up", "--only", "kafak"], "no server is called `kafak`");
    check(&["restart", "kafka"], "this stack has no server `kafka`");
}
