//! The agent's one thread of state: reads the kernel and the hooks, keeps the workloads, and hands out batches.
//! It must never wait for anything but its own clock: docker, resolver and broker have threads of their own.

mod copies;
mod handing_out;
mod inspecting;
mod java;
mod java_packages;
mod jvms;
mod observing;
mod processes;
mod roots;
mod run_on;
mod running;
mod scans;
mod workloads;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use plimsoll_kit::clock::now_ms;
use plimsoll_schemas::event::Stamper;
use plimsoll_schemas::identity::ComponentKey;
use plimsoll_schemas::words::probe;

use crate::alerts;
use crate::config::AgentConfig;
use crate::ebpf::Kernel;
use crate::ebpf::wire::{Tracked, workload_flag};
use crate::hooks::Hooks;
use crate::identity::{IdentifyReply, IdentifyRequest};
use crate::java::{StartHook, is_agent, is_jvm};
use crate::observe::observe;
use crate::output::{Batch, OutputLosses, RuntimeEvent};
use crate::procfs;
use crate::resolver::{Resolver, ResolverAnswer};
use crate::sweep::{self, Reader};
use crate::workload::{Identity, NO_POSITION, PendingItem, Workload};

pub use running::register_running;

/// Wait between two looks at the ring buffer.
const TICK: Duration = Duration::from_millis(20);
/// Records taken from the ring buffer between two looks at everything else.
const DRAIN_MAX_RECORDS: usize = 20_000;
/// Program images that are remembered, for the parents of execs.
const IMAGES_MAX: usize = 32_768;
/// How long uses wait for the resolver, in milliseconds: longer than its own deadline, so that what was modified is not
/// taken for the image's.
const RESOLVE_MAX_MS: i64 = 15_000;
/// Wait before a question without an answer is asked again, in milliseconds.
const RESOLVE_RETRY_MS: i64 = 5_000;
/// Questions about one item.
const RESOLVE_MAX_ATTEMPTS: u32 = 24;
/// Items that wait to be asked about again, and questions that are remembered.
const ASKED_MAX: usize = 20_000;
/// How long questions are remembered, in milliseconds.
const ASKED_MAX_MS: i64 = 60_000;
/// How long an item may hold back the ring buffer, in milliseconds.
const HOLD_MAX_MS: i64 = 3_000;
/// Wait between two attempts to identify a container, in milliseconds: at first, and once it was published unidentified.
const IDENTIFY_RETRY_MS: [i64; 2] = [250, 10_000];
/// Attempts for a container that stays unidentified.
const IDENTIFY_MAX_ATTEMPTS: u32 = 400;
/// Wait between two looks for what ended and what was lost, in milliseconds.
const POLL_MS: i64 = 250;
/// Least time between two resyncs after losses, in milliseconds.
const RESYNC_AFTER_LOSS_MS: i64 = 5_000;
/// Kernel ids of process trees have this bit; cgroup ids never.
pub const TREE_ID: u64 = 1 << 63;

/// What comes to the engine from other threads.
pub enum Input {
    /// Docker's answer.
    Identified(Box<IdentifyReply>),
    /// The resolver's answer.
    Owned(ResolverAnswer),
    /// The resolver is there again; it may have died with answers that it had not published.
    ResolverBack,
    /// A program was executed: look at once.
    Wake,
    /// A process tree is to be watched.
    AddTree(Box<TreeRequest>),
    /// A process of a tree, before its first exec; answered once it is watched.
    TrackProcess { tree: u64, pid: u32, done: Sender<bool> },
    /// A tree's first program gets none of the hooks, for this reason.
    LeftOut { tree: u64, reason: String },
    /// A tree's first program runs, under hooks; its path is without a leading slash.
    Executed { tree: u64, pid: u32, path: Vec<u8> },
    /// End: publish what is there; answered when all was handed out.
    Stop { done: Sender<()> },
}

/// A process tree to watch.
pub struct TreeRequest {
    pub tree: u64,
    pub workload_id: String,
    pub component: ComponentKey,
    /// Canonical directory that the component's locations are relative to.
    pub root: PathBuf,
    pub command: Vec<String>,
    pub hooks: Option<Hooks>,
    pub java: Option<StartHook>,
    pub root_package_hash: String,
    pub done: Sender<bool>,
}

struct Image {
    executable: Vec<u8>,
    arguments: Vec<String>,
    reader: Reader,
    /// What it loads is its own: a tool, or a package manager in front of an application.
    is_tool: bool,
}

impl Image {
    fn new(executable: Vec<u8>, arguments: Vec<String>, reader: Reader) -> Self {
        let is_tool = matches!(reader, Reader::Installer | Reader::Ignored)
            || !sweep::is_application(&executable, &arguments);
        Self { executable, arguments, reader, is_tool }
    }
}

struct Awaiting {
    workload: u64,
    items: Vec<(usize, PendingItem)>,
    /// Which question each item asks.
    query_of: Vec<usize>,
    deadline_ms: i64,
}

