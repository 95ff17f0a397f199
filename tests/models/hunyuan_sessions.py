"""A small Hunyuan-DiT and sessions on it: by the harness's loop, by hand, and by diffusers' own pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny_dit
import torch

from bench.models.base import Embeddings, Family
from bench.prompts.base import Prompt
from bench.sampling import noise
from bench.sampling.records import Item, Sampling
from bench.sampling.schedule import move
from bench.sampling.session import Session

PROMPTS = ("a red circle", "two blue stars above a ring")
STEPS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dit.save(tmp_path_factory.mktemp("dit") / "hunyuan-dit")


@pytest.fixture(scope="module")
def model(folder: Path) -> Family:
    return loaded(folder)


@pytest.fixture(scope="module", params=["1.2", "1.1"])
def version(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of both kinds: the newer models do not read style and image sizes."""
    return folder if request.param == "1.2" else tiny_dit.save(tmp_path_factory.mktemp("older"), sizes=True)


def latents(prompts: Sequence[str] = PROMPTS) -> torch.Tensor:
    return noise.draw_batch(list(prompts), list(range(len(prompts))), (4, 8, 8))


def embedded(model: Family, prompts: Sequence[str] = PROMPTS, negative: str = "") -> tuple[Embeddings, Embeddings]:
    cond = model.encode(prompts)
    return cond, {k: v.expand_as(cond[k]) for k, v in model.encode_negative(negative).items()}


def session_of(
    model: Family,
    prompts: Sequence[str] = PROMPTS,
    *,
    guidance: float = 5.0,
    sampler: str = "ddim",
    negative: str = "",
    steps: int = STEPS,
    **more: Any,
) -> Session:
    cond, uncond = embedded(model, prompts, negative)
    items = [Item(Prompt(0, p), 0) for p in prompts]
    p = Sampling(sampler, steps, guidance, model.entry.size, model.dtype)
    return Session(model, items, p, **{"cond": cond, "uncond": uncond, **more})


def sampled(model: Family, prompts: Sequence[str] = PROMPTS, **given: Any) -> torch.Tensor:
    with torch.no_grad():
        return session_of(model, prompts, **given).sample(latents(prompts))


def stepped(session: Session, x: torch.Tensor) -> torch.Tensor:
    """DDIM by hand from the session's noise predictions; the last step ends at timestep 0."""
    schedule = session.schedule
    for t, to in pairwise([*session.timesteps, 0]):
        of_x, of_e = move(schedule.alpha(t), schedule.sigma(t), schedule.alpha(to), schedule.sigma(to))
        x = of_x * x + of_e * session.predict(x, t).eps
    return x


@cache
def loaded(folder: Path) -> Family:
    return tiny_dit.entry(folder).load("cpu")


@cache
def pipeline(folder: Path) -> Any:
    """diffusers' own, nothing of ours around it."""
    from diffusers import DDIMScheduler, HunyuanDiTPipeline

    pipe = HunyuanDiTPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    return pipe


def plain(folder: Path, *, guidance: float, negative: str | None) -> torch.Tensor:
    """Images (B, 3, H, W) of diffusers' own pipeline."""
    found: torch.Tensor = pipeline(folder)(
        list(PROMPTS),
        negative_prompt=None if negative is None else [negative] * len(PROMPTS),
        latents=latents(),
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        height=64,
        width=64,
        use_resolution_binning=False,
        output_type="pt",
    ).images
    return found
