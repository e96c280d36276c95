//! Every way to import: what is reported is what the interpreter says.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use plimsoll_runtime_agent::hooks::report::ReportKind;

use super::fixture::{Fixture, Interpreter, assert_same, files, interpreters, text, truth};

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

/// Runs files without importing them, as runpy, coverage, pdb and multiprocessing's `spawn` do.
const RUNNER: &str = r"
import multiprocessing, runpy, sys, types
def run(path, namespace):
    with open(path) as file:
        exec(compile(file.read(), path, 'exec'), namespace)
def coverage_like(path):
    main = types.ModuleType('__main__')
    main.__file__ = path
    kept, sys.modules['__main__'] = sys.modules['__main__'], main
    run(path, main.__dict__)
    sys.modules['__main__'] = kept
def nothing():
    pass
if __name__ == '__main__':
    print(runpy.run_path('by_path.py')['value'], runpy.run_path(sys.argv[1] + '/absolute.py')['value'])
    print(sorted(runpy.run_path('folder')), sorted(runpy.run_module('by_name')))
    print(runpy.run_path('packed.zip', run_name='packed')['value'])
    coverage_like(sys.argv[1] + '/measured.py')
    child = multiprocessing.get_context('spawn').Process(target=nothing)
    child.start(); child.join()
    print(child.exitcode, runpy.run_path.__module__)
    runpy.run_path('raises.py')
";

