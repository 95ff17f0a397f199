"""Our scorers against what the published packages said of the same small random checkpoints (published_scores.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_blip
import small_clips as small
from stored import Vectors, found

from bench import registry
from bench.prompts.base import Prompt

pytestmark = pytest.mark.usefixtures("one_thread")

FOLDERS: dict[str, Callable[[Path, str], Path]] = {
    "hpsv2": small.hps_folder,
    "pickscore": partial(small.in_folder, "PickScore_v1", act="gelu"),
    "aesthetic": small.aesthetic_folder,
    "clipscore": partial(small.in_folder, "clip-vit-base-patch32", act="quick_gelu"),
    "mps": small.mps_folder,
    "imagereward": small_blip.reward_folder,
}
BARS = {"hpsv2": 5e-7, "pickscore": 3e-5, "aesthetic": 1e-6, "clipscore": 1e-6, "mps": 1e-5, "imagereward": 5e-6}
"""Largest difference allowed; PickScore is 90 times a cosine here, CLIPScore 2.5 times.

On the processor that made the vectors all are within 1.5e-7, 1e-5, 5e-7, 5e-7, 2e-6 and 1e-6; another one's kernels sum
in another order (measured: 1.1e-5, 3.9e-6 and 1.7e-6 for PickScore, MPS and ImageReward)."""
FILES = found("scores")
near = cache(small.near)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scorer_gives_what_the_published_package_gives(path: Path, tmp_path: Path) -> None:
    v = Vectors(path)
    name, case = v.name.split("-")[1], str(v["case"])
    FOLDERS[name](tmp_path, case)
    scorer = registry.get("metrics", name).configured(str(tmp_path), "fp32").loaded("cpu")
    scorer.backoff.first = 1  # the packages take one image at a time, and a batch's size moves the last bits
    values = judged(scorer, case)
    np.testing.assert_allclose(values, v["scores"], rtol=0, atol=BARS[name])
    # What is compared is distinguished: scores of different images differ by far more than the bar.
    assert np.ptp(v["scores"]) > 1e4 * BARS[name]
    scorer.backoff.first = 32
    together = judged(scorer, case)
    np.testing.assert_allclose(together, values, rtol=0, atol=2 * BARS[name])


def judged(scorer: Any, case: str) -> list[float]:
    """Scores of the images, or preferences for the images a little changed."""
    images = small.images(case)
    if hasattr(scorer, "score_pairs"):
        return [v.value for v in scorer.score_pairs(images, near(case), prompts())]
    return [v.value for v in scorer.score(images, prompts())]


def prompts() -> list[Prompt]:
    return [Prompt(i, text) for i, text in enumerate(small.PROMPTS)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_stored_file_says_where_it_comes_from(path: Path) -> None:
    v = Vectors(path)
    keys = {"repository", "commit", "file", "licence", "function", "seed", "torch", "transformers", "pillow"}
    assert keys <= v.origin.keys()
    assert not any(str(value).startswith("/") for value in v.origin.values()), "no path of the machine that made it"
    assert np.isfinite(v["scores"]).all()


def test_every_scorer_has_its_file() -> None:
    assert {path.stem.split("-")[1] for path in FILES} >= set(FOLDERS)
