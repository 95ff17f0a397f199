"""Every pair of the runs in order, a block or a column at a time: results carry a part of them for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bench.analysis.arms import Floats, Ints, Measured, Pair
from bench.store.rows import Setting


class _Placed(NamedTuple):
    """An arm, and where its pairs stand among all."""

    method: str
    at: Ints
    """(n,), ascending."""
    image: Ints
    scores: Floats
    """(metrics, n)."""


@dataclass(frozen=True)
class EveryPair:
    """The pairs of all settings, one setting after the other, each by set, prompt and seed.

    A pair is here as soon as one method has it; what is not made or scored yet is -1 or NaN.
    """

    metrics: Sequence[str]
    """The rows of `scores`."""
    settings: Ints
    """(n,): number of each pair's setting, as `Results.settings` counts."""
    _pair: Ints
    _pairs: Sequence[Pair]
    _files: Sequence[str]
    _runs: Sequence[int]
    _arms: Sequence[_Placed]

    def __len__(self) -> int:
        return len(self._pair)

    def pairs(self, start: int = 0, stop: int | None = None) -> list[Pair]:
        """Prompt and seed of some pairs."""
        return [self._pairs[number] for number in self._pair[start:stop].tolist()]

    def files(self, method: str, start: int, stop: int) -> list[tuple[int, str] | None]:
        """(run, file in its folder) of a method's images; None where there is none yet."""
        rows = np.full(stop - start, -1)
        for arm in self._of(method):
            some = slice(*np.searchsorted(arm.at, (start, stop)))
            rows[arm.at[some] - start] = arm.image[some]
        return [(self._runs[row], self._files[row]) if row >= 0 else None for row in rows.tolist()]

    def scores(self, method: str, start: int, stop: int, metrics: Sequence[int]) -> Floats:
        """(metrics, stop - start) of a method's images, by the metrics' numbers; NaN where there is no score."""
        found = np.full((len(metrics), stop - start), np.nan)
        for arm in self._of(method):
            first, last = np.searchsorted(arm.at, (start, stop))
            found[:, arm.at[first:last] - start] = arm.scores[list(metrics), first:last]
        return found

    def _of(self, method: str) -> list[_Placed]:
        return [arm for arm in self._arms if arm.method == method]


def every_pair(measured: Measured, settings: Sequence[Setting]) -> EveryPair:
    """The pairs of these settings, in their order; the arrays are those of `measured`."""
    numbers, which, placed = [np.empty(0, np.int64)], [np.empty(0, np.int64)], []
    start = 0
    for setting, name in enumerate(settings):
        arms = [arm for arm in measured.arms if arm.setting == name]
        pairs = np.unique(np.concatenate([arm.pair for arm in arms]))
        placed += [_Placed(a.method, start + np.searchsorted(pairs, a.pair), a.image, a.scores) for a in arms]
        numbers.append(pairs)
        which.append(np.full(len(pairs), setting))
        start += len(pairs)
    return EveryPair(
        metrics=measured.metrics,
        settings=np.concatenate(which),
        _pair=np.concatenate(numbers),
        _pairs=measured.pairs,
        _files=measured.images.words["file"],
        _runs=measured.images.run,
        _arms=placed,
    )
