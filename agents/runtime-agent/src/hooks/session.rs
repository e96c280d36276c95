//! The hooks of one process tree at work: their files, their FIFO, and the thread that reads it.
//! It must never overwrite what the application set, make it wait, or leave files behind that it could trip over.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use plimsoll_audit::unseen;
use plimsoll_kit::clock::now_ms;
use plimsoll_schemas::words::probe;

use super::coverage::Coverage;
use super::environment::HookEnvironment;
use super::language::Language;
use super::report::{Found, REPORT_MAX_BYTES, Report, ReportKind, Reports, session_mark};
use super::survey::Survey;
use super::unseen_start::UnseenStart;
use super::{files, leftover, php_settings};
use crate::procfs;

/// Reports that were read and wait to be taken; above, the FIFO holds what is new.
const REPORTS_MAX: usize = 65_536;
/// Room of the FIFO, in bytes; the most that the system gives without rights.
const FIFO_BYTES: usize = 1024 * 1024;
/// Longest wait for what is in the FIFO to be read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two looks for processes without hooks.
const SURVEY_INTERVAL: Duration = Duration::from_millis(250);

/// Why hooks cannot be put in place.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The directory's fault.
    #[error("{path}: {source}; hooks need a directory that can be written: choose one with TMPDIR")]
    Directory {
        /// What was written.
        path: PathBuf,
        /// Why that failed.
        source: io::Error,
    },
    /// LD_AUDIT and PYTHONPATH are lists with colons, and the linker replaces words that begin with a dollar sign.
    #[error("{0} has a colon or a dollar sign, which no path of hooks may have: choose another with TMPDIR")]
    Unspeakable(PathBuf),
    /// No thread.
    #[error("starting the thread that reads the hooks' reports: {0}")]
    Thread(io::Error),
}

impl From<HookError> for io::Error {
    fn from(error: HookError) -> Self {
        Self::other(error)
    }
}

enum Message {
    Report(Report, i64),
    /// Something that no hook wrote.
    Garbage,
    /// Everything that was written before this mark has been read.
    Mark(u64),
}

/// The hooks of one process tree. Its files are removed when it is dropped, or, if processes of the tree run on, when a
/// later session starts.
pub struct HookSession {
    outer: PathBuf,
    inner: PathBuf,
    environment: HookEnvironment,
    marks: File,
    secret: String,
    next_mark: u64,
    messages: Option<Receiver<Message>>,
    thread: Option<JoinHandle<()>>,
    losses: File,
    page: unseen::Page,
    survey: Survey,
    next_survey: Instant,
    /// None of the hooks is in the tree.
    left_out: bool,
    /// What the hooks can vouch for.
    pub coverage: Coverage,
    /// Programs that were seen running, and that no hook told of: static ones above all.
    pub executed: Vec<(u32, Vec<u8>)>,
    /// Processes with a JVM that was seen running, and that no audit library told of.
    pub jvms: Vec<u32>,
    /// Programs that were started where the hooks' files are not.
    pub unseen: Vec<UnseenStart>,
}

