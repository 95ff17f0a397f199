"""Two runs compared, cell by cell: what `bench compare` writes as JSON.

A delta is B's mean minus A's over the pairs that both have, in the metric's unit and not turned. All intervals are
95 %, paired and clustered by prompt.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, JsonValue

from bench.records.base import Count, Labels, Record
from bench.records.comparison_rows import Outcomes
from bench.records.run_records import Provenance

SCHEMA: Final = 2
FORMATS = {1: "ca2368d14cae30e0", 2: "544eb8fe1ce2d74e"}
"""The digest of each version's names and types (`bench.records.json_schema.digest`), from when it was recorded.
A change of the format raises SCHEMA and adds one; nothing here reads such a file, so there are no upgrades."""


class RunSide(Record):
    """One of the two runs."""

    folder: str
    """The folder's name."""
    path: str
    """The folder, as it was given."""
    suite: str
    """The suite's name."""
    id: str
    """The suite's id."""
    title: str
    """The suite's title."""
    baseline: str
    """Label of the method that all others are compared with in that run."""
    created: str | None
    """When its first session started: ISO 8601, UTC; None without a session."""
    sessions: Count
    """How often it was started or resumed."""
    finished: bool
    """Whether it came to its end."""
    cells: Count
    """Images that it asks for."""
    images: Count
    """Images that it has."""
    provenance: Provenance
    """What its last session worked with."""


class JudgedMetric(Record):
    """A metric that one scorer judged in both runs."""

    title: str
    """What tables call it."""
    kind: Literal["image", "pair", "set"]
    """What it is a metric of."""
    unit: str
    """What one of its numbers is in."""
    higher_is_better: bool
    """Whether more is better."""
    scale: str
    """What its numbers mean, in words."""
    digest: str
    """Of the scorer."""


class NotCompared(Record):
    """A metric that is not compared, and why."""

    metric: str
    """The metric's name."""
    reason: str
    """Why not, in words."""


class Step(Record):
    """A mean of A and of B."""

    a: float
    """Mean an image in A."""
    b: float
    """Mean an image in B."""


class TimeStep(Step):
    """Milliseconds an image in A and in B, and B's as a multiple of A's."""

    ratio: float | None
    """None where a stage is too short to be compared."""
    low: float | None
    """Lower bound over batches; None where they are too few."""
    high: float | None
    """Upper bound; None as `low`."""


class Times(Record):
    """Milliseconds an image by stage, of pairs that were measured twice on the same hardware."""

    encode_ms: TimeStep
    """Prompts through the text encoders."""
    noise_ms: TimeStep
    """The noise stage."""
    sampling_ms: TimeStep
    """The sampler's loop."""
    decode_ms: TimeStep
    """From latent to pixels."""
    select_ms: TimeStep
    """Judging among candidates."""
    total_ms: TimeStep
    """All stages."""


class Calls(Record):
    """Denoiser calls an image."""

    calls_noise: Step
    """In the noise stage."""
    calls_sampling: Step
    """In the sampler's loop."""
    calls_total: Step
    """In both."""


class Peak(Record):
    """The largest memory of each run, in bytes."""

    a: float
    """Of A."""
    b: float
    """Of B."""
    kind_a: str
    """What A's is of, such as `CUDA allocator`."""
    kind_b: str
    """What B's is of."""
    ratio: float | None
    """B's over A's; None where they do not measure the same on the same hardware."""


class PairedCost(Record):
    """What an image costs in both runs, over the pairs that both have made."""

    n_timed: Count
    """Pairs of two measurements on the same hardware."""
    n_shared: Count
    """Pairs that are one image, timed once."""
    hardware_a: tuple[str | None, ...]
    """The hardware that made A's images; None of images made elsewhere."""
    hardware_b: tuple[str | None, ...]
    """The hardware that made B's."""
    times: Times | None
    """None where no pair was timed twice."""
    no_times: str | None
    """Why not, in words; None where there is no image at all, too."""
    from_cache_a: Count
    """Images of A that another run had made."""
    batches_a: tuple[int, ...]
    """Sizes of A's batches."""
    from_cache_b: Count
    """Images of B that another run had made."""
    batches_b: tuple[int, ...]
    """Sizes of B's batches."""
    calls: Calls | None
    """None where there is no image."""
    peak: Peak | None
    """None where one of the runs did not measure it."""


