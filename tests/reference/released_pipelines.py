"""SDXL pipelines that repositories ship as a changed copy of diffusers', run on small networks and recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch
from networks import SCHEDULE, ClosedForm, closed_form_numbers, small_unet, small_vae
from public_code import generator

CHECKOUT = "a checkout of the repository that the file's first lines name"
BATCH, TOKENS, WIDTH, POOLED = 2, 3, 6, 2


@dataclass
class Recorder:
    """What a pipeline asked its scheduler: one row a call."""

    outputs: list[Any] = field(default_factory=list)
    samples: list[Any] = field(default_factory=list)
    timesteps: list[int] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    def watch(self, scheduler: Any, *, later: int = 0) -> None:
        """Record every `step` of the scheduler; `later` is added to the timestep that it is given."""
        step = scheduler.step

        def recorded(output: Any, timestep: Any, sample: Any, **given: Any) -> Any:
            result = step(output, timestep + later, sample, **given)
            self.outputs.append(output.clone())
            self.samples.append(sample.clone())
            self.timesteps.append(int(timestep) + later)
            self.results.append(result[0].clone())
            return result

        scheduler.step = recorded

    def stacked(self, prefix: str) -> dict[str, Any]:
        return {
            f"{prefix}_outputs": torch.stack(self.outputs),
            f"{prefix}_samples": torch.stack(self.samples),
            f"{prefix}_timesteps": np.array(self.timesteps),
            f"{prefix}_results": torch.stack(self.results),
        }


@dataclass
class Case:
    """A network, its inputs and what is stored of them."""

    unet: Any
    side: int
    """Latents are side x side."""
    inputs: dict[str, torch.Tensor]
    stored: dict[str, Any]

    def arguments(self) -> dict[str, Any]:
        """What every released pipeline function is called with."""
        return {**self.inputs, "height": 8 * self.side, "width": 8 * self.side, "output_type": "latent"}


def case(name: str, seed: int, *, network: str) -> Case:
    """Inputs and network that follow from the name and the seed; `network` is "closed" or "unet"."""
    rng = generator(name, seed)
    kind, side = (torch.float64, 4) if network == "closed" else (torch.float32, 8)
    draws = {
        "latents": (BATCH, 4, side, side),
        "prompt_embeds": (BATCH, TOKENS, WIDTH),
        "negative_prompt_embeds": (BATCH, TOKENS, WIDTH),
        "pooled_prompt_embeds": (BATCH, POOLED),
        "negative_pooled_prompt_embeds": (BATCH, POOLED),
    }
    inputs = {key: torch.from_numpy(rng.standard_normal(shape)).to(kind) for key, shape in draws.items()}
    if network == "closed":
        numbers = closed_form_numbers(rng, width=WIDTH)
        used = {key: value for key, value in inputs.items() if "pooled" not in key}
        return Case(ClosedForm(numbers), side, inputs, {**used, **numbers})
    return Case(small_unet(f"{name}/{seed}"), side, inputs, {**inputs, "weights_case": np.array(f"{name}/{seed}")})


def pipeline(module: ModuleType, unet: Any) -> tuple[Any, Recorder, Recorder]:
    """The module's pipeline with DDIM, set up as the repository's own script does, and records of both schedulers."""
    from diffusers import DDIMInverseScheduler, DDIMScheduler

    made = module.StableDiffusionXLPipeline(
        vae=small_vae(),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=DDIMScheduler.from_config(SCHEDULE),
        add_watermarker=False,
    )
    made.inv_scheduler = DDIMInverseScheduler.from_config(SCHEDULE)
    made.set_progress_bar_config(disable=True)
    down, up = Recorder(), Recorder()
    down.watch(made.scheduler)
    return made, down, up


def stride(steps: int) -> int:
    return SCHEDULE["num_train_timesteps"] // steps
