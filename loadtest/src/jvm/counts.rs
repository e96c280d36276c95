//! What a run cost, and what of that an agent did.
//! It must never know how that was measured.

use std::collections::BTreeMap;

/// Functions of HotSpot that do what an agent asked for: what they are called here, and how their symbols begin.
pub const FUNCTIONS: &[(&str, &str)] = &[
    (LOADING, "_ZN7Threads21create_vm_init_agentsE"),
    // The same since JDK 21.
    (LOADING, "_ZN14JvmtiAgentList11load_agentsE"),
    (INIT, "_ZN11JvmtiExport19post_vm_initializedE"),
    (DEATH, "_ZN11JvmtiExport13post_vm_deathE"),
    (CLASS_LOAD, "_ZN11JvmtiExport15post_class_loadE"),
    (HOOK, "_ZN11JvmtiExport25post_class_file_load_hookE"),
    // Reads the bytes of a class of the shared archive (CDS) for the hook's sake alone; without one it only looks for that.
    (SHARED_HOOK, "_ZN12KlassFactory33check_shared_class_file_load_hookE"),
    // Of each method in each compiled one the compilers note that an agent may change it.
    (COMPILED, "_ZN12Dependencies18assert_evol_methodE"),
];
/// What is told apart.
pub const LABELS: [&str; 7] = [LOADING, INIT, DEATH, CLASS_LOAD, HOOK, SHARED_HOOK, COMPILED];
pub const LOADING: &str = "loading the agent";
const INIT: &str = "VMInit";
const DEATH: &str = "VMDeath";
const COMPILED: &str = "compilers' notes of changeable methods";
pub const CLASS_LOAD: &str = "ClassLoad";
pub const HOOK: &str = "ClassFileLoadHook";
pub const SHARED_HOOK: &str = "ClassFileLoadHook of shared classes";
/// Name of the agent's own thread.
pub const OWN_THREAD: &str = "plimsoll";

/// How much was executed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Instructions outside of the kernel; or nanoseconds, with those of the kernel.
    pub cost: u64,
    /// Only where instructions are counted.
    pub system_calls: u64,
    /// How often it was begun; or how many samples.
    pub entries: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.cost += other.cost;
        self.system_calls += other.system_calls;
        self.entries += other.entries;
    }
}

/// What one run executed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub process: Count,
    /// In the agent's own thread.
    pub own_thread: Count,
    /// In the JVM's functions that an agent makes it call, with all that these call.
    pub asked: BTreeMap<&'static str, Count>,
}

impl Counts {
    /// What an agent makes the JVM's own threads do.
    pub fn asked(&self) -> Count {
        let mut sum = Count::default();
        self.asked.values().for_each(|count| sum += *count);
        sum
    }

    /// All that an agent costs.
    pub fn agent(&self) -> Count {
        let mut sum = self.asked();
        sum += self.own_thread;
        sum
    }
}
