"""Ledgers of the shards of one run -> the ledger of that run, row by row: no table of them is loaded whole."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

from bench.store.ledger import Ledger
from bench.store.rows import Cell

IMAGES = ("images", "failures")
SCORES = ("scores", "pair_scores", "features", "score_failures", "memory")


def join(into: Ledger, shards: Sequence[Ledger], at: Sequence[Iterable[tuple[int, int]]], *, scores: bool) -> None:
    """Put all that shards hold into an empty ledger; `at` says where the cells of each stand in the whole.

    Without `scores` only images that were made are taken: no scores, and no choices, which follow from scores.
    """
    with into.transaction():
        for shard in shards:
            for table in (*IMAGES, *SCORES) if scores else IMAGES:
                _copy(into, shard, table, " WHERE chosen_from IS NULL" if table == "images" and not scores else "")
        placed = [_placed(shard.cells(), where) for shard, where in zip(shards, at, strict=True)]
        into.put_cells(cell for _, cell in heapq.merge(*placed))


def _copy(into: Ledger, shard: Ledger, table: str, where: str) -> None:
    """What two shards both have, as an image that both made, is taken from the first."""
    names = [row[1] for row in into.db.execute(f"PRAGMA table_info({table})")]
    rows = shard.db.execute(f"SELECT {', '.join(names)} FROM {table}{where}")
    marks = ", ".join("?" * len(names))
    into.db.executemany(f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({marks})", rows)


def _placed(cells: Iterator[Cell], at: Iterable[tuple[int, int]]) -> Iterator[tuple[int, Cell]]:
    numbers = (number for first, count in at for number in range(first, first + count))
    return zip(numbers, cells, strict=True)
