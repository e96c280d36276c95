//! Daemons: start detached, recognise again by process id and start time, signal, stop.
//! It never signals a process whose start time differs from the recorded one.

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, WaitOptions};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A process as recorded on disk; `start_ticks` (clock ticks since boot) tells it from a stranger with its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    pub pid: u32,
    pub start_ticks: u64,
}

impl Recorded {
    /// Start a command in its own session, output appended to the log.
    pub fn spawn(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let file = open().with_context(|| format!("cannot write {}", log.display()))?;
        command.stderr(file.try_clone()?).stdout(file);
        // SAFETY: setsid is async-signal-safe and touches no memory of the parent.
        unsafe { command.pre_exec(|| rustix::process::setsid().map(|_| ()).map_err(Into::into)) };
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let pid = child.id();
        let Some(recorded) = Self::running(pid) else {
            bail!(
                "{program} ended at once; see {}, which ends with:\n{}",
                log.display(),
                crate::run::tail(log)
            );
        };
        Ok(recorded)
    }

    /// The process that has this id now.
    pub fn running(pid: u32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, start_ticks: stat.start_ticks })
    }

    /// Whether this very process still runs, be it in its last thread: a killed server's threads end one
    /// after the other, and only the last one lets go of its files, locks and ports.
    pub fn is_alive(&self) -> bool {
        if let Some(pid) = self.raw() {
            // Reaps it when it is our child; refused when it is not.
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
        }
        stat(self.pid).is_some_and(|now| {
            now.start_ticks == self.start_ticks
                && (now.runs() || threads(self.pid).any(|thread| thread.runs()))
        })
    }

    /// Send a signal; nothing happens when the process is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match self.raw() {
            Some(pid) if self.is_alive() => rustix::process::kill_process(pid, signal)
                .with_context(|| format!("cannot signal process {}", self.pid)),
            _ => Ok(()),
        }
    }

    /// SIGTERM, after the grace period SIGKILL, until it is gone.
    pub fn stop(&self, grace: Duration) -> anyhow::Result<()> {
        // A frozen process cannot act on SIGTERM.
        self.signal(Signal::CONT)?;
        self.signal(Signal::TERM)?;
        if self.wait_gone(grace) {
            return Ok(());
        }
        self.kill()
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(&self) -> anyhow::Result<()> {
        const KILL_WAIT: Duration = Duration::from_secs(20);
        self.signal(Signal::KILL)?;
        if !self.wait_gone(KILL_WAIT) {
            bail!(
                "process {} survives SIGKILL (uninterruptible?); look at /proc/{}/stack",
                self.pid,
                self.pid
            );
        }
        Ok(())
    }

    fn wait_gone(&self, limit: Duration) -> bool {
        const POLL: Duration = Duration::from_millis(20);
        let end = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }

    fn raw(&self) -> Option<Pid> {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw)
    }
}

/// Ids of all processes.
pub fn all() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Ids of the processes that this one started and that live.
pub fn children(parent: u32) -> Vec<u32> {
    all().filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == parent)).collect()
}

/// Of `/proc/PID/stat` (proc_pid_stat(5)).
struct Stat {
    state: char,
    parent: u32,
    start_ticks: u64,
}

impl Stat {
    fn runs(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

fn stat(pid: u32) -> Option<Stat> {
    read_stat(Path::new(&format!("/proc/{pid}/stat")))
}

fn threads(pid: u32) -> impl Iterator<Item = Stat> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| read_stat(&entry.path().join("stat")))
}

fn read_stat(path: &Path) -> Option<Stat> {
    let text = std::fs::read_to_string(path).ok()?;
    // The name in parentheses may hold anything, so count from the last one; state is field 3, start time 22.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        state: field(3)?.chars().next()?,
        parent: field(4)?.parse().ok()?,
        start_ticks: field(22)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_time() {
        let log = std::env::temp_dir().join(format!("xtask-process-{}.log", std::process::id()));
        let sleeper = Recorded::spawn(Command::new("sleep").arg("600"), &log).unwrap();
        assert!(sleeper.is_alive());
        let stranger = Recorded { pid: sleeper.pid, start_ticks: sleeper.start_ticks + 1 };
        assert!(!stranger.is_alive());
        stranger.kill().unwrap();
        assert!(sleeper.is_alive(), "a stranger's record must not reach the process");
        sleeper.stop(Duration::from_secs(5)).unwrap();
        assert!(!sleeper.is_alive());
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_process_runs_until_its_last_thread_has_ended() {
        const ONLY_THE_FIRST_THREAD_ENDS: &str = "import ctypes, os, threading, time\n\
            threading.Thread(target=time.sleep, args=(600,)).start()\n\
            ctypes.CDLL(None).syscall(93 if os.uname().machine == 'aarch64' else 60, 0)";
        let log = std::env::temp_dir().join(format!("xtask-threads-{}.log", std::process::id()));
        let process =
            Recorded::spawn(Command::new("python3").args(["-c", ONLY_THE_FIRST_THREAD_ENDS]), &log).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while stat(process.pid).is_some_and(|leader| leader.runs()) {
            assert!(Instant::now() < end, "its first thread does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(process.is_alive(), "its other thread sleeps");
        process.kill().unwrap();
        assert!(!process.is_alive());
        std::fs::remove_file(log).unwrap();
    }
}
