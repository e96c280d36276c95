//! What the hooks can vouch for: which of them were at work from the start, and what they did not see. Pure.
//! It must never let a probe count as complete when an interpreter ran without its hook.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use plimsoll_schemas::words::probe;

use super::counted::Counted;
use super::language::Language;
use super::report::{Report, ReportKind};
use super::unseen_start::UnseenStart;
use crate::ebpf::event::split_arguments;
use crate::sweep::{self, language_on_jvm};

/// Longest time from an interpreter's exec to its hello, in milliseconds; a slow start is no failure.
const HELLO_MAX_MS: i64 = 10_000;
/// Interpreters that are waited for; what comes on top counts as not measured.
const EXPECTED_MAX: usize = 4_096;
/// Programs named with the reasons why they are not measured, one for each probe at most.
const UNMEASURED_PROGRAMS_MAX: usize = 16;
/// Processes whose program is remembered.
const PROGRAMS_MAX: usize = 16_384;
/// Longest reason that a hook can give, in characters.
const REASON_MAX_CHARACTERS: usize = 300;
/// Starts in which a JVM would not be told of and that wait to be taken; one is enough for a loss.
const UNSEEN_MAX: usize = 1_024;

const REMEDY: &str = "give the agent eBPF, which sees such programs too";

/// What the hooks of one process tree can vouch for.
#[derive(Debug, Default)]
pub struct Coverage {
    first_process: Option<u32>,
    /// The audit library said hello; in the tree's first process?
    audit: Option<bool>,
    /// Languages whose hook said hello.
    started: BTreeSet<Language>,
    /// Interpreters that started and have not said hello, or that have not told all that they loaded.
    expected: HashMap<(u32, Language), Expected>,
    programs: HashMap<u32, Vec<u8>>,
    /// A program that forks before it runs PHP is there.
    forks_php: bool,
    lost: BTreeMap<&'static str, u64>,
    /// By probe and program.
    reasons: BTreeMap<(&'static str, String), String>,
    /// Processes that took the hook of a language, and those that did not.
    counted: Counted,
    /// Why a probe is not at work at all.
    absent: BTreeMap<&'static str, String>,
    /// Programs that were started without the session's variables, in which a JVM would not be told of; not taken yet.
    hidden_jvms: Vec<UnseenStart>,
}

#[derive(Debug)]
struct Expected {
    /// `None`: as long as it lives.
    since_ms: Option<i64>,
    program: Vec<u8>,
    reason: String,
}

impl Coverage {
    /// Names the first process of the tree: a hello of another one alone comes too late.
    pub fn set_first_process(&mut self, pid: u32) {
        self.first_process = Some(pid);
    }

    /// The first process, if it is known.
    pub fn first_process(&self) -> Option<u32> {
        self.first_process
    }

    /// A probe cannot be at work here.
    pub fn set_absent(&mut self, probe: &'static str, reason: String) {
        self.absent.insert(probe, reason);
    }

    /// Takes what a report says about the hooks themselves.
    pub fn on_report(&mut self, report: &Report, now_ms: i64) {
        let probe = probe_of(report.kind);
        if report.lost > 0 {
            self.lose(probe, report.lost);
        }
        if report.truncated {
            self.lose(probe, 1);
        }
        match report.kind {
            ReportKind::AuditStarted => self.on_audit_started(report, now_ms),
            ReportKind::Object => {
                if let Some(language) = Language::of_library(&report.path) {
                    self.on_interpreter_library(report, language, now_ms);
                }
            }
            ReportKind::Emptied => {
                let start = UnseenStart::of_report(report);
                self.unseen(&start.program, &start.reason);
                if start.hides_jvm && self.hidden_jvms.len() < UNSEEN_MAX {
                    self.hidden_jvms.push(start);
                }
            }
            ReportKind::HookStarted(language) => self.on_hook_started(report, language),
            ReportKind::HookEnded(language) => {
                self.expected.remove(&(report.pid, language));
            }
            ReportKind::HookFailed(language) => {
                let said = String::from_utf8_lossy(&report.name);
                let said: String = said.chars().take(REASON_MAX_CHARACTERS).collect();
                let program = self
                    .programs
                    .get(&report.pid)
                    .cloned()
                    .unwrap_or_else(|| language.interpreter().as_bytes().to_vec());
                // It will not say hello: this is why.
                let silent = |expected: &Expected| expected.since_ms.is_some();
                if self.expected.get(&(report.pid, language)).is_some_and(silent) {
                    self.expected.remove(&(report.pid, language));
                    self.refuse(report.pid, language);
                }
                let reason = match said.strip_prefix("blind: ") {
                    Some(said) => said.to_owned(),
                    None => format!("{} failed: {said}; please report this", language.hook()),
                };
                self.unmeasured(probe, &program, &reason);
            }
            _ => {}
        }
    }

