"""A judge at a URL: asked only where it is named, never another host, and distrusted as a worker is."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import call
from facts import missing
from suite_texts import TWO_ARMS, suite_text, write_suite
from worker_program import score

from bench import registry, suite
from bench.errors import UserError
from bench.metrics import endpoint
from bench.metrics.base import MetricEntry
from bench.prompts.base import Prompt
from bench.store import Ledger

IMAGES = [np.full((8, width, 3), 7, np.uint8) for width in range(10, 22)]


class Judge(BaseHTTPRequestHandler):
    """Scores as the worker of the tests does, and misbehaves as a prompt says."""

    seen: list[Any]
    failing: list[int]

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, request))
        if self.failing:
            self.send_error(self.failing.pop())
            return
        (special, *_) = [*(p for p in request["prompts"] if p != "ok"), "ok"]
        if special.isdecimal():
            self.send_response(int(special))
            self.send_header("Location", "http://elsewhere.invalid/")
            self.end_headers()
            return
        if special == "hang":
            time.sleep(1.5)
            return
        if special == "close":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        answer: dict[str, Any] = {"protocol": 1, "id": request["id"]}
        if "baseline" in request:
            # The share of the image's width in both, so that the order of the two makes no difference.
            both = [[float(score(x, "ok")) for x in request[key]] for key in ("images", "baseline")]  # type: ignore
            answer["scores"] = [a / (a + b) for a, b in zip(*both, strict=True)]
        else:
            answer["scores"] = [score(x, p) for x, p in zip(request["images"], request["prompts"], strict=True)]
        if special == "huge":
            answer["scores"] = [10**400]
        if special == "beyond":
            answer["scores"] = [1.5]
        if special == "version":
            answer["version"] = "v2"
        if special == "short":
            answer["scores"] = answer["scores"][1:]
        body = b"<html>" if special == "garbage" else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + (9 if special == "cut" else 0)))
        self.end_headers()
        if special == "trickle":
            for _ in range(20):
                self.wfile.write(body[:1])
                time.sleep(0.1)
            return
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A judge on loopback: its URL, what it was asked, and statuses that it gives before it answers."""
    handler = type("Handler", (Judge,), {"seen": [], "failing": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(endpoint, "PAUSE", 0.01)
    yield f"http://127.0.0.1:{server.server_port}/score?by=width", handler
    server.shutdown()
    server.server_close()


def named(url: str, name: str = "endpoint", **more: Any) -> MetricEntry:
    entry: MetricEntry = registry.get("metrics", name).configured(None, "fp32", url=url, **more)
    return entry


def scored(entry: MetricEntry, *texts: str) -> list[Any]:
    prompts = [Prompt(i, text) for i, text in enumerate(texts)]
    return [v.reason or v.value for v in entry.scorer("cpu").score(IMAGES[: len(texts)], prompts)]


def test_it_is_asked_at_its_url_for_a_few_at_once(judge: Any) -> None:
    url, handler = judge
    assert scored(named(url), *["ok"] * 12) == [n / 100 for n in range(10, 22)]
    assert [path for path, _ in handler.seen] == ["/score?by=width"] * 2
    assert [len(request["images"]) for _, request in handler.seen] == [8, 4]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("400", "the judge at HOST: it answered with status 400"),
        ("302", "the judge at HOST: it answered with status 302"),
        ("500", "the judge at HOST: it answered with status 500"),
        ("503", "the judge at HOST: it answered with status 503"),
        ("hang", "the judge at HOST: no answer within 0.4 s"),
        ("trickle", "the judge at HOST: no answer within 0.4 s"),
        ("close", "the judge at HOST: RemoteDisconnected: Remote end closed connection without response"),
        ("garbage", "the judge at HOST: an answer that is no JSON: b'<html>'"),
        ("cut", "the judge at HOST: HTTPException: an answer that was cut off"),
        ("version", "the judge at HOST is of version 'v2'; the suite says 'v1'"),
        ("short", "0 scores for 1 image"),
        ("nan", "its score is not finite (nan)"),
        ("null", "no score was given"),
        ("huge", "its score is larger than any number here"),
    ],
)
def test_what_is_wrong_with_an_answer_costs_that_score(judge: Any, prompt: str, reason: str) -> None:
    url, _ = judge
    host = url.split("/")[2]
    patient = 0.4 if prompt in ("hang", "trickle") else None
    found = scored(named(url, version="v1", timeout=patient), "ok", prompt, "ok")
    assert found == [0.10, reason.replace("HOST", host), 0.12]


