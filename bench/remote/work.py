"""The work folders of addresses on this machine: where they lie, whose they are, and what of them is uploaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.remote.address import Url, url_of
from bench.store import write_atomically
from bench.store.cache import default_folder
from bench.store.seals import SUMS

ROOT = ".remote.json"
"""In a work folder: the address that it is of."""
STATE = ".mirror.json"
"""In a run's folder there: what this machine knows of the run at its address."""
JOURNAL = ".uploaded"
"""In a run's folder there: names, sizes and times of the files that are at the address as they are here."""
_LEDGER = "ledger.sqlite"
_OWN = frozenset({"lock", SUMS, _LEDGER, f"{_LEDGER}-wal", f"{_LEDGER}-shm", f"{_LEDGER}-journal"})
"""Files of a run folder that are not uploaded as they are."""
Stamp = tuple[int, int]
"""Bytes, and time of change in ns."""


def _folder_name(url: Url) -> str:
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", url.text)[:60].strip("-.")
    return f"{name}-{hashlib.sha256(url.text.encode()).hexdigest()[:8]}"


def _home() -> Path:
    """Where work folders lie: BENCH_WORK, else `remote` in the folder of the cache."""
    return Path(os.environ.get("BENCH_WORK") or default_folder() / "remote").absolute()


def folder_of(url: Url) -> Path:
    """The work folder of an address, made if need be; UserError where it cannot be."""
    folder = _home() / _folder_name(url)
    marker = folder / ROOT
    if not marker.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(marker, json.dumps({"url": url.text}).encode())
        except OSError as error:
            raise UserError(
                f"{folder}: no work folder for {url} can be made there ({error.strerror or error}); set BENCH_WORK"
            ) from error
    return folder


def address_of(folder: Path) -> Url | None:
    """The address that a work folder, or a run's folder in one, is of; None for every other folder.

    A folder that came from others may say anything: only those are work folders that lie where they would be made.
    """
    folder = folder.absolute()
    for place, rest in ((folder, ""), (folder.parent, folder.name)):
        text = _read(place / ROOT).get("url") if place.parent == _home() else None
        if isinstance(text, str) and place.name == _folder_name(url := url_of(text)):
            return url.child(rest) if rest else url
    return None


@dataclass
class State:
    """What this machine knows of a run at its address."""

    work: str
    """A name of this work folder alone."""
    pulled: str = ""
    """The snapshot of another machine's that was last fetched."""
    dirty: bool = False
    """Whether there may be something here that is not at the address yet."""

    @classmethod
    def read(cls, folder: Path) -> State:
        found = _read(folder / STATE)
        try:
            return cls(**found)
        except TypeError:
            return cls(work=uuid.uuid4().hex)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / STATE, json.dumps(asdict(self)).encode())


class Journal:
    """Which files are uploaded: a line each, added after the upload, so that a killed run forgets no file."""

    def __init__(self, folder: Path):
        self.path = folder / JOURNAL
        self.known: dict[str, Stamp] = {}
        self._file: Any = None
        if not self.path.is_file():
            return
        for line in self.path.read_text(errors="replace").splitlines():
            try:
                name, size, when = json.loads(line)
                self.known[name] = (int(size), int(when))
            except (ValueError, TypeError):
                continue  # cut short by a kill: that file is uploaded again

    def add(self, name: str, stamp: Stamp) -> None:
        if self._file is None:
            self._compact()
            self._file = self.path.open("a", encoding="utf-8")
        self.known[name] = stamp
        self._file.write(json.dumps([name, *stamp]) + "\n")
        self._file.flush()

    def keep_only(self, sizes: dict[str, int]) -> None:
        """Forget the files that are not at the address with the size that they had."""
        self.known = {name: stamp for name, stamp in self.known.items() if sizes.get(name) == stamp[0]}
        self.close()
        self._compact()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _compact(self) -> None:
        lines = (json.dumps([name, *stamp]) + "\n" for name, stamp in self.known.items())
        write_atomically(self.path, "".join(lines).encode())


def stamp_of(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def files(folder: Path) -> Iterator[tuple[str, Stamp]]:
    """Every file of a run folder that is uploaded as it is, by its name with `/`; half-written ones are hidden."""
    todo = [(folder, "")]
    while todo:
        place, before = todo.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(".") or (not before and entry.name in _OWN):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    todo.append((Path(entry.path), f"{before}{entry.name}/"))
                elif entry.is_file(follow_symlinks=False):
                    try:
                        found = entry.stat()
                    except FileNotFoundError:
                        continue  # replaced while we look
                    yield f"{before}{entry.name}", (found.st_size, found.st_mtime_ns)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
