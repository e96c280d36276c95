//! JVMs that are not attached to, and programs that hide a JVM: named with the reason and what to do. And attaching harms none.

use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use plimsoll_kit::unix::UnixChannel;
use plimsoll_runtime_agent::config::UseEbpf;
use plimsoll_runtime_agent::java::helper::Outcome;
use plimsoll_runtime_agent::procfs;

use super::support;
use super::support::jvm::{Application, config, line, talk, with_javac};
use super::support::languages::{cached, fetch, program};

const HELPER: &str = env!("CARGO_BIN_EXE_plimsoll-runtime-agent");
const PATIENCE: Duration = Duration::from_secs(30);

/// The application, waiting; without any agent.
fn waiting(application: &Application, javac: &Path) -> Child {
    let mut command = application.command(javac, &application.root.path().join("log"));
    command.arg("wait").env_remove("JAVA_TOOL_OPTIONS").spawn().unwrap()
}

/// A helper for one process, from now on, and where it answers.
fn helper(program: &Path, user: Option<u32>, pid: u32) -> (Child, UnixChannel) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = Command::new(program);
    command.args(["attach-jvm", &pid.to_string(), &procfs::started_ns(pid).unwrap().to_string(), "1"]);
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    (command.spawn().unwrap(), UnixChannel::from(ours))
}

fn answer((mut child, mut channel): (Child, UnixChannel)) -> (Outcome, Vec<OwnedFd>) {
    let frame = channel.receive(PATIENCE).unwrap().unwrap();
    child.wait().unwrap();
    (serde_json::from_slice(&frame.bytes).unwrap(), frame.descriptors)
}

/// As by two agents, or two suites of tests: a second signal would make the JVM print its threads among its output.
#[test]
fn a_jvm_is_asked_once_however_many_attach_to_it() {
    let Some(javac) = with_javac() else { return };
    let application = Application::new(&javac);
    for _ in 0..3 {
        let mut jvm = waiting(&application, &javac);
        let mut output = BufReader::new(jvm.stdout.take().unwrap());
        let mut input = jvm.stdin.take().unwrap();
        talk(&mut input, &mut output, || {
            let helpers: Vec<_> = (0..4).map(|_| helper(Path::new(HELPER), None, jvm.id())).collect();
            let answers: Vec<_> = helpers.into_iter().map(answer).collect();
            for (outcome, fifo) in answers {
                assert!(matches!(outcome, Outcome::Attached { .. }) && fifo.len() == 1, "{outcome:?}");
            }
        });
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!((jvm.wait().unwrap().code(), rest.as_str()), (Some(7), ""));
        let left = Path::new("/tmp").join(format!(".attach_pid{}", jvm.id()));
        assert!(!left.exists());
    }
}

/// Between its first threads and its tool interface there is a time in which it takes no agent, and keeps no counters that
/// would tell.
#[test]
fn a_jvm_that_comes_up_is_asked_again() {
    let Some(javac) = with_javac() else { return };
    let application = Application::new(&javac);
    let plain = application.command(&javac, &application.root.path().join("log"));
    let mut command = Command::new(plain.get_program());
    // As slow as can be.
    command.args(["-Xint", "-Xshare:off", "-XX:-UsePerfData"]).args(plain.get_args()).arg("wait");
    command.env_remove("JAVA_TOOL_OPTIONS").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut jvm = command.spawn().unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while !procfs::mappings(jvm.id()).iter().any(|mapping| mapping.path.ends_with(b"/libjvm.so")) {
        assert!(std::time::Instant::now() < deadline);
    }
    loop {
        match answer(helper(Path::new(HELPER), None, jvm.id())).0 {
            Outcome::NotYet => assert!(std::time::Instant::now() < deadline),
            outcome => break assert!(matches!(outcome, Outcome::Attached { unloaded: None }), "{outcome:?}"),
        }
    }
    jvm.kill().unwrap();
    jvm.wait().unwrap();
}

#[test]
fn a_jvm_of_another_user_is_named() {
    if !rustix::process::geteuid().is_root() {
        return support::skip("needs root");
    }
    let Some(javac) = with_javac() else { return };
    let application = Application::new(&javac);
    let mut jvm = waiting(&application, &javac);
    let mut output = BufReader::new(jvm.stdout.take().unwrap());
    // Where another user may run it.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("helper");
    fs::copy(HELPER, &program).unwrap();
    talk(&mut jvm.stdin.take().unwrap(), &mut output, || {
        let (outcome, _) = answer(helper(&program, Some(1234), jvm.id()));
        let Outcome::Refused(reason) = &outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("needs CAP_SYS_PTRACE"), "{reason}");
    });
    assert_eq!(jvm.wait().unwrap().code(), Some(7));
}

