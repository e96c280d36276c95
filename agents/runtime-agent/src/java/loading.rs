//! The agent's files below a JVM's /tmp, and the request that makes the JVM load them.
//! It must never leave them there, nor follow a name of the JVM's user to somewhere else.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::helper::told;
use crate::hooks::leftover;

/// Longest wait for the JVM to have loaded the agent.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most of an answer that is read, in bytes.
const ANSWER_MAX_BYTES: u64 = 4_096;
const FIFO_NAME: &str = "reports";

/// The agent's library and FIFO below the JVM's /tmp; there for the moment of loading only.
pub struct Place<'a> {
    temporary: &'a OwnedFd,
    name: String,
    directory: OwnedFd,
    fifo: File,
}

impl<'a> Place<'a> {
    /// Makes both.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn create(temporary: &'a OwnedFd, library: &[u8]) -> Result<Self, String> {
        let name = format!("{}{}", leftover::PREFIX, plimsoll_kit::host::random_id());
        let fail = || {
            told(
                "has a /tmp in which no file can be made; give it a writable one (a tmpfs: --tmpfs /tmp:exec)",
            )
        };
        rustix::fs::mkdirat(temporary, &name, Mode::from_raw_mode(0o700)).map_err(fail())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(temporary, &name, flags, Mode::empty()).map_err(fail())?;
        let fill = || -> io::Result<File> {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o700);
            let file = rustix::fs::openat(&directory, plimsoll_jvmti::FILE_NAME, flags, mode)?;
            File::from(file).write_all(library)?;
            rustix::fs::mkfifoat(&directory, FIFO_NAME, Mode::from_raw_mode(0o600))?;
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(rustix::fs::openat(&directory, FIFO_NAME, flags, Mode::empty())?.into())
        };
        match fill() {
            Ok(fifo) => Ok(Self { temporary, name, directory, fifo }),
            Err(error) => {
                clear(temporary, &name, &directory);
                Err(format!(
                    "has a /tmp in which no file can be made ({error}); give it a writable one (a tmpfs: --tmpfs /tmp:exec)"
                ))
            }
        }
    }

    /// Whether it has the agent now; false: it is still coming up.
    ///
    /// # Errors
    /// Why it will not have it, and what to do.
    pub fn load_into(&self, socket: UnixStream) -> Result<bool, String> {
        let path = |file: &str| format!("/tmp/{}/{file}", self.name);
        let words = ["1", "load", &path(plimsoll_jvmti::FILE_NAME), "true", &path(FIFO_NAME)];
        let request: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        let talk = || -> io::Result<String> {
            let mut socket = socket;
            socket.set_read_timeout(Some(LOAD_TIMEOUT))?;
            socket.set_write_timeout(Some(LOAD_TIMEOUT))?;
            socket.write_all(&request)?;
            let mut answer = Vec::new();
            socket.take(ANSWER_MAX_BYTES).read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = talk().map_err(|error| format!("does not answer to its attach protocol: {error}"))?;
        has_loaded(&answer)
    }

    /// Removes the files; the JVM holds what it needs.
    pub fn remove(self) -> File {
        clear(self.temporary, &self.name, &self.directory);
        self.fifo
    }
}

/// What a JVM says to a request to load the agent: whether it has; false: it is still coming up.
fn has_loaded(answer: &str) -> Result<bool, String> {
    let mut lines = answer.lines();
    let done = lines.next().map(str::trim) == Some("0");
    // "return code: 0" since JDK 9, "0" before; an error's text otherwise. The other number is the agent's own.
    match lines.next().map_or("0", |line| line.trim_start_matches("return code:").trim()) {
        "0" if done => return Ok(true),
        "-2" if done => return Ok(false),
        _ => {}
    }
    let said: String = answer.trim().replace('\n', " ").chars().take(300).collect();
    Err(format!(
        "does not load the agent ({said}); if its /tmp is mounted noexec, mount it with exec, or start it with `plimsoll run`"
    ))
}

fn clear(temporary: &OwnedFd, name: &str, directory: &OwnedFd) {
    // What cannot be removed was removed by someone else.
    let _ = rustix::fs::unlinkat(directory, plimsoll_jvmti::FILE_NAME, AtFlags::empty());
    let _ = rustix::fs::unlinkat(directory, FIFO_NAME, AtFlags::empty());
    let _ = rustix::fs::unlinkat(temporary, name, AtFlags::REMOVEDIR);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_loading() {
        for (answer, expected) in [
            ("0\nreturn code: 0\n", Ok(true)),
            ("0\n0\n", Ok(true)),
            ("0\n", Ok(true)),
            ("0\nreturn code: -2\n", Ok(false)),
            ("0\nreturn code: -1\n", Err("(0 return code: -1); if its /tmp")),
            ("0\nlibx.so: failed to map segment", Err("failed to map segment); if its /tmp")),
            ("101\n", Err("(101); if its /tmp")),
            ("", Err("(); if its /tmp")),
        ] {
            match (has_loaded(answer), expected) {
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
                (found, expected) => assert_eq!(found, expected.map_err(str::to_owned), "{answer}"),
            }
        }
    }
}
