//! The JVMs of one workload: what is known of each, and their classes taken as uses.
//! It must never take a report for that of another JVM, nor leave one without a word in the coverage.

use std::collections::HashMap;
use std::time::Instant;

use plimsoll_kit::clock::now_ms;
use plimsoll_schemas::words::{
    ARCHIVE_ELSEWHERE, PATH_MAX_BYTES, Rung, VIRTUAL_FILES, mount, probe, usage_kind,
};

use super::TREE_ID;
use super::java_packages::{JAVA_PACKAGES_MAX, JavaPackages, ToTell};
use crate::hooks::UnseenStart;
use crate::hooks::report::{JvmReport, Report};
use crate::java::place::{Place, place_of};
use crate::java::reader::Heard;
use crate::java::{JavaCoverage, JavaReports, StartHook, archives, text_of};
use crate::observe::{Observation, Origin};
use crate::workload::{NO_POSITION, ObservedKey, Watch, Workload};
use crate::{procfs, unmeasurable};

/// JVMs of one workload that are looked after at the same time.
pub const JVMS_MAX: usize = 1_024;
#[derive(Default)]
pub struct Watched {
    pub start: Option<StartHook>,
    pub attached: HashMap<u32, JavaReports>,
    pub jvms: HashMap<u32, Jvm>,
    pub coverage: JavaCoverage,
    pub java_packages: JavaPackages,
    /// Programs that run without the agent's variable, by number, with the time of their start: found later if they are JVMs.
    unseen: HashMap<u32, (u64, UnseenStart)>,
    /// Said to be so by its coverage.
    pub adopted: bool,
}

/// Whether a place is what is mounted there, a jar by itself for example, or lies within it.
pub fn is_of_mount(place: &[u8], point: &[u8]) -> bool {
    let ends = |rest: &[u8]| rest.is_empty() || rest.starts_with(b"/") || rest.starts_with(b"!/");
    place.strip_prefix(point).is_some_and(ends)
}

/// Whether an archive is of the JVM itself, before JDK 9.
pub fn is_of_runtime(place: &[u8]) -> bool {
    memchr::memmem::find(place, b"/jre/lib/").is_some()
}

pub struct Jvm {
    pub started_ns: Option<u64>,
    pub since: Instant,
    pub program: String,
    /// Place of its runtime image.
    pub image: Option<Vec<u8>>,
    /// Mount points other than its root: volumes, for containers.
    pub mounts: Vec<Vec<u8>>,
    pub helper: bool,
    /// Its environment does not name the agent, which need not be waited for.
    pub lacks_option: bool,
}

impl Watched {
    pub fn enter(&mut self, pid: u32, id: u64) {
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
        if archives::is_written_by(pid) {
            self.coverage.writes_archive(pid);
        }
        let lacks_option = self.start.as_ref().is_some_and(|start| !start.is_named_by(pid));
        let mounts = if id & TREE_ID != 0 { Vec::new() } else { procfs::mount_points(pid) };
        let since = Instant::now();
        let jvm = Jvm { started_ns, since, program, image: None, mounts, helper: false, lacks_option };
        self.jvms.insert(pid, jvm);
    }

    /// A program was started in which a JVM would not take the agent: known if it is found while it lives, else lost.
    pub fn started_unseen(&mut self, start: UnseenStart) {
        match start.pid.and_then(|pid| Some((pid, procfs::started_ns(pid)?))) {
            Some((pid, _)) if self.jvms.contains_key(&pid) => {}
            Some((pid, started_ns)) if self.unseen.len() < JVMS_MAX => {
                self.unseen.insert(pid, (started_ns, start));
            }
            _ => self.coverage.unseen(&start),
        }
    }

    pub fn observe(&mut self, id: u64, workload: &mut Workload) {
        let jvms = &self.jvms;
        self.unseen.retain(|pid, (started_ns, start)| {
            let ended = procfs::started_ns(*pid) != Some(*started_ns);
            if ended && !jvms.contains_key(pid) {
                self.coverage.unseen(start);
            }
            !ended && !jvms.contains_key(pid)
        });
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

    pub fn on_report(
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
            Place::Virtual(place) => {
                for class in classes() {
                    self.ask_elsewhere(&place, &text_of(class), &program, workload, time_ms);
                }
                return;
            }
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
        let is_copy =
            workload.is_outside(&path) && jvm.image.as_ref() != Some(&path) && !is_of_runtime(&path);
        for class in classes() {
            if is_copy {
                self.ask_elsewhere(&path, &text_of(class), &program, workload, time_ms);
                continue;
            }
            let mount = if on_volume { mount::OTHER } else { mount::ROOT };
            add_class(workload, path.clone(), mount, &text_of(class), &program, time_ms);
        }
    }

    /// A class from a place outside of the component: asks whether that is one of its archives, unpacked or deployed.
    fn ask_elsewhere(
        &mut self,
        place: &[u8],
        class: &str,
        program: &str,
        workload: &mut Workload,
        time_ms: i64,
    ) {
        let path = [ARCHIVE_ELSEWHERE, place].concat();
        if path.len() > PATH_MAX_BYTES {
            return self.is_elsewhere(place, class, program, workload, time_ms);
        }
        add_class(workload, path, mount::ROOT, class, program, time_ms);
    }

    /// It is none of them, for all that is known: whoever has the class's Java package may have been copied there.
    pub fn is_elsewhere(
        &mut self,
        place: &[u8],
        class: &str,
        program: &str,
        workload: &mut Workload,
        time_ms: i64,
    ) {
        let told = self.java_packages.copied(class, place, Instant::now());
        self.add_java_package(told, program, workload, time_ms);
        if !place.starts_with(VIRTUAL_FILES) {
            add_class(workload, place.to_vec(), mount::ROOT, class, program, time_ms);
        }
    }

    pub fn add_java_package(&mut self, told: ToTell, program: &str, workload: &mut Workload, time_ms: i64) {
        match told {
            ToTell::Nothing => {}
            ToTell::Class(class) => {
                let process = program.strip_prefix('/').unwrap_or(program).to_owned();
                workload.add(class, probe::JVMTI, process, time_ms, NO_POSITION, None);
            }
            ToTell::LeftOut => self.coverage.left_out_java_packages(JAVA_PACKAGES_MAX, program),
        }
    }

    pub fn publish(&self, workload: &mut Workload, boot_id: &str) {
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

/// Adds the use of a class of this place by a program (`/usr/bin/java`).
fn add_class(
    workload: &mut Workload,
    path: Vec<u8>,
    mount: &'static str,
    class: &str,
    program: &str,
    time_ms: i64,
) {
    let observation = Observation {
        kind: usage_kind::CLASS,
        rung: Rung::Loaded,
        path,
        mount,
        inode: 0,
        name: class.replace('/', "."),
        origin: Origin::default(),
    };
    let process = program.strip_prefix('/').unwrap_or(program).to_owned();
    workload.add(observation, probe::JVMTI, process, time_ms, NO_POSITION, None);
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn jvms_beyond_the_bound_are_a_loss_at_once() {
        let mut watched = Watched::default();
        let jvm = || Jvm {
            started_ns: None,
            since: Instant::now(),
            program: String::new(),
            image: None,
            mounts: Vec::new(),
            helper: false,
            lacks_option: false,
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
