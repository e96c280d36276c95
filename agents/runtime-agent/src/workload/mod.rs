//! One workload as the agent knows it, and the events that say so.
//! It must never publish a use before it knows the artifact, nor forget one that waits for it.

mod copies;
mod events;
mod learned;
mod observed;
mod run_on;
mod scripts;
mod tools;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use plimsoll_schemas::events::{RuntimeAlert, RuntimeWorkload, UsageItem};
use plimsoll_schemas::words::{
    archive_elsewhere, classes_within, copied_file_of, java_package_of, possible_copy_of, probe,
};

use crate::observe::{Observation, Origin, below};

use copies::Copies;
use learned::Learned;

pub use copies::ToAsk;
pub use learned::noted_id;
pub use observed::{ObservedKey, ObservedNumbers};
pub use run_on::RunOn;
pub use scripts::{Look, Script};

/// Most items that wait for a workload's identity; later ones count as lost.
pub const HELD_MAX_ITEMS: usize = 50_000;
/// Most modules of a workload that are reported again each epoch.
pub const MODULES_MAX: usize = 20_000;
/// Most labels of a container in an event.
pub const LABELS_MAX: usize = 64;

/// What a workload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkloadKind {
    /// A container, by its id in its runtime.
    Container(String),
    /// A process tree that was registered.
    Tree,
}

/// Whether it is known what runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Asked for.
    Pending,
    /// Known.
    Known,
    /// Not to be had so far, with the reason.
    Unidentified(String),
}

/// An artifact of a workload, and which paths are its.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactView {
    /// Artifact key.
    pub key: String,
    /// Root directory in the mount namespace, without slashes at its ends; paths below it are the artifact's.
    pub root: Vec<u8>,
}

/// Position of an item that does not come from the ring buffer: it holds nothing back.
pub const NO_POSITION: u64 = u64::MAX;

/// One item on its way.
#[derive(Clone, Debug)]
pub struct PendingItem {
    /// Path from the mount namespace's root.
    pub path: Vec<u8>,
    /// The item; its path is set once the artifact is known.
    pub item: UsageItem,
    /// Inode as the workload sees it.
    pub inode: u64,
    pub origin: Origin,
    /// Where its event begins in the ring buffer, which is not to be freed before it is published.
    pub position: u64,
    /// Times that its owner was asked for.
    pub attempts: u32,
    /// For an exec: what a rule needs once the owner is known.
    pub exec: Option<Box<ExecContext>>,
}

/// An exec that waits for its owner to be known.
#[derive(Clone, Debug, Default)]
pub struct ExecContext {
    pub pid: u32,
    pub parent_pid: u32,
    pub arguments: Vec<String>,
    pub parent_executable: Vec<u8>,
    pub parent_arguments: Vec<String>,
    pub user_id: u32,
    pub started_at_ms: i64,
    pub outside: bool,
}

#[derive(Clone, Debug)]
struct Module {
    observation: Observation,
    image: u64,
    process: String,
}

/// A probe at work on a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    pub probe: &'static str,
    pub boot_id: String,
    pub from_ms: i64,
    pub until_ms: i64,
    pub from_first_exec: bool,
}

/// A workload.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Identity on the wire.
    pub id: String,
    pub kind: WorkloadKind,
    pub identity: Identity,
    /// In the order of precedence: the first whose root is above a path has it.
    pub artifacts: Vec<ArtifactView>,
    /// What is published whatever the artifact: names, image, labels, command.
    pub base: RuntimeWorkload,
    pub watches: Vec<Watch>,
    /// By probe and boot.
    pub losses: BTreeMap<(String, String), u64>,
    pub unavailable: BTreeMap<String, String>,
    /// Its processes that ran on when the observation ended.
    pub run_on: Option<RunOn>,
    /// How the processes of each language were observed.
    observed: BTreeMap<ObservedKey, ObservedNumbers>,
    /// Programs of languages whose packages are linked in, and how they were observed.
    programs: HashSet<(&'static str, Vec<u8>)>,
    /// When it was first seen by the agent, for the deadline of its identity.
    pub first_seen_ms: i64,
    /// Attempts to identify it.
    pub attempts: u32,
    /// Events lost of nobody in particular before it began.
    pub loss_base: u64,
    /// Looks in a row that found no process of it.
    pub empty_polls: u32,
    /// New since the last flush.
    pub pending: VecDeque<PendingItem>,
    /// By path, kind, mount and name.
    index: HashMap<(Vec<u8>, &'static str, &'static str, String), usize>,
    /// Modules of interpreters, by path.
    modules: HashMap<Vec<u8>, Module>,
    /// Published under `unidentified/`, to be published again once it is identified.
    pub history: Vec<PendingItem>,
    /// What is still to be said under the key that it had while it was unidentified.
    moved: Option<RuntimeWorkload>,
    /// Programs and scripts that may hide packages, to be looked at.
    pub scripts: VecDeque<Script>,
    /// Scripts that were handed out to be looked at.
    looked_at: HashSet<Vec<u8>>,
    /// Files of PHP that were handed out to be looked at for forks.
    php_files: HashSet<Vec<u8>>,
    /// Files of other places of which it was asked whether they are copies.
    copies: Copies,
    /// What no event tells again.
    learned: Learned,
    /// What of that the agent after this one would find; `None`: not even which workload it is.
    noted: Option<Learned>,
    /// Something of the workload itself changed since it was published.
    pub changed: bool,
    pub published_at_ms: i64,
    /// Risks that were found and not handed out yet.
    pub alerts: Vec<RuntimeAlert>,
}

