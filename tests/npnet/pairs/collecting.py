"""Small collections by the embedded model, and the same pairs by a plain diffusers pipeline, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.metrics.base import Value
from bench.prompts.base import Prompt
from npnet import config as configs
from npnet.pairs import dataset
from npnet.pairs.collection import CollectConfig

PROMPTS = ("a red circle", "two squares", "a blue star above a ring", "a pink square and an orange star", "a ring")
STEPS, GUIDANCE, PAIRS = 2, 5.0, 6
CONFIGS = Path(configs.__file__).parent / "configs"


def quiet(_: str) -> None:
    pass


def settings_of(prompts: Path | str, **change: Any) -> CollectConfig:
    """Six pairs in three shards, scored by one metric, with their images."""
    given = {
        "model": "shapes-sdxl",
        "prompts": str(prompts),
        "pairs": PAIRS,
        "seeds": [0, 9],
        "steps": STEPS,
        "guidance": GUIDANCE,
        "metrics": ["shapes-clipscore"],
        "keep_images": True,
        "chunk": 2,
    }
    return CollectConfig.model_validate({**given, **change})


def together(folder: Path) -> dataset.Shard:
    """All pairs of a collection as one shard."""
    parts = list(dataset.read(folder)[1])
    return replace(
        parts[0],
        index=np.concatenate([p.index for p in parts]),
        seed=np.concatenate([p.seed for p in parts]),
        prompts=tuple(t for p in parts for t in p.prompts),
        source=np.concatenate([p.source for p in parts]),
        target=np.concatenate([p.target for p in parts]),
        scores={m: np.concatenate([p.scores[m] for p in parts]) for m in parts[0].scores},
    )


def picture(folder: Path, k: int, side: str) -> np.ndarray:
    """A pair's kept image (H, W, 3), uint8."""
    with Image.open(dataset.image_path(folder, k, side)) as opened:
        return np.asarray(opened.convert("RGB"))


def images(folder: Path) -> dict[str, bytes]:
    """The kept images' files by name."""
    return {p.name: p.read_bytes() for p in sorted((folder / "images").iterdir())}


def shards(folder: Path) -> dict[str, bytes]:
    """The shards' files by name."""
    return {p.name: p.read_bytes() for p in dataset.shards(folder)}


def sampled(pipe: Any, prompt: str, latents: torch.Tensor, steps: int = STEPS) -> np.ndarray:
    """The plain pipeline's image of one latent (C, h, w)."""
    image = pipe(prompt, latents=latents[None], num_inference_steps=steps, guidance_scale=GUIDANCE).images[0]
    return np.asarray(image)


def redenoised(pipe: Any, prompt: str, x: torch.Tensor) -> torch.Tensor:
    """Eq. 2 and 3 by hand: x' = x + B (e1 - e2) with A = 1, C = -B where both moves are between t0 and t1."""
    cond, _, pooled, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
    pipe.scheduler.set_timesteps(STEPS)
    t0, t1 = pipe.scheduler.timesteps[:2].tolist()
    ids = torch.tensor([[64, 64, 0, 0, 64, 64]], dtype=cond.dtype)

    def epsilon(y: torch.Tensor, embeds: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        extra = {"text_embeds": text, "time_ids": ids}
        return pipe.unet(y, t0, encoder_hidden_states=embeds, added_cond_kwargs=extra, return_dict=False)[0]

    abar = pipe.scheduler.alphas_cumprod
    a0, s0, a1, s1 = (float(v) for t in (t0, t1) for v in (abar[t] ** 0.5, (1 - abar[t]) ** 0.5))
    with torch.inference_mode():
        x = x[None]
        u, c = epsilon(x, torch.zeros_like(cond), torch.zeros_like(pooled)), epsilon(x, cond, pooled)
        e1 = u + GUIDANCE * (c - u)
        lower = a1 * (x - s0 * e1) / a0 + s1 * e1
        e2 = epsilon(lower, cond, pooled)
        return (a0 * (lower - s1 * e2) / a1 + s0 * e2)[0]


class Darkness:
    """A scorer that anybody can work out: the mean grey level, turned round."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        return [Value(-float(i.mean())) for i in images]
