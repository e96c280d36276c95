//! Containers under eBPF, as far as the kernel knows them: a cgroup with a container's name and a mount namespace.
//! Whose image it is, Docker says in other tests.

use std::io::Write as _;
use std::path::Path;

use plimsoll_runtime_agent::config::AgentConfig;

use super::support;
use super::support::{FakeContainer, Pins};

fn config() -> AgentConfig {
    AgentConfig { watch_containers: true, ..support::config() }
}

#[test]
fn a_container_of_a_moment_is_seen() {
    if support::no_ebpf().is_some() {
        return;
    }
    let (agent, collected) = support::start(config());
    let container = FakeContainer::new();
    let collected = collected.of(&container);
    let mut child = container.spawn("exec cat /etc/passwd");
    child.wait().unwrap();
    collected
        .wait("the use of /etc/passwd", |collected| !collected.items_of(Path::new("/etc/passwd")).is_empty());
    collected.wait("the end", |collected| {
        collected.workload_of_container(&container.id).is_some_and(|workload| workload.stopped_at_ms > 0)
    });
    agent.stop(false);
    let workload = collected.workload_of_container(&container.id).unwrap();
    assert_eq!(workload.artifact, format!("unidentified/{}/{}", support::NODE, container.id));
    assert!(workload.unidentified_reason.contains("docker.host"), "{workload:?}");
    assert!(workload.watched[0].from_first_exec && workload.losses.is_empty(), "{workload:?}");
    let executables = collected.paths(&["executable"]);
    assert!(executables.iter().any(|path| path.ends_with("cat")), "{executables:?}");
    // What its runtime did before the first exec is not the container's.
    assert!(!executables.iter().any(|path| path.ends_with("unshare")), "{executables:?}");
    let libc = collected.paths(&["library"]);
    assert!(libc.iter().any(|path| path.ends_with("libc.so.6")), "{libc:?}");
}

