# Reports each module that the import system loads to Plimsoll's FIFO. For Python 3.6 and newer.
#
# It must never raise, print, import anything that the interpreter has not built in, write bytecode, or wait. It stands
# where the import system has made a module from its spec and is about to run it: it costs nothing at any other time.
#
# A report is one write of at most PIPE_BUF bytes, which a FIFO takes whole or not at all:
#     0x1E kind ' ' pid ' ' lost ' ' flags ' ' name-bytes ' ' path-bytes '\n' name path
# kind: PH = the hook is at work (name: version of the interpreter), PM = a module was loaded, PN = a namespace package
# (path: one of its directories), PF = the hook failed (name: why).
# flags: '-', or 't' when the path did not fit and is cut.
import posix
import sys

REPORT_MAX_BYTES = 4096
HEAD_MAX_BYTES = 128
NAME_MAX_BYTES = 512
NAMESPACE_MAX_DIRECTORIES = 16
FAILURES_MAX = 3

FRAME = type(sys._getframe())
state = {"lost": 0, "pid": 0, "failures": 0, "main": False, "ours": None}
reported = set()
own_code = set()
places = {}

# Taken now: an application may replace functions of these modules.
PATH_ENCODING = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
getpid, getcwd = posix.getpid, posix.getcwd
open_file, write, close = posix.open, posix.write, posix.close
FIFO_FLAGS = posix.O_RDWR | posix.O_NONBLOCK | posix.O_CLOEXEC
FILE_FLAGS = posix.O_WRONLY | posix.O_APPEND | posix.O_CLOEXEC


def write_once(place, flags, record):
    descriptor = open_file(places[place], flags)
    try:
        return write(descriptor, record) == len(record)
    finally:
        close(descriptor)


def lose():
    # One byte per lost report: what a process that ends now could tell no more.
    try:
        if write_once("losses", FILE_FLAGS, b"P"):
            return
    except OSError:
        pass
    state["lost"] += 1


def report(kind, name, path):
    pid = getpid()
    if pid != state["pid"]:
        # A fork: its parent tells what was lost before.
        state["pid"], state["lost"] = pid, 0
    name, path = name.encode("utf-8", "replace")[:NAME_MAX_BYTES], path.encode(*PATH_ENCODING)
    room = REPORT_MAX_BYTES - HEAD_MAX_BYTES - len(name)
    flags = b"-"
    if len(path) > room:
        path, flags = path[:room], b"t"
    lost = state["lost"]
    record = b"\x1e%s %d %d %s %d %d\n%s%s" % (kind, pid, lost, flags, len(name), len(path), name, path)
    try:
        # For reading too: a FIFO without a reader would answer with SIGPIPE when the agent dies just now.
        if not write_once("reports", FIFO_FLAGS, record):
            lose()
            return
    except OSError:
        lose()
        return
    state["lost"] -= lost


def absolute(path):
    if path[:1] == "/":
        return path
    return getcwd() + "/" + path


def note_path(kind, name, path):
    if not isinstance(path, str) or not path:
        return
    path = absolute(path)
    if (name, path) not in reported:
        reported.add((name, path))
        report(kind, name, path)


def facts_of(spec):
    # A spec may be of any class of the application: its errors are not ours, and not the application's either.
    try:
        name, origin = spec.name, spec.origin
        located, places_of = spec.has_location, spec.submodule_search_locations
        return str(name), origin, located, None if places_of is None else list(places_of)
    except Exception:
        return None


def note_spec(spec):
    facts = facts_of(spec)
    if facts is None:
        return
    name, origin, located, directories = facts
    if located:
        note_path(b"PM", name, origin)
    elif directories and origin in (None, "namespace"):
        for directory in directories[:NAMESPACE_MAX_DIRECTORIES]:
            note_path(b"PN", name, directory)
    # Else it is built in or frozen: no file was read for it.


def note_main():
    # The program itself is no import: its file is known once it runs.
    main = sys.modules.get("__main__")
    found = getattr(main, "__dict__", None)
    path = found.get("__file__") if isinstance(found, dict) else None
    if not isinstance(path, str) or not path:
        return
    spec = found.get("__spec__")
    facts = facts_of(spec) if spec is not None else None
    note_program(facts[0] if facts else "__main__", path)


