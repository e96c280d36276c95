//! The loaded programs: attaching, reuse of pinned ones, and the maps behind plain calls.
//! It must never detach what is pinned: only `unpin` ends the watch of a pinned instance.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Mutex;

use rustix::event::epoll::{self, EventData, EventFlags};

use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};
use sha2::{Digest, Sha256};

use super::event::{self, KernelEvent};
use super::load::{OPTIONAL, cgroup_controller, load, missing_of, objects};
use super::pins::{PinDirectory, Pins};
use super::ring::Ring;
use super::wire::{
    NOTE_BYTES, Note, Plain, SeenKey, Settings, Tracked, WorkloadEntry, counter, program, workload_flag,
};
use super::{EbpfConfig, EbpfError, MissingPart};
use crate::{procfs, sweep};

/// In the order of attaching: the interpreter is looked up after the exec has armed its container.
const PROGRAMS: [&str; 8] = [
    "on_exec",
    "on_exec_interpreter",
    "on_fork",
    "on_exit",
    "on_syscall",
    "on_io_uring",
    "resync_mappings",
    "resync_files",
];
const MAPS: [&str; 9] =
    ["events", "tracked", "workloads", "notes", "seen", "programs", "verdicts", "counters", "coarse_clock"];

struct Maps {
    events: MapHandle,
    tracked: MapHandle,
    workloads: MapHandle,
    notes: MapHandle,
    seen: MapHandle,
    programs: MapHandle,
    verdicts: MapHandle,
    counters: MapHandle,
    coarse_clock: MapHandle,
}

