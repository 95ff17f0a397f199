"""The scores of a run, sample by sample: what intervals at a gate's own level are taken from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bench import registry
from bench.analysis.arms import Floats, Ints, Measured, MeasuredArm, read_arms, with_pooled
from bench.analysis.results import load_suite, metrics_of, scorer_digests
from bench.metrics.base import MetricEntry
from bench.records import ComparisonRow
from bench.store import Ledger
from bench.suite import Suite


class Paired(NamedTuple):
    """Two columns of scores (n,), row for row of the same pair, and the number of each pair's prompt (n,)."""

    treated: Floats
    baseline: Floats
    clusters: Ints


class Samples:
    """Every score of a run by arm, with the arms over all prompt sets."""

    def __init__(self, measured: Measured, suite: Suite, *, partial: frozenset[str] = frozenset()) -> None:
        self.measured, self.suite = measured, suite
        self.partial = partial
        """Metrics that judge only some pairs, as people do."""
        self._arms = {(arm.setting, arm.method, arm.prompts): arm for arm in with_pooled(measured.arms)}
        self._row = {name: row for row, name in enumerate(measured.metrics)}

    @classmethod
    def read(cls, ledger: Ledger) -> Samples:
        """The scores that a ledger holds by today's scorers; raises UserError for a run that never began."""
        suite = load_suite(ledger)
        asked = metrics_of(ledger, suite)
        entries: dict[str, MetricEntry] = {name: registry.get("metrics", name) for name in asked}
        scorers = scorer_digests([ledger], entries)
        partial = frozenset(name for name, entry in entries.items() if entry.partial)
        return cls(read_arms([(ledger, suite, asked)], entries, scorers), suite, partial=partial)

    def arm(self, setting: tuple[Any, ...], method: str, prompts: str) -> MeasuredArm | None:
        """One method under one protocol on one prompt set or on all ("*")."""
        return self._arms.get((setting, method, prompts))

    def scores(self, arm: MeasuredArm, metric: str) -> Floats:
        """The arm's scores (n,) in the order of its pairs, NaN where there is none."""
        return arm.scores[self._row[metric]]

    def prompts(self, pairs: Ints) -> Ints:
        """The number of each pair's prompt text."""
        return self.measured.texts[pairs]

    def paired(self, row: ComparisonRow) -> Paired | None:
        """The scores of a comparison's method beside its baseline's; None where they share no pair."""
        ours, theirs = (self.arm(row.setting, label, row.prompts) for label in (row.method, row.baseline))
        if ours is None or theirs is None or row.metric not in self._row:
            return None
        pairs, left, right = np.intersect1d(ours.pair, theirs.pair, assume_unique=True, return_indices=True)
        treated, baseline = self.scores(ours, row.metric)[left], self.scores(theirs, row.metric)[right]
        there = ~(np.isnan(treated) | np.isnan(baseline))
        if not there.any():
            return None
        return Paired(treated[there], baseline[there], self.prompts(pairs[there]))


def jobs_of(samples: Samples, arm: MeasuredArm) -> Sequence[str | None]:
    """The job id of each of the arm's images, in the order of its pairs."""
    ids = samples.measured.images.words["job_id"]
    return [ids[row] if row >= 0 else None for row in arm.image]
