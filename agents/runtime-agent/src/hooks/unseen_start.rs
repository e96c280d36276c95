//! Programs that the application starts where no hook tells of them: without the session's variables, or where its files are
//! not. Pure. It must never leave one without a word: it may end before anybody looks.

use plimsoll_audit::unseen::Unseen;

use super::report::Report;

/// A program that was started, and is not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnseenStart {
    /// Number of the process that was started, where that is known.
    pub pid: Option<u32>,
    /// Path of the program that started it.
    pub program: Vec<u8>,
    /// What happened, without the program's name and the remedy.
    pub reason: String,
    /// A JVM in it would not be told of either.
    pub hides_jvm: bool,
}

impl UnseenStart {
    /// What the audit library tells before the application starts a program without the session's variables, or where it
    /// cannot watch what is started.
    pub fn of_report(report: &Report) -> Self {
        let (missing, program) =
            report.name.iter().position(|byte| *byte == 0).map_or((report.name.as_slice(), &b""[..]), |at| {
                (&report.name[..at], &report.name[at + 1..])
            });
        // A program that names itself and nothing that is missing.
        if missing.is_empty() && report.path.is_empty() && !report.name.is_empty() {
            let reason = "could not be watched for the programs that it starts (its C library is of another kind, or the \
                          system refuses to change it in memory), so those without the variables of the hooks are not seen";
            return Self { pid: None, program: known(program), reason: reason.to_owned(), hides_jvm: true };
        }
        let reason = format!(
            "started {} with an environment of its own, without the variables of the hooks, so what ends soon there is not seen",
            name(&report.path)
        );
        let hides_jvm = memchr::memmem::find(missing, b"JAVA_TOOL_OPTIONS").is_some();
        // A shell of system() or popen() has no number yet.
        let pid = Some(report.pid).filter(|pid| *pid != 0);
        Self { pid, program: known(program), reason, hides_jvm }
    }

    /// What stands in the page of those that lost the hooks' files from sight.
    pub fn of_page(unseen: &Unseen) -> Self {
        let whence =
            "in another root directory, or behind another mount, where the files of the hooks are not";
        let reason = match unseen.started.is_empty() {
            true => format!("went on {whence}"),
            false => format!("started {} {whence}: it got none of them", name(&unseen.started)),
        };
        Self { pid: None, program: known(&unseen.program), reason, hides_jvm: true }
    }
}

fn known(program: &[u8]) -> Vec<u8> {
    if program.is_empty() { b"a program".to_vec() } else { program.to_vec() }
}

fn name(path: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(path).chars().filter(|letter| !letter.is_control()).collect();
    if text.is_empty() { "a program".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::report::ReportKind;

    #[test]
    fn says_who_started_what() {
        for (name, path, program, started, hides_jvm) in [
            ("LD_AUDIT JAVA_TOOL_OPTIONS\0/bin/sh", "ls", "/bin/sh", "started ls with", true),
            ("LD_AUDIT\0/bin/sh", "/bin/ls", "/bin/sh", "started /bin/ls with", false),
            ("", "", "a program", "started a program with", false),
            ("LD_AUDIT\0", "a\nb", "a program", "started ab with", false),
        ] {
            let report = Report {
                kind: ReportKind::Emptied,
                pid: 7,
                lost: 0,
                truncated: false,
                name: name.into(),
                path: path.into(),
            };
            let start = UnseenStart::of_report(&report);
            assert!(start.reason.starts_with(started), "{start:?}");
            assert_eq!((start.program, start.hides_jvm), (program.into(), hides_jvm));
            assert_eq!(start.pid, Some(7));
            assert_eq!(UnseenStart::of_report(&Report { pid: 0, ..report.clone() }).pid, None);
            // That it is not watched is told of the starter, which is not what was started.
            let unwatched = Report { name: b"\0/bin/a".to_vec(), path: Vec::new(), ..report };
            let start = UnseenStart::of_report(&unwatched);
            assert!(start.reason.starts_with("could not be watched"), "{start:?}");
            assert_eq!((start.pid, start.program, start.hides_jvm), (None, b"/bin/a".to_vec(), true));
        }
        for (started, expected) in [("", "went on in another root"), ("node", "started node in another root")]
        {
            let unseen = Unseen { program: b"/bin/sh".to_vec(), started: started.into() };
            let start = UnseenStart::of_page(&unseen);
            assert!(start.reason.starts_with(expected) && start.hides_jvm, "{start:?}");
        }
    }
}
