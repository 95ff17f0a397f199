"""`bench serve` shows the site's tables of runs as they are now, and whether a run works, was stopped, or ended."""

from __future__ import annotations

import fcntl
import re
from pathlib import Path
from typing import Any

import pytest
from handmade import image
from small_boards import published

from bench.serve.listing import Folder, local

flask = pytest.importorskip("flask")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        published(tmp_path / name)
    published(tmp_path / "half", images=lambda spot: image() if spot.index < 6 else None, finished=False)
    return tmp_path


@pytest.fixture
def client(runs: Path) -> Any:
    from bench.serve.app import make_app

    return make_app(runs).test_client()


def test_the_leaderboard_is_live_and_leads_to_each_run(client: Any, runs: Path) -> None:
    response = client.get("/leaderboard")
    page = response.get_data(as_text=True)
    assert "/run/one/report.html" in page
    assert "/run/three/report.html" not in page
    published(runs / "three", gain=3.0)
    page = client.get("/leaderboard").get_data(as_text=True)
    assert "/run/three/report.html" in page
    assert "+2.25" in page, "18 of 24 prompts gain 3"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    hashes = re.findall(r"'sha256-[^']+'", policy)
    assert len(hashes) == 2, "both scripts by their digests, and no other"


def test_any_two_runs_stand_side_by_side(client: Any) -> None:
    page = client.get("/beside").get_data(as_text=True)
    assert page.count("<option") == 2 * 3
    assert 'id="runs-data"' in page


def test_a_run_that_works_one_that_was_stopped_and_one_that_ended_are_distinguished(runs: Path) -> None:
    folder = Folder(runs)
    states = {run.name: run for run in folder.runs()}
    assert (states["one"].state, states["one"].running) == ("finished", False)
    assert states["half"].state.startswith("stopped before its end: 18 of 72 images")
    with open(runs / "half" / "lock", "a+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        (half,) = [run for run in folder.runs() if run.name == "half"]
        assert half.running
        assert half.state == "running: 18 of 72 images"
    (half,) = [run for run in folder.runs() if run.name == "half"]
    assert not half.running, "the kernel lets go when a process dies"


def test_times_are_those_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        assert local("2026-11-28T04:20:45+00:00") == "2026-11-28 10:05:45 UTC+0545"
        assert local("yesterday") == "yesterday"
    finally:
        monkeypatch.undo()
        time.tzset()
