"""SDXL-Lightning: progressively and adversarially distilled networks, one for each step count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import UserError
from bench.methods.few_step import FewStep
from bench.registry import register
from bench.weights.base import NamedWeights, rows_for

if TYPE_CHECKING:
    from bench.models.base import ModelEntry


@register("methods", "lightning")
class Lightning(FewStep):
    """Euler steps of trailing spacing without guidance, by the network that was distilled for this step count.

    `guidance: 5.5` is the paper's few-step table. The published one-step network predicts the image itself, and only
    networks of noise or velocity are sampled here.
    """

    about: ClassVar[str] = "SDXL-Lightning, four Euler steps of trailing spacing without guidance"
    source: ClassVar[str] = "2402.13929; ByteDance/SDXL-Lightning; PROTOCOL 1.7"
    cost: ClassVar[str] = "4 unguided calls in all; memory of a second denoiser"
    row_name: ClassVar[str] = "lightning"
    default_sampler: ClassVar[str] = "euler"
    settings: ClassVar[dict[str, Any]] = {"timestep_spacing": "trailing"}
    works_in: ClassVar[tuple[int, ...]] = (2, 4, 8)
    why: ClassVar[str] = "a network for each; the one-step one predicts the image, not noise, and is not sampled here"

    def row(self, entry: ModelEntry) -> NamedWeights | None:
        """The row of this step count."""
        if self.weights != "auto":
            return None
        found = rows_for(self.row_name, entry)
        for row in found:
            if row.steps is None or self.steps in row.steps:
                return row
        self.refuse_steps(tuple(sorted({n for row in found for n in row.steps or ()})))
        raise UserError(f"{self.row_name}: no network for {self.steps} steps")
