"""What the tests of attention losses share: random attention, and maps with squares put on them by hand."""

from __future__ import annotations

import torch

SIDE, TOKENS = 6, 7


def attention(seed: int = 0, *, images: int = 2, sharpness: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random cross- and self-attention, (B, 36, 7) and (B, 36, 36), in double precision."""
    generator = torch.Generator().manual_seed(seed)
    kind = {"generator": generator, "dtype": torch.float64}
    cross = (sharpness * torch.randn((images, SIDE**2, TOKENS), **kind)).softmax(-1)
    return cross, (sharpness * torch.randn((images, SIDE**2, SIDE**2), **kind)).softmax(-1)


def flat_map(value: float = 0.0, side: int = 8) -> torch.Tensor:
    return torch.full((side, side), value, dtype=torch.float64)


def block(row: int, column: int, value: float = 1.0, size: int = 3, side: int = 8) -> torch.Tensor:
    """A square of `value` on nothing."""
    image = flat_map(side=side)
    image[row : row + size, column : column + size] = value
    return image


def own_region(side: int = 8) -> torch.Tensor:
    """Self-attention in which every pixel sees itself alone, (1, h*w, h*w)."""
    return torch.eye(side**2, dtype=torch.float64)[None]
