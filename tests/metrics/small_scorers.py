"""Real scorers on small random checkpoints: HPSv2's folder, two images and two prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reference import small_clips as small

from bench import registry
from bench.metrics.base import MetricEntry
from bench.prompts.base import Prompt

PROMPTS = [Prompt(0, "a red circle"), Prompt(1, "a blue square")]


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.hps_folder(tmp_path_factory.mktemp("hps"), "settings")


def pictures() -> list[np.ndarray]:
    return small.images("settings")[1:3]


def entry_at(name: str, folder: Path, dtype: str = "fp32") -> MetricEntry:
    entry: MetricEntry = registry.get("metrics", name).configured(str(folder), dtype)
    return entry
