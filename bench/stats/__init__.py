"""Paired statistics of a run: deltas, outcomes, intervals, tests and power, all clustered by prompt.

Pure functions on arrays. Row i of every array is one pair (the same prompt, seed and latent), and `clusters[i]`
names its prompt: seeds of one prompt are not independent, so whole prompts are averaged, flipped and counted, never
single images. Arrays are (n,); scores keep the unit they came in. Every function raises ValueError, in one line, for
empty arrays, different lengths and values that are not finite. All intervals of means, deltas and win rates are those
of `bench.stats.intervals`; docs/statistics.md has what they hold.

Sources: Miller (2024), Adding error bars to evals, arXiv:2411.00640 (clusters and power); those of `intervals`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bench.stats import intervals, resampling
from bench.stats.checked import check_bounds, check_fraction, clustered, columns_of, interval_of
from bench.stats.intervals import LEVEL, Bounds, Floats, Interval
from bench.stats.ratios import FEWEST_BATCHES as FEWEST_BATCHES
from bench.stats.ratios import matched_ratio as matched_ratio
from bench.stats.ratios import ratio as ratio
from bench.stats.ratios import time_ratio as time_ratio
from bench.stats.ratios import unpaired_ratio as unpaired_ratio
from bench.stats.resampling import standard_error as standard_error
from bench.stats.resampling import totals
from bench.stats.sensitivity import clusters_for, detectable

RATES = ("win_rate", "win_low", "win_high", "win_strict", "win_strict_low", "win_strict_high")
"""What rows of results call the shares of pairs won, and their intervals: of `win_rate` and of `win_rate_strict`."""


@dataclass(frozen=True)
class Outcomes:
    """How many pairs the treated side won, tied and lost."""

    win: int
    tie: int
    loss: int

    @property
    def n(self) -> int:
        """Number of pairs."""
        return self.win + self.tie + self.loss

    @property
    def rate(self) -> float:
        """Win rate in 0 to 1; a tie is half a win."""
        return (self.win + self.tie / 2) / self.n


def cluster_mean(
    values: ArrayLike, clusters: Iterable[Hashable], bounds: Bounds | None = None, *, level: float = LEVEL
) -> Interval:
    """Mean of `values` (n,) with the interval of `bench.stats.intervals` over whole `clusters` (n,).

    `bounds` is the range of the values, where they have one that they reach, such as (0, 1) of a share. Clusters may be
    of unequal size: the mean is the sum over all of them divided by their summed counts. One cluster says nothing about
    another: its interval is the whole range, (-inf, inf) without one. Without a range, equal values everywhere give an
    interval of zero width. Neither the order of the rows nor the names of the clusters matter. Raises ValueError also
    for a level outside (0, 1), and for bounds that are not in order or that a value lies outside of.
    """
    columns, codes = clustered(clusters, values=values)
    check_bounds(bounds, "values", columns[0])
    return interval_of(*totals(columns[0], codes), bounds, level=level)


def paired_delta(
    treated: ArrayLike,
    baseline: ArrayLike,
    clusters: Iterable[Hashable],
    bounds: Bounds | None = None,
    *,
    level: float = LEVEL,
) -> Interval:
    """Mean of treated - baseline (n,), in their unit, with `cluster_mean`'s interval.

    `bounds` is the range of a delta, such as (-1, 1) of 0/1 scores. Without it, deltas that are all -1, 0 or 1 are
    taken to have that range (all of them 0: where the scores look so too); (-inf, inf) says that there is none.
    """
    columns, codes = clustered(clusters, treated=treated, baseline=baseline)
    deltas = columns[0] - columns[1]
    check_bounds(bounds, "treated - baseline", deltas)
    if bounds is None and intervals.looks_bounded(deltas, *columns):
        bounds = (-1.0, 1.0)
    return interval_of(*totals(deltas, codes), bounds, level=level)


def outcomes(treated: ArrayLike, baseline: ArrayLike, *, tie: float = 0.0) -> Outcomes:
    """Count the pairs (n,) that treated won, tied and lost; |treated - baseline| <= `tie` is a tie.

    Raises ValueError also for a tie below zero.
    """
    treated, baseline = columns_of(treated=treated, baseline=baseline)
    signs = _signs(treated, baseline, tie=tie)
    return Outcomes(int((signs > 0).sum()), int((signs == 0).sum()), int((signs < 0).sum()))


def win_rate(
    treated: ArrayLike,
    baseline: ArrayLike,
    clusters: Iterable[Hashable],
    *,
    tie: float = 0.0,
    level: float = LEVEL,
) -> Interval:
    """(wins + ties / 2) / n with `cluster_mean`'s interval of values from 0 to 1: it always has width.

    One cluster gives (0, 1): nothing can be said.
    """
    columns, codes = clustered(clusters, treated=treated, baseline=baseline)
    return interval_of(*totals((_signs(*columns, tie=tie) + 1) / 2, codes), (0.0, 1.0), level=level)


def win_rate_strict(
    treated: ArrayLike,
    baseline: ArrayLike,
    clusters: Iterable[Hashable],
    *,
    tie: float = 0.0,
    level: float = LEVEL,
) -> Interval:
    """wins / n with the interval of `win_rate`: a tie counts as a loss, as in the paper's released evaluation.

    It is below one half where both sides are the same; `win_rate` is fair to both.
    """
    columns, codes = clustered(clusters, treated=treated, baseline=baseline)
    won = (_signs(*columns, tie=tie) > 0).astype(np.float64)
    return interval_of(*totals(won, codes), (0.0, 1.0), level=level)


def sign_flip_p(deltas: ArrayLike, clusters: Iterable[Hashable], *, permutations: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value that the mean of `deltas` (n,) is zero, by flipping the signs of whole `clusters` (n,).

    Exact, over all 2**k sign patterns, for up to 13 clusters, where `permutations` and `seed` do not matter; above
    that Monte Carlo, (hits + 1) / (permutations + 1). Means equal up to float noise are ties, which count as hits.
    One cluster, or deltas all zero, give 1. Raises ValueError also for permutations < 1.
    Source: Winkler et al. (2014), NeuroImage 92 (sign flips of whole blocks); Phipson & Smyth (2010) for the + 1.
    """
    if permutations < 1:
        raise ValueError(f"permutations is {permutations}; at least 1 is needed")
    columns, codes = clustered(clusters, deltas=deltas)
    sums, _ = totals(columns[0], codes)
    return float(resampling.sign_flips(sums[:, None], permutations=permutations, seed=seed)[0])


