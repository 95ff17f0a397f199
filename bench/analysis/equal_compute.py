"""What plain sampling gives for the same number of denoiser calls, found among a run's own arms.

Plain are the standard method at any step count, and the best of n of it. A gain that a method pays for in calls is
worth something only where it is also a gain over these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.analysis.arms import MeasuredArm
from bench.records import Reference
from bench.suite import MethodSpec

LEAST, MOST = 0.8, 1.1
"""Calls of a comparable plain arm over the method's own."""
STANDARD, CHOOSER = "standard", "best_of_n"


@dataclass(frozen=True)
class Costed:
    """An arm with its mean denoiser calls an image; a call without guidance, or with a gradient, counts as one."""

    arm: MeasuredArm
    calls: float


def plain_labels(methods: Iterable[MethodSpec]) -> frozenset[str]:
    """Labels of the methods that are nothing but standard sampling, once or n times."""
    found = set()
    for spec in methods:
        used = [link.use for link in spec.chain if link.use != STANDARD]
        if used in ([], [CHOOSER]):
            found.add(spec.label)
    return frozenset(found)


def reference(of: Costed, plain: Sequence[Costed], *, baseline: str) -> Costed | None:
    """The plain arm of the same model, sampler, guidance and prompts whose calls are nearest; None if none is near.

    Of two equally near ones the baseline of the arm's own setting comes last: the table has its delta already.
    """
    model, sampler, _, guidance = of.arm.setting

    def fits(one: Costed) -> bool:
        at = one.arm.setting
        same = (at[0], at[1], at[3], one.arm.prompts) == (model, sampler, guidance, of.arm.prompts)
        itself = (at, one.arm.method) == (of.arm.setting, of.arm.method)
        return same and not itself and LEAST * of.calls <= one.calls <= MOST * of.calls

    def far(one: Costed) -> tuple[float, bool]:
        beside = (one.arm.setting, one.arm.method) == (of.arm.setting, baseline)
        return round(abs(one.calls - of.calls), 6), beside

    return min(filter(fits, plain), key=far, default=None)


def steps_to_add(of: Costed, base: Costed | None) -> int | None:
    """The step count at which standard sampling makes about as many calls; None where there is no such count."""
    if base is None or not base.calls:
        return None
    steps = round(of.arm.setting[2] * of.calls / base.calls)
    return steps if 1 <= steps <= 1000 else None


def rows(
    arms: Sequence[Costed],
    *,
    plain: frozenset[str],
    baseline: str,
    compare: Callable[[MeasuredArm, MeasuredArm], dict[str, dict[str, Any]]],
) -> list[dict[str, Any]]:
    """One row an arm besides the baselines: its reference, and by `compare(arm, reference)` its deltas to it.

    They are `records.EqualComputeRow` once all that `compare` asked for is answered.
    """
    plains = [one for one in arms if one.arm.method in plain and one.calls]
    bases = {(one.arm.setting, one.arm.prompts): one for one in arms if one.arm.method == baseline}
    found = []
    for one in (one for one in arms if one.arm.method != baseline and one.calls):
        best = reference(one, plains, baseline=baseline)
        row: dict[str, Any] = {
            **one.arm.labels,
            "calls": one.calls,
            "reference": None,
            "add_steps": None,
            "metrics": {},
        }
        if best is None:
            row["add_steps"] = steps_to_add(one, bases.get((one.arm.setting, one.arm.prompts)))
        else:
            row["reference"] = Reference(method=best.arm.method, steps=best.arm.setting[2], calls=best.calls)
            row["metrics"] = compare(one.arm, best.arm)
        found.append(row)
    return found


def shared(a: MeasuredArm, b: MeasuredArm) -> tuple[Any, Any, Any]:
    """Pairs that both arms have, ascending, and their places in each."""
    if np.array_equal(a.pair, b.pair):  # as in every finished run: nothing to sort
        places = np.arange(len(a.pair))
        return a.pair, places, places
    return np.intersect1d(a.pair, b.pair, assume_unique=True, return_indices=True)
