"""Paired comparisons asked together: deltas, win rates and tests of a whole table from one set of resamples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bench import stats
from bench.arms import POOLED, Floats, Ints
from bench.metrics.base import MetricEntry
from bench.resampling import Asked, Batch, Interval, Totals, totals

Row = dict[str, Any]


def bounds(interval: Interval, *, low: str = "low", high: str = "high") -> Row:
    """JSON has no infinity; an interval that says nothing (one prompt) has no bounds."""
    return {
        low: interval.low if math.isfinite(interval.low) else None,
        high: interval.high if math.isfinite(interval.high) else None,
    }


def _totals(values: Floats, texts: Ints) -> Totals:
    return totals(values, np.unique(texts, return_inverse=True)[1])


def won(gains: Floats, *, preferences: bool = False) -> Floats:
    """The share (n,) of each pair that is won: 1, 0, and 0.5 for a tie, by the sign of the gain.

    `preferences` are gains 2p - 1 of a metric of pairs: the share is p itself, and the win rate its mean.
    """
    return ((gains if preferences else np.sign(gains)) + 1) / 2


class Asking:
    """Rows that are filled in when all of a table's intervals and tests have been answered together.

    `texts` (n,) tells the prompts of values (n,) apart; numbers in the order of the texts give `stats`' own draws.
    """

    def __init__(self) -> None:
        self._batch = Batch()
        self._later: list[Callable[[], None]] = []

    def answer(self) -> None:
        """Resample, and fill in every row."""
        self._batch.run()
        for fill in self._later:
            fill()
        self._later = []

    def mean(self, row: Row, name: str, values: Floats, texts: Ints, *, low: str = "low", high: str = "high") -> None:
        """`row[name]` becomes the mean of values (n,), `low` and `high` its interval."""
        self._fill(row, name, self._batch.interval(*_totals(values, texts)), low, high)

    def mean_of_means(self, row: Row, name: str, values: Floats, groups: Any, texts: Ints) -> None:
        """`row[name]` becomes the mean over the groups (n,) of their means, `NAME_low` and `NAME_high` its interval."""
        names, number = np.unique(groups, return_inverse=True)
        clusters, codes = np.unique(texts, return_inverse=True)
        shape = (len(clusters), len(names))
        at = codes * len(names) + number
        sums = np.bincount(at, weights=values, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
        counts = np.bincount(at, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
        self._fill(row, name, self._batch.interval(sums, counts), f"{name}_low", f"{name}_high")

    def _fill(self, row: Row, name: str, asked: Asked, low: str, high: str) -> None:
        def fill() -> None:
            row.update({name: asked.answer.estimate, **bounds(asked.answer, low=low, high=high)})

        self._later.append(fill)

    def win_rate(self, row: Row, gains: Floats, texts: Ints, *, preferences: bool = False) -> None:
        """`win_rate`, `win_low` and `win_high` of gains (n,), ties counted half; see `won` for `preferences`."""
        of_prompts = _totals(won(gains, preferences=preferences), texts)
        asked = self._batch.interval(*of_prompts)

        def fill() -> None:
            rate = stats.settled_rate(asked.answer, len(of_prompts.sums))
            row.update(win_rate=rate.estimate, win_low=rate.low, win_high=rate.high)

        self._later.append(fill)

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
        row |= dict.fromkeys((*empty, "win_rate", "win_low", "win_high", "detectable", "sd"))
        if not len(treated):
            return row
        deltas = treated - control
        of_prompts = _totals(deltas, texts)
        clusters, error = len(of_prompts.sums), stats.standard_error(*of_prompts)
        sign = 1.0 if entry.higher_is_better else -1.0
        count = stats.outcomes(sign * treated, sign * control)
        known = math.isfinite(error)
        row |= {
            "n_prompts": clusters,
            "win": count.win,
            "tie": count.tie,
            "loss": count.loss,
            "detectable": stats.detectable(error) if known else None,
            "sd": error * math.sqrt(clusters) if known else None,
        }
        self.mean(row, "delta", deltas, texts)
        self.win_rate(row, sign * deltas, texts, preferences=preferences)
        if row["complete"]:
            tested = self._batch.test(of_prompts.sums)
            self._later.append(lambda: row.update(p=tested.answer))
        return row


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
