"""Paired statistics of a run: deltas, outcomes, intervals, tests and power, all clustered by prompt.

Pure functions on arrays. Row i of every array is one pair (the same prompt, seed and latent), and `clusters[i]`
names its prompt: seeds of one prompt are not independent, so whole prompts are averaged, flipped and counted, never
single images. Arrays are (n,); scores keep the unit they came in. Every function raises ValueError, in one line, for
empty arrays, different lengths and values that are not finite. All intervals of means, deltas and win rates are those
of `bench.stats.intervals`; docs/statistics.md has what they hold.

Sources: Miller (2024), Adding error bars to evals, arXiv:2411.00640 (clusters and power); those of `intervals`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.stats import intervals, resampling
from bench.stats.intervals import LEVEL, ROUNDING, UNBOUNDED, Bounds, Floats, Interval
from bench.stats.resampling import totals
from bench.stats.sensitivity import clusters_for, detectable

RATES = ("win_rate", "win_low", "win_high", "win_strict", "win_strict_low", "win_strict_high")
"""What rows of results call the shares of pairs won, and their intervals: of `win_rate` and of `win_rate_strict`."""


FEWEST_BATCHES = 5
"""Timed batches on a side, below which a ratio of times has no interval: Student's t of two may span a factor of 20."""


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
    columns, codes = _check(clusters, values=values)
    _check_bounds(bounds, "values", columns[0])
    return _interval(*totals(columns[0], codes), bounds, level=level)


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
    columns, codes = _check(clusters, treated=treated, baseline=baseline)
    deltas = columns[0] - columns[1]
    _check_bounds(bounds, "treated - baseline", deltas)
    if bounds is None and intervals.looks_bounded(deltas, *columns):
        bounds = (-1.0, 1.0)
    return _interval(*totals(deltas, codes), bounds, level=level)


def outcomes(treated: ArrayLike, baseline: ArrayLike, *, tie: float = 0.0) -> Outcomes:
    """Count the pairs (n,) that treated won, tied and lost; |treated - baseline| <= `tie` is a tie.

    Raises ValueError also for a tie below zero.
    """
    treated, baseline = _columns(treated=treated, baseline=baseline)
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
    columns, codes = _check(clusters, treated=treated, baseline=baseline)
    return _interval(*totals((_signs(*columns, tie=tie) + 1) / 2, codes), (0.0, 1.0), level=level)


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
    columns, codes = _check(clusters, treated=treated, baseline=baseline)
    won = (_signs(*columns, tie=tie) > 0).astype(np.float64)
    return _interval(*totals(won, codes), (0.0, 1.0), level=level)


def ratio(
    numerator: ArrayLike, denominator: ArrayLike, clusters: Iterable[Hashable], *, level: float = LEVEL
) -> Interval:
    """mean(numerator) / mean(denominator), of (n,) each, such as latencies in ms, paired row by row.

    Not the mean of the ratios, which a few quick baselines would dominate. Interval as in `cluster_mean`, of the ratio
    estimator. Raises ValueError also where a denominator is not above zero.
    """
    columns, codes = _check(clusters, numerator=numerator, denominator=denominator)
    _check_above_zero(denominator=columns[1])
    tops, bottoms = (totals(column, codes)[0] for column in columns)
    return _interval(tops, bottoms, None, level=level)


def unpaired_ratio(
    numerator: ArrayLike,
    numerator_clusters: Iterable[Hashable],
    denominator: ArrayLike,
    denominator_clusters: Iterable[Hashable],
    *,
    level: float = LEVEL,
) -> Interval:
    """mean(numerator) / mean(denominator) of two independent sets of measurements, such as latencies in ms.

    Images of one batch share one measurement, so a cluster is a batch; where both sides have the same batches, see
    `matched_ratio`. The interval is Welch's on the logarithm (delta method), with Student's t for the few batches there
    may be; fewer than FEWEST_BATCHES on either side give (0, inf). Raises ValueError also where a value is not above
    zero.
    Source: Welch (1947), Biometrika 34; Oehlert (1992), The American Statistician 46 (delta method).
    """
    _check_fraction(level=level)
    means, shares, freedom = [], [], []
    for name, values, clusters in (
        ("numerator", numerator, numerator_clusters), ("denominator", denominator, denominator_clusters)
    ):  # fmt: skip
        columns, codes = _check(clusters, **{name: values})
        _check_above_zero(**{name: columns[0]})
        sums, counts = totals(columns[0], codes)
        means.append(float(sums.sum() / counts.sum()))
        error = standard_error(sums, counts)
        shares.append((error / means[-1]) ** 2)
        freedom.append(len(sums) - 1)
    ratio = means[0] / means[1]
    if min(freedom) < FEWEST_BATCHES - 1:
        return Interval(ratio, 0.0, math.inf)
    variance = sum(shares)
    if variance == 0:
        return Interval(ratio, ratio, ratio)
    degrees = variance**2 / sum(share**2 / df for share, df in zip(shares, freedom, strict=True))
    return _on_logarithm(ratio, math.sqrt(variance), degrees, level=level)


