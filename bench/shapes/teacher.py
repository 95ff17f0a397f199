"""What the cured denoiser draws with guidance, kept: the lesson of the few-step student and of the voters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.shapes import networks
from bench.shapes.captions import Caption, sample
from bench.shapes.tasks import UNET_MIX, embed

if TYPE_CHECKING:
    import torch
    from diffusers import DDIMScheduler

STEPS, JUMPS = 20, 4
GUIDANCE = 5.0
CHUNKS, CAPTIONS, DRAWINGS = 40, 100, 2
"""Chunks of captions, captions of a chunk, and drawings of each caption from different noise."""


def scheduler() -> DDIMScheduler:
    """The teacher's and the student's: "trailing" spacing begins at the last timestep, and 4 of its steps end exactly
    where 20 do."""
    from diffusers import DDIMScheduler

    spaced: DDIMScheduler = DDIMScheduler.from_config(networks.scheduler().config, timestep_spacing="trailing")
    return spaced


@dataclass
class Drawings:
    """Trajectories of the teacher: states (N, 5, 4, 8, 8) before each jump and at the end; N = 2 for each caption."""

    captions: list[Caption]
    states: torch.Tensor
    embeds: torch.Tensor
    pooled: torch.Tensor
    """Prompt embeddings of each caption, (N/2, 24, 128) and (N/2, 64)."""

    def words(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The embeddings of some trajectories' captions."""
        return self.embeds[rows // DRAWINGS], self.pooled[rows // DRAWINGS]


def denoise(unet: Any, x: torch.Tensor, t: torch.Tensor, embeds: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
    """The noise that a denoiser predicts for latents (B, 4, 8, 8)."""
    import torch

    sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(len(x), -1)
    added = {"text_embeds": pooled, "time_ids": sizes}
    predicted: torch.Tensor = unet(x, t, encoder_hidden_states=embeds, added_cond_kwargs=added).sample
    return predicted


def guided(
    unet: Any, x: torch.Tensor, t: torch.Tensor, embeds: torch.Tensor, pooled: torch.Tensor, guidance: float
) -> torch.Tensor:
    """The guided prediction u + g (c - u), as the pipeline makes it: nothing said is zeros."""
    import torch

    zeros = torch.zeros_like(embeds), torch.zeros_like(pooled)
    both = denoise(
        unet, torch.cat([x, x]), torch.cat([t, t]), torch.cat([zeros[0], embeds]), torch.cat([zeros[1], pooled])
    )
    u, c = both.chunk(2)
    return u + guidance * (c - u)


def draw(unet: Any, noise: torch.Tensor, embeds: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
    """A trajectory from noise (B, 4, 8, 8): the states (B, 5, 4, 8, 8) before each jump and at the end."""
    import torch

    steps = scheduler()
    steps.set_timesteps(STEPS)
    x, kept = noise, [noise]
    with torch.no_grad():
        for k, t in enumerate(steps.timesteps):
            predicted = guided(unet, x, t.expand(len(x)), embeds, pooled, GUIDANCE)
            x = steps.step(predicted, t, x).prev_sample
            if (k + 1) % (STEPS // JUMPS) == 0:
                kept.append(x)
    return torch.stack(kept, 1)


def captions_of(rng: np.random.Generator, n: int) -> list[Caption]:
    return [sample(rng, "train", str(t)) for t in rng.choice(list(UNET_MIX), n, p=list(UNET_MIX.values()))]


def drawings(
    folder: Path, pipeline: Any, *, chunks: int = CHUNKS, captions: int = CAPTIONS, say: Callable[[str], Any] = print
) -> Drawings:
    """Two drawings of each of `chunks * captions` training captions, made in chunks that are kept: a killed run goes
    on with the same ones."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    states, described, words = [], [], []
    for k in range(chunks):
        some = captions_of(np.random.default_rng([51, k]), captions)
        embeds, pooled = embed([c.prompt for c in some], pipeline.text_encoder, pipeline.text_encoder_2)
        path = folder / f"{k:04d}.pt"
        if not path.exists():
            generator = torch.Generator().manual_seed(51_000 + k)
            noise = torch.randn(DRAWINGS * captions, *networks.LATENT, generator=generator)
            twice = (e.repeat_interleave(DRAWINGS, 0) for e in (embeds, pooled))
            torch.save(draw(pipeline.unet.eval(), noise, *twice), path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
            say(f"{folder.name}: {k + 1}/{chunks} chunks of {DRAWINGS * captions} drawings")
        states.append(torch.load(path, weights_only=True))
        described += some
        words.append((embeds, pooled))
    return Drawings(described, torch.cat(states), *(torch.cat([w[i] for w in words]) for i in (0, 1)))


def pixels(vae: Any, latents: torch.Tensor) -> np.ndarray:
    """Scaled latents (N, 4, 8, 8) to images (N, 64, 64, 3) uint8."""
    import torch

    from bench.shapes.tasks import to_images

    with torch.no_grad():
        return np.concatenate([to_images(vae.decode(z / vae.config.scaling_factor).sample) for z in latents.split(100)])
