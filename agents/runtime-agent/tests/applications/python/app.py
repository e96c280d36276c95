# The application under test. With TRUTH it also writes which files sys.modules has at the end.
import atexit
import os
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))


def tell():
    import sys

    lines = []
    for module in list(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and spec.has_location and spec.origin:
            lines.append(spec.origin)
    with open(os.environ["TRUTH"], "a") as file:
        file.write("\n".join(lines) + "\n")


if os.environ.get("TRUTH"):
    atexit.register(tell)

import flask  # noqa: E402: brings werkzeug, jinja2, markupsafe (a shared object), click, itsdangerous, blinker
import importlib.metadata  # noqa: E402
import importlib.util  # noqa: E402
import yaml  # noqa: E402

PACKAGES = os.path.join(HERE, "packages")
# Never loaded: read as data, read as metadata, listed, stat'ed, looked for.
open(os.path.join(PACKAGES, "pytz/zoneinfo/UTC"), "rb").read()
assert importlib.metadata.version("attrs")
len(importlib.metadata.distribution("attrs").files)
os.listdir(os.path.join(PACKAGES, "tabulate-0.9.0.dist-info"))
os.stat(os.path.join(PACKAGES, "pluggy/__init__.py"))
importlib.util.find_spec("toml")

app = flask.Flask(__name__)


@app.route("/")
def page():
    import dateutil.parser  # late, and brings six

    return flask.render_template_string("{{ year }}", year=dateutil.parser.parse("2020-01-01").year)


answer = app.test_client().get("/").text
thread = threading.Thread(target=lambda: __import__("requests"))  # brings urllib3, idna, certifi, charset_normalizer
thread.start()
thread.join()
import subprocess  # noqa: E402

# A process of its own, with another six.
subprocess.check_call([sys.executable, os.path.join(HERE, "tool.py")])
print(answer, yaml.safe_load("a: 1")["a"])