impl HookSession {
    /// Writes the hooks into a directory of their own below `parent`, and reads what they report from now on.
    ///
    /// # Errors
    /// [`HookError`]: the directory's fault in all cases but one.
    pub fn start(parent: &Path) -> Result<Self, HookError> {
        let parent = at(parent, fs::canonicalize(parent))?;
        if parent.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b':' | b'$')) {
            return Err(HookError::Unspeakable(parent));
        }
        // Others who may run programs of the tree (after a change of user) pass through the outer directory, but find
        // the inner one only by its name, which they have from their environment.
        leftover::sweep(&parent);
        let outer = parent.join(format!("{}{}", leftover::PREFIX, plimsoll_kit::host::random_id()));
        let inner = outer.join(plimsoll_kit::host::random_id());
        let others = rustix::process::geteuid().is_root();
        directory(&outer, if others { 0o711 } else { 0o700 })?;
        let made = Self::fill(outer.clone(), inner);
        if made.is_err() {
            // The error tells more than a failed removal would.
            let _ = fs::remove_dir_all(&outer);
        }
        made
    }

    fn fill(outer: PathBuf, inner: PathBuf) -> Result<Self, HookError> {
        directory(&inner, 0o755)?;
        files::write_to(&inner)?;

        let path = inner.join(leftover::LOCKED);
        let create = || {
            // Locked before it has its name: another session that finds it unlocked takes all of this for abandoned.
            let unnamed = inner.join("starting");
            let file = File::options().read(true).append(true).create_new(true).open(&unnamed)?;
            leftover::lock(&file)?;
            permit(&unnamed, 0o666)?;
            fs::rename(&unnamed, &path)?;
            Ok(file)
        };
        let losses = at(&path, create())?;
        let page = at(&inner.join(unseen::FILE_NAME), unseen::Page::create(&inner))?;
        let path = inner.join("reports");
        let create = || {
            rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600))?;
            // The umask must not take it from another user of the tree.
            permit(&path, 0o666)?;
            // For writing too: so the FIFO never comes to an end, whoever comes and goes.
            let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
            let fifo = File::options().read(true).write(true).custom_flags(nonblocking).open(&path)?;
            let marks = File::options().write(true).custom_flags(nonblocking).open(&path)?;
            Ok((fifo, marks))
        };
        let (mut fifo, marks) = at(&path, create())?;
        // A smaller FIFO only loses earlier, and what it loses is counted.
        let _ = rustix::pipe::fcntl_setpipe_size(&fifo, FIFO_BYTES);

        let libraries = inner.join("audit");
        let word =
            at(&libraries, plimsoll_audit::write_to(&libraries, &path, &inner.join(leftover::LOCKED)))?;
        let mut coverage = Coverage::default();
        let mut environment = HookEnvironment::new(&inner, |language, reason| {
            coverage.set_absent(language.probe(), reason);
        });
        let set = |name| std::env::var_os(name);
        if let Some(what) =
            php_settings::what_forbids_the_hook(set("PHPRC").as_deref(), set("PHP_INI_SCAN_DIR").as_deref())
        {
            let reason = format!(
                "{what}, which keeps PHP from the include hook: take it out for this run, or give the agent eBPF"
            );
            coverage.set_absent(probe::PHP_INCLUDE, reason);
        }
        environment.audit = match try_audit(&[word, plimsoll_audit::plain_word(&libraries)]) {
            Ok(word) => Some(word),
            Err(reason) => {
                coverage.set_absent(probe::LD_AUDIT, reason);
                None
            }
        };
        // What the trial reported.
        while fifo.read(&mut [0; REPORT_MAX_BYTES]).is_ok_and(|read| read > 0) {}
        at(&path, rustix::io::ioctl_fionbio(&fifo, false).map_err(io::Error::from))?;

        let secret = plimsoll_kit::host::random_id();
        let (sender, messages) = crossbeam_channel::bounded(REPORTS_MAX);
        let marker = secret.clone();
        let thread = std::thread::Builder::new()
            .name("hooks".into())
            .spawn(move || read_reports(fifo, &marker, &sender))
            .map_err(HookError::Thread)?;
        Ok(Self {
            outer,
            inner,
            environment,
            marks,
            secret,
            next_mark: 1,
            messages: Some(messages),
            thread: Some(thread),
            losses,
            page,
            survey: Survey::default(),
            next_survey: Instant::now(),
            left_out: false,
            coverage,
            executed: Vec::new(),
            jvms: Vec::new(),
            unseen: Vec::new(),
        })
    }

    /// What the environment of the tree's first process needs.
    pub fn environment(&self) -> HookEnvironment {
        self.environment.clone()
    }

    /// The tree's first process got none of the hooks: nothing of it is measured, for this reason.
    pub fn left_out(&mut self, reason: &str) {
        self.left_out = true;
        super::probes().for_each(|probe| self.coverage.set_absent(probe, reason.to_owned()));
    }

    /// Names the tree's first process, as soon as it is known.
    pub fn set_first_process(&mut self, pid: u32) {
        self.coverage.set_first_process(pid);
    }

    /// Gives everything that was reported before this call, with the time when it was read, and judges what was not.
    pub fn drain(&mut self, mut each: impl FnMut(&Coverage, Report, i64)) {
        // Looked at before reading: what these had to say is in the FIFO by now.
        let is_gone = |pid: &u32| !Path::new(&format!("/proc/{pid}/exe")).exists();
        let ended: Vec<u32> = self.coverage.expected().into_iter().filter(is_gone).collect();
        let complete = self.take(&mut each);
        self.count_losses();
        self.take_unseen();
        self.coverage.judge(if complete { &ended } else { &[] }, now_ms());
        self.look();
    }

    /// `true` if all was taken.
    fn take(&mut self, each: &mut impl FnMut(&Coverage, Report, i64)) -> bool {
        let Some(messages) = self.messages.clone() else { return false };
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let number = self.next_mark;
        self.next_mark += 1;
        let mark = session_mark(&format!("{} {number}", self.secret));
        let mut written = false;
        loop {
            written = written || self.marks.write_all(&mark).is_ok();
            let wait = match written {
                true => deadline.saturating_duration_since(Instant::now()),
                // The FIFO is full.
                false => Duration::from_millis(1),
            };
            match messages.recv_timeout(wait) {
                Ok(Message::Report(report, time_ms)) => {
                    self.coverage.on_report(&report, time_ms);
                    each(&self.coverage, report, time_ms);
                }
                Ok(Message::Garbage) => {
                    tracing::warn!("something that no hook wrote was in the FIFO of reports");
                    super::probes().for_each(|probe| self.coverage.lose(probe, 1));
                }
                Ok(Message::Mark(reached)) if reached == number => return true,
                Ok(Message::Mark(_)) => {}
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    tracing::warn!("the reports of hooks are not read in time");
                    return false;
                }
            }
            // Reports that come faster than they are taken do not hold this up for ever: what is left is taken next time.
            if Instant::now() >= deadline {
                return false;
            }
        }
    }

    fn count_losses(&mut self) {
        let mut bytes = [0_u8; 4_096];
        while let Ok(read) = self.losses.read(&mut bytes) {
            if read == 0 {
                break;
            }
            for byte in &bytes[..read] {
                let language = Language::of_letter(*byte);
                self.coverage.lose(language.map_or(probe::LD_AUDIT, Language::probe), 1);
            }
        }
        // A hook that may open no file at all can still make one.
        for language in Language::ALL {
            let refused = self.inner.join(format!("refused-{}", char::from(language.letter())));
            if fs::remove_file(refused).is_ok() {
                let reason = format!("keeps the {} from its reports", language.hook());
                self.coverage.unmeasured(language.probe(), language.interpreter().as_bytes(), &reason);
            }
        }
    }

    /// Takes what those told that lost the hooks' files from sight.
    fn take_unseen(&mut self) {
        let (named, others) = self.page.take().unwrap_or_else(|error| {
            tracing::warn!(%error, "the page of processes in other root directories cannot be read");
            (Vec::new(), 1)
        });
        for start in named.iter().map(UnseenStart::of_page) {
            self.coverage.unseen(&start.program, &start.reason);
            self.unseen.push(start);
        }
        if others > 0 {
            // Why was told of the first of them.
            super::probes().for_each(|probe| self.coverage.lose(probe, u64::from(others)));
        }
    }

    /// Whether the process of this number is the one that reported it, or has ended. In a PID namespace of its own it has
    /// another number here, and this one may be anybody's.
    pub fn is_reporter(&self, pid: u32) -> bool {
        procfs::maps_below(pid, &self.inner) == Some(true) || procfs::has_ended(pid)
    }

    /// Where hooks write.
    #[cfg(test)]
    pub fn reports_path(&self) -> PathBuf {
        self.inner.join("reports")
    }

    fn look(&mut self) {
        let Some(first) = self.coverage.first_process().filter(|_| Instant::now() >= self.next_survey) else {
            return;
        };
        self.next_survey = Instant::now() + SURVEY_INTERVAL;
        for found in self.survey.look(first, &self.inner) {
            self.executed.push((found.pid, found.program.clone()));
            if found.jvm {
                self.jvms.push(found.pid);
            }
            // One reason says it of all.
            if self.left_out {
                continue;
            }
            if self.environment.audit.is_some() {
                self.coverage.unmeasured(probe::LD_AUDIT, &found.program, found.reason);
            }
            for (language, reason) in &found.unhooked {
                self.coverage.refuse(found.pid, *language);
                self.coverage.unmeasured(language.probe(), &found.program, reason);
            }
        }
    }

    /// The tree's processes that live, as far as they name the hooks or were seen.
    pub fn processes(&self) -> impl Iterator<Item = u32> + '_ {
        leftover::processes_that_name(&self.inner).chain(self.survey.living())
    }

    /// Directory of the hooks' files.
    pub fn directory(&self) -> &Path {
        &self.inner
    }
}

