"""From a run's work folder to its address: in the background, tried again, and no file forgotten."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.errors import UserError
from bench.progress import Progress
from bench.remote.address import Folder, RemoteFault
from bench.remote.fetching import Manifest, pull
from bench.remote.work import Journal, Stamp, State, address_of, files
from bench.store.seals import SUMS
from bench.store.snapshot import snapshot, sums_with

SCAN_SECONDS = 2.0
"""Between two looks for new files; more where a look takes long."""
SNAPSHOT_SECONDS = 180.0
"""Between two snapshots of the ledger at the address; more where one takes long."""
LONGEST_PAUSE = 60.0
"""Between two tries during an outage; the first pause is a second, and each is twice the one before."""
PATIENCE = 300.0
"""Seconds without a single upload, once the work is done, until the command ends with what is left."""
HURRY = 10.0
"""The same for work that was interrupted."""
AT_ONCE = 4
"""Uploads at the same time."""
_BATCH = 64
"""Files between two looks at whether to stop."""
_SHARE = 20
"""A look or a snapshot takes at most one part in so many of the time."""

_open: set[Path] = set()
"""Folders that this process mirrors now: within them a further `mirrored` does nothing."""


@contextlib.contextmanager
def mirrored(folder: Path, *, pulling: bool = False) -> Iterator[None]:
    """Upload what the block leaves in a run's folder, while it works and at its end; nothing for a folder without an
    address. The caller holds the folder (`exclusive`).

    `pulling` first brings what another machine left at the address; without it that is a UserError. Ends with a
    RemoteFault where files are left to upload; they stay, and the next call uploads them.
    """
    url, key = address_of(folder), folder.absolute()
    if url is None or not url.name or key in _open:
        yield
        return
    mirror = Mirror(folder, Folder(url))
    mirror.begin(pulling=pulling)
    _open.add(key)
    try:
        yield
    except BaseException as error:
        # What ended the work is what is said; SystemExit and the like too.
        patience = HURRY if isinstance(error, KeyboardInterrupt) else min(PATIENCE, 3 * HURRY)
        try:
            mirror.finish(patience)
        except UserError as fault:
            print(f"note: {fault}", file=sys.stderr)
        raise
    else:
        mirror.finish(PATIENCE)
        print(f"uploaded: {url}", file=sys.stderr)
    finally:
        _open.discard(key)
        mirror.stop()


class Mirror:
    """One run's folder and its address."""

    def __init__(self, folder: Path, remote: Folder):
        self.folder, self.remote = folder, remote
        self.fault: RemoteFault | None = None
        """Of the last try, if it failed."""
        self.cause: BaseException | None = None
        """What the file system raised then."""
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._moved = time.monotonic()
        """When a file was last uploaded."""
        self._looking = self._copying = 0.0
        """Seconds of the last look, and of the last snapshot."""

    def begin(self, *, pulling: bool) -> None:
        """Claim the address, and start uploading; UserError where it is in use, ahead of this folder, or no place."""
        state, found = State.read(self.folder), Manifest.read(self.remote)
        if found is not None and found.alive and found.work != state.work:
            raise found.busy(self.remote.url)
        if pulling and found is not None:
            found = pull(self.remote, self.folder, images=True)
            state = State.read(self.folder)
        if found is not None and found.work != state.work and found.snapshot != state.pulled:
            raise UserError(f"{self.remote.url}: written by {found.host} just now; run the same command again")
        self.journal = Journal(self.folder)
        if found is not None:
            self.journal.keep_only(self.remote.sizes())
        state.dirty = True
        state.write(self.folder)
        self.state = state
        self.snapshot = found.snapshot if found else ""
        # Said at once: an address that cannot be written to is better found before hours of work.
        self._say(running=True)
        self._taken = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
        self._thread.start()

    def finish(self, patience: float) -> None:
        """Upload all that is left, until `patience` seconds bring nothing more; RemoteFault with what is left then."""
        self.stop()
        self._moved, pause = time.monotonic(), 1.0
        while not self._push(whole=True, shown=True):
            assert self.fault is not None
            if time.monotonic() - self._moved + pause > (min(patience, HURRY) if self.fault.hopeless else patience):
                left = len(list(self._left()))
                advice = (
                    f"{left} files of this run are not uploaded yet and stay in {self.folder}: run the same command "
                    "again to upload them"
                )
                raise RemoteFault(self.remote.url, self.cause or self.fault, advice)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self.state.dirty = False
        self.state.write(self.folder)

    def stop(self) -> None:
        """End the uploads in the background."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self.journal.close()

    def _work(self) -> None:
        pause, failures = SCAN_SECONDS, 0
        while not self._wake.wait(pause):
            due = time.monotonic() - self._taken > max(SNAPSHOT_SECONDS, _SHARE * self._copying)
            failures = 0 if self._push(whole=due, shown=False) else failures + 1
            pause = min(2.0 ** (failures - 1), LONGEST_PAUSE) if failures else SCAN_SECONDS
            pause = max(pause, _SHARE * self._looking)

    def _left(self) -> Iterator[tuple[str, Stamp]]:
        """The files that are not at the address as they are here."""
        return (one for one in files(self.folder) if self.journal.known.get(one[0]) != one[1])

    def _push(self, *, whole: bool, shown: bool) -> bool:
        """Upload what is new; `whole`: a snapshot of the ledger too, after the files that it names. False: a fault."""
        copy = self.folder / ".snapshot.sqlite"
        try:
            if whole:
                self._check_claim()
            taken = whole and (self.folder / "ledger.sqlite").is_file()
            started = time.monotonic()
            if taken:
                snapshot(self.folder, copy)
                self._copying = time.monotonic() - started
                started = time.monotonic()
            todo = sorted(self._left(), key=lambda one: not one[0].startswith("images/"))
            self._looking = time.monotonic() - started
            self._upload(todo, shown)
            if taken:
                self.remote.put(copy, "ledger.sqlite")
                self.remote.write(SUMS, sums_with(self.folder, copy))
                self.snapshot = uuid.uuid4().hex
                self._taken = self._moved = time.monotonic()
            if whole:
                self._say(running=not self._stopping)
            self.fault = None
            return True
        except Exception as error:  # the work continues, whatever becomes of its uploads
            self.cause = error.__cause__ if isinstance(error, RemoteFault) else error
            self.fault = error if isinstance(error, RemoteFault) else RemoteFault(self.remote.url, error)
            return False
        finally:
            copy.unlink(missing_ok=True)

    def _upload(self, todo: list[tuple[str, Stamp]], shown: bool) -> None:
        if not todo:
            return
        faults: list[RemoteFault] = []

        def put(one: tuple[str, Stamp]) -> bool:
            if faults:
                return False  # an outage: not every file of a batch is tried in vain
            try:
                self.remote.put(self.folder / one[0], one[0])
            except RemoteFault as fault:
                if not (self.folder / one[0]).is_file():
                    return False  # replaced or removed meanwhile; the next look finds what is there
                faults.append(fault)
                return False
            return True

        bar = Progress("upload", len(todo), "files") if shown and len(todo) > _BATCH else contextlib.nullcontext()
        with bar as progress, ThreadPoolExecutor(AT_ONCE) as pool:
            for at in range(0, len(todo), _BATCH):
                if self._stopping and not shown:
                    return
                batch = todo[at : at + _BATCH]
                for one, done in zip(batch, pool.map(put, batch), strict=True):
                    if done:
                        self.journal.add(*one)
                        self._moved = time.monotonic()
                if progress is not None:
                    progress.advance(len(batch))
                if faults:
                    raise faults[0]

    def _check_claim(self) -> None:
        """UserError where another machine has taken this run for dead, or started in the same moment."""
        found = Manifest.read(self.remote)
        if found is not None and found.work != self.state.work:
            raise found.busy(self.remote.url)

    def _say(self, *, running: bool) -> None:
        Manifest.of(self.state.work, self.snapshot, running=running).write(self.remote)
