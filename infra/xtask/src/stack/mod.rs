//! The development stack: real Kafka, schema registry, ClickHouse and a private dockerd, below one directory.
//! It never touches a server that it did not start, nor one of another stack directory.

mod certificates;
mod clickhouse;
mod docker;
mod kafka;
pub mod probe;
mod registry;
pub mod server;

use crate::{paths, run, signals};
use anyhow::{Context, bail};
use server::Server;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Writes a server's configuration and says how to start it; one kind may need several processes.
type Prepare = fn(&Path, &Ports) -> anyhow::Result<Vec<Server>>;

/// Which servers to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub kafka: bool,
    pub registry: bool,
    pub clickhouse: bool,
    pub docker: bool,
}

impl Selection {
    pub const ALL: Self = Self { kafka: true, registry: true, clickhouse: true, docker: true };

    /// Names as on the command line; none means all.
    pub fn parse(names: &[String]) -> anyhow::Result<Self> {
        if names.is_empty() {
            return Ok(Self::ALL);
        }
        let mut selection = Self::default();
        for name in names {
            match name.as_str() {
                "kafka" => selection.kafka = true,
                "registry" => selection.registry = true,
                "clickhouse" => selection.clickhouse = true,
                "docker" => selection.docker = true,
                other => {
                    bail!("no server is called `{other}`; there are kafka, registry, clickhouse, docker")
                }
            }
        }
        Ok(selection)
    }
}

/// The servers of one directory, running or not.
pub struct Stack {
    dir: PathBuf,
    servers: Vec<Server>,
    /// Held while this value lives: two commands must not change one stack at a time.
    _lock: File,
}

/// A stack that is stopped, data and all, when this is dropped or the command is interrupted.
/// It does not hold the lock, so that tests can restart single servers of it.
pub struct RunningStack {
    dir: PathBuf,
    variables: Vec<(String, String)>,
    _on_signal: signals::OnSignal,
}

impl RunningStack {
    /// Variables that tell tests where the servers are.
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// Let the servers run on after this command.
    pub fn keep(self) {
        // Nothing of it needs to be dropped when the command ends.
        std::mem::forget(self);
    }

    /// Stop now, to learn whether that worked.
    pub fn stop(&self) -> anyhow::Result<()> {
        signals::yield_to_cleanup();
        Stack::open(&self.dir)?.down(false)
    }
}

impl Drop for RunningStack {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("xtask: cannot stop the stack: {error:#}");
        }
    }
}

impl Stack {
    /// Start servers for the life of the returned value; what an earlier, killed command left there is stopped first.
    pub fn start(dir: &Path, selection: &Selection) -> anyhow::Result<RunningStack> {
        let mut stack = Self::open(dir)?;
        stack.down(false)?;
        let dir = stack.dir.clone();
        let on_signal = signals::OnSignal::run(move || {
            // The lock may be held by the thread that this interrupts.
            let stopped = Self::read_state(&dir).and_then(|servers| stop_all(&dir, &servers, false));
            if let Err(error) = stopped {
                eprintln!("xtask: cannot stop the stack: {error:#}");
            }
        });
        let mut running =
            RunningStack { dir: stack.dir.clone(), variables: Vec::new(), _on_signal: on_signal };
        let started = stack.up(selection);
        running.variables = stack.variables();
        drop(stack);
        started.map(|()| running)
    }

