//! What tests of the command share: the command itself, with a state of its own and none of this machine's settings.

// Each test program uses a part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

/// Says why a test cannot run here; with CI=true that is a failure.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "not in CI: {reason}");
    println!("skipped: {reason}");
}

/// eBPF is permitted here; CI must permit it.
pub fn has_ebpf() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip("eBPF needs root rights");
    }
    is_root
}

/// The cache's folder of this name, which `fill` makes once; `None` (said why) where it cannot be made. In CI it must.
pub fn cached(name: &str, fill: impl FnOnce(&Path) -> Result<(), String>) -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let cache = base.join("plimsoll");
    fs::create_dir_all(&cache).unwrap();
    let done = cache.join(name);
    let lock = File::create(cache.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if !done.exists() {
        let partial = cache.join(format!("{name}.partial"));
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).unwrap();
        if let Err(error) = fill(&partial) {
            skip(&format!("{name} cannot be made: {error}"));
            return None;
        }
        fs::rename(&partial, &done).unwrap();
    }
    Some(done)
}