    /// Programs that were started since the last call without the session's variables, in which a JVM would not be told of.
    pub fn take_hidden_jvms(&mut self) -> Vec<UnseenStart> {
        std::mem::take(&mut self.hidden_jvms)
    }

    fn on_audit_started(&mut self, report: &Report, now_ms: i64) {
        let linked = of_linked(report);
        let report = linked.as_ref().unwrap_or(report);
        // The same process again: what it was before never said hello.
        self.give_up(report.pid);
        self.counted.begin(report.pid);
        let first = self.first_process.is_none_or(|first| first == report.pid);
        self.audit = Some(self.audit.unwrap_or(first) || first);
        if self.programs.len() < PROGRAMS_MAX || self.programs.contains_key(&report.pid) {
            self.programs.insert(report.pid, report.path.clone());
        }
        if report.path.ends_with(b"/java")
            && let Some((language, _)) =
                language_on_jvm(split_arguments(&report.name).get(1..).unwrap_or_default())
        {
            let reason = format!("runs on a JVM, which takes no {}", language.hook());
            self.unmeasured(language.probe(), &report.path, &reason);
        }
        let Some(language) = Language::of_program(&report.path) else { return };
        self.forks_php |= language == Language::Php;
        if let Some(reason) = language.unseen_by_hook(&report.path, &report.name) {
            self.refuse(report.pid, language);
            self.unmeasured(language.probe(), &report.path, reason);
        }
        if let Some(reason) = language.expects(&report.path, &report.name) {
            self.expect(report.pid, language, report.path.clone(), reason, Some(now_ms));
        }
    }

    /// A program that is no interpreter by its name carries one.
    fn on_interpreter_library(&mut self, report: &Report, language: Language, now_ms: i64) {
        let program = self.programs.get(&report.pid).unwrap_or(&report.path).clone();
        // One that is has been judged by its arguments already.
        if Language::of_program(&program) == Some(language)
            || self.expected.contains_key(&(report.pid, language))
        {
            return;
        }
        if language == Language::Php {
            // A web server: its requests say hello.
            self.forks_php = true;
            if let Some(reason) = language.unseen_by_hook(&program, b"") {
                self.refuse(report.pid, language);
                self.unmeasured(language.probe(), &program, reason);
            }
            return;
        }
        let reason = format!("carries a {} that took no {}", language.interpreter(), language.hook());
        self.expect(report.pid, language, program, reason, Some(now_ms));
    }

    fn on_hook_started(&mut self, report: &Report, language: Language) {
        self.started.insert(language);
        self.counted.hooked(report.pid, language);
        let before = self.expected.remove(&(report.pid, language));
        if language == Language::Php {
            let reason = "ended by force, before it told what it had included last".to_owned();
            // A request of which the end was not told, and the next one.
            if before.is_some_and(|before| before.since_ms.is_none()) {
                self.unmeasured(language.probe(), &report.path, &reason);
            }
            self.expect(report.pid, language, report.path.clone(), reason, None);
        }
        let known = self.programs.contains_key(&report.pid) || language == Language::Php && self.forks_php;
        if !known {
            let reason = format!(
                "runs without the audit library, which would show interpreters without {}",
                language.hook()
            );
            self.unmeasured(language.probe(), &report.path, &reason);
        }
    }

    fn expect(
        &mut self,
        pid: u32,
        language: Language,
        program: Vec<u8>,
        reason: String,
        since_ms: Option<i64>,
    ) {
        if self.expected.len() >= EXPECTED_MAX {
            self.refuse(pid, language);
            self.unmeasured(language.probe(), &program, &reason);
            return;
        }
        self.expected.insert((pid, language), Expected { since_ms, program, reason });
    }

    /// A process of the language runs without the hook.
    pub fn refuse(&mut self, pid: u32, language: Language) {
        self.counted.refused(pid, language);
    }

