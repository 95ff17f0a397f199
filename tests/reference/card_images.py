"""The images of the reference cards: exact scenes of the embedded world, and synthetic views of odd sizes.

    python tests/reference/card_images.py [--out DIR]

All of it follows from seeds. Cards hold the images' digest, so whoever changes an image records every card again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.catalogue.cards import IMAGES
from bench.shapes.captions import TASKS, sample, scene
from bench.shapes.scenes import render

VIEWS = (
    # height, width, prompt
    (128, 128, "a sphere of green glass on a wooden table, studio light"),
    (117, 171, "evening sky over blue hills, the sun low, film photograph"),
    (97, 151, "waves on a lake"),
    (200, 90, "a tall curtain of red velvet, folds, 8K, highly detailed, " + "masterpiece, " * 40),
    (60, 240, "鳥居と霧の朝"),
    (112, 112, "“An Old Man’s Café” &amp; a dog"),
)


def smooth(rng: np.random.Generator, height: int, width: int, octaves: int = 4) -> np.ndarray:
    """(height, width) noise in [0, 1] of several scales, each half as strong as the coarser one."""
    total = np.zeros((height, width))
    for k in range(octaves):
        side = 3 * 2**k
        grid = Image.fromarray(rng.random((side, side), dtype=np.float32))
        total += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) / 2**k
    return (total - total.min()) / np.ptp(total)


def view(kind: int, height: int, width: int) -> np.ndarray:
    """One synthetic view as (height, width, 3) uint8."""
    rng = np.random.default_rng([2026, kind])
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    noise = smooth(rng, height, width)
    ramp = np.stack([y, 0.5 + 0.3 * np.cos(3 * x), 1 - y], -1)
    if kind == 0:
        r2 = ((x - 0.5) ** 2 + (y - 0.5) ** 2) / 0.1
        light = np.sqrt(np.clip(1 - r2, 0, 1))[..., None]
        table = np.array([0.5, 0.33, 0.18]) * (0.6 + 0.4 * noise[..., None])
        ramp = np.where(r2[..., None] < 1, light * np.array([0.2, 0.8, 0.4]) + 0.4 * light**8, table)
    elif kind == 1:
        hills = y > 0.55 + 0.25 * smooth(rng, 1, width, 3)
        sky = np.stack([0.95 - 0.4 * (1 - y), 0.5 + 0.2 * y, 0.35 + 0.5 * (1 - y)], -1)
        sun = np.exp(-((x - 0.7) ** 2 + (y - 0.5) ** 2) / 0.01)[..., None]
        ramp = np.where(hills[..., None], np.array([0.12, 0.2, 0.4]) * (0.6 + noise[..., None]), sky + sun)
    elif kind == 2:
        ripple = 0.5 + 0.5 * np.sin(60 * y + 8 * noise + 5 * x)
        ramp = np.stack([0.1 + 0.2 * ripple, 0.3 + 0.3 * ripple, 0.5 + 0.4 * ripple], -1)
    elif kind == 3:
        fold = 0.5 + 0.5 * np.sin(40 * x + 3 * noise)
        ramp = np.stack([0.25 + 0.6 * fold, 0.05 + 0.1 * fold, 0.08 + 0.1 * fold], -1)
    elif kind == 4:
        gate = (abs(y - 0.25) < 0.04) | ((abs(abs(x - 0.5) - 0.12) < 0.012) & (y > 0.2))
        ramp = np.where(gate[..., None], np.array([0.8, 0.2, 0.1]), 0.6 + 0.35 * noise[..., None])
    else:
        ramp = 0.7 * ramp + 0.3 * smooth(rng, height, width, 6)[..., None]
    return np.rint(255 * np.clip(ramp, 0, 1)).astype(np.uint8)


def made() -> list[tuple[np.ndarray, dict[str, Any]]]:
    """Images and what `images.json` says of them."""
    rng = np.random.default_rng(2026)
    found: list[tuple[np.ndarray, dict[str, Any]]] = []
    for tag in TASKS:
        caption = sample(rng, "scorers", tag)
        row = {"kind": "scene", "prompt": caption.prompt, "category": tag, "metadata": caption.metadata()}
        # Two are of another caption, so that not every image is right.
        of = sample(rng, "scorers", tag) if tag in ("colors", "color_attr") else caption
        found.append((render(scene(of, rng)), row))
    for kind, (height, width, prompt) in enumerate(VIEWS):
        found.append((view(kind, height, width), {"kind": "view", "prompt": prompt}))
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=IMAGES, metavar="DIR")
    out = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, (pixels, row) in enumerate(made()):
        rows.append({"file": f"{i:02d}.png", **row})
        Image.fromarray(pixels).save(out / rows[-1]["file"], optimize=True)
    (out / "images.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
