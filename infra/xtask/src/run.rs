//! Runs other programs in the foreground, with errors that name the command and what to do.
//! It never leaves a program behind that it started.

use crate::{paths, signals};
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// A command with the search path that also holds cargo's and the daemons' directories.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    if let Ok(path) = std::env::join_paths(paths::search_path()) {
        command.env("PATH", path);
    }
    command.stdin(Stdio::null());
    command
}

/// Show the output as it comes; fail when the command fails.
pub fn streamed(command: &mut Command) -> anyhow::Result<()> {
    let shown = shown(command);
    let mut running = Running::spawn(command)?;
    let status = running.child.wait().with_context(|| format!("cannot wait for `{shown}`"))?;
    signals::yield_to_cleanup();
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Pass each line of standard output to `line`; tells whether the command succeeded.
/// After the limit the command and all that it started are killed.
pub fn lines(command: &mut Command, limit: Duration, mut line: impl FnMut(&str)) -> anyhow::Result<bool> {
    const QUEUED_LINES: usize = 1_000;
    const POLL: Duration = Duration::from_secs(1);
    let shown = shown(command);
    command.stdout(Stdio::piped());
    let mut running = Running::spawn(command)?;
    let output = running.child.stdout.take().with_context(|| format!("no output of `{shown}`"))?;
    let (sender, receiver) = std::sync::mpsc::sync_channel(QUEUED_LINES);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|size| size > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            bytes.clear();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + limit;
    loop {
        match receiver.recv_timeout(POLL) {
            Ok(text) => line(&text),
            Err(RecvTimeoutError::Disconnected) => break,
            // A process that the command left behind may hold its output open for ever.
            Err(RecvTimeoutError::Timeout) if running.child.try_wait()?.is_some() => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if Instant::now() > end {
            running.kill_group();
            bail!("`{shown}` was killed: it ran for more than {} s", limit.as_secs());
        }
    }
    let status = running.child.wait()?;
    signals::yield_to_cleanup();
    // What it left behind, if anything.
    running.kill_group();
    Ok(status.success())
}

/// Start a command whose standard output and error go to a log; it ends with the returned value.
pub fn background(command: &mut Command, log: &Path) -> anyhow::Result<Running> {
    let file = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stderr(file.try_clone()?).stdout(file);
    Running::spawn(command)
}

/// A child in a process group of its own, ended with that group on Ctrl-C and when this is dropped.
pub struct Running {
    child: Child,
    group: Option<Pid>,
    _on_signal: signals::OnSignal,
}

impl Running {
    fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let shown = shown(command);
        let child = command.process_group(0).spawn().with_context(|| format!("cannot start `{shown}`"))?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let on_signal = signals::OnSignal::run(move || {
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::TERM);
            }
        });
        Ok(Self { child, group, _on_signal: on_signal })
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    fn kill_group(&self) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Waiting failed or was given up: do not leave it behind.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill_group();
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Keep standard output and error in a log; fail naming the log and quoting its end.
pub fn logged(command: &mut Command, log: &Path) -> anyhow::Result<()> {
    let file = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stderr(file.try_clone()?).stdout(file);
    streamed(command).with_context(|| format!("see {}, which ends with:\n{}", log.display(), tail(log)))
}

/// Standard output of a command that is expected to be brief.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = shown(command);
    let output = command.output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last lines of a log, for error messages.
pub fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES);
    lines[from..].iter().map(|line| format!("  {line}\n")).collect()
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
