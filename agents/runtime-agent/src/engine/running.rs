//! Containers that ran before the agent: found in /proc, entered as watched late.
//! It must never take a runtime's init for the container, nor claim to know the past.

use std::collections::HashMap;

use crate::ebpf::Kernel;
use crate::ebpf::event::{FileAction, FileEvent};
use crate::ebpf::wire::{TRACKED_CONTAINER, Tracked, WorkloadEntry, workload_flag};
use crate::hooks::language::Language;
use crate::identity::container;
use crate::sweep::Carried;
use crate::{procfs, sweep};

/// Enters containers that ran before the programs were attached. `attached_ns`: since boot; 0 before the attach.
pub fn register_running(kernel: &Kernel, attached_ns: u64) {
    let controller = procfs::cgroup_v1_controller();
    let Some(host) = procfs::host_mount_namespace() else { return };
    let mut seen: HashMap<u64, u64> = HashMap::new();
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
            let started = procfs::started_ns(pid).unwrap_or(u64::MAX);
            let known = kernel.workload(id);
            let oldest = seen.get(&id).copied().or_else(|| started_of_first(known.as_ref()?));
            let is_older = oldest.is_none_or(|oldest| started < oldest);
            if is_older || !seen.contains_key(&id) {
                seen.insert(id, oldest.map_or(started, |oldest| oldest.min(started)));
                let mut entry = known.unwrap_or(WorkloadEntry {
                    first_exec_ns: procfs::since_boot_ns(),
                    first_pid: pid,
                    mount_ns,
                    ..WorkloadEntry::default()
                });
                // The oldest process tells which run of the container it is, whichever agent looks. One that a look before this
                // one found may be older.
                if is_older {
                    entry.first_pid = pid;
                }
                // It ran before: nothing about its past is known.
                entry.flags &= !workload_flag::FROM_FIRST_EXEC;
                let bytes = name.as_bytes();
                entry.cgroup_name[..bytes.len()].copy_from_slice(bytes);
                entry.cgroup_name[bytes.len()..].fill(0);
                kernel.put_workload(id, &entry);
            }
            let executable = procfs::executable(pid).unwrap_or_default();
            let judged = sweep::judge(&executable, &procfs::command_line(pid));
            let mapped = procfs::mappings(pid);
            let carries: Carried =
                mapped.iter().filter_map(|file| Language::of_library(&file.path)).collect();
            kernel.track(
                pid,
                &Tracked {
                    workload: id,
                    mount_ns,
                    flags: TRACKED_CONTAINER,
                    reader: judged.class(),
                    carries: carries.bits(),
                    // An exec from here has a parent, though its image was not seen.
                    exec_id: u64::from(pid),
                    ..Tracked::default()
                },
            );
        }
    }
}

/// When the first process that is known of a container started, if it lives; another one may have its number by now.
fn started_of_first(known: &WorkloadEntry) -> Option<u64> {
    procfs::started_ns(known.first_pid).filter(|started| *started <= known.first_exec_ns)
}

impl procfs::Mapping {
    /// The mapping as if the kernel had reported it.
    pub(super) fn into_event(self, tracked: &Tracked, pid: u32) -> FileEvent {
        FileEvent {
            action: if self.executable { FileAction::Map } else { FileAction::Open },
            workload: tracked.workload,
            pid,
            parent_pid: 0,
            time_ns: 0,
            exec_id: tracked.exec_id,
            parent_exec_id: 0,
            reader: tracked.reader,
            carries: Carried::of_bits(tracked.carries),
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
