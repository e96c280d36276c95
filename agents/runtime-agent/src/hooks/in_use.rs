//! What the living processes of a tree hold loaded, to be told again once per epoch.
//! It must never tell of a process that has ended, nor hold more than so many uses.

use std::collections::HashMap;

use crate::observe::Observation;

/// Uses that are remembered; others are told once only.
const USES_MAX: usize = 50_000;

/// One use of a living process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub probe: &'static str,
    pub process: String,
    pub observation: Observation,
}

/// The uses of the processes that are not known to have ended.
#[derive(Debug, Default)]
pub struct InUse {
    processes: HashMap<u32, Process>,
    count: usize,
}

#[derive(Debug)]
struct Process {
    /// When it was started: another process may get its number.
    started_ns: Option<u64>,
    uses: Vec<Use>,
}

impl InUse {
    /// Remembers a use of a process; `started` tells when a process was started, if it lives.
    pub fn add(&mut self, pid: u32, one: Use, started: impl Fn(u32) -> Option<u64>) {
        if self.count >= USES_MAX {
            self.retain(&started);
        }
        if self.count >= USES_MAX {
            return;
        }
        let process = self
            .processes
            .entry(pid)
            .or_insert_with(|| Process { started_ns: started(pid), uses: Vec::new() });
        process.uses.push(one);
        self.count += 1;
    }

    /// A process runs another program now.
    pub fn forget(&mut self, pid: u32) {
        self.count -= self.processes.remove(&pid).map_or(0, |process| process.uses.len());
    }

    /// Gives what the processes that live hold.
    pub fn living(&mut self, started: impl Fn(u32) -> Option<u64>) -> impl Iterator<Item = &Use> {
        self.retain(&started);
        self.processes.values().flat_map(|process| &process.uses)
    }

    fn retain(&mut self, started: &impl Fn(u32) -> Option<u64>) {
        self.processes
            .retain(|pid, process| process.started_ns.is_some() && started(*pid) == process.started_ns);
        self.count = self.processes.values().map(|process| process.uses.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_schemas::words::Rung;

    fn one(path: &str) -> Use {
        let observation = Observation {
            kind: "library",
            rung: Rung::Loaded,
            path: path.into(),
            mount: "root",
            inode: 0,
            name: String::new(),
            origin: crate::observe::Origin::default(),
        };
        Use { probe: "ld-audit", process: String::new(), observation }
    }

    #[test]
    fn only_the_living_hold_anything() {
        let mut in_use = InUse::default();
        // Process 3 has ended before it was looked at.
        let before = |pid| (pid != 3).then_some(10);
        for (pid, path) in [(1, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "e")] {
            in_use.add(pid, one(path), before);
        }
        in_use.forget(4);
        in_use.forget(5);
        // The number of process 2 belongs to another one now.
        let after = |pid| Some(if pid == 2 { 20 } else { 10 });
        let mut paths: Vec<_> = in_use.living(after).map(|one| one.observation.path.clone()).collect();
        paths.sort();
        assert_eq!(paths, [b"a", b"b"]);
        assert_eq!(in_use.count, 2);
    }

    #[test]
    fn holds_so_many() {
        let mut in_use = InUse::default();
        for number in 0..USES_MAX + 10 {
            in_use.add(1, one(&number.to_string()), |_| Some(1));
        }
        assert_eq!(in_use.count, USES_MAX);
        // The dead make room.
        in_use.add(2, one("x"), |pid| (pid == 2).then_some(2));
        assert_eq!(in_use.count, 1);
    }
}
