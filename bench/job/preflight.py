"""Before anything is made: what a suite needs and lacks, and what its scorers cost. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bench import registry
from bench.errors import UserError
from bench.metrics.backbones import MACHINE
from bench.metrics.base import MetricEntry
from bench.needs.base import Made, Need, Nothing, Source, gigabytes
from bench.prompts.base import Prompt, PromptSet
from bench.runner.checks import TooMany, one_seed
from bench.runner.outline import Outline, Task
from bench.runner.plan import Plan, make_plan, outlined
from bench.suite import Suite


def planned(suite: Suite, *, dtype: str = "fp32") -> Plan:
    """The plan of a suite on a machine that may lack anything.

    Prompts that are not here are counted in place of being read, and a method's file that is not here has a
    placeholder in the place of its digest. With everything here it is the plan that is run.
    """
    return make_plan(suite, read=_read_or_count, dtype=dtype, placeholders=True)


def outline(suite: Suite) -> Outline:
    """As `planned`, without a list of the images."""
    return outlined(suite, read=_read_or_count, placeholders=True)


def outline_of_any_size(suite: Suite) -> tuple[Outline, TooMany | None]:
    """As `outline`, and why no run can be made of it: one that is too large is priced by one seed of each prompt."""
    try:
        return outline(suite), None
    except TooMany as error:
        part, times = one_seed(suite)
        if times == 1:
            raise
        return replace(outline(part), times=times), error


def _read_or_count(name: str) -> list[Prompt]:
    entry: PromptSet = registry.get("prompts", name)
    if all(file.here() for file in entry.files):
        return list(entry.read())
    return [Prompt(i, f"{name} {i}", seeds=entry.seeds.get(i, ())) for i in range(entry.size)]


def uncounted(plan: Outline) -> list[str]:
    """The plan's prompt sets that are not here, and of which only their files say how many prompts they have."""
    entries: dict[str, PromptSet] = {name: registry.get("prompts", name) for name in plan.prompts}
    return [name for name, one in entries.items() if not one.size and not all(file.here() for file in one.files)]


def judges(plan: Outline) -> list[str]:
    """Every metric that a run asks: those of the suite, those that choose, and the rewards of methods.

    Not those that judge none of its prompts, such as GenEval where no prompt has its metadata.
    """
    declared = {name: registry.get("prompts", name).carries for name in plan.prompts}
    carried = {frozenset(p.metadata or declared[name]) for name, found in plan.prompts.items() for p in found}
    of_suite = (m for m in plan.suite.metrics if any(map(registry.get("metrics", m).judges, carried)) or not carried)
    return list(dict.fromkeys((*of_suite, *choosers(plan))))


def choosers(plan: Outline) -> list[str]:
    """Every metric that is asked while images are made: those that choose among candidates, and rewards of methods."""
    return list(dict.fromkeys(name for chain in plan.methods.values() for m in chain for name in m.metrics()))


def needs(plan: Outline, *, metrics: Sequence[str] | None = None) -> list[Need]:
    """All that must be on this machine before a plan is run, each once; `metrics`: the scorers that are asked."""
    suite = plan.suite
    methods = [method for chain in plan.methods.values() for method in chain]
    with suite.configured():
        found = [need for name in suite.prompts for need in registry.get("prompts", name).needs()]
        found += [need for name in suite.models for need in registry.get("models", name).needs()]
        found += [need for method in methods for need in method.requires()]
        found += [_made(need, suite) for need in plan.lacking]
        found += of_metrics(judges(plan) if metrics is None else metrics)
    return list({(need.of, need.source): need for need in found}.values())


def of_metrics(names: Iterable[str]) -> list[Need]:
    """What scorers need; one that cannot be had is reported as such."""
    found: list[Need] = []
    for name in names:
        entry: MetricEntry = registry.get("metrics", name)
        try:
            entry.check_built()
        except UserError as error:
            found.append(Need(f"metric {name}", name, Nothing(str(error))))
        else:
            found += entry.needs()
    return found


