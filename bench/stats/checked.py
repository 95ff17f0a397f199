"""What the public functions of `bench.stats` check of their arguments, and the arrays that they compute with."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Hashable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.stats import intervals
from bench.stats.intervals import ROUNDING, UNBOUNDED, Bounds, Floats, Interval
from bench.stats.resampling import numbered

_NAN_LABEL = "clusters has a NaN label; every row needs a cluster"


def columns_of(**named: ArrayLike) -> list[Floats]:
    """Each argument as a float (n,): checked to be finite, not empty and as long as the others."""
    columns = []
    for name, given in named.items():
        column = np.asarray(given, dtype=np.float64)
        if column.ndim != 1 or not column.size:
            raise ValueError(f"{name} has shape {column.shape}; one dimension and at least one value are needed")
        if not np.isfinite(column).all():
            where = int(np.flatnonzero(~np.isfinite(column))[0])
            raise ValueError(f"{name} has {column[where]} at row {where}; every value must be finite")
        columns.append(column)
    check_lengths({name: len(column) for name, column in zip(named, columns, strict=True)})
    return columns


def clustered(clusters: Iterable[Hashable], **named: ArrayLike) -> tuple[list[Floats], NDArray[np.intp]]:
    """`columns_of` and, for each row, the number of its cluster (n,): 0 to k - 1 in the order of the labels."""
    columns = columns_of(**named)
    if isinstance(clusters, np.ndarray) and clusters.ndim == 1 and clusters.dtype.kind in "iuf":
        check_lengths({next(iter(named)): len(columns[0]), "clusters": len(clusters)})
        if np.isnan(clusters).any():
            raise ValueError(_NAN_LABEL)
        return columns, numbered(clusters)
    labels = clusters.tolist() if isinstance(clusters, np.ndarray) else list(clusters)
    check_lengths({next(iter(named)): len(columns[0]), "clusters": len(labels)})
    try:
        distinct = list(dict.fromkeys(labels))
    except TypeError as error:
        raise ValueError(f"clusters has a label that cannot be one ({error}); one hashable label a row") from None
    if any(isinstance(label, float) and math.isnan(label) for label in distinct):
        raise ValueError(_NAN_LABEL)
    with contextlib.suppress(TypeError):  # labels of mixed types keep the order they came in
        distinct = sorted(distinct)
    number = {label: index for index, label in enumerate(distinct)}
    return columns, np.fromiter((number[label] for label in labels), dtype=np.intp, count=len(labels))


def check_lengths(lengths: dict[str, int]) -> None:
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"different lengths: {each}; one row a pair is needed")


def check_above_zero(**columns: Floats) -> None:
    for name, values in columns.items():
        if values.min() <= 0:
            raise ValueError(f"{name} has {values.min():g}; every value must be above zero")


def check_fraction(**named: float) -> None:
    for name, value in named.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value:g}; a number between 0 and 1 is needed")


def check_bounds(bounds: Bounds | None, name: str, values: Floats) -> None:
    if bounds is None:
        return
    low, high = bounds
    if not low < high:
        raise ValueError(f"bounds is ({low:g}, {high:g}); a lower and a higher number are needed")
    if math.isinf(low) != math.isinf(high):
        raise ValueError(f"bounds is ({low:g}, {high:g}); a range with two ends, or (-inf, inf) for none, is needed")
    slack = 0.0 if math.isinf(low) else ROUNDING * max(abs(low), abs(high))
    if values.min() < low - slack or values.max() > high + slack:
        worst = values.min() if values.min() < low - slack else values.max()
        raise ValueError(f"{name} has {worst:g}, outside its bounds ({low:g}, {high:g})")


def interval_of(tops: Floats, bottoms: Floats, bounds: Bounds | None, *, level: float) -> Interval:
    """sum(tops) / sum(bottoms), (k,) each, and its interval."""
    check_fraction(level=level)
    return intervals.intervals(tops[:, None], bottoms[:, None], [bounds or UNBOUNDED], level=level)[0]