#[test]
fn of_a_late_start_only_what_is_still_there_is_seen() {
    if support::no_ebpf().is_some() {
        return;
    }
    let container = FakeContainer::new();
    let directory = tempfile::tempdir().unwrap();
    let (held, closed) = (directory.path().join("held"), directory.path().join("closed"));
    std::fs::write(&held, "x").unwrap();
    std::fs::write(&closed, "x").unwrap();
    let script = format!(
        "cat {} >/dev/null; exec 9<{}; echo ready; read line; cat /etc/passwd >/dev/null; read line",
        closed.display(),
        held.display()
    );
    let mut child = container.spawn(&script);
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let (agent, collected) = support::start(config());
    let collected = collected.of(&container);
    collected.wait("the resync", |collected| !collected.items_of(&held).is_empty());
    let workload = collected.workload_of_container(&container.id).unwrap();
    let watch = |probe: &str| workload.watched.iter().find(|watch| watch.probe == probe).cloned().unwrap();
    assert!(!watch("ebpf-files").from_first_exec && !watch("resync").from_first_exec);
    assert!(collected.items().iter().all(|(_, item)| item.probe == "resync"), "{:?}", collected.items());
    let libraries = collected.paths(&["library"]);
    assert!(libraries.iter().any(|path| path.ends_with("libc.so.6")), "{libraries:?}");
    let executables = collected.paths(&["executable"]);
    assert_eq!(executables.len(), 1, "the shell that runs: {executables:?}");
    assert!(collected.items_of(&closed).is_empty(), "what is closed left no trace");
    // From now on everything is seen.
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    collected.wait("a later open", |collected| {
        collected.items_of(Path::new("/etc/passwd")).iter().any(|item| item.probe == "ebpf-files")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    agent.stop(false);
}

#[test]
fn pins_leave_no_gap() {
    if support::no_ebpf().is_some() {
        return;
    }
    let pins = Pins::new("gap");
    let pinned = || AgentConfig { pins: Some(pins.0.clone()), ..config() };
    let container = FakeContainer::new();
    let directory = tempfile::tempdir().unwrap();
    let between = directory.path().join("between");
    std::fs::write(&between, "x").unwrap();

    let (first, collected) = support::start(pinned());
    let collected = collected.of(&container);
    let script = format!(
        "cat /etc/passwd >/dev/null; read line; cat {} >/dev/null; echo done; read line",
        between.display()
    );
    let mut child = container.spawn(&script);
    collected.wait("the first use", |collected| !collected.items_of(Path::new("/etc/passwd")).is_empty());
    first.stop(false);
    let before = collected.workload_of_container(&container.id).unwrap();
    assert_eq!(before.stopped_at_ms, 0, "the container goes on");

    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let mut done = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut done).unwrap();

    let (second, collected) = support::start(pinned());
    let collected = collected.of(&container);
    collected.wait("what happened in between", |collected| !collected.items_of(&between).is_empty());
    let item = &collected.items_of(&between)[0];
    assert_eq!(item.probe, "ebpf-files");
    collected.wait("the workload", |collected| collected.workload_of_container(&container.id).is_some());
    let after = collected.workload_of_container(&container.id).unwrap();
    assert_eq!(after.watched[0].boot_id, before.watched[0].boot_id, "the same programs watch");
    assert!(after.watched[0].from_first_exec, "{after:?}");
    // A JVM could have ended while no agent ran.
    assert!(after.losses.iter().all(|loss| loss.probe == "jvmti"), "{after:?}");
    assert!((after.watched[0].from_ms - before.watched[0].from_ms).abs() <= 2, "{after:?} {before:?}");
    assert!(after.watched[0].until_ms >= item.last_seen_ms);
    assert_eq!(after.workload_id, before.workload_id);
    child.kill().unwrap();
    child.wait().unwrap();
    second.stop(true);
    assert!(!pins.directory().exists(), "unpinned");
}

#[test]
fn a_watch_that_ends_before_its_container_tells_of_the_gap() {
    if support::no_ebpf().is_some() {
        return;
    }
    let pins = Pins::new("ends");
    let pinned = || AgentConfig { pins: Some(pins.0.clone()), ..config() };
    let container = FakeContainer::new();
    let (first, collected) = support::start(pinned());
    let collected = collected.of(&container);
    let mut child =
        container.spawn("cat /etc/passwd >/dev/null; read line; cat /etc/group >/dev/null; read line");
    collected.wait("the first use", |collected| !collected.items_of(Path::new("/etc/passwd")).is_empty());
    let ended = FakeContainer::new();
    ended.spawn("true").wait().unwrap();
    first.stop(true);
    let before = collected.workload_of_container(&container.id).unwrap();
    assert!(before.watched[0].from_first_exec && before.stopped_at_ms == 0, "{before:?}");
    assert_eq!(before.losses[0].probe, "ebpf-files");
    let reason = &before.unavailable_probes["ebpf-files:processes that ran on"];
    assert!(reason.starts_with("1 process ran on") && reason.contains("ebpf.unpin_at_end"), "{reason}");
    let ended = collected.workload_of_container(&ended.id).unwrap();
    assert!(ended.losses.is_empty(), "nothing of it was missed: {ended:?}");

    // Nobody sees this.
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let (second, collected) = support::start(pinned());
    collected
        .wait("the container again", |collected| collected.workload_of_container(&container.id).is_some());
    let after = collected.workload_of_container(&container.id).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    second.stop(true);
    // Should the first agent have said nothing, the second one's watch shows the gap.
    assert_eq!(after.workload_id, before.workload_id);
    assert!(after.watched.iter().all(|watch| !watch.from_first_exec), "{after:?}");
    assert!(after.watched[0].from_ms > before.watched[0].until_ms, "{after:?} {before:?}");
}

#[test]
fn what_was_not_delivered_is_read_again() {
    if support::no_ebpf().is_some() {
        return;
    }
    let guard = Pins::new("again");
    let pins = Some(guard.0.clone());
    let container = FakeContainer::new();
    let mut child = {
        // An agent that takes events and never delivers them, as one that is killed would.
        let silent = |_: &[plimsoll_runtime_agent::output::RuntimeEvent]| -> Result<(), _> {
            std::thread::sleep(std::time::Duration::from_millis(300));
            panic!("the delivering thread dies before it acknowledges");
        };
        let config = AgentConfig {
            pins: pins.clone(),
            stop_timeout: std::time::Duration::from_millis(500),
            ..config()
        };
        let agent = plimsoll_runtime_agent::agent::Agent::start(config, Box::new(silent)).unwrap();
        let mut child = container.spawn("cat /etc/passwd >/dev/null; echo done; read line");
        let mut done = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut done).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        agent.stop(false);
        child
    };
    let (agent, collected) = support::start(AgentConfig { pins, ..config() });
    let collected = collected.of(&container);
    collected.wait("the use that was not delivered", |collected| {
        !collected.items_of(Path::new("/etc/passwd")).is_empty()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    agent.stop(true);
}

#[test]
fn a_volume_is_another_mount() {
    if support::no_ebpf().is_some() {
        return;
    }
    let (agent, collected) = support::start(config());
    let container = FakeContainer::new();
    let collected = collected.of(&container);
    let directory = tempfile::tempdir().unwrap();
    let (volume, inside) = (directory.path().join("volume"), directory.path().join("inside"));
    std::fs::create_dir_all(&volume).unwrap();
    std::fs::create_dir_all(&inside).unwrap();
    std::fs::write(volume.join("data"), "x").unwrap();
    std::fs::write(directory.path().join("own"), "x").unwrap();
    let prepare = format!("mount --bind {} {}", volume.display(), inside.display());
    let script = format!("cat {}/data {}/own >/dev/null", inside.display(), directory.path().display());
    let output = container.command(&prepare, &script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (data, own) = (inside.join("data"), directory.path().join("own"));
    collected.wait("both", |collected| {
        !collected.items_of(&data).is_empty() && !collected.items_of(&own).is_empty()
    });
    agent.stop(false);
    assert!(collected.items_of(&data).iter().all(|item| item.mount == "other"));
    assert!(collected.items_of(&own).iter().all(|item| item.mount == "root"));
}

#[test]
fn what_was_learned_outlives_an_agent() {
    if support::no_ebpf().is_some() || support::languages::program("node", "apt install nodejs").is_none() {
        return;
    }
    let pins = Pins::new("learned");
    let pinned = || AgentConfig { pins: Some(pins.0.clone()), ..config() };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let write = |name: &str, text: &str| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("node_modules/.bin/eslint", "0\n");
    // As `npm run lint` does, which waits here for a while.
    write(
        "node_modules/npm/bin/npm-cli.js",
        "require('child_process').execFileSync('node', ['node_modules/.bin/eslint']);\n\
         console.log('linted'); process.stdin.resume();\n",
    );
    write("main.js", "/******/ (() => { // webpackBootstrap\n/******/ })();\n");
    let only_linted = FakeContainer::new();
    let bundled = FakeContainer::new();
    let wait = |child: &mut std::process::Child, bytes: usize| {
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut vec![0; bytes]).unwrap();
    };
    let said = |collected: &support::Collected, container: &FakeContainer, key: &str| {
        let workload = collected.workload_of_container(&container.id)?;
        workload.unavailable_probes.get(key).cloned()
    };

    let (first, collected) = support::start(pinned());
    let node = format!("cd {} && exec node node_modules/npm/bin/npm-cli.js run lint", root.display());
    let mut linting = only_linted.spawn(&node);
    wait(&mut linting, "linted\n".len());
    let mut serving = bundled.spawn(&format!("cd {}; node main.js; echo ran; read line", root.display()));
    wait(&mut serving, "ran\n".len());
    let both = |collected: &support::Collected| {
        let linted = said(collected, &only_linted, "not-measured:npm");
        linted.zip(said(collected, &bundled, "not-measurable:npm"))
    };
    collected.wait("what cannot be measured", |collected| both(collected).is_some());
    let before = both(&collected).unwrap();
    assert!(before.0.contains("only eslint") && before.1.contains("webpack"), "{before:?}");
    first.stop(false);

    let (second, collected) = support::start(pinned());
    collected.wait("both again", |collected| {
        [&only_linted, &bundled].iter().all(|one| collected.workload_of_container(&one.id).is_some())
    });
    // The end of the one is seen by looks at what runs: so was the other.
    serving.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    serving.wait().unwrap();
    collected.wait("the end", |collected| {
        collected.workload_of_container(&bundled.id).is_some_and(|workload| workload.stopped_at_ms > 0)
    });
    linting.kill().unwrap();
    linting.wait().unwrap();
    second.stop(true);
    assert_eq!(both(&collected), Some(before));
}
