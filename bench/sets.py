"""Set metrics: one value for many images, its interval, and its paired comparison with the baseline's.

The interval is a bootstrap over whole prompts, with the draws of all other intervals: a draw's counts are the weights
of the images. Both arms of a comparison get the same counts, so what they share cancels. A value such as FID is biased,
the more so the fewer different images there are, and a draw has fewer than the set. So the draws' spread is laid around
the value itself: the interval is of the value at this number of images, and values at different numbers do not compare.

The test exchanges the two arms' images prompt by prompt, at random: without an effect every exchange is as likely.
A metric of the images of one prompt (`by_prompt`), such as diversity over seeds, is told whose prompt each image is of.

Sources: Davison & Hinkley (1997), Bootstrap Methods and their Application, ch. 2 (bias) and 4.3 (exchanges in pairs);
Chong & Forsyth (2020), Effectively Unbiased FID, CVPR (the bias at n images).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench import stats
from bench.judged import Floats, Ints
from bench.metrics.base import MetricEntry
from bench.resampling import LEVEL, ROUNDING, Interval, draws

Row = dict[str, Any]
_NOISE = 1e-9  # of the values: exchanges that differ by less are ties


def refusal(entry: MetricEntry, n: int) -> str | None:
    """Why a set of n images has no value; None where it has one."""
    return None if n >= entry.fewest else f"needs at least {entry.fewest:,} images, there are {n:,}"


def nothing(entry: MetricEntry) -> str:
    """Why a set that is large enough has no value all the same."""
    return "compares the images of one prompt, and no prompt has two" if entry.by_prompt else "has no finite value"


class Sets:
    """Values of sets and what can be said of them; an arm that several are compared with is drawn once."""

    def __init__(self) -> None:
        self._drawn: dict[tuple[str, bytes], Floats] = {}

    def value(self, entry: MetricEntry, features: Floats, texts: Ints) -> Interval | None:
        """The value of features (n, D) of images whose prompts (n,) are numbered; None where it is not finite."""
        found = _value(entry, features, np.ones(len(features)), texts)
        return _interval(found, self._draws(entry, features, texts)) if math.isfinite(found) else None

    def compare(self, row: Row, entry: MetricEntry, treated: Floats, control: Floats, texts: Ints) -> Row:
        """What `paired.Asking.compare` says, of features (n, D) paired row by row; a set has no win rate.

        The test is made only where `row["complete"]` says that no pair is missing.
        """
        empty = ("n_prompts", "delta", "low", "high", "p", "p_holm", "win", "tie", "loss")
        row |= dict.fromkeys((*empty, "win_rate", "win_low", "win_high", "detectable", "sd"))
        if not len(treated):
            return row
        every = np.ones(len(treated))
        delta = _value(entry, treated, every, texts) - _value(entry, control, every, texts)
        if not math.isfinite(delta):
            return row
        spread = self._draws(entry, treated, texts) - self._draws(entry, control, texts)
        found, k = _interval(delta, spread), len(np.unique(texts))
        row |= {"n_prompts": k, "delta": delta}
        if math.isfinite(found.low):
            error = float(spread.std(ddof=1))
            row |= {"low": found.low, "high": found.high, "detectable": stats.detectable(error),
                    "sd": error * math.sqrt(k)}  # fmt: skip
        if row["complete"]:
            row["p"] = exchange_p(entry, treated, control, texts)
        return row

    def _draws(self, entry: MetricEntry, features: Floats, texts: Ints) -> Floats:
        """The value of every bootstrap draw over prompts, (resamples,); NaN for a single prompt."""
        key = entry.name, hashlib.sha256(features.tobytes() + texts.tobytes()).digest()
        if key not in self._drawn:
            labels, codes = np.unique(texts, return_inverse=True)
            self._drawn[key] = (
                np.array(
                    [
                        _value(entry, features, times[codes], codes)
                        for some in draws(len(labels), resamples=entry.resamples)
                        for times in some
                    ]
                )
                if len(labels) > 1
                else np.full(entry.resamples, np.nan)
            )
        return self._drawn[key]


def exchange_p(entry: MetricEntry, treated: Floats, control: Floats, texts: Ints, *, seed: int = 0) -> float:
    """Two-sided p-value that arms of features (n, D) each do not differ, by exchanging them prompt by prompt.

    Exact, over all 2**k patterns, where those are no more than the entry's resamples; else (hits + 1) / (n + 1).
    """
    labels, codes = np.unique(texts, return_inverse=True)
    both, whose = np.concatenate([treated, control]), np.concatenate([codes, codes])

    def difference(exchanged: Floats) -> tuple[float, float]:
        weights = np.concatenate([1 - exchanged[codes], exchanged[codes]])
        values = _value(entry, both, weights, whose), _value(entry, both, 1 - weights, whose)
        return abs(values[0] - values[1]), _NOISE * max(map(abs, values))

    observed, noise = difference(np.zeros(len(labels)))
    exact = 2 ** len(labels) <= entry.resamples
    patterns = list(_patterns(len(labels), None if exact else entry.resamples, seed))
    # A value that a pattern does not have counts as a hit: it must not make an effect look surer.
    hits = sum(not difference(pattern)[0] < observed - noise for pattern in patterns)
    return hits / len(patterns) if exact else (hits + 1) / (len(patterns) + 1)


def _patterns(k: int, some: int | None, seed: int) -> Iterator[Floats]:
    """All, or some random, ways to exchange k clusters or not: (k,) of 0 and 1."""
    if some is None:
        yield from ((np.arange(2**k)[:, None] >> np.arange(k)) & 1).astype(np.float64)
    else:
        yield from np.random.default_rng(seed).integers(0, 2, size=(some, k)).astype(np.float64)


def _value(entry: MetricEntry, features: Floats, weights: Floats, texts: Ints) -> float:
    assert entry.value is not None, "checked by MetricEntry"
    return float(entry.value(features, weights, texts) if entry.by_prompt else entry.value(features, weights))


def _interval(estimate: float, found: Floats) -> Interval:
    """The draws' percentiles, moved so that their mean is the estimate; unbounded where a draw has no value."""
    if not np.isfinite(found).all():
        return Interval(estimate, -math.inf, math.inf)
    if np.ptp(found) <= ROUNDING * max(float(np.abs(found).max()), abs(estimate)):
        return Interval(estimate, estimate, estimate)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - found.mean()
    return Interval(estimate, estimate + float(low), estimate + float(high))
