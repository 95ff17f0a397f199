"""The initial latent of a (prompt, seed) pair, and its digest.

Noise is drawn on the CPU in fp32 from a generator of its own, so neither the batch an image is made in nor the
device changes it (PROTOCOL: CPU/GPU and fp16/fp32 draws of torch differ).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream(prompt: str, seed: int, purpose: str = "latent") -> int:
    """A 63-bit generator seed for one purpose ("latent", "sampler", ...) of a (prompt, seed) pair."""
    key = f"{purpose}\0{seed}\0{prompt}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1


def generator(prompt: str, seed: int, purpose: str = "latent") -> torch.Generator:
    """A CPU generator in that stream."""
    import torch

    return torch.Generator().manual_seed(stream(prompt, seed, purpose))


def draw(prompt: str, seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Unit-variance fp32 latent of `shape` (C, h, w); the sampler's `init_noise_sigma` is applied later."""
    import torch

    return torch.randn(shape, generator=generator(prompt, seed), dtype=torch.float32)


def draw_batch(prompts: Sequence[str], seeds: Sequence[int], shape: tuple[int, ...]) -> torch.Tensor:
    """`draw` of every (prompt, seed), stacked: (B, C, h, w) on the CPU."""
    import torch

    return torch.stack([draw(prompt, seed, shape) for prompt, seed in zip(prompts, seeds, strict=True)])


def digest(latent: torch.Tensor) -> str:
    """First 16 hex digits of the sha256 of a latent's fp32 bytes."""
    return hashlib.sha256(latent.detach().cpu().float().contiguous().numpy().tobytes()).hexdigest()[:16]