def note_program(name, path):
    state["main"] = True
    # Python before 3.9 keeps the path as it was given: relative to where the program started.
    note_path(b"PM", name, path if path[:1] == "/" else places["started"] + "/" + path)


def guard(work, argument):
    # Runs a piece of the hook: errors of ours end here, what a signal's handler raised goes on to the application.
    try:
        work(argument)
    except Exception as error:
        if from_signal(error.__traceback__):
            raise
        try:
            failed(error)
        except Exception:
            pass


def from_signal(trace):
    # The first frame that is not ours: a handler has the interrupted frame among its arguments.
    while trace is not None and trace.tb_frame.f_code in own_code:
        trace = trace.tb_next
    if trace is None:
        return False
    frame = trace.tb_frame
    names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
    return any(isinstance(frame.f_locals.get(name), FRAME) for name in names)


def failed(error):
    if state["failures"] < FAILURES_MAX:
        state["failures"] += 1
        trace = error.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        report(b"PF", "%s: %s (line %d)" % (type(error).__name__, error, trace.tb_lineno), "")


def loaded(spec):
    if state["ours"] is not None:
        hide_ours()
    if not state["main"]:
        note_main()
    if not is_lazy(spec):
        note_spec(spec)


def hide_ours():
    # Without us the application's sitecustomize would stand there, or none. Nothing does while it is looked for.
    current = sys.modules.get("sitecustomize")
    if current is state["ours"]:
        del sys.modules["sitecustomize"]
    if current is not None:
        state["ours"] = None


def is_lazy(spec):
    # importlib.util.LazyLoader makes the module now and runs it at the first use of an attribute, if ever.
    loader = getattr(spec, "loader", None)
    kind = type(loader)
    if kind.__name__ != "LazyLoader" or kind.__module__ != "importlib.util":
        return False
    real = loader.loader
    run = real.exec_module

    def exec_module(module):
        guard(forget, real)
        guard(note_spec, spec)
        return run(module)

    own_code.add(exec_module.__code__)
    real.exec_module = exec_module
    return True


def forget(loader):
    loader.__dict__.pop("exec_module", None)


def note_end(_):
    if not state["main"]:
        note_main()
    # A script that imported nothing: the interpreter has forgotten its file by now.
    if not state["main"] and "/" + sys.argv[0] not in ("/", "/-", "/-c", "/-m"):
        note_program("__main__", sys.argv[0])


def at_end():
    guard(note_end, None)


def wrap_init_module_attrs(original):
    def _init_module_attrs(spec, module, **options):
        result = original(spec, module, **options)
        guard(loaded, spec)
        return result

    return _init_module_attrs


def wrap_load_backward_compatible(original):
    def _load_backward_compatible(spec):
        module = original(spec)
        guard(loaded, spec)
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


def start(ours):
    import _frozen_importlib as system

    version = "%s %s" % (sys.implementation.name, ".".join(str(part) for part in sys.version_info[:3]))
    if not hasattr(system, "_init_module_attrs"):
        raise RuntimeError("the import system of %s is not known" % version)
    # From here on nothing is missed; what came before stands in sys.modules. This function and not module_from_spec,
    # of which importlib.util has a copy if a .pth file has imported that before.
    replace(system, "_init_module_attrs", wrap_init_module_attrs)
    # Loaders of the old kind; gone in newer interpreters.
    replace(system, "_load_backward_compatible", wrap_load_backward_compatible)
    report(b"PH", version, sys.executable or "")
    for module in list(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and module is not ours:
            note_spec(spec)
    if "atexit" in sys.builtin_module_names:
        ours_alone = "atexit" not in sys.modules
        import atexit

        atexit.register(at_end)
        if ours_alone:
            # Not to be seen; before Python 3.10 the callbacks go with the module.
            places["atexit"] = sys.modules.pop("atexit")


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
    except OSError:
        # Not there, or a directory that others use.
        pass


def install(own, ours):
    base = own.rpartition("/")[0]
    places["reports"], places["losses"] = base + "/reports", base + "/losses"
    try:
        places["started"] = getcwd()
    except OSError:
        places["started"] = ""
    guard(start, ours)
    state["ours"] = ours
    guard(remove_bytecode, ours)


for _value in list(globals().values()):
    if type(_value) is type(install):
        own_code.add(_value.__code__)
