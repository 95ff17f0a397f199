"""bench.stats against scipy, hand-worked tables, closed forms and simulated clustered data."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from drawn_pairs import Array, Rng, bounds, by_hand, clustered, pairs, properties, within_monte_carlo_error
from drawn_pairs import rng as rng
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import (
    Interval,
    cluster_mean,
    paired_delta,
    ratio,
    sign_flip_p,
    smallest_detectable,
    win_rate,
)

# Intervals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_is_the_farther_of_students_and_halls(rng: Rng, level: float) -> None:
    """On values with a long tail: the t-test's own bound on the short side, Hall's on the long one."""
    values = rng.lognormal(size=41)
    ours = cluster_mean(values, range(41), level=level)
    student = scipy.stats.ttest_1samp(values, 0).confidence_interval(level)
    assert bounds(ours) == pytest.approx(by_hand(values, level=level), rel=1e-12)
    assert ours.low == pytest.approx(student.low, rel=1e-12)
    assert ours.high > student.high + 0.05 * (student.high - student.low)
    assert ours.estimate == pytest.approx(math.fsum(values) / 41, rel=1e-12)


def test_halls_bound_undoes_his_transformation(rng: Rng) -> None:
    """g(T) = T + skew T**2 / (3 sqrt n) + skew**2 T**3 / (27 n) + skew / (6 sqrt n), Hall (1992), at the bound is t."""
    values = rng.exponential(size=60)
    n, skew = 60, float(scipy.stats.skew(values, bias=False))
    high = cluster_mean(values, range(n)).high
    studentised = (values.mean() - high) / (values.std(ddof=1) / math.sqrt(n))
    g = studentised + skew * studentised**2 / (3 * math.sqrt(n)) + skew**2 * studentised**3 / (27 * n)
    assert g + skew / (6 * math.sqrt(n)) == pytest.approx(-scipy.stats.t.ppf(0.975, n - 1), rel=1e-9)


def test_a_range_adds_pseudo_prompts_at_both_ends() -> None:
    """20 prompts without a change: variance 3 / 23 over 23 values, t of 22 degrees: 2.0739 sqrt(3 / 23 / 22)."""
    found = paired_delta([1] * 12 + [0] * 8, [1] * 12 + [0] * 8, range(20))
    assert bounds(found) == pytest.approx((-2.0739 * math.sqrt(3 / 23 / 22), 2.0739 * math.sqrt(3 / 23 / 22)), abs=1e-4)
    deltas = np.array([-1.0] * 3 + [1.0] + [0.0] * 26)
    assert bounds(cluster_mean(deltas, range(30), (-1, 1))) == pytest.approx(by_hand(deltas, -1.0, 1.0), rel=1e-12)
    assert bounds(paired_delta(deltas, np.zeros(30), range(30))) == bounds(cluster_mean(deltas, range(30), (-1, 1)))


def test_whether_deltas_have_a_range_is_said_or_seen(rng: Rng) -> None:
    """-1, 0 and 1 look like 0/1 scores; equal scores of another kind have no width; infinite bounds say none."""
    plain, ranged = paired_delta([1.0, 0, 0, 1], [0.0, 0, 1, 1], range(4)), (-1.0, 1.0)
    assert plain == paired_delta([1.0, 0, 0, 1], [0.0, 0, 1, 1], range(4), ranged)
    assert plain != paired_delta([1.0, 0, 0, 1], [0.0, 0, 1, 1], range(4), (-math.inf, math.inf))
    same = paired_delta([0.3, 0.7, 2.0], [0.3, 0.7, 2.0], range(3))
    assert (same.low, same.high) == (0.0, 0.0)
    values = rng.normal(size=9)
    assert paired_delta(values, np.zeros(9), range(9)) == paired_delta(
        values, np.zeros(9), range(9), (-math.inf, math.inf)
    )


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, 7.3, 1e5 / 7, -1e-9])
def test_equal_values_leave_no_width_whatever_their_sum_rounds_to(value: float) -> None:
    for n in range(2, 200):
        low, high = bounds(cluster_mean([value] * n, range(n)))
        assert low == high, n


def test_unequal_clusters_are_cochrans_ratio_of_sums(rng: Rng) -> None:
    """The standard error is the textbook's of the ratio estimator; nothing but the skewness is beside it."""
    values, labels = clustered(rng, k=31)
    sums = np.array([values[labels == label].sum() for label in range(31)])
    counts = np.array([(labels == label).sum() for label in range(31)])
    ratio = sums.sum() / counts.sum()
    error = math.sqrt(((sums - ratio * counts) ** 2).sum() / 30 / 31) / counts.mean()
    ours = cluster_mean(values, labels)
    near = min(ours.high - ratio, ratio - ours.low)
    assert near == pytest.approx(scipy.stats.t.ppf(0.975, 30) * error, rel=1e-9)
    assert bounds(ours) == pytest.approx(by_hand(ratio + (sums - ratio * counts) / counts.mean()), rel=1e-9)


def test_ratio_is_cochrans_of_the_ratio_of_means(rng: Rng) -> None:
    fast, slow = rng.gamma(4, size=40), rng.gamma(9, size=40)
    ratio_of_means = fast.mean() / slow.mean()
    expected = by_hand(ratio_of_means + (fast - ratio_of_means * slow) / slow.mean())
    assert bounds(ratio(fast, slow, range(40))) == pytest.approx(expected, rel=1e-9)


