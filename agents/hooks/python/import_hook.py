# Reports each module that the import system loads, each file that runpy runs, and from Python 3.12 on each that anything
# else compiles and runs, to Plimsoll's FIFO. For Python 3.6 and newer.
#
# It must never raise, print, import anything that the interpreter has not built in, write bytecode, or wait, nor catch
# what it did not raise itself: an exception from outside (of a signal's handler, PyThreadState_SetAsyncExc) can strike
# between any two of its instructions, and belongs to the application. It stands where the import system has made a
# module from its spec and is about to run it: it costs nothing at any other time, but a call at the first start of each
# code object where the interpreter tells that (sys.monitoring).
#
# It runs no code of the application: what it wants to know is read from the dictionaries of specs and modules, by
# exact types.
#
# A report is one write of at most PIPE_BUF bytes, which a FIFO takes whole or not at all:
#     0x1E kind ' ' pid ' ' lost ' ' flags ' ' name-bytes ' ' path-bytes '\n' name path
# kind: PH = the hook is at work (name: version of the interpreter), PM = a module was loaded, PN = a namespace package
# (path: one of its directories), PF = the hook failed (name: why), PE = the process ends and had losses to tell.
# flags: '-', or 't' when the path did not fit and is cut.
import posix
import sys

REPORT_MAX_BYTES = 4096
HEAD_MAX_BYTES = 128
NAME_MAX_BYTES = 512
NAMESPACE_MAX_DIRECTORIES = 16
FAILURES_MAX = 3
# Tools of sys.monitoring that have no name of their own.
CODE_TOOLS = 4, 3
# Functions of bdb.Bdb that begin to debug.
DEBUGGER_STARTS = "set_trace", "run", "runeval", "runcall"
STOPS_LATER = sys.version_info >= (3, 13)
BLIND_BESIDE_DEBUGGER = "blind: was debugged (bdb), beside which files that it compiles and runs by itself are not seen"

FRAME = type(sys._getframe())
MODULE = type(sys)
MODULE_DICT = MODULE.__dict__["__dict__"]
state = {"lost": 0, "pid": 0, "failures": 0, "main": None, "ours": None, "tool": None}
reported = set()
reported_paths = set()
own_code = set()
builtin_errors = set()
places = {}

# Taken now: an application may replace functions of these modules.
PATH_ENCODING = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
modules = sys.modules
getpid, getcwd, getframe = posix.getpid, posix.getcwd, sys._getframe
monitoring = getattr(sys, "monitoring", None)
NOT_AGAIN = getattr(monitoring, "DISABLE", None)
open_file, write, close, mkfifo = posix.open, posix.write, posix.close, posix.mkfifo
FIFO_FLAGS = posix.O_RDWR | posix.O_NONBLOCK | posix.O_CLOEXEC
FILE_FLAGS = posix.O_WRONLY | posix.O_APPEND | posix.O_CLOEXEC


def is_ours(error):
    # What the interpreter raised by itself in one of our frames: then it has words of its own. Exceptions from outside
    # come through the frame of a handler, are of the application's classes, or were made without any word.
    if type(error) in builtin_errors and not error.args:
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code in own_code:
        trace = trace.tb_next
    if trace is None:
        return type(error) in builtin_errors
    return is_refusal(trace)


def is_refusal(trace):
    # An audit hook of the application that did not let us open a file of ours: it has our path among its arguments.
    found = False
    while trace is not None:
        values = list(trace.tb_frame.f_locals.values())
        for value in values:
            if type(value) is tuple:
                values.extend(value)
            elif type(value) is FRAME:
                # A handler of signals.
                return False
            elif type(value) is str and value in (places["reports"], places["losses"]):
                found = True
        if not found:
            return False
        trace = trace.tb_next
    return True


def write_once(place, flags, record):
    # Opens, writes and closes in one instruction, the unpacking: what strikes before or after leaves no descriptor.
    descriptors = []
    opening = map(descriptors.append, map(open_file, (places[place],), (flags,)))
    closing = map(close, descriptors)
    try:
        [(_, written, _)] = zip(opening, map(write, descriptors, (record,)), closing)
        return written == len(record)
    except:
        # Opened, and refused what was written.
        [*closing]
        raise


def is_written(place, flags, record):
    try:
        return write_once(place, flags, record)
    except Exception as error:
        if not is_ours(error):
            raise
    return False


