"""A small web application that shows code snippets. Some of its packages load only when a page needs them."""
import importlib
import os
import subprocess
import time

import yaml
from flask import Flask, Response, jsonify, render_template, request

from . import truth

HERE = os.path.dirname(os.path.abspath(__file__))


def create(stop):
    app = Flask(__name__)
    with open(os.path.join(HERE, "..", "config.yaml"), encoding="utf-8") as file:
        config = yaml.safe_load(file)
    snippets = {snippet["name"]: snippet["code"] for snippet in config["snippets"]}

    @app.route("/health")
    def health():
        return "ok"

    @app.route("/")
    def index():
        return render_template("index.html", title=config["title"], names=sorted(snippets))

    @app.route("/snippets/<name>")
    def snippet(name):
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer

        if name not in snippets:
            return "no such snippet", 404
        return highlight(snippets[name], PythonLexer(), HtmlFormatter(style=config["style"], full=True))

    @app.route("/self-check")
    def self_check():
        import requests

        answer = requests.get(request.host_url + "health", timeout=5)
        return jsonify(status=answer.status_code, body=answer.text)

    @app.route("/thumbnail")
    def thumbnail():
        """Loads a package with shared libraries of its own, and says when it began to."""
        began_ms = time.time() * 1000
        image = importlib.import_module("PIL.Image")
        size = image.new("RGB", (64, 64), "navy").resize((16, 16)).size
        return jsonify(began_ms=began_ms, loaded_ms=time.time() * 1000, size=size)

    @app.route("/uptime")
    def uptime():
        """Executes a program of the operating system."""
        program = "/usr/bin/date"
        output = subprocess.run([program, "+%s"], check=True, capture_output=True, text=True).stdout
        return jsonify(program=program, now=int(output))

    @app.route("/modules")
    def modules():
        return jsonify(truth.modules())

    @app.route("/maps")
    def maps():
        return Response(truth.maps(), mimetype="text/plain")

    @app.route("/quit", methods=["POST"])
    def quit_():
        stop.set()
        return "stopping"

    return app
