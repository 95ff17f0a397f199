"""What scorers said, of all three kinds, as columns by unit: an image with its prompt, numbered as it is met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.errors import NotComparable
from bench.metrics.base import MetricEntry
from bench.store import Ledger, columns

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Features:
    """A set metric's features of many images."""

    values: NDArray[np.float32]
    """(m, D)."""
    row: Ints
    """The row of each unit, -1 where it has none; the last place stands for what has no image."""

    def there(self, unit: Ints) -> NDArray[np.bool_]:
        """Which of the units (n,) have features; -1 has none."""
        return np.asarray(self.row[unit] >= 0)

    def of(self, unit: Ints) -> Floats:
        """The features (n, D) of units (n,) that all have some."""
        return self.values[self.row[unit]].astype(np.float64)


class Judged:
    """Reads the scores of units, of pairs of units and the features of units, ledger after ledger."""

    def __init__(self, entries: Mapping[str, MetricEntry], scorers: Mapping[str, str]):
        self.entries, self.scorers = entries, scorers
        self.units: dict[tuple[str, str], int] = {}
        """Numbers by image digest and prompt key."""
        self.unused: Counter[str] = Counter()
        """Scores by another version of a metric's scorer, which count for nothing, by metric."""
        self.ms: dict[str, tuple[float, int]] = {}
        """(milliseconds of all scores by its scorer, how many were timed) by metric."""
        self._values: list[tuple[Ints, Ints, Floats]] = []
        """(metric, unit, value) of single images, metrics by number; later ones count."""
        self._pairs: dict[str, dict[tuple[int, int], float]] = {m: {} for m in entries}
        self._features: dict[str, dict[int, bytes]] = {m: {} for m in entries}

    def number(self, images: Iterable[tuple[str, str] | None]) -> list[int]:
        """The number of each (image digest, prompt key), a new one for a new one; -1 for None."""
        units = self.units
        return [-1 if image is None else units.setdefault(image, len(units)) for image in images]

    def read(self, ledger: Ledger) -> None:
        """Add what a ledger holds of the units that are known by now."""
        self._read_images(ledger)
        for digest, baseline, prompt, metric, scorer, value in ledger.pair_scores():
            ours, theirs = self.units.get((digest, prompt)), self.units.get((baseline, prompt))
            if ours is not None and theirs is not None and self._counts(metric, "pair", scorer):
                self._pairs[metric][ours, theirs] = value
        if not any(entry.kind == "set" for entry in self.entries.values()):
            return
        for digest, prompt, metric, scorer, features in ledger.features():
            unit = self.units.get((digest, prompt))
            if unit is not None and self._counts(metric, "set", scorer):
                self._features[metric][unit] = features

    def _read_images(self, ledger: Ledger) -> None:
        names = [name for name, entry in self.entries.items() if entry.kind == "image"]
        rows = np.array([list(self.entries).index(name) for name in names], dtype=np.int64)
        found = columns.image_scores(ledger, {name: self.scorers[name] for name in names})
        unit = np.array([self.units.get(image, -1) for image in found.images], dtype=np.int64)[found.image]
        known = (unit >= 0) & (found.metric >= 0)
        there = known & found.ours
        self._values.append((rows[found.metric[there]], unit[there], found.value[there]))
        unused = np.bincount(found.metric[known & ~found.ours], minlength=len(names)).tolist()
        for name, n in sorted(zip(names, unused, strict=True)):
            self.unused[name] += n
        self._time(ledger, names, found)

    def _time(self, ledger: Ledger, names: Sequence[str], found: columns.Scores) -> None:
        """Add the milliseconds of a ledger's scores, also of images that no cell has, such as candidates."""
        measured = found.ours & ~np.isnan(found.ms)
        for number, name in enumerate(names):
            ms = found.ms[measured & (found.metric == number)]
            self._timed(name, float(np.cumsum(ms)[-1]) if len(ms) else 0.0, len(ms))
        others = {name: scorer for name, scorer in self.scorers.items() if name not in names}
        for name, (total, n) in columns.milliseconds(ledger, others).items() if others else ():
            self._timed(name, total, n)

    def _timed(self, name: str, total: float, n: int) -> None:
        before = self.ms.get(name, (0.0, 0))
        self.ms[name] = before[0] + total, before[1] + n

    def _counts(self, metric: str, kind: str, scorer: str) -> bool:
        if metric not in self.entries or self.entries[metric].kind != kind:
            return False
        self.unused[metric] += scorer != self.scorers[metric]
        return scorer == self.scorers[metric]

    def scores(self) -> Floats:
        """(metrics, units + 1) of single images, NaN where there is none, as for what has no image: the last place."""
        found = np.full((len(self.entries), len(self.units) + 1), np.nan)
        for metric, unit, value in self._values:
            found[metric, unit] = value
        return found

    def preferences(self, metric: str, ours: Ints, theirs: Ints) -> Floats:
        """2p - 1 (n,) of units beside the baseline's (n,): 1 preferred, 0 a tie, -1 not; NaN for no score."""
        shares_of = self._pairs[metric]
        shares = [shares_of.get(pair, np.nan) for pair in zip(ours.tolist(), theirs.tolist(), strict=True)]
        return 2 * np.array(shares, dtype=np.float64) - 1

    def features(self) -> dict[str, Features]:
        """Of every set metric; NotComparable where they do not have one length."""
        return {
            name: stacked(name, self._features[name], len(self.units))
            for name, entry in self.entries.items()
            if entry.kind == "set"
        }


def stacked(metric: str, raw: Mapping[int, bytes], units: int) -> Features:
    """The ledger's features by unit as one array."""
    if len({len(one) for one in raw.values()}) > 1:
        raise NotComparable(
            f"features of {metric} have different lengths, so they are of different scorers; score again"
        )
    row = np.full(units + 1, -1, dtype=np.int64)
    row[list(raw)] = np.arange(len(raw))
    values = np.frombuffer(b"".join(raw.values()), "<f4").reshape(len(raw), -1) if raw else np.empty((0, 0), "<f4")
    return Features(values, row)
