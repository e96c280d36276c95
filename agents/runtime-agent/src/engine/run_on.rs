//! Processes that run on when the observation ends: nobody sees what they use from then on.
//! It must never take a process that is only about to end for one that runs on.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use super::{Engine, TREE_ID};
use crate::procfs;
use crate::workload::{Identity, RunOn};

/// How long a process may take to end once its tree's observation ends.
const END_MAX: Duration = Duration::from_secs(2);
/// How long the end of a watch may take to read what containers still do.
const READ_MAX: Duration = Duration::from_secs(2);

impl Engine {
    /// Observes trees until their processes have ended, or for a moment: what runs on then keeps everything of its
    /// workload from counting as unused.
    pub(super) fn see_trees_end(&mut self) {
        let deadline = Instant::now() + END_MAX.min(self.config.stop_timeout);
        let trees: Vec<u64> = self.workloads.keys().copied().filter(|id| id & TREE_ID != 0).collect();
        for tree in trees {
            let mut running = self.running(tree);
            while !running.is_empty() && Instant::now() < deadline {
                self.drain();
                if !self.take_input() {
                    break;
                }
                // What ended may have started others.
                if !running.iter().all(|pid| procfs::runs(*pid)) {
                    running = self.running(tree);
                }
            }
            running.retain(|pid| procfs::runs(*pid));
            self.runs_on(tree, &running);
        }
    }

    /// Containers that run on, where the programs end with this agent: what they use from now on nobody sees. What
    /// ended before this look has left all its events by then, so that the reading after it finds them.
    pub(super) fn leave_containers(&mut self) {
        let Some(kernel) = self.kernel.clone().filter(|kernel| !kernel.is_pinned()) else { return };
        let deadline = Instant::now() + READ_MAX;
        let mut left: HashSet<u64> = HashSet::new();
        loop {
            let mut running: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
            for (pid, tracked) in kernel.all_tracked() {
                if tracked.workload & TREE_ID == 0 && !left.contains(&tracked.workload) && procfs::runs(pid) {
                    running.entry(tracked.workload).or_default().push(pid);
                }
            }
            let is_told = |id: &&u64| {
                self.workloads.get(id).is_some_and(|workload| workload.identity != Identity::Pending)
            };
            let containers = running.keys().filter(is_told).count();
            if containers > 0 {
                tracing::warn!(containers, "not measured: they run on when the observation ends");
            }
            for (container, pids) in &mut running {
                pids.sort_unstable();
                self.runs_on(*container, pids);
            }
            left.extend(self.workloads.keys());
            let mut more = self.drain();
            while more && Instant::now() < deadline {
                more = self.drain();
            }
            // Those that began meanwhile may run on, too.
            let are_all_left = self.workloads.keys().all(|id| left.contains(id));
            let is_late = more || !are_all_left && Instant::now() >= deadline;
            if is_late {
                // They go with the programs.
                tracing::warn!("events are lost: more came than could be read before the end");
                for workload in self.workloads.values_mut() {
                    workload.lose(1, self.stamper.boot_id());
                }
            }
            if is_late || are_all_left {
                return;
            }
        }
    }

    fn runs_on(&mut self, id: u64, running: &[u32]) {
        let (Some(first), Some(workload)) = (running.first(), self.workloads.get_mut(&id)) else { return };
        let program = procfs::executable(*first).unwrap_or_default();
        let program = String::from_utf8_lossy(&program);
        let name = program.rsplit('/').next().unwrap_or_default().to_owned();
        let in_container = id & TREE_ID == 0;
        let run_on = RunOn { processes: running.len() as u64, first: *first, name, in_container };
        match in_container {
            true => tracing::debug!(workload = workload.id, reason = run_on.reason(), "not measured"),
            false => tracing::warn!(reason = run_on.reason(), "not measured"),
        }
        workload.run_on = Some(run_on);
        workload.changed = true;
    }

    /// Processes of a tree, in the order of their numbers.
    fn running(&self, tree: u64) -> Vec<u32> {
        let tracked = self.kernel.iter().flat_map(|kernel| kernel.all_tracked());
        let tracked = tracked.filter(|(_, tracked)| tracked.workload == tree).map(|(pid, _)| pid);
        let hooked = self.hooks.iter().filter(|(of, _)| *of == tree).flat_map(|(_, hooks)| hooks.processes());
        let mut running: Vec<u32> = tracked.chain(hooked).filter(|pid| procfs::runs(*pid)).collect();
        running.sort_unstable();
        running.dedup();
        running
    }
}
