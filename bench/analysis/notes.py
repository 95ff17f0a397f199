"""What results say in sentences: how their numbers were made, and what of a run is not as a reader expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bench.analysis import failed
from bench.analysis.arms import Measured
from bench.metrics.base import MetricEntry
from bench.records import ArmRow, MetricRow
from bench.store import Ledger, lost_images


def kept_sentence(kept: Mapping[str, Any]) -> str:
    """What a report and a gate say of images of other code that a run keeps; `kept` is as the ledger has it."""
    return (
        f"{kept['images']} of {kept['of']} images were made by other code than today's "
        f"({', '.join(kept['made_by'])}) and kept (--keep-images); changed since: {', '.join(kept['changed'])}."
    )


def shard_sentence(shard: Mapping[str, Any]) -> str:
    """What a report and a gate say of a part of a run; `shard` is as its ledger has it."""
    return f"This is shard {shard['index']} of {shard['of']} of a run, not the whole: `bench merge` joins the shards."


def refused(arms: Sequence[ArmRow], entries: dict[str, MetricEntry]) -> Iterator[str]:
    """One sentence for each set metric that has no value somewhere."""
    for name, entry in entries.items():
        if reasons := [why for arm in arms if (why := arm.metrics[name].refused)]:
            yield f"{entry.title} has no value in {len(reasons)} of {len(arms)} rows of the table: it {reasons[0]}."


def notes(measured: Measured, ledgers: Sequence[Ledger], metrics: dict[str, MetricRow]) -> Iterator[str]:
    images = measured.images
    for ledger in ledgers:
        if shard := ledger.get("shard"):
            yield shard_sentence(shard)
    yield (
        "Times are milliseconds an image, the share of a batch; one throwaway batch a model warms up and is left out. "
        "A chosen image (best_of_n) is charged for all its candidates and their judging, wherever they were made."
    )
    timed = ", ".join(f"{m.title} {m.score_ms:.1f}" for m in metrics.values() if m.score_ms is not None)
    if timed:
        yield (
            f"Scoring took, in milliseconds an image: {timed}. "
            "It is no part of a method's time unless the method chooses."
        )
    for ledger in ledgers:
        yield from ledger.get("left_out") or ()
        if kept := ledger.get("kept"):
            yield kept_sentence(kept)
        sizes = ledger.get("batch_sizes") or ()
        if len(sizes) > 1:
            yield (
                f"Images of {ledger.folder.name} were made in batches of {' and '.join(map(str, sizes))}: low bits of "
                "pixels depend on the batch, and scores with them."
            )
    for name, n in measured.unused.items():
        yield f"{n} scores of {metrics[name].title} are by another version of its scorer and count for nothing."
    for ledger in ledgers:
        for name, reasons in failed.unscored(ledger, {name: m.digest for name, m in metrics.items()}).items():
            yield f"{len(reasons)} scores of {metrics[name].title} failed; the first: {reasons[0]}."
    used = np.unique(np.concatenate([a.made() for a in measured.arms])) if measured.arms else np.array([], int)
    hardware = images.different("hardware", used)
    if len(hardware) > 1:
        yield (
            f"Images come from {len(hardware)} kinds of hardware; "
            f"times count only the most frequent: {sorted(hardware)}"
        )
    cells = np.concatenate([a.made() for a in measured.arms]) if measured.arms else used
    cached = int(images.numbers["from_cache"][cells].sum()) if len(cells) else 0
    if cached:
        yield f"{cached} of {len(cells)} images came from the cache, with the times measured when they were made."
    for ledger in ledgers:
        lost = lost_images(ledger)
        if lost:
            yield (
                f"{lost} image files of {ledger.folder.name} are gone from its folder and cannot be shown; their "
                "scores and times are still in its ledger."
            )
        sessions = len(ledger.sessions())
        if sessions > 1:
            yield f"{ledger.folder.name} was made in {sessions} sessions; provenance is the last one's."