    /// The stack of a directory, which is created when missing.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let lock = File::create(dir.join("lock"))?;
        lock.lock().with_context(|| format!("cannot lock {}", dir.display()))?;
        let servers = Self::read_state(&dir)?;
        Ok(Self { dir, servers, _lock: lock })
    }

    /// Start the selected servers that do not run, all at once, and wait until each answers.
    pub fn up(&mut self, selection: &Selection) -> anyhow::Result<()> {
        let ports = Ports::default();
        let wanted: [(bool, &str, Prepare); 4] = [
            (selection.kafka, "kafka", kafka::prepare),
            (selection.registry, "registry", registry::prepare),
            (selection.clickhouse, "clickhouse", clickhouse::prepare),
            (selection.docker, "docker", docker::prepare),
        ];
        for (selected, name, prepare) in wanted {
            if selected && !self.has(name) {
                let prepared =
                    prepare(&self.dir, &ports).with_context(|| format!("cannot prepare {name}"))?;
                self.servers.extend(prepared);
            }
        }
        self.start_all()
    }

    /// Add servers that are none of the selection's: our own services.
    pub fn add(&mut self, servers: Vec<Server>) -> anyhow::Result<()> {
        for server in servers {
            if !self.servers.iter().any(|known| known.name == server.name) {
                self.servers.push(server);
            }
        }
        self.start_all()
    }

    fn start_all(&mut self) -> anyhow::Result<()> {
        for index in 0..self.servers.len() {
            if !self.servers[index].is_alive() {
                // dockerd looks for its containerd when it starts.
                if self.servers[index].after_previous {
                    self.servers[index - 1].wait_ready()?;
                }
                self.servers[index].spawn()?;
                self.save()?;
            }
        }
        self.wait_all_ready()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it has a server of this name.
    pub fn has(&self, name: &str) -> bool {
        self.servers.iter().any(|server| server.name == name)
    }

    /// Stop everything; without `keep_data` also forget ports and delete data, except logs.
    pub fn down(&mut self, keep_data: bool) -> anyhow::Result<()> {
        stop_all(&self.dir, &self.servers, keep_data)?;
        if !keep_data {
            self.servers.clear();
        }
        Ok(())
    }

    /// Stop (when it runs) and start again, with the same ports and data.
    pub fn restart(&mut self, name: &str) -> anyhow::Result<()> {
        let server = self.server(name)?;
        server.stop()?;
        server.spawn()?;
        self.save()?;
        self.server(name)?.wait_ready()
    }

    /// As `restart`, but not waiting until it answers: for one that has to wait for others itself.
    pub fn relaunch(&mut self, name: &str) -> anyhow::Result<()> {
        let server = self.server(name)?;
        server.stop()?;
        server.spawn()?;
        self.save()
    }

    /// Wait until all servers answer.
    pub fn wait_all_ready(&self) -> anyhow::Result<()> {
        self.servers.iter().try_for_each(Server::wait_ready)
    }

    /// Stop one server in an orderly way; `restart` brings it back.
    pub fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        self.server(name)?.stop()
    }

    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.server(name)?.kill()
    }

    pub fn pause(&mut self, name: &str) -> anyhow::Result<()> {
        self.server(name)?.signal(rustix::process::Signal::STOP)
    }

    pub fn resume(&mut self, name: &str) -> anyhow::Result<()> {
        self.server(name)?.signal(rustix::process::Signal::CONT)
    }

    fn server(&mut self, name: &str) -> anyhow::Result<&mut Server> {
        let known = self.servers.iter().map(|s| s.name.clone()).collect::<Vec<_>>().join(", ");
        self.servers.iter_mut().find(|server| server.name == name).with_context(|| {
            format!(
                "this stack has no server `{name}`; it has: {}",
                if known.is_empty() { "none" } else { &known }
            )
        })
    }

    /// One paragraph for each server.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        if self.servers.is_empty() {
            let _ = writeln!(text, "no servers in {}", self.dir.display());
        }
        for server in &self.servers {
            let _ = writeln!(text, "{}", server.describe());
        }
        text
    }

    /// An error that names the servers that do not answer.
    pub fn all_ready(&self) -> anyhow::Result<()> {
        let silent: Vec<&str> = self
            .servers
            .iter()
            .filter(|server| !server.is_ready())
            .map(|server| server.name.as_str())
            .collect();
        if !silent.is_empty() {
            bail!("not ready: {}; `cargo xtask stack restart NAME` starts one again", silent.join(", "));
        }
        Ok(())
    }

    /// Variables that tell tests where the servers are.
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut variables: Vec<(String, String)> = self.servers.iter().flat_map(Server::variables).collect();
        variables.push(("PLIMSOLL_TEST_STACK_DIR".into(), self.dir.display().to_string()));
        if let Ok(xtask) = std::env::current_exe() {
            // A rebuild replaces the file that runs; the new one will do.
            let xtask = xtask.display().to_string().trim_end_matches(" (deleted)").to_owned();
            variables.push(("PLIMSOLL_XTASK".into(), xtask));
        }
        variables
    }

    /// The file with the same variables, one `NAME=value` a line.
    pub fn env_file(&self) -> PathBuf {
        self.dir.join("env")
    }

    fn save(&self) -> anyhow::Result<()> {
        write_whole(&state_file(&self.dir), &serde_json::to_string_pretty(&self.servers)?)?;
        let lines: String =
            self.variables().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        write_whole(&self.env_file(), &lines)
    }

    fn read_state(dir: &Path) -> anyhow::Result<Vec<Server>> {
        let file = state_file(dir);
        if !file.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(&file)?;
        serde_json::from_str(&text).with_context(|| {
            format!("{} is not readable; stop what it lists by hand and delete it", file.display())
        })
    }
}

