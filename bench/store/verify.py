"""`python -m bench verify`: every byte of a run folder, or of the image cache, against what was recorded of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError, first_line
from bench.store import damage, seals
from bench.store.cache import ImageCache
from bench.store.files import exclusive, inside
from bench.store.ledger import Ledger
from bench.store.opening import NAME
from bench.store.rows import Image
from bench.store.whole import damaged

RESULTS = "results.json"
_SCORES = ("scores", "pair_scores", "features", "score_failures")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was recorded."""

    where: str
    """A file, or rows of the ledger."""
    said: str
    broken: bool = True
    """False for what harms nothing, such as a file that belongs to no image."""

    @property
    def line(self) -> str:
        return f"{self.where}: {self.said}"


def run(folder: Path, *, drop: bool = False) -> Iterator[Finding]:
    """What is broken in a run folder; with `drop` it is also removed, so that running the suite again makes it again.

    UserError for a ledger that SQLite cannot read at all: nothing of it can be kept.
    """
    if not drop:
        yield from _run(folder, drop=False)
        return
    with exclusive(folder):
        yield from _run(folder, drop=True)


def _run(folder: Path, *, drop: bool) -> Iterator[Finding]:
    altered = seals.state(folder, NAME) is False
    if altered:
        yield Finding(NAME, f"its sha256 is not the one in {seals.SUMS}: it was changed, or the disk has failed")
    ledger = Ledger(folder, read_only=not drop, checked=False)
    try:
        rows = [*damage.broken(ledger.db)]
        yield from (Finding(NAME, one.line) for one in rows)
        if drop and (rows or altered):
            yield from _drop(ledger, altered=altered)
        yield from _files(ledger, drop=drop)
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{folder / NAME}: SQLite cannot read it ({first_line(error)}); move it away and run again"
        ) from error
    finally:
        ledger.close()
    if seals.state(folder, RESULTS) is False:
        yield Finding(RESULTS, f"not what was written; `python -m bench report {folder}` writes it again")


def _drop(ledger: Ledger, *, altered: bool) -> Iterator[Finding]:
    """Remove broken rows. Of an altered ledger a score within its range may be wrong too, and no rule can see it."""
    with ledger.transaction():
        n = damage.drop(ledger.db)
        if altered:
            n += sum(ledger.db.execute(f"DELETE FROM {table}").rowcount for table in _SCORES)
        ledger.db.execute("DELETE FROM meta WHERE key = 'finished'")
        ledger.db.execute("DELETE FROM checked")
    what = "broken rows, and all scores: any of them may have changed" if altered else "broken rows"
    yield Finding(NAME, f"removed {n} rows ({what})", broken=False)


def _files(ledger: Ledger, *, drop: bool) -> Iterator[Finding]:
    """Image files that are not what the ledger says, and files that it does not know."""
    known: set[str] = set()
    seen: dict[tuple[str, str], str | None] = {}
    lost: list[Image] = []
    for image in ledger.images().values():
        known.add(image.file)
        key = image.file, image.digest
        if key not in seen:
            seen[key] = _why(ledger.folder, image)
            if seen[key]:
                yield Finding(image.file, f"{seen[key]}")
        if seen[key]:
            lost.append(image)
    if drop and lost:
        for image in lost:
            if (ledger.folder / image.file).is_file():
                inside(ledger.folder, image.file).unlink(missing_ok=True)
        with ledger.transaction():
            ledger.db.executemany("DELETE FROM checked WHERE file = ?", [(one.file,) for one in lost])
        yield Finding("images", f"removed {len({one.file for one in lost})} damaged files", broken=False)
    for path in sorted((ledger.folder / "images").glob("*")):
        name = f"images/{path.name}"
        if name not in known:
            what = "left by a process that was stopped" if path.suffix == ".tmp" else "of no image of the ledger"
            yield Finding(name, what, broken=False)


def _why(folder: Path, image: Image) -> str | None:
    try:
        return damaged(inside(folder, image.file), image.digest)
    except UserError as error:
        return first_line(error)


def cache(kept: ImageCache, *, drop: bool = False) -> Iterator[Finding]:
    """What is broken in the image cache; with `drop` it is also removed."""
    for path in sorted(kept.records()):
        image = kept.record(path.stem)
        png = path.with_suffix(".png")
        why = "its record is cut short, altered or of another version" if image is None else damaged(png, image.digest)
        if why:
            yield Finding(f"{path.parent.name}/{path.stem}", why + (", removed" if drop else ""))
            if drop:
                kept.remove(path.stem)
    for png in sorted(kept.folder.glob("*/*")):
        if png.suffix == ".tmp" or (png.suffix == ".png" and not png.with_suffix(".json").exists()):
            yield Finding(f"{png.parent.name}/{png.name}", "without a record, so it is not used", broken=False)
