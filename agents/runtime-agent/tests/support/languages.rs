//! What the tests of languages share: downloads kept in the cache, and runs of an application under one way of
//! observing, to be compared with the language's own word.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)] // each test uses a part, and may

#[path = "../../../../services/catalog/tests/support/cache.rs"]
mod cache;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use plimsoll_runtime_agent::agent::Agent;
use plimsoll_runtime_agent::config::{AgentConfig, UseEbpf};
use plimsoll_runtime_agent::hooks::HookSession;
use plimsoll_schemas::events::RuntimeWorkload;

use super::{Collected, config, start, tree};
pub use cache::cached;

/// The two ways of observing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Ebpf,
    Hooks,
}

impl Way {
    /// Those that can be tried here.
    pub fn all() -> Vec<Self> {
        let ebpf = super::no_ebpf().is_none().then_some(Self::Ebpf);
        ebpf.into_iter().chain([Self::Hooks]).collect()
    }

    /// An agent that observes this way.
    pub fn start(self) -> (Agent, Collected) {
        let ebpf = if self == Self::Ebpf { UseEbpf::Required } else { UseEbpf::Off };
        start(AgentConfig { ebpf, ..config() })
    }

    /// The probe at work, of which this is the language's hook.
    pub fn probe(self, hook: &'static str) -> &'static str {
        if self == Self::Ebpf { "ebpf-files" } else { hook }
    }
}

/// What was seen of one application.
pub struct Measured {
    pub collected: Collected,
    pub output: String,
    root: PathBuf,
}

impl Measured {
    pub fn new(collected: Collected, root: &Path) -> Self {
        Self { collected, output: String::new(), root: fs::canonicalize(root).unwrap() }
    }

    /// Absolute paths of the component's files that were reported as this kind; what was only read, and may be a module, is a
    /// file.
    pub fn paths(&self, kind: &str) -> BTreeSet<PathBuf> {
        self.collected
            .items()
            .into_iter()
            .filter(|(_, item)| match (item.kind.as_str(), item.rung.as_str()) {
                ("module", "accessed") => kind == "file",
                (own, _) => own == kind,
            })
            .map(|(artifact, item)| {
                let path = String::from_utf8(item.path).unwrap();
                if artifact.starts_with("component/") {
                    self.root.join(path)
                } else {
                    Path::new("/").join(path)
                }
            })
            .collect()
    }

    /// The component's root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Modules below the component's root, relative to it.
    pub fn modules(&self) -> BTreeSet<String> {
        below(&self.root, self.paths("module"))
    }

    pub fn workload(&self) -> RuntimeWorkload {
        self.collected.workloads().into_iter().next().unwrap()
    }

    /// Losses of a probe, as they stand in the workload.
    pub fn lost(&self, probe: &str) -> i64 {
        self.workload().losses.iter().filter(|loss| loss.probe == probe).map(|loss| loss.events_lost).sum()
    }

