"""bench.stats against scipy, hand-worked tables, closed forms and simulated clustered data."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.stats import (
    Interval,
    Outcomes,
    cluster_mean,
    clusters_needed,
    holm,
    outcomes,
    paired_delta,
    ratio,
    sign_flip_p,
    smallest_detectable,
    win_rate,
    win_rate_strict,
)

Array = NDArray[Any]
Rng = np.random.Generator

properties = settings(max_examples=40, deadline=None, derandomize=True)
Z95 = 1.959963984540054  # z[0.975], from tables
Z80 = 0.8416212335729143  # z[0.80]


@pytest.fixture
def rng() -> Rng:
    return np.random.default_rng(20240)


def bounds(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def clustered(rng: Rng, *, k: int, mean: float = 0.0, between: float = 1.0, within: float = 0.5) -> tuple[Array, Array]:
    """Values and labels of k clusters of 1 to 8 rows, whose own means spread by `between`."""
    labels = np.repeat(np.arange(k), rng.integers(1, 9, size=k))
    return mean + rng.normal(0, between, k)[labels] + rng.normal(0, within, len(labels)), labels


def within_monte_carlo_error(hits: int, trials: int, rate: float) -> bool:
    return abs(hits / trials - rate) <= 3 * math.sqrt(rate * (1 - rate) / trials)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """treated, baseline, clusters of 2 to 24 rows; quarters, so that sums are exact and ties occur."""
    n = draw(st.integers(2, 24))
    score = st.integers(-12, 12).map(lambda quarters: quarters / 4)
    columns = [np.array(draw(st.lists(score, min_size=n, max_size=n))) for _ in range(2)]
    labels = draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))
    return columns[0], columns[1], np.array(labels)


# Intervals ----------------------------------------------------------------------------------------------------------


def by_hand(values: Array, low: float | None = None, high: float | None = None, *, level: float = 0.95) -> Any:
    """The definition for clusters of one row: t, and Hall's bound where it is the farther one."""
    spare = 0.0 if low is None else 1.5
    ends = [low or 0.0, high or 0.0]
    n = len(values) + 2 * spare
    moment = [
        (values**power).sum() / n + spare * sum(end**power for end in ends) / n for power in range(4)
    ]  # raw moments with the pseudo-prompts
    variance = moment[2] - moment[1] ** 2
    third = moment[3] - 3 * moment[1] * moment[2] + 2 * moment[1] ** 3
    skew = math.sqrt(n * (n - 1)) / (n - 2) * third / variance**1.5
    error, t = math.sqrt(variance / (n - 1)), scipy.stats.t.ppf((1 + level) / 2, n - 1)

    def hall(x: float) -> float:
        return 3 * math.sqrt(n) / skew * (float(np.cbrt(1 + skew * (x / math.sqrt(n) - skew / (6 * n)))) - 1)

    low_reach, high_reach = (min(max(t, found), 1.5 * t) for found in (hall(t), -hall(-t)))
    found = values.mean() - error * low_reach, values.mean() + error * high_reach
    return found if low is None else (max(found[0], low), min(found[1], high or 0.0))


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


# Wins, ties and losses ----------------------------------------------------------------------------------------------


def test_outcomes_count_a_tie_up_to_and_with_the_margin() -> None:
    treated, baseline = [1.0, 0.5, 0.75, 0.0, 0.25], [0.0, 0.5, 0.25, 0.25, 1.0]
    assert outcomes(treated, baseline) == Outcomes(win=2, tie=1, loss=2)
    assert outcomes(treated, baseline, tie=0.5) == Outcomes(win=1, tie=3, loss=1)
    assert outcomes(treated, baseline, tie=0.25) == Outcomes(win=2, tie=2, loss=1)


def test_a_tie_is_half_a_win() -> None:
    assert Outcomes(win=2, tie=1, loss=1).rate == 0.625
    assert Outcomes(win=2, tie=1, loss=1).n == 4


def test_a_tie_moves_a_win_rate_by_about_what_it_weighs() -> None:
    """Seven prompts won, or six and a tie: one seventh of half a win, not from 57 % to 70 %."""
    won, tied = (win_rate([1] * n + [0] * (7 - n), [0] * 7, range(7)) for n in (7, 6))
    assert abs(won.low - tied.low) < 0.1
    assert (won.high, tied.high) == (1.0, 1.0)
    assert 0.3 < tied.low < won.low < 0.75
    assert won.low < win_rate([1] * 20, [0] * 20, range(20)).low < win_rate([1] * 400, [0] * 400, range(400)).low < 1


