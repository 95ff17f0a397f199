"""results.json: its schema, its numbers against pandas and the definitions, and several runs read as one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import Bench, Run
from ledgers import write_ledger
from result_rows import SCHEMA, luck, noisy, row, valid
from scipy.stats import nct
from scipy.stats import t as student

from bench import stats
from bench.analysis import results
from bench.records import read

# The document ---------------------------------------------------------------------------------------------------------


def test_a_real_runs_results_fit_the_committed_schema(finished: Run) -> None:
    valid(read(finished.folder))


def test_the_schema_refuses_what_is_not_a_result(finished: Run) -> None:
    found = finished.results()
    found["comparisons"][0]["delta"] = "much"
    with pytest.raises(jsonschema.ValidationError, match="much"):
        jsonschema.Draft202012Validator(SCHEMA).validate(found)


def test_an_empty_run_has_empty_results(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "run", noisy, prompts=0)
    found = valid(results.compute(ledger))
    assert (found["arms"], found["comparisons"], found["pairs"], found["pairs_total"]) == ([], [], [], 0)


# Numbers --------------------------------------------------------------------------------------------------------------


def test_arms_and_deltas_are_those_of_pandas_on_the_exported_tables(tmp_path: Path) -> None:
    import pandas as pd

    from bench.store import export

    sets, seeds, metrics = ("shapes-drawbench", "shapes-hpd"), (0, 1, 2), ("shapes-preference", "shapes-aesthetic")
    ledger = write_ledger(
        tmp_path / "run", noisy, methods=("standard", "a", "b"), sets=sets, seeds=seeds, metrics=metrics
    )
    found = valid(results.compute(ledger))
    export(ledger, tmp_path / "tables")
    cells, images, scores = (
        pd.read_parquet(tmp_path / "tables" / f"{t}.parquet") for t in ("cells", "images", "scores")
    )
    scores = scores.rename(columns={"prompt": "key"})
    joined = cells.merge(images, on="job_id").merge(scores, on="digest")
    wide = joined.pivot_table(index=["metric", "prompts", "prompt_index", "seed"], columns="method", values="value")
    for metric in metrics:
        for prompts in (*sets, "*"):
            some = wide.loc[metric] if prompts == "*" else wide.loc[metric].xs(prompts, level="prompts")
            for method in ("a", "b"):
                listed = row(found["comparisons"], method=method, metric=metric, prompts=prompts)
                deltas = some[method] - some["standard"]
                assert listed["delta"] == pytest.approx(deltas.mean(), rel=1e-12)
                assert listed["n"] == len(some)
                assert listed["win"] == int((deltas > 0).sum())
                arm = row(found["arms"], method=method, prompts=prompts)
                assert arm["metrics"][metric]["mean"] == pytest.approx(some[method].mean(), rel=1e-12)


def test_intervals_and_tests_are_those_of_the_single_functions(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "run", noisy, methods=("standard", "a"), seeds=(0, 1), prompts=30)
    listed = row(results.compute(ledger).document()["comparisons"], prompts="*")
    keys = [(i, s) for i in range(30) for s in (0, 1)]
    ours, theirs = (
        [noisy(m, "shapes-drawbench", i, s, "shapes-preference") for i, s in keys] for m in ("a", "standard")
    )
    texts = [f"a circle, take {i} of shapes-drawbench" for i, _ in keys]
    delta, rate = stats.paired_delta(ours, theirs, texts), stats.win_rate(ours, theirs, texts)
    assert (listed["low"], listed["high"]) == pytest.approx((delta.low, delta.high), rel=1e-9)
    assert (listed["win_rate"], listed["win_low"], listed["win_high"]) == pytest.approx(
        (rate.estimate, rate.low, rate.high)
    )
    strict = stats.win_rate_strict(ours, theirs, texts)
    assert [listed[name] for name in stats.RATES[3:]] == pytest.approx([strict.estimate, strict.low, strict.high])
    assert listed["p"] == stats.sign_flip_p(np.subtract(ours, theirs), texts)
    assert listed["detectable"] == pytest.approx(stats.smallest_detectable(np.subtract(ours, theirs), texts))
    # The noncentral t of 29 degrees of freedom exceeds Student's critical value in 80 %.
    apart = listed["detectable"] / (listed["sd"] / math.sqrt(30))
    assert nct.sf(student.ppf(0.975, 29), 29, apart) == pytest.approx(0.8, abs=1e-4)


def test_seeds_have_their_own_rows_where_there_are_several(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "run", noisy, methods=("standard", "a"), seeds=(3, 8))
    found = valid(results.compute(ledger))
    assert {r["seed"] for r in found["seeds"]} == {3, 8}
    listed = row(found["seeds"], method="a", seed=8)
    ours, theirs = (
        [noisy(m, "shapes-drawbench", i, 8, "shapes-preference") for i in range(20)] for m in ("a", "standard")
    )
    assert listed["delta"] == pytest.approx(np.mean(np.subtract(ours, theirs)), rel=1e-12)
    assert listed["low"] < listed["delta"] < listed["high"]
    assert row(found["seeds"], method="standard", seed=8)["delta"] is None
    assert results.compute(write_ledger(tmp_path / "one", noisy)).document()["seeds"] == []


def test_categories_have_their_own_rows_where_there_are_several(tmp_path: Path) -> None:
    """The gain is in one category only."""

    def gain(method: str, prompts: str, index: int, seed: int, metric: str) -> float:
        return luck(index) + (0.5 if method == "a" and index % 2 else 0.0)

    ledger = write_ledger(tmp_path / "run", gain, methods=("standard", "a"), category=lambda i: ("even", "odd")[i % 2])
    found = valid(results.compute(ledger))
    listed = {r["category"]: r for r in found["categories"] if r["method"] == "a"}
    assert listed["even"]["delta"] == 0
    assert listed["odd"]["delta"] == pytest.approx(0.5)
    assert (listed["odd"]["n"], listed["odd"]["n_prompts"]) == (10, 10)


def test_geneval_judges_described_prompts_and_its_tasks_are_reported(tmp_path: Path) -> None:
    def right(method: str, prompts: str, index: int, seed: int, metric: str) -> float:
        return float(index % 4 == 0 if method == "standard" else index % 2 == 0)

    ledger = write_ledger(
        tmp_path / "run", right, metrics=("shapes-geneval",), described=True, category=lambda i: "single_object"
    )
    found = valid(results.compute(ledger))
    listed = row(found["tasks"], method="reseed", prompts="*")
    assert listed["overall"] == pytest.approx(0.5)
    assert listed["tasks"] == {"single_object": {"mean": 0.5, "n": 20}}


def test_an_arm_with_a_missing_image_is_incomplete_and_its_pairs_are_left_out(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "run", noisy, missing=lambda method, index: method == "reseed" and index == 7)
    found = valid(results.compute(ledger))
    listed = row(found["comparisons"], prompts="*")
    assert (listed["n"], listed["complete"], listed["p"]) == (19, False, None)
    assert not found["run"]["finished"]
    assert 7 not in [p["index"] for p in found["pairs"]]
    assert len(found["pairs"]) == 19


# Costs ----------------------------------------------------------------------------------------------------------------


def test_times_are_compared_by_batches_and_only_where_they_were_measured_the_same_way(tmp_path: Path) -> None:
    def times(method: str, number: int) -> dict[str, Any]:
        # A machine that slows down by half, and a little of each batch's own.
        batch = number % 40 // 4
        own = 1 + 0.001 * (batch * 7 % 5) * (1 if method == "standard" else -1)
        return {"sampling_ms": (30.0 if method == "standard" else 60.0) * (1 + 0.05 * batch) * own}

    found = valid(results.compute(write_ledger(tmp_path / "run", noisy, times=times, prompts=40)))
    ratio = row(found["arms"], method="reseed", prompts="*")["cost"]["ratios"]
    assert ratio["sampling_ms"]["ratio"] == pytest.approx(2.0, rel=0.01)
    assert 1.98 < ratio["sampling_ms"]["low"] < ratio["sampling_ms"]["high"] < 2.0
    assert ratio["calls_total"] == {"ratio": 1.0, "low": 1.0, "high": 1.0}
    assert ratio["peak_bytes"] == {"ratio": 1.0, "low": None, "high": None}

    def apart(method: str, number: int) -> dict[str, Any]:
        """Other batches than the baseline's, so nothing tells what slowed both."""
        return times(method, number % 40 + (2 if method == "reseed" else 0))

    found = valid(results.compute(write_ledger(tmp_path / "apart", noisy, times=apart, prompts=40)))
    ratio = row(found["arms"], method="reseed", prompts="*")["cost"]["ratios"]
    assert ratio["sampling_ms"]["low"] < 1.9 < 2.0 < 2.1 < ratio["sampling_ms"]["high"]

    def cached(method: str, number: int) -> dict[str, Any]:
        return times(method, number) | {"from_cache": int(method == "reseed")}

    found = valid(results.compute(write_ledger(tmp_path / "cached", noisy, times=cached, prompts=40)))
    assert row(found["arms"], method="reseed", prompts="*")["cost"]["ratios"]["sampling_ms"] is None