def matched_ratio(
    numerator: ArrayLike, denominator: ArrayLike, clusters: Iterable[Hashable], *, level: float = LEVEL
) -> Interval:
    """mean(numerator) / mean(denominator) of times in ms, (n,) each, where both sides' batches hold the same samples.

    A cluster is a batch and its counterpart: where they were made in turns, what slowed one slowed the other. The
    interval is that of the ratio estimator (residuals top - ratio * bottom, summed over a cluster) with Student's t,
    on the logarithm: the few batches there may be are too few to resample. Fewer than FEWEST_BATCHES give (0, inf).
    Raises ValueError also where a value is not above zero.
    Source: Cochran (1977), Sampling Techniques, 6.4; Oehlert (1992), The American Statistician 46 (delta method).
    """
    _check_fraction(level=level)
    columns, codes = _check(clusters, numerator=numerator, denominator=denominator)
    _check_above_zero(numerator=columns[0], denominator=columns[1])
    tops, bottoms = (totals(column, codes).sums for column in columns)
    ratio = float(tops.sum() / bottoms.sum())
    if len(tops) < FEWEST_BATCHES:
        return Interval(ratio, 0.0, math.inf)
    return _on_logarithm(ratio, standard_error(tops, bottoms) / ratio, len(tops) - 1, level=level)


def _on_logarithm(ratio: float, error: float, freedom: float, *, level: float) -> Interval:
    """The interval of a ratio from its relative standard error, by Student's t on the logarithm."""
    from scipy.special import stdtrit

    reach = math.exp(float(stdtrit(freedom, (1 + level) / 2)) * error)
    return Interval(ratio, ratio / reach, ratio * reach)


def time_ratio(
    numerator: ArrayLike,
    numerator_batches: ArrayLike,
    denominator: ArrayLike,
    denominator_batches: ArrayLike,
    *,
    same_samples: bool,
) -> Interval:
    """Times of images in ms as a multiple of others, each side with its images' batches, named by any numbers.

    `matched_ratio` where the images are of the same samples in the same order and both sides cut them into the same
    batches; `unpaired_ratio` otherwise.
    """
    ours, theirs = (np.asarray(b).tolist() for b in (numerator_batches, denominator_batches))
    if same_samples and len(set(zip(ours, theirs, strict=True))) == len(set(ours)) == len(set(theirs)):
        return matched_ratio(numerator, denominator, ours)
    return unpaired_ratio(numerator, ours, denominator, theirs)


