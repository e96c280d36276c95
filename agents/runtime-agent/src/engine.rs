//! The agent's one thread of state: reads the kernel and the hooks, keeps the workloads, and hands out batches.
//! It must never wait for anything but its own clock: docker, resolver and broker have threads of their own.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use plimsoll_kit::clock::now_ms;
use plimsoll_schemas::event::Stamper;
use plimsoll_schemas::events::{PackageOwnership, RuntimeAlert, RuntimeWorkload, UsageItem};
use plimsoll_schemas::identity::ComponentKey;
use plimsoll_schemas::resolver_protocol::PathQuery;
use plimsoll_schemas::words::{mount, probe, usage_kind, workload_kind};

use crate::alerts;
use crate::config::AgentConfig;
use crate::ebpf::Kernel;
use crate::ebpf::event::{FileAction, FileEvent, KernelEvent};
use crate::ebpf::wire::{TRACKED_CONTAINER, Tracked, WorkloadEntry, text, workload_flag};
use crate::hooks::Hooks;
use crate::identity::{self, IdentifyReply, IdentifyRequest, container};
use crate::observe::{observe, reader_of};
use crate::output::{Batch, OutputLosses, RuntimeEvent};
use crate::procfs;
use crate::resolver::{
    OpenRoot, QUESTION_MAX_BYTES, QUESTION_MAX_PATHS, Resolver, ResolverAnswer, ResolverCommand,
    open_directory,
};
use crate::rules::{self, ExecFacts};
use crate::sweep::{self, Reader};
use crate::workload::{
    ArtifactView, ExecContext, Identity, NO_POSITION, PendingItem, Watch, Workload, WorkloadKind,
};

/// Wait between two looks at the ring buffer.
const TICK: Duration = Duration::from_millis(20);
/// Records taken from the ring buffer between two looks at everything else.
const DRAIN_MAX_RECORDS: usize = 20_000;
/// Program images that are remembered, for the parents of execs.
const IMAGES_MAX: usize = 32_768;
/// How long uses wait for the resolver, in milliseconds.
const RESOLVE_MAX_MS: i64 = 2_000;
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
    /// A program was executed: look at once.
    Wake,
    /// A process tree is to be watched.
    AddTree(TreeRequest),
    /// A process of a tree, before its first exec; answered once it is watched.
    TrackProcess { tree: u64, pid: u32, done: Sender<bool> },
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
    pub root_package_hash: String,
    pub done: Sender<bool>,
}

struct Image {
    executable: Vec<u8>,
    arguments: Vec<String>,
    reader: Reader,
}

