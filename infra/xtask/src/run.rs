//! Runs other programs in the foreground, with errors that name the command and what to do.
//! It never leaves a program behind that it started.

use crate::{paths, signals};
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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
    let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let _guard = stop_on_signal(&child);
    let status = child.wait().with_context(|| format!("cannot wait for `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
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

/// End a child with SIGTERM when this command is interrupted.
pub fn stop_on_signal(child: &Child) -> signals::OnSignal {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    signals::OnSignal::run(move || {
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
    })
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
