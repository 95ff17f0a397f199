"""The cross-attention network of MPS: image tokens that look at text tokens, then at one another.

Every layer has two residual blocks, each with attention and a gated feed-forward in parallel, and keys and values that
all heads share (multi-query attention). Names and shapes are those of the published state dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional


class Norm(nn.Module):
    """Layer normalisation whose bias is a constant of the checkpoint."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.register_buffer("bias", torch.zeros(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.weight, cast(torch.Tensor, self.bias))


class Gate(nn.Module):
    """The first half of the features times the SiLU of the second."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = x.chunk(2, dim=-1)
        return functional.silu(gate) * value


class Rotary(nn.Module):
    """Turns features by their place in the sequence (2104.09864); the two halves of a head are the two axes."""

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("inv_freq", 10000.0 ** -(torch.arange(0, width, 2).float() / width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., N, width) to the same."""
        frequencies = cast(torch.Tensor, self.inv_freq)
        angle = torch.arange(x.shape[-2], device=x.device, dtype=frequencies.dtype)[:, None] * frequencies
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, seen: torch.Tensor | None) -> torch.Tensor:
    """q (B, H, N, d), k and v (B, M, d) of all heads; `seen` (B, M) says which keys count. Gives (B, N, H d)."""
    scores = (q * k.shape[-1] ** -0.5) @ k[:, None].transpose(-1, -2)
    if seen is not None:
        scores = scores.masked_fill(~seen[:, None, None], float("-inf"))
    return (scores.softmax(-1) @ v[:, None]).transpose(1, 2).flatten(2)


class Cross(nn.Module):
    """Image tokens look at text tokens."""

    def __init__(self, dim: int, width: int, heads: int, inner: int):
        super().__init__()
        self.heads = heads
        self.norm = Norm(dim)
        self.to_q = nn.Linear(dim, heads * width, bias=False)
        self.to_kv = nn.Linear(dim, 2 * width, bias=False)
        self.to_out = nn.Linear(heads * width, dim, bias=False)
        self.ff = nn.Sequential(nn.Linear(dim, 2 * inner, bias=False), Gate(), nn.Linear(inner, dim, bias=False))

    def forward(self, x: torch.Tensor, text: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        h = self.norm(x)
        q = self.to_q(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.to_kv(text).chunk(2, dim=-1)
        return x + self.to_out(_attend(q, k, v, self.heads, seen)) + self.ff(h)


class Own(nn.Module):
    """Image tokens look at one another."""

    def __init__(self, dim: int, width: int, heads: int, inner: int):
        super().__init__()
        self.heads, self.parts = heads, (heads * width, width, width, 2 * inner)
        self.norm, self.rotary_emb = Norm(dim), Rotary(width)
        self.fused_attn_ff_proj = nn.Linear(dim, sum(self.parts), bias=False)
        self.attn_out = nn.Linear(heads * width, dim, bias=False)
        self.ff_out = nn.Sequential(Gate(), nn.Linear(inner, dim, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v, inner = self.fused_attn_ff_proj(self.norm(x)).split(self.parts, dim=-1)
        q = self.rotary_emb(q.unflatten(-1, (self.heads, -1)).transpose(1, 2))
        return x + self.attn_out(_attend(q, self.rotary_emb(k), v, self.heads, None)) + self.ff_out(inner)


class Residual(nn.Module):
    """A block under the name that the published checkpoint has it by."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.fn = block


class CrossModel(nn.Module):
    """(B, N, D) image tokens and (B, T, D) text tokens to (B, D), the first image token after all layers."""

    def __init__(self, layers: int, dim: int, width: int, heads: int, inner: int):
        super().__init__()
        shape = (dim, width, heads, inner)
        pairs = (nn.ModuleList([Residual(Cross(*shape)), Residual(Own(*shape))]) for _ in range(layers))
        self.layers = nn.ModuleList(pairs)

    @classmethod
    def of(cls, state: Mapping[str, torch.Tensor]) -> CrossModel:
        """The network, without its weights, whose shapes a state dict has; KeyError where it is none of these."""
        dim = state["layers.0.0.fn.to_q.weight"].shape[1]
        width = state["layers.0.0.fn.to_kv.weight"].shape[0] // 2
        heads = state["layers.0.0.fn.to_q.weight"].shape[0] // width
        inner = state["layers.0.0.fn.ff.2.weight"].shape[1]
        layers = 1 + max(int(name.split(".")[1]) for name in state)
        return cls(layers, dim, width, heads, inner)

    def forward(self, image: torch.Tensor, text: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """`seen` (B, T) bool says which text tokens count; at least one of each row must."""
        layers: Any = self.layers
        for cross, own in layers:
            image = own.fn(cross.fn(image, text, seen))
        return image[:, 0]
