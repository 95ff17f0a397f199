"""The Inception network of FID: TensorFlow's of 2015-12-05, whose weights are no torchvision weights.

It differs from torchvision's in three ways: its average pools do not count the padding, its last block has a maximum
pool, and it has 1008 classes, of which nothing is used here. Names are those of NVIDIA's TorchScript file, which
clean-fid runs; the names of pytorch-fid's conversion are translated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from bench.errors import UserError

FEATURES = 2048
SIDE = 299


class Unit(nn.Module):
    """Convolution, batch normalisation by stored statistics, ReLU."""

    def __init__(self, inside: int, outside: int, kernel: tuple[int, int], stride: int, padding: tuple[int, int]):
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(outside, inside, *kernel))
        self.beta, self.mean, self.var, self.gamma = (nn.Parameter(torch.empty(outside)) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inside, h, w) to (B, outside, h', w')."""
        x = F.conv2d(x, self.weight, stride=self.stride, padding=self.padding)
        return F.relu(F.batch_norm(x, self.mean, self.var, self.gamma, self.beta, eps=1e-3))


def _unit(inside: int, outside: int, kernel: int | tuple[int, int] = 1, stride: int = 1, same: bool = True) -> Unit:
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    return Unit(inside, outside, size, stride, (size[0] // 2, size[1] // 2) if same else (0, 0))


def _tower(inside: int, *steps: tuple[int, int | tuple[int, int]], halved: bool = False) -> nn.Sequential:
    """Units one after another, each of (channels, kernel); `halved`: the last one halves the side."""
    tower = nn.Sequential()
    for i, (outside, kernel) in enumerate(steps):
        last = halved and i == len(steps) - 1
        name = "conv" if i == 0 else f"conv_{i}"
        tower.add_module(name, _unit(inside, outside, kernel, 2 if last else 1, not last))
        inside = outside
    return tower


def _average(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class Towers(nn.Module):
    """Towers side by side, and a pool: averaged and convolved, or the maximum that halves the side."""

    def __init__(self, conv: Unit | None, towers: Sequence[nn.Sequential], pooled: nn.Sequential | None):
        super().__init__()
        self.conv = conv
        for i, tower in enumerate([*towers, *([pooled] if pooled else [])]):
            self.add_module("tower" if i == 0 else f"tower_{i}", tower)
        self.n, self.averages = len(towers), pooled is not None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, c, h, w) to (B, c', h, w) or half of it."""
        found = [] if self.conv is None else [self.conv(x)]
        found += [self.get_submodule("tower" if i == 0 else f"tower_{i}")(x) for i in range(self.n)]
        found.append(self.get_submodule(f"tower_{self.n}")(_average(x)) if self.averages else F.max_pool2d(x, 3, 2))
        return torch.cat(found, 1)


class Forked(nn.Module):
    """The last blocks: two towers that fork into 1x3 and 3x1."""

    def __init__(self, inside: int, *, maximum: bool):
        super().__init__()
        self.maximum = maximum
        self.conv = _unit(inside, 320)
        self.tower_conv = _unit(inside, 384)
        self.tower_mixed_conv, self.tower_mixed_conv_1 = _unit(384, 384, (1, 3)), _unit(384, 384, (3, 1))
        self.tower_1_conv, self.tower_1_conv_1 = _unit(inside, 448), _unit(448, 384, 3)
        self.tower_1_mixed_conv, self.tower_1_mixed_conv_1 = _unit(384, 384, (1, 3)), _unit(384, 384, (3, 1))
        self.tower_2_conv = _unit(inside, 192)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inside, 8, 8) to (B, 2048, 8, 8)."""
        one, two = self.tower_conv(x), self.tower_1_conv_1(self.tower_1_conv(x))
        pooled = F.max_pool2d(x, 3, 1, 1) if self.maximum else _average(x)
        forks = [self.tower_mixed_conv(one), self.tower_mixed_conv_1(one)]
        forks += [self.tower_1_mixed_conv(two), self.tower_1_mixed_conv_1(two)]
        return torch.cat([self.conv(x), *forks, self.tower_2_conv(pooled)], 1)


def _a(inside: int, pooled: int) -> Towers:
    towers = [_tower(inside, (48, 1), (64, 5)), _tower(inside, (64, 1), (96, 3), (96, 3))]
    return Towers(_unit(inside, 64), towers, _tower(inside, (pooled, 1)))


def _b(inside: int) -> Towers:
    return Towers(_unit(inside, 384, 3, 2, False), [_tower(inside, (64, 1), (96, 3), (96, 3), halved=True)], None)


def _c(inside: int, n: int) -> Towers:
    flat, tall = (1, 7), (7, 1)
    towers = [_tower(inside, (n, 1), (n, flat), (192, tall))]
    towers.append(_tower(inside, (n, 1), (n, tall), (n, flat), (n, tall), (192, flat)))
    return Towers(_unit(inside, 192), towers, _tower(inside, (192, 1)))


def _d(inside: int) -> Towers:
    towers = [_tower(inside, (192, 1), (320, 3), halved=True)]
    towers.append(_tower(inside, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), halved=True))
    return Towers(None, towers, None)


class Inception(nn.Module):
    """(B, 3, 299, 299) in [-1, 1) to the features (B, 2048) before the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                "conv": _unit(3, 32, 3, 2, False),
                "conv_1": _unit(32, 32, 3, 1, False),
                "conv_2": _unit(32, 64, 3),
                "pool0": nn.MaxPool2d(3, 2),
                "conv_3": _unit(64, 80),
                "conv_4": _unit(80, 192, 3, 1, False),
                "pool1": nn.MaxPool2d(3, 2),
                "mixed": _a(192, 32),
                "mixed_1": _a(256, 64),
                "mixed_2": _a(288, 64),
                "mixed_3": _b(288),
                "mixed_4": _c(768, 128),
                "mixed_5": _c(768, 160),
                "mixed_6": _c(768, 160),
                "mixed_7": _c(768, 192),
                "mixed_8": _d(768),
                "mixed_9": Forked(1280, maximum=False),
                "mixed_10": Forked(2048, maximum=True),
                "pool2": nn.AvgPool2d(8),
            }
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x.flatten(1)


# Names ---------------------------------------------------------------------------------------------------------------

_STEM = {"1a_3x3": "conv", "2a_3x3": "conv_1", "2b_3x3": "conv_2", "3b_1x1": "conv_3", "4a_3x3": "conv_4"}
_MIXED = {name: "mixed" + (f"_{i}" if i else "") for i, name in enumerate(
    ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"))}  # fmt: skip
_FORKED = {
    "branch1x1": "conv", "branch3x3_1": "tower_conv", "branch3x3_2a": "tower_mixed_conv",
    "branch3x3_2b": "tower_mixed_conv_1", "branch3x3dbl_1": "tower_1_conv", "branch3x3dbl_2": "tower_1_conv_1",
    "branch3x3dbl_3a": "tower_1_mixed_conv", "branch3x3dbl_3b": "tower_1_mixed_conv_1", "branch_pool": "tower_2_conv",
}  # fmt: skip
_TOWERS = {
    "5": {"branch5x5": "tower", "branch3x3dbl": "tower_1"},
    "6a": {"branch3x3dbl": "tower"},
    "6": {"branch7x7": "tower", "branch7x7dbl": "tower_1"},
    "7a": {"branch3x3": "tower", "branch7x7x3": "tower_1"},
}
_PARTS = {"conv.weight": "weight", "bn.weight": "gamma", "bn.bias": "beta", "bn.running_mean": "mean",
          "bn.running_var": "var"}  # fmt: skip


def translated(state: dict[str, torch.Tensor], *, of: Path) -> dict[str, torch.Tensor]:
    """A state dict by the names of `Inception`, from NVIDIA's archive or pytorch-fid's file; UserError for others."""
    if any(name.startswith("layers.") for name in state):
        found = {name: value for name, value in state.items() if name.startswith("layers.")}
        for name in [name for name in found if name.endswith(".beta")]:  # it has no gamma, as TensorFlow's graph
            found.setdefault(name.removesuffix("beta") + "gamma", torch.ones_like(found[name]))
        return found
    found = {}
    for name, value in state.items():
        if name.startswith(("fc.", "AuxLogits.")) or name.endswith("num_batches_tracked"):
            continue
        unit, _, part = name.rpartition(".bn." if ".bn." in name else ".conv.")
        part = ("bn." if ".bn." in name else "conv.") + part
        place = _place(unit)
        if place is None or part not in _PARTS:
            raise UserError(f"{of}: not the Inception network of FID: it has an unknown {name}")
        found[f"layers.{place}.{_PARTS[part]}"] = value
    return found


def _place(unit: str) -> str | None:
    """`Mixed_5b.branch5x5_2` by the archive's names: `mixed.tower.conv_1`."""
    if stem := re.fullmatch(r"Conv2d_(\w+)", unit):
        return _STEM.get(stem[1])
    found = re.fullmatch(r"Mixed_(\w\w)\.(branch\w+?)(?:_(\d))?", unit)
    if not found or found[1] not in _MIXED:
        return None
    block, branch, step = found[1], found[2], found[3]
    if block in ("7b", "7c"):
        name = unit.partition(".")[2]
        return f"{_MIXED[block]}.{_FORKED[name]}" if name in _FORKED else None
    if branch == "branch_pool":
        return f"{_MIXED[block]}.tower_2.conv"
    if step is None:
        return f"{_MIXED[block]}.conv"
    tower = _TOWERS[block if block in _TOWERS else block[0]].get(branch)
    at = "conv" if step == "1" else f"conv_{int(step) - 1}"
    return tower and f"{_MIXED[block]}.{tower}.{at}"
