"""Reference cards: what a scorer is known to say of a small set of images that ships with the program.

A card, in `metrics/cards/NAME.json`, states the checkpoint by the metric's digest, the precision, the values, who or
what computed them, and how far another machine's may be from them. `doctor --metrics` compares; `--record` writes one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from bench import __version__, registry
from bench.errors import UserError, first_line
from bench.metrics.base import MetricEntry, Value
from bench.prompts.base import Prompt
from bench.store import write_atomically
from bench.store.images import pixel_digest, read_png
from bench.suite.scorers import split

FOLDER = Path(__file__).parents[1] / "metrics" / "cards"
IMAGES = FOLDER / "images"
SCENES = "scene"
"""The kind of images that the embedded world's scorers know; all scorers of real models are shown every image."""
_LIBRARIES = ("torch", "transformers", "open-clip-torch", "numpy", "pillow")
_RELATIVE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
"""A new card's tolerance, as a part of the spread of its values: between machines, not between checkpoints."""


class Card(BaseModel):
    """What one scorer says of the images."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    checkpoint: str
    """The scorer's weights, in words."""
    digest: str | None
    """Of the metric on that checkpoint; None where the files are made anew from a seed: their bytes may differ."""
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
    def told(self) -> str:
        return f"{self.state:8} {self.line}"


@cache
def shown() -> tuple[Shown, ...]:
    """The images with their prompts, in the order of the cards' values."""
    rows: list[dict[str, Any]] = json.loads((IMAGES / "images.json").read_text(encoding="utf-8"))
    mend = "install the program again"
    return tuple(
        Shown(
            row["kind"],
            read_png(IMAGES / row["file"], mend=mend),
            Prompt(i, row["prompt"], row.get("category", ""), row.get("metadata")),
        )
        for i, row in enumerate(rows)
    )


def images_digest() -> str:
    """16 hex digits of the images and prompts."""
    told = [[pixel_digest(one.pixels), one.prompt.text, one.prompt.metadata] for one in shown()]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


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
    judged = [i for i, one in enumerate(shown()) if _judges(entry, one)]
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


def _judges(entry: MetricEntry, one: Shown) -> bool:
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


# Checking ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """A scorer to check: a metric's name and the user's settings of it."""

    metric: str
    checkpoint: str | None = None
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    package: bool = False
    """Whether the original package computes the values; the card is our own scorer's all the same."""

    def entries(self) -> tuple[MetricEntry, MetricEntry]:
        """(the scorer that computes, the scorer whose card it is)."""
        entry: MetricEntry = registry.get("metrics", self.metric)
        configured = self.checkpoint is not None or self.precision != "fp32"
        ours = entry.configured(self.checkpoint, self.precision) if configured else entry
        return (entry.configured(self.checkpoint, "fp32", "package") if self.package else ours), ours


def checked(
    metrics: Sequence[str],
    *,
    precision: Literal["fp32", "fp16", "bf16"],
    package: bool,
    device: str,
    record: bool,
    folder: Path,
) -> Iterator[Checked]:
    """Scorers, as `NAME` or `NAME=FOLDER`, or all, compared with their cards or recorded, one after the other.

    UserError, before any is asked, for a name or a folder that is none. Nothing is fetched.
    """
    # Read when the hub's libraries are imported, which is when the first scorer looks for its files.
    os.environ["HF_HUB_OFFLINE"] = "1"
    names, folders = split(metrics)
    wanted = [Wanted(n, folders.get(n), precision, package) for n in names or registry.names("metrics")]
    for one in wanted:
        one.entries()
    for one in wanted:
        yield (keep if record else check)(one, device=device, folder=folder)


