//! The FIFO of the JVMTI agents of one tree, or of one JVM, read without waiting.
//! It must never hold more than one report's bytes, nor wait for a JVM.

use std::fs::File;
use std::io::{self, Read as _};

use crate::hooks::report::{Found, JvmReport, Report, ReportKind, Reports};

/// Room of the FIFO, in bytes; the most that the system gives without rights.
pub const FIFO_BYTES: usize = 1024 * 1024;
/// Bytes taken in one turn; the FIFO keeps the rest.
const TURN_MAX_BYTES: usize = 4 * 1024 * 1024;

/// One thing that was in the FIFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A report of the agent in a JVM.
    Report(JvmReport, Report),
    /// Something that no agent wrote.
    Garbage,
}

/// A FIFO of reports.
#[derive(Debug)]
pub struct JavaReports {
    fifo: File,
    reports: Reports,
}

impl JavaReports {
    /// Reads what comes through `fifo`, which does not block.
    pub fn new(fifo: File) -> Self {
        // A smaller FIFO only makes the agents wait.
        let _ = rustix::pipe::fcntl_setpipe_size(&fifo, FIFO_BYTES);
        Self { fifo, reports: Reports::default() }
    }

    /// Gives what was written so far; `true` if no JVM holds the other end any more.
    pub fn read(&mut self, mut each: impl FnMut(Heard)) -> bool {
        let mut bytes = [0_u8; 65_536];
        let mut taken = 0;
        while taken < TURN_MAX_BYTES {
            match self.fifo.read(&mut bytes) {
                Ok(0) => return true,
                Ok(length) => {
                    taken += length;
                    self.reports.push(&bytes[..length], |found| {
                        each(match found {
                            Found::Report(report) => match report.kind {
                                ReportKind::Jvm(kind) => Heard::Report(kind, report),
                                _ => Heard::Garbage,
                            },
                            Found::Garbage => Heard::Garbage,
                        });
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        false
    }
}
