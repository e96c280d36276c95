//! What the JVMTI agents of one workload can vouch for. Pure.
//! It must never let the probe count as complete when a JVM ran, or loaded classes, without being seen.

use std::collections::{BTreeMap, HashMap};

use plimsoll_schemas::words::observed;

use super::archives;
use super::counted::Counted;
use crate::hooks::UnseenStart;
use crate::hooks::report::{JvmReport, Report};
use crate::workload::ObservedNumbers;

/// JVMs named with the reason why they are not measured.
const REASONS_MAX: usize = 16;
/// Why a JVM was not observed that ended early: the agent's variable was set for it, but did not reach it.
const WITHOUT_OPTION: &str = "was started without the JAVA_TOOL_OPTIONS of `plimsoll run`, or in another root directory \
    where its agent is not, and ended before it could be attached to; let what starts it (a start script with `unset` or \
    `env -i`, for example) keep that variable, or let it run for some seconds, and take it out before another root directory \
    (`env -u JAVA_TOOL_OPTIONS`), or if it writes an archive of its classes (CDS) by options in a file or an inner script";
/// The same of one that could not be attached to, either.
pub fn without_option(reason: &str) -> String {
    format!(
        "was started without the JAVA_TOOL_OPTIONS of `plimsoll run` (what starts it took them out, or it writes an archive of \
         its classes by options in a file), and {reason}"
    )
}
/// The agent's library is not where the JVM's environment says.
const ELSEWHERE: &str = "was started in another root directory, where the agent of its JAVA_TOOL_OPTIONS is not, and so \
    refused to start; run the command behind `env -u JAVA_TOOL_OPTIONS`: its JVMs are attached to (from JDK 21 on with \
    --java-attach-from-21)";
/// The same where nothing was set.
const ENDED_BEFORE: &str = "ended before its agent was at work; let it run for some seconds, or start it with `plimsoll run` outside of a \
     container, which sets JAVA_TOOL_OPTIONS";
/// What helps where the agent came too late.
const RESTART: &str = "start it again while it is watched, or with `plimsoll run`";
/// JVMs of a workload that are remembered.
const JVMS_MAX: usize = 4_096;

/// A JVM as far as its agent is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Jvm {
    /// It runs, and nothing is known of an agent in it.
    Found,
    /// The same, and it can only be attached to, as it writes an archive of its classes.
    WritesArchive,
    /// Its agent is at work.
    Working,
    /// It told everything and ended, or is given up and counted.
    Settled,
}

/// What can be vouched for.
#[derive(Debug, Default)]
pub struct JavaCoverage {
    /// The workload itself was watched from its first exec on: all its JVMs are known.
    pub workload_from_first_exec: bool,
    /// The probe works; from the first exec on?
    watched: Option<bool>,
    jvms: HashMap<u32, Jvm>,
    counted: Counted,
    lost: u64,
    /// JVMs of it have the agent's option in their environment, unless something takes it out.
    starts_with_agent: bool,
    /// By program.
    reasons: BTreeMap<String, String>,
}

impl JavaCoverage {
    /// Takes what an agent says of itself; `program` names the JVM.
    pub fn on_report(&mut self, pid: u32, kind: JvmReport, report: &Report, program: &str) {
        if report.lost > 0 || report.truncated {
            let reason =
                "loaded classes that its agent could not tell in time; run it again on a less busy machine";
            self.lose(report.lost.max(1), program, reason);
        }
        match kind {
            JvmReport::Started => {
                // One that comes later is entered by `attached`.
                if report.name.ends_with(b"\nstart") {
                    if self.jvms.get(&pid) == Some(&Jvm::Working) {
                        // The same process again: what it was before did not say good-bye.
                        self.gone(pid, program);
                    }
                    self.set(pid, Jvm::Working);
                    self.counted.begin(pid, observed::AT_START);
                    self.watched.get_or_insert(true);
                }
            }
            JvmReport::Counts => {
                self.counted.told(pid, &String::from_utf8_lossy(&report.name));
            }
            JvmReport::Failed => {
                let why: String = super::text_of(&report.name).chars().take(200).collect();
                self.give_up(pid, program, &format!("has an agent that failed: {why}; please report this"));
            }
            JvmReport::Ended => self.set(pid, Jvm::Settled),
            JvmReport::Classes | JvmReport::Told => {}
        }
    }

    /// The tree's command gets an environment that brings the agent into its JVMs.
    pub fn starts_with_agent(&mut self) {
        self.starts_with_agent = true;
    }

