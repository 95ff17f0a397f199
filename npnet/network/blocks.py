"""The parts of NPNet: modulation by the prompt, the singular-value branch, and networks for the residual branch.

`Published*` are the released inference code (commit aa7103e) with its accidents and its parameter names; the others
are the same parts without them. `model.py` puts them together. Everything here computes in the dtype it is given.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import UserError

Factors = tuple[Tensor, Tensor, Tensor]
"""U (B, m, k), singular values (B, k) falling, and Vh (B, k, n) of a latent's matrix."""

SWIN_SIZE, SWIN_WIDTH, SWIN_GRID = 224, 768, 7
"""Height and width that the published backbone takes, and channels and rows that it returns."""


def channel_split(channels: int) -> tuple[int, int]:
    """(a, c) with a c = channels and a the largest divisor up to its square root: 4 is 2 x 2, as released."""
    a = max(d for d in range(1, math.isqrt(channels) + 1) if channels % d == 0)
    return a, channels // a


def to_matrix(latents: Tensor) -> Tensor:
    """(B, a c, h, w) -> (B, a h, c w): the channels tile one matrix a latent (released code: a = c = 2)."""
    b, channels, h, w = latents.shape
    a, c = channel_split(channels)
    return latents.reshape(b, a, c, h, w).permute(0, 1, 3, 2, 4).reshape(b, a * h, c * w)


