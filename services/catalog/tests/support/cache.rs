//! What tests fetch once and keep below the user's cache, and what they say where that cannot be had.
//! It must never let a test pass in CI that did not run.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)] // each test uses a part, and may

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Says why a test is left out; in CI it must not be.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "in CI this must run: {why}");
    println!("skipped: {why}");
}

/// A folder of the cache, filled once; `None` (said why) if that fails, for want of a network.
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
