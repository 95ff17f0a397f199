"""A group of scorers in work: batches of images -> what the ledger keeps of each, with the time that it took.

Nothing is written here: whoever asked, in this process or another, keeps what is said.
"""

from __future__ import annotations

import gc
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from bench import registry
from bench.backoff import Backoff
from bench.errors import UserError
from bench.metrics.base import MetricEntry, PairScorer, Scorer, SetScorer, Value
from bench.metrics.sharing import Memory, remembering
from bench.prompts.base import Prompt
from bench.runner.faults import contained, of_scorer
from bench.runner.limits import limited
from bench.store.images import pixel_digest, read_png

Key = tuple[str, ...]
"""The digests of what is judged and the prompt's key."""
Loaded = Scorer | PairScorer | SetScorer
AGAIN = "run the suite again, which makes it again"


class Item(NamedTuple):
    """Something to judge: the images of a key and their prompt, and the metrics that are asked."""

    key: Key
    shown: tuple[str, ...]
    """Digests of the image, or of the method's and the baseline's."""
    prompt: Prompt
    metrics: tuple[str, ...]


class File(NamedTuple):
    """An image's file: its content, and its path for messages."""

    path: str
    content: bytes


class Ask(NamedTuple):
    """A batch for a panel."""

    items: tuple[Item, ...]
    files: Mapping[str, File]
    """The images, by digest."""


class Said(NamedTuple):
    """What one metric says of a batch."""

    metric: str
    kept: list[tuple[Key, tuple[Any, ...] | str]]
    """By key: value and detail, or features; or the reason for which there is no score."""
    ms: float
    """An image's, as the metric alone would take."""
    seconds: float
    """The batch's."""


@dataclass(frozen=True)
class Judging:
    """How a worker comes to judge by a group of metrics."""

    metrics: tuple[str, ...]
    device: str
    seconds: float | None = None
    """The most that the score of an image may take."""

    def open(self) -> Panel:
        return Panel([registry.get("metrics", name) for name in self.metrics], self.device, self.seconds)


class Panel:
    """The scorers of a group, loaded; those that have a network in common run it once an image."""

    def __init__(self, entries: Sequence[MetricEntry], device: str, seconds: float | None = None):
        """UserError where a scorer lacks something; one whose code fails has no scores, and the others have theirs."""
        self.device, self.seconds = device, seconds
        self.backoff = Backoff()
        """By metric: a scorer of a plugin is given fewer images at once too, where so many do not fit."""
        self.scorers: list[tuple[MetricEntry, Loaded | str]] = [(one, _loaded(one, device)) for one in entries]

    def do(self, ask: Ask) -> Callable[[], list[Said]]:
        """Judge a batch by every metric that is asked."""
        started = time.perf_counter()
        pixels = {digest: _pixels(digest, file) for digest, file in ask.files.items()}
        reading = (time.perf_counter() - started) / len(ask.items)
        shared: Callable[[], AbstractContextManager[Memory | None]]
        shared = remembering if len(self.scorers) > 1 else nullcontext
        said: list[Said] = []
        with shared() as memory:
            for entry, scorer in self.scorers:
                items = [item for item in ask.items if entry.name in item.metrics]
                if items:
                    said.append(self._said(entry, scorer, items, pixels, reading, memory))
        return lambda: said

    def _said(
        self,
        entry: MetricEntry,
        scorer: Loaded | str,
        items: Sequence[Item],
        pixels: Mapping[str, np.ndarray],
        reading: float,
        memory: Memory | None,
    ) -> Said:
        """What a metric says of a batch; where its code fails, why none of it has a score.

        What is kept as an image's time is what the metric alone would take: with its share of reading, and of what a
        network that it shares has computed for another metric. A method that chooses by it is priced by that.
        """
        if isinstance(scorer, str):
            return Said(entry.name, [(item.key, scorer) for item in items], 0.0, 0.0)
        started, spared = time.perf_counter(), memory.spared if memory else 0.0
        over = f"its score took more than {self.seconds or 0:g} s an image, the limit of --score-seconds"
        kept: Sequence[tuple[Any, ...] | str]
        try:
            with limited(None if self.seconds is None else self.seconds * len(items), over):
                kept = self._in_parts(entry, scorer, items, pixels)
        except BaseException as error:
            if not contained(error):
                raise
            kept = [of_scorer(error)] * len(items)
        spent = time.perf_counter() - started
        alone = spent + (memory.spared - spared if memory else 0.0)
        said = [(item.key, one) for item, one in zip(items, kept, strict=True)]
        return Said(entry.name, said, 1000 * (reading + alone / len(items)), spent)

    def _in_parts(
        self, entry: MetricEntry, scorer: Loaded, items: Sequence[Item], pixels: Mapping[str, np.ndarray]
    ) -> list[tuple[Any, ...] | str]:
        """`_judged` in parts that fit the device's memory; an item that does not fit alone has no score."""
        kept: list[tuple[Any, ...] | str] = []
        one = "pair of images" if entry.kind == "pair" else "image"
        too_large = f"one {one} does not fit the memory of {self.device}"

        def judge(part: Sequence[Item]) -> None:
            import torch

            try:
                kept.extend(_judged(entry, scorer, [[pixels[digest] for digest in item.shown] for item in part],
                                    [item.prompt for item in part]))  # fmt: skip
            except torch.OutOfMemoryError:
                if len(part) > 1:
                    raise
                kept.append(too_large)

        self.backoff.parts(items, judge, of=entry.name, too_large=too_large)
        return kept

    def close(self) -> None:
        self.scorers.clear()
        gc.collect()
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()


def _loaded(entry: MetricEntry, device: str) -> Loaded | str:
    """A metric's scorer, or why its code does not load it."""
    try:
        return entry.loaded(device)
    except UserError:
        raise
    except BaseException as error:
        if not contained(error):
            raise
        return of_scorer(error)


def _pixels(digest: str, file: File) -> np.ndarray:
    """An image as it was recorded; UserError where its file shows another."""
    pixels = read_png(Path(file.path), advice=AGAIN, data=file.content)
    if pixel_digest(pixels) != digest:
        raise UserError(f"{file.path}: its pixels are not those that were recorded; {AGAIN}")
    return pixels


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
    if len(values) != len(ours):
        raise UserError(f"metric {entry.name!r}: {len(values)} scores of {len(ours)} images; its scorer is at fault")
    return [v.reason or (float(v.value), _written(v.detail)) for v in values]


def _written(detail: Mapping[str, Any]) -> str:
    """A score's details as JSON; numbers of numpy as Python's, and what has no form there as it is printed."""
    return json.dumps(detail, default=lambda one: one.tolist() if hasattr(one, "tolist") else str(one))


def _share(value: Value) -> Value:
    """A value from 0 to 1, or the reason why it is none."""
    if math.isnan(value.value) or 0 <= value.value <= 1:
        return value
    return Value.failed(f"score_pairs gave {value.value}, expected 0 to 1; its scorer is at fault")


def _preferred(
    entry: MetricEntry,
    scorer: PairScorer,
    theirs: list[np.ndarray],
    ours: list[np.ndarray],
    prompts: list[Prompt],
) -> list[Value]:
    """How far each method's image is preferred; where order matters, the mean of both orders."""
    values = [_share(value) for value in scorer.score_pairs(theirs, ours, prompts)]
    turned = [_share(value) for value in scorer.score_pairs(ours, theirs, prompts)] if entry.both_orders else []
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
