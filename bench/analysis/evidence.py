"""Which metrics are no independent evidence for a run's methods: their siblings chose or tuned the method.

What a method optimises is in the ledger, as its plan found it. What two metrics share is a fact of today's catalogue,
so that runs of an older version, and metrics that were added to a run later, are judged by the same facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bench.kinship import Dependence, Trait, dependences
from bench.records import Shared, Sibling
from bench.runner.plan import known_metrics

if TYPE_CHECKING:
    from bench.analysis.arms import MeasuredArm
    from bench.analysis.comparisons import Optimised
    from bench.metrics.base import MetricEntry
    from bench.store import Ledger

Siblings = Callable[["MeasuredArm"], Sequence[Dependence]]
"""For an arm, the metrics that are no independent evidence for it, with the reasons."""


def siblings(ledgers: Iterable[Ledger], entries: Mapping[str, MetricEntry], optimised: Optimised) -> Siblings:
    """For each arm of some runs read as one."""
    runs = list(ledgers)
    known: dict[tuple[str, str], list[Dependence]] = {}

    def of(arm: MeasuredArm) -> Sequence[Dependence]:
        place = (arm.method, arm.setting[0])
        if place not in known:
            learnt = [trait for ledger in runs for trait in learnt_from(ledger, *place)]
            known[place] = dependences(entries.values(), known_metrics(optimised(arm)), learnt)
        return known[place]

    return of


def learnt_from(ledger: Ledger, method: str, model: str) -> list[Trait]:
    """What a method's weights were tuned on beside named metrics, as the run's plan found it."""
    planned: dict[str, dict[str, list[list[str]]]] = ledger.get("learnt_from") or {}
    return [Trait(*trait) for trait in planned.get(method, {}).get(model, [])]


def record(found: Iterable[Dependence]) -> tuple[Sibling, ...]:
    """As results have it."""
    return tuple(Sibling(metric=one.metric, of=one.of, shares=tuple(map(_shared, one.traits))) for one in found)


def _shared(trait: Trait) -> Shared:
    return Shared(kind=trait.kind, name=trait.name)  # type: ignore[arg-type]  # a kind of kinship.DEPENDENT
