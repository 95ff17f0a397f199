"""A small local web page over a folder of runs: read-only, and on this machine only."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from bench.errors import UserError

HOST = "127.0.0.1"
"""The only address it listens on: nothing here asks who is looking."""


def serve(runs: Path, *, port: int) -> int:
    """Show `runs` until Ctrl-C; returns the exit code.

    That is 0: Ctrl-C is how one ends a server, nothing is cut short by it (130 is for work that was). Raises UserError
    for a folder that is not there, a port that cannot be had, and where Flask is not installed.
    """
    if not runs.is_dir():
        raise UserError(f"{runs}: no such folder; expected a folder of runs, such as the one that `bench run` made")
    try:
        from werkzeug.serving import WSGIRequestHandler, make_server

        from bench.serve.app import make_app
    except ModuleNotFoundError as error:
        if error.name not in ("flask", "werkzeug"):
            raise
        raise UserError("serve needs Flask, which is not installed; pip install flask") from error

    class Quiet(WSGIRequestHandler):
        """Without a line for every image on the terminal."""

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    with _listening(port) as listener:
        found = listener.getsockname()[1]
        server = make_server(HOST, found, make_app(runs), threaded=True, request_handler=Quiet, fd=listener.fileno())
        print(f"http://{HOST}:{found}/ shows {runs}: read-only, on this machine only; Ctrl-C ends it", flush=True)
        server.serve_forever()  # until Ctrl-C, which it takes for its end
    return 0


def _listening(port: int) -> socket.socket:
    """A socket bound here rather than by the server, which would leave the program by itself on an error."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port}: expected a port from 1 to 65535, or 0 for any that is free")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        why = {errno.EADDRINUSE: "in use by another program", errno.EACCES: "not allowed for this user"}
        raise UserError(
            f"--port {port}: {why.get(error.errno or 0, error.strerror)}; give another port, or 0 for any that is free"
        ) from error
    return listener
