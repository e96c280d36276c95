//! What the tests share: an agent whose events are collected, and processes that look like containers.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)] // each test uses a part, and may

pub mod jvm;
pub mod jvms;
pub mod languages;
pub mod node;
pub mod php;
pub mod servers;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use plimsoll_runtime_agent::agent::{Agent, Tree, TreeConfig};
use plimsoll_runtime_agent::config::{AgentConfig, UseEbpf};
use plimsoll_runtime_agent::ebpf::PinConfig;
use plimsoll_runtime_agent::output::RuntimeEvent;
use plimsoll_schemas::events::{RuntimeAlert, RuntimeWorkload, ScanRequest, UsageItem};
use plimsoll_schemas::identity::ComponentKey;

pub const NODE: &str = "0123456789abcdef0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(20);

/// Why eBPF cannot be tested here; `None` if it can. With CI=true it must.
pub fn no_ebpf() -> Option<&'static str> {
    let reason = if !rustix::process::geteuid().is_root() {
        Some("needs root")
    } else if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        Some("the kernel has no BTF")
    } else {
        None
    };
    reason.inspect(|reason| skip(reason))
}

/// The Docker for tests; `None` (said why) without one.
pub fn docker() -> Option<String> {
    const VARIABLE: &str = "PLIMSOLL_TEST_DOCKER_HOST";
    let endpoint = std::env::var(VARIABLE).ok();
    if endpoint.is_none() {
        skip(&format!("{VARIABLE} is not set"));
    }
    endpoint
}

/// Says why a test does not run here. With CI=true it must.
pub fn skip(reason: &str) {
    assert!(std::env::var("CI").is_err(), "in CI this must run: {reason}");
    println!("skipped: {reason}");
}

/// All events so far.
#[derive(Clone, Default)]
pub struct Collected(pub Arc<Mutex<Vec<RuntimeEvent>>>, Option<String>);

impl Collected {
    fn lock(&self) -> MutexGuard<'_, Vec<RuntimeEvent>> {
        self.0.lock().unwrap()
    }

    /// The same events, the uses of one container only: others run on this machine, too.
    pub fn of(&self, container: &FakeContainer) -> Self {
        Self(Arc::clone(&self.0), Some(container.id.clone()))
    }

    pub fn items(&self) -> Vec<(String, UsageItem)> {
        let events = self.lock();
        let usages = events.iter().filter_map(|event| match event {
            RuntimeEvent::Usage(usage) => Some(usage),
            _ => None,
        });
        usages
            .filter(|usage| self.1.as_ref().is_none_or(|id| usage.artifact.ends_with(id.as_str())))
            .flat_map(|usage| usage.items.iter().map(|item| (usage.artifact.clone(), item.clone())))
            .collect()
    }

    /// Items of one path of the host's root, whatever the artifact's root.
    pub fn items_of(&self, path: &Path) -> Vec<UsageItem> {
        let path = path.to_str().unwrap().trim_start_matches('/').as_bytes().to_vec();
        self.items().into_iter().map(|(_, item)| item).filter(|item| item.path == path).collect()
    }

    pub fn scan_requests(&self) -> Vec<ScanRequest> {
        let events = self.lock();
        let requests = events.iter().filter_map(|event| match event {
            RuntimeEvent::ScanRequest(request) => Some(request.clone()),
            _ => None,
        });
        requests.collect()
    }

    pub fn alerts(&self) -> Vec<RuntimeAlert> {
        let events = self.lock();
        let alerts = events.iter().filter_map(|event| match event {
            RuntimeEvent::Alert(alert) => Some(alert.clone()),
            _ => None,
        });
        alerts.collect()
    }

    /// The newest event of each workload and artifact.
    pub fn workloads(&self) -> Vec<RuntimeWorkload> {
        let mut newest: Vec<RuntimeWorkload> = Vec::new();
        for event in self.lock().iter() {
            let RuntimeEvent::Workload(workload) = event else { continue };
            let key = |w: &RuntimeWorkload| (w.workload_id.clone(), w.artifact.clone());
            newest.retain(|known| key(known) != key(workload));
            newest.push(workload.clone());
        }
        newest
    }

    pub fn workload_of_container(&self, container_id: &str) -> Option<RuntimeWorkload> {
        self.workloads().into_iter().rfind(|workload| workload.container_id == container_id)
    }

    /// Paths (with leading slash) of items whose kind is one of `kinds`; what was only read, and may be a module, is a file.
    pub fn paths(&self, kinds: &[&str]) -> BTreeSet<PathBuf> {
        self.items()
            .into_iter()
            .filter(|(_, item)| match (item.kind.as_str(), item.rung.as_str()) {
                ("module", "accessed") => kinds.contains(&"file"),
                (own, _) => kinds.contains(&own),
            })
            .map(|(_, item)| PathBuf::from(format!("/{}", String::from_utf8(item.path).unwrap())))
            .collect()
    }

    /// Waits until `condition` holds.
    pub fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "{what} did not come within {PATIENCE:?}: {:#?}", self.lock());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

