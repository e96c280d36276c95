//! The library in real programs: what it reports is what the dynamic linker says it loads, and nothing else changes.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use plimsoll_audit::unseen;

/// Reports of one run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reported {
    programs: Vec<PathBuf>,
    arguments: Vec<String>,
    objects: BTreeSet<PathBuf>,
    /// What was started without Plimsoll's variables: which, and by whom.
    emptied: Vec<(String, PathBuf)>,
    /// The processes that `emptied` names, 0 where none is known.
    emptied_pids: Vec<usize>,
    lost: u64,
}

struct Fixture {
    directory: tempfile::TempDir,
    word: OsString,
    fifo: File,
    page: unseen::Page,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (reports, losses) = (directory.path().join("reports"), directory.path().join("losses"));
        fs::write(&losses, b"").unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &reports, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let word = plimsoll_audit::write_to(&directory.path().join("audit"), &reports, &losses).unwrap();
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let fifo = File::options().read(true).write(true).custom_flags(nonblocking).open(reports).unwrap();
        let page = unseen::Page::create(directory.path()).unwrap();
        Self { directory, word, fifo, page }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a command with the library.
    fn run(&mut self, command: &mut Command) -> (Output, Reported) {
        let output = command.env("LD_AUDIT", &self.word).output().unwrap();
        (output, self.read())
    }

    fn read(&mut self) -> Reported {
        let mut bytes = Vec::new();
        // Ends with an error when the FIFO is empty; what was read until then is there.
        let _ = self.fifo.read_to_end(&mut bytes);
        let mut reported = Reported::default();
        let mut rest = bytes.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let head = String::from_utf8(rest[..end].to_vec()).unwrap();
            let fields: Vec<&str> = head.split(' ').collect();
            let [kind, pid, lost, "-", name_bytes, path_bytes] = fields[..] else { panic!("{head}") };
            let number = |text: &str| text.parse::<usize>().unwrap();
            let (name, path) = rest[end + 1..].split_at(number(name_bytes));
            let (path, next) = path.split_at(number(path_bytes));
            let path = PathBuf::from(std::str::from_utf8(path).unwrap());
            reported.lost += u64::try_from(number(lost)).unwrap();
            match kind {
                "\u{1e}LH" => {
                    reported.programs.push(path);
                    reported.arguments.push(String::from_utf8(name.to_vec()).unwrap());
                }
                "\u{1e}LO" => {
                    assert!(path.is_absolute(), "{path:?}");
                    reported.objects.insert(fs::canonicalize(path).unwrap());
                }
                "\u{1e}LE" => {
                    reported.emptied.push((String::from_utf8(name.to_vec()).unwrap(), path));
                    reported.emptied_pids.push(number(pid));
                }
                kind => panic!("{kind}"),
            }
            rest = next;
        }
        assert!(rest.is_empty());
        reported
    }

    fn losses(&self) -> usize {
        fs::read(self.path("losses")).unwrap().len()
    }

    fn fill(&mut self) {
        while self.fifo.write(&[b'x'; 4_096]).is_ok() {}
        while self.fifo.write(b"x").is_ok() {}
    }
}

/// Says why a test does nothing; where all is to be there, that is a failure.
fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    println!("skipped: {why}");
}

/// A program of the system, by its full path: shims would be other programs.
fn system_program(name: &str) -> Option<PathBuf> {
    let found = ["/usr/bin", "/bin"]
        .into_iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists());
    if found.is_none() {
        skip(&format!("there is no {name}"));
    }
    found
}

/// Compiles C with these options; `None` where that cannot be done.
fn compile(source: &str, options: &[&str], program: &Path) -> Option<()> {
    let file = program.with_extension("c");
    fs::write(&file, source).unwrap();
    let output = Command::new("cc").args(options).arg(&file).arg("-o").arg(program).output();
    match output {
        Ok(output) if output.status.success() => Some(()),
        other => {
            skip(&format!("no program can be compiled with {options:?}: {other:?}"));
            None
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Objects mapped executable in the text of /proc/self/maps, but the auditors.
fn mapped(maps: &str) -> BTreeSet<PathBuf> {
    maps.lines()
        .filter(|line| line.split_whitespace().nth(1).is_some_and(|permissions| permissions.contains('x')))
        .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])))
        .filter(|path| path.file_name().is_some_and(|name| name != plimsoll_audit::FILE_NAME))
        .collect()
}

