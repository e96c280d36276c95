//! The library in real programs: what it reports is what the dynamic linker says it loads.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

struct Fixture {
    directory: tempfile::TempDir,
    fifo: std::fs::File,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("audit.so");
        std::fs::write(&library, plimsoll_audit::LIBRARY).unwrap();
        std::fs::set_permissions(&library, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let fifo = std::fs::File::options().read(true).write(true).custom_flags(nonblocking).open(path).unwrap();
        Self { directory, fifo }
    }

    /// Runs a command with the library; gives its output and the paths that were reported.
    fn run(&mut self, command: &mut Command) -> (String, BTreeSet<PathBuf>) {
        let output = command
            .env("LD_AUDIT", self.directory.path().join("audit.so"))
            .env(plimsoll_audit::FIFO_VARIABLE, self.directory.path().join("fifo"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut bytes = vec![0; 1 << 16];
        let read = self.fifo.read(&mut bytes).unwrap_or(0);
        let mut rest = &bytes[..read];
        let mut paths = BTreeSet::new();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let head = std::str::from_utf8(&rest[..end]).unwrap().to_owned();
            let fields: Vec<&str> = head.split(' ').collect();
            assert_eq!((fields[0], fields[2]), ("L", "0"), "{head}");
            let length: usize = fields[3].parse().unwrap();
            let path = std::str::from_utf8(&rest[end + 1..end + 1 + length]).unwrap();
            paths.insert(std::fs::canonicalize(path).unwrap());
            rest = &rest[end + 1 + length..];
        }
        (String::from_utf8_lossy(&output.stdout).into_owned(), paths)
    }
}

/// Executable file mappings in the text of /proc/self/maps.
fn mapped(maps: &str) -> BTreeSet<PathBuf> {
    maps.lines()
        .filter(|line| line.split_whitespace().nth(1).is_some_and(|permissions| permissions.contains('x')))
        .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])))
        .filter(|path| path.file_name().is_some_and(|name| name != "audit.so"))
        .collect()
}

#[test]
fn reports_what_is_mapped() {
    let mut fixture = Fixture::new();
    let (maps, reported) = fixture.run(Command::new("cat").arg("/proc/self/maps"));
    assert_eq!(reported, mapped(&maps));
    assert!(reported.iter().any(|path| path.ends_with("libc.so.6")), "{reported:?}");
}

#[test]
fn needs_no_library_and_no_new_symbol_version() {
    let fixture = Fixture::new();
    let output =
        Command::new("readelf").args(["-dV", "--wide"]).arg(fixture.directory.path().join("audit.so")).output();
    let Ok(output) = output else {
        assert!(std::env::var_os("CI").is_none(), "readelf is missing: apt install binutils");
        println!("skipped: readelf is missing");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("NEEDED") && !text.contains("GLIBC"), "{text}");
}

#[test]
fn is_silent_without_a_reader() {
    let fixture = Fixture::new();
    for fifo in ["/nonexistent/fifo", ""] {
        let output = Command::new("echo")
            .arg("fine")
            .env("LD_AUDIT", fixture.directory.path().join("audit.so"))
            .env(plimsoll_audit::FIFO_VARIABLE, fifo)
            .output()
            .unwrap();
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"fine\n"[..], &b""[..]));
    }
}

#[test]
fn never_waits_for_a_full_fifo() {
    let mut fixture = Fixture::new();
    let filler = vec![b'x'; 4096];
    while std::io::Write::write(&mut fixture.fifo, &filler).is_ok() {}
    let output = Command::new("echo")
        .arg("fine")
        .env("LD_AUDIT", fixture.directory.path().join("audit.so"))
        .env(plimsoll_audit::FIFO_VARIABLE, fixture.directory.path().join("fifo"))
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"fine\n");
    assert!(Path::new(fixture.directory.path()).exists());
}
