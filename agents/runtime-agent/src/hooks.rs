//! Observation without eBPF: LD_AUDIT for shared libraries and an import hook for Python, reporting through a FIFO.
//! It must never overwrite what the application set, make it wait, or count what the hooks themselves load.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use plimsoll_schemas::words::{Rung, mount, probe, usage_kind};

use crate::observe::{Observation, normalise};

/// Name of the environment variable that names the FIFO.
pub const FIFO_VARIABLE: &str = "PLIMSOLL_HOOK_FIFO";
/// Longest report: what a FIFO takes in one piece (PIPE_BUF), in bytes.
pub const REPORT_MAX_BYTES: usize = 4_096;
/// Room of the FIFO, in bytes.
const FIFO_BYTES: usize = 1024 * 1024;
const PYTHON_HOOK: &str = include_str!("../../hooks/python/sitecustomize.py");

/// What a hook reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookRecord {
    /// `ld-audit` or `python-import`.
    pub probe: &'static str,
    pub pid: u32,
    /// Reports that this process could not bring so far.
    pub lost: u64,
    pub observation: Observation,
}

/// Files of the hooks and the FIFO, in a directory of their own.
pub struct Hooks {
    directory: PathBuf,
    fifo: File,
    rest: Vec<u8>,
}

impl Hooks {
    /// Writes the hooks below `parent` and opens the FIFO.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn create(parent: &Path) -> std::io::Result<Self> {
        let directory = parent.join(format!("plimsoll-hooks-{}", plimsoll_kit::host::random_id()));
        fs::create_dir_all(directory.join("python"))?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711))?;
        fs::write(directory.join("libplimsoll_audit.so"), plimsoll_audit::LIBRARY)?;
        fs::set_permissions(directory.join("libplimsoll_audit.so"), fs::Permissions::from_mode(0o755))?;
        fs::write(directory.join("python/sitecustomize.py"), PYTHON_HOOK)?;
        // Where the interpreter would write bytecode: a file in its place keeps it from doing so.
        fs::write(directory.join("python/__pycache__"), b"")?;
        let path = directory.join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o622))?;
        // The application may run as another user; the umask must not take that away.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o622))?;
        // Read and write: the FIFO never reports an end, whoever comes and goes.
        let fifo = File::options()
            .read(true)
            .write(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(&path)?;
        // A smaller FIFO only loses earlier, and what it loses is counted.
        let _ = rustix::pipe::fcntl_setpipe_size(&fifo, FIFO_BYTES);
        Ok(Self { directory, fifo, rest: Vec::new() })
    }

    /// What a command's environment needs.
    pub fn environment(&self) -> HookEnvironment {
        HookEnvironment {
            audit: self.directory.join("libplimsoll_audit.so"),
            python: self.directory.join("python"),
            fifo: self.directory.join("fifo"),
        }
    }

    /// Gives every report that has arrived to `each`.
    pub fn drain(&mut self, mut each: impl FnMut(HookRecord)) {
        let mut buffer = [0_u8; 64 * 1024];
        // Empty is an error of its own (EAGAIN); all others mean that there is nothing to read either.
        while let Ok(read) = self.fifo.read(&mut buffer) {
            if read == 0 {
                break;
            }
            self.rest.extend_from_slice(&buffer[..read]);
            let consumed = parse_all(&self.rest, &mut each);
            self.rest.drain(..consumed);
        }
    }
}

/// Where the hooks are.
#[derive(Clone, Debug)]
pub struct HookEnvironment {
    audit: PathBuf,
    python: PathBuf,
    fifo: PathBuf,
}

impl HookEnvironment {
    /// Adds the hooks to a command's environment, behind or before what is there.
    pub fn apply(&self, command: &mut Command) {
        let set = |name: &str, own: &Path, own_first: bool, command: &mut Command| {
            let given = command
                .get_envs()
                .find(|(key, _)| *key == OsStr::new(name))
                .map_or_else(|| std::env::var_os(name), |(_, value)| value.map(OsStr::to_os_string));
            command.env(name, join_paths(own.as_os_str(), given, own_first));
        };
        set("LD_AUDIT", &self.audit, false, command);
        // First, since Python takes one sitecustomize; the hook runs the application's own.
        set("PYTHONPATH", &self.python, true, command);
        command.env(FIFO_VARIABLE, &self.fifo);
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::debug!(path = %self.directory.display(), %error, "hooks were left behind");
        }
    }
}

