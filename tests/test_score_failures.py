"""A score that is not a number is marked with its reason; all others are given, and the exit code says so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, Run, call

from bench import registry
from bench.metrics.base import MetricEntry, Value
from bench.store import Ledger

pytestmark = pytest.mark.usefixtures("one_thread")
SUITE = """\
name: unscored
models: [shapes-sdxl]
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 2
baseline: standard
methods: [standard, reseed, {use: best_of_n, name: best_of_2, n: 2, selection_metric: shaky}]
metrics: [shaky, preferred, shapes-clipscore]
"""
FIRST = [""]
"""The first prompt's text."""
SOUND = [False]
"""Whether the scorers have been mended."""


class Shaky:
    """The mean brightness, but not a number for one prompt; of pairs, a tie but for that prompt."""

    def score(self, images: Any, prompts: Any) -> list[Value]:
        return [Value(bad(p) if bad(p) else float(i.mean())) for i, p in zip(images, prompts, strict=True)]

    def score_pairs(self, baseline_images: Any, method_images: Any, prompts: Any) -> list[Value]:
        return [Value(math.nan if bad(p) else 0.5) for p in prompts]


def bad(prompt: Any) -> float:
    return math.inf if prompt.text == FIRST[0] and not SOUND[0] else 0.0


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Iterator[tuple[Run, Done, Done]]:
    """A run in which scores fail, how it ended, and how `score` ended on it."""
    home = tmp_path_factory.mktemp("unscored")
    suite = home / "unscored.yaml"
    suite.write_text(SUITE)
    FIRST[0] = registry.get("prompts", "shapes-pickapic").read()[0].text
    shaky = MetricEntry("shaky", "Shaky", "levels", lambda device: Shaky(), lambda: "shaky-1")
    pair = MetricEntry("preferred", "Preferred", "p", lambda device: Shaky(), lambda: "preferred-1", kind="pair")
    with registry.configured("metrics", {"shaky": shaky, "preferred": pair}):
        command = ("run", suite, "--limit", 3, "--runs", home / "runs", "--no-cache", "--device", "cpu")
        done = call(*command)
        (folder,) = [p for p in (home / "runs").iterdir() if p.is_dir()]
        again = call("score", folder, "--metric", "shaky", "--device", "cpu")
        yield Run(suite, home / "runs", home / "cache", folder), done, again


def test_the_scores_that_failed_are_counted_and_the_exit_code_says_so(ran: tuple[Run, Done, Done]) -> None:
    _, done, again = ran
    assert (done.code, again.code) == (3, 3), done.err
    lines = [line for line in done.err.splitlines() if line.startswith("failed: ")]
    why = "its score is not finite"
    assert lines == [
        f"failed: 1 images of best_of_2; the first: shapes-pickapic 0, seed 0: candidate 1 of 2, shaky: {why} (inf)",
        f"failed: 2 scores of shaky; the first: shapes-pickapic 0, seed 0, standard: {why} (inf)",
        f"failed: 1 scores of preferred; the first: shapes-pickapic 0, seed 0, reseed: {why} (nan)",
    ]
    assert "failed: 2 scores of shaky" in again.err
    assert "Traceback" not in done.err + again.err


def test_all_other_scores_are_there_and_nothing_is_averaged_over_fewer(ran: tuple[Run, Done, Done]) -> None:
    run, _, _ = ran
    found = run.results()
    arms = {a["method"]: a for a in found["arms"] if a["prompts"] == "*"}
    assert arms["standard"]["metrics"]["shapes-clipscore"]["n"] == 3
    assert arms["standard"]["metrics"]["shaky"]["n"] == 2
    assert arms["standard"]["complete"] is False
    assert all(row["p_holm"] is None for row in found["comparisons"] if row["metric"] == "shaky")
    assert any(note.startswith("2 scores of Shaky failed; the first: ") for note in found["notes"])
    assert "2 scores of Shaky failed" in (run.folder / "report.md").read_text()


def test_a_scorer_that_was_fixed_is_asked_again_and_the_run_is_whole(ran: tuple[Run, Done, Done]) -> None:
    run, _, _ = ran
    SOUND[0] = True
    done = call("run", run.suite, "--limit", 3, "--runs", run.runs, "--no-cache", "--device", "cpu")
    assert done.code == 0, done.err
    assert "failed:" not in done.err
    assert run.results()["run"]["finished"] is True
    ledger = Ledger(run.folder, read_only=True)
    assert not list(ledger.db.execute("SELECT * FROM score_failures"))
    ledger.close()


def test_an_older_ledger_is_read_with_its_own_tables(ran: tuple[Run, Done, Done], tmp_path: Path) -> None:
    """A table that it lacks is taken as empty, and those that it has are not hidden by empty ones."""
    run, _, _ = ran
    ledger = Ledger(run.folder)
    before = ledger.db.execute("SELECT COUNT(*) FROM pair_scores").fetchone()
    assert before[0]
    ledger.db.execute("DROP TABLE score_failures")
    ledger.close()
    ledger = Ledger(run.folder, read_only=True)
    assert ledger.db.execute("SELECT COUNT(*) FROM pair_scores").fetchone() == before
    assert ledger.db.execute("SELECT COUNT(*) FROM score_failures").fetchone() == (0,)
    ledger.close()