def holm(p_values: ArrayLike) -> Floats:
    """Holm-adjusted p-values (m,), in the order given: monotone in p, at most 1.

    NaN, a test that could not be made, stays NaN and is not counted in the family. Raises ValueError for no
    p-values and for any outside 0 to 1. Source: Holm (1979), Scandinavian Journal of Statistics 6.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not p.size:
        raise ValueError(f"p_values has shape {p.shape}; one dimension and at least one value are needed")
    tested = np.flatnonzero(~np.isnan(p))
    if ((p[tested] < 0) | (p[tested] > 1)).any():
        raise ValueError("p_values has a value outside 0 to 1")
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


def smallest_detectable(
    deltas: ArrayLike,
    clusters: Iterable[Hashable],
    bounds: Bounds | None = None,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """The smallest true mean delta whose interval, on as many clusters, would exclude zero with this power.

    By the spread of `deltas` (n,) between clusters, in their unit, as `stats.sensitivity.detectable` has it. `bounds`
    is their range, as in `paired_delta`; without it, deltas that are all -1, 0 or 1 and not all 0 are taken to have
    one. inf for one cluster, and where nothing within the range would be found; zero for deltas without a range and
    without spread. Raises ValueError also for alpha or power outside (0, 1).
    Source of the standard error: Liang & Zeger (1986), Biometrika 73, with the factor k / (k - 1).
    """
    check_fraction(alpha=alpha, power=power)
    columns, codes = clustered(clusters, deltas=deltas)
    bounds = _range_of(columns[0], bounds)
    error = standard_error(*totals(columns[0], codes))
    return detectable(error, int(codes.max()) + 1, bounds, alpha=alpha, power=power)


def _range_of(deltas: Floats, bounds: Bounds | None) -> Bounds | None:
    """The range that was given, or that deltas (n,) show of themselves; None for none."""
    check_bounds(bounds, "deltas", deltas)
    return (-1.0, 1.0) if bounds is None and deltas.any() and intervals.looks_bounded(deltas) else bounds


def clusters_needed(
    deltas: ArrayLike,
    clusters: Iterable[Hashable],
    delta: float,
    bounds: Bounds | None = None,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """How many clusters like these would find a true mean of `delta` (in the unit of `deltas` (n,)); at least 2.

    As `smallest_detectable`, by the same spread between clusters. Raises ValueError also for a delta of zero, not
    finite or beyond the range, and for one cluster, which has no spread to go by.
    """
    check_fraction(alpha=alpha, power=power)
    columns, codes = clustered(clusters, deltas=deltas)
    bounds = _range_of(columns[0], bounds)
    error, k = standard_error(*totals(columns[0], codes)), int(codes.max()) + 1
    if k == 1:
        raise ValueError("clusters has one label; at least two are needed to know their spread")
    return clusters_for(error**2 * k, delta, bounds, alpha=alpha, power=power)


def _signs(treated: Floats, baseline: Floats, *, tie: float) -> Floats:
    """1 for a win, 0 for a tie, -1 for a loss, (n,)."""
    if not tie >= 0:
        raise ValueError(f"tie is {tie:g}; zero or more is needed")
    difference = treated - baseline
    return np.where(np.abs(difference) <= tie, 0.0, np.sign(difference))