impl Workload {
    /// A workload that was just seen.
    pub fn new(id: String, kind: WorkloadKind, base: RuntimeWorkload, now_ms: i64) -> Self {
        Self {
            id,
            kind,
            identity: Identity::Pending,
            artifacts: Vec::new(),
            base,
            watches: Vec::new(),
            losses: BTreeMap::new(),
            unavailable: BTreeMap::new(),
            run_on: None,
            observed: BTreeMap::new(),
            programs: HashSet::new(),
            first_seen_ms: now_ms,
            attempts: 0,
            loss_base: 0,
            empty_polls: 0,
            pending: VecDeque::new(),
            index: HashMap::new(),
            modules: HashMap::new(),
            history: Vec::new(),
            moved: None,
            scripts: VecDeque::new(),
            looked_at: HashSet::new(),
            php_files: HashSet::new(),
            copies: Copies::default(),
            learned: Learned::default(),
            noted: None,
            changed: true,
            published_at_ms: 0,
            alerts: Vec::new(),
        }
    }

    /// Adds a use; the same use within one flush only widens its times.
    pub fn add(
        &mut self,
        observation: Observation,
        probe: &'static str,
        process: String,
        time_ms: i64,
        position: u64,
        exec: Option<Box<ExecContext>>,
    ) {
        self.note_what_cannot_be_measured(&observation, position, time_ms);
        let key = (observation.path.clone(), observation.kind, observation.mount, observation.name.clone());
        if exec.is_none()
            && let Some(known) = self.index.get(&key).and_then(|index| self.pending.get_mut(*index))
            && known.inode == observation.inode
            && known.item.probe == probe
            && known.item.rung == observation.rung.as_str()
        {
            known.item.first_seen_ms = known.item.first_seen_ms.min(time_ms);
            known.item.last_seen_ms = known.item.last_seen_ms.max(time_ms);
            known.origin.of_tool &= observation.origin.of_tool;
            return;
        }
        if self.pending.len() >= HELD_MAX_ITEMS {
            *self.losses.entry((probe.to_owned(), self.base.boot_id.clone())).or_default() += 1;
            self.changed = true;
            return;
        }
        self.index.insert(key, self.pending.len());
        self.pending.push_back(PendingItem {
            item: UsageItem {
                kind: observation.kind.to_owned(),
                path: Vec::new(),
                file_identity: String::new(),
                mount: observation.mount.to_owned(),
                name: observation.name,
                rung: observation.rung.as_str().to_owned(),
                first_seen_ms: time_ms,
                last_seen_ms: time_ms,
                probe: probe.to_owned(),
                process,
            },
            path: observation.path,
            inode: observation.inode,
            origin: observation.origin,
            position,
            attempts: 0,
            exec,
        });
    }

    /// An interpreter loaded a module: it stays in use as long as a process runs that image.
    pub fn remember_module(&mut self, observation: &Observation, image: u64, process: &str) {
        if self.modules.len() < MODULES_MAX || self.modules.contains_key(&observation.path) {
            let module = Module { observation: observation.clone(), image, process: process.to_owned() };
            self.modules.insert(observation.path.clone(), module);
        }
    }

    /// Reports the modules again that processes still have, and forgets the others. `live`: images that run.
    pub fn repeat_modules(&mut self, live: &HashSet<u64>, now_ms: i64) {
        self.modules.retain(|_, module| live.contains(&module.image));
        let repeated: Vec<Module> = self.modules.values().cloned().collect();
        for module in repeated {
            self.add(module.observation, probe::EBPF_FILES, module.process, now_ms, NO_POSITION, None);
        }
    }