/// Runs a program that waits for its input's end; gives the reason that is told about a probe while it runs.
fn reason_of(mut command: Command, probe: &str, expected: &[&str]) {
    let root = tempfile::tempdir().unwrap();
    let (agent, collected) = support::start(config(UseEbpf::Required));
    let tree = support::tree(&agent, root.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = tree.spawn(command).unwrap();
    collected.wait(probe, |collected| {
        let reasons = collected.workloads().into_iter().flat_map(|workload| workload.unavailable_probes);
        reasons.into_iter().any(|(name, reason)| {
            name.starts_with(probe) && expected.iter().all(|words| reason.contains(words))
        })
    });
    drop(child.stdin.take());
    child.wait_with_output().unwrap();
    agent.stop(false);
}

/// Eclipse's JVM is not to be had here: a program with libraries of its names stands for it.
#[test]
fn openj9_is_named() {
    if support::no_ebpf().is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let compile = |arguments: &[&str], source: &str| {
        let file = folder.path().join("source.c");
        fs::write(&file, source).unwrap();
        let status = Command::new("cc").current_dir(folder.path()).arg("source.c").args(arguments).status();
        assert!(status.unwrap().success());
    };
    for (library, function) in [("libjvm.so", "one"), ("libj9vm29.so", "two")] {
        compile(&["-shared", "-fPIC", "-o", library], &format!("int {function}(void) {{ return 1; }}"));
    }
    let main = "#include <unistd.h>\nint one(void), two(void);\n\
        int main(void) { char byte; return one() + two() - 2 + (int)read(0, &byte, 1); }";
    compile(&["-L.", "-ljvm", "-lj9vm29", "-Wl,-rpath,$ORIGIN", "-o", "java"], main);
    let command = Command::new(folder.path().join("java"));
    reason_of(command, "jvmti:/", &["is Eclipse OpenJ9", "start it with the agent", "plimsoll run"]);
}

/// A real one: the Closure Compiler's.
#[test]
fn a_native_image_is_named() {
    if support::no_ebpf().is_some() || program("npm", "apt install npm").is_none() {
        return;
    }
    let prepared = cached("native-image-20261015.0.0", |folder| {
        let mut npm = Command::new("npm");
        npm.current_dir(folder).args(["install", "--ignore-scripts", "--no-audit", "--no-fund"]);
        fetch(npm.arg("google-closure-compiler-linux@20261015.0.0"))
    });
    let Some(prepared) = prepared else { return };
    let compiler = prepared.join("node_modules/google-closure-compiler-linux/compiler");
    reason_of(
        Command::new(compiler),
        "not-measurable:maven",
        &["is a native image of GraalVM", "run the application on a JVM under observation"],
    );
}

/// A JVM that is stopped while it is asked answers later, and prints nothing then.
#[test]
fn a_jvm_that_answers_late_prints_nothing() {
    let Some(javac) = with_javac() else { return };
    let application = Application::new(&javac);
    let mut jvm = waiting(&application, &javac);
    let mut output = BufReader::new(jvm.stdout.take().unwrap());
    let mut input = jvm.stdin.take().unwrap();
    while !line(&mut output).starts_with("Thread-") {}
    // A request of somebody else that is under way: nobody sends another signal.
    let file = Path::new("/tmp").join(format!(".attach_pid{}", jvm.id()));
    fs::write(&file, "").unwrap();
    let (outcome, _) = answer(helper(Path::new(HELPER), None, jvm.id()));
    let Outcome::Refused(reason) = &outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("did not answer"), "{reason}");
    assert!(file.exists(), "whoever made it needs it");
    fs::remove_file(&file).unwrap();
    input.write_all(b"x").unwrap();
    assert_eq!(line(&mut output), "late");
    jvm.kill().unwrap();
    jvm.wait().unwrap();
}

/// A script that nobody looks into enters another root directory: the JVM refuses to start, with the agent named in its
/// environment; without, it runs.
#[test]
fn a_jvm_in_another_root_directory_is_named() {
    if support::no_ebpf().is_some() {
        return;
    }
    let Some(javac) = with_javac() else { return };
    let root = tempfile::tempdir().unwrap();
    let script = root.path().join("script");
    // Mounts of its own, which end with it. Nothing of this machine's /tmp is in there.
    let text = format!(
        "mkdir {0}/new && mount --bind / {0}/new && mount -t tmpfs none {0}/new/tmp && mount --bind /proc {0}/new/proc && \
         exec chroot {0}/new {1}/bin/java -version\n",
        root.path().display(),
        javac.display()
    );
    fs::write(&script, text).unwrap();
    let inner = format!("unshare --mount --propagation private sh {}\n", script.display());
    let outer = root.path().join("outer");
    fs::write(&outer, inner).unwrap();
    for (words, starts) in [(&["sh"][..], false), (&["env", "-u", "JAVA_TOOL_OPTIONS", "sh"], true)] {
        let (agent, collected) = support::start(config(UseEbpf::Required));
        let tree = support::tree(&agent, root.path());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&outer).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tree.spawn(command).unwrap().wait_with_output().unwrap();
        agent.stop(false);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.success(), starts, "{said}");
        assert_eq!(said.contains("Could not find agent library"), !starts, "{said}");
        let workload = &collected.workloads()[0];
        let reason = workload.unavailable_probes.get("jvmti").map(String::as_str).unwrap_or_default();
        assert!(reason.contains("another root directory"), "{workload:?}");
        let _ = fs::remove_dir(root.path().join("new"));
    }
}