impl Drop for HookSession {
    fn drop(&mut self) {
        // The thread ends at the next report that it cannot hand on; the mark is one, if there is room for it.
        self.messages = None;
        let _ = self.marks.write_all(&session_mark(&format!("{} 0", self.secret)));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that reads the hooks' reports panicked");
        }
        let removed = if leftover::is_named_by_a_process(&self.inner) {
            // These run on, and what they start wants the library; without the FIFO it does nothing.
            tracing::info!(path = %self.outer.display(), "hooks are left for processes that run on");
            fs::remove_file(self.inner.join("reports"))
        } else {
            fs::remove_dir_all(&self.outer)
        };
        if let Err(error) = removed {
            tracing::debug!(path = %self.outer.display(), %error, "hooks were left behind");
        }
    }
}

fn read_reports(mut fifo: File, secret: &str, sender: &Sender<Message>) {
    let mut reports = Reports::default();
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let read = match fifo.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::error!(%error, "the reports of hooks cannot be read");
                return;
            }
        };
        let time_ms = now_ms();
        let mut open = true;
        reports.push(&buffer[..read], |found| {
            let message = match found {
                Found::Report(report) if report.kind == ReportKind::SessionMark => {
                    mark_number(&report.name, secret).map_or(Message::Garbage, Message::Mark)
                }
                Found::Report(report) => Message::Report(report, time_ms),
                Found::Garbage => Message::Garbage,
            };
            // Full: waits, and the FIFO holds what is new.
            open = open && sender.send(message).is_ok();
        });
        if !open {
            return;
        }
    }
}