pub fn config() -> AgentConfig {
    AgentConfig { ebpf: UseEbpf::Required, identify_timeout_ms: 100, ..AgentConfig::new(NODE, "test") }
}

pub fn start(config: AgentConfig) -> (Agent, Collected) {
    let collected = Collected::default();
    let events = collected.clone();
    let output = move |batch: &[RuntimeEvent]| {
        events.0.lock().unwrap().extend_from_slice(batch);
        Ok(())
    };
    (Agent::start(config, Box::new(output)).unwrap(), collected)
}

/// A tree whose component has nothing to do with what runs: everything is the host's.
pub fn tree(agent: &Agent, root: &Path) -> Tree {
    let component = ComponentKey::new("backend", "pythonapp", "1.0").unwrap();
    agent.watch_tree(TreeConfig::new(component, root, vec!["test".into()])).unwrap()
}

/// Runs a command in a tree to its end; gives its output.
pub fn run(tree: &Tree, command: &mut Command) -> String {
    let mut moved = Command::new(command.get_program());
    moved.args(command.get_args()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => moved.env(name, value),
            None => moved.env_remove(name),
        };
    }
    let child = tree.spawn(moved).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The Python interpreter itself; `python3` can be a script that finds one.
pub fn python() -> Command {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    Command::new(String::from_utf8(output.stdout).unwrap().trim())
}

/// Executable file mappings in the text of `/proc/<pid>/maps`.
pub fn mapped(maps: &str) -> BTreeSet<PathBuf> {
    maps.lines()
        .filter(|line| line.split_whitespace().nth(1).is_some_and(|permissions| permissions.contains('x')))
        .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])))
        .collect()
}

/// Pins of a test's own, gone with it whatever happens.
pub struct Pins(pub PinConfig);

impl Pins {
    pub fn new(test: &str) -> Self {
        let instance = format!("test-{test}-{}", std::process::id());
        Self(PinConfig { root: "/sys/fs/bpf/plimsoll".into(), instance })
    }

    pub fn directory(&self) -> PathBuf {
        self.0.root.join(&self.0.instance)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if self.directory().exists() {
            std::fs::remove_dir_all(self.directory()).unwrap();
        }
    }
}

/// A cgroup with the name of a container; processes in it with a mount namespace of their own look like one.
pub struct FakeContainer {
    pub id: String,
    cgroup: PathBuf,
}

impl FakeContainer {
    pub fn new() -> Self {
        let id = format!("{}{}", plimsoll_kit::host::random_id(), plimsoll_kit::host::random_id());
        let hierarchy = plimsoll_runtime_agent::procfs::cgroup_v1_controller().unwrap_or("");
        let parent = Path::new("/sys/fs/cgroup").join(hierarchy).join("plimsoll-test");
        let cgroup = parent.join(&id);
        std::fs::create_dir_all(&cgroup).unwrap();
        Self { id, cgroup }
    }

    /// A command that runs `script` as the container's first program, after `prepare` in its mount namespace.
    pub fn command(&self, prepare: &str, script: &str) -> Command {
        let mut command = Command::new("sh");
        let procs = self.cgroup.join("cgroup.procs");
        // The shells that prepare run on the host's side, as a runtime's init does.
        let inner = if prepare.is_empty() {
            "exec unshare -m sh -c \"$SCRIPT\"".to_owned()
        } else {
            "exec unshare -m --propagation private sh -c \"$PREPARE; exec sh -c \\\"\\$SCRIPT\\\"\""
                .to_owned()
        };
        command
            .arg("-c")
            .arg(format!("echo $$ > {}; {inner}", procs.display()))
            .env("SCRIPT", script)
            .env("PREPARE", prepare)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command
    }

    pub fn spawn(&self, script: &str) -> Child {
        self.command("", script).spawn().unwrap()
    }
}

impl Drop for FakeContainer {
    fn drop(&mut self) {
        // Empty once its processes were reaped.
        let deadline = Instant::now() + Duration::from_secs(2);
        while std::fs::remove_dir(&self.cgroup).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
