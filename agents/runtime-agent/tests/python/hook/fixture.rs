//! A hook session, an application's directory, and the interpreters that are here.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use plimsoll_runtime_agent::hooks::HookSession;
use plimsoll_runtime_agent::hooks::language::Language;
use plimsoll_runtime_agent::hooks::report::{Report, ReportKind};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// One interpreter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interpreter {
    pub version: (u32, u32),
    pub program: PathBuf,
}

pub fn interpreters() -> &'static [Interpreter] {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut candidates = vec![PathBuf::from("python3"), PathBuf::from("/usr/bin/python3")];
        candidates.extend((6..16).map(|minor| PathBuf::from(format!("python3.{minor}"))));
        let said = |arguments: &[&str]| {
            let output = Command::new("pyenv").args(arguments).output().ok()?;
            String::from_utf8(output.stdout).ok()
        };
        if let (Some(root), Some(versions)) = (said(&["root"]), said(&["versions", "--bare"])) {
            let place =
                |version: &str| Path::new(root.trim()).join("versions").join(version).join("bin/python3");
            candidates.extend(versions.lines().map(str::trim).map(place));
        }
        let script = "import sys; print(sys.version_info[0], sys.version_info[1], sys.executable)";
        let mut found = BTreeSet::new();
        for candidate in candidates {
            let Ok(output) = Command::new(candidate).args(["-c", script]).output() else { continue };
            let text = String::from_utf8_lossy(&output.stdout);
            let mut fields = text.trim().splitn(3, ' ');
            let mut number = || fields.next()?.parse().ok();
            let (Some(major), Some(minor), Some(program)) = (number(), number(), fields.next()) else {
                continue;
            };
            if (3, 6) <= (major, minor) {
                found.insert(Interpreter { version: (major, minor), program: PathBuf::from(program) });
            }
        }
        assert!(!found.is_empty(), "there is no Python 3: apt install python3");
        println!("interpreters: {found:?}");
        found.into_iter().collect()
    })
}

/// A hook session and an application's directory.
pub struct Fixture {
    directory: tempfile::TempDir,
    pub session: HookSession,
    pub reports: Vec<Report>,
}

impl Fixture {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let session = HookSession::start(directory.path()).unwrap();
        Self { directory, session, reports: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.directory.path()).unwrap().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path("")).env_remove("PYTHONPATH").env_remove("PYTHONDONTWRITEBYTECODE");
        command
    }

    pub fn drain(&mut self) {
        let reports = &mut self.reports;
        self.session.drain(|_, report, _| reports.push(report));
    }

    /// Runs a command with the hooks.
    pub fn run(&mut self, command: &mut Command) -> Output {
        self.session.environment().apply(command);
        let output = command.output().unwrap();
        self.drain();
        output
    }

    /// What was reported as modules: name and path.
    pub fn modules(&self) -> BTreeSet<(String, PathBuf)> {
        let modules =
            self.reports.iter().filter(|report| report.kind == ReportKind::Module(Language::Python));
        modules
            .map(|report| {
                let path = PathBuf::from(std::str::from_utf8(&report.path).unwrap());
                (String::from_utf8(report.name.clone()).unwrap(), path)
            })
            .collect()
    }

    pub fn failures(&self) -> Vec<String> {
        let failed =
            self.reports.iter().filter(|report| report.kind == ReportKind::HookFailed(Language::Python));
        failed.map(|report| String::from_utf8_lossy(&report.name).into_owned()).collect()
    }

    pub fn lost(&self, probe: &str) -> u64 {
        self.session.coverage.losses().filter(|(of, _)| *of == probe).map(|(_, count)| count).sum()
    }
}

/// What a process says that it loaded: lines of name and path, separated by a tab.
pub fn truth(text: &str) -> BTreeSet<(String, PathBuf)> {
    let line = |line: &str| line.split_once('\t').map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
    text.lines().filter_map(line).collect()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The same output and exit code; of long outputs only what differs is shown.
pub fn assert_same(hooked: &Output, plain: &Output, interpreter: &Interpreter) {
    assert_eq!(hooked.status, plain.status, "{interpreter:?}");
    for (hooked, plain) in [(&hooked.stdout, &plain.stdout), (&hooked.stderr, &plain.stderr)] {
        let words = |bytes: &[u8]| text(bytes).split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (hooked, plain) = (words(hooked), words(plain));
        let both = hooked.iter().zip(&plain).filter(|(hooked, plain)| hooked != plain);
        assert_eq!(both.collect::<Vec<_>>(), [], "{interpreter:?}");
        assert_eq!(hooked.len(), plain.len(), "{interpreter:?}");
    }
}

/// All files below a directory.
pub fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.insert(path.strip_prefix(directory).unwrap().to_owned());
            }
        }
    }
    found
}
