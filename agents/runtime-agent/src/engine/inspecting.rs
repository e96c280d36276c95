//! Programs and scripts are looked at once, for the marks of bundlers and native images: on a thread of its own, as a file
//! can be slow.
//! It must never make the engine wait, follow a link out of a workload's root, nor give up a file without saying so.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{Engine, TREE_ID};
use crate::resolver::open_directory;
use crate::unmeasurable::{self, Found};
use crate::workload::{Look, Script, Workload};

/// Files that wait for the thread at the same time; more stay with their workloads.
const WAITING_MAX: usize = 1_024;
/// Longest wait at the end for what is still looked at.
const END_WAIT: Duration = Duration::from_secs(2);
/// Wait between two looks at the thread's answers at the end.
const PAUSE: Duration = Duration::from_millis(1);

struct Question {
    root: OwnedFd,
    path: Vec<u8>,
    look: Look,
}

/// The thread that looks, and what it found.
pub(super) struct Inspector {
    questions: Sender<Question>,
    found: Receiver<Option<Found>>,
    /// What was handed out, in the order of the answers.
    waiting: VecDeque<(u64, Script)>,
}

impl Inspector {
    /// `None` if no thread is to be had: then nothing is looked at.
    pub(super) fn start() -> Option<Self> {
        let (questions, queue) = crossbeam_channel::bounded::<Question>(WAITING_MAX);
        let (answers, found) = crossbeam_channel::bounded(WAITING_MAX);
        let look = move || {
            for question in queue {
                if answers.send(inspect(&question)).is_err() {
                    return;
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("inspector".into()).spawn(look) {
            tracing::warn!(%error, "no thread to look for bundles: what programs and scripts hide is not known");
            return None;
        }
        Some(Self { questions, found, waiting: VecDeque::new() })
    }

    /// Whether a look into something of this workload is still to be told.
    pub(super) fn waits_for(&self, id: u64) -> bool {
        self.waiting.iter().any(|(of, _)| *of == id)
    }

    /// What was handed out and not answered.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Script> {
        self.waiting.iter().map(|(_, script)| script)
    }
}

fn inspect(question: &Question) -> Option<Found> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = Path::new(std::ffi::OsStr::from_bytes(&question.path));
    let opened = rustix::fs::openat2(&question.root, path, flags, Mode::empty(), resolve);
    let file = opened.ok().map(File::from);
    match question.look {
        Look::Hidden => unmeasurable::of_file(file?, &question.path),
        Look::Forks => unmeasurable::php::of_file(file, &question.path).map(Found::Hidden),
    }
}

impl Engine {
    /// Hands files out to be looked at, and takes what was found.
    pub(super) fn inspect(&mut self) {
        let Some(inspector) = &mut self.inspector else {
            self.workloads.values_mut().for_each(Workload::give_up_scripts);
            return;
        };
        while let Ok(found) = inspector.found.try_recv() {
            let of = inspector.waiting.pop_front().and_then(|(id, _)| self.workloads.get_mut(&id));
            if let (Some(found), Some(workload)) = (found, of) {
                workload.set_found(found);
            }
        }
        for (id, workload) in &mut self.workloads {
            while inspector.waiting.len() < WAITING_MAX
                && let Some(script) = workload.scripts.pop_front()
            {
                let root = match self.roots.get(id) {
                    Some(root) => root.directory.try_clone().ok(),
                    None if id & TREE_ID != 0 => open_directory(Path::new("/")),
                    None => None,
                };
                // Gone before its root could be opened: programs have no owner either, but a bundle's packages have.
                let Some(root) = root else {
                    if script.look == Look::Forks || unmeasurable::may_be_bundle(&script.path) {
                        workload.not_looked_at(&script.path, script.look);
                    }
                    continue;
                };
                match inspector.questions.try_send(Question {
                    root,
                    path: script.path.clone(),
                    look: script.look,
                }) {
                    Ok(()) => inspector.waiting.push_back((*id, script)),
                    Err(_) => {
                        // The thread has ended, as it has room for all that wait.
                        workload.not_looked_at(&script.path, script.look);
                    }
                }
            }
        }
    }

    /// The same at the end, until all was looked at; what takes too long is said to be unknown.
    pub(super) fn inspect_to_the_end(&mut self) {
        self.inspect();
        let deadline = Instant::now() + END_WAIT;
        while self.inspector.as_ref().is_some_and(|inspector| !inspector.waiting.is_empty())
            && Instant::now() < deadline
        {
            std::thread::sleep(PAUSE);
            self.inspect();
        }
        self.workloads.values_mut().for_each(Workload::give_up_scripts);
        for (id, script) in self.inspector.iter_mut().flat_map(|inspector| inspector.waiting.drain(..)) {
            if let Some(workload) = self.workloads.get_mut(&id) {
                workload.not_looked_at(&script.path, script.look);
            }
        }
    }
}
