"""Linear layers, one after the other without activations, as the aesthetic predictor and ImageReward end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from bench.metrics.checkpoint import fill

_PLACES = (0, 2, 4, 6, 7)
"""Where the five layers stand in published files; dropout stands between them."""


class Linears(nn.Module):
    """(B, features) to (B, 1)."""

    def __init__(self, shapes: Mapping[int, tuple[int, int]]):
        super().__init__()
        self.layers = nn.ModuleDict({str(i): nn.Linear(columns, rows) for i, (rows, columns) in shapes.items()})

    @classmethod
    def of(cls, state: dict[str, torch.Tensor], path: Path) -> Linears:
        """The layers of a state dict, its weights in them; UserError where it is another one's."""
        weights = {i: state.get(f"layers.{i}.weight") for i in _PLACES}
        made = cls({i: (w.shape[0], w.shape[1]) for i, w in weights.items() if w is not None and w.ndim == 2})
        fill(made, state, of=path)
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x
