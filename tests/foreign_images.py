"""Folders of images that no run made: drawn scenes and their captions, without any model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench.shapes import captions
from bench.shapes.captions import Caption
from bench.shapes.scenes import render

N = 6


@dataclass(frozen=True)
class Given:
    """A home with `prompts.jsonl`, `right` (image k shows prompt k) and `wrong` (every second one shows another)."""

    home: Path
    captions: list[Caption]

    @property
    def prompts(self) -> Path:
        return self.home / "prompts.jsonl"

    def pixels(self, k: int, *, seed: int = 0) -> np.ndarray:
        """A scene that prompt k describes."""
        return render(captions.scene(self.captions[k], np.random.default_rng([k, seed])))

    def save(self, k: int, path: Path, *, seed: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.pixels(k, seed=seed)).save(path)


def draw(home: Path) -> Given:
    rng = np.random.default_rng(0)
    chosen: dict[str, Caption] = {}
    while len(chosen) < N:
        caption = captions.sample(rng, "geneval", ("single_object", "two_object")[len(chosen) % 2])
        chosen.setdefault(caption.prompt, caption)
    given = Given(home, list(chosen.values()))
    home.mkdir(parents=True, exist_ok=True)
    given.prompts.write_text("".join(json.dumps(c.metadata()) + "\n" for c in given.captions))
    for k in range(N):
        given.save(k, home / "right" / f"{k}.png")
        given.save((k + k % 2) % N, home / "wrong" / f"{k}.png", seed=1)
    return given
