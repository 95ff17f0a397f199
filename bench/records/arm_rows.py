"""Rows of arms: means of their metrics, what they optimise, and what an image costs."""

from __future__ import annotations

from typing import Literal

from bench.records.base import Count, Labels, Record


class Mean(Record):
    """An arm's mean of one metric, in the metric's unit; of a set metric the value of all images together."""

    mean: float | None
    """None where no image has a score, or the set has no value."""
    low: float | None
    """Lower bound; None also where a single prompt gives no interval."""
    high: float | None
    """Upper bound; None as `low`."""
    n: Count
    """Images with a score, or with features."""
    refused: str | None = None
    """Why a set metric has no value here; missing where it has one, or none was asked for."""


class Shared(Record):
    """One thing that two metrics are both made of."""

    kind: Literal["labels", "detector", "reader", "rule"]
    """What sort of thing it is."""
    name: str
    """Whose labels, which detector, and so on."""


class Sibling(Record):
    """A metric that is no independent evidence for a method, and why."""

    metric: str
    """The metric that judges."""
    of: str
    """The metric that chose or tuned the method; empty where its weights learnt from what is shared itself."""
    shares: tuple[Shared, ...]
    """What the two have in common."""


class Ratio(Record):
    """A cost as a multiple of the baseline's."""

    ratio: float
    """The method's cost over the baseline's."""
    low: float | None
    """Lower bound over batches; of calls the ratio itself. None where batches are too few, and of memory."""
    high: float | None
    """Upper bound; None as `low`."""


class Ratios(Record):
    """Each cost over the baseline's. None for the baseline itself, where the baseline has none of it, and for times
    and memory that were not measured on one kind of hardware in these runs."""

    encode_ms: Ratio | None
    """Of the text encoders' time."""
    noise_ms: Ratio | None
    """Of the noise stage's time."""
    sampling_ms: Ratio | None
    """Of the sampler's time."""
    decode_ms: Ratio | None
    """Of the decoder's time."""
    select_ms: Ratio | None
    """Of the time of judging among candidates."""
    total_ms: Ratio | None
    """Of the time of all stages."""
    calls_noise: Ratio | None
    """Of denoiser calls in the noise stage."""
    calls_sampling: Ratio | None
    """Of denoiser calls in the sampler's loop."""
    calls_total: Ratio | None
    """Of denoiser calls in both."""
    peak_bytes: Ratio | None
    """None also where the peak is the whole process's."""
    memory_bytes: Ratio | None = None
    """Of the memory measured apart, without bounds: one batch each; missing where it was not measured for both."""


class StageCost(Record):
    """What an image costs: means over the arm's images. None where it was not measured, as of images made elsewhere."""

    encode_ms: float | None
    """Milliseconds an image, its share of a batch: prompts through the text encoders."""
    noise_ms: float | None
    """Milliseconds of the noise stage: what a method does before the sampler's first step."""
    sampling_ms: float | None
    """Milliseconds of the sampler's loop, and of what a method does inside it."""
    decode_ms: float | None
    """Milliseconds from latent to pixels."""
    select_ms: float | None
    """Milliseconds of judging among candidates; 0 where there are none."""
    total_ms: float | None
    """Milliseconds of all stages."""
    calls_noise: float | None
    """Denoiser calls in the noise stage."""
    calls_sampling: float | None
    """Denoiser calls in the sampler's loop, of all candidates."""
    calls_total: float | None
    """Denoiser calls of both."""
    peak_bytes: int | None
    """The largest memory, in bytes; None where it was not measured."""
    peak_kind: str | None
    """What that memory is of, such as `CUDA allocator`."""
    hardware: str | None
    """The hardware that made most images; times count only those."""
    from_cache: Count
    """Images that another run had made."""
    n_timed: Count
    """Images whose times count."""
    backwards: float | None = None
    """Gradients taken; missing where nothing was measured."""
    networks: float | None = None
    """Calls of networks that are not the model's; missing where nothing was measured."""
    rewards: float | None = None
    """Images scored meanwhile; missing where nothing was measured."""


class Cost(StageCost):
    """What an image costs, with its memory measured apart and its ratios to the baseline's."""

    memory_bytes: int | None = None
    """The method's peak memory, measured by `--memory` in a process of its own: the larger of the two stages', in
    bytes above what the process used with the model loaded and warmed up. Missing where it was not measured."""
    memory_noise_bytes: int | None = None
    """That of the noise stage; missing where it is not known."""
    memory_sampling_bytes: int | None = None
    """That of the sampling stage; missing where it is not known."""
    memory_batch: int | None = None
    """Images of the batch that it was measured on; missing where it was not."""
    memory_failed: str | None = None
    """Why it could not be measured; missing where it was, or was not asked for."""
    ratios: Ratios
    """Multiples of the baseline's."""


class ArmRow(Labels):
    """One method under one setting on one prompt set, or on all of them."""

    n_expected: Count
    """Images that the suite asks for."""
    n: Count
    """Images that are there."""
    complete: bool
    """Whether every image and every score of it is there; an arm that is not is not ranked."""
    is_baseline: bool
    """Whether the others of its setting and prompts are compared with it."""
    metrics: dict[str, Mean]
    """By metric."""
    optimises: tuple[str, ...]
    """Metrics that the method goes by, and metrics of the same weights: no evidence for it."""
    siblings: tuple[Sibling, ...]
    """Metrics that are no independent evidence for the method."""
    cost: Cost
    """What an image of it costs."""
