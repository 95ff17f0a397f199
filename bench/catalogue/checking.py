"""Scorers against their reference cards, for `doctor --metrics`: compared, or recorded on a new card."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from bench import __version__, registry
from bench.catalogue.cards import FOLDER, Card, Checked, apart, images_digest, judges, read, shown, values, write
from bench.errors import UserError, first_line
from bench.metrics.base import MetricEntry
from bench.suite.scorers import split

_LIBRARIES = ("torch", "transformers", "open-clip-torch", "numpy", "pillow")
_RELATIVE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
"""A new card's tolerance, as a part of the spread of its values: between machines, not between checkpoints."""


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

    `words` says what the checkpoint is; `seeded` that its files are drawn again from a seed.
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


def _lacking(entry: MetricEntry, wanted: Wanted) -> Checked | None:
    """Why a scorer cannot be asked here, as a line; nothing is fetched."""
    if entry.load is None:
        return Checked("note", f"{entry.name}: nothing computes it")
    if not any(judges(entry, one) for one in shown()):
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
