//! A look at the processes of a tree, for those that run without the audit library: these cannot tell it themselves.
//! It must never touch a process, nor look at one that does not descend from the tree's first.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::language::Language;
use crate::ebpf::event::split_arguments;
use crate::java::is_jvm;
use crate::{procfs, sweep};

/// Processes of a tree that are looked at.
const PROCESSES_MAX: usize = 4_096;
/// Threads of a process whose children are looked for.
const THREADS_MAX: usize = 1_024;
/// Most of a program that is read, in bytes: its headers.
const HEADERS_MAX_BYTES: u64 = 4_096;

/// A process without the audit library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unaudited {
    pub pid: u32,
    pub program: Vec<u8>,
    /// Why it has none.
    pub reason: &'static str,
    /// It is or carries interpreters without their hooks, for these reasons.
    pub unhooked: Vec<(Language, String)>,
    /// It is or carries a JVM.
    pub jvm: bool,
}

/// The processes of a tree as they were seen.
#[derive(Debug, Default)]
pub struct Survey {
    /// When each process was started, and the program that it ran without the audit library when last seen.
    known: HashMap<u32, (u64, Seen)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Audited,
    /// Seen once: it may be on its way through an exec.
    Once(Vec<u8>),
    Told(Vec<u8>),
}

impl Survey {
    /// Looks at `first` and its descendants, and gives each that runs without the library of `directory` for the
    /// second time, once. Orphans stay known.
    pub fn look(&mut self, first: u32, directory: &Path) -> Vec<Unaudited> {
        self.known.retain(|pid, (started, _)| procfs::started_ns(*pid) == Some(*started));
        let mut waiting: Vec<u32> = self.known.keys().copied().chain([first]).collect();
        let mut found = Vec::new();
        let mut looked = std::collections::HashSet::new();
        while let Some(pid) = waiting.pop() {
            if looked.len() >= PROCESSES_MAX || !looked.insert(pid) {
                continue;
            }
            waiting.extend(children(pid));
            let (Some(started), Some(executable)) = (procfs::started_ns(pid), procfs::executable(pid)) else {
                continue;
            };
            let program = [b"/", executable.as_slice()].concat();
            let before = self.known.get(&pid).map(|(_, seen)| seen);
            let seen = match before {
                // Without rights nothing is known: its own reports tell.
                _ if procfs::maps_below(pid, directory) != Some(false) => Seen::Audited,
                Some(Seen::Told(told)) if *told == program => continue,
                Some(Seen::Once(once)) if *once == program => {
                    found.push(judge(pid, &program, directory));
                    Seen::Told(program)
                }
                _ => Seen::Once(program),
            };
            self.known.insert(pid, (started, seen));
        }
        found
    }

    /// Those that live still.
    pub fn living(&self) -> impl Iterator<Item = u32> + '_ {
        let lives = |(pid, started): &(u32, u64)| procfs::started_ns(*pid) == Some(*started);
        self.known.iter().map(|(pid, (started, _))| (*pid, *started)).filter(lives).map(|(pid, _)| pid)
    }
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().take(THREADS_MAX).filter_map(|thread| {
        // Kernels without this file: only the first process is looked at.
        fs::read_to_string(thread.path().join("children")).ok()
    });
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// What a process has mapped; unlike the mappings that can be opened, with those that were deleted, as by an upgrade.
fn mapped(pid: u32) -> Vec<Vec<u8>> {
    let text = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| line.iter().position(|byte| *byte == b'/').map(|at| line[at..].to_vec()))
        .collect()
}

fn judge(pid: u32, program: &[u8], directory: &Path) -> Unaudited {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let path = PathBuf::from(format!("/proc/{pid}/exe"));
    let reason = match environment_has(pid, "LD_AUDIT", directory) {
        false => "was started without the environment that it should have inherited",
        true => kind_of_program(&path).unwrap_or("took no audit library"),
    };
    let carried = mapped(pid);
    let words = split_arguments(&arguments);
    let linked =
        sweep::linked(program, &words).map(|(program, words)| (program, words.join("\0").into_bytes()));
    let (program, arguments) = match &linked {
        Some((program, arguments)) => (*program, arguments),
        None => (program, &arguments),
    };
    let carries = |language: &Language| {
        Language::of_program(program) == Some(*language)
            || carried.iter().any(|path| Language::of_library(path) == Some(*language))
    };
    let unhooked = |language: Language| {
        if let Some(why) = language.unseen_by_hook(program, arguments) {
            return Some((language, why.to_owned()));
        }
        let why = language.expects(program, arguments)?;
        let hooked = environment_has(pid, language.variable(), directory);
        // With the variable it says hello, unless its own words keep it from that.
        (!hooked || !why.starts_with("took no ")).then_some((language, why))
    };
    let unhooked = Language::ALL.into_iter().filter(carries).filter_map(unhooked).collect();
    // Its launcher is one, too: it maps the JVM a little later.
    let jvm = program.ends_with(b"/java") || carried.iter().any(|path| is_jvm(path));
    Unaudited { pid, program: program.to_vec(), reason, unhooked, jvm }
}