def test_a_win_rate_is_the_mean_of_halves_and_ones(rng: Rng) -> None:
    treated, baseline = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    points = np.array([1 if t > b else 0.5 if t == b else 0 for t, b in zip(treated, baseline, strict=True)])
    ours = win_rate(treated, baseline, range(60))
    assert bounds(ours) == pytest.approx(by_hand(points, 0.0, 1.0), rel=1e-12)
    assert ours.estimate == pytest.approx(outcomes(treated, baseline).rate, abs=1e-12)


def test_a_strict_win_rate_counts_a_tie_as_a_loss() -> None:
    """Two wins, a tie and a loss: 2 / 4, and 2.5 / 4 of ours. Equal sides have half a win each, and no strict one."""
    treated, baseline = [1, 1, 0, -1], [0, 0, 0, 0]
    assert (win_rate_strict(treated, baseline, range(4)).estimate, win_rate(treated, baseline, range(4)).estimate) == (
        0.5, 0.625)  # fmt: skip
    assert win_rate_strict(baseline, baseline, range(4)).estimate == 0.0
    assert win_rate(baseline, baseline, range(4)).estimate == 0.5
    assert win_rate_strict(treated, baseline, range(4), tie=1).estimate == 0.0


@properties
@given(pairs(), st.sampled_from([0.0, 0.25, 1.0]))
def test_the_win_rates_of_both_sides_sum_to_one(data: tuple[Array, Array, Array], tie: float) -> None:
    treated, baseline, labels = data
    there = win_rate(treated, baseline, labels, tie=tie)
    back = win_rate(baseline, treated, labels, tie=tie)
    assert there.estimate + back.estimate == pytest.approx(1, abs=1e-12)
    assert bounds(there) == pytest.approx((1 - back.high, 1 - back.low), abs=1e-12)
    assert there.high > there.low
    counted = outcomes(treated, baseline, tie=tie)
    mirrored = outcomes(baseline, treated, tie=tie)
    assert (counted.win, counted.tie, counted.loss) == (mirrored.loss, mirrored.tie, mirrored.win)


# Tests --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 7, 13])
@pytest.mark.parametrize("mean", [0.0, 0.7])
def test_exact_sign_flips_are_scipys(rng: Rng, k: int, mean: float) -> None:
    deltas = rng.normal(mean, 1, size=k)
    expected = scipy.stats.permutation_test((deltas,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(deltas, range(k)) == pytest.approx(expected.pvalue, abs=1e-12)


def test_whole_clusters_are_flipped(rng: Rng) -> None:
    """Unequal clusters: the flips are those of the cluster sums, as the number of rows stays as it is."""
    deltas, labels = clustered(rng, k=8, mean=0.6)
    sums = np.array([deltas[labels == label].sum() for label in range(8)])
    expected = scipy.stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(deltas, labels) == pytest.approx(expected.pvalue, abs=1e-12)


def test_ten_prompts_that_all_gained_have_two_chances_in_1024() -> None:
    assert sign_flip_p(range(1, 11), range(10)) == 2 / 1024


def test_float_noise_does_not_break_ties() -> None:
    """0.1 + 0.2 - 0.3 is 5.6e-17 in floats and zero in truth, as 1 + 2 - 3 is; and equal deltas are ties in plenty."""
    assert sign_flip_p([0.1, 0.2, -0.3], "abc") == 1.0
    assert sign_flip_p([0.3, 0.1, -0.2, 0.1], "abcd") == sign_flip_p([3, 1, -2, 1], "abcd")
    assert sign_flip_p([0.1] * 5 + [-0.1] * 3, range(8)) == pytest.approx(scipy.stats.binomtest(3, 8).pvalue)


def test_nothing_changed_or_one_prompt_is_no_evidence() -> None:
    assert sign_flip_p(np.zeros(30), range(30)) == 1.0
    assert sign_flip_p([5, 6, 7], ["p"] * 3) == 1.0


def test_monte_carlo_flips_agree_with_the_sign_test() -> None:
    """13 of 20 equal gains: with all sizes equal the flips are the exact sign test, p = 0.2632."""
    exact = float(scipy.stats.binomtest(13, 20).pvalue)
    estimate = sign_flip_p([1.0] * 13 + [-1.0] * 7, range(20), permutations=20_000)
    assert within_monte_carlo_error(round(estimate * 20_000), 20_000, exact)


def test_thirteen_clusters_are_enumerated_and_fourteen_are_drawn() -> None:
    """All gained: 2 patterns of 2**13 whatever `permutations` says; 9 draws cannot say less than 1 in 10."""
    assert sign_flip_p(np.ones(13), range(13), permutations=9) == 2 / 2**13
    assert sign_flip_p(np.ones(14), range(14), permutations=9) >= 1 / 10


def test_monte_carlo_p_is_never_zero() -> None:
    assert sign_flip_p(np.ones(60), range(60), permutations=999) == 1 / 1000


@pytest.mark.parametrize("k", [10, 25], ids=["exact", "monte carlo"])
def test_false_positives_come_at_the_rate_of_alpha(k: int) -> None:
    """No effect, strong clusters: 5% of 1000 tests reject. Flipping rows instead would reject in far more."""
    rng = np.random.default_rng(k)
    rejected = rowwise = 0
    for seed in range(1000):
        deltas, labels = clustered(rng, k=k)
        rejected += sign_flip_p(deltas, labels, permutations=199, seed=seed) <= 0.05
        rowwise += sign_flip_p(deltas, range(len(deltas)), permutations=199, seed=seed) <= 0.05
    assert within_monte_carlo_error(rejected, 1000, 0.05)
    assert rowwise > 150


@properties
@given(pairs())
def test_the_sign_of_the_deltas_does_not_change_p(data: tuple[Array, Array, Array]) -> None:
    treated, baseline, labels = data
    p = sign_flip_p(treated - baseline, labels)
    assert 0 < p <= 1
    assert sign_flip_p(baseline - treated, labels) == p


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # 4*.005, 3*.01, 2*.03, then .04 raised to .06
        ([0.01, 0.02, 0.03], [0.03, 0.04, 0.04]),  # 3*.01, 2*.02, then .03 raised to .04
        ([0.5, 0.6], [1.0, 1.0]),  # 2*.5, then 1*.6 raised to 1
        ([0.9, 0.001, 0.8], [1.0, 0.003, 1.0]),  # 2*.8 capped
        ([0.02, 0.02], [0.04, 0.04]),  # ties share
        ([0.3], [0.3]),  # a family of one
        ([0.04, math.nan, 0.01, math.nan], [0.04, math.nan, 0.02, math.nan]),  # a family of two
        ([math.nan], [math.nan]),
    ],
)
def test_holm_by_hand(p: list[float], adjusted: list[float]) -> None:
    assert holm(p) == pytest.approx(adjusted, abs=1e-15, nan_ok=True)