class PairedArm(Labels):
    """An arm that both runs have, on one prompt set or on all of them."""

    n_a: Count
    """Cells of A."""
    n_b: Count
    """Cells of B."""
    n_expected: Count
    """Cells that both have."""
    n: Count
    """Those of which both have made the image."""
    complete: bool
    """Whether that is every one, and there are some."""
    changed_prompts: Count
    """Places whose prompt, or its metadata, is another one in the other run."""
    identical: Count
    """Images that are the same, byte for byte."""
    same_noise: Count
    """Images with the same latent after the noise method."""
    cost: PairedCost
    """What an image costs in both."""


class OfBoth(Labels):
    """An arm that both runs have, and a metric."""

    metric: str
    """The metric's name."""
    n: Count
    """Pairs with a score, or features, on both sides."""
    n_expected: Count
    """Pairs that the metric judges."""
    complete: bool
    """Whether no pair is missing; only then is there a test."""
    marked: bool
    """The method optimises this metric, in one of the runs at least."""
    sibling: bool
    """The method was chosen or tuned by a metric with which this one shares labels, a detector, a reader or a rule."""
    mean_a: float | None
    """A's mean, in the metric's unit; of a set metric its value."""
    mean_b: float | None
    """B's."""


class DeltaRow(Outcomes, OfBoth):
    """An arm of B against the same arm of A, by one metric. None: no pairs, or nothing to say."""


class OnlyArm(Labels):
    """An arm that one run has and the other has not."""

    cells: Count
    """Its cells."""


class NearArms(Record):
    """An arm of A and one of B that are the same but for one value of their protocol."""

    differs: Literal["model", "sampler", "steps", "guidance"]
    """Which value."""
    a: Labels
    """The arm of A."""
    b: Labels
    """The arm of B."""


class Difference(Record):
    """Something that the two runs were made with and that is not the same."""

    group: str
    """`suite`, `code`, `machine`, `packages`, `weights` or `scorers`."""
    what: str
    """Its name within the group."""
    a: JsonValue
    """Its value in A; None where A has none."""
    b: JsonValue
    """Its value in B; None where B has none."""


class TwoRuns(Record):
    """All that two runs say of each other."""

    model_config = ConfigDict(title="Two runs of noisebench, compared")

    schema_version: Literal[2] = Field(alias="schema")
    """The format's version."""
    kind: Literal["noisebench comparison"]
    """What sort of document it is."""
    a: RunSide
    """The first run."""
    b: RunSide
    """The second, whose change against the first is reported."""
    metrics: dict[str, JudgedMetric]
    """What is compared, by name."""
    not_compared: tuple[NotCompared, ...]
    """What is not."""
    arms: tuple[PairedArm, ...]
    """Arms that both have, by prompt set and pooled."""
    comparisons: tuple[DeltaRow, ...]
    """Every one of those arms by every metric."""
    only_a: tuple[OnlyArm, ...]
    """Arms that only A has."""
    only_b: tuple[OnlyArm, ...]
    """Arms that only B has."""
    different_protocol: tuple[NearArms, ...]
    """Those of them that differ in one value only."""
    differences: tuple[Difference, ...]
    """What the two were made with, where that differs."""
    notes: tuple[str, ...]
    """What a reader must know beside the numbers, a sentence each."""

    def document(self) -> dict[str, Any]:
        """As JSON has it: lists and dicts, the names of the file."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def text(self) -> str:
        """What a file holds."""
        return json.dumps(self.document(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
