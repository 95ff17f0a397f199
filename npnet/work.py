"""What a teacher is told: one batch of pairs in the making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench import noise, registry

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.metrics.base import Scorer
    from bench.models.base import Denoiser, Embeddings, Model
    from bench.prompts.base import Prompt


@dataclass
class Work:
    """One batch of B pairs in the making."""

    model: Model
    sampler: Any
    scheduler_config: Any
    """As the model was loaded; sampling replaces the pipeline's scheduler."""
    steps: int
    guidance: float
    prompts: Sequence[Prompt]
    seeds: Sequence[int]
    cond: Embeddings
    uncond: Embeddings
    source: torch.Tensor
    """(B, C, h, w), fp32, on the model's device."""
    scorers: Mapping[str, Scorer]
    backward_calls: float = 0.0
    """What teaching took beside the calls that the network itself counts: gradients, in calls of an image."""

    def draw(self, seeds: Sequence[int]) -> torch.Tensor:
        """Latents (B, C, h, w) of the prompts with other seeds."""
        drawn = noise.draw_batch([p.text for p in self.prompts], seeds, self.model.entry.latent)
        return drawn.to(self.source.device)

    def denoiser(self, steps: int) -> Denoiser:
        """A fresh denoiser at the collection's sampler and guidance."""
        scheduler = self.sampler.build(self.scheduler_config)
        return self.model.denoiser(scheduler, steps, self.guidance, self.cond, self.uncond)

    def images(self, latents: torch.Tensor, seeds: Sequence[int], steps: int) -> np.ndarray:
        """(B, H, W, 3) uint8 images sampled from `latents`; `seeds` draw a stochastic sampler's noise."""
        final = self.model.sample(
            latents,
            self.sampler.build(self.scheduler_config),
            steps=steps,
            guidance=self.guidance,
            cond=self.cond,
            uncond=self.uncond,
            generators=[noise.generator(p.text, s, "sampler") for p, s in zip(self.prompts, seeds, strict=True)],
        )
        return self.model.decode(final)

    def score(self, metric: str, images: np.ndarray) -> np.ndarray:
        """(B,) values of a metric."""
        import numpy as np

        return np.array([v.value for v in self.scorers[metric].score(list(images), self.prompts)])

    def goodness(self, metric: str, images: np.ndarray) -> np.ndarray:
        """(B,) values of a metric, turned so that more is better."""
        return self.score(metric, images) * (1 if registry.get("metrics", metric).higher_is_better else -1)
