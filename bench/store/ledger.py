"""The run's ledger: opening one of any version, and all that is written into it; `reading` has all that is read."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.store import opening, schema, seals
from bench.store.files import is_the_disk, missing_from, stamp, writable
from bench.store.reading import IMAGE_COLUMNS, Reader
from bench.store.rows import Image, Memory


class Ledger(Reader):
    """The run's SQLite file."""

    def __init__(self, folder: Path, *, create: bool = False, read_only: bool = False, checked: bool = True):
        """Open or `create` it; `read_only` opens it so that SQLite itself refuses to change anything.

        One in a folder that cannot be written to is always opened so. UserError where it is not what was written;
        `checked` False leaves that aside, for whoever looks for what is broken.
        """
        self.folder = folder
        path = folder / opening.NAME
        there = path.is_file()
        if not create and not there:
            raise UserError(f"{folder}: no run there (no ledger.sqlite); expected a folder made by `bench run`")
        self.read_only = read_only or (there and not (writable(folder) and writable(path)))
        if not self.read_only:
            folder.mkdir(parents=True, exist_ok=True)
        self._sealed, self._closed = True, False
        self.db = opening.connected(folder, read_only=self.read_only)
        try:
            self._open(create=create, checked=checked)
        except sqlite3.DatabaseError as error:
            self.db.close()
            if is_the_disk(error) and not self.read_only:
                raise
            raise opening.unreadable(path, error) from error
        except BaseException:
            self.db.close()
            raise

    def _open(self, *, create: bool, checked: bool) -> None:
        found = schema.version(self.db, self.get)
        if found is not None and found > schema.SCHEMA:
            raise UserError(
                f"{self.folder}: written by a newer version (ledger schema {found}, this one reads up to "
                f"{schema.SCHEMA}); upgrade, or give another --runs folder"
            )
        if found is None:
            if not create or self.read_only:
                raise UserError(f"{self.folder}: an empty ledger; run the suite first")
            self._unseal()
            schema.create(self.db)
            self.set("schema", schema.SCHEMA)
        if not self.read_only and schema.lacks(self.db):
            if checked and found is not None:
                opening.check_seal(self.folder)
            self._unseal()
        schema.complete(self.db, self.get, temporary=self.read_only)
        if found is not None and checked:
            opening.check(self.folder, self.db, read_only=self.read_only)
        self.db.execute("PRAGMA synchronous=NORMAL")
        self._tables = self.db.execute("PRAGMA schema_version").fetchone()

    def _touched(self) -> bool:
        """Whether `db` itself was used to change something."""
        return self.db.total_changes > 0 or self.db.execute("PRAGMA schema_version").fetchone() != self._tables

    def _unseal(self) -> None:
        """Before the first change: from here on the file is not what its digest says."""
        if self._sealed and not self.read_only:
            seals.unseal(self.folder, opening.NAME)
            self._sealed = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; nested use joins the outer one."""
        if self.db.in_transaction:
            yield
            return
        self._unseal()
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
        self._unseal()
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def put_cells(self, rows: Iterable[Sequence[Any]]) -> None:
        """Replace the cells: they are what the suite asks for now."""
        with self.transaction():
            self.db.execute("DELETE FROM cells")
            self.db.executemany(f"INSERT INTO cells VALUES ({','.join('?' * 12)})", rows)

    def put_images(self, images: Iterable[Image]) -> None:
        columns = ",".join(IMAGE_COLUMNS)
        marks = ",".join("?" * len(IMAGE_COLUMNS))
        """Keep images, whose files are there as they were made or compared."""
        some = list(images)
        rows = [tuple(getattr(i, c) for c in IMAGE_COLUMNS) for i in some]
        with self.transaction():
            self.put_checked(some)
            self.db.executemany(f"INSERT OR REPLACE INTO images ({columns}) VALUES ({marks})", rows)
            self.db.executemany("DELETE FROM failures WHERE job_id = ?", [(r[0],) for r in rows])

    def checked(self) -> dict[str, tuple[str, int, int]]:
        """By file, the digest that its pixels were found to have, and its time and size then."""
        query = self.db.execute("SELECT file, digest, changed, size FROM checked")
        return {file: (digest, changed, size) for file, digest, changed, size in query}

    def put_checked(self, images: Iterable[Image]) -> None:
        """Keep that the files of these images show what their digests say, as the file system has them now."""
        stamps = ((one.file, one.digest, stamp(self.folder / one.file)) for one in images)
        rows = [(file, digest, *seen) for file, digest, seen in stamps if seen is not None]
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO checked VALUES (?,?,?,?)", rows)

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
            self.db.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?,?,?,?,?,?,?)", (_numbered(row, 4) for row in rows)
            )

    def put_pair_scores(self, rows: Iterable[tuple[str, str, str, str, str, float, str, float | None]]) -> None:
        """(digest, baseline's digest, prompt key, metric, scorer digest, value in 0 to 1, detail JSON, ms) rows."""
        with self.transaction():
            self.db.executemany(
                "INSERT OR REPLACE INTO pair_scores VALUES (?,?,?,?,?,?,?,?)", (_numbered(row, 5) for row in rows)
            )

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
        """Close it, with its digest if it was changed and no other process has it open; a second time nothing."""
        if self._closed or self.read_only or (self._sealed and not self._touched()):
            self._closed = True
            self.db.close()
            return
        self._closed = True
        try:
            # All that is in the write-ahead log goes into the file; a reader elsewhere may hold it back.
            busy = self.db.in_transaction or self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error:
            busy = 1  # a full disk, of which whoever wrote has heard
        self.db.close()
        if not busy:
            with contextlib.suppress(OSError):
                seals.seal(self.folder, opening.NAME)


def _numbered(row: Sequence[Any], at: int) -> tuple[Any, ...]:
    """A row whose value at a place is a plain finite number: SQLite keeps another kind of number as bytes."""
    value = float(row[at])
    if not math.isfinite(value):
        raise ValueError(f"a score of {row[at - 2]} is not finite ({value}); a score that failed is kept as such")
    return (*row[:at], value, *row[at + 1 :])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def lost_images(ledger: Ledger) -> int:
    """How many image files of a run's cells are no longer in its folder."""
    return missing_from(ledger.folder, ledger.files())
