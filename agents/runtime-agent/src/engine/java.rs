//! JVMs of the workloads: found, attached to, and their classes taken as uses.
//! It must never look into a workload's files: its JVMs tell real paths, and a helper process does the rest.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use plimsoll_kit::clock::now_ms;
use plimsoll_schemas::events::UsageItem;
use plimsoll_schemas::words::probe;

use super::jvms::{Watched, is_of_runtime};
use crate::hooks::UnseenStart;
use crate::java::archives;
use crate::java::attach::{self, AttachRequest, Attachment};
use crate::java::coverage::without_option;
use crate::java::helper::Outcome;
use crate::java::{JavaConfig, JavaReports, StartHook};
use crate::procfs;
use crate::workload::{Identity, Workload};

/// Helpers at the same time.
const HELPERS_MAX: usize = 4;
/// Wait between two looks at a JVM whose agent is not at work.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Time for an agent of the start to say hello before anything else is tried.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for a JVM to come up.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// The JVMs of all workloads.
pub struct Java {
    config: JavaConfig,
    only_identified: bool,
    workloads: HashMap<u64, Watched>,
    /// When this agent's life began, in milliseconds since the epoch.
    started_ms: i64,
    /// Workloads that an earlier agent watched from their first exec on.
    adopted: HashSet<u64>,
    answers: (Sender<Attachment>, Receiver<Attachment>),
    helpers: usize,
    next_look: Instant,
}

impl Java {
    /// Nothing is watched yet. `only_identified`: attach to nothing before it is known whether it is to be observed.
    pub fn new(config: JavaConfig, only_identified: bool) -> Self {
        Self {
            config,
            only_identified,
            workloads: HashMap::new(),
            started_ms: now_ms(),
            adopted: HashSet::new(),
            answers: crossbeam_channel::bounded(HELPERS_MAX),
            helpers: 0,
            next_look: Instant::now(),
        }
    }

    /// A tree whose JVMs take the agent at their start.
    pub fn add_tree(&mut self, id: u64, start: StartHook) {
        let watched = self.workloads.entry(id).or_default();
        watched.start = Some(start);
        watched.coverage.starts_with_agent();
    }

    /// A process has mapped a JVM.
    pub fn found(&mut self, id: u64, pid: u32) {
        if !self.config.enabled {
            return;
        }
        let watched = self.workloads.entry(id).or_default();
        watched.coverage.found(pid);
        watched.enter(pid, id);
    }

    /// A JVM was opened by a process of another PID namespace, of which only its own number there is known.
    pub fn out_of_reach(&mut self, id: u64) {
        if self.config.enabled {
            self.workloads.entry(id).or_default().coverage.out_of_reach();
        }
    }

    /// A program was started in which a JVM would not take the agent.
    pub fn started_unseen(&mut self, id: u64, start: UnseenStart) {
        if self.config.enabled {
            self.workloads.entry(id).or_default().started_unseen(start);
        }
    }

    /// Classes of a workload came from an archive that is in no list of packages, and may be a copy of one that is.
    pub fn unlisted(&mut self, id: u64, place: &[u8], class: &str, process: &str, workload: &mut Workload) {
        if let Some(watched) = self.workloads.get_mut(&id).filter(|_| !is_of_runtime(place)) {
            let program = format!("/{process}");
            let told = watched.java_packages.copied(&class.replace('.', "/"), place, Instant::now());
            watched.add_java_package(told, &program, workload, now_ms());
        }
    }

    /// A class's archive lies elsewhere, and is none of the component's for all that is known.
    pub fn elsewhere(&mut self, id: u64, place: &[u8], item: &UsageItem, workload: &mut Workload) {
        if let Some(watched) = self.workloads.get_mut(&id) {
            let (class, program) = (item.name.replace('.', "/"), format!("/{}", item.process));
            watched.is_elsewhere(place, &class, &program, workload, item.last_seen_ms);
        }
    }

