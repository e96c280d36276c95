//! The helper process that brings the agent into one JVM that runs: by HotSpot's attach protocol, as the JVM's user.
//! It must never send SIGQUIT to a JVM that does not catch it, follow a link out of its root, or leave files there.
//!
//! The protocol: a file `.attach_pid<pid>` and SIGQUIT make the JVM listen at `.java_pid<pid>`, both in its /tmp; a request
//! is `1`, the command and three arguments, each ended by a zero byte; the answer begins with 0 if it was done.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use plimsoll_kit::unix::UnixChannel;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use super::facts::{JvmFacts, Verdict, feature_version, judge, options_of, variables_of};
use super::loading::Place;
use super::mounts::can_hang;
use super::perf_data::{self, Value};
use crate::procfs;

/// First argument of a program that is to be the helper.
pub const SUBCOMMAND: &str = "attach-jvm";
/// Longest wait for the JVM to listen.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(20);
/// What the start of a process by the kernel's clock and a file's time by its file system's may differ by.
const CLOCK_ERROR_MS: i64 = 2_000;
/// Most of a small file that is read, in bytes.
const FILE_MAX_BYTES: u64 = 256 * 1024;
/// Users' directories of counters that are looked through.
const PERF_DIRECTORIES_MAX: usize = 256;
/// Names in /tmp lead nowhere else, and to no file system mounted upon them.
const IN_TEMPORARY: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The agent is in; its FIFO comes with this.
    Attached {
        /// Classes that the JVM had unloaded by then; unknown where it keeps no counters.
        unloaded: Option<u64>,
    },
    /// It is coming up, or stopped: ask again.
    NotYet,
    /// It ended.
    Gone,
    /// Why it cannot be, and what to do.
    Refused(String),
}

