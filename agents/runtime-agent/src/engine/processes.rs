//! Counts the processes of interpreters that the kernel's programs watch, for how each language was observed.
//! It must never count a child that is only on its way to another program.

use std::collections::{HashMap, HashSet};

use plimsoll_schemas::words::{observed, probe};

use super::{Engine, Image};
use crate::ebpf::Kernel;
use crate::ebpf::event::{FileAction, FileEvent};
use crate::ebpf::wire::{Tracked, reader};
use crate::hooks::language::Language;
use crate::observe::reader_of;
use crate::procfs;
use crate::sweep::{Reader, Role};
use crate::workload::ObservedKey;

/// Processes of all workloads that are told apart; those that ended make room, and more are not counted.
const PROCESSES_MAX: usize = 32_768;

/// A process as it runs one program, for one language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Process {
    workload: u64,
    pid: u32,
    exec_id: u64,
    language: Language,
}

/// The processes that were counted.
#[derive(Debug, Default)]
pub(super) struct Processes {
    counted: HashSet<Process>,
    /// Seen at the last look, and to be counted if they are still there at the next.
    candidates: HashSet<Process>,
}

impl Processes {
    /// Whether a process is to be counted now.
    fn is_new(&mut self, process: Process) -> bool {
        self.counted.len() < PROCESSES_MAX && self.counted.insert(process)
    }

    /// Looks at what runs: gives what is to be counted, and forgets what ended once there is no more room.
    fn look(&mut self, running: HashSet<Process>) -> Vec<Process> {
        if self.counted.len() >= PROCESSES_MAX {
            self.counted.retain(|process| running.contains(process));
        }
        let stayed: Vec<Process> = running.intersection(&self.candidates).copied().collect();
        self.candidates = running;
        stayed.into_iter().filter(|process| self.is_new(*process)).collect()
    }
}

fn uses_nothing(reader: Reader) -> bool {
    matches!(reader, Reader::Ignored | Reader::Installer)
}

/// A process that ran before it was watched has the number of a process in place of an exec's time.
fn how(exec_id: u64) -> &'static str {
    if exec_id <= u64::from(u32::MAX) { observed::ATTACHED } else { observed::AT_START }
}

impl Engine {
    fn count(&mut self, process: Process) {
        let key = ObservedKey {
            ecosystem: process.language.ecosystem(),
            probe: probe::EBPF_FILES,
            how: how(process.exec_id),
        };
        if let Some(workload) = self.workloads.get_mut(&process.workload) {
            workload.count_process(key);
        }
    }

    /// What processes run that an agent before this one saw begin: whose programs theirs are, and who reads.
    pub(super) fn recall_images(&mut self, kernel: &Kernel) {
        if !kernel.was_pinned() {
            return;
        }
        for (pid, tracked) in kernel.all_tracked() {
            // Not judged yet: its exec is still to be read.
            if how(tracked.exec_id) == observed::ATTACHED || tracked.reader & reader::PROVISIONAL != 0 {
                continue;
            }
            let executable = procfs::executable(pid).unwrap_or_default();
            let reader = Reader::of_class(tracked.reader);
            let image = Image::new(executable, procfs::command_line(pid), reader);
            // It may have gone on to another program while it was looked at.
            if kernel.tracked(pid).is_some_and(|now| now.exec_id == tracked.exec_id) {
                self.remember(tracked.exec_id, image);
            }
        }
    }

    fn note_application(&mut self, workload: u64, language: Language) {
        if let Some(workload) = self.workloads.get_mut(&workload) {
            workload.note_role(language.ecosystem(), Role::Application);
        }
    }

    /// An exec of an interpreter, or the mapping of one: the process may be gone at the next look.
    pub(super) fn count_process(&mut self, event: &FileEvent, reader: Option<Reader>) {
        let maps = reader_of(event, reader);
        let language = match event.action {
            FileAction::Exec if !event.resync => reader.and_then(Reader::language),
            FileAction::Map if !uses_nothing(maps) => Language::of_library(&event.path),
            _ => None,
        };
        let Some(language) = language else { return };
        // An interpreter was judged by its command line; this is what carries one.
        if event.action == FileAction::Map && maps.language() != Some(language) {
            self.note_application(event.workload, language);
        }
        let process = Process { workload: event.workload, pid: event.pid, exec_id: event.exec_id, language };
        if self.processes.is_new(process) {
            self.count(process);
        }
    }

    /// What runs now: forked workers, and what ran before it was watched.
    pub(super) fn count_running(&mut self, tracked: &HashMap<u32, Tracked>) {
        let process = |(pid, tracked): (&u32, &Tracked)| {
            let judged = self.images.get(&tracked.exec_id).map(|image| image.reader);
            let reader = judged.filter(|reader| *reader != Reader::Plain);
            let reader = reader.unwrap_or_else(|| Reader::of_class(tracked.reader));
            let language = reader.language()?;
            Some(Process { workload: tracked.workload, pid: *pid, exec_id: tracked.exec_id, language })
        };
        let running: HashSet<Process> = tracked.iter().filter_map(process).collect();
        // Whose command line was not seen cannot be told from an application. Of others it was noted when they began.
        for process in &running {
            if how(process.exec_id) == observed::ATTACHED && !self.images.contains_key(&process.exec_id) {
                self.note_application(process.workload, process.language);
            }
        }
        for process in self.processes.look(running) {
            self.count(process);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, exec_id: u64) -> Process {
        Process { workload: 1, pid, exec_id, language: Language::Python }
    }

    #[test]
    fn forks_count_once_they_stay() {
        let mut processes = Processes::default();
        assert!(processes.is_new(process(1, 9 << 40)));
        assert!(!processes.is_new(process(1, 9 << 40)));
        let with = |pids: &[u32]| pids.iter().map(|pid| process(*pid, 9 << 40)).collect();
        // 2 is on its way to another program, 3 is a worker.
        assert_eq!(processes.look(with(&[1, 2, 3])), []);
        assert_eq!(processes.look(with(&[1, 3])), [process(3, 9 << 40)]);
        assert_eq!(processes.look(with(&[1, 3])), []);
    }

    #[test]
    fn what_ended_makes_room() {
        let mut processes = Processes::default();
        for pid in 0..PROCESSES_MAX as u32 {
            assert!(processes.is_new(process(pid, 1 << 40)));
        }
        assert!(!processes.is_new(process(7, 2 << 40)));
        assert_eq!(processes.look([process(1, 1 << 40)].into()), []);
        assert!(processes.is_new(process(7, 2 << 40)));
        assert!(!processes.is_new(process(1, 1 << 40)), "what runs is not counted again");
    }

    #[test]
    fn before_the_watch_an_exec_has_the_number_of_its_process() {
        assert_eq!((how(4_194_304), how(1 << 40)), (observed::ATTACHED, observed::AT_START));
    }
}