def test_times_and_their_ratio_are_of_the_same_images(tmp_path: Path) -> None:
    """Images from the cache were timed on another day: here they took ten times as long."""

    def half_cached(method: str, number: int) -> dict[str, Any]:
        cached = number % 2
        return {"sampling_ms": (200.0 if method == "reseed" else 100.0) * (10 if cached else 1), "from_cache": cached}

    found = valid(results.compute(write_ledger(tmp_path / "run", noisy, times=half_cached, prompts=40)))
    costs = {method: row(found["arms"], method=method, prompts="*")["cost"] for method in ("standard", "reseed")}
    assert {method: cost["sampling_ms"] for method, cost in costs.items()} == {"standard": 100.0, "reseed": 200.0}
    assert costs["reseed"]["ratios"]["sampling_ms"]["ratio"] == pytest.approx(2.0)
    assert (costs["reseed"]["n_timed"], costs["reseed"]["from_cache"]) == (20, 20)


# Pairs ----------------------------------------------------------------------------------------------------------------


def test_pairs_to_look_at_are_evenly_spaced_and_no_more_than_a_page_can_hold(tmp_path: Path) -> None:
    found = valid(results.computed(write_ledger(tmp_path / "run", noisy, prompts=21), most=5).results)
    assert [p["index"] for p in found["pairs"]] == [0, 5, 10, 15, 20]
    assert found["pairs_total"] == 21


