"""Results with as many pairs as a test wants, in the form of results.json, and the images they name."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .samples import NO_RATIOS, STRICT, metric

SETTINGS = [
    {"model": "shapes-sdxl", "sampler": "ddim", "steps": steps, "guidance": 5.5}
    for steps in (10, 50)
]  # fmt: skip
METHODS = ["standard", "inversion", "npnet", "best_of_4"]
SETS = ["shapes-pickapic", "shapes-drawbench"]
CATEGORIES = ["counting", "colours", "position"]
METRICS = {
    "preference": metric("Preference", "logit"),
    "clipscore": metric("CLIPScore", "2.5 cos"),
    "artefacts": metric("Artefacts", "share", higher_is_better=False),
    "geneval": metric("GenEval", "share"),
}
COLOURS, SHAPES = ["red", "green", "blue", "violet"], ["circle", "square", "triangle"]
WORDS = ["a", "small", "large", "beside", "above", "three", "two", "on", "grey", "plain", *COLOURS, *SHAPES]
OPTIMISED = ("best_of_4", "geneval")
SIBLINGS = [{"metric": "clipscore", "of": "geneval", "shares": [{"kind": "detector", "name": "eyes"}]}]
"""Of what `best_of_4` optimises."""


def results(count: int, *, methods: list[str] | None = None, distinct_images: int = 24) -> dict[str, Any]:
    """Results of `count` pairs over two settings, two prompt sets and three categories; every figure is drawn.

    GenEval scores only the first prompt set and ties often; `best_of_4` optimises it.
    """
    draw, methods = random.Random(7), methods or METHODS
    pairs = []
    for number in range(count):
        prompt_set, first = SETS[number % 2], number * len(methods)
        scores: dict[str, dict[str, float]] = {}
        for m, method in enumerate(methods):
            scores[method] = {
                "preference": round(draw.gauss(1 + 0.1 * m, 0.5), 5),
                "clipscore": round(draw.gauss(0.8, 0.05), 5),
                "artefacts": round(draw.random(), 5),
            } | ({"geneval": float(draw.random() < 0.6)} if prompt_set == SETS[0] else {})
        pairs.append({
            "setting": number // 4 % 2, "prompt": f"{' '.join(draw.choices(WORDS, k=9))} number {number}",
            "prompts": prompt_set, "index": number // 2, "seed": number % 3, "category": draw.choice(CATEGORIES),
            "images": {m: f"images/{(first + i) % distinct_images:04d}.png" for i, m in enumerate(methods)},
            "runs": dict.fromkeys(methods, 0), "scores": scores,
        })  # fmt: skip
    run = {"folder": "many-ab12", "created": "2026-11-21T18:04:11+00:00", "finished": True, "sessions": 1,
           "stages": {}, "provenance": {"commit": "c0ffee", "dirty": False}}  # fmt: skip
    return {
        "schema": 2,
        "suite": {"name": "many", "title": "Many pairs", "id": "ab12cd34", "reproduces": "", "twin": True,
                  "baseline": methods[0], "limit": None, "headline": None, "controls": [],
                  "command": "bench run many.yaml"},
        "run": run,
        "runs": [run | {"path": ".", "suite": "many", "id": "ab12cd34"}],
        "notes": [],
        "metrics": METRICS,
        "arms": [_arm(setting, method, count) for setting in SETTINGS for method in methods],
        "comparisons": [_comparison(setting, method, metric, methods[0], count)
                        for setting in SETTINGS for method in methods[1:] for metric in METRICS],
        "equal_compute": [], "tasks": [], "controls": [], "seeds": [], "categories": [], "failed": [],
        "pairs": pairs,
        "pairs_total": 10 * count,
        "settings": SETTINGS,
    }  # fmt: skip


def _arm(setting: dict[str, Any], method: str, count: int) -> dict[str, Any]:
    number = METHODS.index(method) if method in METHODS else 1
    steps, calls = setting["steps"], 2.0 * number
    known = {"mean": 0.8 + 0.01 * number, "low": 0.79, "high": 0.83, "n": count}
    cost = {"calls_noise": calls, "calls_sampling": steps, "calls_total": steps + calls,
            "encode_ms": 6.4, "noise_ms": 10.0 * number, "sampling_ms": 480.0, "decode_ms": 9.0,
            "total_ms": 495.0 + 10 * number, "peak_bytes": 612 * 2**20, "peak_kind": "process peak (CPU)",
            "select_ms": 0.0, "hardware": "CPU", "from_cache": 0, "n_timed": count, "ratios": NO_RATIOS}  # fmt: skip
    return {**setting, "prompts": "*", "method": method, "n_expected": count, "n": count, "complete": True,
            "is_baseline": number == 0, "metrics": {name: dict(known) for name in METRICS},
            "optimises": [OPTIMISED[1]] if method == OPTIMISED[0] else [],
            "siblings": SIBLINGS if method == OPTIMISED[0] else [], "cost": cost}  # fmt: skip


def _comparison(setting: dict[str, Any], method: str, metric: str, baseline: str, count: int) -> dict[str, Any]:
    return {**setting, "prompts": "*", "method": method, "baseline": baseline, "metric": metric, "n": count,
            "n_prompts": count // 2 or 1, "complete": True, "marked": (method, metric) == OPTIMISED, "sibling": False,
            "delta": 0.02, "low": 0.001, "high": 0.039, "p": 0.03, "p_holm": 0.06, "win": 6, "tie": 1, "loss": 3,
            "win_rate": 0.65, "win_low": 0.5, "win_high": 0.8, "detectable": 0.03, "sd": 0.1, **STRICT}  # fmt: skip


def draw_images(folder: Path, found: dict[str, Any], *, size: int = 64, noise: float = 10.0) -> None:
    """Write every file in images/ that the pairs name: shapes on a plane, with noise that compresses badly."""
    named = {name for pair in found["pairs"] for name in pair["images"].values()}
    names = sorted(name for name in named if name.startswith("images/"))
    for number, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number, size=size, noise=noise).save(file)


def picture(number: int, *, size: int = 64, noise: float = 10.0) -> Image.Image:
    """One RGB picture (size, size) with three shapes and Gaussian noise of `noise` grey levels."""
    draw = random.Random(number)
    image = Image.new("RGB", (size, size), tuple(draw.randint(150, 255) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for shape in (pen.ellipse, pen.rectangle, pen.ellipse):
        x, y, side = (draw.uniform(0.05, 0.6) * size for _ in range(3))
        shape((x, y, x + side, y + side), fill=tuple(draw.randint(0, 255) for _ in range(3)))
    values = np.asarray(image, dtype=np.float32) + np.random.default_rng(number).normal(0, noise, (size, size, 3))
    return Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8))