def _made(need: Need, suite: Suite) -> Need:
    """With the command that the suite names for it."""
    how = suite.made_by.get(need.what)
    if how is None or not isinstance(need.source, Made):
        return need
    return replace(need, source=replace(need.source, how=how))


def missing(found: Iterable[Need]) -> list[Need]:
    """Those that are not here."""
    here = {need.source: need.source.here() for need in found}
    return [need for need in found if not here[need.source]]


def size(found: Iterable[Need]) -> tuple[int, int]:
    """(about the bytes that are downloaded, how many of unknown size), each source once."""
    sources: dict[Source, int | None] = {}
    for need in found:
        if not need.source.command:
            # One that does not know the size of a file must not hide it from one that does.
            sources[need.source] = sources.get(need.source) or need.about_bytes
    return sum(filter(None, sources.values())), sum(known is None for known in sources.values())


def amount(found: Sequence[Need]) -> str:
    """`size` in words."""
    total, unknown = size(found)
    more = f"{unknown} of unknown size" if unknown else ""
    return " and ".join(filter(None, (f"about {gigabytes(total)}" if total else "", more)))


def check(found: Sequence[Need], *, suite: str) -> None:
    """UserError that names what is missing and the ways on; `suite` is how the user names the suite."""
    away = missing(found)
    if not away:
        return
    fetched = [need for need in away if not need.source.command]
    ways = list(dict.fromkeys(f"{n.of} needs {n.what} ({n.source.command})" for n in away if n.source.command))
    names = list(dict.fromkeys(need.of for need in fetched))
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    absent = [
        f"what {shown} need{'s' * (len(names) == 1)} ({amount(fetched)}): `python -m bench fetch {suite}` gets it"
    ]
    more = f" and {len(ways) - 2} more, which `python -m bench plan {suite}` lists" if len(ways) > 2 else ""
    absent = (absent if fetched else []) + ([", ".join(ways[:2]) + more] if ways else [])
    raise UserError(
        f"{suite}: not on this machine is {'; and '.join(absent)}; or --twin runs the suite on the embedded world"
    )


# Scoring ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scoring:
    """What the scorers of a plan cost, as far as it is known."""

    seconds: float
    """Of the networks alone."""
    gib: float
    """Of the largest scorer's weights, which has all of those that it shares: others are loaded after it is freed."""
    largest: str
    unknown: tuple[str, ...]
    """Metrics whose time is not known."""

    def lines(self) -> list[str]:
        """Time and memory in words; nothing where nothing is known."""
        if not self.seconds:
            return []
        but = f", without {', '.join(self.unknown)}" if self.unknown else ""
        return [
            f"about {duration(self.seconds)} on {MACHINE}{but}",
            f"{self.gib:.1f} GiB of weights at most at a time ({self.largest}), beside the model's",
        ]


def scoring(plan: Outline) -> Scoring:
    """The estimate for a plan's scores, candidates' included; nothing that is kept from before is taken off.

    Metrics of one network are scored together: it is in memory once, and an image goes through it once.
    """
    asked: dict[str, set[Task]] = {name: set(found) for name, found in plan.tally.candidates.items()}
    with plan.suite.configured():
        for name in plan.suite.metrics:
            found = plan.tally.tasks(registry.get("metrics", name))
            asked[name] = found | asked[name] if name in asked else found
        entries: dict[str, MetricEntry] = {name: registry.get("metrics", name) for name in asked}
    seconds = 0.0
    seen: dict[object, set[Task]] = {}
    for name in sorted(asked, key=lambda name: -(entries[name].ms or 0.0)):  # the slowest of a network first
        done = seen.setdefault(entries[name].networks() or name, set())
        seconds += len(asked[name] - done) * (entries[name].ms or 0.0) / 1000
        done |= asked[name]
    weights = {name: entry.gib or 0.0 for name, entry in entries.items()}
    largest = max(weights, key=lambda name: weights[name], default="")
    unknown = tuple(name for name in asked if entries[name].ms is None)
    return Scoring(plan.times * seconds, weights.get(largest, 0.0), largest, unknown)


def duration(seconds: float) -> str:
    """`90 s`, `12 min`, `3.5 h`."""
    if math.isnan(seconds):
        return "an unknown time"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
