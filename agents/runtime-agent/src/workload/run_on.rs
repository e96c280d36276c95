//! What is said of processes that outlived the observation of their workload. Pure.
//! It must never sound as if they had been seen to the end.

/// Processes of a workload that ran on when its observation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOn {
    /// How many.
    pub processes: u64,
    /// One of them.
    pub first: u32,
    /// The name of its program.
    pub name: String,
    /// They are of a container, not of a command.
    pub in_container: bool,
}

impl RunOn {
    /// Why nothing of the workload is unused, with the remedy.
    pub fn reason(&self) -> String {
        let Self { processes, first, name, in_container } = self;
        let are = if *processes == 1 { "process" } else { "processes" };
        format!(
            "{processes} {are} ran on when the observation ended (first: {name}, pid {first}), and nobody saw what came \
             after; {}",
            match in_container {
                true =>
                    "start the container again under observation, and end that after the container, or in a way \
                         that leaves the programs pinned (ebpf.pin and not ebpf.unpin_at_end)",
                false =>
                    "observe it as a service or container, or let the command wait until they have ended",
            }
        )
    }
}
