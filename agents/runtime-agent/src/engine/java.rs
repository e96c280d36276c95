//! JVMs of the workloads: found, attached to, and their classes taken as uses.
//! It must never look into a workload's files: its JVMs tell real paths, and a helper process does the rest.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use plimsoll_kit::clock::now_ms;
use plimsoll_schemas::words::{Rung, mount, probe, usage_kind};

use super::TREE_ID;
use super::java_packages::{JAVA_PACKAGES_MAX, JavaPackages, ToTell};
use crate::hooks::report::{JvmReport, Report};
use crate::java::attach::{self, AttachRequest, Attachment};
use crate::java::helper::Outcome;
use crate::java::place::{Place, place_of};
use crate::java::reader::Heard;
use crate::java::{JavaConfig, JavaCoverage, JavaReports, StartHook, text_of};
use crate::observe::Observation;
use crate::workload::{Identity, NO_POSITION, ObservedKey, Watch, Workload};
use crate::{procfs, unmeasurable};

/// Helpers at the same time.
const HELPERS_MAX: usize = 4;
/// JVMs of one workload that are looked after at the same time.
const JVMS_MAX: usize = 1_024;
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

#[derive(Default)]
struct Watched {
    start: Option<StartHook>,
    attached: HashMap<u32, JavaReports>,
    jvms: HashMap<u32, Jvm>,
    coverage: JavaCoverage,
    java_packages: JavaPackages,
    /// Said to be so by its coverage.
    adopted: bool,
}

/// Whether a place is what is mounted there, a jar by itself for example, or lies within it.
fn is_of_mount(place: &[u8], point: &[u8]) -> bool {
    let ends = |rest: &[u8]| rest.is_empty() || rest.starts_with(b"/") || rest.starts_with(b"!/");
    place.strip_prefix(point).is_some_and(ends)
}

/// Whether an archive is of the JVM itself, before JDK 9.
fn is_of_runtime(place: &[u8]) -> bool {
    memchr::memmem::find(place, b"/jre/lib/").is_some()
}

struct Jvm {
    started_ns: Option<u64>,
    since: Instant,
    program: String,
    /// Place of its runtime image.
    image: Option<Vec<u8>>,
    /// Mount points other than its root: volumes, for containers.
    mounts: Vec<Vec<u8>>,
    helper: bool,
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