@properties
@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=12))
def test_holm_raises_p_keeps_their_order_and_is_at_most_bonferroni(p: list[float]) -> None:
    raw, adjusted = np.array(p), holm(p)
    tested = ~np.isnan(raw)
    assert (np.isnan(adjusted) == ~tested).all()
    raw, adjusted = raw[tested], adjusted[tested]
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(raw * len(raw), 1)).all()
    assert (np.diff(adjusted[np.argsort(raw)]) >= 0).all()


# Power --------------------------------------------------------------------------------------------------------------


def test_smallest_detectable_of_equal_clusters_is_the_closed_form(rng: Rng) -> None:
    """Clusters of one size: the standard error of the mean of the cluster means."""
    deltas = rng.normal(size=(25, 4)) + rng.normal(size=(25, 1))
    standard_error = deltas.mean(axis=1).std(ddof=1) / math.sqrt(25)
    ours = smallest_detectable(deltas.ravel(), np.repeat(np.arange(25), 4))
    assert 2.917 * standard_error < ours < 2.923 * standard_error  # 24 degrees of freedom: t 2.064, noncentrality 2.920


def test_smallest_detectable_of_unequal_clusters_by_hand() -> None:
    """Mean 11/4; residual sums -9/4 and 9/4; variance 2 (81/16) * 2 / 1 / 4**2 = 81/64; standard error 9/8."""
    for power in (0.8, 0.5):
        away = smallest_detectable([1, 2, 3, 5], "aaab", power=power) / (9 / 8)
        assert scipy.stats.nct.sf(12.7062, 1, away) == pytest.approx(power, abs=1e-4)


def test_smallest_detectable_without_spread() -> None:
    assert smallest_detectable([1, 2], "aa") == math.inf
    assert smallest_detectable([2, 2, 2], "abc") == 0.0


def test_power_at_the_smallest_detectable_delta() -> None:
    """The delta found from null runs is then found by the sign-flip test in 80% of 500 runs, up to its own error."""
    rng = np.random.default_rng(5)
    null = [clustered(rng, k=100) for _ in range(100)]
    delta = float(np.mean([smallest_detectable(*run) for run in null]))
    found = 0
    for seed in range(500):
        deltas, labels = clustered(rng, k=100, mean=delta)
        found += sign_flip_p(deltas, labels, permutations=399, seed=seed) <= 0.05
    assert within_monte_carlo_error(found, 500, 0.8)


