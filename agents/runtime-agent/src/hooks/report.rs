//! What the hooks write into the FIFO, read from a stream of bytes of unknown trust. Pure.
//! It must never panic, wait for more than one report's bytes, or take the rest of a damaged report for a good one.
//!
//! A report: `0x1E kind ' ' pid ' ' lost ' ' flags ' ' name-bytes ' ' path-bytes '\n' name path`.

use super::language::Language;

/// Longest report in bytes: what a FIFO takes in one piece (PIPE_BUF).
pub const REPORT_MAX_BYTES: usize = 4_096;
/// Longest first line of a report, in bytes.
const HEAD_MAX_BYTES: usize = 128;
/// First byte of every report.
const MARK: u8 = 0x1e;

/// What a report tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// `LH`: the audit library is in a program that starts; its name is the arguments, for interpreters only.
    AuditStarted,
    /// `LO`: the dynamic linker opened an object.
    Object,
    /// `LE`: a program (path) was started without some of the session's variables; its name: which, NUL, by whom.
    Emptied,
    /// `PH`, `NH`…: a language's hook is in an interpreter that starts; its name is the version. The first letter is the
    /// language's ([`Language::letter`]).
    HookStarted(Language),
    /// `PM`…: a module was loaded from a file.
    Module(Language),
    /// `PN`: a namespace package; the path is one of its directories.
    Namespace,
    /// `PF`…: the hook failed, or cannot see something; its name says why.
    HookFailed(Language),
    /// `HE`: everything was told that this process, or this request, loaded. `PE`: a process ends, and had losses to tell.
    HookEnded(Language),
    /// `JH`, `JC`…: of the JVM's agent, which has a FIFO of its own.
    Jvm(JvmReport),
    /// `XM`: a mark of the session itself.
    SessionMark,
}

/// What the agent in a JVM tells (agents/jvmti/src/report.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JvmReport {
    /// `JH`: it is in a JVM; name: version, line feed, `start` or `attach`; path: the runtime image.
    Started,
    /// `JC`: classes of one place; without a path one of each Java package, from nobody can tell where.
    Classes,
    /// `JS`: all that was loaded before was told.
    Told,
    /// `JG`: numbers of classes: hidden, without a place, with one and, where the JVM tells that, unloaded.
    Counts,
    /// `JF`: it cannot work; name: why.
    Failed,
    /// `JE`: the JVM ends, and everything was told.
    Ended,
}

impl JvmReport {
    const ALL: [(&'static [u8], Self); 6] = [
        (b"JH", Self::Started),
        (b"JC", Self::Classes),
        (b"JS", Self::Told),
        (b"JG", Self::Counts),
        (b"JF", Self::Failed),
        (b"JE", Self::Ended),
    ];

    fn parse(word: &[u8]) -> Option<Self> {
        Self::ALL.iter().find(|(of, _)| *of == word).map(|(_, report)| *report)
    }
}

impl ReportKind {
    fn parse(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"LH" => Self::AuditStarted,
            b"LO" => Self::Object,
            b"LE" => Self::Emptied,
            b"PN" => Self::Namespace,
            b"XM" => Self::SessionMark,
            [b'J', _] => Self::Jvm(JvmReport::parse(word)?),
            [letter, b'H'] => Self::HookStarted(Language::of_letter(*letter)?),
            [letter, b'M'] => Self::Module(Language::of_letter(*letter)?),
            [letter, b'F'] => Self::HookFailed(Language::of_letter(*letter)?),
            [letter, b'E'] => Self::HookEnded(Language::of_letter(*letter)?),
            _ => return None,
        })
    }
}

/// One report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub kind: ReportKind,
    /// In the process's own pid namespace.
    pub pid: u32,
    /// Reports that this process lost since its last one, beyond those in the file of losses.
    pub lost: u64,
    /// The path did not fit and is cut.
    pub truncated: bool,
    pub name: Vec<u8>,
    pub path: Vec<u8>,
}

/// A mark of the session, to be written to its own FIFO.
pub fn session_mark(name: &str) -> Vec<u8> {
    format!("\u{1e}XM 0 0 - {} 0\n{name}", name.len()).into_bytes()
}

/// What stands at the begin of the bytes.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// A report, and its length in bytes.
    Report(Report, usize),
    /// More bytes are to come.
    Incomplete,
    /// Nothing that a hook wrote.
    Garbage,
}

/// What was found in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Report(Report),
    /// Bytes that no hook wrote: a report may have been among them.
    Garbage,
}

/// Cuts a stream into reports.
#[derive(Debug, Default)]
pub struct Reports {
    rest: Vec<u8>,
    in_garbage: bool,
}

impl Reports {
    /// Takes the next bytes and gives every report that is complete. Keeps less than one report's bytes.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Found)) {
        self.rest.extend_from_slice(bytes);
        let mut at = 0;
        while at < self.rest.len() {
            match next(&self.rest[at..]) {
                Next::Report(report, length) => {
                    self.in_garbage = false;
                    at += length;
                    each(Found::Report(report));
                }
                Next::Incomplete => break,
                Next::Garbage => {
                    if !std::mem::replace(&mut self.in_garbage, true) {
                        each(Found::Garbage);
                    }
                    let skipped = self.rest[at + 1..].iter().position(|byte| *byte == MARK);
                    at = skipped.map_or(self.rest.len(), |skipped| at + 1 + skipped);
                }
            }
        }
        self.rest.drain(..at);
    }
}