def lose():
    # One byte per lost report: what a process that ends now could tell no more.
    if not is_written("losses", FILE_FLAGS, b"P"):
        state["lost"] += 1
        refused()


def refused():
    # Says by its mere name that something is missing: audit hooks are not asked for it. The agent takes it away.
    try:
        mkfifo(places["refused"])
    except OSError as error:
        if not is_ours(error):
            raise


def report(kind, name, path):
    pid = getpid()
    if pid != state["pid"]:
        # A fork: its parent tells what was lost before.
        state["pid"], state["lost"] = pid, 0
    name, path = str.encode(name, "utf-8", "replace")[:NAME_MAX_BYTES], str.encode(path, *PATH_ENCODING)
    room = REPORT_MAX_BYTES - HEAD_MAX_BYTES - len(name)
    flags = b"-"
    if len(path) > room:
        path, flags = path[:room], b"t"
    lost = state["lost"]
    record = b"\x1e%s %d %d %s %d %d\n%s%s" % (kind, pid, lost, flags, len(name), len(path), name, path)
    # For reading too: a FIFO without a reader would answer with SIGPIPE when the agent dies just now.
    if is_written("reports", FIFO_FLAGS, record):
        state["lost"] -= lost
    else:
        lose()


def note_path(kind, name, path):
    if not is_text(name) or not is_text(path) or not str.__len__(path):
        return
    name, path = str.__str__(name), str.__str__(path)
    if path[:1] != "/":
        path = getcwd() + "/" + path
    if (name, path) not in reported:
        report(kind, name, path)
        # Not before: whoever is interrupted and tries again is told.
        reported.add((name, path))
        reported_paths.add(path)


def is_text(value):
    return issubclass(type(value), str)


def contents_of(module):
    return MODULE_DICT.__get__(module) if issubclass(type(module), MODULE) else {}


def note_module(spec, module):
    if type(spec) is not places["spec"]:
        # Of a class of the application: what the import system wrote into the module says the same.
        contents = contents_of(module)
        note_path(b"PM", contents.get("__name__"), contents.get("__file__"))
        return
    facts = spec.__dict__
    name, origin, directories = facts["name"], facts["origin"], facts["submodule_search_locations"]
    if facts["_set_fileattr"]:
        note_path(b"PM", name, origin)
    elif directories is not None and (origin is None or origin == "namespace"):
        if type(directories) is not list:
            directories = getattr(directories, "__dict__", {}).get("_path")
        if type(directories) is list:
            for directory in directories[:NAMESPACE_MAX_DIRECTORIES]:
                note_path(b"PN", name, directory)
    # Else it is built in or frozen: no file was read for it.


def note_main():
    # The program itself is no import: its file is known once it runs.
    contents = contents_of(modules.get("__main__"))
    path, spec = contents.get("__file__"), contents.get("__spec__")
    # What runs programs (coverage, pdb, kernprof, IPython) puts the file of one there before it runs.
    if path is not state["main"] and is_text(path) and str.__len__(path) and is_file(spec):
        name = spec.__dict__["name"] if type(spec) is places["spec"] else "__main__"
        note_program(name, str.__str__(path))
        state["main"] = path


def note_program(name, path):
    # Python before 3.9 keeps the path as it was given: relative to where the program started.
    note_path(b"PM", name, path if path[:1] == "/" else places["started"] + "/" + path)


def is_file(spec):
    return type(spec) is not places["spec"] or spec.__dict__["_set_fileattr"]


def note_run(contents):
    # What runpy is about to run, where it may be no module: it has written there what it knows of it.
    spec = contents.get("__spec__") if type(contents) is dict else None
    if type(contents) is dict and is_file(spec):
        name = spec.__dict__["name"] if type(spec) is places["spec"] else contents.get("__name__")
        note_path(b"PM", name, contents.get("__file__"))


def note_code(code, frame):
    # Of what the import system runs, its spec tells; of the program, __main__. Compiled files alone can name another place.
    caller, path = frame.f_back, code.co_filename
    if caller is None or str.startswith(caller.f_code.co_filename, "<frozen importlib"):
        return
    if type(path) is str and path[-3:] == ".py" and path not in reported_paths:
        name = dict.get(frame.f_globals, "__name__")
        note_path(b"PM", name if is_text(name) else "", path)


