"""The pairs that results carry for a person to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench.analysis.arms import Measured
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
        # One method's arms over all sets, as image rows by pair.
        rows: dict[str, dict[int, tuple[int, Any]]] = {}
        for arm in (a for a in measured.arms if a.setting == setting):
            columns = arm.pair.tolist(), arm.image.tolist(), arm.scores.T
            rows.setdefault(arm.method, {}).update((p, (i, v)) for p, i, v in zip(*columns, strict=True))
        there = {name: {p: row for p, row in m.items() if row[0] >= 0} for name, m in rows.items()}
        shown = sorted(set.intersection(*map(set, there.values())))
        if not shown:
            others = set().union(*(m for name, m in there.items() if name != baseline))
            shown = sorted(others & there.get(baseline, {}).keys())
        for i in dict.fromkeys(np.linspace(0, len(shown) - 1, min(share, len(shown))).astype(int).tolist()):
            images = {name: m[shown[i]] for name, m in there.items() if shown[i] in m}
            yield _pair(measured, number, shown[i], images)


def _pair(measured: Measured, setting: int, number: int, shown: dict[str, tuple[int, Any]]) -> PairRow:
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
            name: {m: float(v) for m, v in zip(measured.metrics, values, strict=True) if not np.isnan(v)}
            for name, (_, values) in shown.items()
        },
    )
