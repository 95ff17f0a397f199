"""The intervals that decide: those of the report, taken at a level for as many comparisons as a gate has.

Several comparisons of noise find something sooner than one. So each is taken at Bonferroni's level, that all of them
together hold at LEVEL: with one comparison it is the report's own interval, with more it is wider. One family of
intervals, `bench.stats.intervals`, is behind both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from bench.analysis.arms import Floats, Ints
from bench.analysis.paired import won
from bench.stats.intervals import FEW, LEVEL, Bounds, Interval
from bench.stats.resampling import Batch

_NORMAL = NormalDist()


def level_for(comparisons: int) -> float:
    """Bonferroni's level for each of so many two-sided intervals, that all of them hold at LEVEL."""
    return 1 - (1 - LEVEL) / max(comparisons, 1)


def critical_value(level: float, prompts: int | None = None) -> float:
    """How many standard errors an interval of this level extends, by Student's t; None: of very many prompts."""
    from scipy.special import stdtrit

    if prompts is None:
        return _NORMAL.inv_cdf((1 + level) / 2)
    return float(stdtrit(prompts - 1, (1 + level) / 2))


@dataclass(eq=False)
class Comparison:
    """One interval that a gate decides by; `answer` is there after `Comparisons.run`, None where there can be none."""

    prompts: int | None
    answer: Interval | None = None
    few: bool = False
    """Whether the prompts are too few to show that a loss is small: its value has no range, and a tail of losses that
    they have not shown would be missed more often than stated (`bench.stats.intervals.FEW`)."""


def too_few(comparison: Comparison) -> str:
    """Why a comparison cannot show that a loss is small."""
    return (
        f"too few prompts ({comparison.prompts}) to show how small a loss is: scores without a range may have a long "
        f"tail, which fewer than {FEW} prompts do not show"
    )


class Comparisons:
    """All comparisons of one gate: gathered, counted, and answered at the level that their number asks for."""

    def __init__(self) -> None:
        self.level = LEVEL
        self._asked: list[Comparison] = []
        self._answers: list[Callable[[], None]] = []
        self._batch = Batch()

    def mean(self, values: Floats, prompts: Ints, bounds: Bounds | None = None) -> Comparison:
        """Ask for the mean of values (n,) of this range, clustered by the number of their prompt (n,).

        One prompt says nothing of another: fewer than two have no answer, and count as no comparison.
        """
        labels, codes = np.unique(prompts, return_inverse=True)
        comparison = Comparison(len(labels), few=bounds is None and len(labels) < FEW)
        if len(labels) < 2:
            return comparison
        self._asked.append(comparison)
        sums, counts = (np.bincount(codes, weights=column).astype(np.float64) for column in (values, None))
        asked = self._batch.interval(sums, counts, bounds)

        def answer() -> None:
            comparison.answer = asked.answer

        self._answers.append(answer)
        return comparison

    def win_rate(self, treated: Floats, baseline: Floats, prompts: Ints, *, preferences: bool = False) -> Comparison:
        """Ask for (wins + ties / 2) / n of pairs (n,), or the mean of `preferences` (`bench.analysis.paired.won`)."""
        return self.mean(won(treated - baseline, preferences=preferences), prompts, (0.0, 1.0))

    def known(self, found: Interval, prompts: int | None, *, logarithmic: bool = False) -> Comparison:
        """Ask for an interval of LEVEL at the level of this gate where there are no samples to take it from again.

        Its half-widths are stretched as Student's t of so many prompts is (None: the normal), or its logarithm's are.
        An interval without width counts as no comparison: a number that is known leaves nothing to chance.
        """
        comparison = Comparison(prompts)
        if prompts is not None and prompts < 2:
            return comparison
        if found.low == found.high:
            comparison.answer = found
            return comparison
        self._asked.append(comparison)

        def answer() -> None:
            times = critical_value(self.level, prompts) / critical_value(LEVEL, prompts)
            comparison.answer = _logarithmic(found, times) if logarithmic else _stretched(found, times)

        self._answers.append(answer)
        return comparison

    @property
    def said(self) -> str:
        """What widened the intervals, to stand beside one; nothing for a single comparison."""
        return f" (at {100 * self.level:.4g} %, one of {len(self)} comparisons)" if len(self) > 1 else ""

    def __len__(self) -> int:
        return len(self._asked)

    def run(self, *, level: float | None = None) -> None:
        """Answer everything that was asked, at Bonferroni's level for all of it or at another."""
        self.level = level_for(len(self)) if level is None else level
        self._batch.level = self.level
        self._batch.run()
        for answer in self._answers:
            answer()


def apart(now: Interval, then: Interval) -> Interval:
    """now - then of two estimates, each with its interval, as if they were independent.

    Values of sets made on the same prompts and seeds vary together, so this is wider than pairing them would be.
    """
    change = now.estimate - then.estimate
    below = math.hypot(now.estimate - now.low, then.high - then.estimate)
    above = math.hypot(now.high - now.estimate, then.estimate - then.low)
    return Interval(change, change - below, change + above)


def _stretched(found: Interval, times: float) -> Interval:
    middle = found.estimate
    return Interval(middle, middle + times * (found.low - middle), middle + times * (found.high - middle))


def _logarithmic(found: Interval, times: float) -> Interval:
    middle = found.estimate
    return Interval(middle, middle * (found.low / middle) ** times, middle * (found.high / middle) ** times)
