"""A run that is killed at any moment resumes where it was, to the same images and the same scores."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run, call
from fork_server import Forked

pytestmark = pytest.mark.slow

OPTIONS = ("--limit", 6, "--batch-size", 1, "--device", "cpu", "--no-cache", "--set", "steps=8")
"""18 images one by one, long enough to be killed among them."""

Counts = tuple[int, int, int]
"""Images made, images chosen and scores in a ledger."""


def counts(runs: Path) -> Counts:
    """What a ledger that another process writes holds now."""
    for path in runs.glob("*/ledger.sqlite"):
        try:
            db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
            try:
                row: Counts = db.execute(
                    "SELECT (SELECT COUNT(*) FROM images WHERE chosen_from IS NULL), "
                    "(SELECT COUNT(*) FROM images WHERE chosen_from IS NOT NULL), (SELECT COUNT(*) FROM scores)"
                ).fetchone()
                return row
            finally:
                db.close()
        except sqlite3.OperationalError:
            pass  # the tables are not there yet
    return 0, 0, 0


def start(suite: Path, runs: Path) -> Forked:
    return Forked(["run", suite, "--runs", runs, *OPTIONS], runs.parent / f"{runs.name}-said-{time.monotonic_ns()}")


def stop(process: Forked, runs: Path, when: Callable[[Counts], bool], with_: signal.Signals) -> tuple[int, Counts]:
    """Send a signal as soon as the ledger looks so; returns the exit code, and how it looked when it had ended."""
    deadline = time.monotonic() + 120
    while not when(counts(runs)):
        assert process.poll() is None, f"it ended before the moment came: {process.err}"
        assert time.monotonic() < deadline, f"the moment never came: {counts(runs)}"
        time.sleep(0.002)
    return process.kill(with_), counts(runs)


@pytest.fixture(scope="module")
def uninterrupted(tiny: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Run:
    runs = tmp_path_factory.mktemp("uninterrupted")
    done = call("run", tiny, "--runs", runs, *OPTIONS)
    assert done.code == 0, done.err
    (folder,) = [p for p in runs.iterdir() if p.is_dir()]
    return Run(tiny, runs, runs, folder)


def same(run: Run, other: Run) -> None:
    """The same jobs, images, choices and scores, none of them twice, and nothing left lying about."""
    for query in (
        "SELECT job_id, digest, file, chosen_from, calls_noise, calls_sampling, latent_digest FROM images ORDER BY 1",
        "SELECT * FROM cells ORDER BY 1, 7, 8",
        "SELECT digest, prompt, metric, scorer, value, detail FROM scores ORDER BY 1, 2, 3, 4",
    ):
        assert run.rows(query) == other.rows(query)
    files = {p.name for p in (run.folder / "images").iterdir()}
    assert files == {f"{j}.png" for (j,) in run.rows("SELECT job_id FROM images WHERE chosen_from IS NULL")}
    assert not [p for p in run.folder.rglob("*") if p.name.endswith(".tmp")]
    ours, theirs = run.results(), other.results()
    assert ours["comparisons"] == theirs["comparisons"]
    assert ours["run"]["finished"] is True


def test_a_run_killed_again_and_again_ends_as_one_that_was_left_alone(
    tiny: Path, tmp_path: Path, uninterrupted: Run
) -> None:
    """Killed after its first image, while candidates are judged, and while the arms are scored."""
    moments: list[Callable[[Counts], bool]] = [
        lambda c: c[0] >= 1,
        lambda c: c[0] == 18 and c[2] == 0,
        lambda c: c[2] >= 1,
    ]
    images = -1
    for moment in moments:
        process = start(tiny, tmp_path)
        code, (made, _, scores) = stop(process, tmp_path, moment, signal.SIGKILL)
        assert code == -signal.SIGKILL
        assert made >= max(images, 1), "what was finished is kept"
        images = made
    assert images == 18
    total = uninterrupted.rows("SELECT COUNT(*) FROM scores")[0][0]
    assert 0 < scores < total, "the last kill came before the scores were complete"
    (folder,) = [p for p in tmp_path.iterdir() if p.is_dir()]
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "images").iterdir()}
    done = call("run", tiny, "--runs", tmp_path, *OPTIONS)
    assert done.code == 0, done.err
    assert "generate:" not in done.err, "all images were there"
    assert {p.name: p.stat().st_mtime_ns for p in (folder / "images").iterdir()} == before
    run = Run(tiny, tmp_path, tmp_path, folder)
    same(run, uninterrupted)
    assert run.results()["run"]["sessions"] == 4


def test_a_run_interrupted_half_way_says_so_in_one_line_and_resumes(
    tiny: Path, tmp_path: Path, uninterrupted: Run
) -> None:
    process = start(tiny, tmp_path)
    code, (made, _, _) = stop(process, tmp_path, lambda c: c[0] >= 9, signal.SIGINT)
    err = process.err
    assert code == 130
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if not line.startswith("generate: ")]
    assert said == ["interrupted; what is finished is kept, run the same command again to resume"]
    assert 9 <= made < 18
    done = call("run", tiny, "--runs", tmp_path, *OPTIONS)
    assert done.code == 0, done.err
    assert f"generate: {18 - made}/{18 - made}" in done.err
    (folder,) = [p for p in tmp_path.iterdir() if p.is_dir()]
    same(Run(tiny, tmp_path, tmp_path, folder), uninterrupted)