def code_started(code, _offset):
    if code.co_name == "<module>":
        guard(note_code, code, getframe(1))
    elif code.co_name in DEBUGGER_STARTS and STOPS_LATER:
        guard(leave_code_alone, code)
    return NOT_AGAIN


def watch_code():
    # The interpreter calls at the first start of each code object: of a file that something reads, compiles and runs by
    # itself nothing else tells. Audit hooks of older ones would cost too much.
    for tool in CODE_TOOLS if monitoring else ():
        if monitoring.get_tool(tool) is None:
            monitoring.use_tool_id(tool, "plimsoll")
            state["tool"] = tool
            monitoring.register_callback(tool, monitoring.events.PY_START, code_started)
            monitoring.set_events(tool, monitoring.events.PY_START)
            return


def leave_code_alone(code):
    # Beside any tool of sys.monitoring a debugger on bdb stops one line later in Python 3.13. Loading it (doctest,
    # numpy.testing) does no harm: this is the first start of a function of it that begins to debug.
    if code.co_filename != contents_of(modules.get("bdb")).get("__file__"):
        return
    tool, state["tool"] = state["tool"], None
    if tool is not None:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
        report(b"PF", BLIND_BESIDE_DEBUGGER, "")


class Run:
    # Stands for `exec` in runpy alone. A class, so that no frame of ours is there while the code runs.
    def __new__(cls, code, contents):
        guard(note_run, contents)
        return object.__new__(cls)

    __init__ = staticmethod(exec)


class RunpyLoader:
    # For the moment between the making and the running of runpy.
    def __init__(self, spec):
        self.spec, self.loader = spec, spec.__dict__["loader"]

    def exec_module(self, module):
        self.spec.loader = self.loader
        self.loader.exec_module(module)
        guard(watch_runpy, module)


def watch_runpy(module):
    contents_of(module)["exec"] = Run


def guard(work, *arguments):
    # Runs a piece of the hook: errors of ours end here, all others go on to the application.
    problem = None
    try:
        work(*arguments)
    except Exception as error:
        if not is_ours(error):
            raise
        trace = error.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        problem = "%s: %s (line %d)" % (type(error).__name__, error, trace.tb_lineno)
    # Here, where the error is no context of what may be raised now.
    if problem is not None:
        try:
            failed(problem)
        except Exception as error:
            if not is_ours(error):
                raise
            state["lost"] += 1
            refused()


def failed(problem):
    if state["failures"] < FAILURES_MAX:
        state["failures"] += 1
        report(b"PF", problem, "")


def loaded(spec, module):
    if state["ours"] is not None:
        hide_ours()
    note_main()
    if not is_lazy(spec, module):
        note_module(spec, module)
    if is_of_python(spec, "runpy"):
        spec.loader = RunpyLoader(spec)


def is_of_python(spec, name):
    facts = spec.__dict__ if type(spec) is places["spec"] else {"name": None}
    loader = facts.get("loader")
    known = type(loader) in places["loaders"] or loader is places["frozen"]
    return type(facts["name"]) is str and facts["name"] == name and known


def hide_ours():
    # Without us the application's sitecustomize would stand there, or none. Nothing does while it is looked for.
    current = modules.get("sitecustomize")
    if current is state["ours"]:
        del modules["sitecustomize"]
    if current is not None:
        state["ours"] = None


def is_lazy(spec, module):
    # importlib.util.LazyLoader makes the module now and runs it at the first use of an attribute, if ever.
    known = contents_of(modules.get("importlib.util")).get("LazyLoader")
    loader = spec.__dict__["loader"] if type(spec) is places["spec"] else None
    if known is None or type(loader) is not known:
        return False
    real = loader.__dict__["loader"]
    if type(real) not in places["loaders"]:
        return False
    run = real.exec_module

    def exec_module(module):
        guard(real.__dict__.pop, "exec_module", None)
        guard(note_module, spec, module)
        return run(module)

    own_code.add(exec_module.__code__)
    real.exec_module = exec_module
    return True


def note_end():
    note_main()
    # A script that imported nothing: the interpreter has forgotten its file by now.
    words = contents_of(sys).get("argv")
    first = words[0] if type(words) is list and words else None
    if not state["main"] and type(first) is str and first not in ("", "-", "-c", "-m"):
        note_program("__main__", first)
    if state["lost"] and state["pid"] == getpid():
        report(b"PE", "", "")


