//! Servers: workers that are forked before or after the application was loaded, programs that carry Python.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::kit::{HOOK, application, modules, not_measurable, python};
use super::support::languages::{Measured, Way, assert_complete, program};
use super::support::servers::{free_port, get, serve};

const FILES: &[(&str, &str)] = &[(
    "service.py",
    "import importlib.metadata, six\n\
     assert importlib.metadata.version('tabulate')\n\
     def app(environ, start_response):\n\
     \x20   import markupsafe\n\
     \x20   start_response('200 OK', [('Content-Length', '2')])\n\
     \x20   return [b'ok']\n",
)];

/// Runs a server until it has answered twice, and ends it.
fn answered(way: Way, root: &Path, command: Command, port: u16) -> Measured {
    serve(way, root, command, Signal::TERM, |server| {
        for _ in 0..2 {
            let answer = get(port, "/", server);
            assert!(answer.contains("200 OK"), "{way:?}: {answer}");
        }
    })
}

fn assert_served(way: Way, measured: &Measured) {
    let found = modules(measured);
    for used in ["service.py", "packages/six.py", "packages/markupsafe/__init__.py"] {
        assert!(found.contains(used), "{way:?}: {used} in {found:?}");
    }
    // gunicorn itself uses packaging.
    let unused = ["tabulate", "iniconfig"];
    let wrong: BTreeSet<_> = found
        .iter()
        .filter(|path| unused.iter().any(|name| path.starts_with(&format!("packages/{name}"))))
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
            let words = [
                "-m",
                "gunicorn",
                "--log-level",
                "error",
                "-w",
                "2",
                "--graceful-timeout",
                "2",
                "-b",
                &bind,
                "service:app",
            ];
            let command = python(root, &[&words[..], preload].concat());
            assert_served(way, &answered(way, root, command, port));
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
            // The signal can meet a worker at its start, which misses it then.
            "--worker-reload-mercy",
            "2",
        ]);
        command.args(["--disable-logging", "--pythonpath", "packages", "--pythonpath", "."]);
        assert_served(way, &answered(way, root, command, port));
    }
}
