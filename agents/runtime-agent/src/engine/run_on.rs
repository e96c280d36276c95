//! Processes of trees that run on when the observation ends: nobody sees what they use from then on.
//! It must never take a process that is only about to end for one that runs on.

use std::time::{Duration, Instant};

use super::{Engine, TREE_ID};
use crate::procfs;
use crate::workload::RunOn;

/// How long a process may take to end once its tree's observation ends.
const END_MAX: Duration = Duration::from_secs(2);

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
            let (Some(first), Some(workload)) = (running.first(), self.workloads.get_mut(&tree)) else {
                continue;
            };
            let program = procfs::executable(*first).unwrap_or_default();
            let program = String::from_utf8_lossy(&program);
            let name = program.rsplit('/').next().unwrap_or_default().to_owned();
            let run_on = RunOn { processes: running.len() as u64, first: *first, name };
            tracing::warn!(reason = run_on.reason(), "not measured");
            workload.run_on = Some(run_on);
            workload.changed = true;
        }
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
