"""Best of n: sample n seeds to the end and keep the image that a metric likes most.

The candidates are ordinary jobs: the first is the baseline's own image, the second is `reseed`'s, and methods with
other selection metrics share them all. The cost charged to the method is that of all n, wherever they came from. Where
one of the n cannot be made (NaN latents, say) the chosen image fails for that candidate's reason: the best of fewer is
another method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field, model_validator

from bench.methods.base import Candidate, Method
from bench.methods.reseed import other_seed
from bench.registry import MetricName, register


@register("methods", "best_of_n")
class BestOfN(Method):
    about: ClassVar[str] = "n seeds sampled to the end, the best by a metric (`selection_metric`) kept"
    source: ClassVar[str] = "2501.09732 (random search)"
    cost: ClassVar[str] = "n images; with equal_compute about one"

    renamed: ClassVar[Mapping[str, str]] = {"chooser": "selection_metric"}

    n: int = Field(4, ge=2, le=1024)
    selection_metric: MetricName = "hpsv2"
    """Metric that picks; reports mark the method where this metric judges it."""
    steps: int | None = Field(None, ge=1, le=1000)
    """Steps of each candidate; None takes the suite's."""
    equal_compute: bool = False
    """Whether the candidates share the suite's steps among them, so that all cost about what one image does."""

    @model_validator(mode="after")
    def _one_way_to_count(self) -> Self:
        if self.equal_compute and self.steps is not None:
            raise ValueError("give either 'steps' or 'equal_compute', got both")
        return self

    def candidates(self, seed: int) -> list[Candidate]:
        divide = self.n if self.equal_compute else 1
        return [Candidate(other_seed(seed, k), self.steps, divide) for k in range(self.n)]

    def judge(self) -> str | None:
        return self.selection_metric
