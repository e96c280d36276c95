//! The LD_AUDIT library (rtld-audit(7)) that reports every object a program loads, as bytes to write to a file.
//! It must never pull a library into the process that it watches: it uses system calls only.

/// The shared object, for the architecture of this build.
pub static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libplimsoll_audit.so"));

/// Names the FIFO that reports go to.
pub const FIFO_VARIABLE: &str = "PLIMSOLL_HOOK_FIFO";
