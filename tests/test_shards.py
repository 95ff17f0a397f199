"""A run in shards is the run: its images, its scores and its results; what does not belong together is refused."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import LIMIT, call
from kept_models import kept
from suite_texts import suite_text

from bench import suite
from bench.errors import UserError
from bench.runner.generate import batches, by_model
from bench.runner.plan import Plan, make_plan
from bench.runner.shards import Shard, split

BATCH = 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> dict[str, Path]:
    """One run of four prompts, and the same in two shards."""
    root = tmp_path_factory.mktemp("shards")
    (root / "tiny.yaml").write_text(
        suite_text(steps=2) + "gates:\n  - {metric: shapes-clipscore, method: inversion, delta: -9}\n"
    )
    command = ("run", root / "tiny.yaml", "--limit", LIMIT, "--no-cache", "--batch-size", BATCH, "--device", "cpu")
    found = {}
    for name, options in {"whole": (), "1": ("--shard", "1/2"), "2": ("--shard", "2/2")}.items():
        with kept():
            done = call(*command, "--runs", root / name, *options)
        assert done.code == 0, done.err
        (found[name],) = (root / name).glob("tiny-*")
    return found


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(folder / "ledger.sqlite")
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


IMAGES = "SELECT method, prompt_index, seed, digest FROM cells JOIN images USING (job_id)"
SCORES = "SELECT digest, prompt, metric, scorer, value FROM scores"


def test_shards_make_the_images_of_one_run(folders: dict[str, Path]) -> None:
    apart = [set(rows(folders[name], IMAGES)) for name in ("1", "2")]
    assert len(apart[0]) + len(apart[1]) == len(set().union(*apart)) == LIMIT * 4, "each cell is in one shard"
    assert set().union(*apart) == set(rows(folders["whole"], IMAGES))


def test_merged_shards_are_the_run(folders: dict[str, Path], tmp_path: Path) -> None:
    done = call("merge", folders["2"], folders["1"], "--out", tmp_path / "merged")
    assert done.code == 0, done.err
    merged, whole = tmp_path / "merged", folders["whole"]
    assert rows(merged, IMAGES + " ORDER BY cells.rowid") == rows(whole, IMAGES + " ORDER BY cells.rowid")
    theirs = {row[:4]: row[4] for row in rows(whole, SCORES)}
    assert {row[:4]: row[4] for row in rows(merged, SCORES)} == pytest.approx(theirs, abs=1e-5)
    found, expected = (json.loads((folder / "results.json").read_text()) for folder in (merged, whole))
    assert rounded(without_times(found)) == rounded(without_times(expected))
    assert found["run"]["stages"]["generate"]["made"] == sum(
        json.loads((folders[name] / "results.json").read_text())["run"]["stages"]["generate"]["made"]
        for name in ("1", "2")
    )


def test_merged_images_are_scored_as_in_one_run_to_the_last_bit(folders: dict[str, Path], tmp_path: Path) -> None:
    runs = tmp_path / folders["whole"].name
    assert call("merge", folders["1"], folders["2"], "--out", runs, "--images-only").code == 0
    assert not rows(runs, SCORES)
    assert not rows(runs, "SELECT job_id FROM images WHERE chosen_from IS NOT NULL")
    again = ("run", folders["whole"].parents[1] / "tiny.yaml", "--limit", LIMIT, "--no-cache", "--batch-size", BATCH)
    done = call(*again, "--device", "cpu", "--runs", tmp_path)
    assert done.code == 0, done.err
    assert sorted(rows(runs, SCORES)) == sorted(rows(folders["whole"], SCORES))
    found, expected = (json.loads((f / "results.json").read_text()) for f in (runs, folders["whole"]))
    assert without_times(found) == without_times(expected)


def test_a_merged_run_is_a_finished_run(folders: dict[str, Path], tmp_path: Path) -> None:
    call("merge", folders["1"], folders["2"], "--out", tmp_path / folders["whole"].name)
    again = ("run", folders["whole"].parents[1] / "tiny.yaml", "--limit", LIMIT, "--no-cache", "--batch-size", BATCH)
    done = call(*again, "--device", "cpu", "--runs", tmp_path)
    assert done.code == 0
    assert "finished before" in done.err


def without_times(found: Any) -> Any:
    """Results without what differs between two runs of the same images: times, dates, folders and command lines."""
    if isinstance(found, dict):
        left_out = {
            "created",
            "command",
            "path",
            "folder",
            "stages",
            "sessions",
            "cost",
            "costs",
            "score_ms",
            "runs",
            "commit",
        }
        return {
            name: without_times(value)
            for name, value in found.items()
            if name not in left_out and "ms" not in name.split("_") and "equal_compute" not in name
        }
    if isinstance(found, list):
        return [
            without_times(one)
            for one in found
            if not (isinstance(one, str) and ("milliseconds" in one or "sessions" in one or "throwaway" in one))
        ]
    return found


def rounded(found: Any) -> Any:
    """Numbers to what batches of another size may change in a score, which is 1e-6."""
    if isinstance(found, dict):
        return {name: rounded(value) for name, value in found.items()}
    if isinstance(found, list):
        return [rounded(one) for one in found]
    return pytest.approx(found, rel=1e-3, abs=1e-4) if isinstance(found, float) else found


# What does not belong together -------------------------------------------------------------------------------------


def test_a_shard_says_that_it_is_one(folders: dict[str, Path]) -> None:
    said = "This is shard 1 of 2 of a run, not the whole"
    assert any(said in note for note in json.loads((folders["1"] / "results.json").read_text())["notes"])
    assert said in (folders["1"] / "report.md").read_text()
    assert said in call("gate", folders["1"]).err


def changed(folder: Path, to: Path, **values: Any) -> Path:
    """A copy of a shard whose ledger says something else."""
    shutil.copytree(folder, to)
    db = sqlite3.connect(to / "ledger.sqlite")
    for key, value in values.items():
        db.execute("UPDATE meta SET value = ? WHERE key = ?", (json.dumps(value), key))
    db.commit()
    db.close()
    (to / "SHA256SUMS").unlink(missing_ok=True)
    return to


def test_what_is_no_whole_run_is_refused_by_name(folders: dict[str, Path], tmp_path: Path) -> None:
    one, two = folders["1"], folders["2"]
    assert "shard 2 of 2 of tiny" in call("merge", one).error
    twice = changed(one, tmp_path / "twice")
    assert f"{twice}: shard 1 of 2 is there twice" in call("merge", one, two, twice).error.replace(
        str(one), str(twice), 1
    )
    assert f"{folders['whole']}: not a shard" in call("merge", one, folders["whole"]).error
    (record,) = (json.loads(value) for (value,) in rows(two, "SELECT value FROM meta WHERE key = 'shard'"))
    (code,) = (json.loads(value) for (value,) in rows(two, "SELECT value FROM meta WHERE key = 'code'"))
    for name, values, said in (
        ("plan", {"shard": {**record, "whole": "0" * 32}}, "another plan: its settings, prompts or scorers"),
        ("batch", {"shard": {**record, "batch": 3}}, "another --batch-size (3, not 2)"),
        ("code", {"code": {**code, "method inversion": "other"}}, "another code of method inversion"),
    ):
        foreign = changed(two, tmp_path / name, **values)
        assert f"{foreign}: a shard of another run than {one}: {said}" in call("merge", one, foreign).error


def test_an_unfinished_or_damaged_shard_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    lost = changed(folders["2"], tmp_path / "lost")
    next((lost / "images").glob("*.png")).unlink()
    assert f"{lost}: shard 2 of 2 lacks 1 of its image files" in call("merge", folders["1"], lost).error
    db = sqlite3.connect(lost / "ledger.sqlite")
    db.execute("DELETE FROM images WHERE job_id IN (SELECT job_id FROM cells LIMIT 1)")
    db.commit()
    db.close()
    assert f"{lost}: shard 2 of 2 is not finished: 1 images are to be made" in call("merge", folders["1"], lost).error
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").touch()
    shards = folders["1"], folders["2"]
    assert "a folder with something in it is there" in call("merge", *shards, "--out", tmp_path / "there").error


@pytest.mark.parametrize("word", ["0/2", "3/2", "2", "a/b", "1/2/3"])
def test_a_shard_is_named_by_two_numbers(word: str, tiny: Path) -> None:
    done = call("run", tiny, "--shard", word)
    assert done.code == 2
    assert "such as 1/8" in done.err


def test_more_shards_than_blocks_of_prompts_are_refused(tiny: Path, tmp_path: Path) -> None:
    done = call(
        "run", tiny, "--limit", LIMIT, "--batch-size", 2, "--shard", "3/3", "--device", "cpu", "--runs", tmp_path
    )
    assert "leave 2 blocks of prompts to share" in done.error
    done = call("run", tiny, "--shard", "1/2", "--gate", "--runs", tmp_path)
    assert "gate what `merge` joins" in done.error


# The split -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [1, 2, 3, 7])
@pytest.mark.parametrize("batch", [1, 4, 5, 50])
@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_every_batch_of_a_shard_is_one_of_the_whole(of: int, batch: int, seeds: list[int]) -> None:
    plan = make_plan(suite.parse(suite_text(seeds=seeds), file="t.yaml", limit=51 if batch == 50 else 23))

    def batched(one: Plan) -> list[tuple[str, ...]]:
        whole = [of for some in by_model(one.batched.values()) for of in batches(some, batch, prompts=texts)]
        return [ids for group in whole if (ids := tuple(job.id for job in group if job.id in one.jobs))]

    texts = [job.prompt for job in plan.jobs.values()]
    whole = set(batched(plan))
    cells: list[int] = []
    for index in range(1, of + 1):
        try:
            part = split(plan, Shard(index, of), batch=batch, whole="plan")
        except UserError:
            assert of > 1 + len(dict.fromkeys(texts)) // batch, "only where there are fewer blocks of prompts"
            return
        assert set(batched(part)) <= whole
        assert part.part is not None
        at = [n for first, count in part.part.at for n in range(first, first + count)]
        assert [plan.cells[n] for n in at] == part.cells
        cells += at
    assert sorted(cells) == list(range(len(plan.cells)))


def test_the_slurm_script_makes_every_part_and_then_joins_them(tmp_path: Path) -> None:
    """With programs of SLURM and Python that say how they were called."""
    for name in ("python", "sbatch"):
        (tmp_path / name).write_text(f'#!/bin/bash\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    script = Path(__file__).parents[1] / "docs" / "slurm.sh"

    def said(task: int, *more: str) -> list[str]:
        given = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_JOB_ID": "77"}
        given["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(["bash", script, "s.yaml", *more], env=given, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    assert said(3) == ["python -m bench run s.yaml --shard 3/8 --batch-size 4 --runs runs"]
    assert said(1)[1] == f"sbatch --dependency=afterok:77 --array=0 --gpus=0 --output=merge.log {script} s.yaml merge"
    assert said(0, "merge") == ["python -m bench merge runs/*-shard-*-of-8"]
