"""Paired comparisons asked together: deltas, win rates and tests of a whole table, answered at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import stats
from bench.analysis.arms import POOLED, Floats, Ints
from bench.metrics.base import MetricEntry
from bench.stats.intervals import Bounds, Interval, looks_bounded, range_of_deltas
from bench.stats.resampling import Asked, Batch, Totals, numbered
from bench.stats.sensitivity import detectable

Row = dict[str, Any]
SHORTEST_MS = 1.0
"""Mean milliseconds an image below which a stage has no ratio: what is measured there is the clock."""


def bounds(interval: Interval, *, low: str = "low", high: str = "high") -> Row:
    """JSON has no infinity; an interval that says nothing (one prompt) has no bounds."""
    return {
        low: interval.low if math.isfinite(interval.low) else None,
        high: interval.high if math.isfinite(interval.high) else None,
    }


def won(gains: Floats, *, preferences: bool = False) -> Floats:
    """The share (n,) of each pair that is won: 1, 0, and 0.5 for a tie, by the sign of the gain.

    `preferences` are gains 2p - 1 of a metric of pairs: the share is p itself, and the win rate its mean.
    """
    return ((gains if preferences else np.sign(gains)) + 1) / 2


def delta_range(kind: str, scores: Bounds | None, treated: Floats, control: Floats) -> Bounds | None:
    """The range of a metric's deltas from that of its scores; without one, as `stats.paired_delta` sees it in (n,)."""
    if scores is not None:
        return scores if kind == "pair" else range_of_deltas(scores)  # a pair's baseline is zero
    return (-1.0, 1.0) if looks_bounded(treated - control, treated, control) else None


@dataclass(frozen=True, eq=False)
class _Prompts:
    """Whose the values of an array are."""

    texts: Ints
    """(n,), as they were given."""
    codes: Ints
    """(n,): the number of each one's prompt."""
    counts: Floats
    """(k,): how many each prompt has."""

    @classmethod
    def of(cls, texts: Ints) -> _Prompts:
        codes = numbered(texts)
        return cls(texts, codes, np.bincount(codes).astype(np.float64))

    def totals(self, values: Floats) -> Totals:
        """The totals of values (n,) by prompt."""
        return Totals(np.bincount(self.codes, weights=values).astype(np.float64, copy=False), self.counts)


class Asking:
    """Rows that are filled in when all of a table's intervals and tests have been answered together.

    `texts` (n,) say whose the values (n,) are: a number for each prompt.
    """

    def __init__(self) -> None:
        self._batch = Batch()
        self._later: list[Callable[[], None]] = []
        self._prompts = _Prompts.of(np.empty(0, np.int64))

    def prompts(self, texts: Ints) -> int:
        """How many prompts the texts (n,) are of."""
        return len(self._of(texts).counts)

    def _of(self, texts: Ints) -> _Prompts:
        """The prompts of texts (n,), which must not change: several numbers are asked of one array, counted once."""
        if texts is not self._prompts.texts:
            self._prompts = _Prompts.of(texts)
        return self._prompts

    def answer(self) -> None:
        """Find all intervals and tests, and fill in every row."""
        self._batch.run()
        for fill in self._later:
            fill()
        self._later = []

    def mean(self, row: Row, name: str, values: Floats, texts: Ints, limits: Bounds | None = None) -> None:
        """`row[name]` becomes the mean of values (n,) of a range, `low` and `high` its interval."""
        self._fill(row, name, self._batch.interval(*self._of(texts).totals(values), limits), "low", "high")

    def delta(self, row: Row, entry: MetricEntry, treated: Floats, control: Floats, texts: Ints) -> None:
        """`delta`, `low` and `high` of paired scores (n,) of a metric."""
        self.mean(row, "delta", treated - control, texts, delta_range(entry.kind, entry.range, treated, control))

    def mean_of_means(
        self, row: Row, name: str, values: Floats, groups: Any, texts: Ints, limits: Bounds | None = None
    ) -> None:
        """`row[name]` becomes the mean over the groups (n,) of their means, `NAME_low` and `NAME_high` its interval."""
        names, number = np.unique(groups, return_inverse=True)
        clusters, codes = np.unique(texts, return_inverse=True)
        shape = (len(clusters), len(names))
        at = codes * len(names) + number
        sums = np.bincount(at, weights=values, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
        counts = np.bincount(at, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
        self._fill(row, name, self._batch.interval(sums, counts, limits), f"{name}_low", f"{name}_high")

    def _fill(self, row: Row, name: str, asked: Asked, low: str, high: str) -> None:
        def fill() -> None:
            row.update({name: asked.answer.estimate, **bounds(asked.answer, low=low, high=high)})

        self._later.append(fill)

    def win_rate(self, row: Row, gains: Floats, texts: Ints, *, preferences: bool = False) -> None:
        """`win_rate`, `win_low` and `win_high` of gains (n,), ties counted half; see `won` for `preferences`.

        `win_strict`, `win_strict_low` and `win_strict_high` count ties as losses, as the paper's release does.
        """
        shares, strict = won(gains, preferences=preferences), (gains > 0).astype(np.float64)
        fair = self._rate(shares, texts)
        self._fill(row, "win_rate", fair, "win_low", "win_high")
        # Without a tie the two are one number, asked for once.
        strictly = fair if np.array_equal(shares, strict) else self._rate(strict, texts)
        self._fill(row, "win_strict", strictly, "win_strict_low", "win_strict_high")

    def _rate(self, shares: Floats, texts: Ints) -> Asked:
        return self._batch.interval(*self._of(texts).totals(shares), (0.0, 1.0))

    def compare(
        self,
        row: Row,
        entry: MetricEntry,
        treated: Floats,
        control: Floats,
        texts: Ints,
        *,
        preferences: bool = False,
    ) -> Row:
        """All that paired scores (n,) say of treated against control; nulls where there are none.

        The test is made only where `row["complete"]` says that no pair is missing.
        """
        empty = ("n_prompts", "delta", "low", "high", "p", "p_holm", "win", "tie", "loss")
        row |= dict.fromkeys((*empty, *stats.RATES, "detectable", "sd"))
        if not len(treated):
            return row
        deltas = treated - control
        of_prompts = self._of(texts).totals(deltas)
        clusters, error = len(of_prompts.sums), stats.standard_error(*of_prompts)
        sign = float(entry.sign)
        count = stats.outcomes(sign * treated, sign * control)
        known = math.isfinite(error)
        limits = delta_range(entry.kind, entry.range, treated, control)
        row |= {
            "n_prompts": clusters,
            "win": count.win,
            "tie": count.tie,
            "loss": count.loss,
            "detectable": _finite(detectable(error, clusters, limits)) if known else None,
            "sd": error * math.sqrt(clusters) if known else None,
        }
        self.delta(row, entry, treated, control, texts)
        self.win_rate(row, sign * deltas, texts, preferences=preferences)
        if row["complete"]:
            tested = self._batch.test(of_prompts.sums)
            self._later.append(lambda: row.update(p=tested.answer))
        return row


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def adjust(comparisons: list[Row]) -> None:
    """Holm's correction over two families: all pooled comparisons, and all on single prompt sets.

    Marked comparisons and incomplete ones are no evidence and belong to neither.
    """
    for pooled in (True, False):
        family = [
            c
            for c in comparisons
            if (c["prompts"] == POOLED) is pooled and not c["marked"] and c["complete"] and c["p"] is not None
        ]
        if not family:
            continue
        for row, p in zip(family, stats.holm([c["p"] for c in family]), strict=True):
            row["p_holm"] = float(p)
