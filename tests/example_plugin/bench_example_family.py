"""An adapter in a package of its own: diffusers' pipeline of latent consistency models (2310.04378).

Named after the pipeline's class in an entry point of the group `bench.families`, it serves every model of that class
that a suite names by its place: `models: [./folder]` or `models: [owner/name@COMMIT]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.base import Embeddings
from bench.models.sd import StableDiffusion

if TYPE_CHECKING:
    import torch

SCALE = 8.5
"""The guidance that the network is given, as the pipeline's default is; a suite samples it at guidance 1."""


class LatentConsistency(StableDiffusion):
    """Stable Diffusion 1.x whose UNet reads the guidance, in one call where others take two."""

    pipeline_class = "LatentConsistencyModelPipeline"

    def network(self, x: torch.Tensor, t: Any, embeds: Embeddings) -> torch.Tensor:
        return self.call(x, t, embeds, timestep_cond=self.timestep_cond(len(x), SCALE))
