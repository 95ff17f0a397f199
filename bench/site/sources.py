"""What a site shows: run folders, reports and records of results, each read once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, UserError
from bench.records import Results, read
from bench.records.submission import read_submission, submission

RECORDS = "records"
"""The folder of a repository of results that holds them."""
DEEPEST = 3
"""Folders below the one that was named in which runs are looked for."""


@dataclass(frozen=True)
class Shown:
    """One run of the site."""

    slug: str
    """Its folder in the site."""
    results: Results
    digest: str
    """SHA-256 of its results, the same in a run's folder and in its record."""
    place: Path
    """Where its results were read from."""
    folder: Path | None
    """The run's or report's folder; None for a record, which has no images."""
    ledger: bool = False
    """Whether the folder holds the run itself, so that it can be compared pair by pair."""

    @property
    def title(self) -> str:
        return self.results.suite.title or self.results.suite.name

    @property
    def short(self) -> str:
        """As many digits of the digest as tell runs of a site apart."""
        return self.digest[:12]

    @property
    def commit(self) -> str:
        """Of the code that it was made by, or the package's version; empty where neither is known."""
        made = self.results.run.provenance
        return (made.commit or "")[:12] or (made.version or "")


@dataclass(frozen=True)
class Sources:
    """What was found, and what could not be read."""

    runs: list[Shown]
    faults: list[str]
    """A line each: a broken file takes nothing else down with it."""


def found(places: Sequence[Path]) -> Sources:
    """All runs in folders, the newest first; a run that is there twice is shown once.

    UserError where a place is not there, or nothing is.
    """
    runs: dict[str, Shown] = {}
    faults: list[str] = []
    for place in places:
        if not place.is_dir():
            raise UserError(f"{place}: no such folder; expected run folders, or a repository of results")
        for file in files(place):
            try:
                one = shown(file)
            except BenchError as error:
                faults.append(" ".join(str(error).split()))
                continue
            # The run itself before its record: it has images.
            if one.digest not in runs or runs[one.digest].folder is None:
                runs[one.digest] = one
    if not runs and not faults:
        listed = ", ".join(map(str, places))
        raise UserError(f"{listed}: no results there; expected folders with results.json, or {RECORDS}/ with records")
    ordered = sorted(runs.values(), key=lambda one: one.results.run.created, reverse=True)
    return Sources(ordered, faults)


def files(place: Path) -> Iterator[Path]:
    """Files of results below a folder, in order: `results.json`, and JSON files below `records`. Links are left out."""
    yield from _files(place, DEEPEST, record=place.name == RECORDS)


def _files(folder: Path, deeper: int, *, record: bool) -> Iterator[Path]:
    inner = []
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or path.name.startswith("."):
            continue
        if path.is_dir():
            inner.append(path)
        elif path.name == "results.json" or (record and path.suffix == ".json"):
            yield path
    if deeper:
        for path in inner:
            # What is below a run's folder is the run's own, such as an export.
            if not (folder / "results.json").is_file():
                yield from _files(path, deeper - 1, record=record or path.name == RECORDS)


def shown(file: Path) -> Shown:
    """The run of one file; UserError where it cannot be read."""
    if file.name != "results.json":
        given = read_submission(file)
        return Shown(_slug(given.results, given.digest), given.results, given.digest, file, None)
    results = read(file)
    digest = submission(results).digest
    ledger = (file.parent / "ledger.sqlite").is_file()
    return Shown(_slug(results, digest), results, digest, file, file.parent, ledger)


def _slug(results: Results, digest: str) -> str:
    """A name that is safe in a path and an address, and one run's alone."""
    name = re.sub(r"[^a-z0-9]+", "-", results.suite.name.lower()).strip("-")[:60]
    return f"{name or 'run'}-{digest[:12]}"
