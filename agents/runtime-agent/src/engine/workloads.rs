//! Workloads come, are identified, lose events and end.
//! It must never take a container for another, nor end one that has a process.

use std::collections::HashSet;

use plimsoll_kit::clock::now_ms;
use plimsoll_schemas::events::RuntimeWorkload;
use plimsoll_schemas::words::{probe, workload_kind};

use super::{Engine, IDENTIFY_MAX_ATTEMPTS, IDENTIFY_RETRY_MS, RESYNC_AFTER_LOSS_MS, TREE_ID, TreeRequest};
use crate::ebpf::wire::{NOTE_BYTES, WorkloadEntry, text, workload_flag};
use crate::identity::{self, IdentifyReply, IdentifyRequest, container};
use crate::procfs;
use crate::workload::{ArtifactView, Identity, Watch, Workload, WorkloadKind, noted_id};

/// Looks without a process after which a container has ended.
const EMPTY_POLLS: u32 = 2;
/// How long the root of an ended workload is kept for questions that are open, in milliseconds.
const ROOT_KEPT_MS: i64 = 60_000;
/// Age after which the verdict that a cgroup is no container is forgotten, in nanoseconds.
const IGNORED_MAX_NS: u64 = 600_000_000_000;

impl Engine {
    /// Enters a container that the kernel watches; `false` if it is none and to be passed over.
    pub(super) fn add_container(&mut self, id: u64, entry: &WorkloadEntry) -> bool {
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
        let note = kernel.noted(id);
        let id_on_wire = self.container_workload_id(&container_id, entry, note.as_deref());
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
        // Losses of nobody in particular before it began are not its own.
        workload.loss_base = if first_ms >= self.started_ms { kernel.unassigned_losses() } else { 0 };
        workload.set_loss(
            probe::EBPF_FILES,
            kernel.instance_id(),
            entry.lost + kernel.unassigned_losses() - workload.loss_base,
        );
        if let Some(note) = note {
            workload.recall(&note);
        }
        self.workloads.insert(id, workload);
        if entry.first_pid != 0 {
            self.open_root(id, entry.first_pid);
        }
        self.ask_identity(id);
        true
    }

    /// Identity of a container's run: one that is started again is another workload. Its first process tells them apart
    /// by when it started, since boot, so that an agent that comes later and watches anew finds the same; an agent before
    /// this one may have noted it while that process was there.
    fn container_workload_id(
        &self,
        container_id: &str,
        entry: &WorkloadEntry,
        note: Option<&[u8]>,
    ) -> String {
        let container = format!("{}/{container_id}/", self.config.node_id);
        if let Some(noted) = note.and_then(noted_id).filter(|noted| noted.starts_with(&container)) {
            return noted;
        }
        let started_ns =
            procfs::started_ns(entry.first_pid).filter(|started| *started <= entry.first_exec_ns);
        format!("{container}{}", started_ns.unwrap_or(entry.first_exec_ns) / 1_000_000)
    }

    /// Keeps with the watch of containers what the agent after this one would not see again.
    pub(super) fn note_what_was_learned(&mut self) {
        let Some(kernel) = self.kernel.as_ref().filter(|kernel| kernel.is_pinned()) else { return };
        for (id, workload) in self.workloads.iter_mut().filter(|(id, _)| *id & TREE_ID == 0) {
            if let Some(note) = workload.new_note(NOTE_BYTES) {
                kernel.note(*id, &note);
            }
        }
    }

    pub(super) fn base(&self) -> RuntimeWorkload {
        RuntimeWorkload {
            node_id: self.config.node_id.clone(),
            node_name: self.config.node_name.clone(),
            boot_id: self.stamper.boot_id().to_owned(),
            ..RuntimeWorkload::default()
        }
    }

