"""Diversity within prompts, and the intervals and tests of set metrics, by how often they are right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from feature_rows import drawn

from bench.analysis.sets import Sets, exchange_p
from bench.metrics.base import MetricEntry
from bench.metrics.distances import Gaussian, OverPrompts, frechet, spread, vendi

# Diversity -----------------------------------------------------------------------------------------------------------


def test_vendi_counts_what_differs() -> None:
    assert vendi(np.tile([[1.0, 2.0, 3.0]], (5, 1))) == pytest.approx(1)
    assert vendi(np.eye(6) * 7) == pytest.approx(6)
    assert vendi(np.repeat(np.eye(3), 4, axis=0)) == pytest.approx(3), "copies add nothing"
    assert np.isnan(vendi(np.ones((1, 3))))


def test_spread_is_the_mean_of_all_pairs() -> None:
    x = drawn(7, 4, 9)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = [1 - unit[i] @ unit[j] for i in range(7) for j in range(i)]
    assert spread(x) == pytest.approx(np.mean(pairs))
    assert spread(np.eye(2)) == pytest.approx(1)


def test_diversity_is_of_each_prompt_and_a_prompt_drawn_twice_counts_twice() -> None:
    features = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1], [1, 0]])  # equal; at right angles; alone
    groups = np.array([7, 7, 3, 3, 5])
    of = OverPrompts(spread)
    assert of(features, np.ones(5), groups) == pytest.approx(0.5), "a prompt with one image says nothing"
    assert of(features, np.array([1.0, 1, 2, 2, 1]), groups) == pytest.approx(2 / 3)
    assert of(features, np.array([3.0, 3, 0, 0, 0]), groups) == pytest.approx(0)
    assert np.isnan(of(features[4:], np.ones(1), groups[4:]))
    copies = np.repeat(features, 2, axis=0), np.repeat([0, 1], 5)
    assert of(copies[0][:4], np.ones(4), np.zeros(4, int)) == 0, "other features are not answered from memory"


def collapsing(name: str = "some-diversity") -> MetricEntry:
    return MetricEntry(
        name, title=name, unit="", load=None, identify=str, kind="set", value=OverPrompts(spread), by_prompt=True,
        resamples=200,
    )  # fmt: skip


def test_a_method_that_makes_one_image_of_a_prompt_is_found_out() -> None:
    rng, texts = np.random.default_rng(3), np.repeat(np.arange(30), 4)
    plain = rng.standard_normal((120, 8))
    collapsed = np.repeat(plain[::4], 4, axis=0) + 0.1 * rng.standard_normal((120, 8))
    found = Sets().compare({"complete": True}, collapsing(), collapsed, plain, texts)
    assert found["n_prompts"] == 30
    assert found["high"] < -0.5
    assert found["p"] < 0.01
    same = rng.standard_normal((120, 8))
    assert exchange_p(collapsing(), same, plain, texts) > 0.05
    once = Sets().value(collapsing(), plain, np.arange(120))
    assert once == "compares the images of one prompt, and no prompt has two"


# Intervals and tests of Fréchet distances ----------------------------------------------------------------------------

DISTANCE = MetricEntry("some-distance", title="", unit="", load=None, identify=str, kind="set", value=frechet, fewest=4)
WIDE = Gaussian(np.zeros(6), np.diag([4.0, 2, 1, 1, 0.5, 0.2]))


def prompts_of_two(k: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Rows of two images for each of k prompts, which share a part; beside `WIDE`."""
    own = np.repeat(drawn(k, 6, 2 * seed), 2, axis=0)
    return WIDE.rows(own + drawn(2 * k, 6, 2 * seed + 1) + shift)


def test_the_interval_of_a_frechet_distance_holds_its_value_at_this_number_of_images_95_times_of_100() -> None:
    texts = np.repeat(np.arange(40), 2)
    found = [Sets().value(DISTANCE, prompts_of_two(40, seed), texts) for seed in range(200)]
    intervals = [f for f in found if f is not None]
    expected = np.mean([f.estimate for f in intervals])
    covered = np.mean([f.low <= expected <= f.high for f in intervals])
    assert len(intervals) == 200
    assert 0.90 <= covered <= 0.99  # 95 % within three errors, and a little for prompts that are few


def test_arms_that_do_not_differ_are_found_to_differ_5_times_of_100_and_others_mostly() -> None:
    texts = np.repeat(np.arange(30), 2)
    p = [exchange_p(DISTANCE, prompts_of_two(30, s), prompts_of_two(30, s + 500), texts) for s in range(200)]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.1
    moved = [exchange_p(DISTANCE, prompts_of_two(30, s, 1.0), prompts_of_two(30, s + 500), texts) for s in range(20)]
    assert np.mean(np.array(moved) <= 0.05) > 0.8
    same = prompts_of_two(30, 1)
    assert exchange_p(DISTANCE, same, same, texts) == 1


class Counted:
    """The mean of the first feature, and how often it was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, features: np.ndarray, weights: np.ndarray) -> float:
        self.asked += 1
        return float(weights @ features[:, 0] / weights.sum())


def test_what_a_named_number_says_of_features_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    value, texts = Counted(), np.arange(12)
    entry = replace(DISTANCE, name="counted", value=value, resamples=100)
    a, b = drawn(12, 2, 50), drawn(12, 2, 51)
    first = Sets().compare({"complete": True}, entry, a, b, texts), Sets().value(entry, a, texts)
    alone = value.asked
    again = Sets().compare({"complete": True}, entry, a, b, texts), Sets().value(entry, a, texts)
    assert (again, value.asked) == (first, 2 * alone), "a value without a name may change its code"
    value.identity = "counted-1"  # type: ignore[attr-defined]
    kept = [(Sets().compare({"complete": True}, entry, a, b, texts), Sets().value(entry, a, texts)) for _ in range(2)]
    assert kept == [first, first]
    named = value.asked
    assert named < 3 * alone
    for path in (tmp_path / "sets").rglob("*.npy"):
        path.write_bytes(path.read_bytes()[:20])  # cut short
    assert Sets().value(entry, a, texts) == first[1]
    assert value.asked > named
    before = value.asked
    Sets().value(entry, a + 1, texts)
    assert value.asked > before, "other features"
