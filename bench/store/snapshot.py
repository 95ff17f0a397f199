"""A ledger as one whole file: copied while it is written, and put in the place of another."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from bench.store.files import exclusive


def snapshot(folder: Path, target: Path) -> None:
    """Copy a run's ledger as it stands, with what its write-ahead log holds, to a file that needs no other beside it.

    It is consistent though another connection writes meanwhile, and does not keep that one waiting.
    """
    target.unlink(missing_ok=True)
    source = sqlite3.connect(f"{(folder / 'ledger.sqlite').absolute().as_uri()}?mode=ro", uri=True, timeout=30)
    made = sqlite3.connect(target)
    try:
        source.backup(made)
        made.execute("PRAGMA journal_mode=DELETE")
    finally:
        made.close()
        source.close()


def replace_ledger(folder: Path, file: Path) -> None:
    """Put a snapshot in the place of a run's ledger; UserError where another process holds the folder."""
    with exclusive(folder):
        place_ledger(folder, file)


def place_ledger(folder: Path, file: Path) -> None:
    """The same for who holds the folder already."""
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)
    file.replace(folder / "ledger.sqlite")
    made = sqlite3.connect(folder / "ledger.sqlite")
    try:
        made.execute("PRAGMA journal_mode=WAL")
    except sqlite3.DatabaseError:
        pass  # no ledger: who opens it says so
    finally:
        made.close()
