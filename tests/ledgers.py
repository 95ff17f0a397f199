"""Ledgers of one standard arm and others, with scores of the test's own choosing: `handmade.make` in fewer words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from handmade import Spot, image, make

from bench import registry
from bench.store import Image, Ledger

METADATA = {"tag": "single_object", "include": [{"class": "circle", "count": 1}]}
Score = Callable[[str, str, int, int, str], float | None]
"""(method, prompt set, prompt index, seed, metric) -> score, or None where there is none."""


def write_ledger(
    folder: Path,
    score: Score,
    *,
    methods: Sequence[str] = ("standard", "reseed"),
    sets: Sequence[str] = ("shapes-drawbench",),
    prompts: int = 20,
    seeds: Sequence[int] = (0,),
    steps: int = 10,
    metrics: Sequence[str] = ("shapes-preference",),
    category: Callable[[int], str] = lambda index: "",
    described: bool = False,
    times: Callable[[str, int], dict[str, float]] = lambda method, number: {},
    version: str = "",
    text: str = "a circle, take {index}",
    missing: Callable[[str, int], bool] = lambda method, index: False,
) -> Ledger:
    """A run folder's ledger. `version` stands for all that decides pixels beside the method; `missing` images are
    not there. Methods other than `standard` are all `reseed` under that name."""
    arms = "\n".join(f"  - {{use: reseed, name: {m}}}" for m in methods if m != "standard")
    given = (
        f"name: made\nmodels: [shapes-sdxl]\nprompts: [{', '.join(sets)}]\nsamplers: [ddim]\nsteps: {steps}\n"
        f"guidance: 5.0\nbaseline: standard\nseeds: {list(seeds)}\nmetrics: [{', '.join(metrics)}]\n"
        f"methods:\n  - standard\n{arms}"
    )
    made = count()

    def images(spot: Spot) -> Image | None:
        if missing(spot.method, spot.index):
            return None
        place = f"{spot.method} {spot.prompts} {spot.index} {spot.seed} {steps} {version}"
        digest = hashlib.sha256(place.encode()).hexdigest()
        plain: dict[str, Any] = {"noise_ms": 2.0, "sampling_ms": 30.0, "decode_ms": 3.0, "calls_sampling": steps,
                                 "peak_bytes": 2**20, "peak_kind": "rss"}  # fmt: skip
        return image(**plain | {"job_id": digest[:32], "digest": digest} | times(spot.method, next(made)))

    def scores(spot: Spot) -> dict[str, float]:
        found = {m: score(spot.method, spot.prompts, spot.index, spot.seed, m) for m in metrics}
        return {m: value for m, value in found.items() if value is not None}

    make(
        folder,
        scores,
        suite=given,
        n=prompts,
        texts=lambda name, index: text.format(index=f"{index} of {name}"),
        metadata=lambda name, index: METADATA if described else None,
        category=category,
        images=images,
        provenance={},
        scorers={metric: registry.get("metrics", metric).digest() for metric in metrics},
        finished=False,
        files=False,
        optimises={m: {"shapes-sdxl": []} for m in methods},
    )
    return Ledger(folder)
