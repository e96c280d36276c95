//! Process trees under eBPF: what is reported is what the kernel shows of the same processes.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use plimsoll_runtime_agent::agent::Agent;
use plimsoll_runtime_agent::output::RuntimeEvent;
use plimsoll_runtime_agent::rules;

use super::support;

#[test]
fn sees_what_is_mapped() {
    if support::no_ebpf().is_some() {
        return;
    }
    let (agent, collected) = support::start(support::config());
    let root = tempfile::tempdir().unwrap();
    let tree = support::tree(&agent, root.path());
    let script = "import ssl, sqlite3, json; print(open('/proc/self/maps').read())";
    let maps = support::run(&tree, support::python().args(["-c", script]));
    agent.stop(false);
    let expected = support::mapped(&maps);
    assert!(expected.iter().any(|path| path.to_str().unwrap().contains("libssl")), "{expected:?}");
    assert_eq!(collected.paths(&["library", "executable"]), expected);
    for (artifact, item) in collected.items() {
        assert_eq!(artifact, format!("host/{}", support::NODE));
        if item.rung != "accessed" {
            assert_eq!((item.rung.as_str(), item.mount.as_str()), ("loaded", "root"), "{item:?}");
        }
    }
    let workloads = collected.workloads();
    assert_eq!(workloads.len(), 2, "one event for the component, one for the host");
    for workload in workloads {
        assert!(workload.stopped_at_ms > 0 && workload.losses.is_empty(), "{workload:?}");
        let watch = workload.watched.iter().find(|watch| watch.probe == "ebpf-files").unwrap();
        assert!(watch.from_first_exec && watch.until_ms >= watch.from_ms, "{watch:?}");
        assert_eq!(workload.application, "backend");
    }
}

#[test]
fn sees_opens_of_the_component_and_modules() {
    if support::no_ebpf().is_some() {
        return;
    }
    let (agent, collected) = support::start(support::config());
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("pkg")).unwrap();
    std::fs::write(root.path().join("pkg/__init__.py"), "").unwrap();
    std::fs::write(root.path().join("pkg/data.json"), "{}").unwrap();
    std::fs::write(root.path().join("unused.py"), "").unwrap();
    let tree = support::tree(&agent, root.path());
    let script = "import pkg, os\n\
        open(os.path.join(os.path.dirname(pkg.__file__), 'data.json')).read()\n\
        open('written', 'w').close()\n\
        os.close(os.open('unused.py', os.O_PATH)); os.listdir('.')\n";
    let mut command = Command::new("env");
    command.arg("-C").arg(root.path()).arg(support::python().get_program()).args(["-B", "-c", script]);
    support::run(&tree, command.env("PYTHONPATH", root.path()));
    // Package managers and compilers of bytecode use nothing.
    support::run(&tree, support::python().args(["-m", "compileall", "-q"]).arg(root.path()));
    agent.stop(false);
    let component: BTreeSet<(String, String)> = collected
        .items()
        .into_iter()
        .filter(|(artifact, _)| artifact == "component/backend/pythonapp/1.0")
        .map(|(_, item)| (item.kind, String::from_utf8(item.path).unwrap()))
        .collect();
    let expected = [("file", "pkg/data.json"), ("module", "pkg/__init__.py")];
    assert_eq!(
        component,
        expected.into_iter().map(|(kind, path)| (kind.to_owned(), path.to_owned())).collect()
    );
}

