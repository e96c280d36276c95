//! The maps that the programs and user space share, behind plain calls.
//! It must never take what is absent for an error: processes and workloads end at any time.

use std::collections::{HashMap, HashSet};

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::EbpfError;
use super::kernel::Kernel;
use super::wire::{NOTE_BYTES, Note, Plain, SeenKey, Tracked, WorkloadEntry, program, workload_flag};
use crate::{procfs, sweep};

/// Names of all maps.
pub const MAPS: [&str; 9] =
    ["events", "tracked", "workloads", "notes", "seen", "programs", "verdicts", "counters", "coarse_clock"];

/// Handles of all of them.
pub struct Maps {
    pub(super) events: MapHandle,
    tracked: MapHandle,
    workloads: MapHandle,
    notes: MapHandle,
    seen: MapHandle,
    programs: MapHandle,
    verdicts: MapHandle,
    pub(super) counters: MapHandle,
    coarse_clock: MapHandle,
}

impl Maps {
    pub fn collect(mut get: impl FnMut(&str) -> Result<MapHandle, EbpfError>) -> Result<Self, EbpfError> {
        Ok(Self {
            events: get("events")?,
            tracked: get("tracked")?,
            workloads: get("workloads")?,
            notes: get("notes")?,
            seen: get("seen")?,
            programs: get("programs")?,
            verdicts: get("verdicts")?,
            counters: get("counters")?,
            coarse_clock: get("coarse_clock")?,
        })
    }

    pub fn by_name(&self, name: &str) -> &MapHandle {
        match name {
            "events" => &self.events,
            "tracked" => &self.tracked,
            "workloads" => &self.workloads,
            "notes" => &self.notes,
            "seen" => &self.seen,
            "programs" => &self.programs,
            "verdicts" => &self.verdicts,
            "coarse_clock" => &self.coarse_clock,
            _ => &self.counters,
        }
    }
}

impl Kernel {
    /// Sets the clock by which the programs know their epoch; about once a second.
    pub fn set_clock(&self) {
        set_clock(&self.maps.coarse_clock);
    }

    /// A workload's entry.
    pub fn workload(&self, id: u64) -> Option<WorkloadEntry> {
        lookup(&self.maps.workloads, &id.to_ne_bytes())
    }

    /// All workloads.
    pub fn workloads(&self) -> Vec<(u64, WorkloadEntry)> {
        keys(&self.maps.workloads).filter_map(|id| Some((id, self.workload(id)?))).collect()
    }

    /// Enters a workload. `false` if there is no room.
    pub fn put_workload(&self, id: u64, entry: &WorkloadEntry) -> bool {
        self.maps.workloads.update(&id.to_ne_bytes(), entry.bytes(), MapFlags::ANY).is_ok()
    }

    /// Keeps what was learned of a workload as long as the programs watch, for the agent after this one.
    pub fn note(&self, id: u64, text: &[u8]) {
        let mut note = Note { length: 0, text: [0; NOTE_BYTES] };
        let length = text.len().min(NOTE_BYTES);
        note.length = u32::try_from(length).unwrap_or(0);
        note.text[..length].copy_from_slice(&text[..length]);
        if let Err(error) = self.maps.notes.update(&id.to_ne_bytes(), note.bytes(), MapFlags::ANY) {
            tracing::warn!(%error, "what was learned of a workload will not outlive this agent");
        }
    }

    /// What was noted of a workload.
    pub fn noted(&self, id: u64) -> Option<Vec<u8>> {
        let note: Note = lookup(&self.maps.notes, &id.to_ne_bytes())?;
        Some(note.text.get(..usize::try_from(note.length).ok()?)?.to_vec())
    }

    /// From now on its processes are passed over.
    pub fn ignore_workload(&self, id: u64) {
        if let Some(mut entry) = self.workload(id) {
            entry.flags |= workload_flag::IGNORED;
            self.put_workload(id, &entry);
        }
        self.untrack(id);
        self.forget(id);
    }

    /// The workload is over.
    pub fn remove_workload(&self, id: u64) {
        // Absent is as good as deleted.
        let _ = self.maps.workloads.delete(&id.to_ne_bytes());
        let _ = self.maps.notes.delete(&id.to_ne_bytes());
        self.untrack(id);
        self.forget(id);
    }

