"""What one comparison says, what many add up to, and what verdicts are of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bench.records import ArmRow, ComparisonRow
from bench.stats.intervals import Interval

Outcome = Literal["passed", "inconclusive", "failed", "not comparable"]
"""`inconclusive`: neither shown to keep to a rule, or to a baseline, nor shown not to."""
Inconclusive = Literal["pass", "fail"]
"""What an inconclusive verdict counts as."""

ORDER: tuple[Outcome, ...] = ("failed", "not comparable", "inconclusive", "passed")
"""The worst first."""
SETTING = ("model", "sampler", "steps", "guidance")


class Verdict(BaseModel):
    """What one rule says of one method, or one comparison with a frozen baseline."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    check: Literal["rule", "baseline"]
    """Whether a rule of the suite was checked, or the run was paired with a frozen one."""
    rule: str
    """What was asked, such as `clipscore delta >= -0.01`."""
    method: str
    outcome: Outcome
    sentence: str
    """The whole finding in words."""
    model: str | None = None
    prompts: str | None = None
    """Prompt set, or "*" for all of them pooled."""
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    metric: str | None = None
    """A metric, or the name of a cost."""
    quantity: Literal["delta", "win_rate", "ratio", "change", "effect_change"] | None = None
    """`delta`, `win_rate`, `ratio`: against the run's own baseline arm. `change`: new minus frozen scores of one arm.
    `effect_change`: new minus frozen delta to the baseline arm. Deltas and changes are turned so that more is better.
    """
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    """`low` and `high` bound the interval that decided, after correction for the number of comparisons."""
    level: float | None = None
    """Its confidence level, such as 0.9875 for one of four comparisons."""
    resolves: float | None = None
    """The smallest loss that this many pairs could have ruled out, in the metric's unit; of a ratio of costs the
    smallest factor."""
    images: int | None = None
    """Images of the method that the baseline has too, where it kept their digests."""
    images_changed: int | None = None
    """How many of them have changed, bit for bit."""
    n: int | None = None
    """Pairs."""
    n_prompts: int | None = None

    @property
    def ok(self) -> bool:
        """False too where nothing could be compared."""
        return self.outcome == "passed"

    @property
    def comparable(self) -> bool:
        """Whether there was anything to decide on."""
        return self.outcome != "not comparable"


@dataclass
class Judgement:
    """All verdicts on a run, and what a reader must know beside them."""

    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    baseline: str | None = None
    """Name of the frozen baseline's file."""
    inconclusive: Inconclusive = "pass"
    """What inconclusive verdicts count as."""
    fault: int | None = None
    """Exit code of the error that ended the command before there was anything to judge."""

    @property
    def exit_code(self) -> int:
        """As `exit_code` has it, or that of the fault."""
        return self.fault if self.fault is not None else exit_code(self.verdicts, self.inconclusive)


@dataclass(frozen=True)
class Limits:
    """Where a quantity must lie; None: no limit on that side."""

    least: float | None
    most: float | None
    require: Literal["plausible", "shown"] = "plausible"

    def decide(self, found: Interval) -> tuple[Outcome, str]:
        """The outcome for an interval, and why: within the limits, beyond them, or neither."""
        asked = self._said("at least", "at most", " and ")
        if not self._reaches_beyond(found):
            return "passed", f"shown to be {asked}"
        if self.require == "shown":
            return "failed", f"not shown to be {asked}"
        if self.least is not None and found.high < self.least:
            return "failed", f"shown to be below {self.least:g}"
        if self.most is not None and found.low > self.most:
            return "failed", f"shown to be above {self.most:g}"
        return "inconclusive", f"neither shown to be {asked} nor shown not to be"

    def _reaches_beyond(self, found: Interval) -> bool:
        below = self.least is not None and found.low < self.least
        return below or (self.most is not None and found.high > self.most)

    def _said(self, least: str, most: str, joined: str) -> str:
        parts = [f"{least} {self.least:g}"] if self.least is not None else []
        return joined.join(parts + ([f"{most} {self.most:g}"] if self.most is not None else []))


def overall(verdicts: Sequence[Verdict]) -> Outcome:
    """The one outcome of many verdicts: the worst; of none, not comparable."""
    outcomes = {verdict.outcome for verdict in verdicts} or {"not comparable"}
    return next(worst for worst in ORDER if worst in outcomes)


def exit_code(verdicts: Sequence[Verdict], inconclusive: Inconclusive = "pass") -> int:
    """0 all passed; 1 any failed; 3 where nothing, or not everything, could be compared and nothing failed."""
    if inconclusive == "fail" and any(verdict.outcome == "inconclusive" for verdict in verdicts):
        return 1
    return {"failed": 1, "not comparable": 3, "inconclusive": 0, "passed": 0}[overall(verdicts)]


def counted(verdicts: Iterable[Verdict]) -> dict[Outcome, int]:
    """How many verdicts have each outcome."""
    outcomes = [verdict.outcome for verdict in verdicts]
    found: dict[Outcome, int] = {name: outcomes.count(name) for name in reversed(ORDER)}
    return {name: number for name, number in found.items() if number or name != "inconclusive"}


# What verdicts are of ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """What a verdict is of: a method, or one arm of it by one metric, and how much of it was compared."""

    method: str
    model: str | None = None
    prompts: str | None = None
    """Prompt set, or "*" for all of them pooled."""
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    metric: str | None = None
    n: int | None = None
    n_prompts: int | None = None
    images: int | None = None
    images_changed: int | None = None

    @classmethod
    def of(cls, row: ArmRow | ComparisonRow) -> Subject:
        """Of a row of results."""
        arm = cls(row.method, row.model, row.prompts, row.sampler, row.steps, row.guidance, n=row.n)
        return replace(arm, metric=row.metric, n_prompts=row.n_prompts) if isinstance(row, ComparisonRow) else arm

    def fields(self) -> dict[str, Any]:
        """What is known of it, as fields of a verdict."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def where(self, metric: str | None = None) -> str:
        """`npnet on clipscore, sdxl (ddim, 50 steps, g 5.5)`."""
        sets = "" if self.prompts in (None, "*") else f", {self.prompts}"
        protocol = f"{self.model} ({self.sampler}, {self.steps} steps, g {self.guidance})"
        return f"{self.method} on {metric or self.metric}, {protocol}{sets}"


def finite(value: float) -> float | None:
    """A number that JSON can hold; None for an infinite one."""
    return value if math.isfinite(value) else None


def interval(middle: float | None, low: float | None, high: float | None) -> Interval | None:
    """An estimate with its bounds, or None where one of them was not measured."""
    return None if middle is None or low is None or high is None else Interval(middle, low, high)


def turned(found: Interval) -> Interval:
    """The interval of minus the quantity."""
    return Interval(-found.estimate, -found.high, -found.low)


def span(found: Interval) -> str:
    """`+0.0123 [-0.004, +0.03]`: four digits of the largest of the three numbers, and 0 for what vanishes beside it."""
    numbers = (found.estimate, found.low, found.high)
    largest = max((abs(x) for x in numbers if math.isfinite(x)), default=0.0)
    middle, low, high = (signed(x, largest) for x in numbers)
    return f"{middle} [{low}, {high}]"


def signed(value: float, beside: float) -> str:
    """A number with its sign, to four digits of another one that stands beside it."""
    if not math.isfinite(value):
        return f"{value:+g}"
    if beside == 0 or abs(value) < 1e-4 * beside:
        return "0"
    if beside < 1e-4:
        return f"{value:+.1e}"
    digits = max(0, 3 - math.floor(math.log10(beside)))
    return f"{value:+.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:+.0f}"
