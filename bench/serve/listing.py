"""The runs of a folder: what each is, how far it has come, and its verdict in one line."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bench.analysis.pairing import Source
from bench.errors import BenchError, UserError
from bench.records import read
from bench.report import headline
from bench.site.sources import Sources, shown
from bench.store.files import is_locked

T = TypeVar("T")
_WATCHED = ("ledger.sqlite", "ledger.sqlite-wal", "results.json", "report.html")


@dataclass(frozen=True)
class Listed:
    """One run in the list; `error` is all that is known of a broken one."""

    name: str
    suite: str = ""
    title: str = ""
    created: str = ""
    state: str = ""
    finished: bool = False
    running: bool = False
    """Whether a process works in it now; one that is neither running nor finished was stopped or killed."""
    headline: str = ""
    has_report: bool = False
    error: str = ""


class Folder:
    """A folder of runs, or a single run's folder. Answers are kept until a run's files change."""

    def __init__(self, root: Path):
        self.root = root
        self._kept: dict[Any, tuple[Any, Any]] = {}

    def folders(self) -> dict[str, Path]:
        """Run folders by name."""
        if (self.root / "ledger.sqlite").is_file():
            return {self.root.absolute().name: self.root}
        return {p.name: p for p in sorted(self.root.iterdir()) if (p / "ledger.sqlite").is_file()}

    def folder(self, name: str) -> Path:
        """The folder of that name, found in the list rather than by joining paths; UserError where there is none."""
        found = self.folders().get(name)
        if found is None:
            raise UserError(f"no run is called {name!r} here; it may have been moved or deleted")
        return found

    def runs(self) -> list[Listed]:
        """Every run, the newest first and broken ones last."""
        # A process that was killed leaves its files as they were: whether one works there is asked every time.
        found = [
            self.kept(("run", name, is_locked(path)), [path], partial(_listed, path))
            for name, path in self.folders().items()
        ]
        return sorted(found, key=lambda run: (not run.error, run.created), reverse=True)

    def shown(self) -> Sources:
        """The results of all runs that have some, for the leaderboard."""
        made, faults = [], []
        for name, path in self.folders().items():
            if not (path / "results.json").is_file():
                continue
            try:
                made.append(self.kept(("shown", name), [path], partial(shown, path / "results.json")))
            except BenchError as error:
                faults.append(_line(error))
        return Sources(sorted(made, key=lambda one: one.results.run.created, reverse=True), faults)

    def kept(self, key: Any, folders: list[Path], make: Callable[[], T]) -> T:
        """`make()`, or what it gave before if no file of these runs has changed since."""
        stamp = [_stamp(folder / name) for folder in folders for name in _WATCHED]
        if key not in self._kept or self._kept[key][0] != stamp:
            self._kept[key] = (stamp, make())
        found: T = self._kept[key][1]
        return found


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _listed(folder: Path) -> Listed:
    """A run as it stands; one that cannot be read says why and takes nothing else down with it."""
    name = folder.absolute().name
    try:
        with Source(folder) as run:
            finished, running = run.finished, is_locked(folder)
            return Listed(
                name,
                suite=run.suite.name,
                title=run.suite.title,
                created=local(run.sessions[0].started) if run.sessions else "",
                state=_state(run, running),
                finished=finished,
                running=running,
                headline=_headline(folder),
                has_report=(folder / "report.html").is_file(),
            )
    except BenchError as error:
        return Listed(name, error=_line(error))
    except (OSError, sqlite3.Error, ValueError, KeyError, TypeError) as error:
        # A ledger or suite of another version, or a damaged one.
        return Listed(name, error=f"not readable: {type(error).__name__}: {_line(error)}")


def _state(run: Source, running: bool) -> str:
    if running:
        return f"running: {run.n_images} of {run.n_cells} images"
    if run.finished:
        return "finished"
    return f"stopped before its end: {run.n_images} of {run.n_cells} images; its command resumes it"


def local(started: str) -> str:
    """A time of a ledger in this machine's zone, which is the reader's: `2026-11-28 09:41:12 UTC+0100`."""
    try:
        at = datetime.fromisoformat(started)
    except ValueError:
        return started
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S UTC%z") if at.tzinfo else started


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _headline(folder: Path) -> str:
    file = folder / "results.json"
    if not file.exists():
        return "No results yet."
    try:
        return headline(read(file))
    except UserError as error:
        return _line(error).replace(str(file), file.name)
