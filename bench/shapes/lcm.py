"""The few-step adapter: a LoRA of the cured denoiser by latent consistency distillation (Luo et al., 2311.05556).

With it the denoiser answers the same clean latent along the teacher's whole guided trajectory, so `LCMScheduler`
draws in four steps at guidance 1. A noisy latent of a training scene goes one guided DDIM step towards the scene by
the denoiser without the adapter; the adapter's answers at both ends must agree, and at timestep 0 the answer is the
latent itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.shapes import networks, teacher
from bench.shapes.tasks import embed, latent_chunks, mixed
from bench.shapes.training import train

if TYPE_CHECKING:
    import torch

RANK = 32
TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"),
)
SKIP = 50
"""Timesteps of one teacher step, as many as in the teacher's own 20 steps."""

HUBER = 1e-3


def boundary(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares (B, 1, 1, 1) of the noisy latent and of the predicted clean one in the answer at t; at 0 the former only.

    The constants are `LCMScheduler`'s: data of deviation 0.5, timesteps times ten.
    """
    scaled, data = 10.0 * t.float()[:, None, None, None], 0.5
    return data**2 / (scaled**2 + data**2), scaled / (scaled**2 + data**2).sqrt()


def add_lora(unet: Any) -> None:
    """A fresh adapter on all of a denoiser's layers of `TARGETS`, the only thing of it that is trained."""
    from peft import LoraConfig

    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGETS), init_lora_weights="gaussian"))


def train_lcm(
    work: Path,
    pipeline: Any,
    *,
    steps: int = 300,
    batch: int = 16,
    scenes: int = 30_000,
    say: Callable[[str], Any] = print,
    **loop: Any,
) -> tuple[Any, dict[str, float]]:
    """The denoiser with its trained adapter, and the totals."""
    import torch

    unet, vae = pipeline.unet, pipeline.vae.eval().to(memory_format=torch.channels_last)
    latents, captions = latent_chunks(work / "latents-mixed", vae, mixed, seed=7, chunks=scenes // 500, say=say)
    prompts = [c.prompt for c in captions]
    texts = list(dict.fromkeys(prompts))
    where = {p: i for i, p in enumerate(texts)}
    index = torch.tensor([where[p] for p in prompts])
    states, pooled = embed(texts, pipeline.text_encoder, pipeline.text_encoder_2)
    torch.manual_seed(6)
    add_lora(unet)
    scheduler = networks.scheduler()
    signal = scheduler.alphas_cumprod

    def clean(x: torch.Tensor, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        s = signal[t][:, None, None, None]
        return (x - (1 - s).sqrt() * noise) / s.sqrt()

    def answer(x: torch.Tensor, t: torch.Tensor, words: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        skip, out = boundary(t)
        return skip * x + out * clean(x, t, teacher.denoise(unet, x, t, *words))

    def loss(rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        rows = torch.from_numpy(rng.integers(0, len(latents), batch))
        words = states[index[rows]], pooled[index[rows]]
        t = torch.from_numpy(rng.integers(1, 1000, batch))
        s = (t - SKIP).clamp(min=0)
        x = scheduler.add_noise(latents[rows], torch.randn(batch, *networks.LATENT), t)
        with torch.no_grad():
            unet.disable_adapters()
            noise = teacher.guided(unet, x, t, *words, teacher.GUIDANCE)
            unet.enable_adapters()
            earlier = scheduler.add_noise(clean(x, t, noise), noise, s)
            target = answer(earlier, s, words)
        error = (answer(x, t, words) - target).square()
        return {"loss": ((error + HUBER**2).sqrt() - HUBER).mean(), "squared": error.mean()}

    modules = torch.nn.ModuleDict({"unet": unet})
    schedule: dict[str, Any] = {"lr": 1e-3, "warmup": 50, "ema": 0.99, "weight_decay": 0.0}
    return unet, train("lcm", modules, loss, out=work, steps=steps, say=say, **schedule, **loop)


def save_lora(folder: Path, unet: Any) -> None:
    """`pytorch_lora_weights.safetensors` in fp16, for `pipeline.load_lora_weights(folder)`."""
    import torch
    from diffusers import StableDiffusionXLPipeline
    from peft.utils import get_peft_model_state_dict

    # In peft's own names: diffusers' converter renames the attention's layers only, and a mixture does not load.
    layers = get_peft_model_state_dict(unet)
    folder.mkdir(parents=True, exist_ok=True)
    half = {k: v.to(torch.float16).contiguous() for k, v in layers.items()}
    StableDiffusionXLPipeline.save_lora_weights(folder, unet_lora_layers=half, safe_serialization=True)
