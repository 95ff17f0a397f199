"""Trainings of a few steps in fp32, and what two of them have in common."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from npnet.network import checkpoint
from npnet.training.settings import TrainConfig
from npnet.training.train import run

SMALL = {"width": 16, "depth": 1, "heads": 2}
"""A network that makes a step in a few milliseconds."""


def settings(folder: Path, **changes: Any) -> TrainConfig:
    """Two fast epochs in fp32 on a collection."""
    fields: dict[str, Any] = {
        "pairs": folder,
        "selection": "none",
        "network": SMALL,
        "epochs": 2,
        "batch": 8,
        "learning_rate": 3e-3,
    }
    return TrainConfig(**{**fields, **changes})


def train(folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """Train by `settings`; returns the summary. `start` is a checkpoint to fine-tune."""
    start = changes.pop("start", None)
    return run(settings(folder, **changes), out=out, start=start, device="cpu", say=lambda _line: None)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(path).tensors


def farthest(a: Path, b: Path) -> float:
    """Largest difference between two checkpoints' weights."""
    one, two = weights(a), weights(b)
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def losses_of(out: Path) -> list[tuple[str, ...]]:
    """Epoch, training and validation loss, as losses.csv has them."""
    with open(out / "losses.csv") as file:
        return [(row["epoch"], row["train_mse"], row["validation_mse"]) for row in csv.DictReader(file)]
