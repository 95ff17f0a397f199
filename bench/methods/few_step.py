"""What few-step models share: weights, sampler, steps, guidance and scheduler settings belong together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field

from bench.errors import UserError
from bench.methods.weighted import AUTO, Weighted
from bench.sampling.records import Sampling

if TYPE_CHECKING:
    from bench.models.base import ModelEntry


class FewStep(Weighted):
    """Samples with weights of its own in few steps, from the baseline's prompt, seed and latent."""

    default_sampler: ClassVar[str]
    settings: ClassVar[dict[str, Any]] = {}
    """Of the scheduler, on top of the sampler's."""
    works_in: ClassVar[tuple[int, ...]]
    """Step counts of such weights where no row of `bench.weights` says them."""
    why: ClassVar[str]
    """Why no other step counts."""

    steps: int = Field(default=4, ge=1, le=1000)
    """Steps, in the place of the suite's."""
    guidance: float = Field(default=1.0, ge=0, le=100)
    """Guidance, in the place of the suite's; at 1 or below there is none. The paper's few-step table has 5.5."""

    def for_model(self, entry: ModelEntry) -> Self:
        """UserError, besides, for a step count that the weights do not have."""
        made = super().for_model(entry)
        allowed = (made._row.steps if made._row else None) or self.works_in
        if self.steps not in allowed:
            self.refuse_steps(allowed)
        return made

    def refuse_steps(self, allowed: tuple[int, ...]) -> None:
        few = f"{allowed[0]} to {allowed[-1]}" if _is_range(allowed) else ", ".join(map(str, allowed))
        raise UserError(
            f"{self.row_name}: {self.steps} steps: its weights work in {few} ({self.why}); give one of these"
        )

    def sampling(self, p: Sampling) -> Sampling:
        row = self._row
        name = (row.sampler if row else None) or self.default_sampler
        sampled = replace(p, sampler=name, steps=self.steps, guidance=self.guidance, timesteps=None)
        return sampled.with_settings(**{**self.settings, **(row.settings if row else {})})

    def identity(self) -> dict[str, Any]:
        """Without steps and guidance, which are the job's own."""
        return {k: v for k, v in super().identity().items() if k not in ("steps", "guidance")}


def _is_range(steps: tuple[int, ...]) -> bool:
    return len(steps) > 2 and steps == tuple(range(steps[0], steps[-1] + 1))


__all__ = ["AUTO", "FewStep"]
