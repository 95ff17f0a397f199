"""What no program of ours wrote: rows of a ledger outside of what their columns can hold, by table.

A bit that flips in a database is often still a value: 8e76 in the place of 0.3, a time below zero, a text that is
none. Each table has a rule; a row that breaks it is named, and `python -m bench verify RUN --drop` removes it, so that
the next run makes or scores again what it stood for. What SQLite can check of its own pages, `quick_check` does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

MOST = 1e15
"""Above every score, time and count; a flipped exponent is far beyond it, or hardly differs."""
_LONGEST_MS = 1e12
NAMED = 20
"""Broken rows of a table that are named."""


class Broken(NamedTuple):
    """Rows of one table that break its rule."""

    table: str
    n: int
    first: str
    """The first of them, as its key says."""

    @property
    def line(self) -> str:
        """In words."""
        return f"{self.table}: {self.n} broken row{'s' * (self.n > 1)}; the first: {self.first}"


def _number(name: str, low: float, high: float, *, null: bool = False) -> str:
    """SQL that is true where a column is no number within these bounds; a float that is not a number is NULL."""
    empty = f"{name} IS NOT NULL AND " if null else f"{name} IS NULL OR "
    return f"({empty}(typeof({name}) NOT IN ('real', 'integer') OR NOT {name} BETWEEN {low!r} AND {high!r}))"


def _whole(name: str, low: int, high: int, *, null: bool = False) -> str:
    empty = f"{name} IS NOT NULL AND " if null else f"{name} IS NULL OR "
    return f"({empty}(typeof({name}) <> 'integer' OR NOT {name} BETWEEN {low} AND {high}))"


def _name(name: str) -> str:
    """A digest, a key or a file: one line of printable ASCII."""
    return f"({name} IS NULL OR typeof({name}) <> 'text' OR {name} GLOB '*[^ -~]*')"


def _json(name: str, *, null: bool = False) -> str:
    """Python writes NaN and Infinity, which are no JSON to SQLite."""
    empty = f"{name} IS NOT NULL AND " if null else f"{name} IS NULL OR "
    plain = f"replace(replace({name}, 'NaN', '0'), 'Infinity', '0')"
    return f"({empty}(typeof({name}) <> 'text' OR NOT json_valid({plain})))"


_PLACE = [
    *(f"(typeof({name}) <> 'text')" for name in ("method", "model", "sampler")),
    _whole("steps", 0, 10**9),
    _number("guidance", -1e9, 1e9),
]
_SCORED = [_name("digest"), _name("prompt"), _name("metric"), _name("scorer"), _number("ms", 0, _LONGEST_MS, null=True)]
RULES: dict[str, tuple[str, str]] = {
    # By table: what names a row, and the SQL of a broken one.
    "meta": ("key", " OR ".join([_name("key"), _json("value")])),
    "cells": (
        "method || ' ' || prompts || ' ' || prompt_index",
        " OR ".join([
            *_PLACE, "(typeof(prompts) <> 'text')", "(typeof(prompt) <> 'text')", _name("job_id"),
            _whole("prompt_index", 0, 2**62), _whole("seed", 0, 2**63 - 1), _json("metadata", null=True),
        ]),
    ),
    "images": (
        "job_id",
        " OR ".join([
            _name("job_id"), _name("digest"), _name("file"), _json("cost"), _json("facts"),
            _json("chosen_from", null=True), _whole("peak_bytes", 0, 2**62, null=True), _whole("batch", 0, 10**9),
            _whole("from_cache", 0, 1), "(typeof(hardware) <> 'text')", "(typeof(peak_kind) <> 'text')",
            *(_whole(name, 0, 10**12) for name in ("calls_noise", "calls_sampling")),
            *(_number(f"{name}_ms", 0, _LONGEST_MS) for name in ("encode", "noise", "sampling", "decode", "select")),
        ]),
    ),
    "scores": (
        "metric || ' of image ' || digest", " OR ".join([*_SCORED, _number("value", -MOST, MOST), _json("detail")])
    ),
    "pair_scores": (
        "metric || ' of image ' || digest",
        " OR ".join([*_SCORED, _name("baseline"), _number("value", 0, 1), _json("detail")]),
    ),
    "features": (
        "metric || ' of image ' || digest",
        " OR ".join([*_SCORED, "(typeof(features) <> 'blob' OR length(features) = 0 OR length(features) % 4)"]),
    ),
    "failures": ("job_id", " OR ".join([_name("job_id"), "(typeof(reason) <> 'text')"])),
    "score_failures": (
        "metric || ' of image ' || digest",
        " OR ".join([_name("digest"), _name("metric"), _name("scorer"), "(typeof(reason) <> 'text')"]),
    ),
    "sessions": ("id", " OR ".join([_json("provenance"), _json("stages", null=True)])),
    "memory": (
        "method",
        " OR ".join([
            *_PLACE, _json("jobs"),
            *(_whole(f"{name}_bytes", 0, 2**62, null=True) for name in ("noise", "sampling", "level")),
        ]),
    ),
}  # fmt: skip
_TEXTS = ("meta", "cells", "images", "failures", "score_failures", "sessions", "memory")
"""Tables with texts of people, which may be no text any more; keys and digests of the others are by their rules."""


def broken(db: sqlite3.Connection) -> Iterator[Broken]:
    """What breaks the rules of its table; DatabaseError where SQLite cannot read the file."""
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(" ".join(str(found).split()))
    with _bytes(db):
        for table, (name, rule) in RULES.items():
            # Without a key the row itself has no name.
            rows = db.execute(f"SELECT {name} FROM {table} WHERE {rule}").fetchall()
            names = [row[0] for row in rows] + [first for _, first in _no_texts(db, table, "NULL")]
            if names:
                yield Broken(table, len(names), _shown(names[0]))


def drop(db: sqlite3.Connection) -> int:
    """Remove the broken rows; returns how many. A run writes its named values again, but for the ledger's schema."""
    n = 0
    for table, (_, rule) in RULES.items():
        if table == "meta":
            rule = f"key <> 'schema' AND ({rule})"
        with _bytes(db):
            rows = [number for number, _ in _no_texts(db, table, "rowid")]
        n += db.execute(f"DELETE FROM {table} WHERE {rule}").rowcount
        n += sum(db.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,)).rowcount for row in rows)
    return n


def _no_texts(db: sqlite3.Connection, table: str, number: str) -> Iterator[tuple[int, Any]]:
    """(row number, the row's first column) of rows with a text that is not UTF-8; texts are bytes now.

    `number` is SQL for the row number: an older ledger that is only read has a view, whose rows have none.
    """
    if table not in _TEXTS:
        return
    for at, *row in db.execute(f"SELECT {number}, * FROM {table}"):
        try:
            b"".join(one for one in row if isinstance(one, bytes)).decode()
        except UnicodeDecodeError:
            yield at, row[0]


@contextmanager
def _bytes(db: sqlite3.Connection) -> Iterator[None]:
    """Within, texts are read as bytes: one that is no UTF-8 would end the reading."""
    before, db.text_factory = db.text_factory, bytes
    try:
        yield
    finally:
        db.text_factory = before


def _shown(name: Any) -> str:
    return ascii(name.decode(errors="replace"))[1:-1] if isinstance(name, bytes) else str(name)
