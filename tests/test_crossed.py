"""Deltas of several trained networks on the same prompts: closed forms, limits, and the rate of the interval."""

import numpy as np
import pytest
from scipy import stats

from bench.stats.crossed import crossed_delta


def test_networks_that_agree_leave_the_interval_of_prompts():
    one = np.random.default_rng(0).normal(0.1, 1, 50)
    found = crossed_delta(np.stack([one, one, one]))
    low, high = stats.t.interval(0.95, 49, one.mean(), stats.sem(one))
    assert found.networks == 0
    assert found.interval.estimate == pytest.approx(one.mean())
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))


def test_prompts_that_agree_leave_the_interval_of_networks():
    effects = np.array([0.1, 0.2, 0.6])
    found = crossed_delta(np.repeat(effects[:, None], 40, axis=1))
    low, high = stats.t.interval(0.95, 2, effects.mean(), stats.sem(effects))
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert found.freedom == pytest.approx(2)


def test_mean_squares_of_a_table_by_hand():
    # Mean squares, one degree of freedom each: networks 16, prompts 4, the rest 1.
    table = np.array([[0.0, 1.0], [3.0, 6.0]])
    found = crossed_delta(table)
    assert found.networks == pytest.approx((15 / 4) ** 0.5)
    assert found.prompts == pytest.approx((4 / 4) ** 0.5)
    assert found.freedom == pytest.approx(19**2 / (16**2 + 4**2 + 1))


def test_equal_deltas_have_no_width():
    found = crossed_delta(np.full((3, 5), 0.3)).interval
    assert found.low == found.estimate == found.high


@pytest.mark.parametrize("between", [0.0, 0.05, 0.3])
def test_the_interval_holds_its_rate_with_three_networks(between):
    rng = np.random.default_rng(7)
    draws, t, p, missed = 2000, 3, 60, 0
    for _ in range(draws):
        table = rng.normal(0, between, (t, 1)) + rng.normal(0, 0.5, (1, p)) + rng.normal(0, 0.7, (t, p))
        found = crossed_delta(table).interval
        missed += not found.low <= 0 <= found.high
    assert missed / draws <= 0.085


@pytest.mark.parametrize("table", [np.zeros((1, 5)), np.zeros((3, 1)), np.zeros(4), [[0.0, np.nan], [1.0, 2.0]]])
def test_too_few_networks_prompts_or_values_that_are_not_finite_are_refused(table):
    with pytest.raises(ValueError, match=r"networks|finite"):
        crossed_delta(table)
