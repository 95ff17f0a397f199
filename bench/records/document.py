"""results.json as one record."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from bench.records.arm_rows import ArmRow
from bench.records.base import Count, Record, Setting
from bench.records.comparison_rows import CategoryRow, ComparisonRow, EqualComputeRow, SeedRow, TaskRow
from bench.records.run_records import RunRecord, RunSummary


class SuiteRecord(Record):
    """What was asked for; of several runs read as one, what stands for their suites together."""

    name: str
    """As its file names it."""
    title: str
    """The suite's title."""
    id: str
    """Hash of all that decides the suite's images and scores."""
    reproduces: str | None
    """The table or figure of the paper, where the suite reproduces one."""
    twin: bool
    """Whether the embedded world stood for the real models."""
    baseline: str
    """Label of the method that all others are compared with."""
    limit: int | None
    """At most so many prompts of each set; None: all."""
    headline: str | None
    """The metric that the suite names for the headline."""
    controls: tuple[str, ...]
    """Methods whose effect is known beforehand: no headline names them."""
    command: str | None
    """The command line of the first run's last session."""


class MetricRow(Record):
    """What a metric is, and by which scorer."""

    title: str
    """What tables call it."""
    kind: Literal["image", "pair", "set"]
    """What it is a metric of: an image, a pair of images of one prompt, or a set of images."""
    unit: str
    """What one of its numbers is in."""
    higher_is_better: bool
    """Whether more is better."""
    scale: str
    """What its numbers mean, in words."""
    bounds: tuple[int | float, int | float] | None
    """The range of a score, of a pair 2p - 1; None where it has none that intervals allow for."""
    digest: str
    """Of the scorer: weights, preprocessing and code."""
    twin_of: tuple[str, ...]
    """The real metrics that it stands for."""
    score_ms: float | None
    """Milliseconds to score an image, or a pair of them; None where it was not measured."""


class ControlRow(Record):
    """Whether a method of known effect was seen to have it, by one metric."""

    method: str
    """The method's label in the suite."""
    metric: str
    """The metric's name."""
    expect: Literal["zero", "positive"]
    """The effect that it must have: none, or a gain."""
    ok: bool | None
    """None where it was not measured."""
    sentence: str
    """The finding in words."""


class FailedImage(Record):
    """An image that could not be made."""

    prompts: str
    """Its prompt set."""
    index: Count
    """Of the prompt in its set."""
    seed: Count
    """The seed, from which the noise is drawn."""
    prompt: str
    """The text."""
    run: Count
    """Index into `Results.runs`."""


class FailedRow(Record):
    """Images of one setting and method that could not be made for one reason."""

    model: str
    """Name of the model."""
    sampler: str
    """Name of the sampler."""
    steps: int
    """Denoising steps that were asked for."""
    guidance: float
    """Guidance scale g of diffusers: 1 is without guidance."""
    method: str
    """The method's label in the suite."""
    reason: str
    """What went wrong."""
    n: Annotated[int, Field(ge=1)]
    """How many."""
    images: Annotated[tuple[FailedImage, ...], Field(min_length=1)]
    """The first of them."""


class PairRow(Record):
    """One prompt and seed, with the image of each method, for a person to look at."""

    setting: Count
    """Index into `Results.settings`."""
    prompt: str
    """The text."""
    prompts: str
    """Its prompt set."""
    index: Count
    """Of the prompt in its set."""
    seed: Count
    """The seed, from which the noise is drawn."""
    category: str
    """Of the prompt; empty where its set has none."""
    images: dict[str, str]
    """File by method, seen from its run's folder."""
    runs: dict[str, Count]
    """Index into `Results.runs` by method."""
    scores: dict[str, dict[str, float]]
    """By method and metric; what has no score is missing."""


class Results(Record):
    """Every number that a report, a gate or a person reads.

    All intervals are 95 %, paired and clustered by prompt.
    """

    model_config = ConfigDict(title="results.json of noisebench")

    schema_version: Literal[4] = Field(alias="schema")
    """The format's version."""
    suite: SuiteRecord
    """What was asked for."""
    run: RunSummary
    """The first run."""
    runs: tuple[RunRecord, ...]
    """All runs that these results are of."""
    notes: tuple[str, ...]
    """What a reader must know beside the numbers, a sentence each."""
    metrics: dict[str, MetricRow]
    """By name."""
    arms: tuple[ArmRow, ...]
    """Every method under every setting, by prompt set and pooled."""
    comparisons: tuple[ComparisonRow, ...]
    """Every method against the baseline."""
    equal_compute: tuple[EqualComputeRow, ...]
    """Every method against the plain arm with as many denoiser calls."""
    tasks: tuple[TaskRow, ...]
    """Means of task means, of metrics with tasks."""
    controls: tuple[ControlRow, ...]
    """Whether methods of known effect had it."""
    seeds: tuple[SeedRow, ...]
    """Empty where there is one seed, or a seed of its own for each prompt."""
    categories: tuple[CategoryRow, ...]
    """Every prompt set's categories apart; empty where sets have one."""
    settings: tuple[Setting, ...]
    """What `PairRow.setting` counts."""
    failed: tuple[FailedRow, ...]
    """Images that could not be made."""
    pairs: tuple[PairRow, ...]
    """Some pairs, evenly spaced over all."""
    pairs_total: Count
    """How many there are."""

    def document(self) -> dict[str, Any]:
        """As JSON has it: lists and dicts, the names of the file."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def text(self) -> str:
        """What the file holds."""
        return json.dumps(self.document(), indent=1, ensure_ascii=False, allow_nan=False)
