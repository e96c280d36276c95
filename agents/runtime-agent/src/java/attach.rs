//! Starts the helper for one JVM, bounds its time, and takes its answer.
//! It must never wait for a JVM in the agent's own thread, nor let a helper outlive its time.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use plimsoll_kit::unix::UnixChannel;

use super::facts::AT_START;
use super::helper::{Outcome, SUBCOMMAND};

/// Longest life of a helper: above its own waits.
const HELPER_TIMEOUT: Duration = Duration::from_secs(20);
/// Helpers that did not end when they were told to: a file system holds them. With so many, no other is started.
const STUCK_MAX: usize = 8;
static STUCK: AtomicUsize = AtomicUsize::new(0);

/// Answer about one JVM.
#[derive(Debug)]
pub struct Attachment {
    /// Whose it is.
    pub workload: u64,
    pub pid: u32,
    pub outcome: Outcome,
    /// What the agent in the JVM writes to.
    pub fifo: Option<File>,
}

/// A JVM to attach to.
#[derive(Clone, Debug)]
pub struct AttachRequest {
    pub workload: u64,
    pub pid: u32,
    /// Tells the process from a later one with its number.
    pub started_ns: u64,
    pub attach_from_21: bool,
    pub helper: Option<PathBuf>,
}

/// Attaches in a thread of its own; `done` hears what came of it.
///
/// # Errors
/// If no thread is to be had: then `done` hears nothing.
pub fn start(request: AttachRequest, done: impl FnOnce(Attachment) + Send + 'static) -> io::Result<()> {
    let (workload, pid) = (request.workload, request.pid);
    let work = move || {
        let (mut outcome, fifo) = attach(&request).unwrap_or_else(|error| {
            let reason = format!("was not attached to, as the helper failed ({error})");
            (Outcome::Refused(reason), None)
        });
        if let Outcome::Refused(reason) = &mut outcome
            && !reason.contains("; ")
        {
            reason.push_str("; ");
            reason.push_str(AT_START);
        }
        done(Attachment { workload, pid, outcome, fifo });
    };
    std::thread::Builder::new().name("attach".into()).spawn(work).map(drop)
}

fn attach(request: &AttachRequest) -> anyhow::Result<(Outcome, Option<File>)> {
    if STUCK.load(Ordering::Relaxed) >= STUCK_MAX {
        let reason = format!(
            "was not attached to, as {STUCK_MAX} helpers before hang in a file system below a JVM's /tmp; unmount it"
        );
        return Ok((Outcome::Refused(reason), None));
    }
    let (ours, theirs) = UnixStream::pair()?;
    let program = request.helper.as_deref().unwrap_or(Path::new("/proc/self/exe"));
    let mut helper = Command::new(program)
        .arg(SUBCOMMAND)
        .args([
            request.pid.to_string(),
            request.started_ns.to_string(),
            u8::from(request.attach_from_21).to_string(),
        ])
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let answer = UnixChannel::from(ours).receive(HELPER_TIMEOUT);
    // It has answered, or had its time.
    let _ = helper.kill();
    // A file system that hangs keeps it even from dying: nobody waits for that, but it is counted.
    let reap = move || {
        STUCK.fetch_add(1, Ordering::Relaxed);
        // It was killed: how it ended tells nothing.
        let _ = helper.wait();
        STUCK.fetch_sub(1, Ordering::Relaxed);
    };
    std::thread::Builder::new().name("attach-reap".into()).spawn(reap)?;
    let Some(mut frame) = answer? else { anyhow::bail!("no answer within {} s", HELPER_TIMEOUT.as_secs()) };
    let fifo = frame.descriptors.pop().map(File::from);
    if let Some(fifo) = &fifo {
        must_be_fifo(fifo)?;
    }
    Ok((serde_json::from_slice(&frame.bytes)?, fifo))
}

/// A file of another kind could make its readers wait for ever. Asks the descriptor, never its file system.
fn must_be_fifo(file: &File) -> anyhow::Result<()> {
    rustix::pipe::fcntl_getpipe_size(file)
        .map(drop)
        .map_err(|_| anyhow::anyhow!("its /tmp gave something else for a FIFO, as no sound file system does"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pipes_are_read() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(must_be_fifo(&File::from(OwnedFd::from(reader))).is_ok());
        assert!(must_be_fifo(&tempfile::tempfile().unwrap()).is_err());
    }
}
