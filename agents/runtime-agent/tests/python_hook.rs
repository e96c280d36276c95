//! The import hook in every Python 3 that is here: it reports what sys.modules says, and the application notices nothing.
//! Interpreters: `python3` and `python3.6` to `python3.15` on the path, and those of pyenv.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use plimsoll_runtime_agent::hooks::HookSession;
use plimsoll_runtime_agent::hooks::language::Language;
use plimsoll_runtime_agent::hooks::report::{Report, ReportKind};

const PATIENCE: Duration = Duration::from_secs(20);

/// One interpreter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Interpreter {
    version: (u32, u32),
    program: PathBuf,
}

fn interpreters() -> &'static [Interpreter] {
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
struct Fixture {
    directory: tempfile::TempDir,
    session: HookSession,
    reports: Vec<Report>,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let session = HookSession::start(directory.path()).unwrap();
        Self { directory, session, reports: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.directory.path()).unwrap().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path("")).env_remove("PYTHONPATH").env_remove("PYTHONDONTWRITEBYTECODE");
        command
    }

    fn drain(&mut self) {
        let reports = &mut self.reports;
        self.session.drain(|_, report, _| reports.push(report));
    }

    /// Runs a command with the hooks.
    fn run(&mut self, command: &mut Command) -> Output {
        self.session.environment().apply(command);
        let output = command.output().unwrap();
        self.drain();
        output
    }

    /// What was reported as modules: name and path.
    fn modules(&self) -> BTreeSet<(String, PathBuf)> {
        let modules =
            self.reports.iter().filter(|report| report.kind == ReportKind::Module(Language::Python));
        modules
            .map(|report| {
                let path = PathBuf::from(std::str::from_utf8(&report.path).unwrap());
                (String::from_utf8(report.name.clone()).unwrap(), path)
            })
            .collect()
    }

    fn failures(&self) -> Vec<String> {
        let failed =
            self.reports.iter().filter(|report| report.kind == ReportKind::HookFailed(Language::Python));
        failed.map(|report| String::from_utf8_lossy(&report.name).into_owned()).collect()
    }

    fn lost(&self, probe: &str) -> u64 {
        self.session.coverage.losses().filter(|(of, _)| *of == probe).map(|(_, count)| count).sum()
    }
}