def test_a_method_that_is_still_to_be_made_hides_no_other_pair(tmp_path: Path) -> None:
    ledger = write_ledger(
        tmp_path / "run", noisy, methods=("standard", "a", "b"), missing=lambda method, index: method == "b"
    )
    pairs = valid(results.compute(ledger))["pairs"]
    assert len(pairs) == 20
    assert {tuple(pair["images"]) for pair in pairs} == {("standard", "a")}


def test_deleted_images_are_said(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "run", noisy)
    assert any(note.startswith("40 image files of run are gone from its folder") for note in
               results.compute(ledger).document()["notes"])  # fmt: skip


def test_deleted_images_cannot_be_judged_by_one_more_metric(tmp_path: Path, bench: Bench) -> None:
    write_ledger(tmp_path / "run", noisy).close()
    done = bench("score", tmp_path / "run", "--metric", "shapes-clipscore")
    assert done.code == 2
    assert done.error.endswith(".png: missing; run the suite again, which makes it again")


@pytest.mark.parametrize("change", [{"from_the_future": 1}, {"methods": None}])
def test_a_suite_that_this_version_does_not_know_is_one_line(
    tmp_path: Path, bench: Bench, change: dict[str, Any]
) -> None:
    ledger = write_ledger(tmp_path / "run", noisy)
    ledger.set("suite", ledger.get("suite") | change)
    ledger.close()
    for command in (("report",), ("gate",), ("baseline", "freeze"), ("power", "--delta", "1")):
        done = bench(*command, tmp_path / "run")
        assert done.code == 2
        assert "its suite is not one that this version reads" in done.error


def test_a_file_in_the_way_of_a_report_is_one_line(tmp_path: Path, bench: Bench) -> None:
    write_ledger(tmp_path / "run", noisy).close()
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "within"):
        done = bench("report", tmp_path / "run", "--out", place)
        assert done.code == 2
        assert "no folder that can be written to" in done.error
    assert (tmp_path / "file").read_text() == "mine"
