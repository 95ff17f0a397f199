"""Metrics of pairs and of sets: what they say by closed forms, how they are cached, and every stage that reads them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from judged_kinds import LEVEL, LIKED, Second, comparison, entry, judged, level
from judged_kinds import known as known
from PIL import Image as Picture

from bench import registry
from bench.analysis import results
from bench.analysis.sets import Sets, exchange_p
from bench.metrics.base import MetricEntry, Value
from bench.prompts.base import Prompt
from bench.report import markdown
from bench.runner.score import of_run, score
from bench.store import Ledger
from bench.store.images import pixel_digest

SCHEMA = json.loads((Path(results.__file__).parents[1] / "schemas" / "results.schema.json").read_text())


def square(features: np.ndarray, weights: np.ndarray) -> float:
    """The squared mean, which a bootstrap finds too large by the variance of the mean."""
    return level(features, weights) ** 2


def spread(features: np.ndarray, weights: np.ndarray) -> float:
    """The variance of the first feature."""
    return level(features**2, weights) - square(features, weights)


def of_sets(value: Any, **more: Any) -> MetricEntry:
    return entry("some-set", kind="set", value=value, **more)


def arm(found: dict[str, Any], method: str) -> dict[str, Any]:
    (row,) = [r for r in found["arms"] if (r["method"], r["prompts"]) == (method, "*")]
    return dict(row)


# A pair ---------------------------------------------------------------------------------------------------------------


def test_a_win_rate_is_the_mean_preference_and_the_delta_twice_its_lead(tmp_path: Path) -> None:
    """8 of 20 images at 1, 8 at 0.75, 4 at 0: (8 + 6) / 20 = 0.7."""
    found = results.compute(judged(tmp_path, lambda p: 1.0 if p[1] < 8 else 0.75 if p[1] < 16 else 0.0)).document()
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(found, allow_nan=False)))
    row = comparison(found, LIKED)
    assert (row["win_rate"], row["delta"]) == (pytest.approx(0.7), pytest.approx(0.4))
    assert (row["win"], row["tie"], row["loss"], row["n"], row["complete"]) == (16, 0, 4, 20, True)
    values = np.repeat([1.0, 0.75, 0.0], (8, 8, 4))
    half = 1.96 * values.std() / math.sqrt(20)
    assert (row["win_low"], row["win_high"]) == (
        pytest.approx(0.7 - half, abs=0.06),
        pytest.approx(0.7 + half, abs=0.06),
    )
    assert row["low"] == pytest.approx(2 * row["win_low"] - 1)
    assert arm(found, "standard")["metrics"][LIKED]["mean"] == 0
    assert found["metrics"][LIKED]["kind"] == "pair"
    assert found["metrics"][LIKED]["score_ms"] == 2.0


def test_a_preference_belongs_to_the_baseline_image_that_it_was_given_against(tmp_path: Path) -> None:
    ledger = judged(tmp_path, lambda p: 0.8)
    ledger.db.execute("UPDATE pair_scores SET baseline = 'another image' WHERE baseline = (SELECT MIN(baseline) FROM "
                      "pair_scores)")  # fmt: skip
    row = comparison(results.compute(ledger).document(), LIKED)
    assert (row["n"], row["complete"], row["win_rate"]) == (19, False, pytest.approx(0.8))


def shown(ledger: Ledger) -> None:
    """Put a picture of its own under every image of the ledger, which then has its digest."""
    (ledger.folder / "images").mkdir()
    for number, image in enumerate(ledger.images().values()):
        pixels = np.full((8, 8, 3), number, np.uint8)
        Picture.fromarray(pixels).save(ledger.folder / image.file)
        for table in ("images", "features"):
            ledger.db.execute(f"UPDATE {table} SET digest = ? WHERE digest = ?", (pixel_digest(pixels), image.digest))


@pytest.mark.parametrize(("both", "share", "times"), [(False, 0.9, 1), (True, 0.5, 2)])
def test_pairs_are_asked_once_an_order_and_again_of_a_new_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, both: bool, share: float, times: int
) -> None:
    """Who always prefers the second image is heard as 0.9, and asked in both orders as 0.5; equal images are a tie."""
    ledger = judged(tmp_path, lambda p: None, prompts=3)
    shown(ledger)
    first = ledger.db.execute("SELECT digest FROM cells JOIN images USING (job_id) WHERE method = 'standard' AND "
                              "prompt_index = 0").fetchone()[0]  # fmt: skip
    ledger.db.execute("UPDATE images SET digest = ? WHERE job_id = (SELECT job_id FROM cells WHERE method = 'a' AND "
                      "prompt_index = 0)", (first,))  # fmt: skip
    changed = replace(registry.get("metrics", LIKED), both_orders=both)
    monkeypatch.setattr(registry, "get", lambda kind, name: changed)
    monkeypatch.setattr(Second, "asked", 0)
    score({LIKED: of_run(ledger, LIKED)}, ledger, device="cpu")
    score({LIKED: of_run(ledger, LIKED)}, ledger, device="cpu")
    assert Second.asked == 2 * times, "each pair once, and the equal images not at all"
    rows = ledger.db.execute("SELECT value, ms FROM pair_scores").fetchall()
    assert sorted(round(v, 9) for v, ms in rows if ms is not None) == [share, share]
    assert [v for v, ms in rows if ms is None] == [0.5], "what was not asked took no time"
    job, file = ledger.db.execute("SELECT job_id, file FROM cells JOIN images USING (job_id) WHERE method = 'standard' "
                                  "AND prompt_index = 1").fetchone()  # fmt: skip
    new = np.full((8, 8, 3), 99, np.uint8)
    Picture.fromarray(new).save(ledger.folder / file)
    ledger.db.execute("UPDATE images SET digest = ? WHERE job_id = ?", (pixel_digest(new), job))
    score({LIKED: of_run(ledger, LIKED)}, ledger, device="cpu")
    assert Second.asked == 3 * times


@pytest.mark.parametrize(
    ("kind", "said"), [("pair", "score_pairs gave 1.5, expected 0 to 1"), ("set", "features gave shape (2, 0)")]
)
def test_a_scorer_that_breaks_its_promise_has_no_scores_for_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, said: str
) -> None:
    class Wrong:
        def score_pairs(self, *given: Sequence[Any]) -> list[Value]:
            return [Value(1.5)] * len(given[0])

        def features(self, images: Sequence[Any], prompts: Sequence[Prompt]) -> np.ndarray:
            return np.empty((len(images), 0))

    ledger = judged(tmp_path, lambda p: None, lambda p: None, prompts=1)
    shown(ledger)
    name = {"pair": LIKED, "set": LEVEL}[kind]
    wrong = replace(registry.get("metrics", name), load=lambda device: Wrong())
    monkeypatch.setattr(registry, "get", lambda kind, name: wrong)
    score({name: of_run(ledger, name)}, ledger, device="cpu")
    reasons = [reason for (reason,) in ledger.db.execute("SELECT reason FROM score_failures")]
    assert reasons
    assert all(said in reason for reason in reasons)
    assert not ledger.scored(name, wrong.digest())


# A set ----------------------------------------------------------------------------------------------------------------


def test_what_both_arms_share_cancels_and_the_test_is_exact(tmp_path: Path) -> None:
    """A shift by 0.5 in every image: no width at all, and of 2**8 exchanges two are as extreme."""
    found = results.compute(
        judged(tmp_path, at=lambda p: p[1] ** 2 + (0.5 if p[0] == "a" else 0.0), prompts=8)
    ).document()
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(found, allow_nan=False)))
    row = comparison(found, LEVEL)
    assert [row[k] for k in ("delta", "low", "high")] == pytest.approx([0.5] * 3)
    assert row["p"] == 2 / 2**8
    assert (row["n"], row["n_prompts"], row["win_rate"], row["win"]) == (8, 8, None, None)
    assert arm(found, "standard")["metrics"][LEVEL]["mean"] == pytest.approx(17.5)
    assert found["pairs"][0]["scores"]["a"].keys() == {LIKED}, "a set says nothing of a single image"


def test_seeds_of_one_prompt_are_one_cluster() -> None:
    """40 prompts of 4 equal seeds: the standard error of 40 numbers, not of 160."""
    own = np.random.default_rng(0).normal(size=40)
    found = Sets().value(of_sets(level), np.repeat(own, 4)[:, None], np.repeat(np.arange(40), 4))
    assert found is not None
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * own.std() / math.sqrt(40), rel=0.1)


def test_an_interval_lies_around_the_value_and_not_around_the_draws() -> None:
    """The squared mean of 400 signs that cancel is 0; draws are chi squared / 400, whose mean 1 / 400 is taken off."""
    signs = np.repeat([1.0, -1.0], 200)[:, None]
    found = Sets().value(of_sets(square), signs, np.arange(400))
    assert found is not None
    assert found.estimate == 0
    assert 400 * found.low == pytest.approx(0.001 - 1, abs=0.15)
    assert 400 * found.high == pytest.approx(5.02 - 1, rel=0.15)


def test_intervals_and_the_test_keep_to_their_rates() -> None:
    """Variances 1 and 1.5 of 60 prompts: 95 % of intervals hold the difference, and 5 % of tests find none there."""
    rng, texts, of = np.random.default_rng(1), np.arange(60), of_sets(spread, resamples=200)
    covered = found = 0
    for _ in range(100):
        control = rng.normal(size=(60, 1))
        row: dict[str, Any] = {"complete": False}
        Sets().compare(row, of, math.sqrt(1.5) * rng.normal(size=(60, 1)), control, texts)
        covered += row["low"] <= 0.5 * 59 / 60 <= row["high"]
        found += exchange_p(of, rng.normal(size=(60, 1)), control, texts) <= 0.05
    assert 0.87 <= covered / 100 <= 0.99
    assert 0.01 <= found / 100 <= 0.11


def test_one_prompt_has_a_value_and_no_interval() -> None:
    found = Sets().value(of_sets(level), np.arange(4.0)[:, None], np.zeros(4, np.int64))
    assert found is not None
    assert (found.estimate, found.low, found.high) == (1.5, -math.inf, math.inf)


def test_too_few_images_are_refused_in_one_sentence_and_nothing_else_is(tmp_path: Path) -> None:
    computed = results.compute(judged(tmp_path, lambda p: 0.9, prompts=7))
    found = computed.document()
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(found, allow_nan=False)))
    assert {row["metric"] for row in found["comparisons"]} == {LIKED}
    value = arm(found, "a")["metrics"][LEVEL]
    assert (value["mean"], value["refused"]) == (None, "needs at least 8 images, there are 7")
    assert arm(found, "a")["complete"]
    (said,) = [note for note in found["notes"] if LEVEL in note and "no value" in note]
    assert "it needs at least 8 images, there are 7" in said
    text = markdown.render(computed)
    assert said in text
    assert "incomplete" not in text


def test_a_missing_feature_makes_an_arm_incomplete(tmp_path: Path) -> None:
    found = results.compute(judged(tmp_path, at=lambda p: None if p == ("a", 3, 0) else 1.0)).document()
    row = comparison(found, LEVEL)
    assert (row["n"], row["complete"], row["p"]) == (19, False, None)
    assert not arm(found, "a")["complete"]
    assert arm(found, "standard")["complete"]


@pytest.mark.parametrize(
    "wrong", [{"kind": "set"}, {"value": level}, {"kind": "set", "value": level, "fewest": 1}, {"both_orders": True}]
)
def test_an_entry_that_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="metric 'wrong'"):
        entry("wrong", **wrong)
