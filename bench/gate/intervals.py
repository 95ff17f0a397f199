"""The bounds that decide: percentile bootstraps over prompts, expanded for few prompts, at a level for many looks.

A plain percentile interval is too narrow by the square root of k / (k - 1) and by normal in place of Student's
quantiles, k being the number of prompts. Taking it at the level 2 Phi(d) - 1 with d = sqrt(k / (k - 1)) t[k-1] makes up
for both, keeps its asymmetry, and for prompts of equal size and normal deltas is the t-test's own interval.
Source: Hesterberg (2015), What Teachers Should Know About the Bootstrap, The American Statistician 69, section 5.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from bench import stats
from bench.arms import Floats, Ints
from bench.paired import won
from bench.resampling import LEVEL, RESAMPLES, Batch, Interval

_NORMAL = NormalDist()
_HALF_WIDTH = _NORMAL.inv_cdf((1 + LEVEL) / 2)
RESOLVED = _NORMAL.inv_cdf(1 - 10 / RESAMPLES)
"""Standard errors up to which a percentile is at least 10 resamples from the end; beyond, bounds are extrapolated."""
FEW = 12
"""Below as many prompts, percentiles beyond those of LEVEL run into the outermost prompt; bounds are extrapolated."""


def level_for(looks: int) -> float:
    """Bonferroni's level for each of so many two-sided intervals, that all of them hold at LEVEL."""
    return 1 - (1 - LEVEL) / max(looks, 1)


def reach(level: float, prompts: int | None = None) -> float:
    """How many bootstrap standard errors an interval of this level extends; None: of very many prompts."""
    from scipy.special import stdtrit

    if prompts is None:
        return _NORMAL.inv_cdf((1 + level) / 2)
    return math.sqrt(prompts / (prompts - 1)) * float(stdtrit(prompts - 1, (1 + level) / 2))


@dataclass(eq=False)
class Look:
    """One interval that a gate looks at; `answer` is there after `Looks.run`, None where there can be none."""

    prompts: int | None
    answer: Interval | None = None


class Looks:
    """All looks of one gate: gathered, counted, and answered at the level that their number asks for."""

    def __init__(self) -> None:
        self.level = LEVEL
        self._asked: list[Look] = []
        self._answers: list[Callable[[], None]] = []
        self._batches: dict[int, Batch] = {}

    def mean(self, values: Floats, prompts: Ints) -> Look:
        """Ask for the mean of values (n,) clustered by the number of their prompt (n,)."""
        return self._ask(values, prompts, rate=False)

    def win_rate(self, treated: Floats, baseline: Floats, prompts: Ints, *, preferences: bool = False) -> Look:
        """Ask for (wins + ties / 2) / n of pairs (n,), or the mean of `preferences`, as `bench.paired.won` has it."""
        return self._ask(won(treated - baseline, preferences=preferences), prompts, rate=True)

    def known(self, found: Interval, prompts: int | None, *, logarithmic: bool = False) -> Look:
        """Ask for an interval of LEVEL at the level of this gate where there are no samples to take it from again.

        Its half-widths are stretched as if it was normal on either side of its estimate, or its logarithm was. An
        interval without width counts as no look: a number that is known leaves nothing to chance.
        """
        look = Look(prompts)
        if prompts is not None and prompts < 2:
            return look
        if found.low == found.high:
            look.answer = found
            return look
        self._asked.append(look)

        def answer() -> None:
            times = reach(self.level, prompts) / _HALF_WIDTH
            look.answer = _logarithmic(found, times) if logarithmic else _stretched(found, times)

        self._answers.append(answer)
        return look

    def __len__(self) -> int:
        return len(self._asked)

    def run(self, *, level: float | None = None) -> None:
        """Answer everything that was asked, at Bonferroni's level for all of it or at another."""
        self.level = level_for(len(self)) if level is None else level
        for prompts, batch in self._batches.items():
            batch.level = _taken(self.level, prompts)
            batch.run()
        for answer in self._answers:
            answer()

    def _ask(self, values: Floats, prompts: Ints, *, rate: bool) -> Look:
        """One prompt says nothing of another: fewer than two have no answer, and count as no look."""
        labels, codes = np.unique(prompts, return_inverse=True)
        k = len(labels)
        look = Look(k)
        if k < 2:
            return look
        self._asked.append(look)
        batch = self._batches.setdefault(k, Batch())
        sums, counts = (np.bincount(codes, weights=column).astype(np.float64) for column in (values, None))
        asked = batch.interval(sums, counts)

        def answer() -> None:
            found, level = asked.answer, _taken(self.level, k)
            if rate:
                found = stats.settled_rate(found, k, level=level)
            found = _stretched(found, reach(self.level, k) / reach(level))
            look.answer = Interval(found.estimate, max(found.low, 0.0), min(found.high, 1.0)) if rate else found

        self._answers.append(answer)
        return look


def apart(now: Interval, then: Interval) -> Interval:
    """now - then of two estimates, each with its interval, as if they were independent.

    Values of sets made on the same prompts and seeds vary together, so this is wider than pairing them would be.
    """
    change = now.estimate - then.estimate
    below = math.hypot(now.estimate - now.low, then.high - then.estimate)
    above = math.hypot(now.high - now.estimate, then.estimate - then.low)
    return Interval(change, change - below, change + above)


def _taken(level: float, prompts: int) -> float:
    """The level at which the percentiles are taken: expanded, but no further than prompts and resamples resolve."""
    return 2 * _NORMAL.cdf(min(reach(level, prompts), RESOLVED if prompts >= FEW else _HALF_WIDTH)) - 1


def _stretched(found: Interval, times: float) -> Interval:
    middle = found.estimate
    return Interval(middle, middle + times * (found.low - middle), middle + times * (found.high - middle))


def _logarithmic(found: Interval, times: float) -> Interval:
    middle = found.estimate
    return Interval(middle, middle * (found.low / middle) ** times, middle * (found.high / middle) ** times)