#[test]
fn reports_what_is_mapped() {
    let mut fixture = Fixture::new();
    let (output, reported) = fixture.run(Command::new("cat").arg("/proc/self/maps"));
    let mut expected = mapped(&text(&output.stdout));
    let program = reported.programs[0].clone();
    assert!(expected.remove(&program), "{program:?} in {expected:?}");
    assert_eq!((reported.objects, reported.lost, reported.programs.len()), (expected, 0, 1));
    assert!(output.stderr.is_empty());
}

#[test]
fn reports_what_the_linker_initialises() {
    let mut fixture = Fixture::new();
    for name in ["ls", "tar", "bash"] {
        let Some(program) = system_program(name) else { continue };
        let mut command = Command::new(&program);
        command.arg("--version");
        let plain = command.output().unwrap();
        let debug = command.env("LD_DEBUG", "files").output().unwrap();
        command.env_remove("LD_DEBUG");
        let linker = text(&debug.stderr);
        let initialised =
            linker.lines().filter_map(|line| line.split_once("calling init: ")).map(|(_, path)| path);
        let mut expected: BTreeSet<PathBuf> =
            initialised.map(|path| fs::canonicalize(path).unwrap()).collect();
        let (output, mut reported) = fixture.run(&mut command);
        // The linker itself may or may not be initialised by its own word.
        let is_linker = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("ld-");
        assert!(reported.objects.iter().any(is_linker));
        for set in [&mut expected, &mut reported.objects] {
            set.retain(|path| !is_linker(path));
        }
        assert_eq!(reported.objects, expected, "{name}");
        assert_eq!(reported.programs, [fs::canonicalize(&program).unwrap()]);
        assert_eq!(output, plain, "{name}");
    }
}

#[test]
fn reports_what_is_opened_late() {
    let Some(python) = system_program("python3") else { return };
    let mut fixture = Fixture::new();
    fs::write(fixture.path("plain.so"), plimsoll_audit::LIBRARY).unwrap();
    let script = "import ctypes, ssl, threading, sqlite3, os\n\
        ctypes.CDLL('./plain.so')\n\
        t = [threading.Thread(target=__import__, args=(n,)) for n in ('_lzma', '_bz2', '_decimal', 'readline')]\n\
        [x.start() for x in t]; [x.join() for x in t]\n\
        try: ctypes.CDLL('/nonexistent.so')\n\
        except OSError: pass\n\
        print(open('/proc/self/maps').read())\n";
    let mut command = Command::new(python);
    command.args(["-I", "-c", script]).current_dir(fixture.directory.path());
    let (output, reported) = fixture.run(&mut command);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let mut expected = mapped(&text(&output.stdout));
    assert!(expected.remove(&reported.programs[0]));
    assert_eq!(reported.objects, expected);
    let names: Vec<&str> = expected.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert!(names.contains(&"plain.so"), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("libssl.so")), "{names:?}");
    // Arguments are told for interpreters.
    let arguments: Vec<&str> = reported.arguments[0].split('\0').collect();
    assert_eq!(arguments[1..3], ["-I", "-c"]);
}

#[test]
fn every_program_of_a_tree_says_hello() {
    let mut fixture = Fixture::new();
    let (output, reported) =
        fixture.run(Command::new("sh").args(["-c", "cat /dev/null; (exec ls /dev/null)"]));
    assert_eq!(text(&output.stdout), "/dev/null\n");
    let names: Vec<_> =
        reported.programs.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names[1..], ["cat", "ls"], "{names:?}");
    assert!(reported.arguments.iter().all(String::is_empty), "{:?}", reported.arguments);
}

/// C programs that start `cat` in each way of the C library, with an environment of the application's own or `environ`.
const STARTS: [(&str, &str); 15] = [
    ("execve", "execve(p, a, e)"),
    ("execv", "environ = e; execv(p, a)"),
    ("execvp", "environ = e; execvp(\"cat\", a)"),
    ("execvpe", "execvpe(p, a, e)"),
    ("execl", "environ = e; execl(p, \"cat\", \"/dev/null\", \"/dev/null\", NULL)"),
    ("execlp", "environ = e; execlp(\"cat\", \"cat\", \"/dev/null\", NULL)"),
    ("execle", "execle(p, \"cat\", \"/dev/null\", \"/dev/null\", NULL, e)"),
    ("fexecve", "fexecve(open(p, O_RDONLY), a, e)"),
    ("execveat", "execveat(AT_FDCWD, p, a, e, 0)"),
    ("posix_spawn", "posix_spawn(&pid, p, 0, 0, a, e); waitpid(pid, 0, 0)"),
    ("posix_spawnp", "posix_spawnp(0, \"cat\", 0, 0, a, e); wait(0)"),
    ("vfork", "if (!(pid = vfork())) { execve(p, a, e); _exit(1); } waitpid(pid, 0, 0)"),
    ("dlsym", "((int (*)(const char *, char **, char **))dlsym(RTLD_DEFAULT, \"execve\"))(p, a, e)"),
    ("system", "environ = e; system(\"/bin/cat /dev/null\")"),
    ("popen", "environ = e; pclose(popen(\"/bin/cat /dev/null\", \"r\"))"),
];

