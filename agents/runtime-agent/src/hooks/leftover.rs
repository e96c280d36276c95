//! Directories of hooks that outlive their session: processes that go on running still name them.
//! It must never take the audit library from under a program: its linker would complain on the program's output.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::procfs;

/// Begin of the names of directories of hooks.
pub const PREFIX: &str = "plimsoll-hooks-";
/// File in the inner directory that a session holds locked as long as it lives.
pub const LOCKED: &str = "losses";
/// Abandoned directories that are looked at when a session starts.
const LEFTOVERS_MAX: usize = 64;

/// Whether the environment of a process names this directory, or it has the audit library mapped: some overwrite their
/// environment with a title. Processes that must not be read are not known.
pub fn is_named_by_a_process(directory: &Path) -> bool {
    processes_that_name(directory).next().is_some()
}

/// The processes that do so.
pub fn processes_that_name(directory: &Path) -> impl Iterator<Item = u32> {
    let finder = memchr::memmem::Finder::new(directory.as_os_str().as_bytes());
    procfs::processes().into_iter().filter(|pid| *pid != std::process::id()).filter(move |pid| {
        procfs::environment(*pid).is_some_and(|environment| finder.find(&environment).is_some())
            || procfs::maps_below(*pid, directory) == Some(true)
    })
}

/// Locks the directory of a session.
pub fn lock(losses: &File) -> std::io::Result<()> {
    Ok(rustix::fs::flock(losses, rustix::fs::FlockOperation::NonBlockingLockExclusive)?)
}

/// Removes what sessions of this user left below `parent`, and no process names any more.
pub fn sweep(parent: &Path) {
    let own = |path: &Path| {
        fs::symlink_metadata(path)
            .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw())
    };
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let leftovers = entries.filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()));
    for outer in leftovers.map(|entry| entry.path()).filter(|path| own(path)).take(LEFTOVERS_MAX) {
        if !lives(&outer) && !is_named_by_a_process(&outer) {
            // Another session sweeps it at the same time, or the next one does.
            let _ = fs::remove_dir_all(&outer);
        }
    }
}

/// Whether its session lives, or is about to: then there is no locked file yet.
fn lives(outer: &Path) -> bool {
    let inner = fs::read_dir(outer).into_iter().flatten().flatten().next();
    let Some(file) = inner.and_then(|inner| File::open(inner.path().join(LOCKED)).ok()) else { return true };
    lock(&file).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn only_what_is_abandoned_goes() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let outer = parent.path().join(format!("{PREFIX}{name}"));
            fs::create_dir_all(outer.join("inner")).unwrap();
            (File::create(outer.join("inner").join(LOCKED)).unwrap(), outer)
        };
        let (_, abandoned) = make("abandoned");
        let (held, living) = make("living");
        lock(&held).unwrap();
        let (_, named) = make("named");
        let mut sleeper = Command::new("cat")
            .env("LD_AUDIT", named.join("inner/none"))
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let starting = parent.path().join(format!("{PREFIX}starting"));
        fs::create_dir(&starting).unwrap();
        let other = parent.path().join("other");
        fs::create_dir(&other).unwrap();
        sweep(parent.path());
        let left = |path: &Path| path.exists();
        assert_eq!(
            [&abandoned, &living, &named, &starting, &other].map(|p| left(p)),
            [false, true, true, true, true]
        );
        drop(sleeper.stdin.take());
        sleeper.wait().unwrap();
        drop(held);
        sweep(parent.path());
        assert_eq!([&living, &named].map(|p| left(p)), [false, false]);
    }
}
