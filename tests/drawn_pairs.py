"""Clustered data and pairs for tests of the statistics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.stats import Interval

Array = NDArray[Any]
Rng = np.random.Generator
properties = settings(max_examples=40, deadline=None, derandomize=True)


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
