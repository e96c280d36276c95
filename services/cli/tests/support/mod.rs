//! What tests of the command share: the command itself, with a state of its own and none of this machine's settings.

// Each test program uses a part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../../catalog/tests/support/cache.rs"]
mod cache;

use std::path::Path;
use std::process::{Command, Stdio};

// Not all of it in each.
#[allow(unused_imports)]
pub use cache::{cached, skip};

/// `plimsoll` with its state and data below `directory`.
pub fn plimsoll(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PLIMSOLL_") {
            command.env_remove(name);
        }
    }
    command
        .env("XDG_STATE_HOME", directory.join("state"))
        .env("XDG_DATA_HOME", directory.join("data"))
        .env_remove("COLUMNS")
        .stdin(Stdio::null());
    command
}

/// eBPF is permitted here; CI must permit it.
pub fn has_ebpf() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip("eBPF needs root rights");
    }
    is_root
}