/// A program that runs `statement`: `p` is the path of `cat`, `a` its arguments, and `e` the environment of `entries`.
fn starter(
    fixture: &Fixture,
    name: &str,
    statement: &str,
    entries: &str,
    options: &[&str],
) -> Option<PathBuf> {
    let program = fixture.path(name);
    let source = format!(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <fcntl.h>\n#include <spawn.h>\n#include <stdio.h>\n\
         #include <stdlib.h>\n#include <sys/wait.h>\n#include <unistd.h>\nextern char **environ;\n\
         int main(int argc, char **argv) {{\n\
         const char *p = \"/bin/cat\"; char *a[] = {{ \"cat\", \"/dev/null\", NULL }}; pid_t pid = 0; (void)pid;\n\
         char *e[] = {{ {entries} NULL }};\n\
         if (argc > 1 && (chroot(argv[1]) || chdir(\"/\"))) return 9;\n\
         {statement}; return 3; }}\n"
    );
    compile(&source, &[options, &["-Wno-all", "-Wno-unused-result", "-ldl"]].concat(), &program)?;
    Some(program)
}

#[test]
fn tells_of_programs_without_the_variables() {
    let mut fixture = Fixture::new();
    for (name, statement) in STARTS {
        // Bound when the program starts, at the first call, or by its own table of addresses.
        let bindings = [&["-Wl,-z,now"][..], &["-Wl,-z,lazy"], &["-fno-plt"], &["-no-pie", "-fno-pic"]];
        let different = if matches!(name, "execvp" | "posix_spawn") { bindings.len() } else { 1 };
        for options in &bindings[..different] {
            let Some(program) = starter(&fixture, name, statement, "\"A=b\",", options) else { return };
            let plain = Command::new(&program).output().unwrap();
            let (output, reported) = fixture.run(&mut Command::new(&program));
            assert_eq!(output, plain, "{name}");
            let by = format!("LD_AUDIT JAVA_TOOL_OPTIONS\0{}", program.display());
            assert_eq!(reported.emptied.len(), 1, "{name} {options:?}: {reported:?}");
            assert_eq!(reported.emptied[0].0, by, "{name}");
            let by_shell = matches!(name, "system" | "popen");
            assert_eq!(reported.emptied_pids[0] == 0, by_shell, "{name}: {:?}", reported.emptied_pids);
            assert_eq!((reported.lost, fixture.page.take().unwrap()), (0, (vec![], 0)));
        }
    }
}

#[test]
fn says_nothing_of_programs_that_get_them() {
    let mut fixture = Fixture::new();
    let own = format!("\"LD_AUDIT={}\",", fixture.word.to_str().unwrap());
    for (name, statement) in STARTS {
        let Some(program) = starter(&fixture, name, statement, &own, &[]) else { return };
        let plain = Command::new(&program).output().unwrap();
        let (output, reported) = fixture.run(&mut Command::new(&program));
        assert_eq!((output, reported.emptied), (plain, vec![]), "{name}");
        assert!(reported.programs.iter().any(|path| path.ends_with("cat")), "{name}");
    }
    // What is not there is not started.
    let statement = "execve(\"/none/cat\", a, e); execve(\"/etc/passwd\", a, e); posix_spawnp(0, \"none-such\", 0, 0, a, e)";
    let Some(program) = starter(&fixture, "none", statement, "", &[]) else { return };
    assert_eq!(fixture.run(&mut Command::new(&program)).1.emptied, []);
}

/// The test's program ends with 3 if each call was refused as it is without the library.
#[test]
fn what_the_system_refuses_is_refused_as_before() {
    let mut fixture = Fixture::new();
    let refused = "errno = 0; if (execve(NULL, a, e) != -1 || errno != EFAULT) return 4; \
        errno = 0; if (execv(NULL, a) != -1 || errno != EFAULT) return 5; \
        errno = 0; if (execveat(AT_FDCWD, NULL, a, e, 0) != -1 || errno != EFAULT) return 6; \
        errno = 0; if (execveat(AT_FDCWD, \"/none/x\", a, e, 0) != -1 || errno != ENOENT) return 7; \
        clearenv(); if (execv(\"/none/x\", a) != -1 || errno != ENOENT) return 8; \
        if (execve(\"/none/x\", a, NULL) != -1 || errno != ENOENT) return 9";
    let Some(program) = starter(&fixture, "refused", refused, "", &["-include", "errno.h"]) else { return };
    let (output, reported) = fixture.run(&mut Command::new(&program));
    assert_eq!((output.status.code(), reported.emptied), (Some(3), vec![]), "{output:?}");
    // No environment at all is one without the variables.
    let Some(program) = starter(&fixture, "empty", "execve(p, a, NULL)", "", &[]) else { return };
    assert_eq!(fixture.run(&mut Command::new(&program)).1.emptied.len(), 1);
}

/// A system that refuses to make the page of symbols writable.
#[test]
fn tells_where_starts_cannot_be_watched() {
    let mut fixture = Fixture::new();
    let program = fixture.path("refusing");
    let source = "#include <errno.h>\n#include <linux/filter.h>\n#include <linux/seccomp.h>\n#include <stddef.h>\n\
        #include <sys/prctl.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
        #define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))\n\
        #define IS_NOT(value, skipped) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skipped)\n\
        int main(int argc, char **argv) {\n\
        struct sock_filter filter[] = { LOAD(nr), IS_NOT(SYS_mprotect, 3), LOAD(args[2]), IS_NOT(3, 1),\n\
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };\n\
        struct sock_fprog program = { sizeof(filter) / sizeof(*filter), filter };\n\
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 9;\n\
        execv(argv[1], argv + 1); return 3; }\n";
    if compile(source, &[], &program).is_none() {
        return;
    }
    let Some(cat) = system_program("cat") else { return };
    let (output, reported) = fixture.run(Command::new(&program).arg(&cat).arg("/dev/null"));
    if output.status.code() == Some(9) {
        return skip("no filter of system calls can be set");
    }
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let by = format!("\0{}", reported.programs[1].display());
    assert_eq!(reported.emptied, [(by, PathBuf::new())]);
}

/// The root directory of this machine seen from elsewhere has no such file: words of the hooks are taken out there.
#[test]
fn programs_in_another_root_get_no_word_of_the_hooks() {
    if !rustix::process::geteuid().is_root() {
        return skip("entering another root directory needs root rights");
    }
    let mut fixture = Fixture::new();
    let root = tempfile::tempdir().unwrap();
    let hooks = fixture.directory.path().to_str().unwrap().to_owned();
    let java = "-agentpath:/tmp/plimsoll-hooks-a/b/$PLATFORM/j.so=/tmp/plimsoll-hooks-a/b/reports";
    let node = format!("--require \\\"{hooks}/node/module_hook.cjs\\\"");
    let cases: [(String, Option<&str>); 15] = [
        (format!("LD_AUDIT={}", fixture.word.to_str().unwrap()), None),
        (format!("PYTHONPATH={hooks}/python:/a:/b"), Some("PYTHONPATH=/a:/b")),
        (format!("PYTHONPATH={hooks}/python"), None),
        (format!("PYTHONPATH={hooks}/python2"), Some("=")),
        (format!("NODE_OPTIONS={node}"), None),
        (format!("NODE_OPTIONS=--no-warnings {node}"), Some("NODE_OPTIONS=--no-warnings")),
        (format!("NODE_OPTIONS={node} --no-warnings {node}"), Some("NODE_OPTIONS=--no-warnings")),
        (format!("RUBYOPT=-W0 -r{hooks}/ruby/feature_hook.rb"), Some("RUBYOPT=-W0")),
        (format!("PHP_INI_SCAN_DIR=:{hooks}/php"), None),
        (format!("PHP_INI_SCAN_DIR={hooks}/php"), Some("PHP_INI_SCAN_DIR=")),
        (format!("PHP_INI_SCAN_DIR=/a::{hooks}/php"), Some("PHP_INI_SCAN_DIR=/a:")),
        (format!("JAVA_TOOL_OPTIONS=-Da=b {java}"), Some("JAVA_TOOL_OPTIONS=-Da=b")),
        (format!("JAVA_TOOL_OPTIONS={java}"), None),
        ("JAVA_TOOL_OPTIONS=-agentpath:/opt/a.so=/tmp/reports".to_owned(), Some("=")),
        (format!("OTHER={hooks}/python"), Some("=")),
    ];
    let entries: String = cases.iter().map(|(entry, _)| format!("\"{entry}\",")).collect();
    let expected: Vec<String> = cases
        .iter()
        .filter_map(|(entry, left)| {
            left.map(|left| if left == "=" { entry.clone() } else { left.to_owned() })
        })
        .collect();
    // A root with one static program, which prints its environment.
    let shown = "#include <stdio.h>\nextern char **environ;\n\
        int main(void) { for (char **e = environ; *e; e++) puts(*e); return 0; }\n";
    fs::create_dir(root.path().join("bin")).unwrap();
    for name in ["cat", "sh"] {
        if compile(shown, &["-static"], &root.path().join("bin").join(name)).is_none() {
            return;
        }
    }
    for (name, statement) in STARTS {
        // Who reads a pipe says what was in it.
        let statement = match name {
            "popen" => {
                "environ = e; FILE *f = popen(\"x\", \"r\"); int c; while ((c = getc(f)) != EOF) putchar(c)"
            }
            _ => statement,
        };
        let Some(program) = starter(&fixture, name, statement, &entries, &[]) else { return };
        let (output, reported) = fixture.run(Command::new(&program).arg(root.path()));
        let said = text(&output.stdout);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines, expected, "{name}: {output:?}");
        assert_eq!((reported.emptied, output.stderr.as_slice()), (vec![], &b""[..]), "{name}");
        let (named, others) = fixture.page.take().unwrap();
        let by = |unseen: &unseen::Unseen| unseen.program == program.as_os_str().as_encoded_bytes();
        assert!(named.iter().all(by) && named.len() as u32 + others == 1, "{name}: {named:?} {others}");
    }
}

#[test]
fn is_self_contained() {
    let directory = tempfile::tempdir().unwrap();
    for (name, library) in
        [("native.so", plimsoll_audit::LIBRARY), ("32-bit.so", plimsoll_audit::LIBRARY_32_BIT)]
    {
        if library.is_empty() {
            continue;
        }
        let path = directory.path().join(name);
        fs::write(&path, library).unwrap();
        let Ok(output) =
            Command::new("readelf").args(["--wide", "-d", "-l", "-V", "--dyn-syms"]).arg(&path).output()
        else {
            return skip("readelf is missing: apt install binutils");
        };
        let text = text(&output.stdout);
        for word in ["NEEDED", "GLIBC", "Version needs", "RPATH", "RUNPATH", "TEXTREL", "(INIT", "TLS"] {
            assert!(!text.contains(word), "{name} has {word}: {text}");
        }
        let symbols: BTreeSet<&str> = text
            .lines()
            .filter(|line| line.contains(" GLOBAL ") || line.contains(" WEAK "))
            .map(|line| line.split_whitespace().last().unwrap())
            .collect();
        assert_eq!(symbols, BTreeSet::from(["la_objopen", "la_version"]), "{name}: {text}");
        assert!(!text.contains("(RELA)") && !text.contains("(REL)"), "{name}: {text}");
        let stack = text.lines().find(|line| line.contains("GNU_STACK")).unwrap();
        assert!(stack.contains(" RW ") && !stack.contains("RWE"), "{stack}");
        // What linkers of the age of glibc 2.17 read; newer ones read either.
        assert!(text.contains("(HASH)") && text.contains("(GNU_HASH)"), "{text}");
    }
}

#[test]
fn is_silent_without_a_reader() {
    let mut fixture = Fixture::new();
    fs::remove_file(fixture.path("reports")).unwrap();
    let (output, _) = fixture.run(Command::new("echo").arg("fine"));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"fine\n"[..], &b""[..]));
    assert!(fixture.losses() >= 2, "the program and its libraries");
    fs::remove_file(fixture.path("losses")).unwrap();
    let (output, _) = fixture.run(Command::new("sh").args(["-c", "echo fine; exit 7"]));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"fine\n"[..], &b""[..]));
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn counts_what_a_full_fifo_does_not_take() {
    let mut fixture = Fixture::new();
    let (_, reported) = fixture.run(Command::new("cat").arg("/dev/null"));
    let count = reported.objects.len() + reported.programs.len();
    fixture.fill();
    let output = Command::new("cat").arg("/dev/null").env("LD_AUDIT", &fixture.word).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    assert_eq!(fixture.losses(), count);
    // Where writing to a file would end the program, it is not written.
    let script = "ulimit -f 0; exec cat /dev/null";
    let output = Command::new("sh").args(["-c", script]).env("LD_AUDIT", &fixture.word).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn tells_with_the_next_report_what_it_lost() {
    let Some(python) = system_program("python3") else { return };
    let mut fixture = Fixture::new();
    fs::remove_file(fixture.path("losses")).unwrap();
    fs::rename(fixture.path("reports"), fixture.path("away")).unwrap();
    // Its start is lost; then the FIFO is there again.
    let script = "import os; os.rename('away', 'reports'); import _lzma";
    let mut command = Command::new(python);
    let (output, reported) =
        fixture.run(command.args(["-I", "-c", script]).current_dir(fixture.directory.path()));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(reported.lost >= 3, "{reported:?}");
    assert!(reported.programs.is_empty() && !reported.objects.is_empty());
}

#[test]
fn another_auditor_stays() {
    let (mut first, mut second) = (Fixture::new(), Fixture::new());
    let mut both = first.word.clone();
    both.push(":");
    both.push(&second.word);
    let output = Command::new("echo").arg("fine").env("LD_AUDIT", both).output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"fine\n"[..], &b""[..]));
    let (mut early, late) = (first.read(), second.read());
    // An auditor sees those behind it being loaded.
    early.objects.retain(|path| !path.ends_with(plimsoll_audit::FILE_NAME));
    assert!(early.objects.len() >= 2 && early.programs.len() == 1);
    assert_eq!(early, late);
}

