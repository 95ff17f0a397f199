"""What scorers said, of all three kinds, as columns by unit: an image with its prompt, numbered as it is met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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
        self._values: list[tuple[Ints, Ints, Floats]] = []
        """(metric, unit, value) of single images, metrics by number; later ones count."""
        self._pairs: dict[str, dict[tuple[int, int], float]] = {m: {} for m in entries}
        self._features: dict[str, dict[int, bytes]] = {m: {} for m in entries}

    def unit(self, digest: str, prompt: str) -> int:
        """The number of an image with its prompt's key."""
        return self.units.setdefault((digest, prompt), len(self.units))

    def read(self, ledger: Ledger) -> None:
        """Add what a ledger holds of the units that are known by now."""
        names = [name for name, entry in self.entries.items() if entry.kind == "image"]
        rows = np.array([list(self.entries).index(name) for name in names], dtype=np.int64)
        for some in columns.image_scores(ledger, self.units, {name: self.scorers[name] for name in names}):
            units, metrics, by_ours = (np.array(column, dtype=np.int64) for column in some[:3])
            there = by_ours > 0
            self._values.append((rows[metrics[there]], units[there], np.array(some[3], dtype=np.float64)[there]))
            self.unused.update(names[number] for number in metrics[~there].tolist())
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
        held = self._pairs[metric]
        shares = [held.get(pair, np.nan) for pair in zip(ours.tolist(), theirs.tolist(), strict=True)]
        return 2 * np.array(shares, dtype=np.float64) - 1

    def features(self) -> dict[str, Features]:
        """Of every set metric; NotComparable where they do not have one length."""
        return {
            name: stacked(name, self._features[name], len(self.units))
            for name, entry in self.entries.items()
            if entry.kind == "set"
        }


def stacked(metric: str, held: Mapping[int, bytes], units: int) -> Features:
    """The ledger's features by unit as one array."""
    if len({len(one) for one in held.values()}) > 1:
        raise NotComparable(
            f"features of {metric} have different lengths, so they are of different scorers; score again"
        )
    row = np.full(units + 1, -1, dtype=np.int64)
    row[list(held)] = np.arange(len(held))
    values = np.frombuffer(b"".join(held.values()), "<f4").reshape(len(held), -1) if held else np.empty((0, 0), "<f4")
    return Features(values, row)