fn next(bytes: &[u8]) -> Next {
    if bytes.first() != Some(&MARK) {
        return Next::Garbage;
    }
    let head = &bytes[1..bytes.len().min(HEAD_MAX_BYTES)];
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < HEAD_MAX_BYTES { Next::Incomplete } else { Next::Garbage };
    };
    let Some((report, name_bytes, path_bytes)) = parse_head(&head[..end]) else { return Next::Garbage };
    let begin = 1 + end + 1;
    if name_bytes.saturating_add(path_bytes).saturating_add(begin) > REPORT_MAX_BYTES {
        return Next::Garbage;
    }
    let length = begin + name_bytes + path_bytes;
    let Some(body) = bytes.get(begin..length) else { return Next::Incomplete };
    let (name, path) = body.split_at(name_bytes);
    Next::Report(Report { name: name.to_vec(), path: path.to_vec(), ..report }, length)
}

fn parse_head(head: &[u8]) -> Option<(Report, usize, usize)> {
    let mut fields = head.split(|byte| *byte == b' ');
    let kind = ReportKind::parse(fields.next()?)?;
    let pid = u32::try_from(number(fields.next()?)?).ok()?;
    let lost = number(fields.next()?)?;
    let truncated = match fields.next()? {
        b"-" => false,
        b"t" => true,
        _ => return None,
    };
    let name_bytes = usize::try_from(number(fields.next()?)?).ok()?;
    let path_bytes = usize::try_from(number(fields.next()?)?).ok()?;
    let report = Report { kind, pid, lost, truncated, name: Vec::new(), path: Vec::new() };
    fields.next().is_none().then_some((report, name_bytes, path_bytes))
}

