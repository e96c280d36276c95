//! Servers: workers that are forked before or after the application was loaded, programs that carry Python.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use plimsoll_runtime_agent::config::{AgentConfig, UseEbpf};

use super::kit::{HOOK, application, modules, not_measurable, python};
use super::support;
use super::support::languages::{Measured, Way, assert_complete, program};

const PATIENCE: Duration = Duration::from_secs(30);
const FILES: &[(&str, &str)] = &[(
    "service.py",
    "import importlib.metadata, six\n\
     assert importlib.metadata.version('tabulate')\n\
     def app(environ, start_response):\n\
     \x20   import markupsafe\n\
     \x20   start_response('200 OK', [('Content-Length', '2')])\n\
     \x20   return [b'ok']\n",
)];

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks for the page until it is there.
fn ask(port: u16) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        match answer() {
            Ok(text) if text.contains("200 OK") => return,
            other => assert!(Instant::now() < deadline, "no answer within {PATIENCE:?}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a server until it has answered twice, and ends it.
fn serve(way: Way, root: &Path, mut command: Command, port: u16) -> Measured {
    let ebpf = if way == Way::Ebpf { UseEbpf::Required } else { UseEbpf::Off };
    let (agent, collected) = support::start(AgentConfig { ebpf, ..support::config() });
    let tree = support::tree(&agent, root);
    command.current_dir(root).stdin(std::process::Stdio::null());
    let mut child = tree.spawn(command).unwrap();
    (0..2).for_each(|_| ask(port));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .unwrap();
    child.wait().unwrap();
    agent.stop(false);
    Measured::new(collected, root)
}

fn assert_served(way: Way, measured: &Measured) {
    let found = modules(measured);
    for used in ["service.py", "packages/six.py", "packages/markupsafe/__init__.py"] {
        assert!(found.contains(used), "{way:?}: {used} in {found:?}");
    }
    let unused = ["tabulate", "iniconfig", "packaging"];
    let wrong: BTreeSet<_> = found
        .iter()
        .filter(|path| unused.iter().any(|name| path.starts_with(&format!("packages/{name}"))))
        .filter(|path| !path.starts_with("packages/packaging")) // gunicorn's own
        .collect();
    assert!(wrong.is_empty(), "{way:?}: {wrong:?}");
    assert_eq!(not_measurable(measured), "", "{way:?}");
    assert_complete(way, HOOK, measured);
}

#[test]
fn workers_of_gunicorn() {
    let Some(directory) = application(FILES) else { return };
    let root = directory.path();
    for way in Way::all() {
        for preload in [&[][..], &["--preload"]] {
            let port = free_port();
            let bind = format!("127.0.0.1:{port}");
            let words = ["-m", "gunicorn", "--log-level", "error", "-w", "2", "-b", &bind, "service:app"];
            let command = python(root, &[&words[..], preload].concat());
            assert_served(way, &serve(way, root, command, port));
        }
    }
}

/// Debian's uWSGI maps Python's library when it has read its words; so it is a program of no language by its name.
#[test]
fn uwsgi_carries_python() {
    let Some(directory) = application(FILES) else { return };
    let root = directory.path();
    let Some(uwsgi) = program("uwsgi-core", "apt install uwsgi-core uwsgi-plugin-python3") else { return };
    for way in Way::all() {
        let port = free_port();
        let mut command = Command::new(&uwsgi);
        command.args(["--plugin", "python3", "--http-socket", &format!("127.0.0.1:{port}")]);
        command.args([
            "--module",
            "service:app",
            "--master",
            "--processes",
            "2",
            "--die-on-term",
            "--need-app",
        ]);
        command.args(["--disable-logging", "--pythonpath", "packages", "--pythonpath", "."]);
        assert_served(way, &serve(way, root, command, port));
    }
}
