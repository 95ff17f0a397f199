"""How far scores may fall below a baseline's: absolute in a metric's unit, or relative to the frozen mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bench.errors import UserError, nearest
from bench.records.baseline import Frozen
from bench.suite import Suite


class Tolerance(NamedTuple):
    """A number in the metric's unit, or a share of the method's frozen mean."""

    value: float
    relative: bool = False

    def allowed(self, frozen_mean: float) -> float:
        """In the metric's unit."""
        return self.value * abs(frozen_mean) if self.relative else self.value


Tolerances = Mapping[str, Tolerance]
"""By metric, and under "" for all others."""


def tolerances(given: Iterable[str]) -> dict[str, Tolerance]:
    """`METRIC=VALUE`, or `VALUE` which stands under ""; a VALUE may be a percentage.

    UserError for anything else, and for two of one metric or two of all others.
    """
    found: dict[str, Tolerance] = {}
    for text in given:
        metric, equals, value = text.rpartition("=")
        relative = value.endswith("%")
        try:
            number = float(value.removesuffix("%")) / (100 if relative else 1)
        except ValueError:
            number = math.nan
        if not (number >= 0 and math.isfinite(number)) or (equals and not metric):
            raise UserError(
                f"--tolerance {text}: expected a number of at least 0, or METRIC=NUMBER, or with % after it"
            )
        if metric in found:
            whose = f"of {metric}" if metric else "of all metrics"
            raise UserError(f"--tolerance {text}: the second one {whose}; give one of them")
        found[metric] = Tolerance(number, relative)
    return found


def joined(frozen: Frozen, given: float | Mapping[str, float | Tolerance]) -> dict[str, Tolerance]:
    """A baseline's own tolerances with a command's in their places; UserError for a metric that it does not have.

    A command's tolerance for all metrics leaves none of the baseline's own.
    """
    asked = {"": given} if isinstance(given, int | float) else dict(given)
    own = tolerances(f"{name}={value}" if name else value for name, value in frozen.tolerance.items())
    for name in (*own, *asked):
        if name and name not in frozen.metrics:
            raise UserError(f"--tolerance {name}: no metric of this baseline{nearest(name, frozen.metrics)}")
    kept = {} if "" in asked else own
    return {**kept, **{name: t if isinstance(t, Tolerance) else Tolerance(t) for name, t in asked.items()}}


def check_tolerances(frozen: Frozen, given: Mapping[str, Tolerance]) -> None:
    """UserError for a tolerance, given or the baseline's own, of a metric that the baseline does not have."""
    joined(frozen, given)


def check_unread(frozen: Frozen, given: Mapping[str, Tolerance], suite: Suite, metrics: Iterable[str]) -> None:
    """UserError for a tolerance that no comparison of a suite, on these metrics, will read: before hours of a run."""
    labels = {spec.label for spec in suite.methods}
    arms = [arm for arm in frozen.arms if arm.method in labels]
    asked = [
        metric
        for metric in metrics
        if metric in frozen.metrics and any(metric in arm.metrics and metric not in arm.optimises for arm in arms)
    ]
    check_read(given, asked)


def check_read(given: Mapping[str, float | Tolerance], compared: Iterable[str]) -> None:
    """UserError for a tolerance that no comparison read, which its giver takes to be kept to."""
    metrics = set(compared)
    for name in given:
        if name and name not in metrics:
            raise UserError(f"--tolerance {name}=...: nothing is compared on {name}, so nothing reads it; leave it out")
    if "" in given and metrics and metrics <= given.keys():
        raise UserError("--tolerance: every metric that is compared has one of its own, so nothing reads this one")