def test_ratio_is_of_means_not_the_mean_of_ratios() -> None:
    """3 ms over 1 ms and 5 ms over 15 ms: 8 / 16, while the mean of the ratios would be 5 / 3."""
    assert ratio([3, 5], [1, 15], ["a", "b"]).estimate == 0.5


def test_ratio_of_a_constant_slowdown_has_no_doubt(rng: Rng) -> None:
    """The pairing: slow and quick prompts vary by a factor of ten, the slowdown is 1.25 on each."""
    baseline = rng.uniform(10, 100, size=50)
    slower = ratio(1.25 * baseline, baseline, range(50))
    assert (slower.estimate, slower.low, slower.high) == pytest.approx((1.25, 1.25, 1.25), rel=1e-12)


def test_a_lone_cluster_says_nothing() -> None:
    assert cluster_mean([1, 2, 6], ["p", "p", "p"]) == Interval(3.0, -math.inf, math.inf)
    assert ratio([1, 3], [2, 2], ["p", "p"]) == Interval(1.0, -math.inf, math.inf)
    assert win_rate([1, 1], [0, 0], ["p", "p"]) == Interval(1.0, 0.0, 1.0)


def test_memory_stays_bounded(rng: Rng) -> None:
    """2000 clusters by 10 000 resamples would take 160 MB of indices at once."""
    values = rng.normal(size=2000)
    tracemalloc.start()
    try:
        cluster_mean(values, range(2000))
        sign_flip_p(values, range(2000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64e6


def test_coverage_on_clustered_data_needs_the_clusters() -> None:
    """95% intervals hold the truth in 95% of 400 simulated runs; with rows taken as independent in far fewer."""
    rng = np.random.default_rng(11)
    clusterwise = rowwise = 0
    for _ in range(400):
        values, labels = clustered(rng, k=80, mean=0.3)
        low, high = bounds(cluster_mean(values, labels))
        clusterwise += low <= 0.3 <= high
        low, high = bounds(cluster_mean(values, range(len(values))))
        rowwise += low <= 0.3 <= high
    assert within_monte_carlo_error(clusterwise, 400, 0.95)
    assert rowwise / 400 < 0.8


def test_more_seeds_of_the_same_outcome_are_not_more_evidence(rng: Rng) -> None:
    """Every row three times within its prompt changes neither interval, power nor p."""
    values, labels = clustered(rng, k=12)
    thrice, labels_thrice = np.tile(values, 3), np.tile(labels, 3)
    once = cluster_mean(values, labels)
    again = cluster_mean(thrice, labels_thrice)
    assert bounds(again) == pytest.approx(bounds(once), rel=1e-12)
    assert smallest_detectable(thrice, labels_thrice) == pytest.approx(smallest_detectable(values, labels), rel=1e-12)
    assert sign_flip_p(thrice, labels_thrice) == sign_flip_p(values, labels)


@pytest.mark.parametrize(
    "name",
    [str, lambda label: ("prompt", label), lambda label: None if label == 0 else label],
    ids=["text", "tuples", "types that do not sort"],
)
def test_a_label_may_be_anything_hashable(rng: Rng, name: Callable[[int], Any]) -> None:
    """Nine clusters, named 0 to 8 in the order they come: every kind of name then gives the same draws."""
    values, labels = clustered(rng, k=9)
    named = [name(label) for label in labels.tolist()]
    assert cluster_mean(values, named) == cluster_mean(values, labels)


def test_one_and_the_text_one_are_two_clusters() -> None:
    """numpy would make both the text '1', and the interval infinite."""
    assert math.isfinite(cluster_mean([0, 1, 0, 1], [1, 1, "1", "1"]).low)


@properties
@given(pairs(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(data: tuple[Array, Array, Array], random: Any) -> None:
    order = list(range(len(data[0])))
    random.shuffle(order)
    treated, baseline, labels = (column[order] for column in data)
    shuffled = paired_delta(treated, baseline, labels)
    plain = paired_delta(*data)
    assert shuffled.estimate == pytest.approx((data[0] - data[1]).mean(), abs=1e-12)
    assert bounds(shuffled) == pytest.approx(bounds(plain), abs=1e-12)
    assert win_rate(treated, baseline, labels) == win_rate(*data)


@properties
@given(pairs())
def test_swapping_the_sides_mirrors_the_delta(data: tuple[Array, Array, Array]) -> None:
    treated, baseline, labels = data
    there = paired_delta(treated, baseline, labels)
    back = paired_delta(baseline, treated, labels)
    assert there.estimate == pytest.approx(-back.estimate, abs=1e-12)
    assert bounds(there) == pytest.approx((-back.high, -back.low), abs=1e-12)


@properties
@given(pairs(), st.integers(-50, 50), st.integers(1, 9))
def test_the_delta_moves_and_scales_with_the_treated_side(
    data: tuple[Array, Array, Array], shift: int, scale: int
) -> None:
    treated, baseline, labels = data
    none = (-math.inf, math.inf)
    plain = paired_delta(treated, baseline, labels, none)
    moved = paired_delta(scale * treated + shift, scale * baseline, labels, none)
    for before, after in zip((plain.estimate, *bounds(plain)), (moved.estimate, *bounds(moved)), strict=True):
        assert after == pytest.approx(scale * before + shift, abs=1e-9)
