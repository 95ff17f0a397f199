"""A judge of the user's own at a URL, asked only where a suite names it: `{use: endpoint, url: ...}`.

It is asked by POST with the request that `bench/workers/packages.py` describes, and answers with the same answer. Only
the host of the URL is contacted: redirects are not followed and no proxy is asked. A judge may change behind its URL,
so a suite may say its `version`, which is part of the digest; an answer that says another one is no answer.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from dataclasses import replace
from typing import Any
from urllib.parse import SplitResult, urlsplit

from bench.errors import UserError
from bench.metrics.base import MetricEntry
from bench.metrics.outside import LONGEST, PROTOCOL, Broken, Outside, Refused, parsed, plain
from bench.registry import add_plugin

TRIES = 3
CONNECTING = 10.0
"""Seconds for a connection at most: whoever is there takes it long before an answer is ready."""
PAUSE = 0.5
"""Seconds before the second try; before the third twice as long."""
_LATER = (429, 502, 503, 504)
"""Statuses that ask to come again."""


class Endpoint(Outside):
    """Asks a judge for scores of images, or preferences of pairs."""

    def __init__(self, url: SplitResult, version: str, timeout: float | None, *, pairs: bool) -> None:
        super().__init__(timeout, pairs=pairs)
        self.url, self.version = url, version

    def ask(self, request: dict[str, Any], seconds: float) -> Any:
        body = json.dumps(request).encode()
        for again in range(TRIES):
            if again:
                time.sleep(PAUSE * 2 ** (again - 1))
            status, said = self._post(body, seconds)
            if status not in _LATER:
                break
        if status != 200:
            # 4xx: this request is at fault, as far as the judge can tell; the next one may not be.
            kind = Refused if 400 <= status < 500 and status != 429 else Broken
            raise kind(f"the judge at {self.url.netloc}: {said.decode()}")
        answer = self._answer(said)
        answered = answer.get("version", self.version) if isinstance(answer, dict) else self.version
        if self.version and answered != self.version:
            raise Broken(
                f"the judge at {self.url.netloc} is of version {plain(answered)!r}; the suite says {self.version!r}"
            )
        return answer

    def _answer(self, said: bytes) -> Any:
        try:
            return parsed(said)
        except Broken as error:
            raise Broken(f"the judge at {self.url.netloc}: {error}") from None

    def _post(self, body: bytes, seconds: float) -> tuple[int, bytes]:
        """(status, the answer's body, or for another status than 200 a line); 503 where the host is unreachable."""
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        assert self.url.hostname
        connection = kind(self.url.hostname, self.url.port, timeout=min(seconds, CONNECTING))
        until = time.monotonic() + seconds
        try:
            try:
                connection.connect()
                connection.sock.settimeout(seconds)
            except OSError as error:
                return 503, f"it cannot be reached ({plain(error.strerror or error)})".encode()
            target = (self.url.path or "/") + (f"?{self.url.query}" if self.url.query else "")
            connection.request("POST", target, body, {"Content-Type": "application/json", "Accept": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                return answer.status, f"it answered with status {answer.status}".encode()
            return 200, _read(answer, connection, until)
        except TimeoutError:
            raise Broken(f"the judge at {self.url.netloc}: no answer within {seconds:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"the judge at {self.url.netloc}: {type(error).__name__}: {plain(error)}") from None
        finally:
            connection.close()


def _read(answer: http.client.HTTPResponse, connection: http.client.HTTPConnection, until: float) -> bytes:
    """The body; TimeoutError where it is not whole in time, however steadily it trickles."""
    found = bytearray()
    while part := answer.read1(65536):
        found += part
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if len(found) > LONGEST:
            raise http.client.HTTPException(f"an answer longer than {LONGEST} bytes")
        if connection.sock is not None:
            connection.sock.settimeout(left)
    declared = answer.headers.get("Content-Length")
    if declared and declared.isdecimal() and len(found) < int(declared):
        raise http.client.HTTPException("an answer that was cut off")
    return bytes(found)


def checked(url: str, name: str) -> SplitResult:
    """A URL's parts; UserError where it is none of http or https in plain ASCII, or carries a password."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        (parts.hostname or "").encode("idna")  # what looks its address up would raise where it is none
    except ValueError:
        whole = False
    if not whole or not all("!" <= c <= "~" for c in url):
        raise UserError(f"metric {name!r}: url {url!r}: expected one such as http://127.0.0.1:8000/score")
    if parts.username or parts.password or parts.fragment:
        raise UserError(f"metric {name!r}: url: expected one without user, password and fragment, for a run keeps it")
    return parts


def _asked(row: MetricEntry, url: str, version: str, timeout: float | None) -> MetricEntry:
    parts = checked(url, row.name)
    identity = hashlib.sha256(json.dumps([parts.geturl(), version]).encode()).hexdigest()[:16]

    def load(device: str) -> Endpoint:
        return Endpoint(parts, version, timeout, pairs=row.kind == "pair")

    return replace(row, load=load, identify=lambda: f"{row.name}-{PROTOCOL}:{identity}", fetch=None)


def _registered(row: MetricEntry) -> None:
    def unnamed(*_: Any) -> Any:
        raise UserError(f"metric {row.name!r} needs a judge: {{use: {row.name}, url: http://127.0.0.1:PORT/...}}")

    entry = replace(
        row, load=unnamed, fetch=unnamed, asked=lambda url, version, timeout: _asked(row, url, version, timeout)
    )
    add_plugin("metrics", row.name, entry, "bench")


for _name, _unit, _about, _more in (
    ("endpoint", "the scorer's own", "scores of a judge at a URL of yours", {}),
    (
        "endpoint-pairs",
        "preferred",
        "preferences of a judge of pairs at a URL of yours",
        {"kind": "pair", "both_orders": True},
    ),
):
    _registered(
        MetricEntry(
            _name,
            title="Judge at a URL" if not _more else "Judge of pairs at a URL",
            unit=_unit,
            load=None,
            identify=lambda name=_name: f"{name}-unnamed",  # type: ignore[misc]
            about=_about,
            license="the scorer's own",
            blind_to="not known here: its owner must say",
            unfit_for="methods chosen or tuned by the same judge, or by what it is made of, which is not known here",
            **_more,  # type: ignore[arg-type]
        )
    )
