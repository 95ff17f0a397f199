"""A run from end to end: what is finished is kept, what is shared is made once, what was lost is made again."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from arm_rows import arm
from conftest import LIMIT, TINY, Plug, Run, call, forms, make_run
from kept_models import kept_models as kept_models
from PIL import Image as Pillow
from suite_texts import BEST_OF_2, write_suite

from bench import registry, suite
from bench.job import stages
from bench.store import Image, Ledger

pytestmark = pytest.mark.usefixtures("kept_models")
TORCHLESS = """
import sys
from bench.cli import main
code = main(sys.argv[1:])
print("torch" if "torch" in sys.modules else "no torch", file=sys.stderr)
sys.exit(code)
"""


def times(run: Run) -> dict[str, int]:
    """When each image file was written."""
    return {p.name: p.stat().st_mtime_ns for p in (run.folder / "images").iterdir()}


# A finished run -------------------------------------------------------------------------------------------------------


def test_a_run_leaves_a_report_results_and_its_own_suite_behind(finished: Run) -> None:
    names = {p.name for p in finished.folder.iterdir()}
    assert {"ledger.sqlite", "suite.yaml", "images", "results.json", "report.md", "report.html"} <= names
    assert (finished.folder / "suite.yaml").read_text() == TINY
    assert not [p for p in finished.folder.rglob("*") if p.name.endswith(".tmp")]


def test_results_say_their_schema_and_that_every_arm_is_complete(finished: Run) -> None:
    results = finished.results()
    assert results["schema"] == 4
    assert results["run"]["finished"] is True
    assert {a["method"] for a in results["arms"]} == {"standard", "inversion", "best_of_2", "reseed"}
    for row in results["arms"]:
        assert row["complete"], row
        assert (row["n"], row["n_expected"]) == (LIMIT, LIMIT)
        assert {m: v["n"] for m, v in row["metrics"].items()} == {"shapes-geneval": LIMIT, "shapes-clipscore": LIMIT}


def test_results_name_what_they_were_made_with(finished: Run) -> None:
    made_with = finished.results()["run"]["provenance"]
    assert made_with["device"] == "cpu"
    assert made_with["packages"]["torch"]
    assert made_with["weights"]["shapes-sdxl"] == registry.get("models", "shapes-sdxl").digest()
    assert set(made_with["weights"]) == {"shapes-sdxl", "shapes-geneval", "shapes-clipscore"}


def test_a_finished_run_is_only_read(finished: Run, tmp_path: Path) -> None:
    copy = finished.copy(tmp_path)
    before, results = times(copy), (copy.folder / "results.json").read_bytes()
    done = stages.run(suite.load(copy.suite, limit=LIMIT), runs=copy.runs, cache=copy.cache, device="cpu")
    assert done.worked is False
    assert done.results.document() == json.loads(results)
    assert times(copy) == before
    assert (copy.folder / "results.json").read_bytes() == results
    assert len(copy.rows("SELECT id FROM sessions")) == 1


def test_a_finished_run_needs_no_torch(finished: Run, tmp_path: Path) -> None:
    words = [sys.executable, "-c", TORCHLESS, *map(str, finished.copy(tmp_path).arguments())]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "finished before; nothing to do" in done.stderr
    assert done.stderr.endswith("no torch\n")
    assert "inversion" in done.stdout


def test_reports_are_made_from_the_ledger_alone(finished: Run, tmp_path: Path) -> None:
    """And without torch: test_imports.py."""
    copy = finished.copy(tmp_path)
    expected = (copy.folder / "results.json").read_bytes()
    for name in ("results.json", "report.md", "report.html", "suite.yaml"):
        (copy.folder / name).unlink()
    with forms("md,html"):
        done = call("report", copy.folder)
    assert done.code == 0, done.err
    assert (copy.folder / "results.json").read_bytes() == expected
    assert all((copy.folder / name).stat().st_size > 1000 for name in ("report.md", "report.html"))


# Methods --------------------------------------------------------------------------------------------------------------


def test_the_oracle_never_falls_below_the_baseline_on_what_it_chooses_by(finished: Run) -> None:
    scores = finished.scores("shapes-geneval")
    assert len(scores) == 4 * LIMIT
    for i in range(LIMIT):
        assert scores["best_of_2", i] == max(scores["standard", i], scores["reseed", i])


def test_a_chooser_takes_the_best_candidate_by_a_metric_without_ties(tiny: Path, tmp_path: Path) -> None:
    """Three candidates: the baseline's, reseed's, and one that nothing else asks for."""
    override = "methods=[standard, reseed, {use: best_of_n, name: best, n: 3, selection_metric: shapes-aesthetic}]"
    made, done = make_run(tiny, tmp_path, "--set", override, "--set", "metrics=[shapes-aesthetic]", "--limit", 2)
    assert done.code == 0, done.err
    rows = made.rows(
        "SELECT prompt_index, images.digest, chosen_from, calls_sampling, cost FROM cells JOIN images USING (job_id) "
        "WHERE method = 'best'"
    )
    assert len(rows) == 2
    scores = made.scores("shapes-aesthetic")
    by_job = dict(made.rows("SELECT job_id, value FROM images JOIN scores USING (digest) WHERE chosen_from IS NULL"))
    assert len(by_job) == 3 * 2
    for index, _, candidates, calls, cost in rows:
        values = [by_job[c] for c in json.loads(candidates)]
        assert len(set(values)) == 3, "candidates that tie would show nothing"
        assert scores["best", index] == max(values)
        assert values[:2] == [scores["standard", index], scores["reseed", index]]
        assert calls == 3 * 4, "the two images that were made and not kept are charged to the method, as sampling"
        priced = json.loads(cost)
        assert (priced["sampling"]["forwards"], priced["decode"]["decodes"], priced["select"]["rewards"]) == (12, 3, 3)


def test_reseed_is_the_second_candidate_and_is_made_once(finished: Run) -> None:
    jobs = {(m, i): j for m, i, j in finished.rows("SELECT method, prompt_index, job_id FROM cells")}
    chosen = dict(finished.rows("SELECT job_id, chosen_from FROM images WHERE chosen_from IS NOT NULL"))
    for i in range(LIMIT):
        assert json.loads(chosen[jobs["best_of_2", i]]) == [jobs["standard", i], jobs["reseed", i]]
    assert len(list((finished.folder / "images").glob("*.png"))) == 3 * LIMIT


def test_the_cost_of_choosing_is_that_of_all_candidates(finished: Run) -> None:
    results = finished.results()
    cost = {m: arm(results, m)["cost"] for m in ("standard", "inversion", "best_of_2", "reseed")}
    assert cost["standard"]["calls_total"] == 4
    assert cost["reseed"]["calls_total"] == cost["standard"]["calls_total"]
    assert cost["inversion"]["calls_total"] == 4 + 2
    assert cost["best_of_2"]["calls_total"] == 2 * cost["standard"]["calls_total"]
    mean = (cost["standard"]["total_ms"] + cost["reseed"]["total_ms"]) / 2
    assert cost["best_of_2"]["total_ms"] > 1.5 * mean
    (both,) = finished.rows(
        """SELECT AVG(best.noise_ms + best.sampling_ms + best.decode_ms), AVG(one.ms + two.ms), MIN(best.select_ms)
           FROM cells c JOIN images best ON best.job_id = c.job_id
           JOIN (SELECT job_id, noise_ms + sampling_ms + decode_ms AS ms FROM images) one
             ON one.job_id = json_extract(best.chosen_from, '$[0]')
           JOIN (SELECT job_id, noise_ms + sampling_ms + decode_ms AS ms FROM images) two
             ON two.job_id = json_extract(best.chosen_from, '$[1]')"""
    )
    assert both[0] == pytest.approx(both[1]), "both candidates' times, stage by stage"
    assert both[2] > 0, "judging among them is a stage of its own"


# Sharing and mending --------------------------------------------------------------------------------------------------


def test_another_suite_takes_the_images_it_shares_from_the_cache(finished: Run, tmp_path: Path) -> None:
    methods = ["standard", "inversion_as_released", BEST_OF_2, "reseed"]
    other = write_suite(tmp_path / "other.yaml", name="other", methods=methods)
    done = call("run", other, "--limit", LIMIT, "--runs", tmp_path, "--cache", finished.cache, "--device", "cpu")
    assert done.code == 0, done.err
    assert f"generate: {LIMIT}/{LIMIT}" in done.err, "only the new arm is made"
    (folder,) = tmp_path.glob("other-*")
    results = json.loads((folder / "results.json").read_text())
    assert arm(results, "standard")["cost"]["from_cache"] == LIMIT
    assert arm(results, "inversion_as_released")["cost"]["from_cache"] == 0
    theirs = arm(finished.results(), "standard")
    assert arm(results, "standard")["metrics"] == theirs["metrics"]
    assert arm(results, "standard")["cost"]["sampling_ms"] == pytest.approx(theirs["cost"]["sampling_ms"])
    assert any("came from the cache" in note for note in results["notes"])


def test_without_the_cache_nothing_is_taken_from_it_or_kept_in_it(finished: Run, tmp_path: Path) -> None:
    before = sorted(p.name for p in finished.cache.rglob("*.json"))
    assert before
    home = Run(finished.suite, tmp_path / "runs", finished.cache, tmp_path / "runs" / finished.folder.name)
    # Of the two samplers' images the cache has those of one.
    given = ("--no-cache", "--set", "samplers=[ddim, euler]", "--method", "reseed", "--limit", 1)
    done = call(*home.arguments(*given))
    assert done.code == 0, done.err
    assert "generate: 4/4" in done.err
    assert sorted(p.name for p in finished.cache.rglob("*.json")) == before


def grey_levels(path: Path) -> np.ndarray:
    with Pillow.open(path) as opened:
        return np.asarray(opened).astype(int)


def test_a_lost_image_is_made_again_and_only_that(finished: Run, tmp_path: Path) -> None:
    copy = finished.copy(tmp_path)
    lost = copy.folder / "images" / sorted(times(copy))[0]
    before = times(copy)
    pixels = grey_levels(lost)
    digests = copy.rows("SELECT job_id, digest FROM images ORDER BY 1")
    lost.unlink()
    done = call(*copy.arguments())
    assert done.code == 0, done.err
    assert "generate: 1/1 images" in done.err
    # Made again in a batch of one, where matrix products round otherwise: a pixel may move by one grey level.
    assert np.abs(grey_levels(lost) - pixels).max() <= 1
    assert {n: t for n, t in times(copy).items() if n != lost.name} == {
        n: t for n, t in before.items() if n != lost.name
    }
    changed = set(copy.rows("SELECT job_id, digest FROM images ORDER BY 1")) ^ set(digests)
    users = copy.rows(f"SELECT job_id FROM images WHERE file = 'images/{lost.name}'")
    assert {job_id for job_id, _ in changed} <= {job_id for (job_id,) in users}
    for metric, found in arm(copy.results(), "standard")["metrics"].items():
        assert found["mean"] == pytest.approx(arm(finished.results(), "standard")["metrics"][metric]["mean"], rel=1e-3)


def test_the_ledger_s_images_are_read_as_often_for_many_images_as_for_few(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = finished.copy(tmp_path)
    with sqlite3.connect(copy.folder / "ledger.sqlite") as db:
        db.execute("DELETE FROM scores WHERE metric = 'shapes-clipscore'")
        db.execute("DELETE FROM meta WHERE key = 'finished'")
    (copy.folder / "SHA256SUMS").unlink()
    read, plain = [0], Ledger.images

    def counted(self: Ledger) -> dict[str, Image]:
        read[0] += 1
        return plain(self)

    monkeypatch.setattr(Ledger, "images", counted)
    done = stages.run(suite.load(copy.suite, limit=LIMIT), runs=copy.runs, cache=copy.cache, device="cpu")
    assert done.worked
    (images,) = copy.rows("SELECT COUNT(*) FROM images")[0]
    assert 0 < read[0] < images


def test_a_scorer_of_another_version_judges_again_and_nothing_is_drawn_again(
    finished: Run, tmp_path: Path, plug: Plug
) -> None:
    from dataclasses import replace

    copy = finished.copy(tmp_path)
    entry = registry.get("metrics", "shapes-clipscore")
    newer = replace(entry, identify=lambda: entry.identify() + " and a fix")
    plug("metrics", **{"shapes-clipscore": newer})
    before = times(copy)
    done = call(*copy.arguments())
    assert done.code == 0, done.err
    assert "generate:" not in done.err
    assert f"score shapes-clipscore: {3 * LIMIT}/{3 * LIMIT}" in done.err
    assert times(copy) == before
    assert copy.results()["metrics"]["shapes-clipscore"]["digest"].startswith(newer.identify())
