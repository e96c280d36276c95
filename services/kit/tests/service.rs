//! A whole service process: configuration, admin pages, traces to a collector, signals, exit codes.
//! The process is this test program, started again with PLIMSOLL_TEST_CHILD set.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use plimsoll_kit::config::{AdminConfig, ConfigArgs, TelemetryConfig};
use plimsoll_kit::lifecycle::{EXIT_FORCED, ServiceContext, ServiceInfo, run_service};
use plimsoll_kit::telemetry;
use serde::{Deserialize, Serialize};

const SOON: Duration = Duration::from_secs(20);

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ChildConfig {
    telemetry: TelemetryConfig,
    admin: AdminConfig,
    behaviour: String,
}
plimsoll_kit::service_config!(ChildConfig);

/// Not a test of its own: the body of the started process.
#[test]
fn child() {
    let Ok(arguments) = std::env::var("PLIMSOLL_TEST_CHILD") else { return };
    let set = arguments.split('\n').filter(|a| !a.is_empty()).map(str::to_owned).collect();
    let args = ConfigArgs { config: None, set, print_config: false };
    let code = run_service::<ChildConfig>(ServiceInfo::new("child", "9.9.9"), &args, serve);
    // The test harness's own exit code must not replace the service's.
    let code = if code == std::process::ExitCode::SUCCESS {
        0
    } else if code == std::process::ExitCode::FAILURE {
        1
    } else {
        2
    };
    std::process::exit(code);
}

fn serve(config: ChildConfig, context: ServiceContext) -> anyhow::Result<()> {
    let check = context.health.readiness("work");
    let counter = context.metrics.counter("turns", "Turns of the loop");
    let span = tracing::info_span!("work_of_child");
    let mut headers = Vec::new();
    span.in_scope(|| {
        telemetry::inject_current(&mut headers);
        tracing::info!("inside");
    });
    drop(span);
    let parent = telemetry::extract(&headers);
    let continued = tracing::info_span!("continued_elsewhere");
    if let Some(parent) = &parent {
        telemetry::set_parent(&continued, parent);
    }
    continued.in_scope(|| tracing::info!(has_parent = parent.is_some(), "continued"));
    drop(continued);
    match config.behaviour.as_str() {
        "fail" => anyhow::bail!("it broke"),
        "stuck" => {
            check.ready();
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        _ => {}
    }
    check.not_ready("waiting for the broker");
    let mut turns = 0;
    while !context.shutdown.wait(Duration::from_millis(20)) {
        counter.inc();
        turns += 1;
        if turns == 3 {
            check.ready();
        }
    }
    Ok(())
}

struct Process {
    child: Child,
    directory: tempfile::TempDir,
}

impl Process {
    fn start(set: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        set.push(format!("admin.address_file={}", directory.path().join("address").display()));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env("PLIMSOLL_TEST_CHILD", set.join("\n"))
            .env_remove("PLIMSOLL_CONFIG")
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, directory }
    }

    fn address(&self) -> String {
        let path = self.directory.path().join("address");
        until("the address file", || std::fs::read_to_string(&path).ok()).trim().to_owned()
    }

    fn signal(&self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits for the end; exit status and log.
    fn end(mut self) -> (ExitStatus, String) {
        let status = until("the end", || self.child.try_wait().unwrap());
        (status, read(&self.directory.path().join("log")))
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn until<T>(what: &str, mut step: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(done) = step() {
            return done;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn a_service_tells_its_state_and_ends_in_order() {
    let process = Process::start(&["telemetry.log_format=json"]);
    let address = process.address();
    assert_eq!(get(&address, "/healthz").0, 200);
    let mut unready = None;
    until("readiness", || {
        let (status, body) = get(&address, "/readyz");
        if status == 503 {
            unready = Some(body);
            return None;
        }
        Some(())
    });
    if let Some(body) = unready {
        assert!(body.starts_with("work: "), "{body}");
    }
    let (status, body) = get(&address, "/metrics");
    assert!(status == 200 && body.contains("plimsoll_child_turns_total "), "{body}");
    assert_eq!(get(&address, "/secrets").0, 404);
    process.signal();
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(0), "{log}");
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["message"], "child ended: asked to", "{log}");
}

#[test]
fn a_stuck_service_is_ended_by_the_bound_or_a_second_signal() {
    let process = Process::start(&["behaviour=stuck", "admin.shutdown_timeout_ms=50"]);
    until("readiness", || (get(&process.address(), "/readyz").0 == 200).then_some(()));
    process.signal();
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(EXIT_FORCED), "{log}");
    assert!(log.contains("admin.shutdown_timeout_ms"), "{log}");

    let process = Process::start(&["behaviour=stuck", "admin.shutdown_timeout_ms=600000"]);
    until("readiness", || (get(&process.address(), "/readyz").0 == 200).then_some(()));
    process.signal();
    let log_path = process.directory.path().join("log");
    until("the first signal", || read(&log_path).contains("end asked for by SIGTERM").then_some(()));
    process.signal();
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(EXIT_FORCED), "{log}");
    assert!(log.contains("a second signal"), "{log}");
}

#[test]
fn failures_have_their_exit_codes() {
    fn check(set: &[&str], code: i32, expect: &str) {
        let (status, log) = Process::start(set).end();
        assert_eq!(status.code(), Some(code), "{log}");
        assert!(log.contains(expect), "{expect} missing in:\n{log}");
    }
    check(&["behaviour=fail"], 1, "child failed: it broke");
    check(&["behavior=x"], 2, "unknown key behavior; did you mean behaviour?");
    check(&["telemetry.log_level=in=valid=x"], 2, "telemetry.log_level");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = format!("admin.bind={}", taken.local_addr().unwrap());
    check(&[&bind], 1, "set admin.bind to another address");
}

#[test]
fn traces_reach_the_collector_as_one_tree() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("telemetry.otlp_endpoint=http://{}", collector.local_addr().unwrap());
    let process = Process::start(&[&endpoint]);
    collector.set_nonblocking(true).unwrap();
    let mut received: Vec<u8> = Vec::new();
    let mut path = String::new();
    until("the spans", || {
        let Ok((mut stream, _)) = collector.accept() else { return None };
        stream.set_nonblocking(false).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.trim().parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        path = head.lines().next().unwrap().to_owned();
        received.extend(body);
        let has = |text: &str| received.windows(text.len()).any(|w| w == text.as_bytes());
        (has("work_of_child") && has("continued_elsewhere") && has("plimsoll-child")).then_some(())
    });
    assert!(path.starts_with("post /v1/traces"), "{path}");
    // Each span carries its trace id (field 1, 16 bytes) before its name; both spans are of one trace.
    let trace_ids: Vec<[u8; 16]> = ["work_of_child", "continued_elsewhere"]
        .iter()
        .map(|name| {
            let at = received.windows(name.len()).position(|w| w == name.as_bytes()).unwrap();
            let marker = received[..at].windows(2).rposition(|w| w == [0x0a, 0x10]).unwrap();
            received[marker + 2..marker + 18].try_into().unwrap()
        })
        .collect();
    assert_eq!(trace_ids[0], trace_ids[1]);
    process.signal();
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("has_parent=true"), "{log}");
}
