"""What an interval finds: the noncentral t, and simulations of the report's own intervals, with and without a range."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats as scipy

from bench.stats import clusters_needed, smallest_detectable
from bench.stats.intervals import intervals
from bench.stats.sensitivity import clusters_for, detectable

RUNS = 4000
RANGE = (-1.0, 1.0)


def found(values: np.ndarray, bounds: tuple[float, float] | None = None) -> float:
    """The share of columns (k, runs) whose interval excludes zero."""
    runs = values.shape[1]
    answers = intervals(values, np.ones_like(values), [bounds] * runs if bounds else None)
    return sum(not one.low <= 0 <= one.high for one in answers) / runs


@pytest.mark.parametrize("k", [2, 5, 25, 400])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_without_a_range_it_is_the_t_test_s(k: int, power: float) -> None:
    """The power of the t test at what it names, by scipy's noncentral t."""
    delta = detectable(0.25, k, power=power)
    critical = scipy.t.ppf(0.975, k - 1)
    assert scipy.nct.sf(critical, k - 1, delta / 0.25) == pytest.approx(power, abs=1e-4)


def test_very_many_clusters_have_normal_quantiles() -> None:
    assert detectable(1.0) == pytest.approx(1.959964 + 0.841621, abs=1e-5)
    assert detectable(1.0, 200_000) == detectable(1.0)
    assert detectable(1.0, 100_000) == pytest.approx(detectable(1.0), rel=1e-4)


@pytest.mark.parametrize("k", [5, 12, 30, 100])
@pytest.mark.parametrize("draw", ["normal", "t(3)"])
def test_the_stated_power_is_that_of_the_interval(k: int, draw: str) -> None:
    """80 % of 4,000 runs with a true delta of what it names, within a few percent from 12 prompts on.

    Some samples look skewed, and their bound is Hall's, farther than Student's: of 5 prompts that costs a tenth. A few
    outliers of t(3) leave most runs with less spread than it has, so those gain some.
    """
    rng = np.random.default_rng([k, len(draw)])
    noise = rng.normal(size=(k, RUNS)) if draw == "normal" else rng.standard_t(3, (k, RUNS)) / math.sqrt(3)
    share = found(noise + detectable(1 / math.sqrt(k), k))
    assert (0.74 if k > 5 else 0.66) < share < (0.82 if draw == "normal" else 0.88)


def test_normal_quantiles_would_be_seen_to_claim_too_much() -> None:
    noise = np.random.default_rng(1).normal(size=(5, RUNS))
    assert found(noise + detectable(1 / math.sqrt(5))) < 0.6


def shifted(rng: np.random.Generator, k: int, lost: float, won: float) -> np.ndarray:
    """0/1 deltas (k, runs): -1 with the chance `lost`, 1 with `won`."""
    drawn = rng.random((k, RUNS))
    return np.where(drawn < lost, -1.0, np.where(drawn < lost + won, 1.0, 0.0))


@pytest.mark.parametrize("k", [20, 50, 100, 400])
@pytest.mark.parametrize("changed", [0.15, 0.4, 0.8])
def test_the_stated_power_of_scores_with_a_range(k: int, changed: float) -> None:
    """0/1 deltas of which a share is not zero, as a run without an effect has them; a loss moves wins to losses."""
    delta = detectable(math.sqrt(changed / k), k, RANGE)
    if delta > changed:
        pytest.skip("so large a loss does not leave the variance as it is")
    rng = np.random.default_rng([k, round(100 * changed)])
    share = found(shifted(rng, k, (changed + delta) / 2, (changed - delta) / 2), RANGE)
    assert 0.75 < share < 0.87


@pytest.mark.parametrize("k", [20, 50, 100, 400])
def test_where_nothing_changed_a_range_still_names_a_loss(k: int) -> None:
    """No prompt of a run differs: what would be found is a loss of that share of prompts, and not half of it."""
    delta = detectable(0.0, k, RANGE)
    rng = np.random.default_rng(k)
    assert 0.7 < found(shifted(rng, k, delta, 0.0), RANGE) < 0.92
    assert found(shifted(rng, k, delta / 2, 0.0), RANGE) < 0.4
    assert detectable(0.0, k) == 0.0, "without a range, nothing says how far it could go"


def test_a_range_needs_more_than_a_t_test_and_few_prompts_find_nothing() -> None:
    """The pseudo-prompts widen the interval: at 10 prompts by much, at 4,000 not."""
    error = [math.sqrt(0.3 / k) for k in (10, 4000)]
    ratios = [detectable(e, k, RANGE) / detectable(e, k) for e, k in zip(error, (10, 4000), strict=True)]
    assert ratios[0] > 1.05
    assert ratios[1] == pytest.approx(1.0, abs=0.01)
    assert detectable(math.sqrt(0.5 / 3), 3, RANGE) == math.inf
    assert detectable(1.0, 1) == math.inf


@pytest.mark.parametrize("bounds", [None, RANGE])
def test_the_clusters_it_names_find_the_delta_and_one_fewer_do_not(bounds: tuple[float, float] | None) -> None:
    k = clusters_for(0.3, 0.1, bounds)
    assert detectable(math.sqrt(0.3 / k), k, bounds) <= 0.1 < detectable(math.sqrt(0.3 / (k - 1)), k - 1, bounds)


@pytest.mark.parametrize(("delta", "bounds"), [(0.0, None), (math.inf, None), (1.5, RANGE)])
def test_a_delta_that_no_number_finds_is_refused(delta: float, bounds: tuple[float, float] | None) -> None:
    with pytest.raises(ValueError, match="within the range"):
        clusters_for(1.0, delta, bounds)


@pytest.mark.parametrize("ask", [smallest_detectable, lambda d, c, b=None: clusters_needed(d, c, 0.4, b)])
def test_deltas_of_0_and_1_are_taken_to_have_their_range(ask: Callable[..., float]) -> None:
    deltas, prompts = [1, 0, -1, 0, 0, 1, 0, 0, -1, 0], range(10)
    assert ask(deltas, prompts) == ask(deltas, prompts, RANGE)
    assert ask(deltas, prompts) > ask(deltas, prompts, (-math.inf, math.inf))
