//! The JVMTI agent for JVMs that a process tree starts: its file, its FIFO, and the option that loads it.
//! It must never overwrite the application's JAVA_TOOL_OPTIONS, nor take the library from under a process that names it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archives;
use super::reader::JavaReports;
use crate::hooks::{leftover, other_root};
use crate::procfs;

/// The agent in place for one tree. Its files go with it, or, if processes run on that name them, when a later session
/// starts.
#[derive(Debug)]
pub struct StartHook {
    outer: PathBuf,
    inner: PathBuf,
    option: OsString,
    /// Held locked: a later session sweeps what is not.
    _lock: File,
    /// What the agents of the tree's JVMs report.
    pub reports: JavaReports,
}

impl StartHook {
    /// Writes library and FIFO into a directory of their own below `parent`.
    ///
    /// # Errors
    /// If that cannot be written, or has a character that the option cannot have.
    pub fn create(parent: &Path) -> io::Result<Self> {
        let parent = fs::canonicalize(parent)?;
        leftover::sweep(&parent);
        let outer = parent.join(format!("{}{}", leftover::PREFIX, plimsoll_kit::host::random_id()));
        let inner = outer.join(plimsoll_kit::host::random_id());
        // Other users' JVMs of the tree pass, but find the inner directory only by its name.
        directory(&outer, if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 })?;
        let made = Self::fill(outer.clone(), inner);
        if made.is_err() {
            // The error tells more than a failed removal would.
            let _ = fs::remove_dir_all(&outer);
        }
        made
    }

    fn fill(outer: PathBuf, inner: PathBuf) -> io::Result<Self> {
        directory(&inner, 0o755)?;
        let lock =
            File::options().read(true).append(true).create_new(true).open(inner.join(leftover::LOCKED))?;
        leftover::lock(&lock)?;
        let path = inner.join("reports");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600))?;
        // The umask must not take it from another user of the tree.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o622))?;
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        // For writing too: so that it does not come to an end between two JVMs.
        let fifo = File::options().read(true).write(true).custom_flags(nonblocking).open(&path)?;
        let library = plimsoll_jvmti::write_to(&inner, procfs::tells_platform())?;
        let option = plimsoll_jvmti::option(&library, &path)?.into();
        Ok(Self { outer, inner, option, _lock: lock, reports: JavaReports::new(fifo) })
    }

    /// What a command's environment needs.
    pub fn environment(&self) -> JavaEnvironment {
        JavaEnvironment(self.option.clone())
    }

    /// Whether a process has the option in its environment, but not the library in its root directory: a JVM then refuses to
    /// start. Of a process that is gone it is not known.
    pub fn misleads(&self, pid: u32) -> bool {
        let option = self.inner.as_os_str().as_bytes();
        let environment = procfs::environment(pid);
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let is_there = root.join(self.inner.strip_prefix("/").unwrap_or(&self.inner)).try_exists();
        environment.is_some_and(|environment| memchr::memmem::find(&environment, option).is_some())
            && is_there.is_ok_and(|is_there| !is_there)
            && root.try_exists().is_ok_and(|lives| lives)
    }

    /// Whether a process has the option in its environment; where that cannot be read it is taken to have.
    pub fn is_named_by(&self, pid: u32) -> bool {
        procfs::environment(pid).filter(|environment| !environment.is_empty()).is_none_or(|environment| {
            memchr::memmem::find(&environment, self.inner.as_os_str().as_bytes()).is_some()
        })
    }

    /// Directory of the library: a JVM that has a file of it mapped has the agent.
    pub fn directory(&self) -> &Path {
        &self.inner
    }
}

impl Drop for StartHook {
    fn drop(&mut self) {
        let removed = if leftover::is_named_by_a_process(&self.inner) {
            // A JVM that they start would not come up without the library; without the FIFO it does nothing.
            fs::remove_file(self.inner.join("reports"))
        } else {
            fs::remove_dir_all(&self.outer)
        };
        if let Err(error) = removed {
            tracing::debug!(path = %self.outer.display(), %error, "the JVM's agent was left behind");
        }
    }
}

/// The option that brings the agent into every JVM of a tree.
#[derive(Clone, Debug)]
pub struct JavaEnvironment(OsString);

impl JavaEnvironment {
    /// The variable's value behind what is there already.
    pub fn value(&self, existing: Option<&OsStr>) -> OsString {
        let mut value = existing.unwrap_or_default().to_os_string();
        if !value.is_empty() {
            value.push(" ");
        }
        value.push(&self.0);
        value
    }

    /// Adds the option to a command's environment; not if it enters another root directory or other namespaces, where the
    /// library would not be found and a JVM refuse to start, nor if its JVMs write archives of classes: these are attached to.
    pub fn apply(&self, command: &mut Command) {
        // Other namespaces are another root for it: the JVM's report would have a number that means another process here.
        if let Some(entered) = other_root::entered(command) {
            tracing::info!(
                by = entered.program,
                "the command enters another root directory or other namespaces: its JVMs are not started with the agent, but attached to"
            );
            return;
        }
        if archives::writes_archive(command) {
            tracing::info!("a JVM of the command {}: its JVMs are attached to", archives::WHY);
            return;
        }
        let name = OsStr::new(plimsoll_jvmti::VARIABLE);
        let set = command.get_envs().find(|(key, _)| *key == name);
        let existing =
            set.map_or_else(|| std::env::var_os(name), |(_, value)| value.map(OsStr::to_os_string));
        let value = self.value(existing.as_deref());
        command.env(name, value);
    }
}

fn directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_where_the_command_enters_another_root() {
        let parent = tempfile::tempdir().unwrap();
        let hook = StartHook::create(parent.path()).unwrap();
        for (program, arguments, expected) in
            [("java", &[][..], 1), ("chroot", &["/srv"], 0), ("env", &["unshare", "-m", "java"], 0)]
        {
            let mut command = Command::new(program);
            hook.environment().apply(command.args(arguments));
            assert_eq!(command.get_envs().count(), expected, "{command:?}");
        }
    }

    #[test]
    fn appends_to_what_is_there() {
        let parent = tempfile::tempdir().unwrap();
        let hook = StartHook::create(parent.path()).unwrap();
        let own = hook.option.to_str().unwrap().to_owned();
        assert!(own.starts_with("-agentpath:/") && own.ends_with("/reports"));
        assert!(own.contains("/$PLATFORM/"), "{own}");
        for (existing, expected) in [
            (None, own.clone()),
            (Some(""), own.clone()),
            (Some("-Da=b -Xmx9m"), format!("-Da=b -Xmx9m {own}")),
        ] {
            let value = hook.environment().value(existing.map(OsStr::new));
            assert_eq!(value.to_str(), Some(expected.as_str()));
        }
        drop(hook);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        let strange = parent.path().join("a b");
        fs::create_dir(&strange).unwrap();
        assert!(StartHook::create(&strange).is_err());
        assert_eq!(fs::read_dir(&strange).unwrap().count(), 0);
    }
}
