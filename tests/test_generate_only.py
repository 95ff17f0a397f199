"""`run --generate-only` stops at the images; a plain run, or `score RUN` where they were taken to, continues."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import LIMIT, Bench, Plug, Run
from facts import missing

from bench import registry
from bench.store import Ledger


@pytest.fixture(scope="module")
def generated(tiny: Path, finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    from conftest import call

    home = tmp_path_factory.mktemp("generated")
    run = Run(tiny, home / "runs", finished.cache, home / "runs" / finished.folder.name)
    done = call(*run.arguments(), "--generate-only")
    assert done.code == 0, done.err
    assert f"images: {run.folder / 'images'}" in done.out
    assert f"python -m bench score {run.folder}" in done.out
    return run


def test_images_are_there_chosen_ones_too_and_no_scores_of_the_suite(generated: Run, finished: Run) -> None:
    assert len(generated.rows("SELECT 1 FROM cells JOIN images USING (job_id)")) == 4 * LIMIT
    assert generated.rows("SELECT DISTINCT metric FROM scores") == [("shapes-geneval",)], "it chose among candidates"
    assert not (generated.folder / "results.json").exists()
    pixels = "SELECT method, prompt_index, digest FROM cells JOIN images USING (job_id) ORDER BY 1, 2"
    assert generated.rows(pixels) == finished.rows(pixels)


def test_score_elsewhere_gives_what_a_whole_run_gives(
    bench: Bench, generated: Run, finished: Run, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    shutil.copytree(generated.folder, taken)
    done = bench("score", taken)
    assert done.code == 0, done.err
    found = json.loads((taken / "results.json").read_text())
    whole = finished.results()
    for key in ("comparisons", "tasks", "controls"):
        assert found[key] == whole[key]


def test_a_plain_run_continues_with_scoring(bench: Bench, generated: Run, finished: Run, tmp_path: Path) -> None:
    run = generated.copy(tmp_path)
    done = bench(*run.arguments())
    assert done.code == 0, done.err
    assert "generate" not in done.err, "every image is there"
    assert run.results()["comparisons"] == finished.results()["comparisons"]
    again = bench(*run.arguments(), "--generate-only")
    assert again.code == 0
    assert "(all made before)" in again.out
    assert "finished before; nothing to do" in bench(*run.arguments()).err, "the finished run is still finished"


def test_scorers_may_be_missing_where_images_are_made(
    bench: Bench, tiny: Path, finished: Run, tmp_path: Path, plug: Plug
) -> None:
    from dataclasses import replace

    entry = registry.get("metrics", "shapes-clipscore")
    plug("metrics", **{"shapes-clipscore": replace(entry, load=None)})
    run = Run(tiny, tmp_path / "runs", finished.cache, tmp_path / "runs" / finished.folder.name)
    assert bench(*run.arguments()).code == 2
    assert bench(*run.arguments(), "--generate-only").code == 0


def test_a_methods_reward_may_not_be_missing(bench: Bench, tiny: Path, tmp_path: Path, plug: Plug) -> None:
    from bench.methods.base import Method

    class Rewarded(Method):
        metric: registry.MetricName

    plug("methods", rewarded=Rewarded)
    arguments = [
        "--set",
        "methods=[standard, {use: rewarded, metric: hpsv2}]",
        "--set",
        "controls={}",
        "--set",
        "gates=[]",
    ]
    done = bench("run", tiny, "--generate-only", "--runs", tmp_path / "runs", *arguments)
    assert done.code == 2
    assert "metric hpsv2" in done.error


def test_there_is_nothing_to_gate(bench: Bench, generated: Run) -> None:
    done = bench(*generated.arguments(), "--generate-only", "--gate")
    assert done.code == 2
    assert missing(done.error, "--generate-only", "--gate", "--baseline", "nothing to judge") == []


def test_a_run_that_was_scored_before_keeps_its_report(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run = finished.copy(tmp_path)
    before = (run.folder / "report.md").read_text()
    assert bench(*run.arguments(), "--generate-only").code == 0
    assert (run.folder / "report.md").read_text() == before
    assert Ledger(run.folder, read_only=True).get("finished")