impl Maps {
    fn collect(mut get: impl FnMut(&str) -> Result<MapHandle, EbpfError>) -> Result<Self, EbpfError> {
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

    fn by_name(&self, name: &str) -> &MapHandle {
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

/// Waits for execs.
pub struct ExecWaiter(std::os::fd::OwnedFd);

/// The programs in the kernel.
pub struct Kernel {
    maps: Maps,
    ring: Ring,
    /// Until attached.
    object: Mutex<Option<libbpf_rs::Object>>,
    links: Mutex<Vec<(String, Link)>>,
    pins: Option<Pins>,
    instance_id: String,
    was_pinned: bool,
    missing: Vec<MissingPart>,
}

impl Kernel {
    /// Takes over pinned programs, or loads new ones that `attach` sets to work.
    ///
    /// # Errors
    /// [`EbpfError`]: what is missing and how to get it.
    pub fn open(config: &EbpfConfig) -> Result<Self, EbpfError> {
        if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            return Err(EbpfError::NoBtf);
        }
        if !procfs::in_initial_pid_namespace() {
            return Err(EbpfError::PidNamespace);
        }
        if !rustix::process::geteuid().is_root() && !procfs::may_load_bpf() {
            return Err(EbpfError::NotPermitted("this process has neither".to_owned()));
        }
        libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Info, |level, text| {
            tracing::debug!(?level, "libbpf: {}", text.trim_end());
        })));
        // Only needed before Linux 5.11, and not permitted everywhere.
        let unlimited = rustix::process::Rlimit { current: None, maximum: None };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Memlock, unlimited);

        let settings = Settings {
            epoch_ns: u64::try_from(config.epoch.as_nanos()).unwrap_or(u64::MAX),
            host_mount_ns: procfs::host_mount_namespace()
                .ok_or_else(|| EbpfError::NotPermitted("/proc/1/ns/mnt cannot be read".to_owned()))?,
            cgroup_controller: cgroup_controller(),
            watch_containers: u32::from(config.watch_containers),
            padding: 0,
        };
        let mut hash = Sha256::new();
        objects().iter().for_each(|object| hash.update(object));
        hash.update(settings.bytes());
        hash.update(config.ring_bytes.to_ne_bytes());
        let hash = hex::encode(&hash.finalize()[..8]);
        let pins = config.pins.as_ref().map(|pins| Pins::open(pins, &hash)).transpose()?;
        if let Some(directory) = pins.as_ref().and_then(Pins::existing) {
            match Self::reopen(&directory) {
                Ok((maps, links)) => {
                    let ring = ring_of(&maps)?;
                    return Ok(Self {
                        missing: missing_of(|name| links.iter().any(|(pinned, _)| pinned == name)),
                        maps,
                        ring,
                        object: Mutex::new(None),
                        links: Mutex::new(links),
                        pins,
                        instance_id: directory.id,
                        was_pinned: true,
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "pinned programs cannot be taken over: loading new ones")
                }
            }
        }
        let (object, refused) = load(&settings, config.ring_bytes)?;
        let maps = Maps::collect(|name| {
            let map = object.maps().find(|map| map.name() == name);
            let map = map.ok_or_else(|| EbpfError::Load(format!("map {name} is not in the object")))?;
            MapHandle::try_from(&map).map_err(|error| EbpfError::Load(error.to_string()))
        })?;
        let ring = ring_of(&maps)?;
        fill_programs(&maps);
        Ok(Self {
            missing: missing_of(|name| !refused.contains(&name)),
            maps,
            ring,
            object: Mutex::new(Some(object)),
            links: Mutex::new(Vec::new()),
            pins,
            instance_id: plimsoll_kit::host::random_id(),
            was_pinned: false,
        })
    }

    fn reopen(directory: &PinDirectory) -> Result<(Maps, Vec<(String, Link)>), EbpfError> {
        let fail = |path: &Path, error: libbpf_rs::Error| EbpfError::Pin {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let maps = Maps::collect(|name| {
            let path = directory.path.join(name);
            MapHandle::from_pinned_path(&path).map_err(|error| fail(&path, error))
        })?;
        let mut links = Vec::new();
        for name in PROGRAMS {
            let path = directory.path.join(name);
            if path.exists() {
                links.push((name.to_owned(), Link::open(&path).map_err(|error| fail(&path, error))?));
            } else if !OPTIONAL.iter().any(|(optional, _)| *optional == name) {
                return Err(EbpfError::Pin { path, reason: "is missing".to_owned() });
            }
        }
        Ok((maps, links))
    }

    /// The programs were pinned by an earlier agent and have observed since.
    pub fn was_pinned(&self) -> bool {
        self.was_pinned
    }

    /// Whether the programs go on without this agent.
    pub fn is_pinned(&self) -> bool {
        self.pins.is_some()
    }

    /// Sets the programs to work, and pins them if so configured. Nothing to do for pinned ones.
    ///
    /// # Errors
    /// If the kernel refuses a program that is not optional, or pins cannot be made.
    pub fn attach(&mut self) -> Result<(), EbpfError> {
        let object = self.object.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(object) = object else { return Ok(()) };
        let links = self.links.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        set_clock(&self.maps.coarse_clock);
        for name in PROGRAMS {
            let Some(program) = object.progs_mut().find(|program| program.name() == name) else { continue };
            if self.missing.iter().any(|part| part.program == name) {
                continue;
            }
            match program.attach() {
                Ok(link) => links.push((name.to_owned(), link)),
                Err(error) => match OPTIONAL.iter().find(|(optional, _)| *optional == name) {
                    Some((_, consequence)) => self.missing.push(MissingPart {
                        program: name.to_owned(),
                        consequence: (*consequence).to_owned(),
                    }),
                    None => return Err(EbpfError::Load(format!("{name}: {error}"))),
                },
            }
        }
        if let Some(pins) = &self.pins {
            let maps = &mut self.maps;
            let directory = pins.create(&self.instance_id, |directory| {
                let fail = |path: &Path, error: libbpf_rs::Error| EbpfError::Pin {
                    path: path.to_owned(),
                    reason: error.to_string(),
                };
                for name in MAPS {
                    let path = directory.join(name);
                    // A second handle: the path that one remembers would be the partial directory's.
                    let mut map =
                        MapHandle::try_from(maps.by_name(name)).map_err(|error| fail(&path, error))?;
                    map.pin(&path).map_err(|error| fail(&path, error))?;
                }
                for (name, link) in &mut *links {
                    let path = directory.join(name.as_str());
                    link.pin(&path).map_err(|error| fail(&path, error))?;
                }
                Ok(())
            })?;
            pins.remove_others(Some(&directory.path));
        }
        Ok(())
    }

    /// Identity of the programs in the kernel; outlives the agent if they are pinned.
    pub fn instance_id(&self) -> &str {
        &self.instance_id
    }

    /// What this kernel does not take.
    pub fn missing(&self) -> &[MissingPart] {
        &self.missing
    }

    /// Removes the pins: the programs end with this process.
    pub fn unpin(&self) {
        if let Some(pins) = &self.pins {
            pins.remove();
        }
    }

    /// Gives every event (`None`: not readable, a loss) with the position behind it to `each` until that returns
    /// `false`; returns the position behind the last.
    pub fn drain(&self, mut each: impl FnMut(Option<KernelEvent>, u64) -> bool) -> u64 {
        self.ring.drain(|record, position| each(event::parse(record), position))
    }

    /// Frees what was published.
    pub fn acknowledge(&self, position: u64) {
        self.ring.acknowledge(position);
    }

    /// Waits until a program is executed somewhere, at most `timeout`. Gives whether one was.
    pub fn wait_for_exec(&self, waiter: &ExecWaiter, timeout: std::time::Duration) -> bool {
        let timeout = rustix::event::Timespec::try_from(timeout).ok();
        let mut events =
            [rustix::event::epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 1];
        epoll::wait(&waiter.0, &mut events, timeout.as_ref()).is_ok_and(|count| count > 0)
    }

    /// What `wait_for_exec` waits with.
    ///
    /// # Errors
    /// The system's.
    pub fn exec_waiter(&self) -> std::io::Result<ExecWaiter> {
        let waiter = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // By edge: what was read but not freed yet must not wake again and again.
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&waiter, self.maps.events.as_fd(), EventData::new_u64(0), flags)?;
        Ok(ExecWaiter(waiter))
    }

    /// Everything was read and freed.
    pub fn is_drained(&self) -> bool {
        self.ring.is_empty()
    }

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

    /// Reports what watched processes have mapped and open now. `false` if this kernel cannot.
    pub fn resync(&self) -> bool {
        let links = self.links.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut done = false;
        for (name, link) in links.iter().filter(|(name, _)| name.starts_with("resync_")) {
            let read = libbpf_rs::Iter::new(link).and_then(|mut iterator| {
                std::io::copy(&mut iterator, &mut std::io::sink()).map_err(libbpf_rs::Error::from)
            });
            match read {
                Ok(_) => done |= name == "resync_mappings",
                Err(error) => tracing::warn!(program = name, %error, "looking at what already runs failed"),
            }
        }
        done
    }

    /// Events lost that belong to no known workload.
    pub fn unassigned_losses(&self) -> u64 {
        [counter::LOST, counter::UNTRACKED]
            .into_iter()
            .filter_map(|index| self.maps.counters.lookup(&index.to_ne_bytes(), MapFlags::ANY).ok().flatten())
            .filter_map(|value| Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?)))
            .chain(self.skipped_runs())
            .sum()
    }

    /// Runs of programs that the kernel skipped, because one was interrupted by itself.
    fn skipped_runs(&self) -> Option<u64> {
        let links = self.links.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let ids: HashSet<u32> =
            links.iter().filter_map(|(_, link)| Some(link.info().ok()?.prog_id)).collect();
        drop(links);
        let skipped = |id: &u32| {
            let descriptor = libbpf_rs::Program::fd_from_id(*id).ok()?;
            let mut info = libbpf_rs::libbpf_sys::bpf_prog_info::default();
            let mut size = u32::try_from(size_of_val(&info)).ok()?;
            // SAFETY: `info` is a plain struct of `size` bytes; the kernel writes at most that many.
            let result = unsafe {
                libbpf_rs::libbpf_sys::bpf_prog_get_info_by_fd(
                    descriptor.as_raw_fd(),
                    &raw mut info,
                    &raw mut size,
                )
            };
            (result == 0).then_some(info.recursion_misses)
        };
        Some(ids.iter().filter_map(skipped).sum())
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

fn ring_of(maps: &Maps) -> Result<Ring, EbpfError> {
    let size_bytes = maps.events.max_entries();
    Ring::new(maps.events.as_fd(), size_bytes)
        .map_err(|error| EbpfError::Load(format!("ring buffer: {error}")))
}

fn fill_programs(maps: &Maps) {
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