/// An item that was asked about, or is to be asked about again.
#[derive(Clone)]
struct Asked {
    at_ms: i64,
    workload: u64,
    index: usize,
    item: PendingItem,
}

struct Root {
    directory: OwnedFd,
    upper: Option<OwnedFd>,
    lowers: Vec<PathBuf>,
}

/// The engine's state.
pub struct Engine {
    config: AgentConfig,
    kernel: Option<Arc<Kernel>>,
    unavailable: BTreeMap<String, String>,
    /// The mount namespace in which it names files.
    mount_ns: Option<u32>,
    inputs: Receiver<Input>,
    identify: Option<Sender<IdentifyRequest>>,
    resolver: Option<Resolver>,
    batches: Sender<Batch>,
    output_losses: OutputLosses,
    stamper: Stamper,
    boot_time_ms: i64,
    started_ms: i64,
    images: HashMap<u64, Image>,
    image_order: VecDeque<u64>,
    workloads: HashMap<u64, Workload>,
    roots: HashMap<u64, Root>,
    hooks: Vec<(u64, Hooks)>,
    java: java::Java,
    inspector: Option<inspecting::Inspector>,
    awaiting: HashMap<u64, Awaiting>,
    /// Questions of the last minute, to be asked again if the resolver dies.
    asked: VecDeque<Asked>,
    /// Items whose owner could not be told so far.
    unresolved: VecDeque<Asked>,
    finishing: bool,
    /// Nobody is asked any more.
    closing: bool,
    next_request: u64,
    alerts: alerts::Seen,
    outgoing: Vec<RuntimeEvent>,
    /// Position behind what was read of the ring buffer.
    read_position: u64,
    acknowledged: u64,
    last_flush: Instant,
    last_poll_ms: i64,
    last_resync_ms: i64,
    last_epoch: Instant,
    next_identify_ms: HashMap<u64, i64>,
    scans: scans::Requested,
    processes: processes::Processes,
}

/// What the engine works with.
pub struct EngineParts {
    pub config: AgentConfig,
    pub kernel: Option<Arc<Kernel>>,
    pub unavailable: BTreeMap<String, String>,
    pub inputs: Receiver<Input>,
    pub identify: Option<Sender<IdentifyRequest>>,
    pub resolver: Option<Resolver>,
    pub batches: Sender<Batch>,
    pub output_losses: OutputLosses,
    pub boot_id: String,
}

impl Engine {
    /// An engine that has not looked yet.
    pub fn new(parts: EngineParts) -> Self {
        let now = now_ms();
        Self {
            stamper: Stamper::new(parts.config.producer_id.clone(), parts.boot_id),
            java: java::Java::new(parts.config.java.clone(), parts.config.only_label.is_some()),
            inspector: inspecting::Inspector::start(),
            config: parts.config,
            kernel: parts.kernel,
            unavailable: parts.unavailable,
            mount_ns: procfs::mount_namespace(std::process::id()),
            inputs: parts.inputs,
            identify: parts.identify,
            resolver: parts.resolver,
            batches: parts.batches,
            output_losses: parts.output_losses,
            boot_time_ms: procfs::boot_time_ms(),
            started_ms: now,
            images: HashMap::new(),
            image_order: VecDeque::new(),
            workloads: HashMap::new(),
            roots: HashMap::new(),
            hooks: Vec::new(),
            awaiting: HashMap::new(),
            asked: VecDeque::new(),
            unresolved: VecDeque::new(),
            finishing: false,
            closing: false,
            next_request: 1,
            alerts: alerts::Seen::default(),
            outgoing: Vec::new(),
            read_position: 0,
            acknowledged: 0,
            last_flush: Instant::now(),
            last_poll_ms: now,
            last_resync_ms: 0,
            last_epoch: Instant::now(),
            next_identify_ms: HashMap::new(),
            scans: scans::Requested::default(),
            processes: processes::Processes::default(),
        }
    }

