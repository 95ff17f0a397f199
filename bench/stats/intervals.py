"""The one interval of every mean: Student's t on prompts, corrected for skewness, and never sure of a range it has.

A column is what one number rests on: its sum over each of k clusters, (k,), beside what it is divided by. Each cluster
becomes one value whose mean is the estimate (for clusters of one size its own mean), and then

- where the value has a range, as 0/1 scores have, SPARE pseudo-prompts at each end of it count for variance and
  skewness, not for the estimate: a loss that few prompts have not shown is still possible;
- each bound is the farther one of Student's t and of Hall's t corrected for skewness: rare losses and long tails reach
  farther on their own side, up to FARTHEST times as far, and a few outliers never pull a bound in.

Many columns are answered at once. What it holds, and where it does not, is in docs/statistics.md.

Sources: Hall (1992), On the removal of skewness by transformation, JRSS B 54; Agresti & Min (2005), Simple improved
confidence intervals for comparing matched proportions, Statistics in Medicine 24, and Bonett & Price (2012), Adjusted
Wald confidence interval for a difference of binomial proportions based on paired data, JEBS 37 (pseudo-prompts);
Cochran (1977), Sampling Techniques, 6.4 (ratios of sums).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bounds = tuple[float, float]

LEVEL = 0.95
SPARE = 1.5
"""Pseudo-prompts at each end of a range: the fewest, in halves, with which a loss that no prompt shows is missed in no
more than 3.5 %. Bonett & Price have 1, which misses it in 5 %; Agresti & Coull's single proportion has 2."""
FARTHEST = 1.5
"""How far Hall's bound may reach, in Student's: of few values with an outlier his transformation is near its pole."""
FEW = 30
"""Without a range, below as many prompts a long tail is missed on its side in more than 3.5 %: too few to show that a
loss is small."""
UNBOUNDED: Bounds = (-math.inf, math.inf)
ROUNDING = 1e-12  # of the largest possible sum: well above float noise, well below any real difference


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided confidence interval, in the unit of the values."""

    estimate: float
    low: float
    high: float


def intervals(
    tops: Floats, bottoms: Floats, bounds: Sequence[Bounds] | None = None, *, level: float = LEVEL
) -> list[Interval]:
    """sum(tops) / sum(bottoms) of every column, (k, c) each, with its interval; `bounds` are the columns' ranges.

    With a third axis, (k, c, t), it is the mean of t such ratios, as of task means. One cluster says nothing about
    another: a column of one, or with a ratio of one, has the whole range as its interval. Where all clusters of a
    column without a range agree it has no width.
    """
    low, high = np.array(bounds or [UNBOUNDED] * tops.shape[1], dtype=np.float64).T
    estimates, values = cluster_values(tops, bottoms)
    if len(values) == 1:
        return [Interval(*map(float, row)) for row in zip(estimates, low, high, strict=True)]
    below, above = reaches(values, low, high, level=level)
    lone = (bottoms > 0).sum(axis=0) == 1
    lone = lone.any(axis=-1) if lone.ndim == 2 else lone
    below, above = np.where(lone, np.inf, below), np.where(lone, np.inf, above)
    found = estimates, np.clip(estimates - below, low, high), np.clip(estimates + above, low, high)
    return [Interval(*map(float, row)) for row in zip(*found, strict=True)]


def cluster_values(tops: Floats, bottoms: Floats) -> tuple[Floats, Floats]:
    """The estimates (c,), and for each cluster a value (k, c) whose mean is the estimate and whose spread is its own.

    A cluster's value is the estimate plus k times what it adds to it to first order. In a mean of t ratios each ratio
    has a spread of its own clusters, those with a bottom.
    """
    if tops.ndim == 2:
        tops, bottoms = tops[..., None], bottoms[..., None]
    k = len(tops)
    whole = bottoms.sum(axis=0)
    there = whole > 0
    ratios = np.divide(tops.sum(axis=0), whole, out=np.zeros_like(whole), where=there)
    parts = there.sum(axis=-1)
    residuals = tops - ratios * bottoms
    residuals[np.abs(residuals) <= ROUNDING * np.abs(tops).max(axis=0)] = 0.0
    own = (bottoms > 0).sum(axis=0)
    # With one ratio this is 1; a task of few prompts has the spread that few prompts have.
    few = np.sqrt(np.divide(own * (k - 1), np.maximum(own - 1, 1) * k, out=np.ones_like(whole), where=own > 1))
    scale = np.divide(few, whole, out=np.zeros_like(whole), where=there)
    estimates = ratios.sum(axis=-1) / parts
    return estimates, estimates + k * (residuals * scale).sum(axis=-1) / parts


def reaches(values: Floats, low: Floats, high: Floats, *, level: float = LEVEL) -> tuple[Floats, Floats]:
    """How far the interval of the means of values (k, c), k >= 2, extends below and above them, (c,) each.

    `low` and `high` (c,) are the columns' ranges, infinite for none.
    """
    from scipy.special import stdtrit

    ranged = np.isfinite(low) & np.isfinite(high)
    spare = np.where(ranged, SPARE, 0.0)
    ends = np.where(ranged, low, 0.0), np.where(ranged, high, 0.0)
    n = len(values) + 2 * spare
    means = (values.sum(axis=0) + spare * (ends[0] + ends[1])) / n
    apart = values - means
    apart[np.abs(apart) <= ROUNDING * np.abs(values).max(axis=0)] = 0.0
    second, third = (
        ((apart**power).sum(axis=0) + spare * sum((end - means) ** power for end in ends)) / n for power in (2, 3)
    )
    wide = second > 0
    safe = np.where(wide, second, 1.0)
    skewness = np.divide(third, safe**1.5) * np.sqrt(n * (n - 1)) / np.maximum(n - 2, 1e-300)
    skewness[(n <= 2) | ~wide] = 0.0  # two values have none
    t = stdtrit(n - 1, (1 + level) / 2)
    error = np.sqrt(second / (n - 1))
    below, above = (np.clip(sign * _unskewed(sign * t, skewness, n), t, FARTHEST * t) * error for sign in (1, -1))
    return below, above


def _unskewed(x: Floats, skewness: Floats, n: Floats) -> Floats:
    """The studentised mean that Hall's cubic transformation takes to x, for n values of this skewness, (c,)."""
    straight = np.abs(skewness) < 1e-9
    bent = np.where(straight, 1.0, skewness)
    root = np.sqrt(n)
    found = root * 3 / bent * (np.cbrt(1 + bent * (x / root - bent / (6 * n))) - 1)
    return np.where(straight, x, found)


def range_of_deltas(bounds: Bounds | None) -> Bounds | None:
    """The range of a difference of two values of this range; None for none."""
    return None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])


def looks_bounded(deltas: Floats, *sides: Floats) -> bool:
    """Whether deltas (n,) of two `sides` look like those of 0/1 scores or of wins: all of them -1, 0 or 1.

    Deltas that are all zero look so only where both sides do too.
    """
    shown = (deltas,) if deltas.any() else sides
    return all(bool(np.isin(values, (-1.0, 0.0, 1.0)).all()) for values in shown)