struct Awaiting {
    workload: u64,
    items: Vec<(usize, PendingItem)>,
    deadline_ms: i64,
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
    inputs: Receiver<Input>,
    identify: Option<Sender<IdentifyRequest>>,
    resolver: Option<Resolver>,
    batches: Sender<Batch>,
    output_losses: OutputLosses,
    stamper: Stamper,
    boot_time_ms: i64,
    images: HashMap<u64, Image>,
    image_order: VecDeque<u64>,
    workloads: HashMap<u64, Workload>,
    roots: HashMap<u64, Root>,
    hooks: Vec<(u64, Hooks)>,
    awaiting: HashMap<u64, Awaiting>,
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
            config: parts.config,
            kernel: parts.kernel,
            unavailable: parts.unavailable,
            inputs: parts.inputs,
            identify: parts.identify,
            resolver: parts.resolver,
            batches: parts.batches,
            output_losses: parts.output_losses,
            boot_time_ms: procfs::boot_time_ms(),
            images: HashMap::new(),
            image_order: VecDeque::new(),
            workloads: HashMap::new(),
            roots: HashMap::new(),
            hooks: Vec::new(),
            awaiting: HashMap::new(),
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
            for mapping in procfs::mappings(pid) {
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
                    self.ready(awaiting.workload, awaiting.items, answer.entries);
                }
            }
            Input::AddTree(request) => self.add_tree(request),
            Input::TrackProcess { tree, pid, done } => {
                for (_, hooks) in self.hooks.iter_mut().filter(|(of, _)| *of == tree) {
                    hooks.set_first_process(pid);
                }
                let tracked = Tracked { workload: tree, ..Tracked::default() };
                let watched = self.kernel.as_ref().is_none_or(|kernel| kernel.track(pid, &tracked));
                let _ = done.send(watched);
            }
            // The loop looks after every input, and handles the end.
            Input::Wake | Input::Stop { .. } => {}
        }
    }

    // ---- events ----

    /// Reads what is there; `true` if there is more.
    fn drain(&mut self) -> bool {
        for (tree, hooks) in &mut self.hooks {
            let Some(workload) = self.workloads.get_mut(tree) else { continue };
            hooks.observe(workload, self.stamper.boot_id());
        }
        let Some(kernel) = self.kernel.clone() else {
            let now = now_ms();
            self.workloads.values_mut().for_each(|workload| workload.observed_until(now));
            return false;
        };
        // The way out is full: what is not read stays safe in the ring buffer.
        if self.batches.is_full() {
            return false;
        }
        let started_ms = now_ms();
        let mut records = 0;
        let mut begin = self.read_position;
        let end = kernel.drain(|event, position| {
            match event {
                Some(KernelEvent::File(event)) => self.on_file(&kernel, *event, begin),
                Some(KernelEvent::Empty { workload, .. }) => {
                    if let Some(workload) = self.workloads.get_mut(&workload) {
                        workload.changed = true;
                    }
                }
                None => tracing::error!("a record of the ring buffer is not readable"),
            }
            begin = position;
            records += 1;
            records < DRAIN_MAX_RECORDS
        });
        self.read_position = end.max(begin);
        let more = records >= DRAIN_MAX_RECORDS;
        if !more {
            self.workloads.values_mut().for_each(|workload| workload.observed_until(started_ms));
        }
        more
    }

    fn on_file(&mut self, kernel: &Kernel, event: FileEvent, position: u64) {
        if !self.workloads.contains_key(&event.workload) {
            let Some(entry) = kernel.workload(event.workload) else { return };
            if entry.flags & workload_flag::IGNORED != 0 || !self.add_container(event.workload, &entry) {
                return;
            }
        }
        let time_ms = self.boot_time_ms + i64::try_from(event.time_ns / 1_000_000).unwrap_or(0);
        let judged = if event.action == FileAction::Exec {
            self.on_exec(kernel, &event, time_ms)
        } else {
            self.images.get(&event.exec_id).map(|image| image.reader)
        };
        let reader = reader_of(&event, judged);
        let exec =
            (event.action == FileAction::Exec && !event.resync).then(|| self.exec_context(&event, time_ms));
        if let Some(exec) = exec.as_deref() {
            self.judge_shell(&event, exec);
        }
        let process = self.images.get(&event.exec_id).map_or_else(
            || event.comm.clone(),
            |image| String::from_utf8_lossy(&image.executable).into_owned(),
        );
        let Some(workload) = self.workloads.get_mut(&event.workload) else { return };
        if event.truncated {
            let boot = self.stamper.boot_id().to_owned();
            *workload.losses.entry((probe::EBPF_FILES.to_owned(), boot)).or_default() += 1;
            workload.changed = true;
        }
        let probe = if event.resync { probe::RESYNC } else { probe::EBPF_FILES };
        match observe(&event, reader) {
            Some(observation) => workload.add(observation, probe, process, time_ms, position, exec),
            None if event.outside => {
                let Some(exec) = exec else { return };
                let artifact = workload.artifacts.first().cloned();
                self.judge_program(event.workload, artifact, &event.path, &exec, mount::OTHER, None);
            }
            None => {}
        }
    }

    fn on_exec(&mut self, kernel: &Kernel, event: &FileEvent, time_ms: i64) -> Option<Reader> {
        if event.resync {
            return self.images.get(&event.exec_id).map(|image| image.reader);
        }
        let reader = sweep::judge(&event.path, &event.arguments);
        if event.command_hash != 0 {
            kernel.set_verdict(event.command_hash, reader.class());
        }
        self.remember(
            event.exec_id,
            Image { executable: event.path.clone(), arguments: event.arguments.clone(), reader },
        );
        if let Some(workload) = self.workloads.get_mut(&event.workload)
            && workload.base.command.is_empty()
        {
            workload.base.command = event.arguments.iter().take(64).map(|part| cut(part, 1_024)).collect();
            workload.base.started_at_ms = workload.base.started_at_ms.min(time_ms);
            workload.changed = true;
        }
        if !self.roots.contains_key(&event.workload) && event.workload & TREE_ID == 0 {
            self.open_root(event.workload, event.pid);
        }
        Some(reader)
    }

    fn remember(&mut self, exec_id: u64, image: Image) {
        if self.images.insert(exec_id, image).is_none() {
            self.image_order.push_back(exec_id);
        }
        while self.image_order.len() > IMAGES_MAX {
            if let Some(oldest) = self.image_order.pop_front() {
                self.images.remove(&oldest);
            }
        }
    }

    fn exec_context(&self, event: &FileEvent, time_ms: i64) -> Box<ExecContext> {
        let (parent_executable, parent_arguments) = match self.images.get(&event.parent_exec_id) {
            Some(image) => (image.executable.clone(), image.arguments.clone()),
            // Watched, but by an agent before this one.
            None if event.parent_exec_id != 0 => (
                procfs::executable(event.parent_pid).unwrap_or_default(),
                procfs::command_line(event.parent_pid),
            ),
            None => (Vec::new(), Vec::new()),
        };
        Box::new(ExecContext {
            pid: event.pid,
            parent_pid: event.parent_pid,
            arguments: event.arguments.clone(),
            parent_executable,
            parent_arguments,
            user_id: procfs::user_id(event.pid).unwrap_or(0),
            started_at_ms: time_ms,
            outside: event.outside,
        })
    }

    fn judge_shell(&mut self, event: &FileEvent, exec: &ExecContext) {
        if !rules::is_shell(&event.path, &event.arguments) || exec.parent_executable.is_empty() {
            return;
        }
        let facts = ExecFacts {
            executable: &event.path,
            arguments: &exec.arguments,
            parent_executable: &exec.parent_executable,
            parent_arguments: &exec.parent_arguments,
            parent_listens: procfs::listens(event.parent_pid),
            ..ExecFacts::default()
        };
        if let Some(risk) = rules::shell_from_server(&facts) {
            self.raise(event.workload, None, &event.path, exec, risk, "");
        }
    }

    fn judge_program(
        &mut self,
        workload: u64,
        artifact: Option<ArtifactView>,
        path: &[u8],
        exec: &ExecContext,
        mount: &str,
        ownership: Option<&PackageOwnership>,
    ) {
        let from_image = artifact.as_ref().is_some_and(|artifact| artifact.key.starts_with("image/"))
            || artifact.is_none() && workload & TREE_ID == 0;
        let facts = ExecFacts {
            executable: path,
            arguments: &exec.arguments,
            outside: exec.outside,
            other_mount: mount == mount::OTHER,
            from_image,
            drift: ownership.map_or("", |ownership| ownership.drift.as_str()),
            parent_executable: &exec.parent_executable,
            parent_arguments: &exec.parent_arguments,
            parent_listens: false,
        };
        if let Some(risk) = rules::program_not_in_image(&facts) {
            let identity = ownership.map_or("", |ownership| ownership.file_identity.as_str());
            self.raise(workload, artifact, path, exec, risk, identity);
        }
    }

    fn raise(
        &mut self,
        workload: u64,
        artifact: Option<ArtifactView>,
        path: &[u8],
        exec: &ExecContext,
        risk: rules::Risk,
        file_identity: &str,
    ) {
        let Some(known) = self.workloads.get_mut(&workload) else { return };
        let alert = alerts::build(known, artifact, path, exec, risk, file_identity);
        if self.alerts.is_new(&alert) {
            known.alerts.push(alert);
        }
    }

    // ---- workloads ----

    /// Enters a container that the kernel watches; `false` if it is none and to be passed over.
    fn add_container(&mut self, id: u64, entry: &WorkloadEntry) -> bool {
        let Some(kernel) = self.kernel.clone() else { return false };
        let found = container::container_id(&text(&entry.cgroup_name), &text(&entry.cgroup_parent));
        let Some(container_id) = found else {
            tracing::debug!(cgroup = text(&entry.cgroup_name), "not a container: passed over");
            kernel.ignore_workload(id);
            return false;
        };
        let first_ms = self.boot_time_ms + i64::try_from(entry.first_exec_ns / 1_000_000).unwrap_or(0);
        let base = RuntimeWorkload {
            kind: workload_kind::CONTAINER.to_owned(),
            container_id: container_id.clone(),
            started_at_ms: first_ms,
            ..self.base()
        };
        let id_on_wire = format!("{}/{container_id}", self.config.node_id);
        let mut workload =
            Workload::new(id_on_wire, WorkloadKind::Container(container_id.clone()), base, now_ms());
        let from_first_exec = entry.flags & workload_flag::FROM_FIRST_EXEC != 0;
        workload.watches.push(Watch {
            probe: probe::EBPF_FILES,
            boot_id: kernel.instance_id().to_owned(),
            from_ms: first_ms,
            until_ms: first_ms,
            from_first_exec,
        });
        if !from_first_exec {
            let now = now_ms();
            workload.watches.push(Watch {
                probe: probe::RESYNC,
                boot_id: kernel.instance_id().to_owned(),
                from_ms: now,
                until_ms: now,
                from_first_exec: false,
            });
        }
        workload.unavailable.clone_from(&self.unavailable);
        workload.set_loss(probe::EBPF_FILES, kernel.instance_id(), entry.lost + kernel.unassigned_losses());
        self.workloads.insert(id, workload);
        if entry.first_pid != 0 {
            self.open_root(id, entry.first_pid);
        }
        self.ask_identity(id);
        true
    }

    fn base(&self) -> RuntimeWorkload {
        RuntimeWorkload {
            node_id: self.config.node_id.clone(),
            node_name: self.config.node_name.clone(),
            boot_id: self.stamper.boot_id().to_owned(),
            ..RuntimeWorkload::default()
        }
    }

    fn ask_identity(&mut self, id: u64) {
        let Some(workload) = self.workloads.get_mut(&id) else { return };
        let WorkloadKind::Container(container_id) = &workload.kind else { return };
        let container_id = container_id.clone();
        let late = matches!(workload.identity, Identity::Unidentified(_));
        workload.attempts += 1;
        self.next_identify_ms.insert(id, now_ms() + IDENTIFY_RETRY_MS[usize::from(late)]);
        match &self.identify {
            Some(requests) => {
                identity::ask(requests, IdentifyRequest { workload: id, container_id });
            }
            None => {
                let reason = "no container runtime is configured; set docker.endpoint".to_owned();
                self.identified(IdentifyReply { workload: id, facts: Err(reason) });
            }
        }
    }

    fn identified(&mut self, reply: IdentifyReply) {
        let id = reply.workload;
        let Some(workload) = self.workloads.get_mut(&id) else { return };
        if workload.identity == Identity::Known {
            return;
        }
        match reply.facts {
            Ok(facts) => {
                if let Some((label, value)) = &self.config.only_label
                    && facts.labels.get(label) != Some(value)
                {
                    self.pass_over(id);
                    return;
                }
                let label = |name: &str| facts.labels.get(name).cloned().unwrap_or_default();
                let base = &mut workload.base;
                base.application = label("plimsoll.application");
                base.component = label("plimsoll.component");
                base.component_version = label("plimsoll.version");
                base.pod_name = label("io.kubernetes.pod.name");
                base.pod_namespace = label("io.kubernetes.pod.namespace");
                if !base.pod_name.is_empty() {
                    base.kind = workload_kind::POD_CONTAINER.to_owned();
                }
                base.container_name = facts.name;
                base.image_name = facts.image_name;
                base.image_aliases = facts.aliases;
                base.sandboxed = facts.sandboxed;
                base.labels = facts.labels.into_iter().take(crate::workload::LABELS_MAX).collect();
                workload.identified(vec![ArtifactView {
                    key: format!("image/{}", facts.config_digest),
                    root: Vec::new(),
                }]);
                self.next_identify_ms.remove(&id);
                self.announce_root(id);
            }
            Err(reason) => {
                let now = now_ms();
                let expired = now - workload.first_seen_ms >= self.config.identify_timeout_ms;
                if workload.identity == Identity::Pending && expired {
                    if self.config.only_label.is_some() {
                        tracing::warn!(workload = workload.id, reason, "a container could not be told apart");
                        self.pass_over(id);
                        return;
                    }
                    let WorkloadKind::Container(container_id) = &workload.kind else { return };
                    let key = format!("unidentified/{}/{container_id}", self.config.node_id);
                    workload.unidentified(key, reason);
                }
            }
        }
    }

    fn pass_over(&mut self, id: u64) {
        self.workloads.remove(&id);
        self.roots.remove(&id);
        self.next_identify_ms.remove(&id);
        if let Some(kernel) = &self.kernel {
            kernel.ignore_workload(id);
        }
    }

    fn add_tree(&mut self, request: TreeRequest) {
        let now = now_ms();
        let key = &request.component;
        let base = RuntimeWorkload {
            kind: workload_kind::PROCESS.to_owned(),
            application: key.application().to_owned(),
            component: key.component().to_owned(),
            component_version: key.version().to_owned(),
            root_package_hash: request.root_package_hash.clone(),
            command: request.command.iter().take(64).map(|part| cut(part, 1_024)).collect(),
            started_at_ms: now,
            ..self.base()
        };
        let mut workload = Workload::new(request.workload_id, WorkloadKind::Tree, base, now);
        let root = request.root.as_os_str().as_encoded_bytes();
        workload.identified(vec![
            ArtifactView {
                key: format!("component/{key}"),
                root: root.strip_prefix(b"/").unwrap_or(root).to_vec(),
            },
            ArtifactView { key: format!("host/{}", self.config.node_id), root: Vec::new() },
        ]);
        let mut watch = |probe: &'static str, boot_id: &str| {
            workload.watches.push(Watch {
                probe,
                boot_id: boot_id.to_owned(),
                from_ms: now,
                until_ms: now,
                from_first_exec: true,
            });
        };
        let mut entered = true;
        match &self.kernel {
            Some(kernel) => {
                watch(probe::EBPF_FILES, kernel.instance_id());
                let entry = WorkloadEntry {
                    first_exec_ns: procfs::since_boot_ns(),
                    flags: workload_flag::TREE | workload_flag::FROM_FIRST_EXEC,
                    ..WorkloadEntry::default()
                };
                entered = kernel.put_workload(request.tree, &entry);
            }
            // Each hook says for itself when it is at work.
            None => {}
        }
        workload.unavailable.clone_from(&self.unavailable);
        self.workloads.insert(request.tree, workload);
        if let Some(hooks) = request.hooks {
            self.hooks.push((request.tree, hooks));
        }
        self.announce_tree(request.tree, &request.root);
        let _ = request.done.send(entered);
    }

    // ---- roots, for the resolver ----

    fn open_root(&mut self, id: u64, pid: u32) {
        if self.resolver.is_none() {
            return;
        }
        let Some(directory) = open_directory(&PathBuf::from(format!("/proc/{pid}/root"))) else { return };
        let overlay = procfs::overlay(pid).unwrap_or_default();
        let upper = open_directory(&overlay.upper);
        self.roots.insert(id, Root { directory, upper, lowers: overlay.lowers });
        self.announce_root(id);
    }

    fn announce_root(&mut self, id: u64) {
        let (Some(resolver), Some(workload), Some(root)) =
            (&self.resolver, self.workloads.get(&id), self.roots.get(&id))
        else {
            return;
        };
        let Some(artifact) = workload.artifacts.first() else { return };
        let Ok(directory) = root.directory.try_clone() else { return };
        resolver.send(ResolverCommand::Open(OpenRoot {
            artifact: artifact.key.clone(),
            workload_id: workload.id.clone(),
            root: directory,
            upper: root.upper.as_ref().and_then(|upper| upper.try_clone().ok()),
            lowers: root.lowers.clone(),
            component: false,
        }));
    }

    fn announce_tree(&self, id: u64, root: &std::path::Path) {
        let (Some(resolver), Some(workload)) = (&self.resolver, self.workloads.get(&id)) else { return };
        for (artifact, path) in workload.artifacts.iter().zip([root, std::path::Path::new("/")]) {
            let Some(directory) = open_directory(path) else { continue };
            resolver.send(ResolverCommand::Open(OpenRoot {
                artifact: artifact.key.clone(),
                workload_id: workload.id.clone(),
                root: directory,
                upper: None,
                lowers: Vec::new(),
                component: artifact.key.starts_with("component/"),
            }));
        }
    }

    fn close_roots(&self, workload: &Workload) {
        let Some(resolver) = &self.resolver else { return };
        for artifact in &workload.artifacts {
            resolver.send(ResolverCommand::Close {
                artifact: artifact.key.clone(),
                workload_id: workload.id.clone(),
            });
        }
    }

    // ---- time ----

    fn tick(&mut self) {
        let now = now_ms();
        if now - self.last_poll_ms >= POLL_MS || now < self.last_poll_ms {
            self.last_poll_ms = now;
            self.poll(now);
        }
        if self.last_epoch.elapsed() >= self.config.epoch {
            self.last_epoch = Instant::now();
            self.resync();
        }
        if self.last_flush.elapsed() >= self.config.flush_interval {
            self.flush(now);
        }
    }

    /// Looks for losses, ends, and identities that are due.
    fn poll(&mut self, now: i64) {
        self.boot_time_ms = procfs::boot_time_ms();
        let due: Vec<u64> =
            self.next_identify_ms.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.next_identify_ms.remove(&id);
            if self.workloads.get(&id).is_some_and(|workload| workload.attempts < IDENTIFY_MAX_ATTEMPTS) {
                self.ask_identity(id);
            }
        }
        let lost = std::mem::take(
            &mut *self.output_losses.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        let boot_id = self.stamper.boot_id().to_owned();
        for workload in self.workloads.values_mut() {
            if let Some(lost) = lost.get(&workload.id) {
                for watch in workload.watches.clone() {
                    *workload.losses.entry((watch.probe.to_owned(), boot_id.clone())).or_default() += lost;
                }
                workload.changed = true;
            }
        }
        let Some(kernel) = self.kernel.clone() else { return };
        let unassigned = kernel.unassigned_losses();
        let mut losers = Vec::new();
        for (id, workload) in &mut self.workloads {
            let entry_lost = kernel.workload(*id).map_or(0, |entry| entry.lost);
            if workload.set_loss(probe::EBPF_FILES, kernel.instance_id(), entry_lost + unassigned) {
                losers.push(*id);
            }
        }
        if !losers.is_empty() && now - self.last_resync_ms >= RESYNC_AFTER_LOSS_MS {
            tracing::warn!(workloads = losers.len(), "events were lost: looking again at what runs");
            losers.iter().for_each(|id| kernel.forget(*id));
            self.resync();
        }
        let live = kernel.live_workloads();
        for (id, entry) in kernel.workloads() {
            // What was passed over and is gone makes room.
            if entry.flags & workload_flag::IGNORED != 0
                && entry.processes <= 0
                && !self.workloads.contains_key(&id)
            {
                kernel.remove_workload(id);
            }
        }
        let ended: Vec<u64> = self
            .workloads
            .iter()
            .filter(|(id, workload)| {
                **id & TREE_ID == 0 && !live.contains(*id) && workload.base.stopped_at_ms == 0
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            // Read everything of it before its end is told.
            if let Some(workload) = self.workloads.get_mut(&id) {
                workload.base.stopped_at_ms = now;
                workload.changed = true;
            }
        }
    }

    /// Hands out what is new.
    fn flush(&mut self, now: i64) {
        self.last_flush = Instant::now();
        if self.batches.is_full() {
            return;
        }
        let ids: Vec<u64> = self.workloads.keys().copied().collect();
        for id in &ids {
            self.flush_workload(*id, now);
        }
        let overdue: Vec<u64> = self
            .awaiting
            .iter()
            .filter(|(_, awaiting)| awaiting.deadline_ms <= now)
            .map(|(request, _)| *request)
            .collect();
        for request in overdue {
            if let Some(awaiting) = self.awaiting.remove(&request) {
                self.ready(awaiting.workload, awaiting.items, Vec::new());
            }
        }
        for id in ids {
            self.retire(id);
        }
        let acknowledge = self.safe_position(now);
        if self.outgoing.is_empty() && acknowledge == self.acknowledged {
            return;
        }
        self.acknowledged = acknowledge;
        let events = std::mem::take(&mut self.outgoing);
        if self.batches.send(Batch { events, acknowledge }).is_err() {
            tracing::error!("the delivering thread is gone: events are lost");
        }
    }

    fn flush_workload(&mut self, id: u64, now: i64) {
        let Some(workload) = self.workloads.get_mut(&id) else { return };
        let due = now - workload.published_at_ms >= self.config.republish_interval_ms;
        if (workload.changed || due) && workload.identity != Identity::Pending {
            workload.changed = false;
            workload.published_at_ms = now;
            let events = workload.events();
            for mut event in events {
                self.stamper.stamp(&mut event, now);
                self.outgoing.push(RuntimeEvent::Workload(event));
            }
        }
        if workload.identity == Identity::Pending {
            return;
        }
        let first = workload.artifacts.first().map(|artifact| artifact.key.clone()).unwrap_or_default();
        for mut alert in std::mem::take(&mut workload.alerts) {
            if alert.artifact.is_empty() {
                alert.artifact.clone_from(&first);
            }
            self.stamper.stamp(&mut alert, now);
            self.outgoing.push(RuntimeEvent::Alert(alert));
        }
        let items = workload.take_pending();
        if items.is_empty() {
            return;
        }
        let (asked, direct): (Vec<_>, Vec<_>) = match &self.resolver {
            Some(_) => items.into_iter().partition(|(_, pending)| pending.item.mount == mount::ROOT),
            None => (Vec::new(), items),
        };
        if !direct.is_empty() {
            self.ready(id, direct, Vec::new());
        }
        self.resolve(id, asked, now);
    }

    fn resolve(&mut self, id: u64, items: Vec<(usize, PendingItem)>, now: i64) {
        let (Some(resolver), Some(workload)) = (self.resolver.clone(), self.workloads.get(&id)) else {
            return;
        };
        let (workload_id, artifacts) = (workload.id.clone(), workload.artifacts.clone());
        let mut by_artifact: BTreeMap<usize, Vec<(usize, PendingItem)>> = BTreeMap::new();
        for item in items {
            by_artifact.entry(item.0).or_default().push(item);
        }
        for (index, items) in by_artifact {
            let mut rest = items.into_iter().peekable();
            while rest.peek().is_some() {
                let (mut chunk, mut size_bytes) = (Vec::new(), 0);
                while let Some(item) = rest.next_if(|(_, pending)| {
                    chunk.len() < QUESTION_MAX_PATHS
                        && (chunk.is_empty() || size_bytes + pending.item.path.len() <= QUESTION_MAX_BYTES)
                }) {
                    size_bytes += item.1.item.path.len();
                    chunk.push(item);
                }
                let paths = chunk
                    .iter()
                    .map(|(_, pending)| PathQuery { path: pending.item.path.clone(), inode: pending.inode })
                    .collect();
                let request_id = self.next_request;
                self.next_request += 1;
                let asked = resolver.send(ResolverCommand::Resolve {
                    request_id,
                    artifact: artifacts[index].key.clone(),
                    workload_id: workload_id.clone(),
                    paths,
                });
                if asked {
                    let deadline_ms = now + RESOLVE_MAX_MS;
                    self.awaiting.insert(request_id, Awaiting { workload: id, items: chunk, deadline_ms });
                } else {
                    self.ready(id, chunk, Vec::new());
                }
            }
        }
    }

    /// Items that can go out, with their owners as far as these are known.
    fn ready(&mut self, id: u64, items: Vec<(usize, PendingItem)>, entries: Vec<PackageOwnership>) {
        let mut by_artifact: BTreeMap<usize, Vec<UsageItem>> = BTreeMap::new();
        for (position, (index, mut pending)) in items.into_iter().enumerate() {
            let entry = entries.get(position).filter(|entry| entry.path == pending.item.path);
            if let Some(entry) = entry {
                pending.item.file_identity.clone_from(&entry.file_identity);
            }
            if let Some(exec) = pending.exec.take()
                && pending.item.kind == usage_kind::EXECUTABLE
            {
                let artifact =
                    self.workloads.get(&id).and_then(|workload| workload.artifacts.get(index).cloned());
                self.judge_program(id, artifact, &pending.item.path, &exec, &pending.item.mount, entry);
            }
            by_artifact.entry(index).or_default().push(pending.item);
        }
        let now = now_ms();
        let Some(workload) = self.workloads.get_mut(&id) else { return };
        for (index, items) in by_artifact {
            for mut event in workload.usage_events(index, items) {
                self.stamper.stamp(&mut event, now);
                self.outgoing.push(RuntimeEvent::Usage(event));
            }
        }
        let alerts: Vec<RuntimeAlert> = std::mem::take(&mut workload.alerts);
        let first = workload.artifacts.first().map(|artifact| artifact.key.clone()).unwrap_or_default();
        for mut alert in alerts {
            if alert.artifact.is_empty() {
                alert.artifact.clone_from(&first);
            }
            self.stamper.stamp(&mut alert, now);
            self.outgoing.push(RuntimeEvent::Alert(alert));
        }
    }

    /// Forgets a workload that ended and of which everything was handed out.
    fn retire(&mut self, id: u64) {
        let Some(workload) = self.workloads.get(&id) else { return };
        let busy = workload.base.stopped_at_ms == 0
            || workload.changed
            || workload.identity == Identity::Pending
            || !workload.pending.is_empty()
            || self.awaiting.values().any(|awaiting| awaiting.workload == id);
        if busy {
            return;
        }
        // A container that could not be identified yet may still be, while its runtime remembers it.
        let waits = matches!(workload.identity, Identity::Unidentified(_))
            && now_ms() - workload.base.stopped_at_ms < self.config.identify_timeout_ms;
        if waits {
            return;
        }
        if let Some(workload) = self.workloads.remove(&id) {
            self.close_roots(&workload);
        }
        self.roots.remove(&id);
        self.next_identify_ms.remove(&id);
        self.hooks.retain(|(tree, _)| *tree != id);
        if let Some(kernel) = &self.kernel {
            kernel.remove_workload(id);
        }
    }

    /// Up to where the ring buffer may be freed once what was handed out is safe.
    fn safe_position(&self, now: i64) -> u64 {
        let held = |pending: &PendingItem| {
            (now - pending.item.last_seen_ms <= HOLD_MAX_MS).then_some(pending.position)
        };
        let waiting = self.workloads.values().flat_map(|workload| workload.pending.iter().filter_map(held));
        let asked = self
            .awaiting
            .values()
            .flat_map(|awaiting| awaiting.items.iter().filter_map(|(_, item)| held(item)));
        waiting.chain(asked).fold(self.read_position, u64::min).max(self.acknowledged)
    }

    /// The end: everything that was observed goes out, trees are over, containers go on.
    fn finish(&mut self) {
        let deadline = Instant::now() + self.config.stop_timeout;
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
        self.poll(now);
        self.flush(now);
        let waits = |engine: &Self| {
            !engine.awaiting.is_empty()
                || engine.workloads.values().any(|workload| workload.identity == Identity::Pending)
        };
        while waits(self) && Instant::now() < deadline {
            match self.inputs.recv_timeout(TICK) {
                Ok(Input::Stop { done }) => {
                    let _ = done.send(());
                }
                Ok(input) => self.handle(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.drain();
            let now = now_ms();
            self.poll(now);
            self.flush(now);
        }
        for awaiting in std::mem::take(&mut self.awaiting).into_values() {
            self.ready(awaiting.workload, awaiting.items, Vec::new());
        }
        self.flush(now_ms());
    }
}

fn cut(text: &str, max_bytes: usize) -> String {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Enters containers that ran before the programs were attached. `attached_ns`: since boot; 0 before the attach.
pub fn register_running(kernel: &Kernel, attached_ns: u64) {
    let controller = procfs::cgroup_v1_controller();
    let Some(host) = procfs::host_mount_namespace() else { return };
    let mut seen = std::collections::HashSet::new();
    // Twice: a process that was not watched yet can have forked one that was passed already.
    for _ in 0..2 {
        for pid in procfs::processes() {
            let Some(mount_ns) = procfs::mount_namespace(pid).filter(|found| *found != host) else {
                continue;
            };
            if kernel.tracked(pid).is_some() {
                continue;
            }
            let Some(path) = procfs::cgroup_path(pid, controller) else { continue };
            let Some(name) = container::container_id_of_path(&path) else { continue };
            // A runtime's init, on its way to the container's first exec: the exec will be seen.
            if procfs::comm(pid).is_none_or(|comm| comm.starts_with("runc:[") || comm == "crun") {
                continue;
            }
            if attached_ns > 0 && procfs::started_ns(pid).is_none_or(|started| started > attached_ns) {
                continue;
            }
            let Some(id) = procfs::cgroup_id(&path, controller) else { continue };
            if seen.insert(id) {
                let known = kernel.workload(id);
                let mut entry = known.unwrap_or(WorkloadEntry {
                    first_exec_ns: procfs::since_boot_ns(),
                    first_pid: pid,
                    mount_ns,
                    ..WorkloadEntry::default()
                });
                // It ran before: nothing about its past is known.
                entry.flags &= !workload_flag::FROM_FIRST_EXEC;
                let bytes = name.as_bytes();
                entry.cgroup_name[..bytes.len()].copy_from_slice(bytes);
                entry.cgroup_name[bytes.len()..].fill(0);
                kernel.put_workload(id, &entry);
            }
            let executable = procfs::executable(pid).unwrap_or_default();
            let reader = sweep::judge(&executable, &procfs::command_line(pid));
            kernel.track(
                pid,
                &Tracked {
                    workload: id,
                    mount_ns,
                    flags: TRACKED_CONTAINER,
                    reader: reader.class(),
                    // An exec from here has a parent, though its image was not seen.
                    exec_id: u64::from(pid),
                    ..Tracked::default()
                },
            );
        }
    }
}

impl procfs::Mapping {
    /// The mapping as if the kernel had reported it.
    fn into_event(self, tracked: &Tracked, pid: u32) -> FileEvent {
        FileEvent {
            action: if self.executable { FileAction::Map } else { FileAction::Open },
            workload: tracked.workload,
            pid,
            parent_pid: 0,
            time_ns: 0,
            exec_id: tracked.exec_id,
            parent_exec_id: 0,
            reader: tracked.reader,
            command_hash: 0,
            mount_ns: tracked.mount_ns,
            device: 0,
            inode: self.inode,
            parent_inode: 0,
            change_time_ns: 0,
            comm: procfs::comm(pid).unwrap_or_default(),
            path: self.path,
            // Without the kernel's walk it is not known; the root is the rule.
            on_root_mount: true,
            outside: false,
            truncated: false,
            resync: true,
            arguments: Vec::new(),
        }
    }
}
