"""A frozen baseline as one record: a run's scores, sample by sample, and what decides if another is paired with it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from bench.records.arm_rows import Mean, StageCost
from bench.records.base import Count, Record, Setting
from bench.records.run_records import Provenance


class FrozenSuite(Record):
    """Which suite was run."""

    name: str
    """As its file names it."""
    id: str
    """Digest of all that decides its results."""
    title: str = ""
    """The suite's title."""
    baseline: str
    """The method that all others are compared with."""
    twin: bool
    """Whether the embedded world stood for the real models."""
    limit: int | None = None
    """At most so many prompts of each set; None: all."""


class FrozenMetric(Record):
    """What a score is."""

    title: str
    """What tables call it."""
    unit: str
    """What one of its numbers is in."""
    higher_is_better: bool
    """Whether more is better."""
    digest: str
    """Of the scorer: scores of another are another quantity."""
    kind: Literal["image", "pair", "set"]
    """What it is a metric of. A score of a pair is 2p - 1; of a set there are values and intervals alone."""


class FrozenSet(Record):
    """The pairs of one prompt set."""

    n: int = Field(ge=1)
    """Prompts times seeds."""
    digest: str
    """Of every index, seed and prompt text, in order."""
    keys: tuple[str, ...] | None
    """Of each pair its seed and prompt text, and its number among equal ones: they find it in a suite that has grown.
    None in baselines from before, which are compared with the same pairs only."""


class FrozenCost(StageCost):
    """What an image cost when it was frozen; `--memory` is not frozen."""


class FrozenArm(Setting):
    """One method under one protocol over all prompt sets."""

    method: str
    """The method's label in the suite."""
    optimises: tuple[str, ...]
    """Metrics that are no evidence for this method, and are not gated."""
    jobs: str
    """Digest of its job ids: of every weight, version and parameter that decided its images."""
    cost: FrozenCost
    """What an image of it cost."""
    metrics: dict[str, Mean]
    """Mean, interval and n by metric."""
    scores: dict[str, tuple[float | None, ...]]
    """By metric that is not one of sets, in the order of the pairs; None where the metric does not judge a prompt."""
    images: tuple[str | None, ...] | None
    """Digests of its images' pixels in the order of the pairs; None in baselines from before."""

    @property
    def setting(self) -> tuple[str, str, int, float]:
        """Model, sampler, steps and guidance, as `bench.analysis.arms.Setting`."""
        return self.model, self.sampler, self.steps, self.guidance


class FrozenComparison(Setting):
    """One arm against the baseline arm of its setting, by one metric, over all prompt sets; as `ComparisonRow`."""

    prompts: str
    """`*`: all prompt sets pooled."""
    method: str
    """The method's label in the suite."""
    metric: str
    """The metric's name."""
    baseline: str
    """The baseline's label."""
    n: Count
    """Pairs with a score on both sides."""
    n_prompts: Count | None
    """Different prompts among the pairs."""
    delta: float | None
    """Method minus baseline."""
    low: float | None
    """Lower bound of the delta."""
    high: float | None
    """Upper bound of the delta."""
    p_holm: float | None
    """The p-value, adjusted over its family."""
    win_rate: float | None
    """Share of pairs won, 0 to 1, ties counted half."""
    win_low: float | None
    """Lower bound of `win_rate`."""
    win_high: float | None
    """Upper bound of `win_rate`."""
    marked: bool
    """The method optimises this metric."""

    @property
    def setting(self) -> tuple[str, str, int, float]:
        """Model, sampler, steps and guidance, as `bench.analysis.arms.Setting`."""
        return self.model, self.sampler, self.steps, self.guidance


class Frozen(Record):
    """A whole baseline file. Numbers have six significant digits."""

    model_config = ConfigDict(title="A frozen baseline of noisebench")

    schema_version: Literal[3] = Field(alias="schema")
    """The format's version."""
    kind: Literal["noisebench baseline"]
    """What sort of file it is."""
    suite: FrozenSuite
    """What was asked for."""
    protocol: dict[str, Any]
    """All of the suite that decides results."""
    created: str
    """When the run's first session started: ISO 8601, UTC."""
    provenance: Provenance
    """Commit, versions, command, hardware and weights' digests of the run."""
    hardware: tuple[str, ...]
    """What the times in `FrozenArm.cost` were measured on."""
    metrics: dict[str, FrozenMetric]
    """By name."""
    tolerance: dict[str, str]
    """How far scores may fall, such as `0.01` or `1%`, by metric and under "" for all others; a command's own win."""
    pairs: dict[str, FrozenSet]
    """By prompt set, in the order of the scores."""
    arms: tuple[FrozenArm, ...] = Field(min_length=1)
    """Every method under every setting."""
    comparisons: tuple[FrozenComparison, ...]
    """The run's paired deltas and win rates over all prompt sets, for a reader; the gate goes by the scores, and by
    these deltas for metrics of sets, which have none."""

    def document(self) -> dict[str, Any]:
        """As JSON has it: lists and dicts, the names of the file."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)
