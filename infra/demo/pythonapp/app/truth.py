"""What this process has really loaded, told by the interpreter and the kernel: the demo's check compares with it.

It must never import anything but the standard library, or it would change what it tells.
"""
import os
import sys
from importlib import metadata


def modules():
    """Loaded modules that come from a distribution: {"modules": {name: {"file", "distribution"}}, "process_id"}."""
    owners = {}
    for distribution in metadata.distributions():
        for file in distribution.files or []:
            owners[os.path.realpath(distribution.locate_file(file))] = distribution.metadata["Name"]
    found = {}
    for name, module in list(sys.modules.items()):
        for file in {getattr(module, "__file__", None), getattr(module, "__cached__", None)} - {None}:
            owner = owners.get(os.path.realpath(file))
            if owner:
                found[name] = {"file": file, "distribution": owner}
    return {"modules": found, "process_id": os.getpid()}


def maps():
    with open("/proc/self/maps", encoding="utf-8") as file:
        return file.read()
