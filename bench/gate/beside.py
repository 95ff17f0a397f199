"""An arm's scores and images of now beside the frozen ones, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.analysis.arms import POOLED, Floats
from bench.gate.common import Common
from bench.gate.frozen import images_of, rounded
from bench.gate.samples import Samples
from bench.gate.verdicts import Subject
from bench.records.baseline import Frozen, FrozenArm


@dataclass(frozen=True)
class Beside:
    """A run and a baseline, and the pairs (n,) that they have in common."""

    frozen: Frozen
    samples: Samples
    common: Common

    def base(self, arm: FrozenArm) -> FrozenArm | None:
        """The baseline arm of an arm's setting; None where run and baseline do not both have it as it was."""
        place = self.frozen.suite.baseline, arm.setting
        return next((one for one in self.common.arms if (one.method, one.setting) == place), None)

    def now(self, arm: FrozenArm, metric: str) -> Floats | None:
        """The arm's scores of now (n,) in the order of the frozen ones; None where the run has no such arm."""
        found = self.samples.arm(arm.setting, arm.method, POOLED)
        if found is None or metric not in self.samples.measured.metrics:
            return None
        values = np.full(len(self.samples.measured.pairs), np.nan)
        values[found.pair] = rounded(self.samples.scores(found, metric))
        return values[self.common.now]

    def then(self, arm: FrozenArm, metric: str) -> Floats | None:
        """The arm's frozen scores (n,) of the pairs in common; None where it has none."""
        column = _column(arm.scores.get(metric))
        if column is None:
            return None
        there = column[self.common.then]
        return None if np.isnan(there).all() else there

    def subject(self, arm: FrozenArm, metric: str) -> Subject:
        """The arm by a metric, with its images of the pairs in common: how many there are, and how many have changed.

        Older baselines do not say.
        """
        of = Subject(arm.method, arm.model, POOLED, arm.sampler, arm.steps, arm.guidance, metric)
        now = self.samples.arm(arm.setting, arm.method, POOLED)
        if arm.images is None or now is None:
            return of
        digests = dict(zip(now.pair.tolist(), images_of(self.samples, now), strict=True))
        pairs = zip(self.common.then.tolist(), self.common.now.tolist(), strict=True)
        changes = [arm.images[i] != digests.get(j) for i, j in pairs]
        return replace(of, images=len(changes), images_changed=sum(changes))


def _column(values: Sequence[float | None] | None) -> Floats | None:
    """Frozen scores as an array, NaN for None; None where there are none."""
    column = np.array([np.nan if value is None else value for value in values or ()], dtype=np.float64)
    return None if np.isnan(column).all() else column
