"""From an address to its work folder: what of a run is newer there, or is not here."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.progress import Progress
from bench.remote.address import Folder, RemoteFault, Url
from bench.remote.work import Journal, State, folder_of, stamp_of
from bench.store import Ledger, exclusive
from bench.store.files import is_locked
from bench.store.seals import SUMS
from bench.store.snapshot import place_ledger

MANIFEST = "remote.json"
"""At the address, written last: which snapshot of which machine it holds, and whether a run is in progress."""
LEASE_SECONDS = 900.0
"""A run that has said nothing for so long is dead, and another machine may take its place."""
AT_ONCE = 8
"""Downloads at the same time."""


@dataclass(frozen=True)
class Manifest:
    """What an address says of itself."""

    work: str
    snapshot: str
    host: str
    process: int
    when: str
    running: bool

    @classmethod
    def read(cls, remote: Folder) -> Manifest | None:
        """None where the address has no run; UserError where it has something else."""
        content = remote.read(MANIFEST)
        if content is None:
            return None
        try:
            found: dict[str, Any] = json.loads(content)
            return cls(**{name: found[name] for name in cls.__dataclass_fields__})
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{remote.url}/{MANIFEST}: not written by this program; give another address") from error

    def write(self, remote: Folder) -> None:
        remote.write(MANIFEST, json.dumps(vars(self)).encode())

    @classmethod
    def of(cls, work: str, snapshot: str, *, running: bool) -> Manifest:
        """What this process says now."""
        return cls(work, snapshot, socket.gethostname(), os.getpid(), now().isoformat(timespec="seconds"), running)

    @property
    def alive(self) -> bool:
        """Whether the run that wrote it may still run."""
        try:
            silent = (now() - datetime.fromisoformat(self.when)).total_seconds()
        except (ValueError, TypeError):
            return False
        return self.running and silent < LEASE_SECONDS

    def busy(self, url: Url) -> UserError:
        """The error for who would write there too."""
        return UserError(
            f"{url}: in use by process {self.process} on {self.host} since {self.when} or later; wait for it (after "
            f"{LEASE_SECONDS / 60:.0f} minutes of silence it counts as dead), or give another --runs address"
        )


def now() -> datetime:
    return datetime.now(UTC)


def fetch(url: Url, *, images: bool) -> Path:
    """The work folder of a run at an address, with its ledger and reports as they are there, and its images if asked.

    What this machine has that is not uploaded yet stays. UserError where there is no run at the address or here.
    """
    remote = Folder(url)
    if not url.name:
        raise UserError(f"{url}: expected the address of a run, such as {url}/sdxl_main-0123456789")
    folder = folder_of(url.parent) / url.name
    if not (folder / "ledger.sqlite").is_file() and Manifest.read(remote) is None:
        raise UserError(f"{url}: no run there (no {MANIFEST}); expected one made by `bench run --runs {url.parent}`")
    if State.read(folder).dirty and is_locked(folder):
        return folder  # a run on this machine is at work: what it has is the newest
    with exclusive(folder):
        pull(remote, folder, images=images)
    return folder


def pull(remote: Folder, folder: Path, *, images: bool) -> Manifest | None:
    """Bring what is newer at the address, by who holds the folder; returns what the address says of itself.

    UserError where both sides have something that the other lacks.
    """
    manifest, state = Manifest.read(remote), State.read(folder)
    if manifest is None:
        return None
    newer = manifest.work != state.work and manifest.snapshot != state.pulled
    if newer and state.dirty:
        raise UserError(
            f"{remote.url}: written by {manifest.host} since this machine's work there; {folder} has what was not "
            "uploaded: move that folder away to resume from the address, or give another --runs address"
        )
    if not newer and not images:
        return manifest
    sizes = {name: size for name, size in remote.sizes().items() if _is_ours(name)}
    journal = Journal(folder)
    if newer:
        _take_over(remote, folder, journal)
        state.pulled = manifest.snapshot
    wanted = [
        name
        for name in sizes
        if name not in (MANIFEST, SUMS, "ledger.sqlite")
        and (images or not name.startswith("images/"))
        and not (folder / name).is_file()
    ]
    _download(remote, folder, wanted, journal)
    journal.close()
    state.write(folder)
    return manifest


def _is_ours(name: str) -> bool:
    """Whether a name at an address is one of a run folder's: a key of an object store may be any text."""
    return all(part and not part.startswith(".") and "\\" not in part for part in name.split("/")) and "\0" not in name


def _take_over(remote: Folder, folder: Path, journal: Journal) -> None:
    """Put the address's ledger in the place of the one here, and remove the files that are other ones there."""
    before = _digests(folder)
    there = folder / ".fetched.sqlite"
    if not remote.get("ledger.sqlite", there):
        raise UserError(
            f"{remote.url}: no ledger.sqlite beside {MANIFEST}; the upload was cut short: run it again there"
        )
    try:
        place_ledger(folder, there, remote.read(SUMS))
    except UserError as error:
        raise UserError(f"{remote.url}: {error}") from None
    finally:
        there.unlink(missing_ok=True)
    after = _digests(folder)
    for name in journal.known:
        # Reports are written again; an image of the same name may have been made again by other code.
        if not name.startswith("images/") or after.get(name) != before.get(name):
            (folder / name).unlink(missing_ok=True)


def _digests(folder: Path) -> Mapping[str, str]:
    if not (folder / "ledger.sqlite").is_file():
        return {}
    ledger = Ledger(folder, read_only=True)
    try:
        return {image.file: image.digest for image in ledger.images().values()}
    finally:
        ledger.close()


def _download(remote: Folder, folder: Path, names: Iterable[str], journal: Journal) -> None:
    """Get files, several at a time, each whole or not at all."""
    wanted = list(names)
    if not wanted:
        return
    faults: list[RemoteFault] = []

    def get(name: str) -> None:
        if faults:
            return
        try:
            remote.get(name, folder / name)
        except RemoteFault as fault:
            faults.append(fault)

    with Progress(f"fetch {remote.url.name}", len(wanted), "files") as progress, ThreadPoolExecutor(AT_ONCE) as pool:
        for name, _ in zip(wanted, pool.map(get, wanted), strict=True):
            if (folder / name).is_file():
                journal.add(name, stamp_of(folder / name))
            progress.advance(1)
    if faults:
        raise faults[0]