    pub fn is_watched_by(&self, probe: &str) -> bool {
        self.workload().watched.iter().any(|watch| watch.probe == probe && watch.from_first_exec)
    }
}

/// The probe at work saw everything from the first exec on.
pub fn assert_complete(way: Way, hook: &'static str, measured: &Measured) {
    let probe = way.probe(hook);
    assert!(measured.is_watched_by(probe), "{way:?} {:?}", measured.workload());
    assert_eq!(measured.lost(probe), 0, "{way:?} {:?}", measured.workload());
}

/// Paths below a root, relative to it.
pub fn below(root: &Path, paths: impl IntoIterator<Item = PathBuf>) -> BTreeSet<String> {
    let inside = |path: PathBuf| Some(path.strip_prefix(root).ok()?.to_str().unwrap().to_owned());
    paths.into_iter().filter_map(inside).collect()
}

/// Runs the commands one after the other in one tree with its root there. Their output is the last one's.
pub fn measure(way: Way, root: &Path, commands: Vec<Command>) -> Measured {
    let (agent, collected) = way.start();
    let tree = tree(&agent, root);
    let mut output = String::new();
    for mut command in commands {
        command.current_dir(root).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let what = format!("{command:?}");
        let done = tree.spawn(command).unwrap().wait_with_output().unwrap();
        output = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{what}: {} {output}", done.status);
    }
    agent.stop(false);
    Measured { collected, output, root: fs::canonicalize(root).unwrap() }
}

/// What a command does without the hooks, and with them.
pub fn both(session: &HookSession, command: impl Fn() -> Command) -> (Output, Output) {
    let plain = command().output().unwrap();
    let mut hooked = command();
    session.environment().apply(&mut hooked);
    (plain, hooked.output().unwrap())
}

/// A program of this machine; `None` (said why) without it. In CI it must be there.
pub fn program(name: &str, remedy: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = found.map(|folder| folder.join(name)).find(|file| file.exists());
    if found.is_none() {
        super::skip(&format!("{name} is missing ({remedy})"));
    }
    found
}

/// Runs a command that fetches something.
pub fn fetch(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// A word for a content, for names in the cache (FNV-1a).
pub fn mark(content: &str) -> String {
    let hash = content.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// A copy of a folder in a temporary directory.
pub fn copy_of(folder: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    let status = Command::new("cp").arg("-a").arg(folder.join(".")).arg(to.path()).status().unwrap();
    assert!(status.success());
    to
}

/// A folder of the cache with a home of gems, `gem-home`, made of Debian's builds of these packages.
pub fn gem_home(name: &str, packages: &[&str]) -> Option<PathBuf> {
    const ARRANGE: &str = include_str!("../applications/ruby/arrange.rb");
    program("apt-get", "the gems are those of Debian and Ubuntu")?;
    cached(&format!("{name}-{}", mark(&format!("{packages:?}{ARRANGE}"))), |folder| {
        let work = tempfile::tempdir().map_err(|error| error.to_string())?;
        extract(work.path(), &work.path().join("packages"), packages)?;
        let arrange = work.path().join("arrange.rb");
        fs::write(&arrange, ARRANGE).map_err(|error| error.to_string())?;
        fetch(
            Command::new("ruby").arg(&arrange).arg(work.path().join("packages")).arg(folder.join("gem-home")),
        )
    })
}

/// Debian's packages, downloaded to `work`, each extracted into a folder of its own below `into`.
pub fn extract(work: &Path, into: &Path, packages: &[&str]) -> Result<(), String> {
    fs::create_dir_all(into).map_err(|error| error.to_string())?;
    fetch(Command::new("apt-get").arg("download").args(packages).current_dir(work))?;
    for name in packages {
        let script = format!("dpkg-deb -x {name}_*.deb {}", into.join(name).display());
        fetch(Command::new("sh").args(["-c", &script]).current_dir(work))?;
    }
    Ok(())
}

/// Writes files, and the folders that they lie in.
pub fn write(root: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// A program of this C, below the root.
pub fn compile(root: &Path, name: &str, code: &str, flags: &[String]) -> PathBuf {
    let (source, made) = (root.join(format!("{name}.c")), root.join(name));
    fs::write(&source, code).unwrap();
    assert!(Command::new("cc").arg(&source).arg("-o").arg(&made).args(flags).status().unwrap().success());
    made
}

/// How C is compiled against this Python; `None` (said why) without its shared library.
pub fn with_python() -> Option<Vec<String>> {
    let script = "import sysconfig as s\n\
        print(s.get_paths()['include'], s.get_config_var('LIBDIR'), s.get_config_var('LDVERSION'), \
        s.get_config_var('Py_ENABLE_SHARED'))";
    let output = super::python().args(["-c", script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let [include, library, version, shared] = text.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{text}")
    };
    if shared != "1" {
        super::skip("this Python has no shared library");
        return None;
    }
    Some(vec![
        format!("-I{include}"),
        format!("-L{library}"),
        format!("-lpython{version}"),
        format!("-Wl,-rpath,{library}"),
    ])
}

pub fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
