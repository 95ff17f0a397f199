"""Ratios of costs: of means pair by pair, and of times where the images of one batch share one measurement."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.stats.checked import check_above_zero, check_fraction, clustered, interval_of
from bench.stats.intervals import LEVEL, Interval
from bench.stats.resampling import numbered, standard_error, totals

FEWEST_BATCHES = 5
"""Timed batches on a side, below which a ratio of times has no interval: Student's t of two may span a factor of 20."""


def ratio(
    numerator: ArrayLike, denominator: ArrayLike, clusters: Iterable[Hashable], *, level: float = LEVEL
) -> Interval:
    """mean(numerator) / mean(denominator), of (n,) each, such as latencies in ms, paired row by row.

    Not the mean of the ratios, which a few quick baselines would dominate. Interval as in `cluster_mean`, of the ratio
    estimator. Raises ValueError also where a denominator is not above zero.
    """
    columns, codes = clustered(clusters, numerator=numerator, denominator=denominator)
    check_above_zero(denominator=columns[1])
    tops, bottoms = (totals(column, codes)[0] for column in columns)
    return interval_of(tops, bottoms, None, level=level)


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
    check_fraction(level=level)
    means, shares, freedom = [], [], []
    for name, values, clusters in (
        ("numerator", numerator, numerator_clusters), ("denominator", denominator, denominator_clusters)
    ):  # fmt: skip
        columns, codes = clustered(clusters, **{name: values})
        check_above_zero(**{name: columns[0]})
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
    check_fraction(level=level)
    columns, codes = clustered(clusters, numerator=numerator, denominator=denominator)
    check_above_zero(numerator=columns[0], denominator=columns[1])
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
    ours, theirs = np.asarray(numerator_batches), np.asarray(denominator_batches)
    if same_samples and _same_batches(ours, theirs):
        return matched_ratio(numerator, denominator, ours)
    return unpaired_ratio(numerator, ours, denominator, theirs)


def _same_batches(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> bool:
    """Whether both sides' samples are cut into the same batches: each batch has one counterpart."""
    if not (ours.size and theirs.size):
        return False
    a, b = numbered(ours), numbered(theirs)
    counterpart = np.empty(int(a.max()) + 1, dtype=np.intp)
    counterpart[a] = b
    return len(counterpart) == int(b.max()) + 1 and np.array_equal(counterpart[a], b)
