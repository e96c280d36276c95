import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "tool"))
import six  # noqa: E402

assert six.__version__ == "1.15.0"
if os.environ.get("TRUTH"):
    with open(os.environ["TRUTH"], "a") as file:
        file.write(six.__spec__.origin + "\n")