fn environment_has(pid: u32, name: &str, directory: &Path) -> bool {
    let Some(environment) = procfs::environment(pid) else { return true };
    let directory = directory.as_os_str().as_encoded_bytes();
    environment.split(|byte| *byte == 0).any(|variable| {
        variable
            .strip_prefix(name.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"="))
            .is_some_and(|value| memchr::memmem::find(value, directory).is_some())
    })
}

/// Why a program's kind keeps the audit library out; `None` if it does not.
fn kind_of_program(path: &Path) -> Option<&'static str> {
    let metadata = fs::metadata(path).ok()?;
    if metadata.permissions().mode() & 0o6000 != 0 {
        return Some("is set-uid or set-gid, and takes no audit library");
    }
    let mut headers = Vec::new();
    fs::File::open(path).ok()?.take(HEADERS_MAX_BYTES).read_to_end(&mut headers).ok()?;
    kind_of_headers(&headers, !plimsoll_audit::LIBRARY_32_BIT.is_empty())
}

/// The same by the first bytes of the program (elf(5)).
fn kind_of_headers(headers: &[u8], has_32_bit_library: bool) -> Option<&'static str> {
    const INTERPRETER: u32 = 3;
    let bytes = |at: usize, length: usize| headers.get(at..at.checked_add(length)?);
    let short = |at| Some(u16::from_le_bytes(bytes(at, 2)?.try_into().ok()?));
    let word = |at| Some(u32::from_le_bytes(bytes(at, 4)?.try_into().ok()?));
    let long = |at| usize::try_from(u64::from_le_bytes(bytes(at, 8)?.try_into().ok()?)).ok();
    if bytes(0, 4)? != b"\x7fELF" {
        return Some("is no ELF program");
    }
    if bytes(4, 1)? == [1] {
        return (!has_32_bit_library).then_some("is a 32-bit program, for which there is no audit library");
    }
    let (table, size, count) = (long(0x20)?, usize::from(short(0x36)?), usize::from(short(0x38)?));
    for index in 0..count.min(64) {
        let entry = table.checked_add(index.checked_mul(size)?)?;
        if word(entry)? == INTERPRETER {
            let (at, length) = (long(entry + 8)?, long(entry + 32)?);
            let musl = bytes(at, length)?.windows(8).any(|window| window == b"/ld-musl");
            return musl.then_some("is linked with musl, whose linker takes no audit library");
        }
    }
    Some("is linked statically, and takes no audit library")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF header with one program header of `kind` that points to `interpreter`.
    fn elf(class: u8, kind: u32, interpreter: &str) -> Vec<u8> {
        let mut bytes = vec![0_u8; 64 + 56];
        bytes[..5].copy_from_slice(&[0x7f, b'E', b'L', b'F', class]);
        bytes[0x20] = 64;
        bytes[0x36] = 56;
        bytes[0x38] = 1;
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes[72] = 120;
        bytes[96] = interpreter.len() as u8;
        bytes.extend_from_slice(interpreter.as_bytes());
        bytes
    }

    #[test]
    fn kinds_of_programs() {
        let cases: [(Vec<u8>, Option<&str>); 8] = [
            (elf(2, 3, "/lib64/ld-linux-x86-64.so.2"), None),
            (elf(2, 3, "/lib/ld-musl-x86_64.so.1"), Some("musl")),
            (elf(2, 1, ""), Some("statically")),
            (elf(1, 3, "/lib/ld-linux.so.2"), Some("32-bit")),
            (b"#!/bin/sh\n".to_vec(), Some("no ELF")),
            (b"\x7fELF\x02".to_vec(), None),
            (Vec::new(), None),
            (
                {
                    let mut wild = elf(2, 3, "");
                    wild[0x20..0x28].fill(0xff);
                    wild
                },
                None,
            ),
        ];
        for (headers, expected) in cases {
            let found = kind_of_headers(&headers, false);
            assert_eq!(
                found.is_some_and(|found| found.contains(expected.unwrap_or("?"))),
                expected.is_some(),
                "{found:?}"
            );
        }
        assert_eq!(kind_of_headers(&elf(1, 3, "/lib/ld-linux.so.2"), true), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            kind_of_headers(&bytes, false);
            let mut elf = b"\x7fELF\x02".to_vec();
            elf.extend(bytes);
            kind_of_headers(&elf, true);
        }
    }
}
