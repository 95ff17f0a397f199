"""Run folders written by hand: the ledger of a run whose every score, time and digest the test chooses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from suite_texts import TWO_ARMS, suite_text

from bench.prompts.base import Prompt
from bench.runner.score import prompt_key
from bench.store import Image, Ledger
from bench.suite import Suite, parse

SUITE = suite_text(TWO_ARMS)
PROVENANCE: dict[str, Any] = {
    "version": "0.1", "commit": "c0ffee", "dirty": False, "command": "python -m bench run made.yaml",
    "python": "3.12.0", "platform": "Linux", "packages": {"torch": "2.6"}, "hardware": "a cpu", "cpu": "a cpu",
    "device": "cpu", "weights": {"shapes-sdxl": "m0", "shapes-preference": "s0"},
}  # fmt: skip


@dataclass(frozen=True)
class Spot:
    """Where a cell stands, for what a test decides by it."""

    method: str
    prompts: str
    steps: int
    index: int
    seed: int


def image(**changed: Any) -> Image:
    """An image's record; `file` and, unless given, `job_id` and `digest` follow from its place."""
    plain = Image(
        job_id="", digest="", file="", calls_noise=0, calls_sampling=4, encode_ms=1.0, noise_ms=1.0, sampling_ms=10.0,
        decode_ms=2.0, peak_bytes=2**30, peak_kind="process peak (CPU)", batch=4, hardware="a cpu", latent_digest="l",
        created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    return replace(plain, **changed)


def stored_image(job_id: str = "a" * 32, **changed: Any) -> Image:
    """An image's record with a name and a digest, as a finished run has it."""
    return image(**{"job_id": job_id, "digest": "d" * 64, "file": f"images/{job_id}.png"} | changed)


def make(
    folder: Path,
    score: Callable[[Spot], float | dict[str, float] | None],
    *,
    suite: str = SUITE,
    n: int = 4,
    texts: Callable[[str, int], str] = "{} {}".format,
    metadata: Callable[[str, int], Any] = lambda prompts, index: None,
    category: Callable[[int], str] = lambda index: "",
    images: Callable[[Spot], Image | None] = lambda spot: image(),
    provenance: dict[str, Any] | None = None,
    scorers: dict[str, str] | None = None,
    finished: bool = True,
    seeds: Sequence[int] | None = None,
    optimises: dict[str, Any] | None = None,
    files: bool = True,
) -> Path:
    """A run of `n` prompts a set; `score` gives a cell's values by metric (or the first metric's, or none).

    `files` puts one with the head of a PNG in the place of each image.
    """
    parsed = parse(suite, file="made.yaml")
    ledger = Ledger(folder, create=True)
    spots = [
        (Spot(spec.label, prompts, steps, index, seed), model, sampler, guidance)
        for spec in parsed.methods
        for model in parsed.models
        for prompts in parsed.prompts
        for sampler in parsed.samplers
        for steps in parsed.steps or ()
        for guidance in parsed.guidance or ()
        for index in range(n)
        for seed in seeds or parsed.seeds
    ]
    names = {label: label for label in parsed.metrics} if scorers is None else scorers
    cells, made, scores = [], [], []
    for number, (spot, model, sampler, guidance) in enumerate(spots):
        text, data = texts(spot.prompts, spot.index), metadata(spot.prompts, spot.index)
        found, kind = images(spot), category(spot.index)
        job = (found.job_id if found else "") or f"{number:032x}"
        described = json.dumps(data, sort_keys=True) if data is not None else None
        cells.append((spot.method, model, spot.prompts, sampler, spot.steps, guidance, spot.index, spot.seed, text,
                      kind, described, job))  # fmt: skip
        if found is None:
            continue
        found = replace(found, job_id=job, file=f"images/{job}.png", digest=found.digest or f"{folder.name} {job}")
        made.append(found)
        values = score(spot)
        by_metric = values if isinstance(values, dict) else {} if values is None else {parsed.metrics[0]: values}
        key = prompt_key(Prompt(spot.index, text, kind, data))
        scores += [(found.digest, key, name, names.get(name, name), v, "{}", 1.0) for name, v in by_metric.items()]
    _write(ledger, parsed, cells=cells, made=made, scores=scores, files=files)
    ledger.set("optimises", optimises or {})
    record = json.dumps(PROVENANCE if provenance is None else provenance)
    ledger.db.execute("INSERT INTO sessions (started, provenance) VALUES ('2026-01-01T00:00:00+00:00', ?)", (record,))
    if finished:
        ledger.set("finished", "yes")
    ledger.close()
    return folder


def _write(
    ledger: Ledger, suite: Suite, *, cells: list[Any], made: list[Image], scores: list[Any], files: bool
) -> None:
    ledger.set("suite", suite.model_dump(mode="json"))
    ledger.put_cells(cells)
    ledger.put_images(made)
    ledger.put_scores(scores)
    if files:
        (ledger.folder / "images").mkdir()
        for one in made:
            (ledger.folder / one.file).write_bytes(b"\x89PNG\r\n\x1a\n")
