//! Programs that the application starts where no hook is: in another root directory, or with an environment of its own.
//! They run as without observation, and nothing is called unused, however soon they end.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use plimsoll_runtime_agent::config::{AgentConfig, UseEbpf};
use plimsoll_runtime_agent::hooks::probes;
use plimsoll_schemas::events::RuntimeWorkload;
use plimsoll_schemas::words::probe;

use super::support::{self, jvm, languages};

fn observed(root: &Path, mut command: Command) -> (Output, RuntimeWorkload) {
    let (agent, collected) = support::start(AgentConfig { ebpf: UseEbpf::Off, ..support::config() });
    let tree = support::tree(&agent, root);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tree.spawn(command).unwrap().wait_with_output().unwrap();
    agent.stop(false);
    (output, collected.workloads().into_iter().next().unwrap())
}

/// Every probe that takes eBPF's place lost something, and says why in these words.
fn assert_nothing_is_unused(workload: &RuntimeWorkload, why: &str) {
    for probe in probes().chain([probe::JVMTI]) {
        let lost = workload.losses.iter().any(|loss| loss.probe == probe && loss.events_lost > 0);
        assert!(lost, "{probe}: {workload:?}");
        let said = |(key, reason): (&String, &String)| {
            key.split(':').next() == Some(probe) && reason.contains(why) && reason.contains("; give")
        };
        assert!(workload.unavailable_probes.iter().any(said), "{probe}: {:?}", workload.unavailable_probes);
    }
}

fn programs() -> Option<[PathBuf; 5]> {
    let program = |name| languages::program(name, "apt install nodejs ruby php-cli");
    let python = support::python().get_program().into();
    let java = jvm::homes().into_iter().next()?.join("bin/java");
    Some([program("node")?, program("ruby")?, program("php")?, python, java])
}

/// Below the folder of the script: a root directory in a mount namespace of its own, gone with it. Nothing of this
/// machine's /tmp is in there.
const ENTER: &str = r#"cd "${0%/*}"; mkdir -p usr etc tmp dev proc; mount --rbind /usr usr; mount --bind /etc etc
mount --rbind /dev dev; mount --rbind /proc proc; for link in bin lib lib64; do ln -sfn usr/$link $link; done
"#;

#[test]
fn programs_in_another_root_directory_run_as_ever() {
    if !rustix::process::geteuid().is_root() {
        return support::skip("entering another root directory needs root rights");
    }
    let Some([node, ruby, php, python, java]) = programs() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Neither the command nor the script that it runs says what these do.
    std::fs::write(path("outer"), "exec sh \"${0%/*}/middle\" \"$@\"\n").unwrap();
    std::fs::write(path("middle"), "exec unshare -m sh \"${0%/*}/enter\" \"$@\"\n").unwrap();
    std::fs::write(
        path("enter.py"),
        "import os, sys\nos.chroot('.'); os.chdir('/')\n\
         if sys.argv[1] == 'exec': os.execvp(sys.argv[2], sys.argv[2:])\n\
         sys.exit(os.waitstatus_to_exitcode(os.system(' '.join(map(repr, sys.argv[2:])))))\n",
    )
    .unwrap();
    let by_chroot = "exec chroot . \"$@\"\n".to_owned();
    let by_python = |how| format!("exec '{}' enter.py {how} \"$@\"\n", python.display());
    for (enter, program, words, code) in [
        (by_chroot.clone(), &node, &["-e", "console.log('in'); process.exit(7)"][..], 7),
        (by_chroot.clone(), &ruby, &["-e", "puts 'in'; exit 7"], 7),
        (by_chroot.clone(), &php, &["-r", "echo \"in\\n\"; exit(7);"], 7),
        (by_chroot, &java, &["-version"], 0),
        (by_python("exec"), &node, &["-e", "console.log('in', process.env.NODE_OPTIONS)"], 0),
        (by_python("system"), &ruby, &["-e", "puts(ENV.keys.grep(/LD_AUDIT|RUBYOPT/)); exit 7"], 7),
        ("exec unshare -R . \"$@\"\n".to_owned(), &node, &["-e", "console.log('in')"], 0),
    ] {
        std::fs::write(path("enter"), format!("{ENTER}{enter}")).unwrap();
        let command = || {
            let mut command = Command::new("sh");
            command.arg(path("outer")).arg(program).args(words);
            command
        };
        let plain = command().output().unwrap();
        assert_eq!(plain.status.code(), Some(code), "{plain:?}");
        let (output, workload) = observed(folder.path(), command());
        assert_eq!(output, plain, "{program:?} {enter}");
        assert_nothing_is_unused(&workload, "in another root directory");
    }
}

/// The child is of the same language, which would be called unused if nobody told of it.
#[test]
fn a_child_with_an_environment_of_its_own_is_told() {
    let Some([node, ruby, php, python, java]) = programs() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (program, file, code) in [
        (
            &node,
            "a.js",
            "const { spawnSync } = require('child_process')\n\
             process.exit(spawnSync(process.execPath, ['-e', 'process.exit(7)'], { env: {} }).status)",
        ),
        (
            &python,
            "a.py",
            "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', 'exit(7)'], env={}).returncode)",
        ),
        (
            &ruby,
            "a.rb",
            "system({}, RbConfig.ruby, '-e', 'exit 7', unsetenv_others: true); exit $?.exitstatus",
        ),
        (
            &php,
            "a.php",
            "<?php exit(proc_close(proc_open([PHP_BINARY, '-r', 'exit(7);'], [], $p, null, [])));",
        ),
        (
            &java,
            "A.java",
            "public class A { public static void main(String[] a) throws Exception {\n\
             var child = new ProcessBuilder(System.getProperty(\"java.home\") + \"/bin/java\", \"-no-such-option\");\n\
             child.environment().clear(); System.exit(child.start().waitFor() + 6); } }",
        ),
    ] {
        std::fs::write(path(file), code).unwrap();
        let mut command = Command::new(program);
        command.arg(path(file));
        let (output, workload) = observed(folder.path(), command);
        assert_eq!(output.status.code(), Some(7), "{file}: {output:?}");
        assert_nothing_is_unused(&workload, "with an environment of its own");
    }
}