fn join_paths(own: &OsStr, given: Option<OsString>, own_first: bool) -> OsString {
    match given.filter(|given| !given.is_empty()) {
        None => own.to_os_string(),
        Some(given) => {
            let (first, second) = if own_first { (own, given.as_os_str()) } else { (given.as_os_str(), own) };
            let mut joined = first.to_os_string();
            joined.push(":");
            joined.push(second);
            joined
        }
    }
}

/// Reads reports `<L|M> <pid> <lost> <bytes>\n<payload>`; gives the number of bytes that were complete. What does not
/// begin like a report is passed over up to the next line.
fn parse_all(bytes: &[u8], each: &mut impl FnMut(HookRecord)) -> usize {
    let mut at = 0;
    while let Some(end) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let body = at + end + 1;
        let Some((kind, pid, lost, length)) = parse_head(&bytes[at..at + end]) else {
            at = body;
            continue;
        };
        let Some(payload) = bytes.get(body..body + length) else { break };
        if let Some(record) = parse_payload(kind, pid, lost, payload) {
            each(record);
        }
        at = body + length;
    }
    // A head longer than any report is garbage.
    if bytes.len() - at > 2 * REPORT_MAX_BYTES { bytes.len() } else { at }
}

fn parse_head(head: &[u8]) -> Option<(u8, u32, u64, usize)> {
    let text = std::str::from_utf8(head).ok()?;
    let mut fields = text.split(' ');
    let kind = fields.next()?.as_bytes();
    let (pid, lost, length) =
        (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let known = matches!(kind, b"L" | b"M") && length <= REPORT_MAX_BYTES && fields.next().is_none();
    known.then(|| (kind[0], pid, lost, length))
}

fn parse_payload(kind: u8, pid: u32, lost: u64, payload: &[u8]) -> Option<HookRecord> {
    let (name, path) = match kind {
        b'M' => {
            let split = payload.iter().position(|byte| *byte == 0)?;
            (String::from_utf8_lossy(&payload[..split]).into_owned(), &payload[split + 1..])
        }
        _ => (String::new(), payload),
    };
    if !path.starts_with(b"/") {
        return None;
    }
    let (probe, kind) = match kind {
        b'M' => (probe::PYTHON_IMPORT, usage_kind::MODULE),
        _ => (probe::LD_AUDIT, usage_kind::LIBRARY),
    };
    let path = normalise(path, b"");
    Some(HookRecord {
        probe,
        pid,
        lost,
        observation: Observation { kind, rung: Rung::Loaded, path, mount: mount::ROOT, inode: 0, name },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> (Vec<(String, u64)>, usize) {
        let mut found = Vec::new();
        let consumed = parse_all(bytes, &mut |record| {
            found.push((String::from_utf8_lossy(&record.observation.path).into_owned(), record.lost));
        });
        (found, consumed)
    }

    #[test]
    fn reads_reports() {
        let cases: [(&[u8], &[(&str, u64)], usize); 7] = [
            (b"L 7 0 9\n/lib/a.so", &[("lib/a.so", 0)], 17),
            (b"L 7 2 9\n/lib/a.soL 7 2 9\n/lib/b.so", &[("lib/a.so", 2), ("lib/b.so", 2)], 34),
            (b"M 7 0 9\nm\0/m/m.py", &[("m/m.py", 0)], 17),
            // Incomplete: waits for the rest.
            (b"L 7 0 9\n/lib", &[], 0),
            (b"L 7 0", &[], 0),
            // Garbage, then a report.
            (b"hello\nL 7 0 2\n/a", &[("a", 0)], 16),
            // A path that is none.
            (b"L 7 0 1\na", &[], 9),
        ];
        for (bytes, expected, consumed) in cases {
            let expected: Vec<_> = expected.iter().map(|(path, lost)| ((*path).to_owned(), *lost)).collect();
            assert_eq!(parse(bytes), (expected, consumed), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn keeps_what_the_application_set() {
        let own = OsStr::new("/own");
        let given = |text: &str| Some(OsString::from(text));
        assert_eq!(join_paths(own, None, true), "/own");
        assert_eq!(join_paths(own, given(""), false), "/own");
        assert_eq!(join_paths(own, given("/a:/b"), true), "/own:/a:/b");
        assert_eq!(join_paths(own, given("/a"), false), "/a:/own");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let (_, consumed) = parse(&bytes);
            proptest::prop_assert!(consumed <= bytes.len());
        }
    }
}
