"""Tiny collections of noise pairs with a known relation between source and target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import registry
from npnet.pairs import dataset

COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "star")
PROMPTS = tuple(f"a {color} {shape}" for shape in SHAPES for color in COLORS)
"""24 prompts that the embedded model knows the words of."""


def shrunk(source: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
    """0.8 x and a shift that the prompt's shape decides: learnable, and not by a constant factor alone."""
    shift = np.array([0.3 if prompt.endswith(("circle", "star")) else -0.3 for prompt in prompts])
    return 0.8 * source + shift[:, None, None, None]


def protocol(**changes: Any) -> dataset.Protocol:
    """Of 48 pairs in shards of 16, by the embedded model."""
    entry = registry.get("models", "shapes-sdxl")
    fields: dict[str, Any] = {
        "model": "shapes-sdxl",
        "model_digest": entry.digest(),
        "latent": (4, 8, 8),
        "sampler": "ddim",
        "sampler_identity": "ddim 1",
        "steps": 4,
        "guidance": 5.0,
        "teacher": ({"use": "inversion", "version": 1},),
        "prompts": "words",
        "prompts_digest": "0",
        "seeds": (0, 1024),
        "pairs": 48,
        "chunk": 16,
    }
    return dataset.Protocol(**{**fields, **changes})


def collection(
    folder: Path,
    *,
    scores: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    relation: Callable[[np.ndarray, Sequence[str]], np.ndarray] = shrunk,
    prompts: Sequence[str] = PROMPTS,
    seed: int = 0,
    broken: Mapping[int, float] | None = None,
    only: Sequence[int] | None = None,
    calls: float | None = None,
    digest: str = "1",
    **changes: Any,
) -> dataset.Protocol:
    """Write a collection; `scores` has (source, target) a pair, `broken` a value for a target number of a pair.

    Without scores every pair is preferred by "taste", but each fourth, by 1 to 0.
    """
    planned = protocol(**changes)
    if scores is None:
        scores = {"taste": [(1.0, 0.0) if i % 4 == 3 else (0.0, 1.0) for i in range(planned.pairs)]}
    dataset.write_manifest(folder, planned)
    for chunk in range(planned.chunks) if only is None else only:
        members = np.array(planned.members(chunk))
        rng = np.random.default_rng([seed, chunk])
        source = rng.standard_normal((len(members), *planned.latent)).astype(np.float16).astype(np.float32)
        texts = tuple(prompts[i % len(prompts)] for i in members)
        target = relation(source, texts)
        for i, value in (broken or {}).items():
            target[members == i, 0, 0, 0] = value
        shard = dataset.Shard(
            index=members,
            seed=members,
            prompts=texts,
            source=source,
            target=target,
            scores={name: np.array([pairs[i] for i in members]) for name, pairs in scores.items()},
            metric_digests=dict.fromkeys(scores, digest),
            calls=calls,
        )
        dataset.write_shard(folder, planned, chunk, shard)
    return planned
