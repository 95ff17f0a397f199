"""A repository of results: a folder that git can hold, one small file a run, each checked before it is written.

The layout is `records/SUITE-ID/DIGEST.json`: the suite's name and id, and the first digits of the record's digest. A
run that is submitted twice is one file; two runs of one suite are two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, NotComparable, UserError
from bench.records import read
from bench.records.submission import Damaged, Submission, read_submission, submission
from bench.site.sources import RECORDS
from bench.store import write_atomically

DIGITS = 16
"""Of a digest, in a file's name."""


@dataclass(frozen=True)
class Submitted:
    """Where a record lies."""

    file: Path
    digest: str
    new: bool
    """False where it was there before."""


def submit(run: Path, repository: Path) -> Submitted:
    """Write a run's record into a repository of results.

    UserError where the run has no readable results or the repository cannot be written, NotComparable where the run is
    not finished: its numbers would change.
    """
    results = read(run)
    if not results.run.finished:
        raise NotComparable(
            f"{run}: not finished, so its numbers may change; finish it with `bench run`, then submit it"
        )
    unknown = [name for name, row in results.metrics.items() if not row.digest]
    if unknown:
        raise NotComparable(f"{run}: no digest of the scorers of {', '.join(unknown)}; score it again, then submit it")
    made = submission(results)
    file = repository / place(made)
    new = not file.is_file() or _is_damaged(file)
    if new:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, made.text().encode("utf-8", "replace"))
        except OSError as error:
            raise UserError(f"{file}: cannot be written ({error.strerror or error}); give another --to") from error
    # What is there is what a reader will get.
    if read_submission(file).digest != made.digest:
        raise UserError(f"{file}: holds another record than this run's; remove it, then submit the run again")
    return Submitted(file, made.digest, new)


def _is_damaged(file: Path) -> bool:
    try:
        read_submission(file)
    except Damaged:
        return True
    return False


def place(made: Submission) -> Path:
    """Where a record lies in its repository."""
    suite = made.results.suite
    name = re.sub(r"[^a-z0-9_-]+", "-", suite.name.lower()).strip("-")[:80] or "run"
    ident = re.sub(r"[^a-z0-9]+", "", suite.id.lower())[:16]
    return Path(RECORDS) / f"{name}-{ident}" / f"{made.digest[:DIGITS]}.json"


def check(repository: Path) -> tuple[int, list[str]]:
    """(number of records that are right, a line for each file that is not); UserError where there is no repository."""
    folder = repository / RECORDS
    if not folder.is_dir():
        raise UserError(f"{repository}: no {RECORDS}/ there; `bench submit RUN --to {repository}` makes one")
    right, faults = 0, []
    for file in _all(folder):
        try:
            expected = repository / place(_record(file))
            if file != expected:
                raise UserError(f"{file}: expected at {expected.relative_to(repository)}; move it there")
            right += 1
        except BenchError as error:
            faults.append(" ".join(str(error).split()))
    return right, faults


def _record(file: Path) -> Submission:
    if file.suffix != ".json":
        raise UserError(f"{file}: no record; {RECORDS}/ holds records alone")
    found = read_submission(file)
    if not found.results.run.finished:
        raise UserError(f"{file}: of a run that was not finished; submit it when it is")
    return found


def _all(folder: Path) -> Iterator[Path]:
    """Every file below a folder, links as well: they are refused by name."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from _all(path)
        else:
            yield path
