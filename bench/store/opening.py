"""A ledger's SQLite file, opened to be written or only read, on a read-only disk too, and checked when it is opened."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

from bench.errors import UserError
from bench.store import damage, seals
from bench.store.files import is_locked, writable

NAME = "ledger.sqlite"
_known: dict[Path, tuple[int, ...]] = {}
"""By ledger, the times and sizes of its files when this process found it whole."""


class Reading(sqlite3.Connection):
    """A connection that may have a copy of the ledger to remove with it."""

    copy: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        super().close()
        if self.copy is not None:
            self.copy.cleanup()


def connected(folder: Path, *, read_only: bool) -> Reading:
    """A connection to a run's ledger; where the folder cannot be written to, SQLite is kept from trying."""
    path = folder / NAME
    if not read_only:
        return _connect(path.absolute().as_uri())
    if writable(folder):
        return _connect(f"{path.absolute().as_uri()}?mode=ro")
    if not _left(path):
        return _connect(f"{path.absolute().as_uri()}?immutable=1")
    # What a run that was stopped wrote last stands in the write-ahead log, which SQLite reads only where it can lock.
    copy = tempfile.TemporaryDirectory(prefix="ledger-")
    for name in (NAME, f"{NAME}-wal"):
        shutil.copyfile(folder / name, Path(copy.name) / name)
    found = _connect((Path(copy.name) / NAME).as_uri())
    found.copy = copy
    return found


def _connect(where: str) -> Reading:
    return sqlite3.connect(where, timeout=30, isolation_level=None, uri=True, factory=Reading)


def _left(path: Path) -> int:
    """Bytes of a ledger's write-ahead log."""
    try:
        return path.with_name(f"{NAME}-wal").stat().st_size
    except OSError:
        return 0


def check(folder: Path, db: sqlite3.Connection, *, read_only: bool) -> None:
    """UserError where a ledger is not what was written: its digest differs, or where it has none, a row is broken.

    It has none while it is written and after a run that was stopped. One that is only read while a process writes it
    was checked by that process.
    """
    found = _stamp(folder)
    if _known.get(folder.absolute()) == found:
        return
    if not check_seal(folder) and not (read_only and is_locked(folder)):
        for one in damage.broken(db):
            raise UserError(
                f"{folder / NAME}: {one.line}; `python -m bench verify {folder} --drop` removes what is broken, and "
                "running the suite again makes it again"
            )
    _known[folder.absolute()] = found


def check_seal(folder: Path) -> bool:
    """Whether a ledger has the digest that it was left with; False where it has none, UserError where it differs."""
    whole = None if _left(folder / NAME) else seals.state(folder, NAME)
    if whole is False:
        raise UserError(
            f"{folder / NAME}: not what was written: its sha256 is not the one in {seals.SUMS}; `python -m bench "
            f"verify {folder}` says what is broken, and with --drop removes it; if you changed the ledger yourself, "
            f"delete {folder / seals.SUMS}"
        )
    return bool(whole)


def unreadable(path: Path, error: sqlite3.Error) -> UserError:
    """One line on a file that SQLite does not read."""
    return UserError(
        f"{path}: not a readable ledger ({error}); move it away and run again, images in the cache are kept"
    )


def _stamp(folder: Path) -> tuple[int, ...]:
    found: list[int] = []
    for name in (NAME, f"{NAME}-wal", seals.SUMS):
        try:
            status = (folder / name).stat()
            found += [status.st_ino, status.st_mtime_ns, status.st_size]
        except OSError:
            found += [0, 0, 0]
    return tuple(found)