    /// How many processes of each language took the hook from their start, and how many did not take it.
    pub fn processes(&self) -> impl Iterator<Item = (Language, &'static str, u64)> + '_ {
        self.counted.numbers()
    }

    fn give_up(&mut self, pid: u32) {
        for language in Language::ALL {
            if let Some(expected) = self.expected.remove(&(pid, language)) {
                self.refuse(pid, language);
                self.unmeasured(language.probe(), &expected.program, &expected.reason);
            }
        }
    }

    /// Interpreters of which a report is still to come.
    pub fn expected(&self) -> Vec<u32> {
        self.expected.keys().map(|(pid, _)| *pid).collect()
    }

    /// Gives up on interpreters without a hello: those of `ended`, of which no report can come any more, and those that
    /// had time enough.
    pub fn judge(&mut self, ended: &[u32], now_ms: i64) {
        let late = self.expected.iter().filter(|(_, expected)| {
            expected.since_ms.is_some_and(|since_ms| now_ms - since_ms > HELLO_MAX_MS)
        });
        let gone: Vec<u32> = late.map(|((pid, _), _)| *pid).chain(ended.iter().copied()).collect();
        gone.into_iter().for_each(|pid| self.give_up(pid));
    }

    /// A program ran unseen by a probe. Counts as a loss: nothing that the probe did not see may be called unused.
    pub fn unmeasured(&mut self, probe: &'static str, program: &[u8], reason: &str) {
        if let Some(reason) = self.note(probe, program, reason) {
            tracing::warn!(probe, reason, "not measured");
        }
    }

    /// A program runs that no hook tells of, whatever it loads.
    pub fn unseen(&mut self, program: &[u8], reason: &str) {
        let noted: Vec<String> =
            super::probes().filter_map(|probe| self.note(probe, program, reason)).collect();
        if let Some(reason) = noted.first() {
            tracing::warn!(reason, "not measured by any hook");
        }
    }

    /// The reason with the remedy, if it is new.
    fn note(&mut self, probe: &'static str, program: &[u8], reason: &str) -> Option<String> {
        self.lose(probe, 1);
        let key = (probe, String::from_utf8_lossy(program).into_owned());
        // A program in a loop is told once.
        if self.reasons.contains_key(&key) || !self.has_room_for(&key.1) {
            return None;
        }
        let reason = format!("{} {reason}; {REMEDY}", key.1);
        self.reasons.insert(key, reason.clone());
        Some(reason)
    }

    fn has_room_for(&self, program: &str) -> bool {
        let named: BTreeSet<&str> = self.reasons.keys().map(|(_, program)| program.as_str()).collect();
        named.len() < UNMEASURED_PROGRAMS_MAX || named.contains(program)
    }

    /// Reports were lost.
    pub fn lose(&mut self, probe: &'static str, count: u64) {
        let lost = self.lost.entry(probe).or_default();
        // Whatever a process writes there.
        *lost = lost.saturating_add(count);
    }

    /// Program of a process, as far as it is known; without a leading slash.
    pub fn program(&self, pid: u32) -> Option<String> {
        let program = self.programs.get(&pid)?;
        Some(String::from_utf8_lossy(program.strip_prefix(b"/").unwrap_or(program)).into_owned())
    }

    /// Probes that are at work, and whether they were from the first exec on.
    pub fn watched(&self) -> Vec<(&'static str, bool)> {
        let audit = self.audit.map(|from_first_exec| (probe::LD_AUDIT, from_first_exec));
        // The hook is there before the interpreter runs anything; interpreters without it count as losses.
        audit.into_iter().chain(self.started.iter().map(|language| (language.probe(), true))).collect()
    }

    /// What was lost so far by probe; only grows.
    pub fn losses(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.lost.iter().map(|(probe, count)| (*probe, *count))
    }

    /// Why something was not measured, with the remedy: by probe, or by probe and program.
    pub fn unavailable(&self) -> BTreeMap<String, String> {
        let mut unavailable = BTreeMap::new();
        let languages = Language::ALL.map(|language| {
            let silent =
                format!("no {} that takes the {} has started", language.interpreter(), language.hook());
            (language.probe(), self.started.contains(&language), silent)
        });
        let audit = "no program with a dynamic linker of glibc has started".to_owned();
        for (probe, at_work, silent) in
            [(probe::LD_AUDIT, self.audit.is_some(), audit)].into_iter().chain(languages)
        {
            if at_work {
                continue;
            }
            let known =
                self.reasons.iter().find(|((of, _), _)| *of == probe).map(|(_, reason)| reason.clone());
            let reason =
                self.absent.get(probe).cloned().or(known).unwrap_or_else(|| format!("{silent}; {REMEDY}"));
            unavailable.insert(probe.to_owned(), reason);
        }
        for ((probe, program), reason) in &self.reasons {
            unavailable.insert(format!("{probe}:{program}"), reason.clone());
        }
        unavailable
    }
}

/// The probe whose hook writes such reports.
pub fn probe_of(kind: ReportKind) -> &'static str {
    match kind {
        ReportKind::AuditStarted | ReportKind::Object | ReportKind::Emptied => probe::LD_AUDIT,
        ReportKind::HookStarted(language)
        | ReportKind::Module(language)
        | ReportKind::HookFailed(language)
        | ReportKind::HookEnded(language) => language.probe(),
        ReportKind::Jvm(_) => probe::JVMTI,
        ReportKind::Namespace | ReportKind::SessionMark => probe::PYTHON_IMPORT,
    }
}

/// The report as of the program that a dynamic linker was called to run; `None` of all others.
pub(super) fn of_linked(report: &Report) -> Option<Report> {
    let arguments = split_arguments(&report.name);
    let (program, arguments) = sweep::linked(&report.path, &arguments)?;
    Some(Report { name: arguments.join("\0").into_bytes(), path: program.to_vec(), ..report.clone() })
}

#[cfg(test)]
#[path = "coverage_tests.rs"]
mod tests;
