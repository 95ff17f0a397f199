"""The run folder: one SQLite ledger (WAL), the images, and what is written from them.

    runs/<suite>-<id>/ledger.sqlite  suite.yaml  images/<job id>.png  results.json  report.md  report.html

A row is written in one transaction with whatever it stands for, and an image is renamed into place before its
row, so a run killed at any moment continues where it was.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

from bench.errors import UserError

SCHEMA = 1
ELSEWHERE = "elsewhere"
"""The model and the sampler of images that the harness did not make, of which it knows neither."""

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cells (
  method TEXT, model TEXT, prompts TEXT, sampler TEXT, steps INTEGER, guidance REAL,
  prompt_index INTEGER, seed INTEGER, prompt TEXT, category TEXT, metadata TEXT, job_id TEXT,
  PRIMARY KEY (method, model, prompts, sampler, steps, guidance, prompt_index, seed));
CREATE TABLE IF NOT EXISTS images (
  job_id TEXT PRIMARY KEY, digest TEXT NOT NULL, file TEXT NOT NULL, chosen_from TEXT,
  calls_noise INTEGER, calls_sampling INTEGER, encode_ms REAL, noise_ms REAL, sampling_ms REAL, decode_ms REAL,
  peak_bytes INTEGER, peak_kind TEXT, batch INTEGER, hardware TEXT, latent_digest TEXT, from_cache INTEGER,
  created TEXT, select_ms REAL DEFAULT 0, cost TEXT DEFAULT '{}', facts TEXT DEFAULT '{}', origin TEXT DEFAULT '');
CREATE TABLE IF NOT EXISTS scores (
  digest TEXT, prompt TEXT, metric TEXT, scorer TEXT, value REAL NOT NULL, detail TEXT, ms REAL,
  PRIMARY KEY (digest, prompt, metric, scorer)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
  id INTEGER PRIMARY KEY, started TEXT, ended TEXT, provenance TEXT, stages TEXT);
"""
_SINCE = """
CREATE {0} TABLE IF NOT EXISTS pair_scores (
  digest TEXT, baseline TEXT, prompt TEXT, metric TEXT, scorer TEXT, value REAL NOT NULL, detail TEXT, ms REAL,
  PRIMARY KEY (digest, baseline, prompt, metric, scorer)) WITHOUT ROWID;
CREATE {0} TABLE IF NOT EXISTS failures (job_id TEXT PRIMARY KEY, reason TEXT NOT NULL, created TEXT);
CREATE {0} TABLE IF NOT EXISTS features (
  digest TEXT, prompt TEXT, metric TEXT, scorer TEXT, features BLOB NOT NULL, ms REAL,
  PRIMARY KEY (digest, prompt, metric, scorer));
CREATE {0} TABLE IF NOT EXISTS score_failures (
  digest TEXT, baseline TEXT, prompt TEXT, metric TEXT, scorer TEXT, reason TEXT NOT NULL, created TEXT,
  PRIMARY KEY (digest, baseline, prompt, metric, scorer));
"""
"""Tables that ledgers had not from the first: an older one gets them when it is opened to be written, and is read as
if they were there and empty. A pair's value is how far its image is preferred over that baseline's; features are
little-endian float32; a score that failed has an empty baseline where it is of one image."""
_LATER_COLUMNS = {"select_ms": "REAL DEFAULT 0", "cost": "TEXT DEFAULT '{}'", "facts": "TEXT DEFAULT '{}'",
                  "origin": "TEXT DEFAULT ''"}  # fmt: skip
"""Columns of images that ledgers had not from the first."""
_OLD_VOTES = """
INSERT OR IGNORE INTO pair_scores
SELECT s.digest, b.digest, s.prompt, 'human', s.scorer, (s.value + 1) / 2, s.detail, NULL
FROM scores s JOIN images i ON i.digest = s.digest JOIN cells c ON c.job_id = i.job_id
JOIN cells d USING (model, prompts, sampler, steps, guidance, prompt_index, seed) JOIN images b ON b.job_id = d.job_id
WHERE s.metric = 'human' AND d.method = ? AND c.method <> d.method
"""
"""People's votes were once scores of one image, its wins less its losses."""


