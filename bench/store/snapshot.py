"""A ledger as one whole file: copied while it is written, and put in the place of another."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from bench.digests import file_digest
from bench.errors import UserError
from bench.store import seals
from bench.store.files import write_atomically

_NAME = "ledger.sqlite"


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


def sums_with(folder: Path, copy: Path) -> bytes:
    """SHA256SUMS of a run folder as they are where `copy` is the ledger: its bytes are other ones than the ledger's."""
    try:
        kept = [line for line in (folder / seals.SUMS).read_text().splitlines() if not line.endswith(f"  {_NAME}")]
    except (OSError, ValueError):
        kept = []
    lines = sorted([*kept, f"{file_digest(copy)}  {_NAME}"], key=lambda line: line.partition("  ")[2])
    return "".join(f"{line}\n" for line in lines).encode()


def place_ledger(folder: Path, file: Path, sums: bytes | None) -> None:
    """Put a snapshot in the place of a run's ledger, by who holds the folder; `sums` are those that came with it.

    UserError where the snapshot is not the one that they name.
    """
    lines = (sums or b"").decode("ascii", "replace").splitlines()
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if expected.get(_NAME, digest := file_digest(file)) != digest:
        raise UserError(
            f"its ledger.sqlite is not the one that its {seals.SUMS} names: the upload was cut short, or it is "
            f"damaged; run it again where it was made, or delete {seals.SUMS} there to take it as it is"
        )
    seals.unseal(folder, _NAME)
    if sums:
        write_atomically(folder / seals.SUMS, sums)
        seals.unseal(folder, _NAME)
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
    seals.seal(folder, _NAME)