    /// A class names a listed archive as its source: to be asked whether that has its Java package.
    pub fn defined(&mut self, id: u64, place: &[u8], class: &str, process: &str, workload: &mut Workload) {
        if let Some(watched) = self.workloads.get_mut(&id) {
            let told = watched.java_packages.within(&class.replace('.', "/"), place, Instant::now());
            watched.add_java_package(told, &format!("/{process}"), workload, now_ms());
        }
    }

    /// A class's archive does not have its Java package: whoever has may have defined it.
    pub fn placeless(&mut self, id: u64, class: &str, process: &str, workload: &mut Workload) {
        if let Some(watched) = self.workloads.get_mut(&id) {
            let told = watched.java_packages.placeless(&class.replace('.', "/"), Instant::now());
            watched.add_java_package(told, &format!("/{process}"), workload, now_ms());
        }
    }

    /// Forgets a workload.
    pub fn forget(&mut self, id: u64) {
        self.adopted.remove(&id);
        self.workloads.remove(&id);
    }

    /// Adds to the workloads whatever their JVMs told, and looks after those without an agent.
    pub fn observe(&mut self, workloads: &mut HashMap<u64, Workload>, boot_id: &str) {
        while let Ok(answer) = self.answers.1.try_recv() {
            self.helpers -= 1;
            self.answered(answer);
        }
        for (id, watched) in &mut self.workloads {
            let Some(workload) = workloads.get_mut(id) else { continue };
            watched.coverage.workload_from_first_exec = workload
                .is_watched_from_first_exec(probe::EBPF_FILES)
                && workload.base.started_at_ms >= self.started_ms;
            watched.observe(*id, workload);
            watched.publish(workload, boot_id);
        }
        self.adopt(workloads, boot_id);
        if Instant::now() >= self.next_look {
            self.next_look = Instant::now() + LOOK_INTERVAL;
            self.look(workloads);
        }
    }

    /// The kernel watched these workloads while no agent ran, but nobody listened to their JVMs, which may have ended.
    fn adopt(&mut self, workloads: &mut HashMap<u64, Workload>, boot_id: &str) {
        if !self.config.enabled {
            return;
        }
        for (id, workload) in workloads {
            let is_older = workload.base.started_at_ms < self.started_ms
                && workload.is_watched_from_first_exec(probe::EBPF_FILES);
            if is_older && self.adopted.insert(*id) {
                workload.set_loss(probe::JVMTI, boot_id, 1);
            }
            if self.adopted.contains(id)
                && let Some(watched) = self.workloads.get_mut(id)
                && !watched.adopted
            {
                watched.adopted = true;
                watched.coverage.adopted();
            }
        }
    }

    fn answered(&mut self, answer: Attachment) {
        let Some(watched) = self.workloads.get_mut(&answer.workload) else { return };
        let Some(jvm) = watched.jvms.get_mut(&answer.pid) else { return };
        jvm.helper = false;
        match (answer.outcome, answer.fifo) {
            (Outcome::Attached { unloaded }, Some(fifo)) => {
                watched.coverage.attached(answer.pid, &jvm.program, unloaded);
                watched.attached.insert(answer.pid, JavaReports::new(fifo));
            }
            (Outcome::Attached { .. }, None) => {
                watched.coverage.give_up(
                    answer.pid,
                    &jvm.program,
                    "has an agent without a FIFO; please report this",
                );
            }
            (Outcome::Refused(reason), _) => {
                let is_told = !jvm.lacks_option || reason.starts_with(archives::WHY);
                let reason = if is_told { reason } else { without_option(&reason) };
                watched.coverage.give_up(answer.pid, &jvm.program, &reason);
            }
            // It is looked at again, or found to be gone.
            (Outcome::NotYet | Outcome::Gone, _) => {}
        }
    }

