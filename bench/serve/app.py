"""The pages as a Flask application: GET and HEAD only, loopback names only, nothing but the runs' own files."""

from __future__ import annotations

import sys
import traceback
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, abort, request, send_file
from werkzeug.exceptions import HTTPException

from bench.analysis.compare import compare
from bench.analysis.pairing import Source
from bench.errors import BenchError, NotComparable, UserError, masked
from bench.report import comparison, pages
from bench.serve.listing import Folder
from bench.serve.pairs import Wanted, page
from bench.site import layout
from bench.site.board import boards
from bench.site.sources import Shown
from bench.store import inside

_PAGE = "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; form-action 'self'"
_REPORT = (
    # A report is a file that someone may have sent: its scripts run in an origin of their own, which can read no other
    # page from here, and can load nothing but the images beside it.
    "default-src 'none'; img-src 'self' data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "form-action 'none'; sandbox allow-scripts allow-downloads"
)
_NAV = [("/", "All runs"), ("/leaderboard", "Leaderboard"), ("/beside", "Two runs side by side")]
LONGEST = 4096
"""Characters of an address: two runs of the longest names and a search have room, and SQLite takes such a pattern."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def make_app(root: Path) -> Flask:
    """The application over a folder of runs; it opens ledgers read-only and writes nothing."""
    app = Flask("bench.serve", static_folder=None)
    # Names that can only mean this machine: a foreign name that resolves to 127.0.0.1 (DNS rebinding) is refused.
    app.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost"]
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    runs = Folder(root)

    @app.before_request
    def admit() -> None:
        # Werkzeug compares a Host with the trusted ones only where the request has one.
        if not request.headers.get("Host"):
            abort(400, "no Host is named; expected 127.0.0.1 or localhost")
        if len(request.full_path) > LONGEST:
            abort(414, f"an address of {len(request.full_path)} characters; expected at most {LONGEST}")

    @app.get("/")
    def index() -> str:
        return _render("index.html.j2", title="Runs", root=str(root), runs=runs.runs())

    @app.get("/leaderboard")
    def leaderboard() -> Response:
        shown = runs.shown()
        tables, head = boards(shown.runs), "Leaderboard"
        return _scripted(layout.leaderboard(shown.runs, tables, shown.faults, title=head, nav=_NAV, links=_links))

    @app.get("/beside")
    def side_by_side() -> Response:
        return _scripted(layout.side_by_side(runs.shown().runs, [], nav=_NAV))

    @app.get("/run/<name>/")
    def pairs(name: str) -> str:
        wanted = Wanted(
            prompts=request.args.get("prompts", ""),
            method=request.args.get("method", ""),
            setting=_whole("setting"),
            text=request.args.get("text", ""),
            page=_whole("page") or 1,
        )
        return _render("pairs.html.j2", title=name, name=name, found=page(runs.folder(name), wanted))

    @app.get("/run/<name>/report.html")
    def report(name: str) -> Response:
        file = inside(runs.folder(name), "report.html")
        if not file.is_file():
            raise UserError(f"{name} has no report.html yet; it is written when the run ends, or by `bench report`")
        found = send_file(file, mimetype="text/html", conditional=True)
        found.headers["Content-Security-Policy"] = _REPORT
        return found

    @app.get("/run/<name>/images/<job_id>.png")
    def image(name: str, job_id: str) -> Response:
        folder = runs.folder(name)
        with Source(folder) as run:
            name_there = run.ledger.file(job_id)
        file = inside(folder, name_there) if name_there is not None else None
        if file is None or file.suffix != ".png" or not file.is_file():
            abort(404, "no such image: it is not made yet, or its file was deleted")
        found = send_file(file, mimetype="image/png", conditional=True)
        # The report's own origin (see _REPORT) is another one than this page's.
        found.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return found

    @app.get("/compare")
    def compared() -> str:
        names = [request.args.get(side, "") for side in ("a", "b")]
        if not all(names):
            raise UserError("two runs are needed to compare; pick an A and a B in the list")
        a, b = map(runs.folder, names)
        found = runs.kept(("compare", *names), [a, b], lambda: compare(a, b))
        return _render("compared.html.j2", **comparison.page(found))

    @app.get("/favicon.ico")
    def icon() -> Response:
        # Browsers ask for one on every site, from the report's own origin too.
        return Response(status=204, headers={"Cross-Origin-Resource-Policy": "cross-origin"})

    @app.after_request
    def guard(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", f"{_PAGE}; base-uri 'none'; frame-ancestors 'none'")
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.errorhandler(Exception)
    def failed(error: Exception) -> tuple[str, int]:
        return _failed(error)

    return app


def _links(run: Shown) -> dict[str, str]:
    home = f"/run/{quote(run.place.parent.absolute().name, safe='')}"
    return {"page": f"{home}/report.html", "All pairs": f"{home}/", "Report": f"{home}/report.html"}


def _scripted(text: str) -> Response:
    """A page with the site's own scripts, which load nothing."""
    found = Response(text.encode("utf-8", "replace"), mimetype="text/html")
    allowed = " ".join(script.policy for script in layout.scripts())
    found.headers["Content-Security-Policy"] = (
        f"default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    return found


def _failed(error: Exception) -> tuple[str, int]:
    """One line, as on the terminal; only an internal error leaves a traceback there."""
    if isinstance(error, HTTPException):
        code, said = error.code or 500, error.description or error.name
    elif isinstance(error, BenchError):
        code = 409 if isinstance(error, NotComparable) else 404 if isinstance(error, UserError) else 500
        said = str(error)
    else:
        print(masked("".join(traceback.format_exception(error))), end="", file=sys.stderr)
        code, said = 500, f"internal error ({type(error).__name__}); the terminal has the details"
    return _render("error.html.j2", title="That did not work", said=said), code


def _whole(name: str) -> int | None:
    """A whole number of the address; one that is none is as good as not given."""
    return request.args.get(name, type=int)


def _render(template: str, **context: Any) -> str:
    text: str = _templates().get_template(template).render(browser=None, **context)
    # A prompt may hold half a surrogate pair, which UTF-8 cannot.
    return text.encode("utf-8", "replace").decode()


@cache
def _templates() -> Any:
    environment = pages.environment("bench.serve")
    environment.globals["zip"] = zip
    environment.filters["enumerate"] = enumerate
    return environment