    pub(super) fn ask_identity(&mut self, id: u64) {
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
                let reason = "no container runtime is configured; set docker.host".to_owned();
                self.identified(IdentifyReply { workload: id, facts: Err(reason) });
            }
        }
    }

    pub(super) fn identified(&mut self, reply: IdentifyReply) {
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
                let key = format!("image/{}", facts.config_digest);
                workload.identified(vec![ArtifactView { key: key.clone(), root: Vec::new() }]);
                self.next_identify_ms.remove(&id);
                self.announce_root(id);
                self.request_scan(key, &facts.image_id);
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

    pub(super) fn pass_over(&mut self, id: u64) {
        self.workloads.remove(&id);
        self.roots.remove(&id);
        self.next_identify_ms.remove(&id);
        self.java.forget(id);
        if let Some(kernel) = &self.kernel {
            kernel.ignore_workload(id);
        }
    }

    pub(super) fn add_tree(&mut self, request: TreeRequest) {
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
        // Without eBPF each hook says for itself when it is at work.
        if let Some(kernel) = &self.kernel {
            watch(probe::EBPF_FILES, kernel.instance_id());
            let entry = WorkloadEntry {
                first_exec_ns: procfs::since_boot_ns(),
                flags: workload_flag::TREE | workload_flag::FROM_FIRST_EXEC,
                ..WorkloadEntry::default()
            };
            entered = kernel.put_workload(request.tree, &entry);
        }
        workload.unavailable.clone_from(&self.unavailable);
        self.workloads.insert(request.tree, workload);
        if let Some(start) = request.java {
            self.java.add_tree(request.tree, start);
        }
        if let Some(hooks) = request.hooks {
            self.hooks.push((request.tree, hooks));
        }
        self.announce_tree(request.tree, &request.root);
        let _ = request.done.send(entered);
    }

    /// Looks for losses, ends, and identities that are due.
    pub(super) fn poll(&mut self, now: i64) {
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
                workload.lose(*lost, &boot_id);
            }
        }
        let Some(kernel) = self.kernel.clone() else { return };
        kernel.set_clock();
        let unassigned = kernel.unassigned_losses();
        let mut losers = Vec::new();
        for (id, workload) in &mut self.workloads {
            let entry_lost = kernel.workload(*id).map_or(0, |entry| entry.lost);
            if workload.set_loss(
                probe::EBPF_FILES,
                kernel.instance_id(),
                entry_lost + unassigned.saturating_sub(workload.loss_base),
            ) {
                losers.push(*id);
            }
        }
        if !losers.is_empty() && now - self.last_resync_ms >= RESYNC_AFTER_LOSS_MS {
            tracing::warn!(workloads = losers.len(), "events were lost: looking again at what runs");
            losers.iter().for_each(|id| kernel.forget(*id));
            self.resync();
        }
        let tracked = kernel.all_tracked();
        self.count_running(&tracked);
        let live: HashSet<u64> = tracked.values().map(|tracked| tracked.workload).collect();
        let since_boot_ns = procfs::since_boot_ns();
        for (id, entry) in kernel.workloads() {
            // Makes room; what runs there still is judged again at its next exec.
            let old = since_boot_ns.saturating_sub(entry.first_exec_ns) > IGNORED_MAX_NS;
            if entry.flags & workload_flag::IGNORED != 0 && old && !live.contains(&id) {
                kernel.remove_workload(id);
            }
        }
        for (id, workload) in &mut self.workloads {
            if id & TREE_ID != 0 || workload.base.stopped_at_ms != 0 {
                continue;
            }
            workload.empty_polls = if live.contains(id) { 0 } else { workload.empty_polls + 1 };
            if workload.empty_polls >= EMPTY_POLLS {
                workload.base.stopped_at_ms = now;
                workload.changed = true;
            }
        }
    }

    /// Forgets a workload that ended and of which everything was handed out.
    pub(super) fn retire(&mut self, id: u64) {
        let Some(workload) = self.workloads.get(&id) else { return };
        let busy = workload.base.stopped_at_ms == 0
            || workload.changed
            || workload.identity == Identity::Pending
            || !workload.pending.is_empty()
            || self.awaiting.values().any(|awaiting| awaiting.workload == id);
        if busy {
            return;
        }
        // Its root is still open for what could not be told, or looked into, at once.
        let inspected = workload.scripts.is_empty()
            && !self.inspector.as_ref().is_some_and(|inspector| inspector.waits_for(id));
        let untold = (!inspected || self.unresolved.iter().any(|asked| asked.workload == id))
            && now_ms() - workload.base.stopped_at_ms < ROOT_KEPT_MS;
        if untold {
            return;
        }
        // A container that could not be identified yet may still be, while its runtime remembers it.
        let waits = matches!(workload.identity, Identity::Unidentified(_))
            && now_ms() - workload.base.stopped_at_ms < self.config.identify_timeout_ms;
        if waits {
            return;
        }
        self.give_up_copies(Some(id));
        if let Some(workload) = self.workloads.remove(&id) {
            self.close_roots(&workload);
        }
        self.roots.remove(&id);
        self.next_identify_ms.remove(&id);
        self.hooks.retain(|(tree, _)| *tree != id);
        self.java.forget(id);
        if let Some(kernel) = &self.kernel {
            kernel.remove_workload(id);
        }
    }
}

/// The begin of a text, at most `max_bytes` of it.
pub(super) fn cut(text: &str, max_bytes: usize) -> String {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
