"""Reference cards: what a scorer is known to say of a small set of images that ships with the program.

A card, in `metrics/cards/NAME.json`, states the checkpoint by the metric's digest, the precision, the values, who or
what computed them, and how far another machine's may be from them. `doctor --metrics` compares; `--record` writes one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import UserError
from bench.metrics.base import MetricEntry, Value
from bench.prompts.base import Prompt
from bench.store import write_atomically
from bench.store.images import pixel_digest, read_png

FOLDER = Path(__file__).parents[1] / "metrics" / "cards"
IMAGES = FOLDER / "images"
SCENES = "scene"
"""The kind of images that the embedded world's scorers know; all scorers of real models are shown every image."""


class Card(BaseModel):
    """What one scorer says of the images."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    checkpoint: str
    """The scorer's weights, in words."""
    digest: str | None
    """Of the metric on that checkpoint; None where the files are drawn again from a seed: their bytes may differ."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Of the networks."""
    images: str
    """The digest of the images and prompts that the values are of."""
    values: list[float | None]
    """One an image; of a metric of pairs, the preference for an image over the next one; of a metric of sets, the
    length of the image's features. None where the metric does not judge the image."""
    tolerance: float
    """The largest difference that is none."""
    by: str
    """Who or what computed them."""
    versions: dict[str, str] = {}
    """Of the libraries that it was done with."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    metric: str
    cards: list[Card]


@dataclass(frozen=True)
class Shown:
    """An image that cards are about."""

    kind: str
    pixels: np.ndarray
    prompt: Prompt


@dataclass(frozen=True)
class Checked:
    """What became of a scorer: `ok`, `differs`, `missing`, `note` (nothing to compare with) or `wrote`."""

    state: Literal["ok", "differs", "missing", "note", "wrote"]
    line: str

    @property
    def text(self) -> str:
        return f"{self.state:8} {self.line}"


@cache
def shown() -> tuple[Shown, ...]:
    """The images with their prompts, in the order of the cards' values."""
    rows: list[dict[str, Any]] = json.loads((IMAGES / "images.json").read_text(encoding="utf-8"))
    advice = "install the program again"
    return tuple(
        Shown(
            row["kind"],
            read_png(IMAGES / row["file"], advice=advice),
            Prompt(i, row["prompt"], row.get("category", ""), row.get("metadata")),
        )
        for i, row in enumerate(rows)
    )


def images_digest() -> str:
    """16 hex digits of the images and prompts."""
    content = [[pixel_digest(one.pixels), one.prompt.text, one.prompt.metadata] for one in shown()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def read(metric: str, folder: Path = FOLDER) -> list[Card]:
    """A metric's cards; UserError where their file is none."""
    path = folder / f"{metric}.json"
    try:
        return _File.model_validate_json(path.read_bytes()).cards
    except FileNotFoundError:
        return []
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: not a file of reference cards: {place}: {first['msg']}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give another --cards FOLDER") from error


# Computing -----------------------------------------------------------------------------------------------------------


def values(entry: MetricEntry, device: str) -> list[float | None]:
    """What a scorer says of each image; None for those that it does not judge. UserError where a score fails."""
    judged = [i for i, one in enumerate(shown()) if judges(entry, one)]
    pixels, prompts = [shown()[i].pixels for i in judged], [shown()[i].prompt for i in judged]
    assert entry.load is not None
    scorer: Any = entry.load(device)
    if entry.kind == "set":
        found = [float(n) for n in np.linalg.norm(np.float64(scorer.features(pixels, prompts)), axis=1)]
    elif entry.kind == "pair":
        found = [_number(v, entry) for v in scorer.score_pairs([*pixels[1:], pixels[0]], pixels, prompts)]
    else:
        found = [_number(v, entry) for v in scorer.score(pixels, prompts)]
    known = dict(zip(judged, found, strict=True))
    return [known.get(i) for i in range(len(shown()))]


def judges(entry: MetricEntry, one: Shown) -> bool:
    """Whether a metric judges an image of the cards."""
    return entry.judges(one.prompt.metadata) and (not entry.twin_of or one.kind == SCENES)


def _number(value: Value, entry: MetricEntry) -> float:
    if value.reason:
        raise UserError(f"metric {entry.name!r}: a score failed: {value.reason}")
    return value.value


def apart(card: Card, found: Sequence[float | None]) -> float:
    """The largest difference from a card's values; infinite where other images were judged."""
    if [v is None for v in found] != [v is None for v in card.values]:
        return float("inf")
    pairs = zip(found, card.values, strict=True)
    return max((abs(a - b) for a, b in pairs if a is not None and b is not None), default=0.0)


def write(metric: str, card: Card, folder: Path = FOLDER) -> Path:
    """Keep a card beside the metric's others, in the place of one for the same checkpoint and precision."""
    same = (card.digest, card.precision, card.checkpoint if card.digest is None else "")
    others = [
        c for c in read(metric, folder)
        if (c.digest, c.precision, c.checkpoint if c.digest is None else "") != same
    ]  # fmt: skip
    path = folder / f"{metric}.json"
    data = _File(metric=metric, cards=[*others, card]).model_dump(mode="json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); give --cards FOLDER") from error
    return path