    /// Classes of a workload came from an archive that is in no list of packages, and may be a copy of one that is.
    pub fn unlisted(&mut self, id: u64, place: &[u8], class: &str, process: &str, workload: &mut Workload) {
        if let Some(watched) = self.workloads.get_mut(&id).filter(|_| !is_of_runtime(place)) {
            let program = format!("/{process}");
            let told = watched.java_packages.copied(&class.replace('.', "/"), place, Instant::now());
            watched.add_java_package(told, &program, workload, now_ms());
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
            (Outcome::Refused(reason), _) => watched.coverage.give_up(answer.pid, &jvm.program, &reason),
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
                let has_agent = watched.start.as_ref().is_some_and(|start| {
                    let directory = start.directory().as_os_str().as_encoded_bytes();
                    let directory = directory.strip_prefix(b"/").unwrap_or(directory);
                    procfs::mappings(pid).iter().any(|mapping| mapping.path.starts_with(directory))
                });
                if has_agent || (watched.start.is_some() && age < HELLO_TIMEOUT) {
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

impl Watched {
    fn enter(&mut self, pid: u32, id: u64) {
        let started_ns = procfs::started_ns(pid);
        // What has ended meanwhile is still that one.
        let is_known = |jvm: &Jvm| started_ns.is_none() || jvm.started_ns == started_ns;
        if self.jvms.get(&pid).is_some_and(is_known) {
            return;
        }
        let program = procfs::executable(pid)
            .map_or_else(|| "a JVM".to_owned(), |path| format!("/{}", String::from_utf8_lossy(&path)));
        if self.jvms.len() >= JVMS_MAX && !self.jvms.contains_key(&pid) {
            let reason = format!(
                "is one of more than {JVMS_MAX} JVMs that run at the same time, whose classes are not taken; run fewer in one \
                 workload"
            );
            self.coverage.give_up(pid, &program, &reason);
            return;
        }
        if self.start.as_ref().is_some_and(|start| start.misleads(pid)) {
            self.coverage.lacks_library(pid, &program);
        }
        let mounts = if id & TREE_ID != 0 { Vec::new() } else { procfs::mount_points(pid) };
        let jvm = Jvm { started_ns, since: Instant::now(), program, image: None, mounts, helper: false };
        self.jvms.insert(pid, jvm);
    }

    fn observe(&mut self, id: u64, workload: &mut Workload) {
        // Looked at before reading: what these had to say is in the FIFO by now.
        let gone: Vec<u32> = self
            .coverage
            .known()
            .into_iter()
            .filter(|pid| {
                let now = procfs::started_ns(*pid);
                now.is_none() || self.jvms.get(pid).is_some_and(|jvm| jvm.started_ns != now)
            })
            .collect();
        let mut heard: Vec<(Option<u32>, Heard)> = Vec::new();
        if let Some(start) = &mut self.start {
            start.reports.read(|one| heard.push((None, one)));
        }
        for (pid, reports) in &mut self.attached {
            reports.read(|one| heard.push((Some(*pid), one)));
        }
        let time_ms = now_ms();
        for (pid, one) in heard {
            match one {
                Heard::Report(kind, report) => {
                    // An attached JVM names itself by the number of its own namespace.
                    let pid = pid.unwrap_or(report.pid);
                    self.on_report(id, pid, kind, &report, workload, time_ms);
                }
                Heard::Garbage => self.coverage.garbage(),
            }
        }
        for pid in gone {
            let program = self.jvms.remove(&pid).map_or_else(|| "a JVM".to_owned(), |jvm| jvm.program);
            self.coverage.gone(pid, &program);
            self.attached.remove(&pid);
        }
    }

    fn on_report(
        &mut self,
        id: u64,
        pid: u32,
        kind: JvmReport,
        report: &Report,
        workload: &mut Workload,
        time_ms: i64,
    ) {
        self.enter(pid, id);
        let program = self.jvms.get(&pid).map_or("a JVM", |jvm| &jvm.program).to_owned();
        self.coverage.on_report(pid, kind, report, &program);
        let Some(jvm) = self.jvms.get_mut(&pid) else { return };
        if kind == JvmReport::Started {
            let path = report.path.strip_prefix(b"/").unwrap_or(&report.path);
            jvm.image = (!path.is_empty()).then(|| path.to_vec());
        }
        if kind != JvmReport::Classes {
            return;
        }
        let classes = || report.name.split(|byte| *byte == b';').filter(|name| !name.is_empty());
        let path = match place_of(&report.path) {
            Place::Path(path) => path,
            Place::RuntimeImage => match &jvm.image {
                Some(image) => image.clone(),
                None => {
                    self.coverage.no_runtime_image(&program);
                    return;
                }
            },
            Place::Unknown => {
                for class in classes() {
                    let told = self.java_packages.placeless(&text_of(class), Instant::now());
                    self.add_java_package(told, &program, workload, time_ms);
                }
                return;
            }
        };
        let on_volume = jvm.mounts.iter().any(|point| is_of_mount(&path, point));
        if on_volume
            && let Some(found) =
                classes().next().and_then(|class| unmeasurable::of_classes_on_volume(&path, class))
        {
            workload.set_unmeasurable(found);
        }
        let process = program.strip_prefix('/').unwrap_or(&program);
        let is_copy =
            workload.is_outside(&path) && jvm.image.as_ref() != Some(&path) && !is_of_runtime(&path);
        for class in classes() {
            if is_copy {
                let told = self.java_packages.copied(&text_of(class), &path, Instant::now());
                self.add_java_package(told, &program, workload, time_ms);
            }
            let observation = Observation {
                kind: usage_kind::CLASS,
                rung: Rung::Loaded,
                path: path.clone(),
                mount: if on_volume { mount::OTHER } else { mount::ROOT },
                inode: 0,
                name: text_of(class).replace('/', "."),
            };
            workload.add(observation, probe::JVMTI, process.to_owned(), time_ms, NO_POSITION, None);
        }
    }

    fn add_java_package(&mut self, told: ToTell, program: &str, workload: &mut Workload, time_ms: i64) {
        match told {
            ToTell::Nothing => {}
            ToTell::Class(class) => {
                let process = program.strip_prefix('/').unwrap_or(program).to_owned();
                workload.add(class, probe::JVMTI, process, time_ms, NO_POSITION, None);
            }
            ToTell::LeftOut => self.coverage.left_out_java_packages(JAVA_PACKAGES_MAX, program),
        }
    }

    fn publish(&self, workload: &mut Workload, boot_id: &str) {
        if let Some(from_first_exec) = self.coverage.watched()
            && !workload.watches.iter().any(|watch| watch.probe == probe::JVMTI)
        {
            let from_ms = if from_first_exec { workload.base.started_at_ms } else { now_ms() };
            workload.watches.push(Watch {
                probe: probe::JVMTI,
                boot_id: boot_id.to_owned(),
                from_ms,
                until_ms: from_ms,
                from_first_exec,
            });
            workload.changed = true;
        }
        workload.set_loss(probe::JVMTI, boot_id, self.coverage.lost());
        for (how, numbers) in self.coverage.observed() {
            workload.set_observed(ObservedKey { ecosystem: "maven", probe: probe::JVMTI, how }, &numbers);
        }
        let ours = |name: &String| name.split(':').next() == Some(probe::JVMTI);
        let unavailable = self.coverage.unavailable(probe::JVMTI);
        if workload.unavailable.iter().filter(|(name, _)| ours(name)).ne(&unavailable) {
            workload.unavailable.retain(|name, _| !ours(name));
            workload.unavailable.extend(unavailable);
            workload.changed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WorkloadKind;
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
    fn places_on_volumes() {
        for (place, expected) in [
            ("app/libs", true),
            ("app/libs/a.jar", true),
            ("app/libs!/a.jar", true),
            ("app/libs2/a.jar", false),
            ("app", false),
        ] {
            assert_eq!(is_of_mount(place.as_bytes(), b"app/libs"), expected, "{place}");
        }
    }

    #[test]
    fn what_began_before_this_agent_has_a_gap() {
        check(0, true, (true, None));
        check(5_000, true, (true, None));
        check(-1, true, (false, Some(1)));
        // Nothing of it counts from the first exec anyway.
        check(-1, false, (false, None));
    }

    #[test]
    fn jvms_beyond_the_bound_are_a_loss_at_once() {
        let mut watched = Watched::default();
        let jvm = || Jvm {
            started_ns: None,
            since: Instant::now(),
            program: String::new(),
            image: None,
            mounts: Vec::new(),
            helper: false,
        };
        watched.jvms.extend((1..).take(JVMS_MAX).map(|number| (u32::MAX - number, jvm())));
        let pid = std::process::id();
        for _ in 0..2 {
            watched.coverage.found(pid);
            watched.enter(pid, TREE_ID);
            assert_eq!(watched.coverage.lost(), 1);
        }
        let reasons = watched.coverage.unavailable(probe::JVMTI);
        assert!(reasons[probe::JVMTI].contains("more than 1024 JVMs"), "{reasons:?}");
    }
}
