"""Scores of a whole run as columns: a million of them are numbers from SQLite on, and no text of them is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from bench.store.reading import SCORE_TABLES

if TYPE_CHECKING:
    from bench.store.ledger import Ledger

MANY = 50_000
"""Rows that are read at once."""

Column = tuple[float, ...]


def image_scores(
    ledger: Ledger, wanted: Iterable[tuple[str, str]], scorers: Mapping[str, str]
) -> Iterator[tuple[Column, Column, Column, Column]]:
    """What metrics of images gave (image digest, prompt key)s, many at once, as columns of one length.

    The number of what is wanted, the number of its metric in `scorers`, whether the score is by that metric's scorer
    there, and the value.
    """
    ledger.look_up((digest, prompt, None) for digest, prompt in wanted)
    ledger.db.execute("CREATE TEMP TABLE IF NOT EXISTS asked (metric TEXT PRIMARY KEY, number INTEGER, scorer TEXT)")
    ledger.db.execute("DELETE FROM asked")
    rows = [(metric, number, scorer) for number, (metric, scorer) in enumerate(scorers.items())]
    ledger.db.executemany("INSERT INTO asked VALUES (?, ?, ?)", rows)
    # CROSS JOIN holds SQLite to this order: from what is wanted into the scores, and from them to their metrics.
    found = ledger.db.execute(
        "SELECT row, number, scores.scorer = asked.scorer, value "
        "FROM wanted CROSS JOIN scores USING (digest, prompt) CROSS JOIN asked USING (metric)"
    )
    while some := found.fetchmany(MANY):
        row, metric, ours, value = zip(*some, strict=True)
        yield row, metric, ours, value


def mean_ms(ledger: Ledger, scorers: Mapping[str, str]) -> dict[str, tuple[float, int]]:
    """(milliseconds of all scores, how many were timed) of scorers by metric, in one pass over the scores."""
    found: dict[str, tuple[float, int]] = {}
    for table in SCORE_TABLES:
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
