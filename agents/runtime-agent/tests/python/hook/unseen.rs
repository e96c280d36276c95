//! What the hook does not see is told by the agent: interpreters without it, and reports that were lost.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use plimsoll_runtime_agent::hooks::report::{Report, ReportKind};

use super::fixture::{Fixture, PATIENCE, interpreters, text};

#[test]
fn interpreters_without_the_hook_are_told() {
    let interpreter = interpreters().last().unwrap();
    let program = &interpreter.program;
    let check = |arguments: &[&str], expected: &str| {
        let mut fixture = Fixture::new();
        let mut command = fixture.command(program);
        fixture.run(command.args(arguments));
        // The process is gone: the next look knows.
        fixture.drain();
        let unavailable = fixture.session.coverage.unavailable();
        let said = unavailable.get("python-import").cloned().unwrap_or_default();
        match expected {
            "" => assert_eq!((said.as_str(), fixture.lost("python-import")), ("", 0), "{arguments:?}"),
            "none" => assert_eq!(fixture.lost("python-import"), 0, "{arguments:?}: {said}"),
            expected => {
                assert!(said.contains(expected) && said.contains("eBPF"), "{arguments:?}: {unavailable:?}");
                assert_eq!(fixture.lost("python-import"), 1);
            }
        }
    };
    check(&["-c", "pass"], "");
    check(&["-I", "-c", "pass"], "with -I");
    check(&["-E", "-c", "pass"], "with -E");
    check(&["-S", "-c", "pass"], "with -S");
    check(&["-V"], "none");
    // A child of a hooked interpreter, without its environment's PYTHONPATH.
    let child = "import subprocess, sys, os\n\
        e = dict(os.environ); del e['PYTHONPATH']\n\
        subprocess.check_call([sys.executable, '-c', 'pass'], env=e)";
    let mut fixture = Fixture::new();
    let mut command = fixture.command(program);
    fixture.run(command.args(["-c", child]));
    fixture.drain();
    assert_eq!(fixture.lost("python-import"), 1, "{:?}", fixture.session.coverage.unavailable());
}

/// With an emptied environment a process has neither hook: its start is told, and it is found by looking.
#[test]
fn a_child_with_an_empty_environment_is_found() {
    let interpreter = interpreters().last().unwrap();
    let mut fixture = Fixture::new();
    let script = "import subprocess, sys\n\
        c = subprocess.Popen([sys.executable, '-c', 'input()'], env={}, stdin=subprocess.PIPE)\n\
        print('ready', flush=True); input(); c.communicate(b'\\n')";
    let mut command = fixture.command(&interpreter.program);
    fixture.session.environment().apply(&mut command);
    let mut child =
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    fixture.session.set_first_process(child.id());
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while fixture.lost("python-import") < 2 || fixture.lost("ld-audit") < 2 {
        assert!(Instant::now() < deadline, "{:?}", fixture.session.coverage);
        fixture.drain();
        std::thread::sleep(Duration::from_millis(10));
    }
    let unavailable = fixture.session.coverage.unavailable();
    assert!(
        unavailable.values().any(|reason| reason.contains("an environment of its own")),
        "{unavailable:?}"
    );
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(fixture.lost("python-import"), 2);
}

#[test]
fn what_a_full_fifo_does_not_take_is_counted() {
    for interpreter in interpreters() {
        let mut fixture = Fixture::new();
        let script = "import json, sqlite3";
        let mut command = fixture.command(&interpreter.program);
        fixture.run(command.args(["-c", script]));
        let is_python =
            |report: &&Report| !matches!(report.kind, ReportKind::AuditStarted | ReportKind::Object);
        let count = fixture.reports.iter().filter(is_python).count();
        assert!(count > 10);
        // The same hook before a FIFO that nobody reads.
        let stopped = fixture.path("stopped");
        fs::create_dir_all(stopped.join("python")).unwrap();
        for name in ["sitecustomize.py", "import_hook.py"] {
            fs::copy(
                fixture.session.directory().join("python").join(name),
                stopped.join("python").join(name),
            )
            .unwrap();
        }
        fs::write(stopped.join("losses"), b"").unwrap();
        let reports = stopped.join("reports");
        rustix::fs::mkfifoat(rustix::fs::CWD, &reports, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut fifo =
            File::options().read(true).write(true).custom_flags(nonblocking).open(&reports).unwrap();
        while fifo.write(b"x").is_ok() {}
        let mut command = fixture.command(&interpreter.program);
        let output = command.args(["-c", script]).env("PYTHONPATH", stopped.join("python")).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        assert_eq!(
            fs::read(stopped.join("losses")).unwrap(),
            "P".repeat(count).into_bytes(),
            "{interpreter:?}"
        );
    }
}

#[test]
fn python_2_is_left_alone() {
    let Ok(output) = Command::new("pyenv").args(["root"]).output() else {
        return println!("skipped: there is no Python 2");
    };
    let root = PathBuf::from(text(&output.stdout).trim());
    let versions = fs::read_dir(root.join("versions")).into_iter().flatten().flatten();
    let Some(program) = versions.map(|entry| entry.path().join("bin/python2.7")).find(|path| path.exists())
    else {
        return println!("skipped: there is no Python 2");
    };
    let mut fixture = Fixture::new();
    let plain = fixture.command(&program).args(["-c", "import sys; print(sys.path)"]).output().unwrap();
    let mut command = fixture.command(&program);
    let hooked = fixture.run(command.args(["-c", "import sys; print(sys.path)"]));
    assert_eq!(hooked, plain);
    fixture.drain();
    let unavailable = fixture.session.coverage.unavailable();
    assert!(unavailable["python-import"].contains("Python 2"), "{unavailable:?}");
}
