"""A whole run as columns: a million scores are numbers from SQLite on, and no text of them is read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.store.reading import SCORE_TABLES
from bench.store.rows import CALLS, EVALUATIONS, TIMES, ArmKey

if TYPE_CHECKING:
    from bench.store.ledger import Ledger

COSTS = (
    "job_id", "digest", "file", "hardware", "peak_kind", *TIMES, *CALLS, "peak_bytes", "from_cache"
)  # fmt: skip
CELLS = ("prompt_index", "seed", "prompt", "category", "metadata", "job_id")
_DECIDED = ("noise", "sampling", "select")
"""The stages that a method decides."""


def image_costs(ledger: Ledger) -> dict[str, Sequence[Any]]:
    """Every finished image as columns by name: those of `COSTS`, and `EVALUATIONS` in the stages a method decides."""
    rows = ledger.db.execute(f"SELECT {', '.join(COSTS)}, cost FROM images").fetchall()
    *found, costs = zip(*rows, strict=True) if rows else [()] * (len(COSTS) + 1)
    counts = zip(*map(_evaluations, costs), strict=True) if rows else [()] * len(EVALUATIONS)
    return dict(zip((*COSTS, *EVALUATIONS), (*found, *counts), strict=True))


@lru_cache(maxsize=2**12)
def _evaluations(cost: str) -> tuple[float, ...]:
    """The counts of a cost record (`bench.sampling.meter.Cost.record`); images of one batch, side by side, have one."""
    try:
        record = json.loads(cost)
        stages = [record.get(stage) or {} for stage in _DECIDED]
        return tuple(sum(stage.get(kind) or 0 for stage in stages) for kind in EVALUATIONS)
    except (ValueError, TypeError, AttributeError) as error:
        raise sqlite3.DatabaseError(f"an image's cost is not a cost record ({error})") from error


def arm_cells(ledger: Ledger, of: ArmKey) -> dict[str, Sequence[Any]]:
    """The cells of one arm as columns by name, those of `CELLS`."""
    where = "method = ? AND model = ? AND prompts = ? AND sampler = ? AND steps = ? AND guidance = ?"
    rows = ledger.db.execute(f"SELECT {', '.join(CELLS)} FROM cells WHERE {where}", of).fetchall()
    return dict(zip(CELLS, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(CELLS, ())


class Scores(NamedTuple):
    """Scores of single images as columns, one image's after the other's."""

    images: list[tuple[str, str]]
    """(image digest, prompt key), each once."""
    image: NDArray[np.int64]
    """Whose each score is, (n,), as a number in `images`."""
    metric: NDArray[np.int16]
    """The number of its metric among those asked for, (n,); -1 for another one."""
    ours: NDArray[np.bool_]
    """Whether it is by that metric's scorer, (n,)."""
    value: NDArray[np.float64]
    ms: NDArray[np.float64]
    """NaN where it was not measured."""


_SCORE = np.dtype([("code", np.int16), ("value", np.float64), ("ms", np.float64)])


def image_scores(ledger: Ledger, scorers: Mapping[str, str]) -> Scores:
    """Every score of single images; `scorers` are the metrics asked for, with the digest of each one's scorer.

    A score's metric and scorer are compared in SQLite and come as one small number, and its image is counted along the
    table's own order: a row without a text takes a third of the time.
    """
    codes = " ".join(f"WHEN ? THEN {2 * number} + (scorer = ?)" for number in range(len(scorers)))
    code = f"CASE metric {codes} ELSE -1 END" if scorers else "-1"
    # The order is that of the primary key, so that nothing is sorted.
    counted = "SELECT digest, prompt, COUNT(*) FROM scores GROUP BY digest, prompt ORDER BY digest, prompt"
    written = f"SELECT {code}, value, ms FROM scores ORDER BY digest, prompt, metric, scorer"
    with _one_moment(ledger.db) as db:
        found = db.execute(counted).fetchall()
        rows = db.execute(written, [*chain.from_iterable(scorers.items())])
        table = np.fromiter(rows, dtype=_SCORE)
    counts = np.array([n for _, _, n in found], dtype=np.int64)
    return Scores(
        images=[(digest, prompt) for digest, prompt, _ in found],
        image=np.repeat(np.arange(len(found)), counts),
        metric=table["code"] >> 1,
        ours=(table["code"] & 1).astype(bool) & (table["code"] >= 0),
        value=table["value"],
        ms=table["ms"],
    )


@contextmanager
def _one_moment(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Within, all is read as it was at one moment, whatever another process writes meanwhile."""
    if db.in_transaction:
        yield db
        return
    db.execute("BEGIN")
    try:
        yield db
    finally:
        db.execute("COMMIT")


def milliseconds(
    ledger: Ledger, scorers: Mapping[str, str], *, tables: Sequence[str] = SCORE_TABLES
) -> dict[str, tuple[float, int]]:
    """(milliseconds of all scores, how many were timed) of scorers by metric, in one pass over each table."""
    found: dict[str, tuple[float, int]] = {}
    for table in tables:
        for start in range(0, len(scorers), 100):  # SQLite takes 2,000 columns at most
            some = list(scorers.items())[start : start + 100]
            of = "FILTER (WHERE metric = ? AND scorer = ?)"
            sums = ", ".join(f"TOTAL(ms) {of}, COUNT(ms) {of}" for _ in some)
            values = [word for one in some for word in (*one, *one)]
            row = ledger.db.execute(f"SELECT {sums} FROM {table}", values).fetchone()
            for place, (metric, _) in enumerate(some):
                ms, timed = found.get(metric, (0.0, 0))
                found[metric] = ms + row[2 * place], timed + row[2 * place + 1]
    return found