@dataclass(frozen=True)
class Image:
    """A finished image and what it cost; times are milliseconds an image, the batch's share."""

    job_id: str
    digest: str
    """sha256 of the PNG's pixels (shape and bytes), so a score does not depend on the PNG encoder."""
    file: str
    """Path relative to the run folder."""
    calls_noise: int
    calls_sampling: int
    encode_ms: float
    noise_ms: float
    sampling_ms: float
    decode_ms: float
    peak_bytes: int | None
    peak_kind: str
    batch: int
    hardware: str
    latent_digest: str
    created: str
    from_cache: int = 0
    select_ms: float = 0.0
    """Judging among candidates, for an image that was chosen."""
    cost: str = "{}"
    """What it cost by stage, as JSON (`bench.sampling.meter.Cost.record`)."""
    facts: str = "{}"
    """What its method noted, such as whether a search converged, as JSON."""
    chosen_from: str | None = None
    """JSON list of candidate job ids for an image that was chosen rather than made."""
    origin: str = ""
    """The commit, or the version, that made it (`bench.provenance.origin`); empty of images from before."""


_IMAGE_COLUMNS = [f.name for f in fields(Image)]


class Ledger:
    """The run's SQLite file."""

    def __init__(self, folder: Path, *, create: bool = False, read_only: bool = False):
        """Open or `create` it; `read_only` opens it so that SQLite itself refuses to change anything."""
        self.folder = folder
        path = folder / "ledger.sqlite"
        if not create and not path.is_file():
            raise UserError(f"{folder}: no run there (no ledger.sqlite); expected a folder made by `bench run`")
        if not read_only:
            folder.mkdir(parents=True, exist_ok=True)
        where = f"{path.absolute().as_uri()}?mode=ro" if read_only else path
        self.db = sqlite3.connect(where, timeout=30, isolation_level=None, uri=read_only)
        try:
            found = self._schema()
        except sqlite3.DatabaseError as error:
            if _is_the_disk(error):
                raise
            raise UserError(f"{path}: not a readable ledger ({error}); move it away and run again") from error
        if found is not None and found > SCHEMA:
            raise UserError(
                f"{folder}: written by a newer version (ledger schema {found}, this one reads up to {SCHEMA}); "
                "upgrade, or give another --runs folder"
            )
        if found is None:
            if not create:
                raise UserError(f"{folder}: an empty ledger; run the suite first")
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.executescript(_TABLES)
            self.set("schema", SCHEMA)
        self._add_since(read_only=read_only)
        self.db.execute("PRAGMA synchronous=NORMAL")

    def _add_since(self, *, read_only: bool) -> None:
        temporary = read_only or not os.access(self.folder, os.W_OK)
        if temporary:
            self.db.execute("PRAGMA temp_store=MEMORY")  # set later, it would delete what is there
        tables = self._tables()
        self._add_columns(temporary)
        # One by one: a temporary table would hide one of the ledger's own.
        for statement in filter(None, map(str.strip, _SINCE.format("TEMP" if temporary else "").split(";"))):
            if statement.partition("EXISTS ")[2].split()[0] not in tables:
                self.db.execute(statement)
        if "pair_scores" not in tables and self.get("votes"):
            self.db.execute(_OLD_VOTES, (self.get("suite")["baseline"],))

    def _add_columns(self, temporary: bool) -> None:
        have = {row[1] for row in self.db.execute("PRAGMA table_info(images)")}
        lacking = {name: kind for name, kind in _LATER_COLUMNS.items() if name not in have}
        if lacking and temporary:
            added = ", ".join(f"{kind.partition('DEFAULT ')[2]} AS {name}" for name, kind in lacking.items())
            self.db.execute(f"CREATE TEMP VIEW images AS SELECT *, {added} FROM main.images")
            return
        for name, kind in lacking.items():
            self.db.execute(f"ALTER TABLE images ADD COLUMN {name} {kind}")

    def _tables(self) -> set[str]:
        return {name for (name,) in self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def _schema(self) -> int | None:
        tables = self._tables()
        value = self.get("schema") if "meta" in tables else None
        if value is None:
            return None
        lacking = sorted({"cells", "images", "scores", "sessions"} - tables)
        if not isinstance(value, int) or (value <= SCHEMA and lacking):
            what = f"without a table {lacking[0]!r}" if lacking else f"of schema {value!r}"
            raise sqlite3.DatabaseError(f"a ledger {what}")
        return value

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; nested use joins the outer one."""
        if self.db.in_transaction:
            yield
            return
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            # A full disk makes SQLite roll back by itself.
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def set(self, key: str, value: Any) -> None:
        """Keep a JSON value under a name."""
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def get(self, key: str) -> Any:
        """The JSON value under a name; None where there is none."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put_cells(self, rows: Iterable[Sequence[Any]]) -> None:
        """Replace the cells: they are what the suite asks for now."""
        with self.transaction():
            self.db.execute("DELETE FROM cells")
            self.db.executemany(f"INSERT INTO cells VALUES ({','.join('?' * 12)})", rows)

    def put_images(self, images: Iterable[Image]) -> None:
        columns = ",".join(_IMAGE_COLUMNS)
        marks = ",".join("?" * len(_IMAGE_COLUMNS))
        rows = [tuple(getattr(i, c) for c in _IMAGE_COLUMNS) for i in images]
        with self.transaction():
            self.db.executemany(f"INSERT OR REPLACE INTO images ({columns}) VALUES ({marks})", rows)
            self.db.executemany("DELETE FROM failures WHERE job_id = ?", [(r[0],) for r in rows])

    def images(self) -> dict[str, Image]:
        """Every finished image by job id."""
        query = self.db.execute(f"SELECT {','.join(_IMAGE_COLUMNS)} FROM images")
        return {row[0]: Image(*row) for row in query}

    def put_failures(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """(job id, reason, when) of images that could not be made; one that is made later is none any more."""
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO failures VALUES (?,?,?)", rows)

    def failures(self) -> dict[str, str]:
        """Reasons by job id."""
        return dict(self.db.execute("SELECT job_id, reason FROM failures"))

    def put_scores(self, rows: Iterable[tuple[str, str, str, str, float, str, float | None]]) -> None:
        """(digest, prompt key, metric, scorer digest, value, detail JSON, ms where it was measured) rows."""
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO scores VALUES (?,?,?,?,?,?,?)", rows)

    def put_pair_scores(self, rows: Iterable[tuple[str, str, str, str, str, float, str, float | None]]) -> None:
        """(digest, baseline's digest, prompt key, metric, scorer digest, value in 0 to 1, detail JSON, ms) rows."""
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO pair_scores VALUES (?,?,?,?,?,?,?,?)", rows)

    def put_features(self, rows: Iterable[tuple[str, str, str, str, bytes, float | None]]) -> None:
        """(digest, prompt key, metric, scorer digest, float32 features, ms) rows."""
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO features VALUES (?,?,?,?,?,?)", rows)

    def put_score_failures(self, rows: Iterable[tuple[str, str, str, str, str, str, str]]) -> None:
        """(digest, baseline's digest or nothing, prompt key, metric, scorer digest, reason, when) rows."""
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO score_failures VALUES (?,?,?,?,?,?,?)", rows)

    def forget_score_failures(self, rows: Iterable[tuple[str, str, str, str, str]]) -> None:
        """(digest, baseline's digest or nothing, prompt key, metric, scorer digest) of what is to be scored again."""
        same = " AND ".join(f"{column} = ?" for column in ("digest", "baseline", "prompt", "metric", "scorer"))
        with self.transaction():
            self.db.executemany(f"DELETE FROM score_failures WHERE {same}", rows)

    def paired(self, metric: str, scorer: str) -> AbstractSet[tuple[str, str, str]]:
        """(image digest, baseline's digest, prompt key) of what a scorer of pairs has judged."""
        query = "SELECT digest, baseline, prompt FROM pair_scores WHERE metric = ? AND scorer = ?"
        return set(self.db.execute(query, (metric, scorer)))

    def featured(self, metric: str, scorer: str) -> AbstractSet[tuple[str, str]]:
        """(image digest, prompt key) pairs that a scorer of sets has taken features of."""
        query = "SELECT digest, prompt FROM features WHERE metric = ? AND scorer = ?"
        return set(self.db.execute(query, (metric, scorer)))

    def scored(self, metric: str, scorer: str) -> AbstractSet[tuple[str, str]]:
        """(image digest, prompt key) pairs that a scorer has judged."""
        query = "SELECT digest, prompt FROM scores WHERE metric = ? AND scorer = ?"
        return set(self.db.execute(query, (metric, scorer)))

    def scores_of(self, scorers: Mapping[str, str]) -> int:
        """How many scores and features of the cells' images there are by these scorers (digests by metric)."""
        ours = "SELECT digest FROM cells JOIN images USING (job_id)"
        query = " UNION ALL ".join(
            f"SELECT count(*) AS n FROM {table} WHERE metric = ?1 AND scorer = ?2 AND digest IN ({ours})"
            for table in ("scores", "pair_scores", "features")
        )
        total = f"SELECT sum(n) FROM ({query})"
        return sum(int(self.db.execute(total, one).fetchone()[0]) for one in scorers.items())

    def scorers(self, metric: str) -> AbstractSet[str]:
        """Digests of the scorers by which a metric has scores or features."""
        tables = ("scores", "pair_scores", "features")
        query = " UNION ".join(f"SELECT DISTINCT scorer FROM {table} WHERE metric = ?1" for table in tables)
        return {row[0] for row in self.db.execute(query, (metric,))}

    def close(self) -> None:
        self.db.close()


def lost_images(ledger: Ledger) -> int:
    """How many image files of a run's cells are no longer in its folder."""
    rows = ledger.db.execute("SELECT file FROM cells JOIN images USING (job_id)")
    files = [file.rpartition("/") for (file,) in rows]
    # A hundred thousand files are found sooner in one listing of their folder than one by one.
    there = {name: _names(ledger.folder / name) for name in {folder for folder, _, _ in files}}
    return sum(name not in there[folder] for folder, _, name in files)


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except OSError:
        return set()


def export(ledger: Ledger, out: Path) -> list[Path]:
    """Write every table as Parquet and CSV; returns the files."""
    import numpy as np
    import pandas as pd

    out.mkdir(parents=True, exist_ok=True)
    written = []
    for table in ("cells", "images", "failures", "scores", "pair_scores", "features", "score_failures", "sessions"):
        frame = pd.read_sql_query(f"SELECT * FROM {table}", ledger.db)
        if table == "features":
            # Numbers, not bytes: a list in Parquet, and JSON in CSV.
            frame["features"] = [np.frombuffer(blob, "<f4").tolist() for blob in frame["features"]]
        frame.to_csv(out / f"{table}.csv", index=False)
        frame.to_parquet(out / f"{table}.parquet", index=False)
        written += [out / f"{table}.csv", out / f"{table}.parquet"]
    return written


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a run folder; a second process gets one clear line. The kernel lets go when a process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    handle: IO[str] = open(folder / "lock", "a+")
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise UserError(f"{folder}: in use by {holder}; wait for it, or give another --runs folder") from error
        handle.truncate(0)
        handle.write(f"process {os.getpid()}")
        handle.flush()
        yield
    finally:
        handle.close()


@contextmanager
def full_disk_is_said(folder: Path) -> Iterator[None]:
    """A full disk is the user's to mend: one line, and everything finished so far stays."""
    said = f"{folder}: the disk is full or failing; free some space and run again, what is finished is kept"
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(said) from error
    except sqlite3.OperationalError as error:
        if not _is_the_disk(error):
            raise
        raise UserError(said) from error


def _is_the_disk(error: sqlite3.Error) -> bool:
    """SQLite calls a full disk so, or, where its write-ahead log finds no room, an I/O error."""
    name = getattr(error, "sqlite_errorname", "")
    return name == "SQLITE_FULL" or name.startswith("SQLITE_IOERR")


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, atomically; a copy where the file system has no links."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside the target and rename, so that a reader sees the old file or the new one, never half of one.

    What went half-way is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
