//! The portal as a process, in surroundings that a thread of a test cannot have.
#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for the process to listen.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A process that is killed when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As in a container image without the package ca-certificates.
#[test]
fn no_certificates_of_authorities_are_needed_without_tls() {
    let directory = tempfile::tempdir().unwrap();
    let address_file = directory.path().join("address");
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll-portal"));
    command.env("SSL_CERT_FILE", directory.path().join("none")).env("SSL_CERT_DIR", directory.path());
    for setting in [
        "portal.bind=127.0.0.1:0",
        "clickhouse.url=http://127.0.0.1:1",
        "admin.bind=off",
        &format!("portal.address_file={}", address_file.display()),
    ] {
        command.args(["--set", setting]);
    }
    let mut process = Process(command.stderr(Stdio::null()).spawn().unwrap());
    let deadline = Instant::now() + START_LIMIT;
    let address = loop {
        if let Ok(text) = std::fs::read_to_string(&address_file) {
            break text.trim().to_owned();
        }
        assert!(process.0.try_wait().unwrap().is_none(), "the portal ended");
        assert!(Instant::now() < deadline, "the portal does not listen");
        std::thread::sleep(Duration::from_millis(10));
    };
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let get = |path: &str| agent.get(format!("http://{address}{path}")).call().unwrap().status();
    assert_eq!(get("/api/openapi.json"), 200);
    assert_eq!(get("/api/v1/applications"), 503, "nothing listens on ClickHouse's port");
}
