"""The run's ledger: opening one of any version, and all that is written into it; `reading` has all that is read."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.store import schema
from bench.store.files import is_the_disk, missing_from
from bench.store.reading import IMAGE_COLUMNS, Reader
from bench.store.rows import Image, Memory


class Ledger(Reader):
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
            found = schema.version(self.db, self.get)
        except sqlite3.DatabaseError as error:
            if is_the_disk(error):
                raise
            raise UserError(f"{path}: not a readable ledger ({error}); move it away and run again") from error
        if found is not None and found > schema.SCHEMA:
            raise UserError(
                f"{folder}: written by a newer version (ledger schema {found}, this one reads up to {schema.SCHEMA}); "
                "upgrade, or give another --runs folder"
            )
        if found is None:
            if not create:
                raise UserError(f"{folder}: an empty ledger; run the suite first")
            schema.create(self.db)
            self.set("schema", schema.SCHEMA)
        schema.complete(self.db, self.get, temporary=read_only or not os.access(folder, os.W_OK))
        self.db.execute("PRAGMA synchronous=NORMAL")

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

    def put_cells(self, rows: Iterable[Sequence[Any]]) -> None:
        """Replace the cells: they are what the suite asks for now."""
        with self.transaction():
            self.db.execute("DELETE FROM cells")
            self.db.executemany(f"INSERT INTO cells VALUES ({','.join('?' * 12)})", rows)

    def put_images(self, images: Iterable[Image]) -> None:
        columns = ",".join(IMAGE_COLUMNS)
        marks = ",".join("?" * len(IMAGE_COLUMNS))
        rows = [tuple(getattr(i, c) for c in IMAGE_COLUMNS) for i in images]
        with self.transaction():
            self.db.executemany(f"INSERT OR REPLACE INTO images ({columns}) VALUES ({marks})", rows)
            self.db.executemany("DELETE FROM failures WHERE job_id = ?", [(r[0],) for r in rows])

    def put_failures(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """(job id, reason, when) of images that could not be made; one that is made later is none any more."""
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO failures VALUES (?,?,?)", rows)

    def put_memory(self, row: Memory) -> None:
        """What an arm's memory is now, in the place of what was known of it."""
        with self.transaction():
            self.db.execute(f"INSERT OR REPLACE INTO memory VALUES ({','.join('?' * len(row))})", row)

    def forget_memory(self, jobs: AbstractSet[str]) -> None:
        """Remove what was measured of a batch whose jobs are not all among these."""
        with self.transaction():
            for row in self.memory():
                if not jobs >= set(row.ids):
                    self.db.execute("DELETE FROM memory WHERE method = ? AND jobs = ?", (row.method, row.jobs))

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

    def forget_scores(self, metric: str) -> None:
        """Remove every score of a metric, of images and of pairs."""
        with self.transaction():
            for table in ("scores", "pair_scores"):
                self.db.execute(f"DELETE FROM {table} WHERE metric = ?", (metric,))

    def begin_session(self, provenance: Mapping[str, Any]) -> int:
        """Keep what a session of work is done with; returns its number."""
        with self.transaction():
            row = self.db.execute(
                "INSERT INTO sessions (started, provenance) VALUES (?, ?)", (_now(), json.dumps(provenance))
            )
        return int(row.lastrowid or 0)

    def end_session(self, session: int, stages: Mapping[str, Any]) -> None:
        """Keep what the stages of a session took."""
        with self.transaction():
            self.db.execute(
                "UPDATE sessions SET ended = ?, stages = ? WHERE id = ?", (_now(), json.dumps(stages), session)
            )

    def hold_still(self) -> None:
        """Read from now on what is there now: what another process writes meanwhile is not seen."""
        self.db.execute("BEGIN")

    def close(self) -> None:
        self.db.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def lost_images(ledger: Ledger) -> int:
    """How many image files of a run's cells are no longer in its folder."""
    return missing_from(ledger.folder, ledger.files())