    /// A process has mapped a JVM.
    pub fn found(&mut self, pid: u32) {
        if !self.jvms.contains_key(&pid) {
            self.set(pid, Jvm::Found);
        }
    }

    /// A process that was found writes an archive of its classes, and so has no agent from its start.
    pub fn writes_archive(&mut self, pid: u32) {
        if self.jvms.get(&pid) == Some(&Jvm::Found) {
            self.set(pid, Jvm::WritesArchive);
        }
    }

    /// The agent was attached, and `unloaded` classes had gone before it came.
    pub fn attached(&mut self, pid: u32, program: &str, unloaded: Option<u64>) {
        self.set(pid, Jvm::Working);
        self.counted.begin(pid, observed::ATTACHED);
        self.counted.unloaded_before(pid, unloaded.unwrap_or(0));
        let complete = self.workload_from_first_exec && unloaded == Some(0);
        self.watched.get_or_insert(complete);
        // Even if the watch does not count from the first exec: it may become one with another that does.
        match unloaded {
            Some(0) => {}
            Some(number) => {
                let reason = format!("had unloaded {number} classes before the agent came; {RESTART}");
                self.lose(number, program, &reason);
            }
            None => self.lose(
                1,
                program,
                "keeps no counters (-XX:-UsePerfData), so what it unloaded before the agent came is not known; start it \
                 without that option, or with `plimsoll run`",
            ),
        }
    }

    /// An earlier agent watched the workload: what its JVMs did before this one came is not known.
    pub fn adopted(&mut self) {
        self.lose(1, "a JVM", "may have loaded classes while no agent ran; start the workload again");
    }

    /// A program ran in which a JVM would not have taken the agent, and ended before it could be attached to.
    pub fn unseen(&mut self, start: &UnseenStart) {
        let program = String::from_utf8_lossy(&start.program).into_owned();
        let reason = format!("{}; give the agent eBPF, which sees such programs too", start.reason);
        self.lose(1, &program, &reason);
    }

    /// It is not known which process a JVM is.
    pub fn out_of_reach(&mut self) {
        self.lose(
            1,
            "a JVM",
            "runs in another PID namespace, so it cannot be told which process it is; run the command with eBPF (as root), or \
             `plimsoll run` in that namespace",
        );
    }

    /// The agent does not get into a JVM.
    pub fn give_up(&mut self, pid: u32, program: &str, reason: &str) {
        if self.jvms.get(&pid) != Some(&Jvm::Settled) {
            self.lose(1, program, reason);
        }
        self.counted.begin(pid, observed::REFUSED);
        self.set(pid, Jvm::Settled);
    }

    /// A JVM cannot find the agent that its environment names.
    pub fn lacks_library(&mut self, pid: u32, program: &str) {
        self.give_up(pid, program, ELSEWHERE);
    }

    /// A process ended, and all that it wrote was read.
    pub fn gone(&mut self, pid: u32, program: &str) {
        let was = self.jvms.remove(&pid);
        if matches!(was, Some(Jvm::Found | Jvm::WritesArchive)) {
            self.counted.begin(pid, observed::REFUSED);
        }
        self.counted.end(pid);
        match was {
            Some(Jvm::Found) => {
                let reason = if self.starts_with_agent { WITHOUT_OPTION } else { ENDED_BEFORE };
                self.lose(1, program, reason);
            }
            Some(Jvm::WritesArchive) => {
                let (why, remedy) = (archives::WHY, archives::WITHOUT_ARCHIVE);
                let reason = format!(
                    "{why}, and it ended before it could be attached to; let it run for some seconds, or {remedy}"
                );
                self.lose(1, program, &reason);
            }
            Some(Jvm::Working) => self.lose(
                1,
                program,
                "was killed, or ended without its agent's last word: classes that it loaded at the end may be missing; end it \
                 by SIGTERM, and give it the time to exit",
            ),
            Some(Jvm::Settled) | None => {}
        }
    }

    /// Classes of its own modules were told, but not from where.
    pub fn no_runtime_image(&mut self, program: &str) {
        let reason = "does not name its runtime image; run it with a JDK or JRE that has lib/modules";
        self.lose(1, program, reason);
    }

    /// A class without a place was told that is of one Java package too many, or of one with too long a name.
    pub fn left_out_java_packages(&mut self, max: usize, program: &str) {
        let reason = format!(
            "loaded classes without a code source, or from places that no scan lists, of more than {max} Java packages or \
             with longer names than can be told, so nobody can tell of which archives; \
             a new run changes nothing, so judge its packages by what the application needs"
        );
        self.lose(1, program, &reason);
    }

