"""Scorers on a device judge what is missing; those that have a network in common do so batch by batch, together.

So a network that several metrics need is loaded once and run once an image, and each group of scorers is freed before
the next one is loaded. A killed run keeps every finished batch.
"""

from __future__ import annotations

import gc
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np

from bench.errors import UserError
from bench.metrics.base import MetricEntry, PairScorer, Scorer, SetScorer, Value
from bench.metrics.sharing import Memory, remembering
from bench.progress import Progress
from bench.prompts.base import Prompt
from bench.store import Image, Ledger, inside
from bench.store.images import read_png

BATCH = 64

Key = tuple[str, ...]
"""The digests of what is judged and the prompt's key."""
Shown = tuple[list[Image], Prompt]
Loaded = Scorer | PairScorer | SetScorer


@dataclass(frozen=True, eq=False)
class Asked:
    """A metric and what it has not judged yet."""

    entry: MetricEntry
    digest: str
    todo: dict[Key, Shown]


def place(key: Key) -> tuple[str, str, str]:
    """(image, baseline or nothing, prompt), as score failures are kept."""
    return (key[0], key[1], key[2]) if len(key) == 3 else (key[0], "", key[1])


def together(asked: Sequence[Asked]) -> Iterator[list[Asked]]:
    """Metrics in groups: whichever have a network in common, directly or by way of others, are in one group.

    Groups and their members come in the order in which they are asked for.
    """
    rest = [(one, set(one.entry.networks())) for one in asked]
    while rest:
        first, networks = rest.pop(0)
        group = [first]
        while found := next((pair for pair in rest if pair[1] & networks), None):
            rest.remove(found)
            group.append(found[0])
            networks |= found[1]
        yield [one for one in asked if one in group]


def judge(group: Sequence[Asked], ledger: Ledger, device: str) -> dict[str, float]:
    """Judge all that a group of metrics is asked, and free its scorers; returns seconds by metric."""
    started = time.perf_counter()
    for one in group:
        ledger.forget_score_failures((*place(key), one.entry.name, one.digest) for key in one.todo)
    seconds = _judge_all(group, ledger, device)
    _free(device)
    # Loading and reading serve all of them.
    rest = (time.perf_counter() - started - sum(seconds.values())) / len(group)
    return {name: own + rest for name, own in seconds.items()}


def _free(device: str) -> None:
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def _judge_all(group: Sequence[Asked], ledger: Ledger, device: str) -> dict[str, float]:
    scorers = [one.entry.loaded(device) for one in group]
    todo: dict[Key, Shown] = {}
    for one in group:
        todo.update(one.todo)
    items = list(todo.items())
    seconds = dict.fromkeys((one.entry.name for one in group), 0.0)
    shared: Callable[[], AbstractContextManager[Memory | None]] = remembering if len(group) > 1 else nullcontext
    with Progress(f"score {', '.join(seconds)}", len(items)) as progress:
        for i in range(0, len(items), BATCH):
            batch = items[i : i + BATCH]
            started = time.perf_counter()
            pixels = _read(batch, ledger)
            reading = (time.perf_counter() - started) / len(batch)
            with shared() as memory:
                for one, scorer in zip(group, scorers, strict=True):
                    asked = [item for item in batch if item[0] in one.todo]
                    if asked:
                        seconds[one.entry.name] += _judge_batch(one, scorer, asked, pixels, ledger, reading, memory)
            progress.advance(len(batch))
    return seconds


def _read(batch: Iterable[tuple[Key, Shown]], ledger: Ledger) -> dict[str, np.ndarray]:
    """The pixels of a batch's images by digest, each read once."""
    broken = "delete it and run again, which makes it again"
    missing = "run the suite again, which makes it again"
    images = {image.digest: image for _, (shown, _) in batch for image in shown}
    return {
        digest: read_png(inside(ledger.folder, image.file), mend=broken, missing=missing)
        for digest, image in images.items()
    }


def _judge_batch(
    one: Asked,
    scorer: Loaded,
    asked: Sequence[tuple[Key, Shown]],
    pixels: dict[str, np.ndarray],
    ledger: Ledger,
    reading: float,
    memory: Memory | None,
) -> float:
    """Judge a batch and keep what is said of it; returns the seconds that it took.

    What is kept as an image's time is what the metric alone would take: with its share of reading, and of what a
    network that it shares has computed for another metric. A method that chooses by it is priced by that.
    """
    started, spared = time.perf_counter(), memory.spared if memory else 0.0
    entry = one.entry
    kept = _judged(entry, scorer, [[pixels[image.digest] for image in shown] for _, (shown, _) in asked],
                   [prompt for _, (_, prompt) in asked])  # fmt: skip
    spent = time.perf_counter() - started
    alone = spent + (memory.spared - spared if memory else 0.0)
    ms = 1000 * (reading + alone / len(asked))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    judged = [(key, said) for (key, _), said in zip(asked, kept, strict=True)]
    put: Any = {"image": ledger.put_scores, "pair": ledger.put_pair_scores, "set": ledger.put_features}[entry.kind]
    put((*key, entry.name, one.digest, *said, ms) for key, said in judged if not isinstance(said, str))
    ledger.put_score_failures(
        (*place(key), entry.name, one.digest, said, now) for key, said in judged if isinstance(said, str)
    )
    return time.perf_counter() - started


def _judged(
    entry: MetricEntry, scorer: Loaded, pixels: list[list[np.ndarray]], prompts: list[Prompt]
) -> list[tuple[Any, ...] | str]:
    """What the ledger keeps of each: value and detail, or features; or the reason for which it has no score."""
    ours = [shown[0] for shown in pixels]
    if entry.kind == "set":
        return [(row.tobytes(),) for row in _features(entry, cast(SetScorer, scorer), ours, prompts)]
    if entry.kind == "pair":
        values = _preferred(entry, cast(PairScorer, scorer), [shown[1] for shown in pixels], ours, prompts)
    else:
        values = cast(Scorer, scorer).score(ours, prompts)
    return [v.reason or (v.value, json.dumps(v.detail)) for v in values]


def _preferred(
    entry: MetricEntry,
    scorer: PairScorer,
    theirs: list[np.ndarray],
    ours: list[np.ndarray],
    prompts: list[Prompt],
) -> list[Value]:
    """How far each method's image is preferred; where order matters, the mean of both orders."""
    values = scorer.score_pairs(theirs, ours, prompts)
    turned = scorer.score_pairs(ours, theirs, prompts) if entry.both_orders else []
    for value in (*values, *turned):
        if not math.isnan(value.value) and not 0 <= value.value <= 1:
            raise UserError(f"metric {entry.name!r}: score_pairs gave {value.value}, expected 0 to 1; its scorer is "
                            "at fault")  # fmt: skip
    if not turned:
        return values
    return [
        Value(
            (one.value + 1 - other.value) / 2,
            {**other.detail, **one.detail, "orders": [one.value, 1 - other.value]},
        )
        for one, other in zip(values, turned, strict=True)
    ]


def _features(entry: MetricEntry, scorer: SetScorer, images: list[np.ndarray], prompts: list[Prompt]) -> np.ndarray:
    """(B, D) features as the ledger keeps them."""
    found = np.asarray(scorer.features(images, prompts), dtype="<f4")
    if found.ndim != 2 or len(found) != len(images) or not found.shape[1] or not np.isfinite(found).all():
        said = f"features gave shape {found.shape}, expected ({len(images)}, D) and only finite numbers"
        raise UserError(f"metric {entry.name!r}: {said}; its scorer is at fault")
    return found
