"""A hub of models and data sets on 127.0.0.1: folders in the layout of huggingface.co, for readers of HF_ENDPOINT."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pytest

DIRECT = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


@dataclass
class Hub:
    """Repositories `owner/name` as folders below `home`; each has one commit."""

    home: Path
    url: str = ""
    commit: str = "0123456789abcdef0123456789abcdef01234567"
    branch: str = "main"
    """The branch whose head the commit is."""
    asked: list[str] = field(default_factory=list)
    """Paths of the files that were sent, as `owner/name/file`."""
    sent: int = 0
    """Bytes of files that were sent."""
    gated: set[str] = field(default_factory=set)
    """Repositories `owner/name` whose files are not given."""
    cuts: dict[str, list[int]] = field(default_factory=dict)
    """By file, after how many bytes a connection is dropped: the first number in the first reply, and so on."""
    slow: dict[str, list[float]] = field(default_factory=dict)
    """By file, seconds before a reply, likewise."""
    lies: set[str] = field(default_factory=set)
    """Files that are sent with other content than the listing and the headers say."""
    statuses: dict[str, list[int]] = field(default_factory=dict)
    """By file, the status of a reply that has nothing else, likewise."""

    def environment(self, cache: Path) -> dict[str, str]:
        """Of a program that is to use this hub and keep its downloads in `cache`."""
        offline = {name: "0" for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
        served = {"HF_ENDPOINT": self.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1"}
        return {**offline, **served, **DIRECT}

    @contextmanager
    def used(self, cache: Path, *, offline: bool = False) -> Iterator[None]:
        """Within, this process uses this hub and keeps its downloads in `cache`; a new one imports for ten seconds.

        What huggingface_hub reads from `environment` at its import are these constants, and its functions' endpoint.
        """
        from huggingface_hub import close_session, constants, hf_api

        place = "/{repo_id}/resolve/{revision}/{filename}"
        known: dict[str, Any] = {"ENDPOINT": self.url, "HUGGINGFACE_CO_URL_TEMPLATE": self.url + place}
        known |= {"HF_HUB_CACHE": str(cache / "hub"), "HF_TOKEN_PATH": str(cache / "token")}
        known |= {"HF_HUB_OFFLINE": offline, "HF_HUB_DISABLE_TELEMETRY": True}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in known.items():
                patch.setattr(constants, name, value)
            patch.setattr(hf_api.api, "endpoint", self.url)
            for name, value in DIRECT.items():
                patch.setenv(name, value)
            close_session()  # its client has the proxies of its time
            yield
        close_session()


@contextmanager
def serving(home: Path) -> Iterator[Hub]:
    """A hub of the folders in `home` while the block runs."""
    hub = Hub(home)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            _answer(self, hub, body=False)

        def do_GET(self) -> None:
            _answer(self, hub, body=True)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, hub: Hub, *, body: bool) -> None:
    """One request: what a repository holds, or one of its files."""
    path, _, query = handler.path.partition("?")
    parts = unquote(path).strip("/").split("/")
    if parts == [""]:
        _send(handler, hub, b"the hub's first page", body=body)
        return
    if parts[0] == "datasets":
        parts = parts[1:]
    if parts[:2] in (["api", "models"], ["api", "datasets"]):
        owner, name, *rest = parts[2:]
        deep = "recursive=false" not in query.lower()
        known = not (hub.home / owner / name).is_dir() or rest[1:2] in ([], [hub.commit], [hub.branch])
        code = "RepoNotFound" if known else "RevisionNotFound"
        _send(handler, hub, _described(hub, hub.home / owner / name, rest, deep=deep), body=body, code=code)
        return
    owner, name, _, revision, *inside = parts
    file = hub.home.joinpath(owner, name, *inside)
    if revision not in (hub.commit, hub.branch):
        _send(handler, hub, None, body=body, code="RevisionNotFound")
    elif not file.is_file():
        _send(handler, hub, None, body=body, code="EntryNotFound")
    elif f"{owner}/{name}" in hub.gated:
        _refuse(handler, 401, "GatedRepo")
    else:
        path = "/".join((owner, name, *inside))
        if seconds := _next(hub.slow, path, body):
            time.sleep(seconds)
        if status := _next(hub.statuses, path, body):
            _refuse(handler, int(status), "")
            return
        if body:
            hub.asked.append(path)
        _send(handler, hub, file.read_bytes(), body=body, path=path)


def _large(path: Path) -> dict[str, Any]:
    """What the hub's listing says of a file of weights besides: its sha256."""
    if path.suffix in (".json", ".txt"):
        return {}
    content = path.read_bytes()
    return {"lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}}


def _next(faults: dict[str, list[Any]], path: str, body: bool) -> Any:
    """What is to go wrong with this reply; only replies that have content count."""
    return faults[path].pop(0) if body and faults.get(path) else None


def _refuse(handler: BaseHTTPRequestHandler, status: int, code: str) -> None:
    handler.send_response(status)
    if code:
        handler.send_header("X-Error-Code", code)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _described(hub: Hub, folder: Path, rest: list[str], *, deep: bool) -> bytes | None:
    """`/revision/COMMIT` or `/tree/COMMIT[/FOLDER]` of a repository, as JSON; None for what is not there."""
    if not folder.is_dir() or rest[1:2] not in ([], [hub.commit], [hub.branch]):
        return None
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    names = [p.relative_to(folder).as_posix() for p in files]
    if rest[:1] == ["tree"]:
        within = folder.joinpath(*rest[2:])
        inside = within.rglob("*") if deep else within.glob("*")
        found = sorted(p for p in inside if p.is_file()) if within.is_dir() else []
        rows: list[dict[str, Any]] = [
            {
                "type": "file",
                "path": p.relative_to(folder).as_posix(),
                "size": p.stat().st_size,
                "oid": hashlib.sha1(p.read_bytes()).hexdigest(),
                **_large(p),
            }
            for p in found
        ]
        if not deep:
            folders = sorted(p for p in within.glob("*") if p.is_dir())
            rows += [{"type": "directory", "path": p.relative_to(folder).as_posix(), "oid": "0" * 40} for p in folders]
        return json.dumps(rows).encode()
    name = folder.relative_to(hub.home).as_posix()
    facts = {"id": name, "modelId": name, "sha": hub.commit, "private": False, "tags": [], "downloads": 0}
    return json.dumps(facts | {"siblings": [{"rfilename": n} for n in names]}).encode()


def _send(
    handler: BaseHTTPRequestHandler,
    hub: Hub,
    content: bytes | None,
    *,
    body: bool,
    code: str = "RepoNotFound",
    path: str = "",
) -> None:
    first = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0] or 0)
    handler.send_response(404 if content is None else 206 if first else 200)
    handler.send_header("X-Repo-Commit", hub.commit)
    if content is None:
        handler.send_header("X-Error-Code", code)
        content = b""
    handler.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
    if first:
        handler.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
    handler.send_header("Accept-Ranges", "bytes")
    handler.send_header("Content-Length", str(len(content) - first))
    handler.end_headers()
    if not body:
        return
    if path in hub.lies:
        content = content.translate(bytes(range(255, -1, -1)))
    cut = _next(hub.cuts, path, body)
    sent = content[first:] if cut is None else content[first : first + cut]
    hub.sent += len(sent) if path else 0
    handler.wfile.write(sent)
    if cut is not None:
        handler.wfile.flush()
        handler.close_connection = True
        handler.connection.shutdown(2)
