//! What the hooks can vouch for: which of them were at work from the start, and what they did not see. Pure.
//! It must never let a probe count as complete when an interpreter ran without its hook.

use std::collections::{BTreeMap, HashMap};

use plimsoll_schemas::words::probe;

use super::report::{Report, ReportKind};

/// Longest time from an interpreter's exec to its hello, in milliseconds; a slow start is no failure.
const HELLO_MAX_MS: i64 = 10_000;
/// Interpreters that are waited for; what comes on top counts as not measured.
const EXPECTED_MAX: usize = 4_096;
/// Programs named with the reason why they are not measured.
const REASONS_MAX: usize = 16;
/// Processes whose program is remembered.
const PROGRAMS_MAX: usize = 16_384;
/// Longest reason that a hook can give, in characters.
const REASON_MAX_CHARACTERS: usize = 300;

const REMEDY: &str = "give the agent eBPF, which sees such programs too";

/// What the hooks of one process tree can vouch for.
#[derive(Debug, Default)]
pub struct Coverage {
    first_process: Option<u32>,
    /// The audit library said hello; in the tree's first process?
    audit: Option<bool>,
    /// The import hook said hello.
    python: bool,
    /// Interpreters that started, and have not said hello.
    expected: HashMap<u32, Expected>,
    programs: HashMap<u32, Vec<u8>>,
    lost: BTreeMap<&'static str, u64>,
    /// By probe and program.
    reasons: BTreeMap<(&'static str, String), String>,
    /// Why a probe is not at work at all.
    absent: BTreeMap<&'static str, String>,
}

#[derive(Debug)]
struct Expected {
    since_ms: i64,
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
            ReportKind::Object
                if is_python_library(&report.path) && !self.expected.contains_key(&report.pid) =>
            {
                let program = self.programs.get(&report.pid).unwrap_or(&report.path).clone();
                // A program named python has been judged by its arguments already.
                if !is_python(&program) {
                    self.expect(
                        report.pid,
                        program,
                        "carries a Python interpreter that took no import hook",
                        now_ms,
                    );
                }
            }
            ReportKind::PythonStarted => {
                self.python = true;
                self.expected.remove(&report.pid);
                if !self.programs.contains_key(&report.pid) {
                    let reason =
                        "runs without the audit library, which would show interpreters without import hook";
                    self.unmeasured(probe, &report.path, reason);
                }
            }
            ReportKind::PythonFailed => {
                let said = String::from_utf8_lossy(&report.name);
                let said: String = said.chars().take(REASON_MAX_CHARACTERS).collect();
                let program = self.programs.get(&report.pid).cloned().unwrap_or_else(|| b"Python".to_vec());
                self.unmeasured(probe, &program, &format!("import hook failed: {said}; please report this"));
            }
            _ => {}
        }
    }

    fn on_audit_started(&mut self, report: &Report, now_ms: i64) {
        // The same process again: what it was before never said hello.
        self.give_up(report.pid);
        let first = self.first_process.is_none_or(|first| first == report.pid);
        self.audit = Some(self.audit.unwrap_or(first) || first);
        if self.programs.len() < PROGRAMS_MAX || self.programs.contains_key(&report.pid) {
            self.programs.insert(report.pid, report.path.clone());
        }
        if is_python(&report.path)
            && let Some(reason) = judge_arguments(&report.path, &report.name)
        {
            self.expect(report.pid, report.path.clone(), reason, now_ms);
        }
    }

    fn expect(&mut self, pid: u32, program: Vec<u8>, reason: &str, since_ms: i64) {
        if self.expected.len() >= EXPECTED_MAX {
            self.unmeasured(probe::PYTHON_IMPORT, &program, reason);
            return;
        }
        self.expected.insert(pid, Expected { since_ms, program, reason: reason.to_owned() });
    }

    fn give_up(&mut self, pid: u32) {
        if let Some(expected) = self.expected.remove(&pid) {
            self.unmeasured(probe::PYTHON_IMPORT, &expected.program, &expected.reason);
        }
    }

    /// Interpreters that have not said hello yet.
    pub fn expected(&self) -> Vec<u32> {
        self.expected.keys().copied().collect()
    }

    /// Gives up on interpreters without a hello: those of `ended`, of which no report can come any more, and those that
    /// had time enough.
    pub fn judge(&mut self, ended: &[u32], now_ms: i64) {
        let late = self.expected.iter().filter(|(_, expected)| now_ms - expected.since_ms > HELLO_MAX_MS);
        let gone: Vec<u32> = late.map(|(pid, _)| *pid).chain(ended.iter().copied()).collect();
        gone.into_iter().for_each(|pid| self.give_up(pid));
    }

    /// A program ran unseen by a probe. Counts as a loss: nothing that the probe did not see may be called unused.
    pub fn unmeasured(&mut self, probe: &'static str, program: &[u8], reason: &str) {
        self.lose(probe, 1);
        let program = String::from_utf8_lossy(program).into_owned();
        let reason = format!("{program} {reason}; {REMEDY}");
        if self.reasons.len() < REASONS_MAX {
            tracing::warn!(probe, reason, "not measured");
            self.reasons.insert((probe, program), reason);
        }
    }

    /// Reports were lost.
    pub fn lose(&mut self, probe: &'static str, count: u64) {
        *self.lost.entry(probe).or_default() += count;
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
        let python = self.python.then_some((probe::PYTHON_IMPORT, true));
        audit.into_iter().chain(python).collect()
    }

    /// What was lost so far by probe; only grows.
    pub fn losses(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.lost.iter().map(|(probe, count)| (*probe, *count))
    }

    /// Why something was not measured, with the remedy: by probe, or by probe and program.
    pub fn unavailable(&self) -> BTreeMap<String, String> {
        let mut unavailable = BTreeMap::new();
        for (probe, at_work, silent) in [
            (probe::LD_AUDIT, self.audit.is_some(), "no program with a dynamic linker of glibc has started"),
            (
                probe::PYTHON_IMPORT,
                self.python,
                "no Python interpreter that takes the import hook has started",
            ),
        ] {
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
        ReportKind::AuditStarted | ReportKind::Object => probe::LD_AUDIT,
        _ => probe::PYTHON_IMPORT,
    }
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Whether a program is a Python interpreter by its name. audit.c has the same rule.
pub fn is_python(program: &[u8]) -> bool {
    let name = base_name(program);
    name.starts_with(b"python") || name.starts_with(b"pypy")
}

/// Whether an object is a Python interpreter to be carried by other programs; not the stable ABI's libpython3.so.
pub fn is_python_library(object: &[u8]) -> bool {
    let name = base_name(object);
    (name.starts_with(b"libpython") || name.starts_with(b"libpypy")) && name != b"libpython3.so"
}

/// Why an interpreter with these arguments may stay without a hook; `None` if it loads no modules at all. `arguments`
/// are separated by NUL, and may be cut.
pub fn judge_arguments(program: &[u8], arguments: &[u8]) -> Option<&'static str> {
    if base_name(program).starts_with(b"python2") {
        return Some("is Python 2, which has no import hook");
    }
    let mut words = arguments.split(|byte| *byte == 0).skip(1);
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix(b"-").filter(|letters| !letters.is_empty()) else { break };
        match letters {
            b"-version" | b"-help" | b"-help-all" | b"-help-env" | b"-help-xoptions" => return None,
            b"-check-hash-based-pycs" => {
                words.next();
                continue;
            }
            _ => {}
        }
        for (index, letter) in letters.iter().enumerate() {
            match letter {
                b'I' => {
                    return Some("was started with -I, which leaves PYTHONPATH and so the import hook out");
                }
                b'E' => {
                    return Some("was started with -E, which leaves PYTHONPATH and so the import hook out");
                }
                b'S' => return Some("was started with -S, which leaves the import hook out"),
                b'V' | b'h' | b'?' => return None,
                // What follows is the program's.
                b'c' | b'm' => return Some(NO_HELLO),
                b'W' | b'X' => {
                    if index + 1 == letters.len() {
                        words.next();
                    }
                    break;
                }
                _ => {}
            }
        }
    }
    Some(NO_HELLO)
}

