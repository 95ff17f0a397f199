"""Ledgers with scores of the test's own choosing: what every later stage reads, without making images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import registry, suite
from bench.prompts.base import Prompt
from bench.runner.score import prompt_key
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
    given = suite.parse(
        f"name: made\nmodels: [shapes-sdxl]\nprompts: [{', '.join(sets)}]\nsamplers: [ddim]\nsteps: {steps}\n"
        f"guidance: 5.0\nbaseline: standard\nseeds: {list(seeds)}\nmetrics: [{', '.join(metrics)}]\n"
        f"methods:\n  - standard\n{arms}",
        file="made",
    )
    ledger = Ledger(folder, create=True)
    ledger.set("suite", given.model_dump(mode="json"))
    ledger.set("optimises", {m: {"shapes-sdxl": []} for m in methods})
    ledger.db.execute("INSERT INTO sessions (started, provenance) VALUES ('2026-01-01T00:00:00', '{}')")
    metadata = METADATA if described else None
    cells: list[tuple[Any, ...]] = []
    images: list[Image] = []
    scores: list[tuple[str, str, str, str, float, str, float]] = []
    for method in methods:
        for name in sets:
            for index in range(prompts):
                prompt = text.format(index=f"{index} of {name}")
                key = prompt_key(Prompt(index, prompt, category(index), metadata))
                for seed in seeds:
                    digest = hashlib.sha256(f"{method} {name} {index} {seed} {steps} {version}".encode()).hexdigest()
                    job = digest[:32]
                    cells.append((method, "shapes-sdxl", name, "ddim", steps, 5.0, index, seed, prompt, category(index),
                                  json.dumps(metadata) if metadata else None, job))  # fmt: skip
                    if missing(method, index):
                        continue
                    cost: dict[str, Any] = {
                        "calls_noise": 0, "calls_sampling": steps, "encode_ms": 1.0, "noise_ms": 2.0,
                        "sampling_ms": 30.0, "decode_ms": 3.0, **times(method, len(images)),
                    }  # fmt: skip
                    file = f"images/{job}.png"
                    images.append(Image(job_id=job, digest=digest, file=file, peak_bytes=2**20, peak_kind="rss",
                                        batch=4, hardware="test", latent_digest="", created="", **cost))  # fmt: skip
                    for metric in metrics:
                        value = score(method, name, index, seed, metric)
                        if value is not None:
                            scorer = registry.get("metrics", metric).digest()
                            scores.append((digest, key, metric, scorer, value, "{}", 1.0))
    ledger.put_cells(cells)
    ledger.put_images(images)
    ledger.put_scores(scores)
    return ledger