/// Run a command with a stack of its own; fails when the command does.
pub fn run_within(dir: Option<PathBuf>, selection: &Selection, command: &[OsString]) -> anyhow::Result<()> {
    let [program, arguments @ ..] = command else { bail!("no command given") };
    let temporary = paths::target().join(format!("stack-{}", std::process::id()));
    let result = {
        let stack = Stack::start(dir.as_ref().unwrap_or(&temporary), selection)?;
        let mut command = run::command(program);
        command.args(arguments).envs(stack.variables().iter().map(|(name, value)| (name, value)));
        run::streamed(&mut command)
    };
    if dir.is_none() && result.is_ok() {
        // Logs of a failure stay.
        fs::remove_dir_all(&temporary)?;
    }
    result
}

fn stop_all(dir: &Path, servers: &[Server], keep_data: bool) -> anyhow::Result<()> {
    // The reverse order: dockerd before its containerd, the registry before Kafka.
    for server in servers.iter().rev() {
        server.stop()?;
    }
    if servers.iter().any(|server| server.name == "containerd") {
        docker::remove_leftovers(dir)?;
    }
    if keep_data {
        return Ok(());
    }
    for data in servers.iter().flat_map(|server| &server.data) {
        if data.exists() {
            fs::remove_dir_all(data).with_context(|| format!("cannot delete {}", data.display()))?;
        }
    }
    for file in [state_file(dir), dir.join("env")] {
        if file.exists() {
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

fn state_file(dir: &Path) -> PathBuf {
    dir.join("state.json")
}

/// Readers see the old content or the new, never a part.
fn write_whole(file: &Path, content: &str) -> anyhow::Result<()> {
    let partial = file.with_extension("partial");
    fs::write(&partial, content).with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, file).with_context(|| format!("cannot write {}", file.display()))
}

/// Gives out free loopback ports.
#[derive(Default)]
pub struct Ports {
    given: std::cell::RefCell<Vec<u16>>,
}

impl Ports {
    /// Below the range that outgoing connections use, so that a stopped server's port is still free at its restart.
    const RANGE: std::ops::Range<u16> = 20_000..32_000;

    pub fn free(&self) -> anyhow::Result<u16> {
        use std::hash::{BuildHasher, RandomState};
        let size = Self::RANGE.end - Self::RANGE.start;
        // A random start: two stacks that start at once should not meet.
        let start = u16::try_from(RandomState::new().hash_one(0) % u64::from(size)).unwrap_or(0);
        let mut given = self.given.borrow_mut();
        for step in 0..size {
            let port = Self::RANGE.start + (start + step) % size;
            if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
                given.push(port);
                return Ok(port);
            }
        }
        bail!("no free port on 127.0.0.1 in {:?}", Self::RANGE)
    }
}

/// A server of the user's to be used instead of one of ours, from `PLIMSOLL_STACK_…`.
fn given(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// The directories of one server: (data, log file).
pub fn places(dir: &Path, name: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let data = dir.join(name);
    fs::create_dir_all(&data)?;
    fs::create_dir_all(dir.join("logs"))?;
    Ok((data, dir.join("logs").join(format!("{name}.log"))))
}

fn java() -> anyhow::Result<String> {
    crate::setup::ensure(&[crate::setup::JAVA])?;
    let java = crate::setup::java().context("no Java 17 or newer; install it or set JAVA_HOME")?;
    Ok(java.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections() {
        let check = |names: &[&str], expect: Option<Selection>| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            assert_eq!(Selection::parse(&names).ok(), expect, "{names:?}");
        };
        check(&[], Some(Selection::ALL));
        check(&["kafka"], Some(Selection { kafka: true, ..Selection::default() }));
        check(
            &["docker", "registry"],
            Some(Selection { docker: true, registry: true, ..Selection::default() }),
        );
        check(&["kafak"], None);
    }

    #[test]
    fn ports_differ() {
        let ports = Ports::default();
        let mut seen: Vec<u16> = (0..20).map(|_| ports.free().unwrap()).collect();
        seen.dedup();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 20);
    }
}
