"""Options that narrow a run, and its gates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from arm_rows import arm
from conftest import LIMIT, TINY, Bench, Run, call

# Options --------------------------------------------------------------------------------------------------------------


def test_limit_method_metric_and_set_narrow_a_run(finished: Run, tmp_path: Path) -> None:
    options = ("--method", "reseed", "--metric", "shapes-clipscore", "--set", "steps=3", "--set", "seeds=[5, 6]")
    done = call("run", finished.suite, "--limit", 2, *options, "--runs", tmp_path, "--device", "cpu", "--batch-size", 3)
    assert done.code == 0, done.err
    (folder,) = [p for p in tmp_path.iterdir() if p.is_dir()]
    results = json.loads((folder / "results.json").read_text())
    pooled = [a for a in results["arms"] if a["prompts"] == "*"]
    assert {a["method"] for a in pooled} == {"standard", "reseed"}
    for row in pooled:
        assert (row["steps"], row["n"], set(row["metrics"])) == (3, 4, {"shapes-clipscore"})
        assert row["cost"]["calls_total"] == 3
    assert {p["seed"] for p in results["pairs"]} == {5, 6}


def test_a_chosen_metric_need_not_be_reported(finished: Run, tmp_path: Path) -> None:
    """--metric leaves the oracle's own metric out of the tables, and it still chooses by it."""
    copy = finished.copy(tmp_path)
    options = ("--metric", "shapes-clipscore", "--method", "best_of_2")
    done = call("run", copy.suite, "--limit", LIMIT, *options, "--runs", tmp_path / "more", "--cache", finished.cache)
    assert done.code == 0, done.err
    (folder,) = [p for p in (tmp_path / "more").iterdir() if p.is_dir()]
    best = arm(json.loads((folder / "results.json").read_text()), "best_of_2")
    assert best["complete"]
    assert best["metrics"] == {"shapes-clipscore": arm(finished.results(), "best_of_2")["metrics"]["shapes-clipscore"]}


def test_a_plan_counts_what_a_run_then_makes(finished: Run, tmp_path: Path) -> None:
    options = ("--limit", LIMIT, "--runs", tmp_path)
    fresh = call("plan", finished.suite, *options, "--cache", tmp_path / "empty").out
    assert f"images:         {3 * LIMIT} to have, 0 of them in the cache" in fresh
    assert f"choices:        {LIMIT} images" in fresh
    assert f"denoiser calls: {LIMIT * (4 + 4 + 6)} still to make" in fresh
    known = call("plan", finished.suite, *options, "--cache", finished.cache).out
    assert f"{3 * LIMIT} of them in the cache" in known
    assert "denoiser calls: 0 still to make" in known
    assert list(tmp_path.iterdir()) == []
    made = finished.rows("SELECT SUM(calls_noise + calls_sampling), COUNT(*) FROM images WHERE chosen_from IS NULL")
    assert made == [(LIMIT * (4 + 4 + 6), 3 * LIMIT)]


def test_export_writes_tables_beside_the_run(bench: Bench, finished: Run, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    copy = finished.copy(tmp_path)
    done = bench("export", copy.folder)
    assert done.code == 0, done.err
    files = [Path(line) for line in done.out.splitlines()]
    assert len(files) == 22  # eleven tables, each as CSV and as Parquet
    assert all(f.is_file() and f.parent == copy.folder / "export" for f in files)
    assert (copy.folder / "export" / "images.csv").read_text().count("\n") == 4 * LIMIT + 1


# Gates ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "code", "word"),
    [
        ("{metric: calls, method: inversion, ratio: 1.6}", 0, "ok: "),
        ("{metric: calls, method: inversion, ratio: 1.4}", 1, "FAILED: "),
        ("{metric: shapes-clipscore, method: inversion, delta: -3.0}", 0, "inconclusive: "),  # few prompts and no range
        ("{metric: shapes-clipscore, method: inversion, delta: 3.0}", 1, "FAILED: "),
        (None, 3, "error: "),
    ],
)
def test_gates_end_with_their_exit_code(finished: Run, tmp_path: Path, gate: str | None, code: int, word: str) -> None:
    """(4 + 2) calls against 4 are a ratio of 1.5; a CLIPScore lies between 0 and 2.5.

    Gates decide no result, so each of these suites finds the finished run; and `gate` then asks for the gates of now.
    """
    copy = finished.copy(tmp_path)
    gated = tmp_path / "gated.yaml"
    gated.write_text(TINY + (f"gates:\n  - {gate}\n" if gate else ""))
    again = Run(gated, copy.runs, copy.cache, copy.folder)
    done = call(*again.arguments(*(["--gate"] if gate else [])))
    assert "nothing to do" in done.err
    assert done.code == (code if gate else 0), done.err
    done = call("gate", copy.folder, "--junit", tmp_path / "junit.xml", "--markdown", tmp_path / "verdicts.md")
    assert done.code == code, done.err
    assert (done.out + done.err).startswith(word)
    if gate:
        assert "testcase" in (tmp_path / "junit.xml").read_text()
        assert "inversion" in (tmp_path / "verdicts.md").read_text()


def test_a_single_pair_is_nothing_that_a_gate_can_compare(finished: Run, tmp_path: Path) -> None:
    gated = tmp_path / "gated.yaml"
    gated.write_text(TINY + "gates:\n  - {metric: shapes-clipscore, method: inversion, delta: -3.0}\n")
    done = call(
        *("run", gated, "--limit", 1, "--runs", tmp_path / "runs", "--cache", finished.cache, "--gate"),
        *("--metric", "shapes-clipscore", "--method", "inversion"),
    )
    assert done.code == 3, done.out + done.err
    assert "not comparable: " in done.out


def test_a_run_passes_against_its_own_frozen_baseline(finished: Run, tmp_path: Path) -> None:
    frozen = tmp_path / "baselines" / "tiny.json"
    assert call("baseline", "freeze", finished.folder, "--out", frozen).code == 0
    done = call("gate", finished.folder, "--baseline", frozen)
    assert done.code == 0, done.out + done.err
    assert "ok: " in done.out
    frozen.write_text("half of a basel")
    done = call("gate", finished.folder, "--baseline", frozen)
    assert done.code == 2
    assert "not a readable baseline" in done.error