/// Is the helper, if the program was started as that: `attach-jvm PID STARTED_NS ATTACH_FROM_21`, with a socket as standard
/// input.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != SUBCOMMAND {
        return None;
    }
    let numbers: Vec<u64> = arguments.filter_map(|word: OsString| word.to_str()?.parse().ok()).collect();
    let [pid, started_ns, attach_from_21] = numbers[..] else { return Some(ExitCode::from(2)) };
    let Ok(input) = io::stdin().as_fd().try_clone_to_owned() else { return Some(ExitCode::FAILURE) };
    let mut channel = UnixChannel::from(UnixStream::from(input));
    let pid = u32::try_from(pid).unwrap_or(0);
    let (outcome, fifo) = match attach(pid, started_ns, attach_from_21 != 0) {
        Ok((outcome, fifo)) => (outcome, fifo),
        Err(_) if procfs::started_ns(pid) != Some(started_ns) => (Outcome::Gone, None),
        Err(reason) => (Outcome::Refused(reason), None),
    };
    let text = serde_json::to_vec(&outcome).unwrap_or_default();
    let descriptors: Vec<BorrowedFd<'_>> = fifo.iter().map(|fifo| fifo.as_fd()).collect();
    Some(match channel.send(&text, &descriptors) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

/// The JVM as it is found in /proc.
struct Jvm {
    process: OwnedFd,
    root: OwnedFd,
    /// In its own namespace, where it names its files by it.
    inner_pid: u32,
    user: u32,
    group: u32,
    status: String,
    /// When it started, in milliseconds since the epoch.
    started_ms: i64,
    /// Its mounts, as the kernel lists them.
    mounts: String,
    library: Vec<u8>,
    /// The agent for programs of its width; empty: there is none.
    agent: &'static [u8],
    is_openj9: bool,
    arguments: Vec<String>,
    variables: Vec<String>,
}

/// A reason with the system's word for it, in front of what to do.
pub(super) fn told(reason: &'static str) -> impl FnOnce(rustix::io::Errno) -> String {
    move |error| match reason.split_once("; ") {
        Some((what, remedy)) => format!("{what} ({error}); {remedy}"),
        None => format!("{reason}: {error}"),
    }
}

fn attach(pid: u32, started_ns: u64, attach_from_21: bool) -> Result<(Outcome, Option<File>), String> {
    let jvm = Jvm::open(pid)?;
    // Now that the descriptors hold it: the number has not gone to another process meanwhile.
    if procfs::started_ns(pid) != Some(started_ns) {
        return Ok((Outcome::Gone, None));
    }
    become_user(jvm.user, jvm.group)?;
    if jvm.agent.is_empty() {
        return Err("is a 32-bit JVM, for which this build has no agent; use a 64-bit one".to_owned());
    }
    let temporary = jvm.temporary()?;
    let perf = perf_data(&temporary, jvm.inner_pid, jvm.user);
    match judge(&jvm.facts(perf.as_deref(), &temporary), attach_from_21) {
        Verdict::Attach => {}
        Verdict::NotYet => return Ok((Outcome::NotYet, None)),
        Verdict::Refuse(reason) => return Ok((Outcome::Refused(reason), None)),
    }
    let socket = jvm.listen(&temporary)?;
    let place = Place::create(&temporary, jvm.agent)?;
    let answer = place.load_into(socket);
    let fifo = place.remove();
    if !answer? {
        return Ok((Outcome::NotYet, None));
    }
    let unloaded = perf_data(&temporary, jvm.inner_pid, jvm.user).and_then(|perf| unloaded(&perf));
    Ok((Outcome::Attached { unloaded }, Some(fifo)))
}

impl Jvm {
    fn open(pid: u32) -> Result<Self, String> {
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("is no process")?;
        let process =
            rustix::process::pidfd_open(process, PidfdFlags::empty()).map_err(told("cannot be held"))?;
        let root = rustix::fs::open(
            format!("/proc/{pid}/root"),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(told("has a root that cannot be opened; the agent needs CAP_SYS_PTRACE"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
            .map_err(|error| format!("has no readable status: {error}"))?;
        // Real, effective, saved, file system.
        let id = |name: &str| field(&status, name)?.split_whitespace().nth(1)?.parse().ok();
        let inner = field(&status, "NSpid:").and_then(|list| list.split_whitespace().last());
        let maps = procfs::mappings(pid);
        let library = maps.iter().find(|mapping| super::is_jvm(&mapping.path));
        let mut head = [0_u8; 5];
        File::open(format!("/proc/{pid}/exe"))
            .and_then(|mut program| program.read_exact(&mut head))
            .map_err(|error| format!("has a program that cannot be read: {error}"))?;
        // ELFCLASS32.
        let agent = if head[4] == 1 { plimsoll_jvmti::LIBRARY_32_BIT } else { plimsoll_jvmti::LIBRARY };
        let mounts = std::fs::read(format!("/proc/{pid}/mountinfo"))
            .map_err(|error| format!("has a list of mounts that cannot be read: {error}"))?;
        let is_openj9 = maps.iter().any(|mapping| {
            mapping.path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(b"libj9vm"))
        });
        Ok(Self {
            user: id("Uid:").ok_or("has no readable user")?,
            group: id("Gid:").ok_or("has no readable group")?,
            inner_pid: inner.and_then(|pid| pid.parse().ok()).unwrap_or(pid),
            library: library.map(|library| library.path.clone()).ok_or("has no libjvm.so any more")?,
            arguments: procfs::command_line(pid),
            variables: variables_of(pid),
            started_ms: procfs::boot_time_ms()
                + procfs::started_ns(pid).map_or(0, |since_boot| (since_boot / 1_000_000).cast_signed()),
            mounts: String::from_utf8_lossy(&mounts).into_owned(),
            agent,
            process,
            root,
            status,
            is_openj9,
        })
    }

    /// Its /tmp. A file system there that another process answers for could keep this one for ever, so that not even a
    /// signal would end it.
    fn temporary(&self) -> Result<OwnedFd, String> {
        let missing = || {
            told("has no /tmp, through which agents are attached; give it one (a tmpfs: --tmpfs /tmp:exec)")
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.root, "tmp", flags, Mode::empty(), resolve | ResolveFlags::NO_XDEV) {
            Ok(temporary) => return Ok(temporary),
            Err(rustix::io::Errno::XDEV) => {}
            Err(error) => return Err(missing()(error)),
        }
        if let Some(kind) = can_hang(&self.mounts, b"/tmp") {
            return Err(format!(
                "has a /tmp on a file system ({kind}) that could keep the agent waiting for ever; mount a tmpfs there, or \
                 start it with `plimsoll run`"
            ));
        }
        // A mount, and no link to one that was not looked at.
        let resolve = resolve | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.root, "tmp", flags, Mode::empty(), resolve).map_err(missing())
    }

    fn facts(&self, perf: Option<&[u8]>, temporary: &OwnedFd) -> JvmFacts {
        const QUIT: u64 = 1 << (3 - 1);
        let caught = field(&self.status, "SigCgt:").and_then(|bits| u64::from_str_radix(bits, 16).ok());
        let text = |name: &str| match perf_data::find(perf?, name)? {
            Value::Text(text) => Some(text),
            Value::Number(_) => None,
        };
        let version = text("java.property.java.vm.specification.version").or_else(|| self.release());
        let mut options = options_of(&self.arguments, &self.variables);
        options.extend(
            text("java.rt.vmArgs").iter().flat_map(|text| text.split_whitespace()).map(str::to_owned),
        );
        JvmFacts {
            version: version.and_then(|version| feature_version(&version)),
            is_openj9: self.is_openj9,
            catches_quit: caught.is_some_and(|caught| caught & QUIT != 0),
            is_stopped: field(&self.status, "State:").is_some_and(|state| state.starts_with(['T', 't'])),
            listens: self.connect(temporary).is_some(),
            options,
        }
    }

    /// JAVA_VERSION of the file `release` in the JVM's home, which is some directories above its library.
    fn release(&self) -> Option<String> {
        let library = Path::new(std::str::from_utf8(&self.library).ok()?);
        if can_hang(&self.mounts, Path::new("/").join(library).as_os_str().as_encoded_bytes()).is_some() {
            return None;
        }
        library.ancestors().skip(1).take(5).find_map(|home| {
            let file = open_in(&self.root, home.join("release"), OFlags::RDONLY).ok()?;
            let mut text = String::new();
            File::from(file).take(FILE_MAX_BYTES).read_to_string(&mut text).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("JAVA_VERSION="))?;
            Some(line.trim_matches('"').to_owned())
        })
    }

    fn connect(&self, temporary: &OwnedFd) -> Option<UnixStream> {
        let name = format!(".java_pid{}", self.inner_pid);
        // Held open from here on: what the name stands for may change at any time, and lead out of the container.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = rustix::fs::openat2(temporary, &name, flags, Mode::empty(), IN_TEMPORARY).ok()?;
        let found = rustix::fs::fstat(&socket).ok()?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Socket || found.st_uid != self.user {
            return None;
        }
        UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()
    }

    /// The JVM's socket; it is made to listen if it does not. A signal that finds it listening would make it print its
    /// threads into the application's output, so only one asks at a time, whoever else attaches to it.
    fn listen(&self, temporary: &OwnedFd) -> Result<UnixStream, String> {
        let name = format!(".attach_pid{}", self.inner_pid);
        let deadline = Instant::now() + LISTEN_TIMEOUT;
        let mut asked = false;
        loop {
            let mine = !asked && self.connect(temporary).is_none() && self.may_ask(temporary, &name)?;
            // Asked by somebody else before the file was ours: it listens by now.
            if let Some(socket) = self.connect(temporary) {
                if asked || mine {
                    // It goes by itself with the JVM otherwise, so no harm if this fails.
                    let _ = rustix::fs::unlinkat(temporary, &name, AtFlags::empty());
                }
                return Ok(socket);
            }
            if mine {
                rustix::process::pidfd_send_signal(&self.process, Signal::QUIT)
                    .map_err(told("takes no signal"))?;
                asked = true;
            }
            if Instant::now() >= deadline {
                // The file stays: without it, a JVM that wakes up later would print its threads.
                return Err(format!(
                    "did not answer within {} s; look whether it hangs",
                    LISTEN_TIMEOUT.as_secs()
                ));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether the file that asks the JVM to listen is ours now: made, or left behind long ago.
    fn may_ask(&self, temporary: &OwnedFd, name: &str) -> Result<bool, String> {
        let open = |flags: OFlags| {
            let flags = flags | OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode =
                if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o600) } else { Mode::empty() };
            rustix::fs::openat2(temporary, name, flags, mode, IN_TEMPORARY)
        };
        match open(OFlags::CREATE | OFlags::EXCL) {
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => {
                return Err(told(
                    "has a /tmp that its user cannot write, through which agents are attached; give it one (a tmpfs: --tmpfs /tmp:exec)",
                )(error));
            }
        }
        let file = match open(OFlags::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(false),
            Err(error) => return Err(told("has a file of somebody else for its attach in /tmp")(error)),
        };
        // Whoever holds it locked takes it over.
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        let file = File::from(file);
        // A request of another JVM's days, which had the same number. One that this JVM does not answer is left alone: a second
        // signal would make it print its threads once it wakes up.
        let made_ms = file.metadata().map_or(i64::MAX, |found| found.mtime().saturating_mul(1_000));
        let is_stale = made_ms < self.started_ms - CLOCK_ERROR_MS;
        if is_stale {
            let now = std::time::SystemTime::now();
            file.set_modified(now)
                .map_err(|error| format!("has a file for its attach that cannot be taken: {error}"))?;
        }
        Ok(is_stale)
    }
}

/// What is left of the rights is what the JVM itself has: that is enough, and whatever its files lead to is its own.
fn become_user(user: u32, group: u32) -> Result<(), String> {
    let (uid, gid) = (rustix::process::Uid::from_raw(user), rustix::process::Gid::from_raw(group));
    let may = rustix::process::geteuid().is_root();
    let same = rustix::process::geteuid() == uid && rustix::process::getegid() == gid;
    if !may && !same {
        return Err("runs as another user; the agent needs CAP_SETUID and CAP_SETGID to attach".to_owned());
    }
    if may {
        // This process has one thread.
        rustix::thread::set_thread_groups(&[]).map_err(told("groups cannot be left"))?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(told("its group cannot be taken"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(told("its user cannot be taken"))?;
        let none = rustix::thread::CapabilitySets {
            effective: rustix::thread::CapabilitySet::empty(),
            permitted: rustix::thread::CapabilitySet::empty(),
            inheritable: rustix::thread::CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, none).map_err(told("capabilities cannot be left"))?;
    }
    Ok(())
}

/// Opens below the JVM's root, whatever links say.
fn open_in(root: &OwnedFd, path: impl rustix::path::Arg, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    // A FIFO in the place of a file must not hold this up; descriptors of paths take no such flag.
    let waits = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK };
    let flags = flags | OFlags::CLOEXEC | waits;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The JVM's counters: `hsperfdata_<user>/<pid>`, by whatever name its user goes there.
fn perf_data(temporary: &OwnedFd, inner_pid: u32, user: u32) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = rustix::fs::openat(temporary, ".", flags, Mode::empty()).ok()?;
    let entries = rustix::fs::Dir::read_from(&listed).ok()?;
    let directories =
        entries.flatten().filter(|entry| entry.file_name().to_bytes().starts_with(b"hsperfdata_"));
    directories.take(PERF_DIRECTORIES_MAX).find_map(|entry| {
        let path = [entry.file_name().to_bytes(), b"/", inner_pid.to_string().as_bytes()].concat();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&listed, path.as_slice(), flags, Mode::empty(), IN_TEMPORARY).ok()?;
        let found = rustix::fs::fstat(&file).ok()?;
        if found.st_uid != user || FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return None;
        }
        let mut bytes = Vec::new();
        File::from(file).take(FILE_MAX_BYTES).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    })
}

fn unloaded(perf: &[u8]) -> Option<u64> {
    let number = |name| match perf_data::find(perf, name)? {
        Value::Number(number) => u64::try_from(number).ok(),
        Value::Text(_) => None,
    };
    Some(number("java.cls.unloadedClasses")? + number("java.cls.sharedUnloadedClasses").unwrap_or(0))
}