def test_a_busy_judge_is_asked_again_and_not_for_ever(judge: Any) -> None:
    url, handler = judge
    handler.failing[:] = [503, 429]
    assert scored(named(url), "ok") == [0.10]
    assert len(handler.seen) == 3
    handler.failing[:] = [503] * 100
    found = scored(named(url), *["ok"] * 12)
    assert len(handler.seen) == 3 + endpoint.TRIES * 4, "one request of eight, three of one, and then none"
    assert all("status 503" in reason for reason in found)


def test_a_judge_that_is_not_there_is_a_reason(judge: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (reason,) = scored(named(f"http://127.0.0.1:{port}/"), "ok")
    assert missing(reason, f"127.0.0.1:{port}", "Connection refused") == []


def test_no_proxy_is_asked(judge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert scored(named(judge[0]), "ok") == [0.10]


def test_pairs_are_judged_in_both_orders_or_marked_failed(judge: Any) -> None:
    url, handler = judge
    scorer: Any = named(url, "endpoint-pairs").loaded("cpu")
    prompts = [Prompt(0, "ok"), Prompt(1, "beyond"), Prompt(2, "nan")]
    found = scorer.score_pairs(IMAGES[:3], IMAGES[3:6], prompts)
    assert found[0].value == pytest.approx(13 / 23)
    assert missing(found[1].reason, "1.5", "expected 0 to 1") == []
    assert registry.get("metrics", "endpoint-pairs").both_orders
    assert all(len(r["images"]) == len(r["baseline"]) == len(r["prompts"]) for _, r in handler.seen)


def test_the_digest_follows_url_and_version(judge: Any) -> None:
    url, _ = judge
    first = named(url).digest()
    assert first == named(url, timeout=3.0).digest()
    assert len({first, named(url, version="2").digest(), named(url + "&x=1").digest()}) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("use: endpoint", "needs the url"),
        ("use: endpoint, url: ftp://127.0.0.1/", "expected one such as http://127.0.0.1:8000/score"),
        ("use: endpoint, url: 'http://'", "expected one such as http://127.0.0.1:8000/score"),
        ("use: endpoint, url: 'http://127.0.0.1:99999/'", "expected one such as http://127.0.0.1:8000/score"),
        ("use: endpoint, url: 'http://a..b/'", "expected one such as http://127.0.0.1:8000/score"),
        ("use: endpoint, url: 'http://127.0.0.1/sch\u00f6n'", "expected one such as http://127.0.0.1:8000/score"),
        ("use: endpoint, url: 'http://me:secret@127.0.0.1/'", "expected one without user, password and fragment"),
        ("use: endpoint, url: 'http://127.0.0.1/', dtype: fp16", "takes url, version and timeout"),
    ],
)
def test_a_url_that_is_none_is_reported_at_its_line(settings: str, said: str) -> None:
    text = suite_text(TWO_ARMS, metrics=None) + f"metrics:\n  - {{{settings}}}\n"
    with pytest.raises(UserError) as caught:
        suite.parse(text, file="judged.yaml")
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_run_asks_both_and_tells_of_one_that_needs_a_url(judge: Any, tmp_path: Path, one_thread: None) -> None:
    url, handler = judge
    pairs_judge, arms = {"use": "endpoint-pairs", "url": url}, {"steps": 2, "methods": ["standard", "reseed"]}
    judges = [{"use": "endpoint", "url": url}, pairs_judge]
    file = write_suite(tmp_path / "judged.yaml", TWO_ARMS, **arms, metrics=judges)
    options = ("--limit", 2, "--runs", tmp_path / "runs", "--no-cache", "--device", "cpu")
    assert call("plan", file, "--limit", 2).code == 0
    assert not handler.seen, "a plan asks no judge"
    done = call("run", file, *options)
    assert done.code == 0, done.err
    (run,) = (p for p in (tmp_path / "runs").iterdir() if p.is_dir())
    ledger = Ledger(run, read_only=True)
    values = {value for (value,) in ledger.db.execute("SELECT value FROM scores WHERE metric = 'endpoint'")}
    pairs = [value for (value,) in ledger.db.execute("SELECT value FROM pair_scores")]
    ledger.close()
    assert values == {0.64}, "images of 64 pixels"
    assert pairs == [0.5, 0.5]
    write_suite(file, TWO_ARMS, **arms, metrics=["endpoint", pairs_judge])
    done = call("run", file, *options)
    assert done.code == 2
    assert "needs a judge: {use: endpoint, url: http://127.0.0.1:PORT/...}" in done.error
    done = call("score", run, "--metric", f"endpoint={url}", "--device", "cpu")
    assert done.code == 0, done.err
