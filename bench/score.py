"""Images -> score rows, once for each (image digest, prompt, scorer digest); and the choices that scores decide."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bench import registry
from bench.images import read_png
from bench.metrics.base import MetricEntry
from bench.plan import Choice, Plan
from bench.progress import Progress
from bench.prompts.base import Prompt
from bench.store import Image, Ledger

BATCH = 64

Pair = tuple[str, Prompt]
"""An image's job id and the prompt that it is judged against."""


def prompt_key(prompt: Prompt) -> str:
    """16 hex digits of all that a metric sees of a prompt: its text and metadata."""
    text = json.dumps([prompt.text, prompt.metadata and dict(prompt.metadata)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def judges(plan: Plan) -> dict[str, list[Pair]]:
    """What must be scored before choices can be made: candidates by the metric that chooses among them."""
    found: dict[str, list[Pair]] = {}
    for cell in plan.cells:
        choice = plan.choices.get(cell.job_id)
        if choice:
            found.setdefault(choice.metric, []).extend((c, cell.prompt) for c in choice.candidates)
    return found


def arms(plan: Plan) -> dict[str, list[Pair]]:
    """What the suite's metrics judge: every cell's image. A metric that needs metadata skips prompts without."""
    found: dict[str, list[Pair]] = {}
    for name in plan.suite.metrics:
        entry: MetricEntry = registry.get("metrics", name)
        found[name] = [
            (c.job_id, c.prompt) for c in plan.cells if c.prompt.metadata is not None or not entry.needs_metadata
        ]
    return found


def of_run(ledger: Ledger, metric: str) -> list[Pair]:
    """What a metric judges in a run that is there: every cell's image, or those of prompts with metadata."""
    entry: MetricEntry = registry.get("metrics", metric)
    query = "SELECT job_id, prompt_index, prompt, category, metadata FROM cells ORDER BY rowid"
    return [
        (job_id, Prompt(index, text, category, json.loads(metadata) if metadata else None))
        for job_id, index, text, category, metadata in ledger.db.execute(query)
        if metadata or not entry.needs_metadata
    ]


def score(work: dict[str, list[Pair]], ledger: Ledger, *, device: str) -> dict[str, float]:
    """Score what is missing; returns seconds by metric. A killed run keeps every finished batch."""
    images = ledger.images()
    seconds: dict[str, float] = {}
    for name, pairs in work.items():
        entry: MetricEntry = registry.get("metrics", name)
        digest = entry.digest()
        done = ledger.scored(name, digest)
        todo: dict[tuple[str, str], tuple[Image, Prompt]] = {}
        for job_id, prompt in pairs:
            image = images.get(job_id)
            if image and (key := (image.digest, prompt_key(prompt))) not in done:
                todo.setdefault(key, (image, prompt))
        if todo:
            begun = time.perf_counter()
            _score_one(entry, digest, todo, ledger, device)
            seconds[name] = time.perf_counter() - begun
    return seconds


def _score_one(
    entry: MetricEntry, digest: str, todo: dict[tuple[str, str], tuple[Image, Prompt]], ledger: Ledger, device: str
) -> None:
    scorer = entry.scorer(device)
    items = list(todo.items())
    with Progress(f"score {entry.name}", len(items)) as progress:
        for i in range(0, len(items), BATCH):
            batch = items[i : i + BATCH]
            begun = time.perf_counter()
            mend = "delete it and run again, it will be made anew"
            missing = "run the suite again, it will be made anew"
            pixels = [read_png(ledger.folder / image.file, mend=mend, missing=missing) for _, (image, _) in batch]
            values = scorer.score(pixels, [prompt for _, (_, prompt) in batch])
            ms = 1000 * (time.perf_counter() - begun) / len(batch)
            ledger.put_scores(
                (*key, entry.name, digest, v.value, json.dumps(v.detail), ms)
                for (key, _), v in zip(batch, values, strict=True)
            )
            progress.advance(len(batch))


def choose(plan: Plan, ledger: Ledger) -> int:
    """Give every choice the image of its best candidate, at the cost of all of them; returns how many were made.

    The kept candidate's own times stay in their columns; all the others', and the judging, are the noise stage.
    """
    images = ledger.images()
    prompts = {c.job_id: c.prompt for c in plan.cells}
    made: list[Image] = []
    for choice in plan.choices.values():
        if any(c not in images for c in choice.candidates):
            continue
        before = images.get(choice.id)
        if before and before.digest in {images[c].digest for c in choice.candidates}:
            continue  # made before, and none of its candidates was lost and made anew since
        chosen = _choose(choice, prompts[choice.id], [images[c] for c in choice.candidates], ledger)
        if chosen:
            made.append(chosen)
    ledger.put_images(made)
    return len(made)


def _choose(choice: Choice, prompt: Prompt, candidates: list[Image], ledger: Ledger) -> Image | None:
    entry: MetricEntry = registry.get("metrics", choice.metric)
    rows = [_row(ledger, image, prompt, choice) for image in candidates]
    if any(r is None for r in rows):
        return None
    sign = 1 if entry.higher_is_better else -1
    values = [sign * r[0] for r in rows if r]
    best = candidates[values.index(max(values))]
    others = [i for i in candidates if i is not best]
    return replace(
        best,
        job_id=choice.id,
        chosen_from=json.dumps(list(choice.candidates)),
        calls_noise=best.calls_noise + sum(i.calls_noise + i.calls_sampling for i in others),
        noise_ms=best.noise_ms
        + sum(i.noise_ms + i.sampling_ms + i.decode_ms for i in others)
        + sum(r[1] for r in rows if r),
        # A choice is made anew in every run; what came from the cache is its candidates.
        from_cache=max(i.from_cache for i in candidates),
    )


def _row(ledger: Ledger, image: Image, prompt: Prompt, choice: Choice) -> Any:
    query = "SELECT value, ms FROM scores WHERE digest = ? AND prompt = ? AND metric = ? AND scorer = ?"
    key: Iterable[str] = (image.digest, prompt_key(prompt), choice.metric, choice.metric_digest)
    return ledger.db.execute(query, tuple(key)).fetchone()
