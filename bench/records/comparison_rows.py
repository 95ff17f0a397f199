"""Rows of comparisons with a baseline: of arms, of their seeds and categories, and at equal compute.

A delta is the method's mean minus the baseline's over the pairs that both have, in the metric's unit and not turned:
where lower is better a gain is negative. A win is turned: it is a gain in the metric's own direction.
"""

from __future__ import annotations

from bench.records.base import Count, Labels, Record


class Outcomes(Record):
    """What paired scores say. None: no pairs, or nothing to say."""

    n_prompts: Count | None
    """Different prompts among the pairs."""
    delta: float | None
    """Method minus baseline."""
    low: float | None
    """Lower bound of the delta; None also for a single prompt."""
    high: float | None
    """Upper bound of the delta."""
    p: float | None
    """Two-sided p-value of sign flips of whole prompts; None where the comparison is not complete."""
    p_holm: float | None
    """Adjusted over its family: pooled comparisons, or those on single sets; marked ones belong to neither."""
    win: Count | None
    """Pairs won; None for a set metric."""
    tie: Count | None
    """Pairs with equal scores."""
    loss: Count | None
    """Pairs lost."""
    win_rate: float | None
    """Share of pairs won, 0 to 1, ties counted half; of a pair metric the mean preference."""
    win_low: float | None
    """Lower bound of `win_rate`."""
    win_high: float | None
    """Upper bound of `win_rate`."""
    win_strict: float | None
    """Share of pairs won, ties counted as losses, as the paper's released code does."""
    win_strict_low: float | None
    """Lower bound of `win_strict`."""
    win_strict_high: float | None
    """Upper bound of `win_strict`."""
    detectable: float | None
    """The smallest true delta found with 80 % power at the 5 % level."""
    sd: float | None
    """Standard error of the delta times the square root of `n_prompts`."""


class OfComparison(Labels):
    """An arm, the baseline of its setting and prompt set, and a metric."""

    baseline: str
    """The baseline's label."""
    metric: str
    """The metric's name."""
    n: Count
    """Pairs with a score on both sides."""
    complete: bool
    """Whether no pair is missing; only then is there a test."""
    marked: bool
    """The method optimises this metric."""
    sibling: bool
    """The method was chosen or tuned by a metric with which this one shares labels, a detector, a reader or a rule."""


class OfSeed(Labels):
    """Of all prompt sets pooled, the pairs of one seed."""

    seed: Count
    """The seed, from which the noise is drawn."""


class OfCategory(Labels):
    """Of one prompt set, the pairs of one category."""

    category: str
    """The category's name."""


class PartRow(Labels):
    """A part of an arm, against the same part of the baseline."""

    metric: str
    """The metric's name."""
    n: Count
    """Pairs with a score on both sides; of the baseline's own rows, images with one."""
    n_prompts: Count
    """Different prompts among them."""
    mean: float
    """The method's mean, in the metric's unit."""
    delta: float | None
    """Method minus baseline; None, as all below, in the baseline's own rows."""
    low: float | None
    """Lower bound of `delta`; None also for a single prompt."""
    high: float | None
    """Upper bound of `delta`; None as `low`."""
    win_rate: float | None
    """Share of pairs won, 0 to 1, ties counted half."""
    win_low: float | None
    """Lower bound of `win_rate`."""
    win_high: float | None
    """Upper bound of `win_rate`."""
    win_strict: float | None
    """Share of pairs won, ties counted as losses."""
    win_strict_low: float | None
    """Lower bound of `win_strict`."""
    win_strict_high: float | None
    """Upper bound of `win_strict`."""


# What a row is of stands before its numbers: of two bases, the fields of the second come first.


class ComparisonRow(Outcomes, OfComparison):
    """One arm against the baseline of its setting and prompt set, by one metric. None: no pairs, or nothing to say."""


class SeedRow(PartRow, OfSeed):
    """Of all prompt sets pooled, the pairs of one seed."""


class CategoryRow(PartRow, OfCategory):
    """Of one prompt set, the pairs of one category."""


class TaskMean(Record):
    """The mean over one task's images."""

    mean: float
    """Mean of its scores, in the metric's unit."""
    n: Count
    """Its images with a score."""


class TaskRow(Labels):
    """The mean of task means, as GenEval's overall score is one, of an arm by one metric."""

    metric: str
    """The metric's name."""
    overall: float | None
    """Mean of the tasks' means."""
    overall_low: float | None
    """Lower bound of `overall`; None also for a single prompt."""
    overall_high: float | None
    """Upper bound of `overall`; None as `overall_low`."""
    tasks: dict[str, TaskMean]
    """By task."""


class Reference(Record):
    """The plain arm that a method is compared with at equal compute."""

    method: str
    """The method's label in the suite."""
    steps: int
    """Denoising steps that were asked for."""
    calls: float
    """Its denoiser calls an image."""


class EqualDelta(Record):
    """Method minus plain arm, by one metric of images."""

    delta: float | None
    """Method minus plain arm, in the metric's unit; None where the two share no scored pair."""
    low: float | None
    """Lower bound of `delta`; None also for a single prompt."""
    high: float | None
    """Upper bound of `delta`; None as `low`."""
    n: Count
    """Pairs with a score on both sides."""
    marked: bool
    """One of the two optimises this metric."""
    sibling: bool
    """One of the two was chosen or tuned by what this metric shares something with."""


class EqualComputeRow(Labels):
    """A method against the plain arm, standard noise or the best of n, whose denoiser calls are nearest."""

    calls: float
    """The method's denoiser calls an image."""
    reference: Reference | None
    """None where no plain arm is near."""
    add_steps: int | None
    """Where there is no reference: the step count at which standard sampling would be one."""
    metrics: dict[str, EqualDelta]
    """By metric of images; empty without a reference."""