def check(wanted: Wanted, *, device: str, folder: Path = FOLDER) -> Checked:
    """Compare a scorer with its card."""
    name = wanted.metric
    asks, ours = wanted.entries()
    if lacking := _lacking(asks, wanted):
        return lacking
    cards = [c for c in read(name, folder) if c.digest == ours.identify() and c.precision == wanted.precision]
    if not cards:
        return Checked("note", f"{name}: no card for this checkpoint ({ours.identify()}); --record writes one")
    if cards[0].images != images_digest():
        return Checked("note", f"{name}: its card is of other images; --record writes it again")
    found = values(asks, device)
    most = apart(cards[0], found)
    said = f"{name}: {cards[0].checkpoint}, {wanted.precision}: largest difference {most:.2g}, tolerance "
    said += f"{cards[0].tolerance:.2g}; values by {cards[0].by}"
    return Checked("ok" if most <= cards[0].tolerance else "differs", said)


def keep(
    wanted: Wanted, *, device: str, folder: Path = FOLDER, words: str | None = None, seeded: bool = False
) -> Checked:
    """Write a scorer's card in the place of the one for the same checkpoint and precision.

    `words` says what the checkpoint is; `seeded` that its files are made anew from a seed.
    """
    asks, ours = wanted.entries()
    if lacking := _lacking(asks, wanted):
        return lacking
    found = values(asks, device)
    judged = [v for v in found if v is not None]
    spread = max(judged) - min(judged)
    by, versions = _by(wanted, device)
    card = Card(
        checkpoint=words or ("the user's" if wanted.checkpoint else "as published or shipped"),
        digest=None if seeded else ours.identify(),
        precision=wanted.precision,
        images=images_digest(),
        values=[None if v is None else round(v, 9) for v in found],
        tolerance=float(f"{max(_RELATIVE[wanted.precision] * spread, 1e-6):.1g}"),
        by=by,
        versions=versions,
    )
    path = write(wanted.metric, card, folder)
    return Checked("wrote", f"{wanted.metric}: {len(judged)} values in {path}")


def write(metric: str, card: Card, folder: Path = FOLDER) -> Path:
    """Keep a card beside the metric's others, in the place of one for the same checkpoint and precision."""
    same = (card.digest, card.precision, card.checkpoint if card.digest is None else "")
    others = [
        c for c in read(metric, folder)
        if (c.digest, c.precision, c.checkpoint if c.digest is None else "") != same
    ]  # fmt: skip
    path = folder / f"{metric}.json"
    told = _File(metric=metric, cards=[*others, card]).model_dump(mode="json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); give --cards FOLDER") from error
    return path


def _lacking(entry: MetricEntry, wanted: Wanted) -> Checked | None:
    """Why a scorer cannot be asked here, as a line; nothing is fetched."""
    if entry.load is None:
        return Checked("note", f"{entry.name}: nothing computes it")
    if not any(_judges(entry, one) for one in shown()):
        return Checked("note", f"{entry.name}: it judges none of the images, for none has prompts of its kind")
    absent = [need for need in entry.needs() if not need.source.here()]
    if absent:
        ways = dict.fromkeys(need.source.command or "python -m bench fetch SUITE" for need in absent)
        own = f", or --metrics {entry.name}=FOLDER" if entry.configure and not wanted.checkpoint else ""
        what = ", ".join(need.what for need in absent)
        return Checked("missing", f"{entry.name}: not on this machine ({what}): {'; '.join(ways)}{own}")
    try:
        # Features are compared without the reference that a metric of sets needs for its value.
        if entry.kind != "set":
            entry.check_here()
        elif entry.fetch is not None:
            entry.fetch()
    except UserError as error:
        return Checked("missing", first_line(error))
    return None


def _by(wanted: Wanted, device: str) -> tuple[str, dict[str, str]]:
    """Who computes the values, and the versions of the libraries that it is done with."""
    on = device.partition(":")[0]
    if wanted.package:
        from bench.environments import pinned
        from bench.metrics.worker import PACKAGES

        name = PACKAGES[wanted.metric]
        versions = pinned(name)
        return f"the package {name} {versions[name]}, {on}", {n: versions[n] for n in _LIBRARIES if n in versions}
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name).split("+")[0]
        except PackageNotFoundError:
            continue
    return f"noisebench {__version__}, {on}", found