#[test]
fn static_programs_are_left_alone() {
    let mut fixture = Fixture::new();
    let program = fixture.path("static");
    let source = "#include <stdio.h>\nint main(void) { puts(\"fine\"); return 3; }\n";
    if compile(source, &["-static"], &program).is_none() {
        return;
    }
    let (output, reported) = fixture.run(&mut Command::new(program));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"fine\n"[..], &b""[..]));
    assert_eq!((output.status.code(), reported), (Some(3), Reported::default()));
}

#[test]
fn set_uid_programs_are_left_alone() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can make a set-uid program of another user");
    }
    let mut fixture = Fixture::new();
    let program = fixture.path("id");
    fs::copy("/usr/bin/id", &program).unwrap();
    std::os::unix::fs::chown(&program, Some(65_534), Some(65_534)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let (output, reported) = fixture.run(Command::new(&program).arg("-u"));
    if text(&output.stdout).trim() != "65534" {
        return skip("the directory for temporary files is mounted nosuid");
    }
    assert_eq!((output.stderr.as_slice(), reported), (&b""[..], Reported::default()));
}

#[test]
fn small_programs_are_reported_and_say_nothing() {
    const LINKER: &str = "/lib/ld-linux.so.2";
    if plimsoll_audit::LIBRARY_32_BIT.is_empty() || !Path::new(LINKER).exists() {
        return println!("skipped: no linker of 32-bit programs at {LINKER} (Debian: libc6-i386)");
    }
    let mut fixture = Fixture::new();
    let program = fixture.path("small");
    let source = "void _start(void) { __asm__ volatile(\"int $0x80\" : : \"a\"(1), \"b\"(5)); }\n";
    let linker = format!("-Wl,--dynamic-linker={LINKER}");
    if compile(source, &["-m32", "-nostdlib", "-fpie", "-pie", "-Wl,-z,noexecstack", &linker], &program)
        .is_none()
    {
        return;
    }
    let (output, reported) = fixture.run(&mut Command::new(&program));
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(5), &b""[..]));
    assert_eq!(reported.programs, [program]);
    assert!(reported.objects.contains(&fs::canonicalize(LINKER).unwrap()), "{reported:?}");
}

#[test]
fn paths_that_cannot_be_set_are_refused() {
    let long = format!("/{}", "x".repeat(plimsoll_audit::PATH_MAX_BYTES));
    let good = Path::new("/run/reports");
    for path in ["relative", "/a\0b", "", long.as_str()] {
        let error = plimsoll_audit::configured(plimsoll_audit::LIBRARY, good, Path::new(path)).unwrap_err();
        assert!(error.to_string().contains("TMPDIR"), "{error}");
    }
    let longest = &long[..plimsoll_audit::PATH_MAX_BYTES];
    let bytes = plimsoll_audit::configured(plimsoll_audit::LIBRARY, Path::new(longest), good).unwrap();
    assert_eq!(bytes.len(), plimsoll_audit::LIBRARY.len());
    assert!(plimsoll_audit::configured(b"nothing", good, good).is_err());
}