#[test]
fn a_shell_from_a_server_is_an_alert() {
    if support::no_ebpf().is_some() {
        return;
    }
    let (agent, collected) = support::start(support::config());
    let root = tempfile::tempdir().unwrap();
    let tree = support::tree(&agent, root.path());
    let quiet = "import subprocess; subprocess.run('true', shell=True)";
    support::run(&tree, support::python().args(["-c", quiet]));
    let server = "import socket, subprocess\ns = socket.create_server(('127.0.0.1', 0))\n\
        subprocess.run('sleep 0.3', shell=True)";
    support::run(&tree, support::python().args(["-c", server]));
    agent.stop(false);
    let alerts = collected.alerts();
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    let process = alerts[0].process.as_ref().unwrap();
    assert_eq!(alerts[0].rule, rules::SHELL_FROM_SERVER);
    assert_eq!(process.command, ["/bin/sh", "-c", "sleep 0.3"]);
    assert!(String::from_utf8_lossy(&process.parent_executable).contains("python3"));
    assert_eq!(alerts[0].artifact, "component/backend/pythonapp/1.0");
}

/// Scripts of packages that an installer runs are no use of them, whatever they load.
#[test]
fn what_an_installer_starts_uses_nothing() {
    if support::no_ebpf().is_some() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::create_dir_all(root.path().join(name).parent().unwrap()).unwrap();
        std::fs::write(root.path().join(name), text).unwrap();
    };
    write("pkg/__init__.py", "");
    write("work.py", "import pkg");
    let starter = "import subprocess, sys\nsubprocess.run([sys.executable, '-B', 'work.py'], check=True)";
    for (tool, expected) in [("pip", false), ("serve", true)] {
        let tool = format!("bin/{tool}");
        write(&tool, starter);
        let (agent, collected) = support::start(support::config());
        let tree = support::tree(&agent, root.path());
        let mut command = Command::new("env");
        command
            .arg("-C")
            .arg(root.path())
            .arg(support::python().get_program())
            .args(["-B", &tool, "install"]);
        support::run(&tree, &mut command);
        agent.stop(false);
        let is_loaded = collected
            .items()
            .iter()
            .any(|(_, item)| item.kind == "module" && item.path == b"pkg/__init__.py");
        assert_eq!(is_loaded, expected, "{tool}");
    }
}

/// Whose file it is cannot be told: of nothing there may be said that it was not used.
#[test]
fn a_path_too_long_to_be_told_is_a_loss() {
    if support::no_ebpf().is_some() {
        return;
    }
    let (agent, collected) = support::start(support::config());
    let root = tempfile::tempdir().unwrap();
    let lost = |directories: usize| {
        let tree = support::tree(&agent, root.path());
        let script = format!(
            "import os\nos.chdir('{}')\nfor _ in range({directories}): os.mkdir('d' * 100); os.chdir('d' * 100)\n\
             open('x.py', 'w').close(); open('x.py').read()",
            root.path().display()
        );
        support::run(&tree, support::python().args(["-c", &script]));
        tree.workload_id().to_owned()
    };
    let [short, long] = [2, 60].map(|directories| {
        let id = lost(directories);
        std::fs::remove_dir_all(root.path().join("d".repeat(100))).unwrap();
        id
    });
    agent.stop(false);
    for (id, expected) in [(short, false), (long, true)] {
        let lost = |workload: &plimsoll_schemas::events::RuntimeWorkload| {
            let of_files = workload.losses.iter().filter(|loss| loss.probe == "ebpf-files");
            of_files.map(|loss| loss.events_lost).sum::<i64>()
        };
        let workloads = collected.workloads().into_iter().filter(|workload| workload.workload_id == id);
        assert_eq!(workloads.map(|workload| lost(&workload)).sum::<i64>() > 0, expected, "{id}");
    }
}