    /// Something that no agent wrote was in the FIFO.
    pub fn garbage(&mut self) {
        let reason = "wrote something else into the FIFO of the JVM's agents; find out which, and start the workload again";
        self.lose(1, "a process", reason);
    }

    fn set(&mut self, pid: u32, state: Jvm) {
        if self.jvms.len() < JVMS_MAX || self.jvms.contains_key(&pid) {
            self.jvms.insert(pid, state);
        } else {
            let reason =
                format!("is one of more than {JVMS_MAX} that are remembered; run them in smaller workloads");
            self.lose(1, "a JVM", &reason);
        }
    }

    fn lose(&mut self, count: u64, program: &str, reason: &str) {
        self.lost = self.lost.saturating_add(count);
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains_key(program) {
            tracing::warn!(program, reason, "not measured: jvmti");
            self.reasons.insert(program.to_owned(), format!("{program} {reason}"));
        }
    }

    /// JVMs that are not settled.
    pub fn open(&self) -> impl Iterator<Item = u32> + '_ {
        self.jvms.iter().filter(|(_, jvm)| **jvm != Jvm::Settled).map(|(pid, _)| *pid)
    }

    /// All that are remembered.
    pub fn known(&self) -> Vec<u32> {
        self.jvms.keys().copied().collect()
    }

    /// Whether its agent still has to come.
    pub fn is_expected(&self, pid: u32) -> bool {
        matches!(self.jvms.get(&pid), Some(Jvm::Found | Jvm::WritesArchive))
    }

    /// Whether the probe works, and from the first exec on.
    pub fn watched(&self) -> Option<bool> {
        self.watched
    }

    /// What was lost so far; only grows.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// How many JVMs were observed in which way, with the numbers of their classes that have no place.
    pub fn observed(&self) -> BTreeMap<&'static str, ObservedNumbers> {
        self.counted.numbers()
    }

    /// Why JVMs are not measured: by probe and program, and for the probe if it does not work at all.
    pub fn unavailable(&self, probe: &str) -> BTreeMap<String, String> {
        let mut unavailable: BTreeMap<String, String> = self
            .reasons
            .iter()
            .map(|(program, reason)| (format!("{probe}:{program}"), reason.clone()))
            .collect();
        if self.watched.is_none() {
            let reason = self.reasons.values().next().cloned();
            unavailable.insert(
                probe.to_owned(),
                reason.unwrap_or_else(|| {
                    "no JVM has started; run the application under observation".to_owned()
                }),
            );
        }
        unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::report::ReportKind;

    enum Step {
        Report(u32, JvmReport, &'static str),
        Lossy(u32),
        Found(u32),
        Writes(u32),
        Attached(u32, Option<u64>),
        GiveUp(u32),
        Gone(u32),
    }
    use Step::{Attached, Found, GiveUp, Gone, Lossy, Writes};

    /// What can be vouched for after a history.
    fn after(mut coverage: JavaCoverage, steps: &[Step]) -> JavaCoverage {
        for step in steps {
            let report = |kind, name: &str, lost| Report {
                kind: ReportKind::Jvm(kind),
                pid: 1,
                lost,
                truncated: false,
                name: name.into(),
                path: Vec::new(),
            };
            match step {
                Step::Report(pid, kind, name) => {
                    coverage.on_report(*pid, *kind, &report(*kind, name, 0), "/java");
                }
                Lossy(pid) => {
                    let kind = JvmReport::Classes;
                    coverage.on_report(*pid, kind, &report(kind, "", 7), "/java");
                }
                Found(pid) => coverage.found(*pid),
                Writes(pid) => coverage.writes_archive(*pid),
                Attached(pid, unloaded) => coverage.attached(*pid, "/java", *unloaded),
                GiveUp(pid) => coverage.give_up(*pid, "/java", "refuses"),
                Gone(pid) => coverage.gone(*pid, "/java"),
            }
        }
        coverage
    }

    fn check(steps: &[Step], watched: Option<bool>, lost: u64, unavailable: &str) {
        let coverage = JavaCoverage { workload_from_first_exec: true, ..JavaCoverage::default() };
        let coverage = after(coverage, steps);
        let keys: Vec<String> = coverage.unavailable("jvmti").into_keys().collect();
        assert_eq!(
            (coverage.watched(), coverage.lost(), keys.join(" ")),
            (watched, lost, unavailable.to_owned())
        );
    }

    const START: Step = Step::Report(1, JvmReport::Started, "17\nstart");
    const LATE: Step = Step::Report(1, JvmReport::Started, "17\nattach");
    const END: Step = Step::Report(1, JvmReport::Ended, "");

    #[test]
    fn histories() {
        check(&[], None, 0, "jvmti");
        check(&[START, Found(1)], Some(true), 0, "");
        check(&[Found(1), START, END, Gone(1)], Some(true), 0, "");
        check(&[START, Gone(1)], Some(true), 1, "jvmti:/java");
        check(&[START, START, END, Gone(1)], Some(true), 1, "jvmti:/java");
        check(&[Found(1), Gone(1)], None, 1, "jvmti jvmti:/java");
        check(&[START, Lossy(1)], Some(true), 7, "jvmti:/java");
        check(&[Found(1), GiveUp(1), Gone(1)], None, 1, "jvmti jvmti:/java");
        check(&[START, Found(2), GiveUp(2), GiveUp(2)], Some(true), 1, "jvmti:/java");
        check(&[Found(1), LATE, Attached(1, Some(0)), END, Gone(1)], Some(true), 0, "");
        check(&[Found(1), LATE, Attached(1, Some(3))], Some(false), 3, "jvmti:/java");
        check(&[Found(1), LATE, Attached(1, None)], Some(false), 1, "jvmti:/java");
        check(&[Found(1), Attached(1, Some(0)), LATE, END, Gone(1)], Some(true), 0, "");
        check(&[START, Found(2), Attached(2, Some(3))], Some(true), 3, "jvmti:/java");
        check(&[START, Found(2), Attached(2, None)], Some(true), 1, "jvmti:/java");
        check(&[Step::Report(1, JvmReport::Failed, "why"), Gone(1)], None, 1, "jvmti jvmti:/java");
    }

    /// The reasons for the probe and for one program, after a history.
    fn check_reason(starts_with_agent: bool, steps: &[Step], expected: &str) {
        let coverage = after(JavaCoverage { starts_with_agent, ..JavaCoverage::default() }, steps);
        let reasons = coverage.unavailable("jvmti");
        assert!(reasons["jvmti:/java"].contains(expected), "{reasons:?}");
        assert_eq!(reasons["jvmti:/java"].matches("; ").count(), 1, "a remedy: {reasons:?}");
    }

    #[test]
    fn reasons() {
        check_reason(
            true,
            &[Found(1), Gone(1)],
            "was started without the JAVA_TOOL_OPTIONS of `plimsoll run`",
        );
        check_reason(false, &[Found(1), Gone(1)], "start it with `plimsoll run`");
        check_reason(true, &[Found(1), Writes(1), Gone(1)], "run it once without that option");
        check_reason(true, &[START, Gone(1)], "; end it by SIGTERM");
        check_reason(true, &[Found(1), Attached(1, Some(3))], "; start it again");
        check_reason(true, &[Found(1), Attached(1, None)], "; start it without that option");
        check_reason(true, &[START, Lossy(2)], "; run it again");
    }

    #[test]
    fn jvms_are_counted_by_how_they_were_observed() {
        let report = |name: &str| Report {
            kind: ReportKind::Jvm(JvmReport::Counts),
            pid: 1,
            lost: 0,
            truncated: false,
            name: name.into(),
            path: Vec::new(),
        };
        let mut coverage = JavaCoverage::default();
        coverage.on_report(1, JvmReport::Started, &report("17\nstart"), "/java");
        coverage.on_report(1, JvmReport::Counts, &report("4 5 9 6"), "/java");
        coverage.on_report(1, JvmReport::Ended, &report(""), "/java");
        coverage.gone(1, "/java");
        coverage.found(2);
        coverage.give_up(2, "/java", "refuses");
        coverage.give_up(2, "/java", "refuses");
        coverage.found(3);
        coverage.gone(3, "/java");
        coverage.found(4);
        coverage.attached(4, "/java", Some(8));
        let text: Vec<String> = coverage
            .observed()
            .iter()
            .map(|(how, all)| format!("{how} {} {:?}", all.processes, all.counts))
            .collect();
        assert_eq!(
            text,
            [
                r#"at-start 1 {"classes-generated": 5, "classes-hidden": 4, "classes-told": 9, "classes-unloaded": 6}"#,
                r#"attached 1 {"classes-unloaded-before": 8}"#,
                "refused 2 {}",
            ]
        );
    }
}
