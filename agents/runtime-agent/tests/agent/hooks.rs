//! Observation without eBPF: what the hooks report is what the processes themselves say they loaded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plimsoll_runtime_agent::config::{AgentConfig, UseEbpf};

use super::support;

fn config() -> AgentConfig {
    AgentConfig { ebpf: UseEbpf::Off, ..support::config() }
}

#[test]
fn the_dynamic_linker_reports_what_is_mapped() {
    let (agent, collected) = support::start(config());
    assert_eq!(
        agent.probes().active,
        ["ld-audit", "python-import", "node-module", "ruby-feature", "php-include"]
    );
    let root = tempfile::tempdir().unwrap();
    let tree = support::tree(&agent, root.path());
    let maps = support::run(&tree, Command::new("cat").arg("/proc/self/maps"));
    agent.stop(false);
    let expected: BTreeSet<PathBuf> = support::mapped(&maps)
        .into_iter()
        .filter(|path| !path.to_str().unwrap().contains("libplimsoll_audit"))
        .collect();
    let reported: BTreeSet<PathBuf> = collected
        .paths(&["executable", "library"])
        .iter()
        .map(|path| std::fs::canonicalize(path).unwrap())
        .collect();
    assert_eq!(reported, expected);
    let workload = &collected.workloads()[0];
    let probes: Vec<&str> = workload.watched.iter().map(|watch| watch.probe.as_str()).collect();
    assert_eq!(probes, ["ld-audit"]);
    assert!(workload.unavailable_probes["python-import"].contains("no Python interpreter"));
    assert!(workload.unavailable_probes.contains_key("ebpf-files"));
}

/// Prints the file of every module of the interpreter but our hook.
const MODULES: &str = "import sys\n\
    for n, m in sorted(sys.modules.items()):\n\
    \x20   s = getattr(m, '__spec__', None)\n\
    \x20   if s is not None and s.has_location and 'plimsoll-hooks' not in s.origin: print(s.origin)\n";

#[test]
fn python_reports_its_modules() {
    let (agent, collected) = support::start(config());
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("pkg")).unwrap();
    std::fs::write(root.path().join("pkg/__init__.py"), "from . import inner\n").unwrap();
    std::fs::write(root.path().join("pkg/inner.py"), "").unwrap();
    std::fs::write(root.path().join("pkg/other.py"), "").unwrap();
    std::fs::write(root.path().join("sitecustomize.py"), "import bisect\nprint('site')\n").unwrap();
    let script = root.path().join("run.py");
    std::fs::write(
        &script,
        format!(
            "import json, sqlite3, pkg, importlib.util\nimportlib.util.find_spec('pkg.other')\n{MODULES}"
        ),
    )
    .unwrap();
    let tree = support::tree(&agent, root.path());
    let output = support::run(&tree, support::python().arg("-B").arg(&script).env("PYTHONPATH", root.path()));
    agent.stop(false);
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("site"), "the application's own sitecustomize runs");
    let expected: BTreeSet<PathBuf> = lines.map(PathBuf::from).collect();
    let base = std::fs::canonicalize(root.path()).unwrap();
    let reported: BTreeSet<PathBuf> = collected
        .items()
        .into_iter()
        .filter(|(_, item)| item.kind == "module")
        .map(|(artifact, item)| {
            let path = String::from_utf8(item.path).unwrap();
            if artifact.starts_with("component/") { base.join(path) } else { Path::new("/").join(path) }
        })
        .collect();
    let reported: BTreeSet<PathBuf> =
        reported.into_iter().filter(|path| *path != base.join("run.py")).collect();
    assert_eq!(reported, expected);
    assert!(reported.contains(&base.join("pkg/inner.py")) && !reported.contains(&base.join("pkg/other.py")));
    assert!(!root.path().join("__pycache__").exists());
}

#[test]
fn the_application_notices_nothing() {
    let script = "import sys, os\nprint(sorted(sys.modules))\nprint(sys.path)\nprint(sys.flags)\n\
        print('PYTHONPATH' in os.environ)\n";
    let plain = support::python().args(["-c", script]).env_remove("PYTHONPATH").output().unwrap();
    let plain = String::from_utf8(plain.stdout).unwrap();
    let (agent, _) = support::start(config());
    let root = tempfile::tempdir().unwrap();
    let tree = support::tree(&agent, root.path());
    let hooked = support::run(&tree, support::python().args(["-c", script]).env_remove("PYTHONPATH"));
    // Nobody reads any more: still nothing is said, and nothing waits.
    let later = format!("input(); import json\n{script}");
    let mut command = support::python();
    command.args(["-c", &later]).env_remove("PYTHONPATH");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tree.spawn(command).unwrap();
    agent.stop(false);
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"\n").unwrap();
    let orphan = child.wait_with_output().unwrap();
    assert!(orphan.status.success() && orphan.stderr.is_empty(), "{orphan:?}");
    let without = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines[0] = lines[0].replace("'sitecustomize', ", "");
        lines.truncate(3);
        lines
    };
    assert_eq!(without(&hooked), without(&plain));
}

/// Go's and Rust's programs are often static: nothing can be loaded into them, but that they ran is seen.
#[test]
fn static_programs_are_seen_running() {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("static.c");
    std::fs::write(
        &source,
        "#include <unistd.h>\nint main(int n, char **a) { if (n > 1) sleep(1); return 0; }\n",
    )
    .unwrap();
    let program = root.path().join("static");
    let built = Command::new("cc").args(["-static", "-o"]).arg(&program).arg(&source).status().unwrap();
    assert!(built.success(), "a C compiler with static libraries: apt install gcc libc6-dev");
    let script = format!("{} x; true", program.display());
    let mut child = Command::new("sh");
    child.args(["-c", &script]);
    for mut command in [Command::new(&program), child] {
        let (agent, collected) = support::start(config());
        let tree = support::tree(&agent, root.path());
        support::run(&tree, &mut command);
        agent.stop(false);
        let items = collected.items();
        let found = items.iter().find(|(_, item)| item.path == b"static").unwrap();
        assert_eq!((found.1.kind.as_str(), found.1.rung.as_str()), ("executable", "loaded"), "{command:?}");
    }
}