def test_clusters_needed_go_with_the_square_of_the_delta(rng: Rng) -> None:
    deltas, labels = clustered(rng, k=30)
    detectable = smallest_detectable(deltas, labels)
    assert clusters_needed(deltas, labels, detectable) == 30
    # Nine times as many, less by the noncentralities that 254 and 29 degrees of freedom need: 2.814 and 2.901.
    assert clusters_needed(deltas, labels, -detectable / 3) == pytest.approx(270 * (2.814 / 2.901) ** 2, abs=2)
    assert clusters_needed(deltas, labels, detectable * 0.999) == 31  # rounded up: 30.06
    assert clusters_needed(deltas, labels, 1e6) == 2


def test_clusters_needed_by_the_textbook() -> None:
    """Deltas of standard deviation 2, to find 0.5 at 80%: effect 0.25, 128 pairs of the t test, as G*Power has them."""
    spread = 2 * math.sqrt(39 / 40)  # of 40 deltas of +-spread the sample standard deviation is 2
    assert clusters_needed([spread, -spread] * 20, range(40), 0.5) == 128


# Mistakes -----------------------------------------------------------------------------------------------------------

ON_VALUES = [cluster_mean, sign_flip_p, smallest_detectable, lambda d, c: clusters_needed(d, c, 1.0)]
ON_PAIRS = [paired_delta, win_rate, ratio]


@pytest.mark.parametrize("statistic", ON_VALUES)
@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([], [], "at least one value"),
        ([[1, 2]], [1], "one dimension"),
        ([1, 2, 3], [1, 2], r"3, clusters 2"),
        ([1, math.nan], [1, 2], "nan at row 1; every value must be finite"),
        ([math.inf, 1], [1, 2], "inf at row 0"),
        ([1, 2], [1, math.nan], "NaN label"),
        ([1, 2], [[1], [2]], "unhashable"),
    ],
)
def test_bad_values_are_one_clear_line(
    statistic: Callable[..., Any], values: list[float], clusters: list[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        statistic(values, clusters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("statistic", ON_PAIRS)
@pytest.mark.parametrize(
    ("first", "second", "clusters", "message"),
    [
        ([], [], [], "at least one value"),
        ([1, 2], [1], [1, 2], "different lengths"),
        ([1, 2], [1, 2], [1], r"2, clusters 1"),
        ([1, 2], [1, math.nan], [1, 2], "(baseline|denominator) has nan at row 1"),
    ],
)
def test_bad_pairs_are_one_clear_line(
    statistic: Callable[..., Any], first: list[float], second: list[float], clusters: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        statistic(first, second, clusters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: outcomes([1], [1, 2]), "different lengths: treated 1, baseline 2"),
        (lambda: outcomes([1], [math.nan]), "baseline has nan"),
        (lambda: outcomes([1], [2], tie=-0.1), "tie is -0.1"),
        (lambda: win_rate([1, 2], [2, 1], "ab", tie=math.nan), "tie is nan"),
        (lambda: win_rate([1], [2], "a", level=95), "level is 95"),
        (lambda: cluster_mean([1, 2], "ab", level=0), "level is 0"),
        (lambda: cluster_mean([1, 2], "ab", (2, 1)), r"bounds is \(2, 1\)"),
        (lambda: cluster_mean([1, 2], "ab", (0, math.inf)), "a range with two ends"),
        (lambda: cluster_mean([0, 2], "ab", (0, 1)), r"values has 2, outside its bounds \(0, 1\)"),
        (lambda: paired_delta([0, 2], [0, 0], "ab", (-1, 1)), "treated - baseline has 2"),
        (lambda: ratio([1, 2], [1, 0], "ab"), "denominator has 0"),
        (lambda: sign_flip_p([1, 2], "ab", permutations=0), "permutations is 0"),
        (lambda: holm([]), "at least one value"),
        (lambda: holm([0.1, 1.1]), "outside 0 to 1"),
        (lambda: holm([-0.1]), "outside 0 to 1"),
        (lambda: smallest_detectable([1, 2], "ab", power=80), "power is 80"),
        (lambda: smallest_detectable([1, 2], "ab", alpha=0), "alpha is 0"),
        (lambda: clusters_needed([1, 2], "ab", 0.0), "delta is 0"),
        (lambda: clusters_needed([1, 2], "ab", math.nan), "delta is nan"),
        (lambda: clusters_needed([1, 2], "aa", 1.0), "one label"),
    ],
)
def test_bad_options_say_what_was_given(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