fn mark_number(name: &[u8], secret: &str) -> Option<u64> {
    std::str::from_utf8(name).ok()?.strip_prefix(secret)?.strip_prefix(' ')?.parse().ok()
}

/// The first of these words for LD_AUDIT with which a program says nothing about it.
fn try_audit(words: &[OsString]) -> Result<OsString, String> {
    let Some(program) = ["/bin/true", "/usr/bin/true"].into_iter().find(|path| Path::new(path).exists())
    else {
        return words.first().cloned().ok_or_else(String::new);
    };
    let mut said = String::new();
    for word in words {
        let output = Command::new(program).env_clear().env("LD_AUDIT", word).stdin(Stdio::null()).output();
        match output {
            Ok(output) if output.stderr.is_empty() => return Ok(word.clone()),
            Ok(output) => said = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => said = format!("{program}: {error}"),
        }
    }
    Err(format!(
        "the dynamic linker refuses the audit library ({said}): choose a directory from which libraries may be loaded \
         with TMPDIR"
    ))
}

pub(super) fn directory(path: &Path, mode: u32) -> Result<(), HookError> {
    at(path, fs::create_dir(path).and_then(|()| permit(path, mode)))
}

pub(super) fn permit(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

pub(super) fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, HookError> {
    result.map_err(|source| HookError::Directory { path: path.to_owned(), source })
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
