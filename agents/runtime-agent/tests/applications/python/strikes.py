"""Exceptions from outside strike the import hook; each must arrive here. Prints what did not."""
import ctypes
import functools
import os
import signal
import sys
import threading
import types

import _frozen_importlib as system

wrapped = system._init_module_attrs
hook = wrapped.__globals__
own = hook["own_code"]
ident = ctypes.c_ulong(threading.get_ident())
counter = [0]


class Boom(Exception):
    def __init__(self):
        super().__init__("with words")


def one(name):
    spec = system.ModuleSpec(name, None, origin="/strikes/" + name)
    spec._set_fileattr = True
    return spec, types.ModuleType(name)


def free():
    number = os.open("/dev/null", os.O_RDONLY)
    os.close(number)
    return number


def at_opcode(kind, strike, name):
    """Raises at that instruction of the hook. `None`: it has fewer."""
    seen = [0]

    def on_opcode(frame, event, argument):
        if event == "opcode":
            seen[0] += 1
            if seen[0] == strike:
                sys.settrace(None)
                raise OSError(5, "of a handler") if kind is OSError else kind()
        return on_opcode

    def on_call(frame, event, argument):
        if frame.f_code in own:
            frame.f_trace_opcodes = True
            return on_opcode

    caught = None
    try:
        sys.settrace(on_call)
        wrapped(*one(name))
    except BaseException as error:
        caught = type(error)
    finally:
        sys.settrace(None)
    if seen[0] < strike:
        return None
    # The application tries again.
    wrapped(*one(name))
    return caught is kind


def every_opcode():
    reports, first = hook["places"]["reports"], free()
    for place in ("taken", "refused"):
        if place == "refused":
            hook["places"]["reports"] = "/nonexistent/reports"
        for kind in (OSError, Boom, KeyboardInterrupt):
            strike = 1
            while True:
                arrived = at_opcode(kind, strike, "%s.%s.%d" % (place, kind.__name__, strike))
                if arrived is None:
                    break
                if not arrived:
                    print("swallowed", place, kind.__name__, strike)
                strike += 1
                if free() != first:
                    print("a descriptor stays open", place, kind.__name__, strike)
                    os.closerange(first, first + 4)
            if strike < 100:
                print("hardly struck", place, kind.__name__, strike)
    hook["places"]["reports"] = reports


def timers():
    kinds = [TimeoutError, OSError, RuntimeError, KeyboardInterrupt]

    def handler(number, *more):
        counter[0] += 1
        raise kinds[counter[0] % len(kinds)](5, "told")

    signal.signal(signal.SIGALRM, handler)
    caught, number, first = 0, 0, free()
    for rounds in range(400):
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + rounds % 30))
            while True:
                number += 1
                wrapped(*one("timer%d" % number))
                if counter[0] > caught:
                    break
        except BaseException as error:
            assert error.args == (5, "told"), error
            caught += 1
    if (caught, free()) != (400, first):
        print("of 400 arrived", caught, "and descriptors stayed open", free() - first)


def asynchronous():
    first = free()
    for name in ("getpid", "write"):
        real = hook[name]
        for kind in (TimeoutError, OSError, ValueError, Boom, KeyboardInterrupt):
            raise_it = ctypes.pythonapi.PyThreadState_SetAsyncExc
            hook[name] = functools.partial(raise_it, ident, ctypes.py_object(kind))
            try:
                wrapped(*one("asynchronous.%s.%s" % (name, kind.__name__)))
                for _ in range(100):
                    pass
            except kind:
                pass
            else:
                print("swallowed", name, kind.__name__)
            hook[name] = real
    if free() != first:
        print("descriptors stay open")


if (3, 7) <= sys.version_info < (3, 12):
    every_opcode()
timers()
asynchronous()
print("done")
