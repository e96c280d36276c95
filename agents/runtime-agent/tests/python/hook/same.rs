//! Small programs of all sorts say the same, and end the same way, with the hook and without it.

use std::process::Stdio;

use super::fixture::{Fixture, Interpreter, assert_same, interpreters, text};

/// Name, and text; `near.py` and others lie beside it.
const PROGRAMS: &[(&str, &str)] = &[
    (
        "tracebacks",
        "import traceback
for name in ('gone', 'broken', 'raises', 'spaced.gone'):
    try:
        __import__(name)
    except Exception:
        traceback.print_exc()
raise RuntimeError('at the end')
",
    ),
    (
        "recursion",
        "import sys
sys.setrecursionlimit(400)
def down(depth, name):
    if depth:
        return down(depth - 1, name)
    return __import__(name).value
print(down(200, 'near'))
try:
    down(500, 'beside')
except RecursionError as error:
    print('too deep')
print(down(200, 'beside'))
def without_end():
    import near
    without_end()
try:
    without_end()
except RecursionError as error:
    print('without end')
sys.exit(4)
",
    ),
    (
        "finders",
        "import importlib.abc, importlib.machinery, sys, types
class Spec(importlib.machinery.ModuleSpec):
    @property
    def other(self):
        raise KeyError('asked')
class Loader(importlib.abc.Loader):
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        module.value = (module.__name__, getattr(module, '__file__', None))
class Finder:
    asked = []
    def find_spec(self, name, path=None, target=None):
        self.asked.append(name)
        if name.startswith('made'):
            return Spec(name, Loader(), origin='/made/' + name)
sys.meta_path.insert(0, Finder())
import made_up, near
print(made_up.value, near.value, Finder.asked)
print([getattr(finder, '__name__', type(finder).__name__) for finder in sys.meta_path])
print([getattr(hook, '__name__', hook) for hook in sys.path_hooks])
class Odd(types.ModuleType):
    @property
    def __file__(self):
        raise KeyError('asked for the file')
sys.modules['odd'] = Odd('odd')
import odd, beside
print(sorted(set(sys.modules) - {'near'} & set(sys.modules))[:0], 'sitecustomize' in sys.modules)
",
    ),
    (
        "a debugger",
        "import io, pdb, sys
def stops():
    x = 5
    pdb.Pdb(stdin=io.StringIO('where\\nnext\\np x\\nc\\n'), stdout=sys.stdout).set_trace()
    y = 6
    return x + y
print(stops(), stops())
",
    ),
    (
        "shutdown",
        "import atexit, sys, threading
class Late:
    def __del__(self):
        import beside
        print('late', beside.value)
late = Late()
@atexit.register
def at_end():
    import near
    print('at end', near.value)
def waiting():
    import queue
    queue.Queue().get()
threading.Thread(target=waiting, daemon=True).start()
class Cycle:
    def __del__(self):
        print('cycle')
one = Cycle(); one.me = one
sys.exit('with words')
",
    ),
    (
        "forks",
        "import os, sys, threading
sys.stdout.flush()
def forks_while_importing():
    import forking
thread = threading.Thread(target=forks_while_importing)
thread.start(); thread.join()
import forking
print(forking.status)
pid = os.fork()
if not pid:
    import near
    os._exit(near.value)
print(os.waitpid(pid, 0)[1])
os._exit(5)
",
    ),
    (
        "threads",
        "import threading, importlib, sys
sys.setswitchinterval(1e-6)
names = ['near', 'beside', 'json', 'csv', 'decimal', 'difflib', 'email.message', 'wave', 'colorsys'] * 4
found = []
threads = [threading.Thread(target=lambda name=name: found.append(importlib.import_module(name).__name__)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(found))
",
    ),
    (
        "signals",
        "import os, signal, sys
def stop(number, frame):
    raise TimeoutError('in time')
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    import waits
except TimeoutError as error:
    print(error, 'waits' in sys.modules)
sys.stdout.flush()
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.kill(os.getpid(), signal.SIGINT)
",
    ),
    (
        "warnings",
        "import warnings, importlib
warnings.simplefilter('always')
warnings.warn('here', stacklevel=2)
import warns
importlib.reload(warns)
import sys
print(sys.warnoptions, sys.flags)
",
    ),
    (
        "state",
        "import sys, os, gc, threading
print(sorted(name for name in sys.modules), sys.path, sys.argv, sys.path_importer_cache.keys())
print(sys.gettrace(), sys.getprofile(), sys.getrecursionlimit(), threading.active_count(), sys.exc_info())
print(sorted(os.listdir('/proc/self/fd')), dir(), __builtins__.__import__, sys.excepthook)
print(getattr(sys, 'last_value', None), sys.dont_write_bytecode, getattr(sys, 'pycache_prefix', None))
",
    ),
    (
        "runs",
        "import runpy, sys
print(runpy.run_path('near.py')['value'], runpy.run_module('beside')['value'])
exec(open('near.py').read())
print(value)
for run, name in ((runpy.run_path, 'gone.py'), (runpy.run_path, 'broken.py'), (runpy.run_module, 'gone')):
    try:
        run(name)
    except Exception:
        import traceback
        traceback.print_exc()
class Name(dict):
    pass
print(runpy.run_path('near.py', {'given': Name()}, 'other')['__name__'])
runpy.run_module('raises')
",
    ),
    (
        "interpreters",
        "import sys
try:
    import _interpreters as interpreters
    run, number = interpreters.exec, interpreters.create('legacy')
except ImportError:
    try:
        import _xxsubinterpreters as interpreters
        run, number = interpreters.run_string, interpreters.create()
    except ImportError:
        sys.exit('none')
sys.stdout.flush()
run(number, 'import near, sys; print(near.value); sys.stdout.flush()')
interpreters.destroy(number)
print('after')
",
    ),
    ("imports_nothing", "1 / 0\n"),
    ("syntax", "import near\nprint(near.value\n"),
    ("ends_at_once", "import os\nos._exit(9)\n"),
    ("aborts", "import os, near\nos.abort()\n"),
];

/// What lies beside the programs.
const BESIDE: &[(&str, &str)] = &[
    ("near.py", "value = 7\n"),
    ("beside.py", "value = 8\n"),
    ("broken.py", "def nothing(:\n"),
    ("raises.py", "def inner():\n    raise ValueError('on purpose')\ninner()\n"),
    ("spaced/one.py", ""),
    ("waits.py", "import time\ntime.sleep(20)\n"),
    ("warns.py", "import warnings\nwarnings.warn('there', stacklevel=2)\n"),
    (
        "forking.py",
        "import os\npid = os.fork()\nif not pid:\n    import near\n    os._exit(near.value)\nstatus = os.waitpid(pid, 0)[1]\n",
    ),
];

#[test]
fn programs_do_not_notice_the_hook() {
    let all = interpreters();
    let middle = all.iter().find(|interpreter| interpreter.version == (3, 11));
    let some: std::collections::BTreeSet<&Interpreter> =
        all.first().into_iter().chain(middle).chain(all.last()).collect();
    for interpreter in some {
        let mut fixture = Fixture::new();
        BESIDE.iter().for_each(|(name, text)| drop(fixture.write(name, text)));
        for (name, program) in PROGRAMS {
            let path = fixture.write(&format!("{name}.py"), program);
            // Without bytecode, so that both runs read the same.
            let command = || {
                let mut command = fixture.command(&interpreter.program);
                command.arg("-B").arg(&path).stdin(Stdio::null());
                command
            };
            let (plain, mut hooked) = (command().output().unwrap(), command());
            let hooked = fixture.run(&mut hooked);
            println!("{interpreter:?} {name}: {} {}", plain.status, text(&plain.stdout));
            assert_same(&hooked, &plain, interpreter);
            // From its standard input.
            let from_input = |mut command: std::process::Command| {
                command.arg("-B").stdin(std::fs::File::open(&path).unwrap());
                command
            };
            let plain = from_input(fixture.command(&interpreter.program)).output().unwrap();
            let mut command = from_input(fixture.command(&interpreter.program));
            assert_same(&fixture.run(&mut command), &plain, interpreter);
        }
        // Of the debugger alone, each time: beside it the newer ones see less.
        let said = fixture.failures();
        let debugged = said.iter().filter(|said| said.starts_with("blind: was debugged")).count();
        let expected = if interpreter.version < (3, 13) { 0 } else { 2 };
        assert_eq!((debugged, said.len()), (expected, expected), "{interpreter:?}: {said:?}");
        assert_eq!(fixture.lost("python-import"), debugged as u64, "{interpreter:?}");
    }
}
