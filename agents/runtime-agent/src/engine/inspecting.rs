//! Programs and scripts are looked at once, for the marks of bundlers and native images: on a thread of its own, as a file can be slow.
//! It must never make the engine wait, nor follow a link out of a workload's root.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{Engine, TREE_ID};
use crate::resolver::open_directory;
use crate::unmeasurable::{self, Unmeasurable};

/// Scripts that wait to be looked at; others are taken for what they seem.
const WAITING_MAX: usize = 1_024;
/// Longest wait at the end for what is still looked at.
const END_WAIT: Duration = Duration::from_millis(500);

struct Script {
    workload: u64,
    root: OwnedFd,
    path: Vec<u8>,
}

/// The thread that looks, and what it found.
pub(super) struct Inspector {
    scripts: Sender<Script>,
    found: Receiver<(u64, Option<Unmeasurable>)>,
    waiting: usize,
}

impl Inspector {
    /// `None` if no thread is to be had: then nothing is taken for a bundle.
    pub(super) fn start() -> Option<Self> {
        let (scripts, queue) = crossbeam_channel::bounded::<Script>(WAITING_MAX);
        let (answers, found) = crossbeam_channel::bounded(WAITING_MAX);
        let look = move || {
            for script in queue {
                if answers.send((script.workload, inspect(&script))).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("inspector".into()).spawn(look).ok()?;
        Some(Self { scripts, found, waiting: 0 })
    }
}

fn inspect(script: &Script) -> Option<Unmeasurable> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = Path::new(std::ffi::OsStr::from_bytes(&script.path));
    let file = rustix::fs::openat2(&script.root, path, flags, Mode::empty(), resolve).ok()?;
    unmeasurable::of_file(File::from(file), &script.path)
}

impl Engine {
    /// Hands scripts out to be looked at, and takes what was found.
    pub(super) fn inspect(&mut self) {
        let Some(inspector) = &mut self.inspector else { return };
        while let Ok((id, found)) = inspector.found.try_recv() {
            inspector.waiting = inspector.waiting.saturating_sub(1);
            if let (Some(found), Some(workload)) = (found, self.workloads.get_mut(&id)) {
                workload.set_unmeasurable(found);
            }
        }
        for (id, workload) in &mut self.workloads {
            for path in std::mem::take(&mut workload.scripts) {
                let root = match self.roots.get(id) {
                    Some(root) => root.directory.try_clone().ok(),
                    None if id & TREE_ID != 0 => open_directory(Path::new("/")),
                    None => None,
                };
                let Some(root) = root else { continue };
                if inspector.scripts.try_send(Script { workload: *id, root, path }).is_ok() {
                    inspector.waiting += 1;
                }
            }
        }
    }

    /// The same at the end, until all was looked at.
    pub(super) fn inspect_to_the_end(&mut self) {
        self.inspect();
        let deadline = Instant::now() + END_WAIT;
        while self.inspector.as_ref().is_some_and(|inspector| inspector.waiting > 0)
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
            self.inspect();
        }
    }
}
