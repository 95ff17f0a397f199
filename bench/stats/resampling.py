"""Resampling whole clusters: sign flips, for many columns at once, and the bootstrap that metrics of sets take.

A column is what one number of a report rests on: its sum over each of k clusters, (k,). Draws follow from the seed
and k alone, so all columns with as many clusters share them: asked together or one by one, the answers are the same,
but a table of hundreds of columns costs little more than one. `Batch` gathers tests and intervals of a whole table.

Sources: Davison & Hinkley (1997), Bootstrap Methods and their Application, ch. 3.8; Field & Welsh (2007),
Bootstrapping clustered data; Winkler et al. (2014), NeuroImage
92 (sign flips of whole blocks).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.stats.intervals import LEVEL, ROUNDING, UNBOUNDED, Bounds, Floats, Interval, intervals

One = TypeVar("One")

RESAMPLES = 10_000
EXACT_CLUSTERS = 13  # 2**13 sign patterns: fewer than the Monte Carlo default
CHUNK_DRAWS = 2**18  # draws made at once: a few arrays of 2 MiB, which stay in cache
SPARSE = 8  # times as many numbers as rows, above which labels are sorted rather than counted
COLUMNS = 256  # columns answered together: a bound on memory, 20 MB at 10,000 permutations


class Totals(NamedTuple):
    """Sums and numbers of the values of k clusters: (k,) each."""

    sums: Floats
    counts: Floats


def numbered(labels: NDArray[Any]) -> NDArray[np.intp]:
    """The number (n,) of each row's label, 0 to k - 1 in the labels' order, none left out.

    Whole numbers that are not far more than the rows are counted, which takes a tenth of the time of sorting them.
    """
    if labels.dtype.kind == "i" and labels.size and labels.min() >= 0 and labels.max() < SPARSE * labels.size:
        return (np.cumsum(np.bincount(labels) > 0) - 1)[labels]
    return np.unique(labels, return_inverse=True)[1]


def totals(values: Floats, codes: NDArray[np.intp]) -> Totals:
    """The totals of values (n,) whose clusters are numbered by codes (n,), 0 to k - 1, none of them empty."""
    sums = np.bincount(codes, weights=values).astype(np.float64, copy=False)
    return Totals(sums, np.bincount(codes).astype(np.float64))


def standard_error(sums: Floats, counts: Floats) -> float:
    """Cluster-robust standard error of the mean, from each cluster's sum and count (k,); inf for one cluster.

    Of any ratio of sums, in fact: with another sum in the place of the count it is Cochran's for the ratio estimator.
    """
    k, n = len(sums), float(counts.sum())
    if k == 1:
        return math.inf
    residuals = sums - counts * (sums.sum() / n)
    return math.sqrt(float(residuals @ residuals) * k / (k - 1)) / n


def bootstrap(of: Totals, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> Interval:
    """The mean of all values, with the percentile interval over resampled clusters.

    One cluster says nothing about another: its interval is (-inf, inf). Where all clusters agree the interval has no
    width.
    """
    estimate = float(of.sums.sum() / of.counts.sum())
    if len(of.sums) == 1:
        return Interval(estimate, -math.inf, math.inf)
    # A matrix product rounds differently from draw to draw; clusters that agree must not look as if they did not.
    if np.abs(of.sums - estimate * of.counts).max() <= ROUNDING * np.abs(of.sums).max():
        return Interval(estimate, estimate, estimate)
    times = draws(len(of.sums), resamples=resamples, seed=seed)
    found = np.concatenate([(some @ of.sums) / (some @ of.counts) for some in times])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def draws(k: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Floats]:
    """How often each of k clusters is drawn, resample by resample: (r, k) at a time."""
    rng = np.random.default_rng(seed)
    for start, stop in _chunks(resamples, k):
        picked = rng.integers(0, k, size=(stop - start, k))
        picked += np.arange(stop - start)[:, None] * k
        yield np.bincount(picked.ravel(), minlength=picked.size).reshape(picked.shape).astype(np.float64)


def sign_flips(sums: Floats, *, permutations: int = RESAMPLES, seed: int = 0) -> Floats:
    """Two-sided p-values (c,) that the mean behind each column of `sums` (k, c) is zero.

    Exact, over all 2**k sign patterns, for up to 13 clusters; above that Monte Carlo, (hits + 1) / (permutations + 1).
    Sums equal up to float noise are ties, which count as hits.
    """
    k = len(sums)
    threshold = np.abs(sums.sum(axis=0)) - ROUNDING * np.abs(sums).sum(axis=0)
    if k <= EXACT_CLUSTERS:
        flips = np.arange(2**k)[:, None] >> np.arange(k) & 1
        return np.asarray((_flipped(sums, flips) >= threshold).mean(axis=0))
    rng = np.random.default_rng(seed)
    hits = np.zeros(sums.shape[1])
    for start, stop in _chunks(permutations, k):
        flips = rng.integers(0, 2, size=(stop - start, k), dtype=np.int8)
        hits += (_flipped(sums, flips) >= threshold).sum(axis=0)
    return (hits + 1) / (permutations + 1)


def _flipped(sums: Floats, flips: NDArray[np.integer]) -> Floats:
    """|sums of the cluster sums (k, c)| with the clusters marked 1 in `flips` (r, k) turned round, (r, c)."""
    signs = np.multiply(flips, -2.0)
    signs += 1
    return np.abs(signs @ sums)


def _chunks(rows: int, width: int) -> Iterator[tuple[int, int]]:
    """Cut `rows` of `width` draws into (start, stop) of CHUNK_DRAWS at most, or of one row."""
    step = max(1, CHUNK_DRAWS // width)
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


@dataclass(eq=False)
class Asked:
    """An interval that was asked for; `answer` is there after `Batch.run`."""

    tops: Floats
    bottoms: Floats
    bounds: Bounds
    answer: Interval = field(default=Interval(math.nan, -math.inf, math.inf))


@dataclass(eq=False)
class Tested:
    """A p-value that was asked for; `answer` is there after `Batch.run`."""

    sums: Floats
    answer: float = math.nan


class Batch:
    """Intervals and tests gathered over a whole table and answered together."""

    def __init__(self, *, level: float = LEVEL, seed: int = 0):
        self.level, self.seed = level, seed
        self._intervals: list[Asked] = []
        self._tests: list[Tested] = []

    def interval(self, tops: Floats, bottoms: Floats, bounds: Bounds | None = None) -> Asked:
        """Ask for sum(tops) / sum(bottoms) of cluster sums (k,) each, or the mean of t such ratios of (k, t)."""
        self._intervals.append(Asked(tops, bottoms, bounds or UNBOUNDED))
        return self._intervals[-1]

    def test(self, sums: Floats) -> Tested:
        """Ask for the sign-flip p-value of cluster sums (k,)."""
        self._tests.append(Tested(sums))
        return self._tests[-1]

    def run(self) -> None:
        """Answer everything that was asked."""
        for some in _of_one_shape(self._intervals, lambda a: a.tops.shape):
            tops, bottoms = np.stack([a.tops for a in some], 1), np.stack([a.bottoms for a in some], 1)
            found = intervals(tops, bottoms, [a.bounds for a in some], level=self.level)
            for asked, answer in zip(some, found, strict=True):
                asked.answer = answer
        for tests in _of_one_shape(self._tests, lambda t: t.sums.shape):
            for tested, p in zip(tests, sign_flips(np.stack([t.sums for t in tests], 1), seed=self.seed), strict=True):
                tested.answer = float(p)
        self._intervals, self._tests = [], []


def _of_one_shape(asked: list[One], shape: Callable[[One], tuple[int, ...]]) -> Iterator[list[One]]:
    """Those with as many clusters together, `COLUMNS` at most."""
    groups: dict[tuple[int, ...], list[One]] = {}
    for one in asked:
        groups.setdefault(shape(one), []).append(one)
    for group in groups.values():
        for start in range(0, len(group), COLUMNS):
            yield group[start : start + COLUMNS]
