"""The five convolutions of torchvision's AlexNet, and LPIPS of two images as a distance of two vectors.

LPIPS (Zhang et al. 2018, 1801.03924, eq. 1) is a sum over layers of the mean over places of w · (f - f')², f and f' of
length 1 over channels. That is the squared Euclidean distance of all sqrt(w / places) f, so each image has one vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from bench.errors import UserError
from bench.metrics.checkpoint import fill

CHANNELS = (64, 192, 384, 256, 256)
_POOLED = ("3", "6")
"""Convolutions that a maximum pool stands before."""
_CLASSIFIER = tuple(f"classifier.{i}.{part}" for i in (1, 4, 6) for part in ("weight", "bias"))
_ROW = ".model.1.weight"
"""What follows a layer's number in LPIPS's published file."""
_EPS = 1e-10
"""Added to the length of f, as the public code does: a place where no channel is active stays zero."""


class AlexNet(nn.Module):
    """(B, 3, h, w) of ImageNet's mean 0 and deviation 1 to what its five layers give after the ReLU, (B, C, h', w')."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict(
            {
                "0": nn.Conv2d(3, 64, 11, stride=4, padding=2),
                "3": nn.Conv2d(64, 192, 5, padding=2),
                "6": nn.Conv2d(192, 384, 3, padding=1),
                "8": nn.Conv2d(384, 256, 3, padding=1),
                "10": nn.Conv2d(256, 256, 3, padding=1),
            }
        )

    @classmethod
    def of(cls, state: dict[str, torch.Tensor], path: Path) -> AlexNet:
        """The network of torchvision's state dict, its classifier left out; UserError where it is another one's."""
        with torch.device("meta"):
            made = cls()
        made = made.to_empty(device="cpu")
        fill(made, state, of=path, ignored=_CLASSIFIER)
        return made

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for place, layer in self.features.items():
            x = F.relu(layer(F.max_pool2d(x, 3, 2) if place in _POOLED else x))
            found.append(x)
        return found


def channel_weights(state: dict[str, torch.Tensor], path: Path) -> list[torch.Tensor]:
    """The weight of each channel by layer, (C,), of LPIPS's published file; UserError for any other file."""
    rows = nn.ParameterDict({f"lin{i}": torch.zeros(1, c, 1, 1) for i, c in enumerate(CHANNELS)})
    fill(rows, {name.removesuffix(_ROW): value for name, value in state.items()}, of=path)
    found = [row.detach().flatten() for row in rows.values()]
    if not all(bool((row >= 0).all()) for row in found):  # nor NaN
        raise UserError(f"{path}: LPIPS's weights of channels are 0 or more; here are others, which make no distance")
    return found


def vectors(layers: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """(B, D) fp32 of layers (B, C, h, w): their squared distance is LPIPS. Channels of weight 0 are left out."""
    found = []
    for layer, weight in zip(layers, weights, strict=True):
        wide = layer.float()
        unit = wide / (wide.square().sum(dim=1, keepdim=True).sqrt() + _EPS)
        there = weight > 0
        root = (weight[there] / (wide.shape[2] * wide.shape[3])).sqrt()
        found.append((unit[:, there] * root[:, None, None]).flatten(1))
    return torch.cat(found, dim=1)
