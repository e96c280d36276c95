"""Reports the files of imported modules to Plimsoll, then runs the application's own sitecustomize.

It must never change what the application does: whatever fails here is silent, nothing is imported for it that
the interpreter had not loaded already, and no bytecode is written.
"""
import os
import sys


def _plimsoll_install():
    fifo = os.environ.get("PLIMSOLL_HOOK_FIFO")
    if not fifo or not hasattr(sys, "addaudithook"):  # before Python 3.8
        return
    own = os.path.dirname(os.path.abspath(__file__))
    seen = set()
    state = [0, False]  # reports lost; inside the hook
    fsencode, getpid, path_isabs = os.fsencode, os.getpid, os.path.isabs
    os_open, os_write, os_close = os.open, os.write, os.close
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC

    def report(name, path):
        # A fork has the same modules: reported once per program is enough.
        if path in seen or path.startswith(own) or not path_isabs(path):
            return
        seen.add(path)
        payload = name.encode("utf-8", "replace") + b"\0" + fsencode(path)
        record = b"M %d %d %d\n%s" % (getpid(), state[0], len(payload), payload)
        if len(record) > 4096:  # more than a FIFO takes in one piece
            state[0] += 1
            return
        try:
            # Opened anew each time: programs that become daemons close what they do not know.
            descriptor = os_open(fifo, flags)
            try:
                os_write(descriptor, record)
            finally:
                os_close(descriptor)
        except OSError:
            state[0] += 1

    def hook(event, arguments):
        # "exec": the code of a module is about to run; "import" with a file: an extension is about to load.
        if event != "exec" and event != "import":
            return
        if state[1]:
            return
        state[1] = True
        try:
            if event == "exec":
                code = arguments[0]
                if getattr(code, "co_name", None) == "<module>":
                    report("", code.co_filename)
            elif arguments[1] is not None:
                report(arguments[0] or "", arguments[1])
        except BaseException:
            pass
        finally:
            state[1] = False

    # What start-up loaded before us: encodings, site, and what .pth files import.
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and getattr(spec, "has_location", False) and isinstance(spec.origin, str):
            report(name, spec.origin)
    sys.addaudithook(hook)


def _plimsoll_chain():
    """The application's own sitecustomize, further along the path."""
    own = os.path.dirname(os.path.abspath(__file__))
    ours = sys.modules.pop(__name__, None)
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != own]
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        if "sitecustomize" not in sys.modules and ours is not None:
            sys.modules["sitecustomize"] = ours


try:
    _plimsoll_install()
except BaseException:
    pass
_plimsoll_chain()
