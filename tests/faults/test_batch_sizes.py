"""An image's low bits depend on its batch: a run keeps the sizes, and whoever sets runs side by side is informed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import LIMIT, Bench, Run, make_run
from facts import missing


@pytest.fixture(scope="module")
def single(tiny: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Run:
    """The tiny run, its images made one by one."""
    run, done = make_run(tiny, tmp_path_factory.mktemp("single"), "--batch-size", 1, "--no-cache")
    assert done.code == 0, done.err
    return run


def sizes(run: Run) -> list[int]:
    return list(run.results()["run"]["provenance"]["batch_sizes"]) if "provenance" in run.results()["run"] else list(
        run.results()["runs"][0]["provenance"]["batch_sizes"])  # fmt: skip


def test_a_run_keeps_the_size_of_its_batches(finished: Run, single: Run) -> None:
    assert (sizes(finished), sizes(single)) == ([50], [1])
    assert {n for (n,) in single.rows("SELECT DISTINCT batch FROM images")} == {1}
    assert {n for (n,) in finished.rows("SELECT DISTINCT batch FROM images")} == {LIMIT}


def test_pictures_of_other_batches_are_the_same_but_for_low_bits(finished: Run, single: Run) -> None:
    """By a grey level or two, and scores by as little; that is why it is said, and why it is no other run."""
    import numpy as np
    from PIL import Image as Pillow

    query = "SELECT job_id, file FROM images ORDER BY 1"
    for (ours, a), (theirs, b) in zip(finished.rows(query), single.rows(query), strict=True):
        assert ours == theirs, "the batch is not in an image's id"
        one, other = (np.asarray(Pillow.open(r.folder / f)).astype(int) for r, f in ((finished, a), (single, b)))
        assert np.abs(one - other).max() <= 2
    assert single.scores("shapes-clipscore") == pytest.approx(finished.scores("shapes-clipscore"), abs=0.01)


def test_compare_says_it(bench: Bench, finished: Run, single: Run, tmp_path: Path) -> None:
    done = bench("compare", finished.folder, single.folder, "--markdown", tmp_path / "c.md")
    assert done.code == 0, done.err
    said = " ".join((tmp_path / "c.md").read_text().split())
    assert f"in batches of {LIMIT} against 1" in said
    assert "low bits of its pixels depend on the batch" in said


def test_a_gate_on_a_baseline_says_it(bench: Bench, finished: Run, single: Run, tmp_path: Path) -> None:
    assert bench("baseline", "freeze", finished.folder, "--out", tmp_path / "b.json").code == 0
    done = bench("gate", single.folder, "--baseline", tmp_path / "b.json")
    (note,) = [line for line in done.err.splitlines() if line.startswith("note: frozen")]
    assert missing(note, "batches of 50", "of 1", "low bits") == []
    assert "batches of" not in bench("gate", finished.folder, "--baseline", tmp_path / "b.json").err


def test_a_run_that_resumes_with_another_size_says_it_and_its_report_too(
    bench: Bench, single: Run, tmp_path: Path
) -> None:
    run = single.copy(tmp_path)
    ((file,),) = run.rows("SELECT file FROM cells JOIN images USING (job_id) WHERE method = 'inversion' LIMIT 1")
    (run.folder / file).unlink()
    done = bench(*run.arguments("--no-cache", "--batch-size", 3))
    assert done.code == 0, done.err
    (note,) = [line for line in done.err.splitlines() if line.startswith("note: this run")]
    assert missing(note, "batches of 1", "batches of 3", "low bits") == []
    assert sizes(run) == [1, 3]
    assert any("were made in batches of 1 and 3: low bits" in note for note in run.results()["notes"])
    assert "were made in batches of 1 and 3" in (run.folder / "report.md").read_text()
    assert json.loads((run.folder / "results.json").read_text())["run"]["finished"] is True


def test_the_help_says_what_the_size_decides(bench: Bench) -> None:
    said = " ".join(bench("run", "--help").out.split())
    assert "images a batch, which decides low bits of pixels" in said
