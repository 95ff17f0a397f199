"""How far a model's settings move its pixels: `python tests/perf/loading.py [--model NAME] [--device cuda]`.

One row a setting: the largest and the mean difference in grey levels of 255 between images made with it and images made
without, from the same prompts, seeds and latents in fp32, and the seconds of both, in turns in one process. Settings
that this machine cannot have are reported and left out.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from bench import registry
from bench.errors import UserError
from bench.models.base import Family, ModelEntry
from bench.prompts.base import Prompt
from bench.runner.plan import read_prompts
from bench.sampling.records import Item, Sampling
from bench.sampling.session import Session

SETTINGS: dict[str, dict[str, object]] = {
    "again": {},
    "dtype: bf16": {"dtype": "bf16"},
    "dtype: fp16": {"dtype": "fp16"},
    "vae_tiling": {"vae_tiling": True},
    "attention_slicing": {"attention_slicing": True},
    "channels_last": {"channels_last": True},
    "compile": {"compile": True},
    "offload: model": {"offload": "model"},
    "offload: sequential": {"offload": "sequential"},
}


def drawn(family: Family, prompts: list[Prompt]) -> tuple[np.ndarray, float]:
    """Images (n, H, W, 3) uint8 of standard noise by DDIM, and the seconds they took."""
    entry = family.entry
    sampling = Sampling("ddim", entry.steps, entry.guidance, entry.size, family.dtype)
    items = [Item(prompt, 7) for prompt in prompts]
    with torch.inference_mode():
        started = time.perf_counter()
        cond = family.encode([prompt.text for prompt in prompts])
        negative = family.encode_negative("")
        uncond = {name: rows.repeat(len(prompts), *[1] * (rows.ndim - 1)) for name, rows in negative.items()}
        session = Session(family, items, sampling, cond=cond, uncond=uncond)
        return family.decode(session.sample(session.draw())), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="shapes-sdxl")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=16)
    options = parser.parse_args()
    entry: ModelEntry = registry.get("models", options.model)
    prompts = read_prompts("shapes-pickapic")[: options.images]
    plain_family = entry.load(options.device, "fp32")
    drawn(plain_family, prompts)  # the first batch pays for what is made once
    print(f"{options.model}, {len(prompts)} images of {entry.size[0]}x{entry.size[1]}, {options.device}, fp32")
    print("| setting | largest difference | mean difference | time of plain |\n|---|---:|---:|---:|")
    for name, given in SETTINGS.items():
        try:
            other = replace(entry.configured(**given), name=f"{entry.name}, {name}")  # type: ignore[arg-type]
            family = other.load(options.device, other.dtype or "fp32")
            drawn(family, prompts)
            (a, before), (b, after) = drawn(plain_family, prompts), drawn(family, prompts)
        except (UserError, RuntimeError) as error:
            print(f"{name}: left out: {str(error).splitlines()[0]}")
            continue
        apart = np.abs(a.astype(int) - b.astype(int))
        print(f"| `{name}` | {apart.max()} | {apart.mean():.4f} | {after / before:.2f} |")


if __name__ == "__main__":
    main()