/// What a process says that it loaded: lines of name and path, separated by a tab.
fn truth(text: &str) -> BTreeSet<(String, PathBuf)> {
    let line = |line: &str| line.split_once('\t').map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
    text.lines().filter_map(line).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The same output and exit code; of long outputs only what differs is shown.
fn assert_same(hooked: &Output, plain: &Output, interpreter: &Interpreter) {
    assert_eq!(hooked.status, plain.status, "{interpreter:?}");
    for (hooked, plain) in [(&hooked.stdout, &plain.stdout), (&hooked.stderr, &plain.stderr)] {
        let words = |bytes: &[u8]| text(bytes).split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (hooked, plain) = (words(hooked), words(plain));
        let both = hooked.iter().zip(&plain).filter(|(hooked, plain)| hooked != plain);
        assert_eq!(both.collect::<Vec<_>>(), [], "{interpreter:?}");
        assert_eq!(hooked.len(), plain.len(), "{interpreter:?}");
    }
}

/// Writes the truth about the modules of this interpreter to the file that TRUTH names.
const TELL: &str = r"
def tell():
    import sys, os
    base = os.environ['TRUTH']
    with open('%s.%d' % (base, os.getpid()), 'w') as out:
        for name, module in sorted(sys.modules.items()):
            if type(module).__name__ == '_LazyModule':
                continue  # never run
            spec = getattr(module, '__spec__', None)
            if name == '__main__':
                path = getattr(module, '__file__', None)
                if path:
                    out.write('%s\t%s\n' % (spec.name if spec else name, os.path.join(START, path)))
            elif spec is not None and spec.has_location:
                out.write('%s\t%s\n' % (spec.name, os.path.join(os.getcwd(), spec.origin)))
import os
START = os.getcwd()
";

const APPLICATION: &str = r"
import importlib, importlib.util, sys, threading, warnings
from helper import tell

def later():
    import lazily.imported
later()
importlib.import_module('by_importlib.inner')
threads = [threading.Thread(target=importlib.import_module, args=('threaded.t%d' % n,)) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
try:
    import fails_to_import
except ImportError as error:
    print('failed', error)
try:
    import raises
except ValueError as error:
    print('raised', error)
try:
    import nothing_there
except ImportError as error:
    print('missing', error)
import spaced.one, spaced.two
import only_compiled
import _lzma, sqlite3, json
sys.path.append('packed.zip')
import zipped.inside
spec = importlib.util.spec_from_file_location('by_path', 'odd/place.py')
module = importlib.util.module_from_spec(spec)
sys.modules['by_path'] = module
spec.loader.exec_module(module)

def lazy(name):
    spec = importlib.util.find_spec(name)
    loader = importlib.util.LazyLoader(spec.loader)
    spec.loader = loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module
lazy('lazy_never')
print(lazy('lazy_used').value)
importlib.util.find_spec('only_found')
importlib.import_module('.'.join(['deep'] + ['level%03d' % n + 'x' * 60 for n in range(12)]))
importlib.reload(sys.modules['by_importlib.inner'])
warnings.warn('told at the level of its caller', stacklevel=2)
print(sorted(name for name in sys.modules if not name.startswith('encodings')))
print(sys.path, sys.argv, [type(finder) for finder in sys.meta_path])
tell()
sys.exit(7)
";

/// The files of an application with every way to import that Python has.
fn write_application(fixture: &Fixture, interpreter: &Interpreter) {
    let write = |name: &str, text: &str| drop(fixture.write(name, text));
    write("app/run.py", APPLICATION);
    write("app/helper.py", TELL);
    write("app/lazily/__init__.py", "");
    write("app/lazily/imported.py", "");
    write("app/by_importlib/__init__.py", "");
    write("app/by_importlib/inner.py", "");
    write("app/threaded/__init__.py", "import time; time.sleep(0.01)\n");
    for number in 0..8 {
        write(&format!("app/threaded/t{number}.py"), "from threaded import common\n");
    }
    write("app/threaded/common.py", "import decimal, fractions\n");
    write("app/fails_to_import.py", "import missing_dependency\n");
    write("app/raises.py", "raise ValueError('on purpose')\n");
    // A namespace package over two entries of the path.
    write("app/spaced/one.py", "");
    write("other/spaced/two.py", "");
    write("app/odd/place.py", "");
    write("app/lazy_never.py", "raise RuntimeError('was run')\n");
    write("app/lazy_used.py", "value = 42\n");
    write("app/only_found.py", "raise RuntimeError('was run')\n");
    let mut deep = "app/deep".to_owned();
    write(&format!("{deep}/__init__.py"), "");
    for number in 0..12 {
        deep = format!("{deep}/level{number:03}{}", "x".repeat(60));
        write(&format!("{deep}/__init__.py"), "");
    }
    write("app/only_compiled.py", "");
    let prepare = "import py_compile, zipfile, os\n\
        py_compile.compile('app/only_compiled.py', 'app/only_compiled.pyc')\n\
        os.remove('app/only_compiled.py')\n\
        z = zipfile.ZipFile('app/packed.zip', 'w')\n\
        z.writestr('zipped/__init__.py', ''); z.writestr('zipped/inside.py', ''); z.close()\n";
    let output = fixture.command(&interpreter.program).args(["-c", prepare]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// All files below a directory.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
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

#[test]
fn modules_are_those_of_the_interpreter() {
    for interpreter in interpreters() {
        let mut fixture = Fixture::new();
        write_application(&fixture, interpreter);
        let application = |fixture: &Fixture, truth: &str| {
            let mut command = fixture.command(&interpreter.program);
            command.arg("run.py").current_dir(fixture.path("app"));
            command.env("PYTHONPATH", fixture.path("other")).env("TRUTH", fixture.path(truth));
            command
        };
        let hooked = fixture.run(&mut application(&fixture, "hooked"));
        let after_hooked = files(&fixture.path("app"));
        // A second time, when all bytecode is there: the files that are read are others.
        let once = std::mem::take(&mut fixture.reports);
        let again = fixture.run(&mut application(&fixture, "again"));
        let plain = application(&fixture, "plain").output().unwrap();
        assert_eq!(plain.status.code(), Some(7), "{}", text(&plain.stderr));
        assert_same(&hooked, &plain, interpreter);
        assert_same(&again, &plain, interpreter);

        let told = |base: &str| -> BTreeSet<(String, PathBuf)> {
            let parent = fixture.path("");
            let entries = fs::read_dir(&parent).unwrap().map(|entry| entry.unwrap().path());
            let found = entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(base));
            found.flat_map(|path| truth(&fs::read_to_string(path).unwrap())).collect()
        };
        let shorten = |set: BTreeSet<(String, PathBuf)>| -> BTreeSet<(String, PathBuf)> {
            // Names are cut at 512 bytes; their paths are whole.
            set.into_iter().map(|(name, path)| (name.chars().take(512).collect(), path)).collect()
        };
        let mut expected = shorten(told("hooked"));
        // These began to run and are not in sys.modules any more.
        for name in ["fails_to_import", "raises"] {
            expected.insert((name.to_owned(), fixture.path(&format!("app/{name}.py"))));
        }
        if interpreter.version >= (3, 13) {
            // This one replaces itself in sys.modules by another that is frozen.
            let collections = expected.iter().find(|(name, _)| name == "collections").unwrap().1.clone();
            expected.insert(("collections.abc".to_owned(), collections.with_file_name("abc.py")));
        }
        assert!(expected.iter().any(|(name, _)| name.len() == 512), "{expected:?}");
        for (reports, when) in [(None, "with bytecode"), (Some(once), "without bytecode")] {
            fixture.reports = reports.unwrap_or(std::mem::take(&mut fixture.reports));
            let reported = fixture.modules();
            let different: Vec<_> = reported.symmetric_difference(&expected).collect();
            assert!(different.is_empty(), "{interpreter:?} {when}: {different:?}");
        }
        for name in ["lazy_used", "only_compiled", "zipped.inside", "by_path", "_lzma", "deep", "__main__"] {
            assert!(expected.iter().any(|(known, _)| known == name), "{name}");
        }
        for name in ["lazy_never", "only_found", "nothing_there"] {
            assert!(!expected.iter().any(|(known, _)| known == name), "{name}");
        }
        let spaced: BTreeSet<PathBuf> = fixture
            .reports
            .iter()
            .filter(|report| report.kind == ReportKind::Namespace && report.name == b"spaced")
            .map(|report| PathBuf::from(text(&report.path)))
            .collect();
        assert_eq!(spaced, BTreeSet::from([fixture.path("app/spaced"), fixture.path("other/spaced")]));

        assert_eq!((fixture.failures(), fixture.lost("python-import")), (vec![], 0), "{interpreter:?}");
        let watched = fixture.session.coverage.watched();
        assert_eq!(watched, [("ld-audit", true), ("python-import", true)]);
        // The hook wrote no bytecode, and kept the application from none.
        fs::remove_dir_all(fixture.path("app")).unwrap();
        write_application(&fixture, interpreter);
        application(&fixture, "plain").output().unwrap();
        assert_eq!(after_hooked, files(&fixture.path("app")));
        assert!(
            !files(fixture.session.directory())
                .iter()
                .any(|path| path.extension().is_some_and(|e| e == "pyc"))
        );
    }
}

#[test]
fn main_modules_and_customizations() {
    for interpreter in interpreters() {
        let mut fixture = Fixture::new();
        let (major, minor) = interpreter.version;
        let user = format!("user/lib/python{major}.{minor}/site-packages");
        fixture.write("path/sitecustomize.py", "import site_helper\nprint('site', __name__, __file__)\n");
        fixture.write("path/site_helper.py", "");
        fixture.write(&format!("{user}/usercustomize.py"), "print('user')\n");
        fixture.write("path/tool/__init__.py", "");
        let main = fixture.write("path/tool/__main__.py", "import sys\nprint(sys.argv, __spec__.name)\n");
        let alone = fixture.write("alone.py", "print(__file__)\n");
        let broken = fixture.write("broken/sitecustomize.py", "raise ValueError('the application s own')\n");
        let base = fixture.path("");
        let check = |fixture: &mut Fixture, path: &Path, arguments: &[&str], expected: &[(&str, PathBuf)]| {
            let command = || {
                let mut command = Command::new(&interpreter.program);
                command.args(arguments).current_dir(&base).env("PYTHONPATH", path);
                command.env("PYTHONUSERBASE", base.join("user")).env_remove("PYTHONNOUSERSITE");
                command
            };
            let plain = command().output().unwrap();
            fixture.reports.clear();
            let hooked = fixture.run(&mut command());
            assert_same(&hooked, &plain, interpreter);
            for (name, path) in expected {
                let reported = fixture.modules();
                assert!(reported.contains(&((*name).to_owned(), path.clone())), "{name} in {reported:?}");
            }
            text(&plain.stdout)
        };
        let path = fixture.path("path");
        let custom = [
            ("sitecustomize", path.join("sitecustomize.py")),
            ("site_helper", path.join("site_helper.py")),
            ("usercustomize", fixture.path(&user).join("usercustomize.py")),
        ];
        let with = |more: (&'static str, PathBuf)| [custom.to_vec(), vec![more]].concat();
        let said = check(&mut fixture, &path, &["-m", "tool", "x"], &with(("tool.__main__", main.clone())));
        assert!(said.contains("site sitecustomize") && said.contains("user\n"), "{interpreter:?}: {said}");
        // No import at all happens in this program: its file is told at the end, if the interpreter lets anything be.
        check(&mut fixture, &path, &["alone.py"], &with(("__main__", alone.clone())));
        check(&mut fixture, &path, &["path/tool"], &with(("__main__", main.clone())));
        check(&mut fixture, &path, &["-c", "import sys; sys.exit(3)"], &custom);
        check(&mut fixture, &path, &["-c", "import sys; raise SystemExit('said')"], &custom);
        check(&mut fixture, &path, &["-c", "import nothing_there"], &custom);
        check(&mut fixture, &path, &["-W", "error", "-bb", "-c", "import json"], &custom);
        check(&mut fixture, broken.parent().unwrap(), &["-c", "print(1)"], &[]);
        let list = "import sys; print(sorted(sys.modules), sys.path, sys.path_importer_cache.keys())";
        check(&mut fixture, &path, &["-c", list], &custom);
        check(&mut fixture, Path::new(""), &["-c", list], &[]);
        let chained = "import sitecustomize; print(sitecustomize.__file__, sitecustomize.__spec__.origin)";
        check(&mut fixture, &path, &["-c", chained], &custom);
        assert_eq!((fixture.failures(), fixture.lost("python-import")), (vec![], 0));
    }
}

#[test]
fn bytecode_elsewhere_is_not_written_for_the_hook() {
    for interpreter in interpreters().iter().filter(|interpreter| interpreter.version >= (3, 8)) {
        let mut fixture = Fixture::new();
        fixture.write("app/module.py", "");
        let cache = fixture.path("cache");
        let mut command = fixture.command(&interpreter.program);
        command.args(["-c", "import module"]).env("PYTHONPATH", fixture.path("app"));
        let output = fixture.run(command.env("PYTHONPYCACHEPREFIX", &cache));
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
        let written = files(&cache);
        assert!(written.iter().any(|path| path.to_str().unwrap().contains("app/module.")), "{written:?}");
        let ours = |path: &PathBuf| path.to_str().unwrap().contains("plimsoll-hooks");
        assert!(!written.iter().any(ours), "{written:?}");
        let folder = cache.join(fixture.session.directory().strip_prefix("/").unwrap());
        assert!(!folder.parent().unwrap().exists(), "{folder:?}");
    }
}

#[test]
fn a_virtual_environment_and_its_package() {
    for interpreter in interpreters() {
        let mut fixture = Fixture::new();
        let made = fixture
            .command(&interpreter.program)
            .args(["-m", "venv", "--without-pip", "venv"])
            .output()
            .unwrap();
        if !made.status.success() {
            // Debian has venv in a package of its own.
            println!("skipped: {interpreter:?} makes no virtual environment: {}", text(&made.stdout));
            continue;
        }
        let (major, minor) = interpreter.version;
        let site = format!("venv/lib/python{major}.{minor}/site-packages");
        let code = fixture.write(&format!("{site}/dependency/__init__.py"), "from . import part\n");
        let part = fixture.write(&format!("{site}/dependency/part.py"), "");
        fixture
            .write(&format!("{site}/dependency-1.0.dist-info/METADATA"), "Name: dependency\nVersion: 1.0\n");
        fixture.write(&format!("{site}/unused/__init__.py"), "");
        let mut command = fixture.command(fixture.path("venv/bin/python"));
        let output = fixture.run(command.args(["-c", "import dependency"]));
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
        let modules = fixture.modules();
        for (name, path) in [("dependency", code), ("dependency.part", part)] {
            assert!(modules.contains(&(name.to_owned(), path)), "{modules:?}");
        }
        assert!(!modules.iter().any(|(name, _)| name == "unused"));
        assert_eq!(fixture.lost("python-import"), 0);
    }
}

#[test]
fn children_of_all_kinds_report() {
    let script = r"
import multiprocessing, os, subprocess, sys
def child(name):
    __import__(name)
if __name__ == '__main__':
    pid = os.fork()
    if not pid:
        import wave
        os._exit(0)
    os.waitpid(pid, 0)
    for method, name in (('fork', 'calendar'), ('spawn', 'colorsys'), ('forkserver', 'sndhdr_'[:-1] if sys.version_info < (3, 11) else 'this')):
        process = multiprocessing.get_context(method).Process(target=child, args=(name,))
        process.start()
        process.join()
        assert process.exitcode == 0, method
    subprocess.check_call([sys.executable, '-c', 'import chunk_like'])
    try:
        import _interpreters as interpreters
        number = interpreters.create('legacy')
    except ImportError:
        try:
            import _xxsubinterpreters as interpreters
            number = interpreters.create()
        except ImportError:
            interpreters = None
    if interpreters and sys.version_info >= (3, 9):
        (interpreters.run_string if hasattr(interpreters, 'run_string') else interpreters.exec)(number, 'import in_another')
        print('another')
";
    for interpreter in interpreters() {
        let mut fixture = Fixture::new();
        let program = fixture.write("run.py", script);
        fixture.write("chunk_like.py", "");
        fixture.write("in_another.py", "");
        let mut command = fixture.command(&interpreter.program);
        command.arg(program).env("PYTHONPATH", fixture.path("")).env("PYTHONWARNINGS", "ignore");
        let output = fixture.run(&mut command);
        assert!(output.status.success(), "{interpreter:?}: {output:?}");
        let modules = fixture.modules();
        let mut expected = vec!["wave", "calendar", "colorsys", "chunk_like"];
        expected.push(if interpreter.version < (3, 11) { "sndhdr" } else { "this" });
        if text(&output.stdout).contains("another") {
            expected.push("in_another");
        }
        for name in expected {
            assert!(modules.iter().any(|(known, _)| known == name), "{interpreter:?}: {name} in {modules:?}");
        }
        assert_eq!((fixture.failures(), fixture.lost("python-import")), (vec![], 0), "{interpreter:?}");
    }
}

#[test]
fn interpreters_without_the_hook_are_told() {
    let interpreter = interpreters().last().unwrap();
    let program = &interpreter.program;
    let check = |arguments: &[&str], expected: &str| {
        let mut fixture = Fixture::new();
        let mut command = fixture.command(program);
        fixture.run(command.args(arguments));
        // The process is gone: the next look knows.
        fixture.drain();
        let unavailable = fixture.session.coverage.unavailable();
        let said = unavailable.get("python-import").cloned().unwrap_or_default();
        match expected {
            "" => assert_eq!((said.as_str(), fixture.lost("python-import")), ("", 0), "{arguments:?}"),
            "none" => assert_eq!(fixture.lost("python-import"), 0, "{arguments:?}: {said}"),
            expected => {
                assert!(said.contains(expected) && said.contains("eBPF"), "{arguments:?}: {unavailable:?}");
                assert_eq!(fixture.lost("python-import"), 1);
            }
        }
    };
    check(&["-c", "pass"], "");
    check(&["-I", "-c", "pass"], "with -I");
    check(&["-E", "-c", "pass"], "with -E");
    check(&["-S", "-c", "pass"], "with -S");
    check(&["-V"], "none");
    // A child of a hooked interpreter, without its environment's PYTHONPATH.
    let child = "import subprocess, sys, os\n\
        e = dict(os.environ); del e['PYTHONPATH']\n\
        subprocess.check_call([sys.executable, '-c', 'pass'], env=e)";
    let mut fixture = Fixture::new();
    let mut command = fixture.command(program);
    fixture.run(command.args(["-c", child]));
    fixture.drain();
    assert_eq!(fixture.lost("python-import"), 1, "{:?}", fixture.session.coverage.unavailable());
}

/// With an emptied environment a process has neither hook: it is found by looking.
#[test]
fn a_child_with_an_empty_environment_is_found() {
    let interpreter = interpreters().last().unwrap();
    let mut fixture = Fixture::new();
    let script = "import subprocess, sys\n\
        c = subprocess.Popen([sys.executable, '-c', 'input()'], env={}, stdin=subprocess.PIPE)\n\
        print('ready', flush=True); input(); c.communicate(b'\\n')";
    let mut command = fixture.command(&interpreter.program);
    fixture.session.environment().apply(&mut command);
    let mut child =
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    fixture.session.set_first_process(child.id());
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while fixture.lost("python-import") == 0 || fixture.lost("ld-audit") == 0 {
        assert!(Instant::now() < deadline, "{:?}", fixture.session.coverage);
        fixture.drain();
        std::thread::sleep(Duration::from_millis(10));
    }
    let unavailable = fixture.session.coverage.unavailable();
    assert!(unavailable.values().any(|reason| reason.contains("without the environment")), "{unavailable:?}");
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(fixture.lost("python-import"), 1);
}

#[test]
fn what_a_full_fifo_does_not_take_is_counted() {
    for interpreter in interpreters() {
        let mut fixture = Fixture::new();
        let script = "import json, sqlite3";
        let mut command = fixture.command(&interpreter.program);
        fixture.run(command.args(["-c", script]));
        let is_python =
            |report: &&Report| !matches!(report.kind, ReportKind::AuditStarted | ReportKind::Object);
        let count = fixture.reports.iter().filter(is_python).count();
        assert!(count > 10);
        // The same hook before a FIFO that nobody reads.
        let stopped = fixture.path("stopped");
        fs::create_dir_all(stopped.join("python")).unwrap();
        for name in ["sitecustomize.py", "import_hook.py"] {
            fs::copy(
                fixture.session.directory().join("python").join(name),
                stopped.join("python").join(name),
            )
            .unwrap();
        }
        fs::write(stopped.join("losses"), b"").unwrap();
        let reports = stopped.join("reports");
        rustix::fs::mkfifoat(rustix::fs::CWD, &reports, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut fifo =
            File::options().read(true).write(true).custom_flags(nonblocking).open(&reports).unwrap();
        while fifo.write(b"x").is_ok() {}
        let mut command = fixture.command(&interpreter.program);
        let output = command.args(["-c", script]).env("PYTHONPATH", stopped.join("python")).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        assert_eq!(
            fs::read(stopped.join("losses")).unwrap(),
            "P".repeat(count).into_bytes(),
            "{interpreter:?}"
        );
    }
}

/// Faults of the hook, of the application and of what stands between.
#[test]
fn a_hook_that_fails_is_silent_there_and_loud_here() {
    for interpreter in interpreters() {
        let check = |script: &str, prepare: &dyn Fn(&Fixture)| {
            let mut fixture = Fixture::new();
            prepare(&fixture);
            let mut command = fixture.command(&interpreter.program);
            let output = fixture.run(command.args(["-c", script]));
            fixture.drain();
            assert_eq!(
                (text(&output.stdout), text(&output.stderr)),
                ("fine\n".into(), String::new()),
                "{interpreter:?}"
            );
            let unavailable = fixture.session.coverage.unavailable();
            (fixture.failures(), fixture.lost("python-import"), unavailable)
        };
        let nothing = |_: &Fixture| {};
        let strange = "import sys, types\n\
            class Strange(types.ModuleType):\n\
            \x20   @property\n\
            \x20   def __dict__(self): raise KeyError('strange')\n\
            sys.modules['__main__'] = Strange('__main__')\n\
            import wave\n\
            print('fine')";
        let (failures, lost, unavailable) = check(strange, &nothing);
        assert!(failures[0].starts_with("KeyError"), "{failures:?}");
        assert!(
            lost >= 1 && unavailable.values().any(|reason| reason.contains("KeyError")),
            "{unavailable:?}"
        );
        // An error of a handler of signals goes on to the application, wherever it strikes.
        let signal = "import functools, os, signal, _frozen_importlib\n\
            class Boom(Exception): pass\n\
            def handler(number, frame): raise Boom\n\
            signal.signal(signal.SIGALRM, handler)\n\
            hook = _frozen_importlib._init_module_attrs.__globals__\n\
            hook['getpid'] = functools.partial(os.kill, os.getpid(), signal.SIGALRM)\n\
            try: import wave\n\
            except Boom: print('fine')";
        assert_eq!(check(signal, &nothing).0, Vec::<String>::new());
        if interpreter.version >= (3, 8) {
            let sandbox = "import sys\n\
                def refuse(event, arguments):\n\
                \x20   if event == 'open' and 'plimsoll-hooks' in str(arguments[0]): raise RuntimeError('refused')\n\
                sys.addaudithook(refuse)\n\
                import wave\n\
                print('fine')";
            check(sandbox, &nothing);
        }
        let broken = |fixture: &Fixture| {
            fs::write(fixture.session.directory().join("python/import_hook.py"), "import (").unwrap();
        };
        let (_, lost, unavailable) = check("print('fine')", &broken);
        assert!(lost == 1 && unavailable["python-import"].contains("no import hook"), "{unavailable:?}");
        let gone =
            |fixture: &Fixture| fs::remove_dir_all(fixture.session.directory().join("python")).unwrap();
        assert_eq!(check("print('fine')", &gone).1, 1);
        // An application that closes all descriptors, and one that looks at the next free number.
        let closes = "import os, sys\n\
            os.closerange(3, 256)\n\
            import wave\n\
            assert os.open('/dev/null', os.O_RDONLY) == 3\n\
            print('fine')";
        assert_eq!(check(closes, &nothing).1, 0);
    }
}

#[test]
fn python_2_is_left_alone() {
    let Ok(output) = Command::new("pyenv").args(["root"]).output() else {
        return println!("skipped: there is no Python 2");
    };
    let root = PathBuf::from(text(&output.stdout).trim());
    let versions = fs::read_dir(root.join("versions")).into_iter().flatten().flatten();
    let Some(program) = versions.map(|entry| entry.path().join("bin/python2.7")).find(|path| path.exists())
    else {
        return println!("skipped: there is no Python 2");
    };
    let mut fixture = Fixture::new();
    let plain = fixture.command(&program).args(["-c", "import sys; print(sys.path)"]).output().unwrap();
    let mut command = fixture.command(&program);
    let hooked = fixture.run(command.args(["-c", "import sys; print(sys.path)"]));
    assert_eq!(hooked, plain);
    fixture.drain();
    let unavailable = fixture.session.coverage.unavailable();
    assert!(unavailable["python-import"].contains("Python 2"), "{unavailable:?}");
}
