"""Vectors of ControlNet: diffusers' `ControlNetModel` and SDXL pipelines with and without it, on small networks.

Command: python tests/reference/controlnet.py [--seed N] [--out DIR]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from networks import SCHEDULE, small_controlnet, small_unet, small_vae
from public_code import arguments, diffusers_source, generator, write

BATCH, TOKENS, WIDTH, POOLED, SIDE = 2, 3, 6, 2, 8
SCALES = (0.0, 0.5, 1.0)
STEPS, GUIDANCE = 4, 5.0


def made(name: str, seed: int) -> dict[str, torch.Tensor]:
    rng = generator(name, seed)
    shapes = {
        "latents": (BATCH, 4, SIDE, SIDE),
        "prompt_embeds": (BATCH, TOKENS, WIDTH),
        "negative_prompt_embeds": (BATCH, TOKENS, WIDTH),
        "pooled_prompt_embeds": (BATCH, POOLED),
        "negative_pooled_prompt_embeds": (BATCH, POOLED),
    }
    drawn = {key: torch.from_numpy(rng.standard_normal(shape)).float() for key, shape in shapes.items()}
    drawn["image"] = torch.from_numpy(rng.random((BATCH, 3, 8 * SIDE, 8 * SIDE)).round()).float()
    return drawn


def forward(name: str, seed: int) -> dict[str, Any]:
    """One forward pass of both networks at one timestep: residuals, and the UNet with each scale of them."""
    inputs, t = made(name, seed), 801
    unet, controlnet = small_unet(f"{name}/{seed}/unet"), small_controlnet(f"{name}/{seed}/controlnet")
    ids = torch.tensor([[8.0 * SIDE, 8.0 * SIDE, 0, 0, 8.0 * SIDE, 8.0 * SIDE]]).repeat(BATCH, 1)
    shared: dict[str, Any] = {
        "encoder_hidden_states": inputs["prompt_embeds"],
        "added_cond_kwargs": {"text_embeds": inputs["pooled_prompt_embeds"], "time_ids": ids},
        "return_dict": False,
    }
    rows: dict[str, Any] = {"timestep": t, "time_ids": ids, "scales": np.array(SCALES)}
    rows["plain"] = unet(inputs["latents"], t, **shared)[0]
    outputs = []
    for scale in SCALES:
        down, middle = controlnet(
            inputs["latents"], t, controlnet_cond=inputs["image"], conditioning_scale=scale, **shared
        )
        if scale == 1.0:
            rows |= {f"down_{i}": residual for i, residual in enumerate(down)} | {"mid": middle}
        outputs.append(
            unet(
                inputs["latents"],
                t,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
                **shared,
            )[0]
        )
    return {**inputs, **rows, "controlled": torch.stack(outputs), "weights_case": np.array(f"{name}/{seed}")}


def sampled(name: str, seed: int) -> dict[str, Any]:
    """Latents after each DDIM step of both pipelines; the ControlNet one with each scale, and over half the steps."""
    from diffusers import DDIMScheduler, StableDiffusionXLControlNetPipeline, StableDiffusionXLPipeline

    inputs = made(name, seed)
    image = inputs.pop("image")
    parts: dict[str, Any] = {
        "vae": small_vae(),
        "text_encoder": None,
        "text_encoder_2": None,
        "tokenizer": None,
        "tokenizer_2": None,
        "unet": small_unet(f"{name}/{seed}/unet"),
        "scheduler": DDIMScheduler.from_config(SCHEDULE),
        "add_watermarker": False,
    }
    plain = StableDiffusionXLPipeline(**parts)
    controlled = StableDiffusionXLControlNetPipeline(controlnet=small_controlnet(f"{name}/{seed}/controlnet"), **parts)
    rows: dict[str, Any] = {"plain": run(plain, inputs)}
    runs = [run(controlled, inputs, image=image, controlnet_conditioning_scale=scale) for scale in SCALES]
    half = run(controlled, inputs, image=image, controlnet_conditioning_scale=1.0, control_guidance_end=0.5)
    rows |= {"controlled": torch.stack(runs), "controlled_first_half": half, "scales": np.array(SCALES)}
    rows |= {"guidance": GUIDANCE, "timesteps": parts["scheduler"].timesteps, "image": image}
    return {**inputs, **rows, "weights_case": np.array(f"{name}/{seed}")}


def run(pipeline: Any, inputs: dict[str, torch.Tensor], **given: Any) -> torch.Tensor:
    """Latents (steps, B, 4, H, W) after each step."""
    after: list[torch.Tensor] = []

    def step_end(_pipeline: Any, i: int, t: Any, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        after.append(values["latents"].clone())
        return values

    pipeline.set_progress_bar_config(disable=True)
    pipeline(
        **inputs,
        height=8 * SIDE,
        width=8 * SIDE,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        output_type="latent",
        callback_on_step_end=step_end,
        **given,
    )
    assert len(after) == STEPS
    return torch.stack(after)


def main(argv: list[str] | None = None) -> None:
    given = arguments(__doc__, argv=argv)
    folder = "pipelines/controlnet/pipeline_controlnet_sd_xl.py"
    for name, function, code, what in (
        ("controlnet-forward", forward, "models/controlnets/controlnet.py", "ControlNetModel.forward, UNet forward"),
        ("controlnet-pipeline", sampled, folder, "StableDiffusionXLControlNetPipeline, StableDiffusionXLPipeline"),
    ):
        with torch.no_grad():
            arrays = function(name, given.seed)
        origin = {**diffusers_source(code), "function": what, "seed": given.seed}
        write(given.out, f"{name}-seed{given.seed}", origin, arrays)


if __name__ == "__main__":
    main()
