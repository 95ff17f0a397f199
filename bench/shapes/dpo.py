"""The preference-tuned denoiser: Diffusion-DPO (Wallace et al. 2023, 2311.12908) on the stylist's votes.

Pairs are two drawings of one caption by the cured denoiser. Neither a reward model nor any reported metric is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.shapes import networks, stylist, teacher
from bench.shapes.training import train

if TYPE_CHECKING:
    import torch

BETA = 2_000.0
"""The paper's beta times T and its weights: how dear it is to leave the reference, in errors averaged over a latent."""


def dpo_loss(
    won: torch.Tensor, lost: torch.Tensor, won_before: torch.Tensor, lost_before: torch.Tensor, *, beta: float = BETA
) -> torch.Tensor:
    """Loss of each pair (B,) from squared errors of the predicted noise, tuned and before, on the winner and the loser.

    It falls as the tuned denoiser gets better on the winner than the reference is, and worse on the loser.
    """
    from torch.nn import functional as F

    return -F.logsigmoid(-beta * ((won - won_before) - (lost - lost_before)))


def winners(vae: Any, drawings: teacher.Drawings, *, seed: int = 61) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the winning and the losing drawing of each caption, by one vote each."""
    images = teacher.pixels(vae, drawings.states[:, -1])
    first = stylist.votes(images[0::2], images[1::2], np.random.default_rng(seed))
    pairs = 2 * np.arange(len(first))
    return pairs + ~first, pairs + first


def train_dpo(
    work: Path,
    pipeline: Any,
    drawings: teacher.Drawings,
    *,
    steps: int = 800,
    batch: int = 32,
    say: Callable[[str], Any] = print,
    **loop: Any,
) -> tuple[Any, dict[str, float]]:
    """The tuned denoiser, started from the reference, and the totals; one caption in ten is dropped for both."""
    import torch

    unet = pipeline.unet.requires_grad_(True)
    reference = deepcopy(unet).requires_grad_(False).eval()
    scheduler = networks.scheduler()
    won, lost = (torch.from_numpy(rows) for rows in winners(pipeline.vae, drawings))
    ends = drawings.states[:, -1]

    def loss(rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        some = torch.from_numpy(rng.integers(0, len(won), batch))
        keep = torch.from_numpy(rng.random(batch) >= 0.1).float().repeat(2)
        noise = torch.randn(batch, *networks.LATENT).repeat(2, 1, 1, 1)
        t = torch.randint(0, 1000, (batch,)).repeat(2)
        rows = torch.cat([won[some], lost[some]])
        embeds, pooled = drawings.words(rows)
        given = (
            scheduler.add_noise(ends[rows], noise, t),
            t,
            embeds * keep[:, None, None],
            pooled * keep[:, None],
        )
        tuned = (teacher.denoise(unet, *given) - noise).square().mean((1, 2, 3)).chunk(2)
        with torch.no_grad():
            before = (teacher.denoise(reference, *given) - noise).square().mean((1, 2, 3)).chunk(2)
        each = dpo_loss(*tuned, *before)
        right = ((tuned[0] - before[0]) < (tuned[1] - before[1])).float().mean()
        return {"loss": each.mean(), "right": right, "error_won": tuned[0].mean(), "error_won_before": before[0].mean()}

    modules = torch.nn.ModuleDict({"unet": unet})
    schedule: dict[str, Any] = {"lr": 1e-4, "warmup": 50, "ema": 0.99, "weight_decay": 0.0}
    return unet, train("dpo", modules, loss, out=work, steps=steps, say=say, **schedule, **loop)
