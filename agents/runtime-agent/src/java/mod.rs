//! Classes of JVMs: the JVMTI agent in each, from the JVM's start or attached later, and what it reports.
//! It must never harm a JVM: no signal that it would die of, no file left that it could trip over.
//!
//! [`start`] puts the agent in place for JVMs that a tree starts; [`attach`] brings it into JVMs that run, by a helper
//! process ([`helper`]); [`reader`] takes reports, [`place`] tells the archive that a class came from, and [`coverage`]
//! what can be vouched for.

pub mod archives;
pub mod attach;
mod counted;
pub mod coverage;
pub mod facts;
pub mod helper;
mod loading;
mod mounts;
mod perf_data;
pub mod place;
pub mod reader;
pub mod start;

pub use attach::Attachment;
pub use coverage::JavaCoverage;
pub use reader::JavaReports;
pub use start::StartHook;

use crate::hooks::leftover;

/// How JVMs are observed.
#[derive(Clone, Debug)]
pub struct JavaConfig {
    /// Observe classes at all.
    pub enabled: bool,
    /// Attach to JVMs that run.
    pub attach: bool,
    /// Attach to those from JDK 21 on, too: these print a warning on their standard error.
    pub attach_from_21: bool,
    /// The program that has [`helper::SUBCOMMAND`]; unset: this one.
    pub helper: Option<std::path::PathBuf>,
}

impl Default for JavaConfig {
    fn default() -> Self {
        Self { enabled: true, attach: true, attach_from_21: false, helper: None }
    }
}

/// Whether a mapped file is a JVM (HotSpot's name, which OpenJ9 has taken over).
pub fn is_jvm(path: &[u8]) -> bool {
    path == b"libjvm.so" || path.ends_with(b"/libjvm.so")
}

/// Whether a mapped file is our own agent: no part of the application.
pub fn is_agent(path: &[u8]) -> bool {
    path.ends_with(plimsoll_jvmti::FILE_NAME.as_bytes())
        && path.windows(leftover::PREFIX.len()).any(|window| window == leftover::PREFIX.as_bytes())
}

/// Modified UTF-8 of JNI (surrogates one by one, zero as two bytes) as text.
pub fn text_of(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let mut units: Vec<u16> = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(first) = bytes.get(at) {
        let next = |index: usize| bytes.get(at + index).map(|byte| u16::from(byte & 0x3f));
        let first = u16::from(*first);
        let (unit, length) = match (first >> 4, next(1), next(2)) {
            (0..=7, ..) => (first, 1),
            (12 | 13, Some(second), _) => ((first & 0x1f) << 6 | second, 2),
            (14, Some(second), Some(third)) => ((first & 0x0f) << 12 | second << 6 | third, 3),
            _ => (0xfffd, 1),
        };
        units.push(unit);
        at += length;
    }
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_jni() {
        for (bytes, expected) in [
            (&b"a/B"[..], "a/B"),
            ("\u{e4}\u{20ac}".as_bytes(), "\u{e4}\u{20ac}"),
            (b"x\xc0\x80y", "x\0y"),
            (b"\xed\xa0\xbd\xed\xb8\x80", "\u{1f600}"),
            (b"\xff\xe0", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(text_of(bytes), expected);
        }
        assert!(is_jvm(b"usr/lib/jvm/x/lib/server/libjvm.so") && !is_jvm(b"x/mylibjvm.so"));
    }
}
