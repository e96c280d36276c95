"""Starts Plimsoll's import hook, then runs the application's own sitecustomize as if this one were not there.

It must never change what the application does or says: whatever fails in the hook is silent here.
"""
import sys


def _plimsoll_start(own):
    import posix  # built into the interpreter

    descriptor = posix.open(own + "/import_hook.py", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        source = posix.read(descriptor, 1 << 20)
    finally:
        posix.close(descriptor)
    # The name of the frozen import system: its frames are left out of tracebacks and of the levels of warnings, and
    # so are the hook's.
    code = compile(source, "<frozen importlib._bootstrap>", "exec", dont_inherit=True)
    namespace = {"__name__": "_frozen_importlib", "__builtins__": __builtins__}
    exec(code, namespace)
    namespace["install"](own, sys.modules.get(__name__))


def _plimsoll_chain(own):
    ours = sys.modules.pop(__name__, None)
    sys.path[:] = [entry for entry in sys.path if entry.rstrip("/") != own]
    sys.path_importer_cache.pop(own, None)
    try:
        # The next along the path; its errors are those of any sitecustomize.
        import sitecustomize  # noqa: F401
    except ImportError as error:
        # Python 2 comes here too, where an error has no name; it is not observed.
        if getattr(error, "name", "sitecustomize") != "sitecustomize":
            raise
    finally:
        # The import system wants to find what it is loading; the hook removes ours at the next import.
        if ours is not None:
            sys.modules.setdefault(__name__, ours)


_plimsoll_own = __file__.rpartition("/")[0]
try:
    _plimsoll_start(_plimsoll_own)
except Exception as _plimsoll_error:
    # The agent sees an interpreter that never said hello. What comes from outside (a .pth file can have set a timer) is
    # of another class, or has no words.
    if type(_plimsoll_error).__module__ not in ("builtins", "exceptions") or not _plimsoll_error.args:
        raise
_plimsoll_chain(_plimsoll_own)