const NO_HELLO: &str =
    "took no import hook: PYTHONPATH was not passed on to it, or it ended before it was ready";

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: ReportKind, pid: u32, name: &str, path: &str) -> Report {
        Report { kind, pid, lost: 0, truncated: false, name: name.into(), path: path.into() }
    }

    #[test]
    fn arguments_tell_what_to_expect() {
        let cases: [(&str, Option<&str>); 19] = [
            ("python", Some("took no")),
            ("python app.py -I", Some("took no")),
            ("python -I app.py", Some("-I")),
            ("python -bIc pass", Some("-I")),
            ("python -E -m x", Some("-E")),
            ("python -S", Some("-S")),
            ("python -c -S", Some("took no")),
            ("python -cS", Some("took no")),
            ("python -m x -I", Some("took no")),
            ("python -W ignore -I", Some("-I")),
            ("python -Wignore:S -c x", Some("took no")),
            ("python -X dev -S", Some("-S")),
            ("python --check-hash-based-pycs never -E", Some("-E")),
            ("python -V", None),
            ("python -VV", None),
            ("python --version", None),
            ("python -h", None),
            ("python - -I", Some("took no")),
            ("", Some("took no")),
        ];
        for (words, expected) in cases {
            let arguments = words.replace(' ', "\0");
            let reason = judge_arguments(b"/usr/bin/python3.11", arguments.as_bytes());
            match (reason, expected) {
                (Some(reason), Some(expected)) => assert!(reason.contains(expected), "{words}: {reason}"),
                (reason, expected) => assert_eq!(reason, expected, "{words}"),
            }
        }
        assert!(judge_arguments(b"/usr/bin/python2.7", b"python\0-V").is_some());
    }

    #[test]
    fn names_of_interpreters() {
        for (program, expected) in [
            ("/usr/bin/python3.11", true),
            ("/opt/pypy3", true),
            ("python", true),
            ("/opt/python/run", false),
            ("/usr/bin/bpython", false),
        ] {
            assert_eq!(is_python(program.as_bytes()), expected, "{program}");
        }
        for (object, expected) in [
            ("/usr/lib/libpython3.11.so.1.0", true),
            ("/usr/lib/libpython3.so", false),
            ("/usr/lib/libpypy3.9-c.so", true),
            ("/usr/lib/libc.so.6", false),
        ] {
            assert_eq!(is_python_library(object.as_bytes()), expected, "{object}");
        }
    }

    /// Probes at work, losses, and keys of what is not, after a history.
    fn after(history: &[Report], ended: &[u32]) -> (String, String, String) {
        let mut coverage = Coverage::default();
        coverage.set_first_process(1);
        for report in history {
            coverage.on_report(report, 0);
        }
        coverage.judge(ended, 0);
        let watched: Vec<String> =
            coverage.watched().iter().map(|(probe, first)| format!("{probe} {first}")).collect();
        let losses: Vec<String> =
            coverage.losses().map(|(probe, count)| format!("{probe} {count}")).collect();
        let unavailable: Vec<String> = coverage.unavailable().into_keys().collect();
        (watched.join(", "), losses.join(", "), unavailable.join(", "))
    }

    fn check(history: &[Report], ended: &[u32], watched: &str, losses: &str, unavailable: &str) {
        let expected = (watched.to_owned(), losses.to_owned(), unavailable.to_owned());
        assert_eq!(after(history, ended), expected, "{history:?}");
    }

    #[test]
    fn hellos_and_their_absence() {
        use ReportKind::{AuditStarted, Object, PythonFailed, PythonStarted};
        let (bash, python) = ("/bin/bash", "/usr/bin/python3");
        check(&[], &[], "", "", "ld-audit, python-import");
        check(&[report(AuditStarted, 1, "", bash)], &[1], "ld-audit true", "", "python-import");
        // The first program took no library.
        check(&[report(AuditStarted, 2, "", bash)], &[], "ld-audit false", "", "python-import");
        let hooked = [
            report(AuditStarted, 1, "python3\0a.py", python),
            report(PythonStarted, 1, "cpython 3.11.2", python),
        ];
        check(&hooked, &[1], "ld-audit true, python-import true", "", "");
        let isolated = [hooked[0].clone(), hooked[1].clone(), report(AuditStarted, 2, "python3\0-I", python)];
        check(&isolated, &[], "ld-audit true, python-import true", "", "");
        // Without the audit library nothing would tell of an interpreter without the hook.
        check(
            &hooked[1..],
            &[],
            "python-import true",
            "python-import 1",
            "ld-audit, python-import:/usr/bin/python3",
        );
        check(
            &isolated,
            &[2],
            "ld-audit true, python-import true",
            "python-import 1",
            "python-import:/usr/bin/python3",
        );
        // python replaces itself by another program before it said hello.
        let replaced = [report(AuditStarted, 1, "python3\0-S", python), report(AuditStarted, 1, "", bash)];
        check(
            &replaced,
            &[],
            "ld-audit true",
            "python-import 1",
            "python-import, python-import:/usr/bin/python3",
        );
        check(&[report(AuditStarted, 1, "python3\0-V", python)], &[1], "ld-audit true", "", "python-import");
        let carried = [
            report(AuditStarted, 1, "", "/usr/bin/uwsgi"),
            report(Object, 1, "", "/usr/lib/libpython3.11.so.1.0"),
        ];
        check(
            &carried,
            &[1],
            "ld-audit true",
            "python-import 1",
            "python-import, python-import:/usr/bin/uwsgi",
        );
        let failed = [hooked[0].clone(), hooked[1].clone(), report(PythonFailed, 1, "TypeError: x", "")];
        check(
            &failed,
            &[],
            "ld-audit true, python-import true",
            "python-import 1",
            "python-import:/usr/bin/python3",
        );
    }

    #[test]
    fn an_interpreter_has_time_to_start() {
        let mut coverage = Coverage::default();
        coverage.on_report(&report(ReportKind::AuditStarted, 1, "python3\0a.py", "/usr/bin/python3"), 1_000);
        coverage.judge(&[], 1_000 + HELLO_MAX_MS);
        assert_eq!(coverage.losses().count(), 0);
        coverage.judge(&[], 1_001 + HELLO_MAX_MS);
        assert_eq!(coverage.losses().collect::<Vec<_>>(), [("python-import", 1)]);
    }

    #[test]
    fn losses_add_up() {
        let mut coverage = Coverage::default();
        let lossy = |kind, lost, truncated| Report { lost, truncated, ..report(kind, 1, "", "/x") };
        coverage.on_report(&lossy(ReportKind::Object, 3, false), 0);
        coverage.on_report(&lossy(ReportKind::Module, 2, true), 0);
        coverage.on_report(&lossy(ReportKind::Module, 1, false), 0);
        assert_eq!(coverage.losses().collect::<Vec<_>>(), [("ld-audit", 3), ("python-import", 4)]);
    }
}
