"""Wins, tests and power: by hand, by closed forms, by scipy, and by their properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from drawn_pairs import Array, Rng, bounds, by_hand, clustered, pairs, properties, within_monte_carlo_error
from drawn_pairs import rng as rng
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import (
    Outcomes,
    clusters_needed,
    holm,
    outcomes,
    sign_flip_p,
    smallest_detectable,
    win_rate,
    win_rate_strict,
)

# Wins, ties and losses ------------------------------------------------------------------------------------------------


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


# Tests ----------------------------------------------------------------------------------------------------------------


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


# Power ----------------------------------------------------------------------------------------------------------------


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
