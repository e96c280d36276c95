//! What the agent says of a workload that hooks observe: which probes were at work, and what they did not see.

use std::process::{Command, Stdio};

use plimsoll_runtime_agent::config::{AgentConfig, UseEbpf};
use plimsoll_schemas::events::RuntimeWorkload;

use super::support;

/// The workload's last word after a command ran in its tree.
fn after(command: &mut Command) -> RuntimeWorkload {
    let (agent, collected) = support::start(AgentConfig { ebpf: UseEbpf::Off, ..support::config() });
    let root = tempfile::tempdir().unwrap();
    let tree = support::tree(&agent, root.path());
    support::run(&tree, command);
    agent.stop(false);
    collected.workloads().into_iter().next().unwrap()
}

fn check(command: &mut Command, watched: &[&str], lost: &[(&str, i64)], reason: (&str, &str)) {
    let workload = after(command);
    let probes: Vec<&str> = workload.watched.iter().map(|watch| watch.probe.as_str()).collect();
    assert_eq!(probes, watched, "{command:?}");
    assert!(
        workload.watched.iter().all(|watch| watch.from_first_exec && watch.from_ms == workload.started_at_ms)
    );
    assert!(workload.watched.iter().all(|watch| watch.until_ms > watch.from_ms));
    let losses: Vec<_> = workload.losses.iter().map(|loss| (loss.probe.as_str(), loss.events_lost)).collect();
    assert_eq!(losses, lost, "{command:?}: {:?}", workload.unavailable_probes);
    let (probe, text) = reason;
    if probe.is_empty() {
        // Of languages that did not run there is nothing more to say.
        let silent = |reason: &String| reason.starts_with("no ") && reason.contains(" has started");
        let unavailable = &workload.unavailable_probes;
        assert!(unavailable.iter().all(|(key, why)| key == "ebpf-files" || silent(why)), "{workload:?}");
    } else {
        assert!(workload.unavailable_probes[probe].contains(text), "{:?}", workload.unavailable_probes);
    }
}

#[test]
fn tells_what_was_at_work() {
    check(&mut Command::new("true"), &["ld-audit"], &[], ("python-import", "no Python interpreter"));
    let both = &["ld-audit", "python-import"];
    check(support::python().args(["-c", "import json"]), both, &[], ("", ""));
    check(
        support::python().args(["-V"]).stdout(Stdio::null()),
        &["ld-audit"],
        &[],
        ("python-import", "no Python"),
    );
}

#[test]
fn an_interpreter_without_the_hook_is_a_loss() {
    let isolated = &[("python-import", 1)];
    check(
        support::python().args(["-I", "-c", "pass"]),
        &["ld-audit"],
        isolated,
        ("python-import", "with -I"),
    );
    let child = "import subprocess, sys; subprocess.check_call([sys.executable, '-S', '-c', 'pass'])";
    let program = std::fs::canonicalize(support::python().get_program()).unwrap();
    let key = format!("python-import:{}", program.display());
    let watched = &["ld-audit", "python-import"];
    check(support::python().args(["-c", child]), watched, isolated, (&key, "with -S"));
}

/// A root directory below `root`, in a mount namespace of its own: made by this, and gone with it.
const IN_ANOTHER_ROOT: &str = r#"cd "$0"; mkdir -p usr etc tmp dev; mount --rbind /usr usr; mount --bind /etc etc
mount --rbind /dev dev; for link in bin lib lib64; do ln -sfn usr/$link $link; done; chroot . "$@""#;

/// Where the files of hooks are not found, Node.js and Ruby would not start, and the dynamic linker would complain.
#[test]
fn nothing_breaks_in_another_root_directory() {
    if !rustix::process::geteuid().is_root() {
        return support::skip("entering another root directory needs root rights");
    }
    let root = tempfile::tempdir().unwrap();
    let script = root.path().join("enter");
    // There `$0` is the script.
    std::fs::write(&script, IN_ANOTHER_ROOT.replace("\"$0\"", "\"${0%/*}\"")).unwrap();
    for (probe, words) in [
        ("node-module", ["node", "-e", "console.log('in')"]),
        ("ruby-feature", ["ruby", "-e", "puts 'in'"]),
        ("php-include", ["php", "-r", "echo \"in\\n\";"]),
        ("python-import", ["python3", "-c", "print('in')"]),
        ("ld-audit", ["printf", "%s\\n", "in"]),
    ] {
        for by_script in [false, true] {
            let (agent, collected) = support::start(AgentConfig { ebpf: UseEbpf::Off, ..support::config() });
            let tree = support::tree(&agent, root.path());
            let mut command = Command::new("unshare");
            command.arg("-m").arg("sh");
            match by_script {
                true => command.arg(&script),
                false => command.args(["-c", IN_ANOTHER_ROOT]).arg(root.path()),
            };
            command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
            let output = tree.spawn(command).unwrap().wait_with_output().unwrap();
            agent.stop(false);
            let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let found = (output.status.code(), said(&output.stdout), said(&output.stderr));
            assert_eq!(found, (Some(0), "in\n".to_owned(), String::new()), "{words:?}");
            let workload = collected.workloads().into_iter().next().unwrap();
            let reason = &workload.unavailable_probes[probe];
            assert!(
                reason.contains("another root directory is entered by the command (chroot)")
                    && reason.contains("; run "),
                "{reason}"
            );
            assert!(workload.watched.is_empty(), "{workload:?}");
        }
    }
}
