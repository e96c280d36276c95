"""Starts the demo's web application on PORT (environment or --port), loopback only.

It never starts a second process or a reloader, so that one process is all there is to observe.
"""
import argparse
import os
import threading

from werkzeug.serving import make_server

from app import create

if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")))
    stop = threading.Event()
    server = make_server("127.0.0.1", arguments.parse_args().port, create(stop), threaded=True)
    # At the end it waits for answers under way.
    server.daemon_threads = False
    print(f"serving on http://127.0.0.1:{server.port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stop.wait()
    server.shutdown()
    server.server_close()
