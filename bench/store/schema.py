"""The ledger's tables, and what ledgers of earlier versions lack of them.

A ledger says its `SCHEMA`. One of a higher number is of a newer version and is refused. What was added since the first
ledgers, and is nothing where it is not there, is in `ADDITIONS` under the same number: an older ledger gets it when it
is opened to be written, and is read as if it had it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SCHEMA = 1
FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE cells (
  method TEXT, model TEXT, prompts TEXT, sampler TEXT, steps INTEGER, guidance REAL,
  prompt_index INTEGER, seed INTEGER, prompt TEXT, category TEXT, metadata TEXT, job_id TEXT,
  PRIMARY KEY (method, model, prompts, sampler, steps, guidance, prompt_index, seed));
CREATE TABLE images (
  job_id TEXT PRIMARY KEY, digest TEXT NOT NULL, file TEXT NOT NULL, chosen_from TEXT,
  calls_noise INTEGER, calls_sampling INTEGER, encode_ms REAL, noise_ms REAL, sampling_ms REAL, decode_ms REAL,
  peak_bytes INTEGER, peak_kind TEXT, batch INTEGER, hardware TEXT, latent_digest TEXT, from_cache INTEGER,
  created TEXT);
CREATE TABLE scores (
  digest TEXT, prompt TEXT, metric TEXT, scorer TEXT, value REAL NOT NULL, detail TEXT, ms REAL,
  PRIMARY KEY (digest, prompt, metric, scorer)) WITHOUT ROWID;
CREATE TABLE sessions (
  id INTEGER PRIMARY KEY, started TEXT, ended TEXT, provenance TEXT, stages TEXT);
"""
TABLES = ("cells", "images", "failures", "scores", "pair_scores", "features", "score_failures", "memory", "sessions")
"""All that a ledger holds beside its named values, in the order in which they are exported."""
_NEEDED = frozenset({"cells", "images", "scores", "sessions"})
"""Tables without which a file is no ledger."""


@dataclass(frozen=True)
class Column:
    """A column that images had not from the first."""

    name: str
    kind: str
    default: str
    """As SQL: what older images have in it."""


@dataclass(frozen=True)
class Table:
    """A table that ledgers had not from the first."""

    name: str
    columns: str


ADDITIONS: tuple[Column | Table, ...] = (
    Table(
        "pair_scores",  # a pair's value is how far its image is preferred over that baseline's
        "(digest TEXT, baseline TEXT, prompt TEXT, metric TEXT, scorer TEXT, value REAL NOT NULL, detail TEXT, ms REAL,"
        " PRIMARY KEY (digest, baseline, prompt, metric, scorer)) WITHOUT ROWID",
    ),
    Table(
        "features",  # little-endian float32
        "(digest TEXT, prompt TEXT, metric TEXT, scorer TEXT, features BLOB NOT NULL, ms REAL,"
        " PRIMARY KEY (digest, prompt, metric, scorer))",
    ),
    Table("failures", "(job_id TEXT PRIMARY KEY, reason TEXT NOT NULL, created TEXT)"),
    Column("select_ms", "REAL", "0"),
    Column("cost", "TEXT", "'{}'"),
    Column("facts", "TEXT", "'{}'"),
    Table(
        "score_failures",  # an empty baseline where the score is of one image
        "(digest TEXT, baseline TEXT, prompt TEXT, metric TEXT, scorer TEXT, reason TEXT NOT NULL, created TEXT,"
        " PRIMARY KEY (digest, baseline, prompt, metric, scorer))",
    ),
    Column("origin", "TEXT", "''"),
    Table(
        "memory",  # of an arm's batch, in a process of its own; bytes are NULL where there is a reason
        "(method TEXT, model TEXT, sampler TEXT, steps INTEGER, guidance REAL, dtype TEXT, jobs TEXT NOT NULL,"
        " noise_bytes INTEGER, sampling_bytes INTEGER, level_bytes INTEGER, kind TEXT, hardware TEXT, reason TEXT,"
        " created TEXT, PRIMARY KEY (method, model, sampler, steps, guidance))",
    ),
    Table(
        "checked",  # image files that were found to have this digest, and the file system's word of them then
        "(file TEXT PRIMARY KEY, digest TEXT NOT NULL, changed INTEGER, size INTEGER)",
    ),
)
"""In the order in which versions brought them. Add to the end, and never change what is here."""
_OLD_VOTES = """
INSERT OR IGNORE INTO pair_scores
SELECT s.digest, b.digest, s.prompt, 'human', s.scorer, (s.value + 1) / 2, s.detail, NULL
FROM scores s JOIN images i ON i.digest = s.digest JOIN cells c ON c.job_id = i.job_id
JOIN cells d USING (model, prompts, sampler, steps, guidance, prompt_index, seed) JOIN images b ON b.job_id = d.job_id
WHERE s.metric = 'human' AND d.method = ? AND c.method <> d.method
"""
"""People's votes were once scores of one image, its wins less its losses."""


def create(db: sqlite3.Connection) -> None:
    """The tables of an empty ledger; `complete` adds the rest."""
    db.execute("PRAGMA journal_mode=WAL")
    # All or nothing: a disk that is full in between must not leave a ledger of half its tables.
    db.executescript(f"BEGIN;{FIRST};COMMIT")


def version(db: sqlite3.Connection, get: Callable[[str], Any]) -> int | None:
    """The schema that a ledger says it has; None for an empty one. DatabaseError where it is no whole ledger."""
    there = _tables(db)
    found = get("schema") if "meta" in there else None
    if found is None:
        return None
    lacking = sorted(_NEEDED - there)
    if not isinstance(found, int) or (found <= SCHEMA and lacking):
        what = f"without a table {lacking[0]!r}" if lacking else f"of schema {found!r}"
        raise sqlite3.DatabaseError(f"a ledger {what}")
    return found


def complete(db: sqlite3.Connection, get: Callable[[str], Any], *, temporary: bool) -> None:
    """Add what an older ledger lacks; `temporary` leaves the file as it is and has it for this connection only."""
    if temporary:
        db.execute("PRAGMA temp_store=MEMORY")  # set later, it would delete what is there
    there = _tables(db)
    _add_columns(db, temporary=temporary)
    for table in (one for one in ADDITIONS if isinstance(one, Table)):
        # One by one: a temporary table would hide one of the ledger's own.
        if table.name not in there:
            db.execute(f"CREATE {'TEMP' if temporary else ''} TABLE {table.name} {table.columns}")
    if "pair_scores" not in there and get("votes"):
        db.execute(_OLD_VOTES, (get("suite")["baseline"],))


def lacks(db: sqlite3.Connection) -> bool:
    """Whether a ledger has not all of today's tables and columns."""
    have = {row[1] for row in db.execute("PRAGMA table_info(images)")} | _tables(db)
    return any(one.name not in have for one in ADDITIONS)


def _add_columns(db: sqlite3.Connection, *, temporary: bool) -> None:
    have = {row[1] for row in db.execute("PRAGMA table_info(images)")}
    lacking = [one for one in ADDITIONS if isinstance(one, Column) and one.name not in have]
    if lacking and temporary:
        added = ", ".join(f"{one.default} AS {one.name}" for one in lacking)
        db.execute(f"CREATE TEMP VIEW images AS SELECT *, {added} FROM main.images")
        return
    for one in lacking:
        db.execute(f"ALTER TABLE images ADD COLUMN {one.name} {one.kind} DEFAULT {one.default}")


def _tables(db: sqlite3.Connection) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