    fn untrack(&self, workload: u64) {
        let pids: Vec<u32> = keys32(&self.maps.tracked)
            .filter(|pid| self.tracked(*pid).is_some_and(|tracked| tracked.workload == workload))
            .collect();
        for pid in pids {
            let _ = self.maps.tracked.delete(&pid.to_ne_bytes());
        }
    }

    /// Watches a process. `false` if there is no room.
    pub fn track(&self, pid: u32, tracked: &Tracked) -> bool {
        self.maps.tracked.update(&pid.to_ne_bytes(), tracked.bytes(), MapFlags::ANY).is_ok()
    }

    /// How a process is watched.
    pub fn tracked(&self, pid: u32) -> Option<Tracked> {
        lookup(&self.maps.tracked, &pid.to_ne_bytes())
    }

    /// Program images that at least one process runs.
    pub fn live_images(&self) -> HashSet<u64> {
        self.all_tracked().into_values().map(|tracked| tracked.exec_id).collect()
    }

    /// The processes that are watched.
    pub fn all_tracked(&self) -> HashMap<u32, Tracked> {
        // In batches: one call for each process, some times a second, would be felt on a full host.
        const BATCH: u32 = 1_024;
        match self.maps.tracked.lookup_batch(BATCH, MapFlags::ANY, MapFlags::ANY) {
            Ok(entries) => entries
                .filter_map(|(pid, value)| {
                    Some((u32::from_ne_bytes(pid.try_into().ok()?), Tracked::read(&value)?))
                })
                .collect(),
            Err(_) => keys32(&self.maps.tracked).filter_map(|pid| Some((pid, self.tracked(pid)?))).collect(),
        }
    }

    /// Judges a command line, for the processes that run it now and later.
    pub fn set_verdict(&self, command_hash: u64, reader: u32) {
        if let Err(error) =
            self.maps.verdicts.update(&command_hash.to_ne_bytes(), &reader.to_ne_bytes(), MapFlags::ANY)
        {
            tracing::debug!(%error, "a verdict found no room; its reader stays provisional");
        }
    }

    /// Forgets what was reported for a workload: everything counts as new.
    pub fn forget(&self, workload: u64) {
        let known: Vec<Vec<u8>> = self
            .maps
            .seen
            .keys()
            .filter(|key| SeenKey::read(key).is_some_and(|key| key.workload == workload))
            .collect();
        for key in known {
            // May have been evicted meanwhile.
            let _ = self.maps.seen.delete(&key);
        }
    }
}

fn lookup<T: Plain>(map: &MapHandle, key: &[u8]) -> Option<T> {
    map.lookup(key, MapFlags::ANY).ok().flatten().and_then(|value| T::read(&value))
}

fn keys(map: &MapHandle) -> impl Iterator<Item = u64> {
    let keys: Vec<u64> =
        map.keys().filter_map(|key| Some(u64::from_ne_bytes(key.get(..8)?.try_into().ok()?))).collect();
    keys.into_iter()
}

fn keys32(map: &MapHandle) -> impl Iterator<Item = u32> {
    let keys: Vec<u32> =
        map.keys().filter_map(|key| Some(u32::from_ne_bytes(key.get(..4)?.try_into().ok()?))).collect();
    keys.into_iter()
}

fn set_clock(map: &MapHandle) {
    let time_ns = procfs::since_boot_ns().to_ne_bytes();
    if let Err(error) = map.update(&0_u32.to_ne_bytes(), &time_ns, MapFlags::ANY) {
        tracing::warn!(%error, "the kernel's epoch stands still");
    }
}

/// Enters the programs that are known by their names.
pub fn fill_programs(maps: &Maps) {
    for (names, class) in
        [(sweep::IGNORED_PROGRAMS, program::IGNORED), (sweep::JUDGED_PROGRAMS, program::JUDGED)]
    {
        for name in names {
            let mut key = [0_u8; 16];
            let length = name.len().min(15);
            key[..length].copy_from_slice(&name.as_bytes()[..length]);
            if let Err(error) = maps.programs.update(&key, &class.to_ne_bytes(), MapFlags::ANY) {
                tracing::warn!(program = name, %error, "reads of this program will count as use");
            }
        }
    }
}