fn number(digits: &[u8]) -> Option<u64> {
    // Neither a sign nor blanks, which `parse` would take.
    digits.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn write(report: &Report) -> Vec<u8> {
        let of = |language: Language, letter| format!("{}{letter}", char::from(language.letter()));
        let kind = match report.kind {
            ReportKind::AuditStarted => "LH".to_owned(),
            ReportKind::Object => "LO".to_owned(),
            ReportKind::Emptied => "LE".to_owned(),
            ReportKind::HookStarted(language) => of(language, 'H'),
            ReportKind::Module(language) => of(language, 'M'),
            ReportKind::Namespace => "PN".to_owned(),
            ReportKind::HookFailed(language) => of(language, 'F'),
            ReportKind::HookEnded(language) => of(language, 'E'),
            ReportKind::SessionMark => "XM".to_owned(),
            ReportKind::Jvm(report) => {
                let (word, _) = JvmReport::ALL.iter().find(|(_, of)| *of == report).unwrap();
                String::from_utf8(word.to_vec()).unwrap()
            }
        };
        let flags = if report.truncated { "t" } else { "-" };
        let mut bytes = format!(
            "\u{1e}{kind} {} {} {flags} {} {}\n",
            report.pid,
            report.lost,
            report.name.len(),
            report.path.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&report.name);
        bytes.extend_from_slice(&report.path);
        bytes
    }

    /// Short forms of what is read from `bytes`, how often garbage was passed over, and how many bytes wait.
    fn read(bytes: &[u8]) -> (Vec<String>, u64, usize) {
        let mut reports = Reports::default();
        let (mut found, mut garbage) = (Vec::new(), 0);
        reports.push(bytes, |each| {
            let Found::Report(report) = each else {
                garbage += 1;
                return;
            };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let cut = if report.truncated { "~" } else { "" };
            let Report { kind, pid, lost, name, path, .. } = report;
            found.push(format!("{kind:?} {pid} {lost} {} {}{cut}", text(&name), text(&path)));
        });
        (found, garbage, reports.rest.len())
    }

    #[test]
    fn reads_reports() {
        let cases: [(&str, &[&str], u64, usize); 19] = [
            ("\u{1e}JC 7 0 - 2 2\nA;/a", &["Jvm(Classes) 7 0 A; /a"], 0, 0),
            ("\u{1e}JX 7 0 - 2 2\nA;/a", &[], 1, 0),
            ("\u{1e}NM 7 0 - 0 2\n/a", &["Module(Node) 7 0  /a"], 0, 0),
            ("\u{1e}RF 7 0 - 1 0\nx", &["HookFailed(Ruby) 7 0 x "], 0, 0),
            ("\u{1e}HE 7 0 - 0 0\n", &["HookEnded(Php) 7 0  "], 0, 0),
            ("\u{1e}LO 7 0 - 0 9\n/lib/a.so", &["Object 7 0  /lib/a.so"], 0, 0),
            (
                "\u{1e}LO 7 2 - 0 2\n/a\u{1e}PM 7 0 t 1 2\nm/b",
                &["Object 7 2  /a", "Module(Python) 7 0 m /b~"],
                0,
                0,
            ),
            ("\u{1e}LH 7 0 - 2 2\n-I/p", &["AuditStarted 7 0 -I /p"], 0, 0),
            ("\u{1e}LE 7 0 - 1 2\nx/p", &["Emptied 7 0 x /p"], 0, 0),
            ("\u{1e}PH 7 0 - 1 2\n3/p", &["HookStarted(Python) 7 0 3 /p"], 0, 0),
            ("\u{1e}PN 7 0 - 1 2\nn/d", &["Namespace 7 0 n /d"], 0, 0),
            ("\u{1e}PF 7 0 - 3 0\nwhy", &["HookFailed(Python) 7 0 why "], 0, 0),
            // Incomplete: waits for the rest.
            ("\u{1e}LO 7 0 - 0 9\n/lib", &[], 0, 18),
            ("\u{1e}LO 7", &[], 0, 5),
            // Garbage, then a report.
            ("hello\n\u{1e}LO 7 0 - 0 2\n/a", &["Object 7 0  /a"], 1, 0),
            ("\u{1e}LO x 0 - 0 2\n/a\u{1e}LO 7 0 - 0 2\n/b", &["Object 7 0  /b"], 1, 0),
            ("\u{1e}LO +7 0 - 0 2\n/a\u{1e}ZZ 7 0 - 0 2\n/b", &[], 1, 0),
            ("\u{1e}LO 7 0 - 0 4096\n/a", &[], 1, 0),
            ("\u{1e}LO 7 0 - 18446744073709551615 18446744073709551615\n/a", &[], 1, 0),
        ];
        for (bytes, expected, garbage, rest) in cases {
            let expected: Vec<String> = expected.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(read(bytes.as_bytes()), (expected, garbage, rest), "{bytes:?}");
        }
    }

    #[test]
    fn reads_its_own_marks() {
        assert_eq!(read(&session_mark("abc")), (vec!["SessionMark 0 0 abc ".to_owned()], 0, 0));
    }

    #[test]
    fn the_writers_in_c_keep_to_the_same_bounds_and_kinds() {
        let jvmti = include_str!("../../../jvmti/src/report.h");
        for source in [jvmti, include_str!("../../../audit/src/audit.c")] {
            let defines = |name, value| source.contains(&format!("#define {name} {value}\n"));
            assert!(
                defines("REPORT_MAX_BYTES", REPORT_MAX_BYTES) && defines("HEAD_MAX_BYTES", HEAD_MAX_BYTES)
            );
        }
        let listed = jvmti.lines().filter_map(|line| line.strip_prefix(" *     J")?.split_once(' '));
        let listed: BTreeSet<String> = listed.map(|(kind, _)| format!("J{kind}")).collect();
        let known = JvmReport::ALL.map(|(kind, _)| String::from_utf8_lossy(kind).into_owned());
        assert_eq!(listed, BTreeSet::from(known));
    }

    fn any_report() -> impl Strategy<Value = Report> {
        let kinds = prop::sample::select(vec![
            ReportKind::Object,
            ReportKind::Module(Language::Node),
            ReportKind::HookFailed(Language::Php),
        ]);
        let bytes = || prop::collection::vec(any::<u8>(), 0..64);
        (kinds, any::<u32>(), any::<u64>(), any::<bool>(), bytes(), bytes()).prop_map(
            |(kind, pid, lost, truncated, name, path)| Report { kind, pid, lost, truncated, name, path },
        )
    }

    proptest! {
        #[test]
        fn never_panics_and_keeps_little(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let mut reports = Reports::default();
            for chunk in chunks {
                reports.push(&chunk, |_| {});
                prop_assert!(reports.rest.len() < REPORT_MAX_BYTES);
            }
        }

        #[test]
        fn never_panics_on_what_is_nearly_a_report(text in "\u{1e}?(LO|PM|LH|XX) ?[0-9 -]{0,30}\n?[a-z/\u{1e}]{0,40}") {
            read(text.as_bytes());
        }

        #[test]
        fn any_cut_gives_the_same(sent in prop::collection::vec(any_report(), 1..6), size in 1_usize..200) {
            let bytes: Vec<u8> = sent.iter().flat_map(write).collect();
            let mut reports = Reports::default();
            let mut got = Vec::new();
            for chunk in bytes.chunks(size) {
                reports.push(chunk, |found| got.push(found));
            }
            prop_assert_eq!(got, sent.into_iter().map(Found::Report).collect::<Vec<_>>());
        }

        #[test]
        fn finds_a_report_behind_garbage(garbage in prop::collection::vec(0_u8..0x1e, 0..200), sent in any_report()) {
            let expected = if garbage.is_empty() { vec![] } else { vec![Found::Garbage] };
            let mut bytes = garbage;
            bytes.extend(write(&sent));
            let mut got = Vec::new();
            Reports::default().push(&bytes, |found| got.push(found));
            prop_assert_eq!(got, [expected, vec![Found::Report(sent)]].concat());
        }
    }
}