def sign_flip_p(deltas: ArrayLike, clusters: Iterable[Hashable], *, permutations: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value that the mean of `deltas` (n,) is zero, by flipping the signs of whole `clusters` (n,).

    Exact, over all 2**k sign patterns, for up to 13 clusters, where `permutations` and `seed` do not matter; above
    that Monte Carlo, (hits + 1) / (permutations + 1). Means equal up to float noise are ties, which count as hits.
    One cluster, or deltas all zero, give 1. Raises ValueError also for permutations < 1.
    Source: Winkler et al. (2014), NeuroImage 92 (sign flips of whole blocks); Phipson & Smyth (2010) for the + 1.
    """
    if permutations < 1:
        raise ValueError(f"permutations is {permutations}; at least 1 is needed")
    columns, codes = _check(clusters, deltas=deltas)
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
    _check_fraction(alpha=alpha, power=power)
    columns, codes = _check(clusters, deltas=deltas)
    bounds = _range_of(columns[0], bounds)
    error = standard_error(*totals(columns[0], codes))
    return detectable(error, int(codes.max()) + 1, bounds, alpha=alpha, power=power)


def _range_of(deltas: Floats, bounds: Bounds | None) -> Bounds | None:
    """The range that was given, or that deltas (n,) show of themselves; None for none."""
    _check_bounds(bounds, "deltas", deltas)
    return (-1.0, 1.0) if bounds is None and deltas.any() and intervals.looks_bounded(deltas) else bounds


def standard_error(sums: Floats, counts: Floats) -> float:
    """Cluster-robust standard error of the mean, from each cluster's sum and count (k,); inf for one cluster.

    Of any ratio of sums, in fact: with another sum in the place of the count it is Cochran's for the ratio estimator.
    """
    k, n = len(sums), float(counts.sum())
    if k == 1:
        return math.inf
    residuals = sums - counts * (sums.sum() / n)
    return math.sqrt(float(residuals @ residuals) * k / (k - 1)) / n


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
    _check_fraction(alpha=alpha, power=power)
    columns, codes = _check(clusters, deltas=deltas)
    bounds = _range_of(columns[0], bounds)
    error, k = standard_error(*totals(columns[0], codes)), int(codes.max()) + 1
    if k == 1:
        raise ValueError("clusters has one label; at least two are needed to know their spread")
    return clusters_for(error**2 * k, delta, bounds, alpha=alpha, power=power)


def _columns(**named: ArrayLike) -> list[Floats]:
    """Each argument as a float (n,): checked to be finite, not empty and as long as the others."""
    columns = []
    for name, given in named.items():
        column = np.asarray(given, dtype=np.float64)
        if column.ndim != 1 or not column.size:
            raise ValueError(f"{name} has shape {column.shape}; one dimension and at least one value are needed")
        if not np.isfinite(column).all():
            where = int(np.flatnonzero(~np.isfinite(column))[0])
            raise ValueError(f"{name} has {column[where]} at row {where}; every value must be finite")
        columns.append(column)
    _check_lengths({name: len(column) for name, column in zip(named, columns, strict=True)})
    return columns


def _check(clusters: Iterable[Hashable], **named: ArrayLike) -> tuple[list[Floats], NDArray[np.intp]]:
    """`_columns` and, for each row, the number of its cluster (n,): 0 to k - 1 in the order of the labels."""
    columns = _columns(**named)
    labels = clusters.tolist() if isinstance(clusters, np.ndarray) else list(clusters)
    _check_lengths({next(iter(named)): len(columns[0]), "clusters": len(labels)})
    try:
        distinct = list(dict.fromkeys(labels))
    except TypeError as error:
        raise ValueError(f"clusters has a label that cannot be one ({error}); one hashable label a row") from None
    if any(isinstance(label, float) and math.isnan(label) for label in distinct):
        raise ValueError("clusters has a NaN label; every row needs a cluster")
    with contextlib.suppress(TypeError):  # labels of mixed types keep the order they came in
        distinct = sorted(distinct)
    number = {label: index for index, label in enumerate(distinct)}
    return columns, np.fromiter((number[label] for label in labels), dtype=np.intp, count=len(labels))


def _check_lengths(lengths: dict[str, int]) -> None:
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"different lengths: {each}; one row a pair is needed")


def _check_above_zero(**columns: Floats) -> None:
    for name, values in columns.items():
        if values.min() <= 0:
            raise ValueError(f"{name} has {values.min():g}; every value must be above zero")


def _check_fraction(**named: float) -> None:
    for name, value in named.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value:g}; a number between 0 and 1 is needed")


def _signs(treated: Floats, baseline: Floats, *, tie: float) -> Floats:
    """1 for a win, 0 for a tie, -1 for a loss, (n,)."""
    if not tie >= 0:
        raise ValueError(f"tie is {tie:g}; zero or more is needed")
    difference = treated - baseline
    return np.where(np.abs(difference) <= tie, 0.0, np.sign(difference))


def _interval(tops: Floats, bottoms: Floats, bounds: Bounds | None, *, level: float) -> Interval:
    """sum(tops) / sum(bottoms), (k,) each, and its interval."""
    _check_fraction(level=level)
    return intervals.intervals(tops[:, None], bottoms[:, None], [bounds or UNBOUNDED], level=level)[0]


def _check_bounds(bounds: Bounds | None, name: str, values: Floats) -> None:
    if bounds is None:
        return
    low, high = bounds
    if not low < high:
        raise ValueError(f"bounds is ({low:g}, {high:g}); a lower and a higher number are needed")
    if math.isinf(low) != math.isinf(high):
        raise ValueError(f"bounds is ({low:g}, {high:g}); a range with two ends, or (-inf, inf) for none, is needed")
    slack = 0.0 if math.isinf(low) else ROUNDING * max(abs(low), abs(high))
    if values.min() < low - slack or values.max() > high + slack:
        worst = values.min() if values.min() < low - slack else values.max()
        raise ValueError(f"{name} has {worst:g}, outside its bounds ({low:g}, {high:g})")