    /// Takes what is new, each with its artifact; nothing while the artifact is not known.
    pub fn take_pending(&mut self) -> Vec<(usize, PendingItem)> {
        if self.identity == Identity::Pending {
            return Vec::new();
        }
        self.index.clear();
        let items = std::mem::take(&mut self.pending);
        if matches!(self.identity, Identity::Unidentified(_)) {
            let room = HELD_MAX_ITEMS.saturating_sub(self.history.len());
            self.history.extend(
                items.iter().take(room).cloned().map(|item| PendingItem { position: NO_POSITION, ..item }),
            );
            // They will not be found under the artifact that it turns out to be.
            let boot_id = self.base.boot_id.clone();
            self.lose(items.len().saturating_sub(room) as u64, &boot_id);
        }
        items.into_iter().flat_map(|pending| self.placed(pending)).collect()
    }

    /// The item in the artifact that its path lies in. A Java package may lie in archives of any of them.
    fn placed(&self, pending: PendingItem) -> Vec<(usize, PendingItem)> {
        let at = |(index, path)| {
            (index, PendingItem { item: UsageItem { path, ..pending.item.clone() }, ..pending.clone() })
        };
        if java_package_of(&pending.path).is_some() {
            // What lies in one artifact may be a copy of what those before it hold; in the only one, of its own.
            let place = possible_copy_of(&pending.path).and_then(|copy| self.place(&copy[1..]));
            let end = place.map_or(self.artifacts.len(), |(index, _)| index.max(1));
            return (0..end).map(|index| at((index, pending.path.clone()))).collect();
        }
        if copied_file_of(&pending.path).is_some()
            || classes_within(&pending.path).is_some()
            || archive_elsewhere(&pending.path).is_some()
        {
            return vec![at((0, pending.path.clone()))];
        }
        self.place(&pending.path).map(at).into_iter().collect()
    }

    /// Whether a path is the host's, not the component's.
    pub fn is_outside(&self, path: &[u8]) -> bool {
        self.place(path).is_some_and(|(index, _)| index > 0)
    }

    fn place(&self, path: &[u8]) -> Option<(usize, Vec<u8>)> {
        self.artifacts
            .iter()
            .enumerate()
            .find_map(|(index, artifact)| Some((index, below(path, &artifact.root)?.to_vec())))
    }

    /// The artifact is known now. What was published as unidentified is to be published again.
    pub fn identified(&mut self, artifacts: Vec<ArtifactView>) {
        if let Identity::Unidentified(reason) = &self.identity {
            let former = self.artifacts.first().map(|view| view.key.clone()).unwrap_or_default();
            // The record of the key that it leaves, so that whoever looks there finds where it is now.
            self.moved = artifacts.first().map(|view| RuntimeWorkload {
                artifact: former.clone(),
                moved_to: view.key.clone(),
                unidentified_reason: reason.clone(),
                // Its component is that of the artifact where it goes on.
                application: String::new(),
                component: String::new(),
                component_version: String::new(),
                ..self.event()
            });
            self.base.formerly_artifact = former;
            for item in std::mem::take(&mut self.history) {
                self.pending.push_back(item);
            }
            self.index.clear();
            // What was asked and told there is asked and told again of the artifact that it is.
            self.copies = Copies::default();
        }
        self.base.unidentified_reason.clear();
        self.artifacts = artifacts;
        self.identity = Identity::Known;
        self.changed = true;
    }

    /// The artifact cannot be known (yet): published under `unidentified/`.
    pub fn unidentified(&mut self, key: String, reason: String) {
        self.base.unidentified_reason.clone_from(&reason);
        self.artifacts = vec![ArtifactView { key, root: Vec::new() }];
        self.identity = Identity::Unidentified(reason);
        self.changed = true;
    }

    /// Something was lost: at least `total` events by this probe in this boot.
    pub fn set_loss(&mut self, probe: &str, boot_id: &str, total: u64) -> bool {
        if total == 0 {
            return false;
        }
        let known = self.losses.entry((probe.to_owned(), boot_id.to_owned())).or_default();
        let grew = total > *known;
        *known = total.max(*known);
        self.changed |= grew;
        grew
    }

    /// Observations were lost between the probes and those who read them: any probe's at work.
    pub fn lose(&mut self, observations: u64, boot_id: &str) {
        if observations == 0 {
            return;
        }
        for watch in &self.watches {
            *self.losses.entry((watch.probe.to_owned(), boot_id.to_owned())).or_default() += observations;
        }
        self.changed = true;
    }

    /// Whether a probe has watched since before the workload's first program.
    pub fn is_watched_from_first_exec(&self, probe: &str) -> bool {
        self.watches.iter().any(|watch| watch.probe == probe && watch.from_first_exec)
    }

    /// Nothing before `until_ms` can have been missed by the probes at work.
    pub fn observed_until(&mut self, until_ms: i64) {
        for watch in self.watches.iter_mut().filter(|watch| watch.probe != probe::RESYNC) {
            watch.until_ms = watch.until_ms.max(until_ms);
        }
    }
}

#[cfg(test)]
mod tests;
