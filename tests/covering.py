"""All combinations of some factors, or fewer in which each pair of values still stands.

Families, samplers, guidances and windows of a method's pictures have hundreds of combinations, and a fault is nearly
always of one value or of two together. The tests take each pair of values once, or each value where another test has
the pairs; `NOISEBENCH_FULL=1`, as in the weekly workflow, takes all combinations, and sizes that are too large for each
push.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

FULL = os.environ.get("NOISEBENCH_FULL") == "1"
S = TypeVar("S")
T = TypeVar("T")


def chosen(values: Sequence[T], *at: int) -> list[T]:
    """The values to try at these positions of the other factors: one, or all of them.

    With two other factors of which one has at least as many values as there are here, each of the second meets each of
    these: the rows of a Latin square.
    """
    return list(values) if FULL else [values[sum(at) % len(values)]]


def met(many: Sequence[S], few: Sequence[T], each: int = 1) -> list[tuple[S, T]]:
    """Pairs of two factors' values: all, or those of each of `many` with `each` of `few`, which take turns.

    For a claim of which another test has tried all pairs, so that what is left is what it adds to either factor.
    """
    turns = len(few) if FULL else each
    return [(one, few[(i + k) % len(few)]) for i, one in enumerate(many) for k in range(turns)]