def at_end():
    guard(note_end)


def wrap_init_module_attrs(original):
    def _init_module_attrs(spec, module, **options):
        result = original(spec, module, **options)
        guard(loaded, spec, module)
        return result

    return _init_module_attrs


def wrap_load_backward_compatible(original):
    def _load_backward_compatible(spec):
        # Before it runs, as what is interrupted would never be told then; after it a spec that tells nothing by itself.
        guard(loaded, spec, None)
        module = original(spec)
        guard(note_module, spec, module)
        return module

    return _load_backward_compatible


def replace(system, name, wrap):
    original = getattr(system, name, None)
    if original is None:
        return
    wrapped = wrap(original)
    wrapped.__doc__, wrapped.__qualname__ = original.__doc__, name
    own_code.add(wrapped.__code__)
    setattr(system, name, wrapped)


def is_main_interpreter():
    # Its start alone brings this module; later it works in the main interpreter only.
    set_wakeup = contents_of(modules.get("_signal")).get("set_wakeup_fd")
    if set_wakeup is None:
        return False
    try:
        before = set_wakeup(-1)
    except ValueError as error:
        if not is_ours(error):
            raise
        return False
    if before != -1:
        set_wakeup(before)
    return True


def start(ours):
    import _frozen_importlib as system

    version = "%s %s" % (sys.implementation.name, ".".join(map(str, sys.version_info[:3])))
    if not hasattr(system, "_init_module_attrs"):
        raise RuntimeError("the import system of %s is not known" % version)
    places["spec"] = system.ModuleSpec
    files = contents_of(modules.get("_frozen_importlib_external"))
    names = "SourceFileLoader", "SourcelessFileLoader", "ExtensionFileLoader"
    places["loaders"] = tuple(map(files.get, names))
    places["frozen"] = system.FrozenImporter
    # From here on nothing is missed; what came before stands in sys.modules. This function and not module_from_spec,
    # of which importlib.util has a copy if a .pth file has imported that before.
    replace(system, "_init_module_attrs", wrap_init_module_attrs)
    # Loaders of the old kind; gone in newer interpreters.
    replace(system, "_load_backward_compatible", wrap_load_backward_compatible)
    report(b"PH", version, sys.executable or "")
    if "runpy" in modules:
        watch_runpy(modules["runpy"])
    watch_code()
    for module in list(modules.values()):
        spec = contents_of(module).get("__spec__")
        if spec is not None and module is not ours:
            note_module(spec, module)
    # What is left in a subinterpreter at the end must not run, as CPython's exit code can change by it.
    if "atexit" in sys.builtin_module_names and is_main_interpreter():
        ours_alone = "atexit" not in modules
        import atexit

        atexit.register(at_end)
        if ours_alone:
            # Not to be seen; before Python 3.10 the callbacks go with the module.
            places["atexit"] = modules.pop("atexit")


def remove_bytecode(ours):
    # Written for our sitecustomize where the application set PYTHONPYCACHEPREFIX.
    cached = getattr(ours, "__cached__", None)
    if not cached or not getattr(sys, "pycache_prefix", None):
        return
    try:
        posix.unlink(cached)
        while True:
            cached = cached.rpartition("/")[0]
            if not cached.startswith(sys.pycache_prefix.rstrip("/") + "/"):
                return
            posix.rmdir(cached)
    except OSError as error:
        # Not there, or a directory that others use.
        if not is_ours(error):
            raise


def install(own, ours):
    base = own.rpartition("/")[0]
    places["reports"], places["losses"], places["refused"] = base + "/reports", base + "/losses", base + "/refused-P"
    for value in list(modules["builtins"].__dict__.values()):
        if type(value) is type and issubclass(value, Exception):
            builtin_errors.add(value)
    try:
        places["started"] = getcwd()
    except OSError as error:
        if not is_ours(error):
            raise
        places["started"] = ""
    guard(start, ours)
    state["ours"] = ours
    guard(remove_bytecode, ours)


own_code.update((Run.__new__.__code__, RunpyLoader.__init__.__code__, RunpyLoader.exec_module.__code__))
for _value in list(globals().values()):
    if type(_value) is type(install):
        own_code.add(_value.__code__)
