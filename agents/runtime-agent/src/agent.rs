//! Starting and ending an agent: its threads, its probes, and process trees under watch.
//! It must never let a watched process run before it is watched: a tree's child waits for its registration.

use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use plimsoll_schemas::identity::ComponentKey;

use crate::config::AgentConfig;
use crate::ebpf::{EbpfError, Kernel};
use crate::engine::{Engine, EngineParts, Input, TREE_ID, TreeRequest};
use crate::hooks::other_root::file_of;
use crate::hooks::{HookEnvironment, Hooks};
use crate::java::StartHook;
use crate::java::start::JavaEnvironment;
use crate::output::{Output, OutputLosses, deliver};
use crate::probes::{Probes, open_kernel};
use crate::resolver::Resolver;
use crate::spool::{Spool, SpoolError};
use crate::{identity, procfs};

/// Batches on their way out; above, the kernel's ring buffer holds what is new.
const BATCHES_MAX: usize = 64;
/// Inputs from other threads that wait.
const INPUTS_MAX: usize = 16_384;
/// Containers that wait to be identified.
const IDENTIFY_MAX: usize = 4_096;
/// Wait between two looks whether the agent has ended.
const WAKE_LOOK: Duration = Duration::from_millis(100);
/// Least time between two wakes of the engine by execs.
const WAKE_PAUSE: Duration = Duration::from_millis(1);
/// Longest wait of a child for its registration.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why an agent does not start, or a tree is not watched.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// eBPF is required and not to be had.
    #[error(transparent)]
    Ebpf(#[from] EbpfError),
    /// The spool's directory.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The system's fault.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The agent's own threads are gone.
    #[error("the agent has ended")]
    Ended,
    /// No room.
    #[error("the kernel's map of workloads is full; end some, or raise its bound")]
    Full,
}

fn system(what: &str) -> impl FnOnce(std::io::Error) -> AgentError {
    let what = what.to_owned();
    move |source| AgentError::System { what, source }
}

/// A running agent.
pub struct Agent {
    ended: Arc<AtomicBool>,
    waiting: Option<JoinHandle<()>>,
    inputs: Sender<Input>,
    engine: Option<JoinHandle<()>>,
    delivery: Option<JoinHandle<()>>,
    kernel: Option<Arc<Kernel>>,
    probes: Probes,
    node_id: String,
    stop_timeout: Duration,
    java: bool,
}