#[test]
fn losses_are_counted() {
    if support::no_ebpf().is_some() {
        return;
    }
    const FILES: usize = 4_000;
    let root = tempfile::tempdir().unwrap();
    for number in 0..FILES {
        std::fs::write(root.path().join(format!("file{number:05}")), "x").unwrap();
    }
    // An output that takes nothing until it is released: the small ring buffer must fill.
    let (release, released) = mpsc::channel::<()>();
    let collected = support::Collected::default();
    let events = collected.clone();
    let mut waiting = Some(released);
    let output = move |batch: &[RuntimeEvent]| {
        if let Some(released) = waiting.take() {
            released.recv().unwrap();
        }
        events.0.lock().unwrap().extend_from_slice(batch);
        Ok(())
    };
    let mut config = support::config();
    config.ring_bytes = 64 * 1024;
    let agent = Agent::start(config, Box::new(output)).unwrap();
    let tree = support::tree(&agent, root.path());
    let script = format!(
        "import os\nfor e in sorted(os.listdir('{0}')): open('{0}/'+e).close()",
        root.path().display()
    );
    support::run(&tree, support::python().args(["-c", &script]));
    release.send(()).unwrap();
    agent.stop(false);
    let seen =
        collected.paths(&["file"]).iter().filter(|path| path.to_str().unwrap().starts_with("/file")).count();
    let lost: i64 = collected
        .workloads()
        .iter()
        .find(|workload| workload.artifact.starts_with("component/"))
        .map(|workload| workload.losses.iter().map(|loss| loss.events_lost).sum())
        .unwrap();
    assert!(lost > 0, "the ring buffer of 64 KiB held {FILES} events");
    assert!(seen < FILES);
    assert!(seen + usize::try_from(lost).unwrap() >= FILES, "{seen} seen and {lost} lost of {FILES}");
}

#[test]
fn a_repeated_open_costs_little() {
    if support::no_ebpf().is_some() {
        return;
    }
    let script = "import os, time\n\
        n = 20000\n\
        f = os.open('/etc/hostname', 0); os.close(f)\n\
        best = 9e9\n\
        for _ in range(5):\n\
        \x20 t = time.perf_counter_ns()\n\
        \x20 for _ in range(n): os.close(os.open('/etc/hostname', 0))\n\
        \x20 best = min(best, (time.perf_counter_ns() - t) / n)\n\
        print(best)";
    let plain = support::python().args(["-c", script]).output().unwrap();
    let plain: f64 = String::from_utf8(plain.stdout).unwrap().trim().parse().unwrap();
    let (agent, collected) = support::start(support::config());
    let root = tempfile::tempdir().unwrap();
    let tree = support::tree(&agent, root.path());
    let watched: f64 = support::run(&tree, support::python().args(["-c", script])).trim().parse().unwrap();
    agent.stop(false);
    println!("open and close: {plain:.0} ns, watched {watched:.0} ns");
    let hostname = std::fs::canonicalize("/etc/hostname").unwrap();
    assert!(
        collected.items_of(&hostname).len() <= 2,
        "100,000 opens are one use (and one before the verdict)"
    );
}

#[test]
fn a_command_that_does_not_exist_fails_at_once() {
    if support::no_ebpf().is_some() {
        return;
    }
    let (agent, _) = support::start(support::config());
    let root = tempfile::tempdir().unwrap();
    let tree = support::tree(&agent, root.path());
    let error = tree.spawn(Command::new("/nonexistent/program")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    let mut child = tree.spawn({
        let mut command = Command::new("sh");
        command.args(["-c", "exit 7"]).stdout(Stdio::null());
        command
    });
    assert_eq!(child.as_mut().unwrap().wait().unwrap().code(), Some(7));
    agent.stop(false);
}

#[test]
fn a_component_on_a_mount_of_its_own_is_no_volume() {
    if support::no_ebpf().is_some() {
        return;
    }
    let (agent, collected) = support::start(support::config());
    let memory = std::path::Path::new("/dev/shm");
    if !memory.is_dir() {
        return support::skip("no /dev/shm to have another mount");
    }
    let root = tempfile::tempdir_in(memory).unwrap();
    std::fs::write(root.path().join("data"), "x").unwrap();
    let tree = support::tree(&agent, root.path());
    support::run(&tree, Command::new("cat").arg(root.path().join("data")));
    agent.stop(false);
    let items = collected.items();
    let (artifact, item) = items.iter().find(|(_, item)| item.path == b"data").unwrap();
    assert_eq!((artifact.as_str(), item.mount.as_str()), ("component/backend/pythonapp/1.0", "root"));
}