#[test]
fn files_that_are_run_without_import_are_told() {
    for interpreter in interpreters() {
        let mut fixture = Fixture::new();
        fixture.write("runner.py", RUNNER);
        for name in ["by_path.py", "absolute.py", "by_name.py", "folder/__main__.py"] {
            fixture.write(name, "value = 7\n");
        }
        fixture.write("measured.py", "import colorsys\n");
        fixture.write("raises.py", "def inner():\n    raise ValueError('on purpose')\ninner()\n");
        let packed = "import zipfile\n\
            z = zipfile.ZipFile('packed.zip', 'w'); z.writestr('__main__.py', 'value = 9\\n'); z.close()";
        let output = fixture.command(&interpreter.program).args(["-c", packed]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        for start in [&["runner.py"][..], &["-m", "runner"]] {
            let command = |fixture: &Fixture| {
                let mut command = fixture.command(&interpreter.program);
                command.arg("-B").args(start).arg(fixture.path("").to_str().unwrap().trim_end_matches('/'));
                command
            };
            let plain = command(&fixture).output().unwrap();
            assert!(text(&plain.stderr).contains("on purpose"), "{}", text(&plain.stderr));
            fixture.reports.clear();
            let mut hooked = command(&fixture);
            let hooked = fixture.run(&mut hooked);
            assert_same(&hooked, &plain, interpreter);
            let told: BTreeSet<PathBuf> = fixture.modules().into_iter().map(|(_, path)| path).collect();
            for name in [
                "runner.py",
                "by_path.py",
                "absolute.py",
                "by_name.py",
                "folder/__main__.py",
                "measured.py",
                "raises.py",
            ] {
                assert!(told.contains(&fixture.path(name)), "{interpreter:?} {start:?} {name}: {told:?}");
            }
            let packed = fixture.path("packed.zip");
            assert!(told.iter().any(|path| path.starts_with(&packed)), "{interpreter:?}: {told:?}");
            assert_eq!((fixture.failures(), fixture.lost("python-import")), (vec![], 0), "{interpreter:?}");
        }
    }
}

/// Reads files and runs them by itself, as `execfile` of old did.
const BY_ITSELF: &str = r"
import sys, types
def run(path, name, namespace):
    with open(path) as file:
        code = compile(file.read(), name, 'exec')
    return exec(code, namespace)
def lines(kind, value, trace):
    while trace:
        print(trace.tb_frame.f_code.co_name, trace.tb_lineno)
        trace = trace.tb_next
root = sys.argv[1]
run(root + '/packages/bare.py', root + '/packages/bare.py', {})
run('packages/relative.py', 'packages/relative.py', {'__name__': 'relative'})
types.FunctionType(compile('value = 1', root + '/packages/function.py', 'exec'), {})()
run('packages/nameless.py', '<string>', {})
exec(compile('value = 1', root + '/template.html', 'exec'), {})
compile('value = 1', root + '/packages/only_compiled.py', 'exec')
print(run('packages/again.py', root + '/packages/again.py', {}), run('packages/again.py', root + '/packages/again.py', {}))
sys.excepthook = lines
run('packages/raises.py', root + '/packages/raises.py', {})
";

/// Before Python 3.12 nothing tells of these.
#[test]
fn files_that_the_application_compiles_and_runs_by_itself_are_told() {
    for interpreter in interpreters() {
        let mut fixture = Fixture::new();
        fixture.write("runner.py", BY_ITSELF);
        for name in ["bare", "relative", "nameless", "again"] {
            fixture.write(&format!("packages/{name}.py"), "value = [n for n in range(3)]\n");
        }
        fixture.write("packages/raises.py", "def inner():\n    raise ValueError('on purpose')\ninner()\n");
        let command = |fixture: &Fixture| {
            let mut command = fixture.command(&interpreter.program);
            command.args(["-B", "runner.py"]).arg(fixture.path("").to_str().unwrap().trim_end_matches('/'));
            command
        };
        let plain = command(&fixture).output().unwrap();
        assert_eq!(plain.status.code(), Some(1), "{}", text(&plain.stderr));
        let mut hooked = command(&fixture);
        let hooked = fixture.run(&mut hooked);
        assert_same(&hooked, &plain, interpreter);
        let root = fixture.path("packages");
        let told: BTreeSet<(String, String)> = fixture
            .modules()
            .into_iter()
            .filter_map(|(name, path)| Some((path.strip_prefix(&root).ok()?.to_str()?.to_owned(), name)))
            .collect();
        let expected: &[(&str, &str)] = match interpreter.version {
            (3, ..12) => &[],
            _ => &[
                ("again.py", ""),
                ("bare.py", ""),
                ("function.py", ""),
                ("raises.py", ""),
                ("relative.py", "relative"),
            ],
        };
        let expected: BTreeSet<_> =
            expected.iter().map(|(path, name)| ((*path).to_owned(), (*name).to_owned())).collect();
        assert_eq!(told, expected, "{interpreter:?}");
        assert_eq!((fixture.failures(), fixture.lost("python-import")), (vec![], 0), "{interpreter:?}");
    }
}

/// To load a debugger, or to run the examples of a docstring, is not to debug.
const BESIDE_DEBUGGER: &str = r"
import bdb, doctest, io, pdb, sys
def run(name):
    path = sys.argv[1] + '/packages/' + name
    exec(compile('value = 1', path, 'exec'), {})
def doubled(value):
    '''
    >>> doubled(4)
    8
    '''
    return value * 2
def stops():
    value = doubled(2)
    pdb.Pdb(stdin=io.StringIO('where\nnext\np value\nc\n'), stdout=sys.stdout).set_trace()
    value += 1
    return value
def called():
    value = doubled(3)
    return value
print(doctest.testmod())
run('before.py')
if sys.argv[2:] == ['stop']:
    print(stops(), stops())
elif sys.argv[2:] == ['call']:
    print(called(), pdb.Pdb(stdin=io.StringIO('where\nnext\nc\n'), stdout=sys.stdout).runcall(called))
run('after.py')
";

#[test]
fn files_that_the_application_runs_beside_a_debugger_are_told_or_said_to_be_unseen() {
    for interpreter in interpreters() {
        for debugs in ["", "stop", "call"] {
            let mut fixture = Fixture::new();
            fixture.write("runner.py", BESIDE_DEBUGGER);
            let command = |fixture: &Fixture| {
                let mut command = fixture.command(&interpreter.program);
                let root = fixture.path("");
                command.args(["-B", "runner.py", root.to_str().unwrap().trim_end_matches('/')]);
                command.args(Some(debugs).filter(|word| !word.is_empty()));
                command
            };
            let plain = command(&fixture).output().unwrap();
            let mut hooked = command(&fixture);
            let hooked = fixture.run(&mut hooked);
            assert_same(&hooked, &plain, interpreter);
            assert!(plain.status.success(), "{interpreter:?} {}", text(&plain.stderr));
            let root = fixture.path("packages");
            let modules = fixture.modules();
            let told: BTreeSet<&str> =
                modules.iter().filter_map(|(_, path)| path.strip_prefix(&root).ok()?.to_str()).collect();
            // Beside a tool of sys.monitoring 3.13's debugger stops elsewhere: the hook gives its own back.
            let (expected, blind): (&[&str], bool) = match (interpreter.version, debugs) {
                ((3, ..12), _) => (&[], false),
                ((3, 12), _) | (_, "") => (&["after.py", "before.py"], false),
                _ => (&["before.py"], true),
            };
            assert_eq!(told, expected.iter().copied().collect(), "{interpreter:?} {debugs}");
            let said = fixture.failures();
            assert_eq!(said.len(), usize::from(blind), "{interpreter:?} {debugs}: {said:?}");
            assert!(said.iter().all(|said| said.starts_with("blind: was debugged (bdb)")), "{said:?}");
            assert_eq!(fixture.lost("python-import") > 0, blind, "{interpreter:?} {debugs}");
        }
    }
}