    fn look(&mut self, workloads: &HashMap<u64, Workload>) {
        for (id, watched) in &mut self.workloads {
            if self.only_identified
                && workloads.get(id).is_none_or(|workload| workload.identity != Identity::Known)
            {
                // Nobody is waited for meanwhile.
                watched.jvms.values_mut().for_each(|jvm| jvm.since = Instant::now());
                continue;
            }
            let waiting: Vec<u32> =
                watched.coverage.open().filter(|pid| watched.coverage.is_expected(*pid)).collect();
            for pid in waiting {
                let Some(jvm) = watched.jvms.get_mut(&pid) else { continue };
                let age = jvm.since.elapsed();
                let Some(started_ns) = jvm.started_ns.filter(|_| !jvm.helper && age >= LOOK_INTERVAL) else {
                    continue;
                };
                if age >= READY_TIMEOUT {
                    let reason = "does not come up, was stopped, or takes no agent (-Xrs); start it with `plimsoll run`";
                    watched.coverage.give_up(pid, &jvm.program, reason);
                    continue;
                }
                // Its hello is on its way.
                let has_agent = watched
                    .start
                    .as_ref()
                    .is_some_and(|start| procfs::maps_below(pid, start.directory()) == Some(true));
                if has_agent || (watched.start.is_some() && !jvm.lacks_option && age < HELLO_TIMEOUT) {
                    continue;
                }
                if !self.config.attach {
                    let reason = "was started without the agent, and attaching is switched off; switch it on (java.attach), or start it with \
                                  `plimsoll run`";
                    watched.coverage.give_up(pid, &jvm.program, reason);
                    continue;
                }
                if self.helpers >= HELPERS_MAX {
                    return;
                }
                let answers = self.answers.0.clone();
                let request = AttachRequest {
                    workload: *id,
                    pid,
                    started_ns,
                    attach_from_21: self.config.attach_from_21,
                    helper: self.config.helper.clone(),
                };
                let started = attach::start(request, move |answer| {
                    // Closed: the agent has ended.
                    let _ = answers.send(answer);
                });
                match started {
                    Ok(()) => {
                        self.helpers += 1;
                        jvm.helper = true;
                    }
                    Err(error) => {
                        let reason = format!(
                            "was not attached to: no thread is to be had ({error}); raise the agent's limit of threads"
                        );
                        watched.coverage.give_up(pid, &jvm.program, &reason);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Watch, WorkloadKind};
    use plimsoll_schemas::events::RuntimeWorkload;

    fn workload(started_at_ms: i64, from_first_exec: bool) -> Workload {
        let base = RuntimeWorkload { started_at_ms, ..RuntimeWorkload::default() };
        let mut workload = Workload::new("m/c".into(), WorkloadKind::Container("c".into()), base, 0);
        let (from_ms, until_ms) = (started_at_ms, started_at_ms);
        workload.watches.push(Watch {
            probe: probe::EBPF_FILES,
            boot_id: "kernel".into(),
            from_ms,
            until_ms,
            from_first_exec,
        });
        workload
    }

    fn check(offset_ms: i64, from_first_exec: bool, expected: (bool, Option<u64>)) {
        let mut java = Java::new(JavaConfig::default(), false);
        let mut workloads = HashMap::from([(1, workload(java.started_ms + offset_ms, from_first_exec))]);
        // Also of a JVM that ended before this agent could see it.
        java.observe(&mut workloads, "boot");
        java.workloads.entry(1).or_default();
        java.observe(&mut workloads, "boot");
        let complete = java.workloads[&1].coverage.workload_from_first_exec;
        let lost = workloads[&1].losses.get(&(probe::JVMTI.to_owned(), "boot".to_owned())).copied();
        assert_eq!((complete, lost), expected, "{offset_ms} {from_first_exec}");
    }

    #[test]
    fn what_began_before_this_agent_has_a_gap() {
        check(0, true, (true, None));
        check(5_000, true, (true, None));
        check(-1, true, (false, Some(1)));
        // Nothing of it counts from the first exec anyway.
        check(-1, false, (false, None));
    }
}
