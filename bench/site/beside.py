"""Any two runs side by side, as the data of one page: numbers with intervals, and why some are not compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.site.board import WORDS, Board, Value, boards
from bench.site.sources import Shown


def beside(runs: Sequence[Shown]) -> dict[str, Any]:
    """What `site.js` lays out: the rows of each run, distinguished by protocol and method, with scorers' digests."""
    return {"words": WORDS, "runs": [_run(run) for run in runs]}


def _run(run: Shown) -> dict[str, Any]:
    return {
        "slug": run.slug,
        "title": run.title,
        "digest": run.short,
        "arms": [arm for board in boards([run]) for arm in _arms(board)],
    }


def _arms(board: Board) -> list[dict[str, Any]]:
    protocol = board.protocol
    of = {
        "model": protocol.model,
        "weights": protocol.weights,
        "sampler": protocol.sampler,
        "steps": protocol.steps,
        "guidance": protocol.guidance,
        "prompts": ", ".join(protocol.prompts),
        "images": protocol.images,
        "baseline": protocol.baseline,
        "twin": protocol.twin,
    }
    return [
        {
            "protocol": of,
            "method": row.method,
            "baseline": row.is_baseline,
            "metrics": {c.metric: [c.row.title, c.digest, *_value(v)] for c, v in row.values.items()},
            "calls": _value(row.calls),
            "time": _value(row.time),
        }
        for row in board.rows
    ]


def _value(value: Value) -> list[str]:
    return [value.text + value.mark, value.sub, value.tone]
