"""results.json: its schema, its numbers against pandas and the definitions, and several runs read as one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import Bench, Run
from ledgers import write_ledger
from scipy.stats import nct
from scipy.stats import t as student

from bench import stats
from bench.analysis import results
from bench.errors import NotComparable
from bench.records import Results, read
from bench.records.load import parse
from bench.store import Ledger

SCHEMA = json.loads((Path(results.__file__).parents[1] / "schemas" / "results.schema.json").read_text())


def valid(found: Results) -> dict[str, Any]:
    """The document, which keeps to the schema and comes back from its file as it was."""
    document = found.document()
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(document, allow_nan=False)))
    assert parse(found.text().encode(), "results.json") == found
    return document


def luck(*parts: int) -> float:
    """A number in [-1, 1) that follows from its parts."""
    return float(np.random.default_rng(parts).uniform(-1, 1))


def fixed(text: str) -> int:
    return sum(ord(c) * 31**i for i, c in enumerate(text)) % 2**32


def noisy(method: str, prompts: str, index: int, seed: int, metric: str) -> float:
    """A prompt's difficulty, a seed's luck, and a gain of 0.5 for every method but the baseline."""
    own = luck(fixed(method), fixed(prompts), index, seed, fixed(metric))
    return luck(fixed(prompts), index) + 0.3 * own + (0.0 if method == "standard" else 0.5)


def row(rows: list[dict[str, Any]], **labels: Any) -> dict[str, Any]:
    found = [r for r in rows if all(r[k] == v for k, v in labels.items())]
    assert len(found) == 1, (labels, len(found))
    return found[0]


# The document --------------------------------------------------------------------------------------------------------


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


# Numbers -------------------------------------------------------------------------------------------------------------


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
                told = row(found["comparisons"], method=method, metric=metric, prompts=prompts)
                deltas = some[method] - some["standard"]
                assert told["delta"] == pytest.approx(deltas.mean(), rel=1e-12)
                assert told["n"] == len(some)
                assert told["win"] == int((deltas > 0).sum())
                arm = row(found["arms"], method=method, prompts=prompts)
                assert arm["metrics"][metric]["mean"] == pytest.approx(some[method].mean(), rel=1e-12)


def test_intervals_and_tests_are_those_of_the_single_functions(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "run", noisy, methods=("standard", "a"), seeds=(0, 1), prompts=30)
    told = row(results.compute(ledger).document()["comparisons"], prompts="*")
    keys = [(i, s) for i in range(30) for s in (0, 1)]
    ours, theirs = (
        [noisy(m, "shapes-drawbench", i, s, "shapes-preference") for i, s in keys] for m in ("a", "standard")
    )
    texts = [f"a circle, take {i} of shapes-drawbench" for i, _ in keys]
    delta, rate = stats.paired_delta(ours, theirs, texts), stats.win_rate(ours, theirs, texts)
    assert (told["low"], told["high"]) == pytest.approx((delta.low, delta.high), rel=1e-9)
    assert (told["win_rate"], told["win_low"], told["win_high"]) == pytest.approx((rate.estimate, rate.low, rate.high))
    strict = stats.win_rate_strict(ours, theirs, texts)
    assert [told[name] for name in stats.RATES[3:]] == pytest.approx([strict.estimate, strict.low, strict.high])
    assert told["p"] == stats.sign_flip_p(np.subtract(ours, theirs), texts)
    assert told["detectable"] == pytest.approx(stats.smallest_detectable(np.subtract(ours, theirs), texts))
    # The noncentral t of 29 degrees of freedom exceeds Student's critical value in 80 %.
    apart = told["detectable"] / (told["sd"] / math.sqrt(30))
    assert nct.sf(student.ppf(0.975, 29), 29, apart) == pytest.approx(0.8, abs=1e-4)


def test_seeds_have_their_own_rows_where_there_are_several(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "run", noisy, methods=("standard", "a"), seeds=(3, 8))
    found = valid(results.compute(ledger))
    assert {r["seed"] for r in found["seeds"]} == {3, 8}
    told = row(found["seeds"], method="a", seed=8)
    ours, theirs = (
        [noisy(m, "shapes-drawbench", i, 8, "shapes-preference") for i in range(20)] for m in ("a", "standard")
    )
    assert told["delta"] == pytest.approx(np.mean(np.subtract(ours, theirs)), rel=1e-12)
    assert told["low"] < told["delta"] < told["high"]
    assert row(found["seeds"], method="standard", seed=8)["delta"] is None
    assert results.compute(write_ledger(tmp_path / "one", noisy)).document()["seeds"] == []


def test_categories_have_their_own_rows_where_there_are_several(tmp_path: Path) -> None:
    """The gain is in one category only."""

    def gain(method: str, prompts: str, index: int, seed: int, metric: str) -> float:
        return luck(index) + (0.5 if method == "a" and index % 2 else 0.0)

    ledger = write_ledger(tmp_path / "run", gain, methods=("standard", "a"), category=lambda i: ("even", "odd")[i % 2])
    found = valid(results.compute(ledger))
    told = {r["category"]: r for r in found["categories"] if r["method"] == "a"}
    assert told["even"]["delta"] == 0
    assert told["odd"]["delta"] == pytest.approx(0.5)
    assert (told["odd"]["n"], told["odd"]["n_prompts"]) == (10, 10)


def test_geneval_judges_described_prompts_and_its_tasks_are_told(tmp_path: Path) -> None:
    def right(method: str, prompts: str, index: int, seed: int, metric: str) -> float:
        return float(index % 4 == 0 if method == "standard" else index % 2 == 0)

    ledger = write_ledger(
        tmp_path / "run", right, metrics=("shapes-geneval",), described=True, category=lambda i: "single_object"
    )
    found = valid(results.compute(ledger))
    told = row(found["tasks"], method="reseed", prompts="*")
    assert told["overall"] == pytest.approx(0.5)
    assert told["tasks"] == {"single_object": {"mean": 0.5, "n": 20}}


def test_an_arm_with_a_missing_image_is_incomplete_and_its_pairs_are_left_out(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "run", noisy, missing=lambda method, index: method == "reseed" and index == 7)
    found = valid(results.compute(ledger))
    told = row(found["comparisons"], prompts="*")
    assert (told["n"], told["complete"], told["p"]) == (19, False, None)
    assert not found["run"]["finished"]
    assert 7 not in [p["index"] for p in found["pairs"]]
    assert len(found["pairs"]) == 19


# Costs ---------------------------------------------------------------------------------------------------------------


def test_times_are_compared_by_batches_and_only_where_they_were_measured_alike(tmp_path: Path) -> None:
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


# Pairs ---------------------------------------------------------------------------------------------------------------


def test_pairs_to_look_at_are_evenly_spaced_and_no_more_than_a_page_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.analysis.browsable.BROWSABLE_PAIRS", 5)
    found = valid(results.compute(write_ledger(tmp_path / "run", noisy, prompts=21)))
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


# Several runs --------------------------------------------------------------------------------------------------------


def test_runs_that_share_a_baseline_are_one_table(tmp_path: Path) -> None:
    one = write_ledger(tmp_path / "one", noisy, methods=("standard", "a"))
    two = write_ledger(tmp_path / "two", noisy, methods=("standard", "b"))
    found = valid(results.compute(one, two, folder=tmp_path / "merged"))
    assert [a["method"] for a in found["arms"] if a["prompts"] == "*"] == ["standard", "a", "b"]
    alone = row(results.compute(two).document()["comparisons"], method="b", prompts="*")
    together = row(found["comparisons"], method="b", prompts="*")
    same = ("delta", "low", "high", "p", "n", "win_rate")
    assert {k: together[k] for k in same} == {k: alone[k] for k in same}
    assert together["p_holm"] >= alone["p_holm"]  # there are more comparisons now
    assert [r["path"] for r in found["runs"]] == ["../one", "../two"]
    assert found["pairs"][0]["runs"] == {"standard": 0, "a": 0, "b": 1}


def test_runs_of_other_settings_lie_side_by_side(tmp_path: Path) -> None:
    ledgers = [write_ledger(tmp_path / str(steps), noisy, steps=steps) for steps in (10, 20)]
    found = valid(results.compute(*ledgers))
    assert [s["steps"] for s in found["settings"]] == [10, 20]
    assert {c["steps"] for c in found["comparisons"]} == {10, 20}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"version": "2"}, "standard on shapes-sdxl (shapes-drawbench 0, seed 0) is another image"),
        ({"text": "a square, take {index}"}, "prompt 0 of shapes-drawbench is another text"),
    ],
)
def test_runs_that_disagree_on_what_they_share_are_refused(tmp_path: Path, other: dict[str, Any], reason: str) -> None:
    one = write_ledger(tmp_path / "one", noisy)
    two = write_ledger(tmp_path / "two", noisy, **other)
    with pytest.raises(NotComparable) as error:
        results.compute(one, two)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_of_another_baseline_is_refused(tmp_path: Path) -> None:
    one, two = (write_ledger(tmp_path / name, noisy) for name in ("one", "two"))
    written = two.get("suite")
    two.set("suite", {**written, "baseline": "reseed"})
    with pytest.raises(NotComparable, match=r"another baseline: .*'standard'.*'reseed'"):
        results.compute(one, two)


@pytest.mark.parametrize("seeds", [(0,), (1,)])
def test_runs_of_another_negative_prompt_are_refused_though_they_share_no_pair(
    tmp_path: Path, seeds: tuple[int, ...]
) -> None:
    one, two = write_ledger(tmp_path / "one", noisy), write_ledger(tmp_path / "two", noisy, seeds=seeds)
    two.set("suite", {**two.get("suite"), "negative_prompt": "blurry"})
    with pytest.raises(NotComparable, match=r"another negative prompt: .*''.*'blurry'"):
        results.compute(one, two)


def test_one_label_for_two_methods_is_refused_though_they_share_no_pair(tmp_path: Path) -> None:
    one, two = (write_ledger(tmp_path / str(seed), noisy, seeds=(seed,), methods=("standard", "a")) for seed in (0, 1))
    written = two.get("suite")
    written["methods"][1]["chain"] = [{"use": "inversion", "params": {"inversion_guidance": 1.0}}]
    two.set("suite", written)
    with pytest.raises(NotComparable, match=r"another method 'a': .*'reseed.*'inversion \(inversion_guidance 1.0\)'"):
        results.compute(one, two)


def test_several_runs_are_reported_from_the_command_line(tmp_path: Path, bench: Bench) -> None:
    for name, method in (("one", "a"), ("two", "b")):
        write_ledger(tmp_path / name, noisy, methods=("standard", method)).close()
    done = bench("report", tmp_path / "one", tmp_path / "two", "--format", "md")
    assert done.code == 0, done.err
    merged = next(tmp_path.glob("merged-*"))
    assert "| a |" in (merged / "report.md").read_text()
    assert "| b |" in (merged / "report.md").read_text()
    write_ledger(tmp_path / "three", noisy, methods=("standard", "a"), version="2").close()
    done = bench("report", tmp_path / "one", tmp_path / "three", "--out", tmp_path / "out")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert not (tmp_path / "out" / "report.md").exists()


def test_scores_by_an_older_scorer_are_said_and_not_used(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "run", noisy)
    ledger.db.execute("UPDATE scores SET scorer = 'old'")
    found = results.compute(Ledger(tmp_path / "run")).document()
    assert "40 scores of Preference are by another version of its scorer and count for nothing." in found["notes"]
    assert not found["run"]["finished"]


def test_runs_of_one_model_name_with_other_weights_are_refused(tmp_path: Path) -> None:
    """They share no pair that could tell: the seeds are others."""
    ledgers = [write_ledger(tmp_path / str(seed), noisy, seeds=(seed,)) for seed in (0, 1)]
    found = valid(results.compute(*ledgers))
    assert {r["seed"] for r in found["seeds"]} == {0, 1}
    for ledger, digest in zip(ledgers, "ab", strict=True):
        written = json.dumps({"weights": {"shapes-sdxl": digest}})
        ledger.db.execute("UPDATE sessions SET provenance = ?", (written,))
    with pytest.raises(NotComparable, match="other weights of shapes-sdxl; report them apart"):
        results.compute(*ledgers)


def test_a_run_given_twice_is_one_run(tmp_path: Path, bench: Bench) -> None:
    write_ledger(tmp_path / "run", noisy).close()
    done = bench("report", tmp_path / "run", tmp_path / "run" / ".." / "run", "--format", "md")
    assert done.code == 0, done.err
    assert len(json.loads((tmp_path / "run" / "results.json").read_text())["runs"]) == 1


def test_a_foreign_ledgers_names_are_plain_text_on_a_terminal(tmp_path: Path, bench: Bench) -> None:
    name = "quick\x1b[31m\u202ered"
    ledger = write_ledger(tmp_path / "run", noisy)
    written = ledger.get("suite")
    written["methods"][1]["label"] = name
    ledger.set("suite", written)
    ledger.set("optimises", {m: {"shapes-sdxl": []} for m in ("standard", name)})
    ledger.db.execute("UPDATE cells SET method = ? WHERE method = 'reseed'", (name,))
    ledger.close()
    done = bench("report", tmp_path / "run", "--format", "md")
    assert done.code == 0, done.err
    assert "quick [31m red against standard" in done.out
    assert not {"\x1b", "\u202e"} & set(done.out)


@pytest.mark.parametrize(
    ("prompts", "low", "ok", "said"),
    [
        (12, -0.02, None, "too few prompts (12) to show one"),
        (30, -0.02, False, "the harness misses an effect that is there"),
        (12, 0.02, True, "as it must be"),
        (12, -0.3, False, "the harness misses an effect that is there"),
    ],
)
def test_a_control_of_too_few_prompts_is_no_fault_of_the_harness(
    prompts: int, low: float, ok: bool | None, said: str
) -> None:
    """Few prompts may not show a gain; that there is none is shown by any number."""
    from bench.analysis.controls import finding_of
    from bench.records import ComparisonRow

    row = ComparisonRow.model_construct(
        method="m", metric="shapes-preference", n_prompts=prompts, delta=low + 0.1, low=low, high=low + 0.2
    )
    found = finding_of(row, "positive", 0.001 if ok else 0.4)
    assert found.ok is ok
    assert found.sentence.endswith(said)