impl Agent {
    /// Starts observing; events go to `output`.
    ///
    /// # Errors
    /// [`AgentError`]. Without eBPF only if it is required.
    pub fn start(config: AgentConfig, output: Box<dyn Output>) -> Result<Self, AgentError> {
        let (kernel, probes) = open_kernel(&config)?;
        let (inputs, engine_inputs) = crossbeam_channel::bounded(INPUTS_MAX);
        let (batches, delivery_batches) = crossbeam_channel::bounded(BATCHES_MAX);
        let output_losses = OutputLosses::default();

        let identify = match &config.docker_endpoint {
            Some(endpoint) if kernel.is_some() && config.watch_containers => {
                let (requests, queue) = crossbeam_channel::bounded(IDENTIFY_MAX);
                let replies = inputs.clone();
                identity::start(endpoint, queue, move |reply| {
                    // Closed: the agent has ended.
                    let _ = replies.send(Input::Identified(Box::new(reply)));
                })
                .map_err(system("starting the identity threads"))?;
                Some(requests)
            }
            _ => None,
        };
        let resolver = match &config.resolver_socket {
            Some(socket) => {
                let answers = inputs.clone();
                let back = inputs.clone();
                let resolver = Resolver::start(
                    socket.clone(),
                    move |answer| {
                        // Full: the engine's own deadline answers.
                        let _ = answers.try_send(Input::Owned(answer));
                    },
                    move || {
                        // Closed: the agent has ended.
                        let _ = back.send(Input::ResolverBack);
                    },
                );
                Some(resolver.map_err(system("starting the resolver's thread"))?)
            }
            None => None,
        };
        let spool = match &config.spool {
            Some((directory, budget_bytes)) => Spool::open(directory, *budget_bytes)?,
            None => Spool::none(),
        };
        let losses = Arc::clone(&output_losses);
        let freed = kernel.clone();
        let delivery = std::thread::Builder::new()
            .name("delivery".into())
            .spawn(move || {
                deliver(&delivery_batches, output, spool, &losses, |position| {
                    if let Some(kernel) = &freed {
                        kernel.acknowledge(position);
                    }
                });
            })
            .map_err(system("starting the delivering thread"))?;
        let watches_containers = config.watch_containers;
        let (node_id, stop_timeout) = (config.node_id.clone(), config.stop_timeout);
        let java = config.java.enabled;
        let engine = Engine::new(EngineParts {
            config,
            kernel: kernel.clone(),
            unavailable: probes.unavailable.clone(),
            inputs: engine_inputs,
            identify,
            resolver,
            batches,
            output_losses,
            boot_id: plimsoll_kit::host::random_id(),
        });
        let engine = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || engine.run())
            .map_err(system("starting the engine"))?;
        let ended = Arc::new(AtomicBool::new(false));
        let mut waiting = None;
        if let Some(kernel) = kernel.clone().filter(|_| watches_containers) {
            let waiter = kernel.exec_waiter().map_err(system("waiting for execs"))?;
            let (wake, ended) = (inputs.clone(), Arc::clone(&ended));
            let thread = std::thread::Builder::new()
                .name("exec-waiter".into())
                .spawn(move || {
                    while !ended.load(Ordering::Relaxed) {
                        if kernel.wait_for_exec(&waiter, WAKE_LOOK) {
                            // Full: the engine is awake.
                            let _ = wake.try_send(Input::Wake);
                            std::thread::sleep(WAKE_PAUSE);
                        }
                    }
                })
                .map_err(system("starting the waiting thread"))?;
            waiting = Some(thread);
        }
        Ok(Self {
            ended,
            waiting,
            inputs,
            engine: Some(engine),
            delivery: Some(delivery),
            kernel,
            probes,
            node_id,
            stop_timeout,
            java,
        })
    }

    /// Which probes work here, and why others do not.
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// Watches a process tree that is to be started with [`Tree::spawn`].
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn watch_tree(&self, tree: TreeConfig) -> Result<Tree, AgentError> {
        let root = std::fs::canonicalize(&tree.root)
            .map_err(system(&format!("the component's root {}", tree.root.display())))?;
        let random = plimsoll_kit::host::random_id();
        let number = u64::from_str_radix(&random[..15], 16).unwrap_or(1);
        let id = TREE_ID | number;
        let workload_id = format!("{}/process-{}", self.node_id, &random[..16]);
        let hooks = match &self.kernel {
            Some(_) => None,
            None => Some(Hooks::create(&tree.hook_directory).map_err(system("writing the hooks"))?),
        };
        let environment = hooks.as_ref().map(Hooks::environment);
        let java = self.java.then(|| StartHook::create(&tree.hook_directory)).transpose();
        let java = java.map_err(system("writing the JVM's agent"))?;
        let java_environment = java.as_ref().map(StartHook::environment);
        let (done, entered) = crossbeam_channel::bounded(1);
        let request = TreeRequest {
            tree: id,
            workload_id: workload_id.clone(),
            component: tree.component,
            root,
            command: tree.command,
            hooks,
            java,
            root_package_hash: tree.root_package_hash,
            done,
        };
        self.inputs.send(Input::AddTree(Box::new(request))).map_err(|_| AgentError::Ended)?;
        if !entered.recv().map_err(|_| AgentError::Ended)? {
            return Err(AgentError::Full);
        }
        Ok(Tree { id, workload_id, environment, java_environment, inputs: self.inputs.clone() })
    }

    /// Ends the agent: everything observed so far is delivered or spooled. Pinned programs go on watching, unless
    /// `unpin`.
    pub fn stop(mut self, unpin: bool) {
        if unpin && let Some(kernel) = &self.kernel {
            kernel.unpin();
        }
        self.end();
    }

    fn end(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let (done, ended) = crossbeam_channel::bounded(1);
        if self.inputs.send(Input::Stop { done }).is_ok()
            && ended.recv_timeout(self.stop_timeout * 2).is_err()
        {
            tracing::warn!("the agent did not end in time: what it held is read again at the next start");
            return;
        }
        for thread in [self.engine.take(), self.delivery.take(), self.waiting.take()].into_iter().flatten() {
            if thread.join().is_err() {
                tracing::error!("a thread of the agent panicked");
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.engine.is_some() {
            self.end();
        }
    }
}

/// A process tree to watch.
#[derive(Clone, Debug)]
pub struct TreeConfig {
    /// Whose it is.
    pub component: ComponentKey,
    /// Directory that the component's locations are relative to.
    pub root: PathBuf,
    /// Command line, for people.
    pub command: Vec<String>,
    /// Where hooks may be written, if they are needed; must be reachable by the command's user.
    pub hook_directory: PathBuf,
    /// Hash of the packages below the root, as in scan.artifacts; empty if not known, and then nothing of the
    /// component can count as unused once it was scanned.
    pub root_package_hash: String,
}

/// A process tree under watch.
pub struct Tree {
    id: u64,
    workload_id: String,
    environment: Option<HookEnvironment>,
    java_environment: Option<JavaEnvironment>,
    inputs: Sender<Input>,
}

impl Tree {
    /// Identity of its workload.
    pub fn workload_id(&self) -> &str {
        &self.workload_id
    }

    /// Starts the command. It is watched from its first exec: the forked child waits until it is registered.
    ///
    /// # Errors
    /// If it cannot be started or registered.
    pub fn spawn(&self, mut command: Command) -> std::io::Result<Child> {
        if let Some(reason) =
            self.environment.as_ref().and_then(|environment| environment.apply(&mut command))
        {
            tracing::warn!(reason, "the hooks are left out");
            // Closed: the agent has ended.
            let _ = self.inputs.send(Input::LeftOut { tree: self.id, reason });
        }
        if let Some(environment) = &self.java_environment {
            environment.apply(&mut command);
        }
        let (mut announced, announce) = std::io::pipe()?;
        let (go, mut allow) = std::io::pipe()?;
        let (inputs, tree) = (self.inputs.clone(), self.id);
        // `spawn` returns only after the exec, so someone else must let the child go on.
        let registrar = std::thread::Builder::new().name("registrar".into()).spawn(move || {
            let mut pid = [0_u8; 4];
            // End of file: the fork failed.
            if announced.read_exact(&mut pid).is_err() {
                return;
            }
            let (done, tracked) = crossbeam_channel::bounded(1);
            let pid = u32::from_ne_bytes(pid);
            let watched = inputs.send(Input::TrackProcess { tree, pid, done }).is_ok()
                && tracked.recv_timeout(REGISTER_TIMEOUT).unwrap_or(false);
            // The child is gone if this fails.
            let _ = allow.write_all(&[u8::from(watched)]);
        })?;
        let (announce_child, go_child) = (announce.try_clone()?, go.try_clone()?);
        // SAFETY: between fork and exec only system calls on descriptors that are open in both processes.
        unsafe {
            command.pre_exec(move || {
                let pid = rustix::process::getpid().as_raw_nonzero().get();
                rustix::io::write(&announce_child, &pid.to_ne_bytes())?;
                let mut answer = [0_u8];
                match rustix::io::read(&go_child, &mut answer)? {
                    1 if answer[0] == 1 => Ok(()),
                    _ => Err(std::io::Error::from_raw_os_error(rustix::io::Errno::BUSY.raw_os_error())),
                }
            });
        }
        let child = command.spawn();
        if let (Some(_), Ok(child)) = (&self.environment, &child) {
            // No hook is in a static program, and it may have ended by now: then its name must do.
            let path = procfs::executable(child.id()).or_else(|| program_of(&command));
            if let Some(path) = path {
                // Closed: the agent has ended.
                let _ = self.inputs.send(Input::Executed { tree: self.id, pid: child.id(), path });
            }
        }
        // Lets the registrar see the end if the fork failed.
        drop(announce);
        drop(command);
        if registrar.join().is_err() {
            tracing::error!("the registrar panicked");
        }
        child
    }
}

/// The program of a command as the system finds it, without a leading slash.
fn program_of(command: &Command) -> Option<Vec<u8>> {
    let real = std::fs::canonicalize(file_of(command, command.get_program())?).ok()?;
    Some(real.as_os_str().as_bytes().strip_prefix(b"/")?.to_vec())
}

/// Where hooks are written when nothing better is known: below the system's directory for temporary files.
pub fn default_hook_directory() -> PathBuf {
    std::env::temp_dir()
}

impl TreeConfig {
    /// A tree of `component` with its root at `root`.
    pub fn new(component: ComponentKey, root: &Path, command: Vec<String>) -> Self {
        Self {
            component,
            root: root.to_owned(),
            command,
            hook_directory: default_hook_directory(),
            root_package_hash: String::new(),
        }
    }
}
