//! The loaded programs: attaching, reuse of pinned ones, and their events.
//! It must never detach what is pinned: only `unpin` ends the watch of a pinned instance.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::epoll::{self, EventData, EventFlags};

use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};
use sha2::{Digest, Sha256};

use super::event::{self, KernelEvent};
use super::load::{OPTIONAL, cgroup_controller, load, missing_of, objects};
use super::maps::{MAPS, Maps, fill_programs};
use super::pins::{PinDirectory, Pins};
use super::ring::Ring;
use super::wire::{Plain as _, Settings, counter};
use super::{EbpfConfig, EbpfError, MissingPart};
use crate::procfs;

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

/// Waits for execs.
pub struct ExecWaiter(std::os::fd::OwnedFd);

/// The programs in the kernel.
pub struct Kernel {
    pub(super) maps: Maps,
    ring: Ring,
    /// Until attached.
    object: Mutex<Option<libbpf_rs::Object>>,
    links: Mutex<Vec<(String, Link)>>,
    pins: Option<Pins>,
    unpinned: AtomicBool,
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
                        unpinned: AtomicBool::new(false),
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
            unpinned: AtomicBool::new(false),
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
        self.pins.is_some() && !self.unpinned.load(Ordering::Relaxed)
    }

    /// Sets the programs to work, and pins them if so configured. Nothing to do for pinned ones.
    ///
    /// # Errors
    /// If the kernel refuses a program that is not optional, or pins cannot be made.
    pub fn attach(&mut self) -> Result<(), EbpfError> {
        let object = self.object.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(object) = object else { return Ok(()) };
        self.set_clock();
        let links = self.links.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
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
            self.unpinned.store(true, Ordering::Relaxed);
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

fn ring_of(maps: &Maps) -> Result<Ring, EbpfError> {
    let size_bytes = maps.events.max_entries();
    Ring::new(maps.events.as_fd(), size_bytes)
        .map_err(|error| EbpfError::Load(format!("ring buffer: {error}")))
}
