"""The networks and the schedule that the reference vectors are computed with.

Two kinds: a closed form of a few stored numbers, for which nothing else is needed, and small diffusers networks of
SDXL's layout, whose weights follow from their names.
"""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}
"""SDXL's scheduler settings, as the hub's file has them."""

ALPHAS_CUMPROD = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
"""The same schedule in float64. diffusers holds it in float32, so results agree to about 1e-5."""


def closed_form(x: Any, t: float, prompt: Any, *, mix: Any, token: Any, clock: Any) -> Any:
    """e(x, t, prompt) = tanh(mix x + roll(x) / 4 + token mean(prompt) + clock cos(t / 200)), like x.

    x is (B, C, H, W) and prompt (B, T, D); `mix` (C, C) acts on channels, `roll` moves a column to the right, `token`
    is (C, D) and `clock` (C,). NumPy arrays or torch tensors.
    """
    if isinstance(x, torch.Tensor):
        like = {"dtype": x.dtype, "device": x.device}
        mix, token, clock = (torch.as_tensor(np.asarray(part), **like) for part in (mix, token, clock))
        prompt = prompt.to(**like)
        bias = prompt.mean(1) @ token.T + clock * float(np.cos(float(t) / 200))
        mixed = torch.einsum("dc,bchw->bdhw", mix, x)
        return torch.tanh(mixed + torch.roll(x, 1, -1) / 4 + bias[:, :, None, None])
    bias = prompt.mean(1) @ token.T + clock * np.cos(float(t) / 200)
    mixed = np.einsum("dc,bchw->bdhw", mix, x)
    return np.tanh(mixed + np.roll(x, 1, -1) / 4 + bias[:, :, None, None])


def closed_form_numbers(rng: np.random.Generator, *, channels: int = 4, width: int = 6) -> dict[str, np.ndarray]:
    """The stored part of a closed form: a prediction that mostly follows x, as a trained one does at high noise."""
    return {
        "mix": 0.6 * np.eye(channels) + 0.2 * rng.standard_normal((channels, channels)),
        "token": 0.5 * rng.standard_normal((channels, width)),
        "clock": 0.3 * rng.standard_normal(channels),
    }


class ClosedForm(torch.nn.Module):
    """A closed form where SDXL's pipeline expects its UNet: unconditional half first, as the pipeline stacks them."""

    dtype = torch.float64
    device = torch.device("cpu")

    def __init__(self, numbers: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.numbers = numbers
        channels, pooled = len(numbers["clock"]), 2
        self.config = SimpleNamespace(
            in_channels=channels, sample_size=8, addition_time_embed_dim=1, time_cond_proj_dim=None
        )
        self.add_embedding = SimpleNamespace(linear_1=SimpleNamespace(in_features=6 + pooled))

    def forward(self, sample: torch.Tensor, timestep: Any, encoder_hidden_states: torch.Tensor, **_: Any) -> Any:
        return (closed_form(sample, float(timestep), encoder_hidden_states, **self.numbers),)


def fill(network: torch.nn.Module, case: str) -> None:
    """Give every floating-point entry of the state dict the numbers that follow from `case` and its name.

    The generator of an entry is `torch.Generator().manual_seed(zlib.crc32(f"{case}/{name}".encode()))`, and
    `draw = torch.randn(shape, generator=...)` in float32. With n the number of inputs of an output (the product of all
    dimensions but the first), entries of two or more dimensions are draw / sqrt(n); one-dimensional ones are
    1 + draw / 10 where the name ends in `weight` and draw / 10 elsewhere.
    """
    state = network.state_dict()
    for name, entry in state.items():
        if not entry.dtype.is_floating_point:
            continue
        seeded = torch.Generator().manual_seed(zlib.crc32(f"{case}/{name}".encode()))
        draw = torch.randn(entry.shape, generator=seeded)
        flat = entry.ndim == 1
        entry.copy_(draw / 10 + float(name.endswith("weight")) if flat else draw / entry[0].numel() ** 0.5)
    network.load_state_dict(state)


UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": [2, 4],
    "transformer_layers_per_block": [1, 1],
    "cross_attention_dim": 6,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 2,
    "projection_class_embeddings_input_dim": 6 * 2 + 2,
}
"""A UNet2DConditionModel of SDXL's layout: 8 x 8 latents, prompt embeddings of width 6, pooled ones of width 2."""


def small_unet(case: str) -> Any:
    """The network of UNET, filled under `case`, in float32 and eval mode."""
    from diffusers import UNet2DConditionModel

    network = UNet2DConditionModel(**UNET)
    fill(network, case)
    return network.eval().requires_grad_(False)


def small_controlnet(case: str) -> Any:
    """A ControlNetModel that fits UNET, all of its entries filled under `case`: its last convolutions are not zero."""
    from diffusers import ControlNetModel

    shared = {k: v for k, v in UNET.items() if k not in ("sample_size", "out_channels", "up_block_types")}
    network = ControlNetModel(**shared, conditioning_embedding_out_channels=(4, 4, 8, 8))
    fill(network, case)
    return network.eval().requires_grad_(False)


def small_vae() -> Any:
    """A VAE of SDXL's factor 8; no vector depends on what it does."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()
