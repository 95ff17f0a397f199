"""The pairs that results carry for a person to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from bench.analysis.arms import Floats, Ints, Measured, MeasuredArm
from bench.records import PairRow

BROWSABLE_PAIRS = 2_000
"""Pairs that results carry for a person to look at, evenly spaced over all; a report has the others beside it."""


def share_of(most: int, settings: int) -> int:
    """Pairs that each setting has at most, where all of them together have `most`."""
    return max(1, most // max(settings, 1))


def browsable(measured: Measured, settings: Sequence[Any], baseline: str, *, most: int) -> Iterator[PairRow]:
    """Evenly spaced pairs of every setting, not picked by looking; those whose images are all there.

    Where there is none, as while a method is still to be made, those of the baseline and at least one method.
    """
    share = share_of(most, len(settings))
    for number, setting in enumerate(settings):
        methods: dict[str, list[MeasuredArm]] = {}
        for arm in (a for a in measured.arms if a.setting == setting):
            methods.setdefault(arm.method, []).append(arm)
        there = {name: _made(arms) for name, arms in methods.items()}
        shown = _shown({name: made.pair for name, made in there.items()}, baseline)
        shown = shown[np.unique(np.linspace(0, len(shown) - 1, min(share, len(shown))).astype(int))]
        rows = {name: made.rows(shown) for name, made in there.items()}
        for i, pair in enumerate(shown.tolist()):
            yield _pair(measured, number, pair, {name: found[i] for name, found in rows.items() if found[i]})


class _Made(NamedTuple):
    """One method's images that are there, over all prompt sets, by pair."""

    pair: Ints
    """(n,), ascending."""
    image: Ints
    scores: Floats
    """(n, metrics)."""

    def rows(self, pairs: Ints) -> list[tuple[int, list[float]] | None]:
        """The image and its scores of each of these pairs; None where it is not there."""
        at = {pair: row for row, pair in enumerate(self.pair.tolist())}
        found = [at.get(pair) for pair in pairs.tolist()]
        return [None if row is None else (int(self.image[row]), self.scores[row].tolist()) for row in found]


def _made(arms: Sequence[MeasuredArm]) -> _Made:
    pair, image = np.concatenate([a.pair for a in arms]), np.concatenate([a.image for a in arms])
    order = np.argsort(pair)
    order = order[image[order] >= 0]
    return _Made(pair[order], image[order], np.concatenate([a.scores.T for a in arms])[order])


def _shown(made: Mapping[str, Ints], baseline: str) -> Ints:
    """The pairs (n,), ascending, that all methods have; where there is none, the baseline and one more."""
    shown = reduce(np.intersect1d, made.values())
    if len(shown) or baseline not in made:
        return shown
    others = [pair for name, pair in made.items() if name != baseline]
    return np.intersect1d(np.concatenate([np.empty(0, np.int64), *others]), made[baseline])


def _pair(measured: Measured, setting: int, number: int, shown: Mapping[str, Any]) -> PairRow:
    pair, images = measured.pairs[number], measured.images
    return PairRow(
        setting=setting,
        prompt=pair.text,
        prompts=pair.prompts,
        index=pair.index,
        seed=pair.seed,
        category=pair.category,
        images={name: images.words["file"][row] for name, (row, _) in shown.items()},
        runs={name: images.run[row] for name, (row, _) in shown.items()},
        scores={
            name: {m: v for m, v in zip(measured.metrics, values, strict=True) if v == v}  # not NaN
            for name, (_, values) in shown.items()
        },
    )
