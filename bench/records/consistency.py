"""What rows of results name of one another: a file that was edited by hand may name what is not in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.records.document import Results


def faults(results: Results) -> Iterator[str]:
    """What rows name that these results do not have, a line each."""
    metrics = set(results.metrics)
    if not results.runs:
        yield "runs: names no run"
    for number, arm in enumerate(results.arms):
        if missing := sorted(metrics ^ set(arm.metrics)):
            yield f"arms.{number}.metrics: {missing[0]!r} is not in both of this row and `metrics`"
    for name in ("comparisons", "tasks", "seeds", "categories", "controls"):
        for number, row in enumerate(getattr(results, name)):
            if row.metric not in metrics:
                yield f"{name}.{number}.metric: {row.metric!r} is not in `metrics`"
    for number, pair in enumerate(results.pairs):
        if pair.setting >= len(results.settings):
            yield f"pairs.{number}.setting: {pair.setting} of {len(results.settings)} `settings`, which count from 0"
        for run in pair.runs.values():
            if run >= len(results.runs):
                yield f"pairs.{number}.runs: {run} of {len(results.runs)} `runs`, which count from 0"
        for method, scores in pair.scores.items():
            if method not in pair.images or method not in pair.runs:
                yield f"pairs.{number}.scores: {method!r} is not in its `images` and `runs`"
            if absent := sorted(scores.keys() - metrics):
                yield f"pairs.{number}.scores: {absent[0]!r} is not in `metrics`"
    for number, failed in enumerate(results.failed):
        for image in failed.images:
            if image.run >= len(results.runs):
                yield f"failed.{number}.images: run {image.run} of {len(results.runs)} `runs`, which count from 0"
