"""What a noise method is: a frozen record of its parameters with hooks, all optional.

A method's fields are its parameters in a suite file; they and `version` enter the job id, so raising `version`
makes every image of the method anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch

    from bench.models.base import Denoiser, ModelEntry


@dataclass(frozen=True)
class Candidate:
    """One image that a choosing method wants made: the job's own with another seed and step count.

    `steps` is a step count, else the job's own divided by `divide` and rounded down, at least one.
    """

    seed: int
    steps: int | None = None
    divide: int = 1

    def steps_of(self, steps: int) -> int:
        """The candidate's step count where the job has `steps`."""
        return self.steps or max(1, steps // self.divide)


@dataclass
class Batch:
    """What the noise hook sees of the images in the making.

    `latents` (B, C, h, w), unit variance, fp32, on the denoiser's device; `prompts` and `seeds` of length B.
    """

    latents: torch.Tensor
    prompts: Sequence[str]
    seeds: Sequence[int]


class Method(BaseModel):
    """A noise method; subclasses override the hooks they need and register with `@register("methods", name)`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[str] = "1"
    about: ClassVar[str] = ""
    """One line for `python -m bench ls`, with the source."""

    def for_model(self, entry: ModelEntry) -> Method:
        """The method as it works with one model, such as with that model's weights; a plan asks before all else."""
        return self

    def noise(self, batch: Batch, denoiser: Denoiser) -> torch.Tensor:
        """The initial latents to sample from, (B, C, h, w), unit variance."""
        return batch.latents

    def noise_calls(self, steps: int) -> int:
        """Denoiser calls that `noise` adds to each image; guidance doubles the batch, not the calls."""
        return 0

    def seed(self, seed: int) -> int:
        """The seed from which the image's initial latent is drawn."""
        return seed

    def candidates(self, seed: int) -> list[Candidate]:
        """Images to make and choose from; empty for a method that makes its own image."""
        return []

    def judge(self) -> str | None:
        """Name of the metric that picks among the candidates."""
        return None

    def optimises(self) -> tuple[str, ...]:
        """Metrics that must not be taken as evidence for this method, because it optimises them."""
        judge = self.judge()
        return (judge,) if judge else ()

    def identity(self) -> dict[str, Any]:
        """What enters the job id: every parameter and the version."""
        return {**self.model_dump(mode="json"), "version": self.version}


class Chain(Method):
    """Methods one after the other: latents pass through all of them, seeds through all of them."""

    links: tuple[Method, ...]

    def noise(self, batch: Batch, denoiser: Denoiser) -> torch.Tensor:
        latents = batch.latents
        for link in self.links:
            latents = link.noise(Batch(latents, batch.prompts, batch.seeds), denoiser)
        return latents

    def noise_calls(self, steps: int) -> int:
        return sum(link.noise_calls(steps) for link in self.links)

    def seed(self, seed: int) -> int:
        for link in self.links:
            seed = link.seed(seed)
        return seed

    def optimises(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(m for link in self.links for m in link.optimises()))


def split_choice(links: tuple[Method, ...]) -> tuple[tuple[Method, ...], Method | None]:
    """The links that make an image, and the one that chooses among images, if any.

    Raises ValueError for two choosers: which of them sees which candidates would be anybody's guess.
    """
    choosing = [m for m in links if m.judge()]
    if len(choosing) > 1:
        raise ValueError("a chain holds one choosing method (such as best_of_n) at the most")
    return tuple(m for m in links if not m.judge()), (choosing[0] if choosing else None)
