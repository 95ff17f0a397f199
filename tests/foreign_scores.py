"""Metrics and folders for tests of images that the harness did not make."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Plug
from foreign_images import Given, draw

from bench.metrics.base import MetricEntry, Value

BAD = {"word": "none"}
"""The word of prompts whose scores are no numbers."""


@dataclass(frozen=True)
class Bright:
    """Mean grey levels; of pairs, whether the method's image is the brighter; of sets, mean colours."""

    times: float = 1.0

    def score(self, images: Any, prompts: Any) -> list[Value]:
        pairs = zip(images, prompts, strict=True)
        return [Value(np.nan if BAD["word"] in p.text else self.times * float(i.mean())) for i, p in pairs]

    def score_pairs(self, baseline_images: Any, method_images: Any, prompts: Any) -> list[Value]:
        pairs = zip(baseline_images, method_images, strict=True)
        return [Value(float(ours.mean() > theirs.mean())) for theirs, ours in pairs]

    def features(self, images: Any, prompts: Any) -> Any:
        return np.stack([image.mean(axis=(0, 1)) for image in images])


def tuned(checkpoint: str | None, dtype: str) -> MetricEntry:
    """Twice as bright on a checkpoint."""
    times = 2.0 if checkpoint else 1.0
    entry = MetricEntry("tuned", "tuned", "levels", lambda device: Bright(times), lambda: f"tuned-{times}")
    return replace(entry, configure=tuned)


def spread(features: Any, weights: Any) -> float:
    centred = features - weights @ features / weights.sum()
    return float(weights @ (centred**2).sum(axis=1) / weights.sum())


def referring(reference: str | None) -> MetricEntry:
    """How many letters its reference has, of a set."""
    entry = MetricEntry("letters", "letters", "letters", lambda device: Bright(), lambda: f"letters {reference}",
                        kind="set", value=lambda features, weights: float(len(reference or "")))  # fmt: skip
    return replace(entry, refer=referring, reference=reference, configure=lambda checkpoint, dtype: referring(None))


@pytest.fixture(autouse=True)
def metrics(plug: Plug) -> None:
    """One metric of each kind, beside those of the embedded world."""
    kinds: dict[str, Any] = {"bright": {}, "brighter": {"kind": "pair"}, "colours": {"kind": "set", "value": spread}}
    for name, more in kinds.items():
        entry = MetricEntry(name, name, "levels", lambda device: Bright(), lambda: "1", **more)
        plug("metrics", **{name: entry})
    plug("metrics", tuned=tuned(None, "fp32"), letters=referring(None))


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    monkeypatch.chdir(tmp_path)
    return draw(tmp_path)


def table_of(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def results_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found