def from_matrix(matrix: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """The inverse of `to_matrix` for a latent of `shape` (C, h, w)."""
    channels, h, w = shape
    a, c = channel_split(channels)
    return matrix.reshape(-1, a, h, c, w).permute(0, 1, 3, 2, 4).reshape(-1, channels, h, w)


def decompose(latents: Tensor) -> Factors:
    """Singular value decomposition of each latent's matrix, in fp32: what a trainer computes once and keeps.

    latents (B, C, h, w) -> U (B, m, k), s (B, k), Vh (B, k, n) with m = a h, n = c w, k = min(m, n). The signs of
    the singular vectors are the linear-algebra library's choice. Raises UserError on values that are not finite.
    """
    try:
        u, s, vh = torch.linalg.svd(to_matrix(latents.float()), full_matrices=False)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise UserError(
            f"latents {tuple(latents.shape)} have no singular value decomposition ({str(error).splitlines()[0]}); "
            "expected finite numbers: look for NaN or infinity in the noise"
        ) from error
    return u, s, vh


def recompose(factors: Factors, values: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """U diag(values) Vh as a latent (B, C, h, w); in the factors' precision even under autocast."""
    u, _, vh = factors
    with torch.autocast(device_type=u.device.type, enabled=False):
        return from_matrix((u * values.to(u.dtype).unsqueeze(1)) @ vh, shape)


class Modulation(nn.Module):
    """AdaGroupNorm: e = GN(x_T) (1 + scale) + shift, with one scale and one shift a channel from the prompt.

    The paper calls e the normalised text embedding; it is group-normalised noise that the prompt modulates by
    2 C numbers (PROTOCOL "Paper vs code", 3). `linear` sees the flattened prompt (T W).
    """

    def __init__(self, prompt: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(prompt[0] * prompt[1], 2 * channels)

    def forward(self, latents: Tensor, prompt_embeds: Tensor) -> Tensor:
        """latents (B, C, h, w), prompt_embeds (B, T, W) -> e (B, C, h, w)."""
        scale, shift = self.linear(prompt_embeds.flatten(1))[:, :, None, None].chunk(2, dim=1)
        return F.group_norm(latents, 1, eps=1e-6) * (1 + scale) + shift


class Attention(nn.Module):
    """Multi-head self-attention over (B, N, width), queries, keys and values without bias, as released."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Multi-head attention of latent tokens (B, N, width) to prompt tokens (B, T, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        q = self.q(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(prompt).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _mlp(inside: int, hidden: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inside, hidden), nn.ReLU(), nn.Linear(hidden, outside))


class PublishedSingularValues(nn.Module):
    """The released singular-value branch: SVD, new singular values, and the matrix put together again.

    Accidents kept: rows of Vh are summed with rows of U^T where the paper has V; `bn` is never called and only sits
    in the state dict. Without attention it is the network of the released *training* solver, which applies `mlp4`
    before the mean over rows instead of after it. Square latents only, as U^T is added to Vh.
    """

    def __init__(self, shape: tuple[int, int, int], *, attention: bool) -> None:
        super().__init__()
        self.shape = shape
        size = channel_split(shape[0])[0] * shape[1]
        self.mlp1 = _mlp(size, 64, size)
        self.mlp2 = _mlp(size, 64, size)
        self.mlp3 = nn.Sequential(nn.Linear(size, size))
        self.attention = Attention(size, 8) if attention else None
        self.bn = nn.BatchNorm2d(size)
        self.mlp4 = _mlp(size, 1024, size)

    def forward(self, latents: Tensor, svd: Factors | None = None) -> Tensor:
        """latents (B, C, h, h), or their `decompose`d factors -> SVD(latents) (B, C, h, h)."""
        u, s, vh = factors = decompose(latents) if svd is None else svd
        rows = self.mlp1(u.transpose(1, 2)) + self.mlp2(vh) + self.mlp3(s).unsqueeze(1)
        attention = self.attention
        change = self.mlp4(rows).mean(1) if attention is None else self.mlp4(attention(rows).mean(1))
        return recompose(factors, change + s, self.shape)


class SingularValues(nn.Module):
    """The singular-value branch without accidents; identity at the start, and for any height and width.

    One token a rank i: mlp1(u_i) + mlp2(v_i) + mlp3(s), the vectors scaled to unit variance and s by its largest
    expected value sqrt(m) + sqrt(n) for noise. u_i and v_i belong together only rank by rank, so both enter as rows,
    also where m and n differ. Their common sign is arbitrary; it is chosen so that u_i's largest entry is positive,
    which makes the branch a function of the latent alone. Attention is residual. x_T + U diag(change) Vh is
    returned, which is exactly x_T while the last layer is zero.
    """

    def __init__(self, shape: tuple[int, int, int], *, attention: bool, width: int = 64) -> None:
        super().__init__()
        a, c = channel_split(shape[0])
        self.shape = shape
        self.m, self.n = a * shape[1], c * shape[2]
        rank = min(self.m, self.n)
        self.mlp1 = _mlp(self.m, width, width)
        self.mlp2 = _mlp(self.n, width, width)
        self.mlp3 = nn.Linear(rank, width)
        self.attention = Attention(width, 8) if attention else None
        self.mlp4 = _mlp(width, 4 * width, rank)
        zero(self.mlp4[-1])

    def forward(self, latents: Tensor, svd: Factors | None = None) -> Tensor:
        """latents (B, C, h, w), with or without their `decompose`d factors -> SVD(latents) (B, C, h, w)."""
        u, s, vh = factors = decompose(latents) if svd is None else svd
        left = u.transpose(1, 2)
        sign = torch.sign(left.gather(2, left.abs().argmax(2, keepdim=True)))
        tokens = self.mlp1(left * sign * math.sqrt(self.m)) + self.mlp2(vh * sign * math.sqrt(self.n))
        tokens = tokens + self.mlp3(s / (math.sqrt(self.m) + math.sqrt(self.n))).unsqueeze(1)
        if self.attention is not None:
            tokens = tokens + self.attention(tokens)
        return latents + recompose(factors, self.mlp4(tokens.mean(1)), self.shape)


def _swin(**options: Any) -> nn.Module:
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise UserError(
            "the backbone swin_tiny_patch4_window7_224 needs timm >= 0.9, which is not installed; pip install timm, "
            "or use backbone='small'"
        ) from error
    made: nn.Module = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, **options)
    return made


class PublishedSwin(nn.Module):
    """The released residual branch: 1x1 convolution, timm's Swin-T at 224 x 224, 1x1 convolution.

    Accidents kept: timm >= 0.9 returns features as (B, 7, 7, 768), which are read as (B, channels 7, 7, 768) and
    resized as a 7 x 768 plane; both resizes are nearest; the 1000-class head is never called and sits in the state
    dict. ImageNet weights are not downloaded, as a checkpoint or training replaces them.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.size = shape[1:]
        self.upconv = nn.Conv2d(SWIN_GRID, shape[0], 1)
        self.downconv = nn.Conv2d(shape[0], 3, 1)
        self.swin = _swin()

    def forward(self, latents: Tensor, prompt_embeds: Tensor | None = None) -> Tensor:
        """latents (B, C, h, w) -> (B, C, h, w)."""
        pixels = self.downconv(F.interpolate(latents, (SWIN_SIZE, SWIN_SIZE)))
        features = self.swin.forward_features(pixels)  # type: ignore[operator]
        made: Tensor = self.upconv(F.interpolate(features, self.size))
        return made


class CleanSwin(nn.Module):
    """Swin-T read as it is meant: bilinear resizes, features moved to (B, 768, 7, 7), no classification head."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.size = shape[1:]
        self.downconv = nn.Conv2d(shape[0], 3, 1)
        self.swin = _swin(num_classes=0)
        self.upconv = nn.Conv2d(SWIN_WIDTH, shape[0], 1)

    def forward(self, latents: Tensor, prompt_embeds: Tensor | None = None) -> Tensor:
        """latents (B, C, h, w) -> (B, C, h, w)."""
        pixels = F.interpolate(self.downconv(latents), (SWIN_SIZE, SWIN_SIZE), mode="bilinear", antialias=True)
        features = self.swin.forward_features(pixels).permute(0, 3, 1, 2)  # type: ignore[operator]
        return F.interpolate(self.upconv(features), self.size, mode="bilinear")


class Block(nn.Module):
    """Depthwise 3x3 convolution, self-attention, attention to the prompt if there is one, and an MLP; all residual."""

    def __init__(self, width: int, heads: int, *, cross: bool) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width) if cross else None
        self.cross = CrossAttention(width, heads) if cross else None
        self.norm3 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, plane: Tensor, prompt: Tensor | None) -> Tensor:
        """plane (B, width, h, w), prompt (B, T, width) -> (B, width, h, w)."""
        plane = plane + self.near(plane)
        tokens = plane.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(self.norm1(tokens))
        if self.cross is not None and self.norm2 is not None and prompt is not None:
            tokens = tokens + self.cross(self.norm2(tokens), prompt)
        tokens = tokens + self.mlp(self.norm3(tokens))
        return tokens.transpose(1, 2).reshape(plane.shape)


class SmallBackbone(nn.Module):
    """A transformer over latent patches for small latents, in plain torch; optionally it reads the prompt's tokens.

    The published text path is 2 C numbers a prompt and cannot place anything; with `prompt` each patch attends to
    every prompt token, so text can act where it belongs. Padding tokens are attended to, as the pipelines do.
    """

    def __init__(
        self, shape: tuple[int, int, int], *, width: int, depth: int, heads: int, patch: int, prompt: int | None
    ) -> None:
        super().__init__()
        channels, h, w = shape
        self.stem = nn.Conv2d(channels, width, patch if patch > 1 else 3, stride=patch, padding=0 if patch > 1 else 1)
        self.place = nn.Parameter(0.02 * torch.randn(1, width, h // patch, w // patch))
        self.prompt = nn.Sequential(nn.LayerNorm(prompt), nn.Linear(prompt, width)) if prompt else None
        self.blocks = nn.ModuleList(Block(width, heads, cross=prompt is not None) for _ in range(depth))
        self.norm = nn.GroupNorm(1, width)
        self.head = nn.ConvTranspose2d(width, channels, patch, stride=patch)

    def forward(self, latents: Tensor, prompt_embeds: Tensor | None = None) -> Tensor:
        """latents (B, C, h, w), prompt_embeds (B, T, W) -> (B, C, h, w)."""
        plane = self.stem(latents) + self.place
        prompt = None if self.prompt is None else self.prompt(prompt_embeds)
        for block in self.blocks:
            plane = block(plane, prompt)
        made: Tensor = self.head(self.norm(plane))
        return made


def zero(layer: nn.Module) -> None:
    """Set a layer to zero, so that its branch changes nothing until it is trained."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