    /// Works until it is stopped.
    pub fn run(mut self) {
        self.adopt();
        loop {
            let more = self.drain();
            let input = match self.inputs.recv_timeout(if more { Duration::ZERO } else { TICK }) {
                Ok(Input::Stop { done }) => {
                    self.finish();
                    // The caller may have given up waiting.
                    let _ = done.send(());
                    return;
                }
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    self.finish();
                    return;
                }
            };
            if let Some(input) = input {
                self.handle(input);
                while let Ok(input) = self.inputs.try_recv() {
                    if let Input::Stop { done } = input {
                        self.finish();
                        let _ = done.send(());
                        return;
                    }
                    self.handle(input);
                }
            }
            self.tick();
        }
    }

    /// Workloads that the pinned programs watched while no agent ran.
    fn adopt(&mut self) {
        let Some(kernel) = self.kernel.clone() else { return };
        for (id, entry) in kernel.workloads() {
            if entry.flags & (workload_flag::IGNORED | workload_flag::TREE) == 0 {
                self.add_container(id, &entry);
            }
        }
        self.recall_images(&kernel);
        // What was mapped before watching began, or while no agent answered a loss.
        self.resync();
    }

    fn resync(&mut self) {
        self.last_resync_ms = now_ms();
        let Some(kernel) = self.kernel.clone() else { return };
        if kernel.resync() {
            return;
        }
        for pid in procfs::processes() {
            let Some(tracked) = kernel.tracked(pid) else { continue };
            let time_ms = now_ms();
            let Some(workload) = self.workloads.get_mut(&tracked.workload) else { continue };
            for mapping in procfs::mappings(pid).into_iter().filter(|mapping| !is_agent(&mapping.path)) {
                if mapping.executable && is_jvm(&mapping.path) {
                    self.java.found(tracked.workload, pid);
                }
                let event = mapping.into_event(&tracked, pid);
                if let Some(observation) = observe(&event, Reader::Plain) {
                    workload.add(observation, probe::RESYNC, event.comm, time_ms, NO_POSITION, None);
                }
            }
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Identified(reply) => self.identified(*reply),
            Input::Owned(answer) => {
                if let Some(awaiting) = self.awaiting.remove(&answer.request_id) {
                    // As many answers as items again.
                    let entries = awaiting.query_of.iter().map(|query| answer.entries.get(*query).cloned());
                    let entries = entries.map(Option::unwrap_or_default).collect();
                    self.ready(awaiting.workload, awaiting.items, entries);
                }
            }
            Input::ResolverBack => self.ask_again(),
            Input::AddTree(request) => self.add_tree(*request),
            Input::TrackProcess { tree, pid, done } => {
                for (_, hooks) in self.hooks.iter_mut().filter(|(of, _)| *of == tree) {
                    hooks.set_first_process(pid);
                }
                let tracked = Tracked { workload: tree, ..Tracked::default() };
                let watched = self.kernel.as_ref().is_none_or(|kernel| kernel.track(pid, &tracked));
                let _ = done.send(watched);
            }
            Input::LeftOut { tree, reason } => {
                for (_, hooks) in self.hooks.iter_mut().filter(|(of, _)| *of == tree) {
                    hooks.left_out(&reason);
                }
            }
            Input::Executed { tree, pid, path } => {
                for (_, hooks) in self.hooks.iter_mut().filter(|(of, _)| *of == tree) {
                    hooks.executed(pid, &path);
                }
            }
            // The loop looks after every input, and handles the end.
            Input::Wake | Input::Stop { .. } => {}
        }
    }

    fn tick(&mut self) {
        let now = now_ms();
        self.inspect();
        if now - self.last_poll_ms >= POLL_MS || now < self.last_poll_ms {
            self.last_poll_ms = now;
            self.poll(now);
        }
        if self.last_epoch.elapsed() >= self.config.epoch {
            self.last_epoch = Instant::now();
            if let Some(kernel) = &self.kernel {
                let live = kernel.live_images();
                self.workloads.values_mut().for_each(|workload| workload.repeat_modules(&live, now));
            }
            self.resync();
        }
        if self.last_flush.elapsed() >= self.config.flush_interval {
            self.flush(now);
        }
    }

    /// Waits a tick for what comes while it ends; `false` if nothing can come any more.
    fn take_input(&mut self) -> bool {
        match self.inputs.recv_timeout(TICK) {
            Ok(Input::Stop { done }) => {
                let _ = done.send(());
            }
            Ok(input) => self.handle(input),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// The end: everything that was observed goes out, trees are over, containers go on.
    fn finish(&mut self) {
        self.finishing = true;
        let deadline = Instant::now() + self.config.stop_timeout;
        // Of a process that the hooks and JVMs first hear of now, the next look tells whether it ended without a last word.
        self.drain();
        self.see_trees_end();
        while self.drain() && Instant::now() < deadline {
            self.flush(now_ms());
        }
        let now = now_ms();
        for (id, workload) in &mut self.workloads {
            if id & TREE_ID != 0 && workload.base.stopped_at_ms == 0 {
                workload.base.stopped_at_ms = now;
                workload.changed = true;
            }
            workload.changed = true;
        }
        self.inspect_to_the_end();
        self.poll(now);
        self.hold_back_unresolved();
        self.flush(now);
        let waits = |engine: &Self| {
            !engine.awaiting.is_empty()
                || engine.workloads.values().any(|workload| workload.identity == Identity::Pending)
        };
        while waits(self) && Instant::now() < deadline {
            if !self.take_input() {
                break;
            }
            self.drain();
            let now = now_ms();
            self.poll(now);
            self.flush(now);
        }
        self.closing = true;
        self.leave_containers();
        self.give_up_copies(None);
        // What was not answered in time goes out without owners; the flush asks for what that holds back.
        self.hold_back_unresolved();
        self.flush(now_ms());
        for awaiting in std::mem::take(&mut self.awaiting).into_values() {
            self.ready(awaiting.workload, awaiting.items, Vec::new());
        }
        self.flush(now_ms());
    }
}
