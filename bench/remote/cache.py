"""The image cache at an address, with what was used of it in a work folder here."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from bench.remote.address import Folder, RemoteFault
from bench.remote.work import address_of
from bench.store import Image
from bench.store.cache import ImageCache

PATIENCE = 60.0
"""Seconds without an upload, once the work is done, until the rest is left for the next run."""
AT_ONCE = 8
_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


def image_cache_or_none(folder: Path | None) -> AbstractContextManager[ImageCache | None]:
    """`image_cache`, or None for a run without one."""
    return contextlib.nullcontext() if folder is None else image_cache(folder)


@contextlib.contextmanager
def image_cache(folder: Path) -> Iterator[ImageCache]:
    """The image cache in a folder, which may be the work folder of an address: then what was put is uploaded."""
    url = address_of(folder)
    if url is None:
        yield ImageCache(folder)
        return
    cache = RemoteCache(folder, Folder(url))
    try:
        yield cache
    finally:
        cache.close()


class RemoteCache(ImageCache):
    """A cache whose images are brought before they are asked for, and uploaded after they are put there.

    An image that waits for its upload has a file of its name in `waiting`, which outlives a kill. An address that
    cannot be reached costs time and nothing else: images are made, and wait.
    """

    def __init__(self, folder: Path, remote: Folder):
        super().__init__(folder)
        self.remote = remote
        self.place = f"{remote.url}/images"
        self.waiting = folder / "waiting"
        self.waiting.mkdir(parents=True, exist_ok=True)
        self._listed: dict[str, dict[str, int]] = {}
        self._noted = False
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        if any(self.waiting.iterdir()):
            self._start()

    def put(self, image: Image, source: Path) -> None:
        """Keep a run's image here, and upload it in the background."""
        super().put(image, source)
        (self.waiting / image.job_id).touch()
        self._start()

    def near(self, ids: Iterable[str]) -> None:
        """Bring those of these images that only the address has, several at a time."""
        wanted = [i for i in ids if not self.has(i)]
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(self._list, sorted({i[:2] for i in wanted})))
                there = [i for i in wanted if {f"{i}.json", f"{i}.png"} <= self._listed[i[:2]].keys()]
                list(pool.map(self._bring, there))
        except RemoteFault as fault:
            self._note(f"the cache cannot be read ({fault}); images that it may have are made")

    def _list(self, prefix: str) -> None:
        if prefix not in self._listed:
            found = self.remote.sizes(f"images/{prefix}")
            self._listed[prefix] = {name.rpartition("/")[2]: size for name, size in found.items()}

    def _bring(self, job_id: str) -> None:
        # The record comes last: it says that its image is whole.
        for suffix in (".png", ".json"):
            self.remote.get(f"images/{job_id[:2]}/{job_id}{suffix}", self._path(job_id, suffix))

    def records(self) -> Iterator[Path]:
        """Where the record files of all whole images are here, or would be."""
        for name in self._names():
            if name.endswith(".json"):
                yield self.folder.parent / name

    def size(self) -> tuple[int, int]:
        """(images, bytes) at the address."""
        names = self._names()
        return sum(name.endswith(".json") for name in names), sum(names.values())

    def _names(self) -> dict[str, int]:
        return self.remote.sizes("images")

    def clean(self) -> tuple[int, int]:
        """Remove everything, there and here; returns what `size` was."""
        before = self.size()
        self.remote.remove_all("images")
        shutil.rmtree(self.folder, ignore_errors=True)
        for one in self.waiting.iterdir():
            one.unlink()
        return before

    def close(self) -> None:
        """Upload what waits, as long as that gets on; the rest waits for the next run."""
        if self._thread is None:
            return
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._thread = None
        left = sum(1 for _ in self.waiting.iterdir())
        if left:
            self._note(f"{left} images are not in the cache at {self.remote.url} yet; the next run uploads them")

    def _start(self) -> None:
        if self._thread is None:
            self._closing = False
            self._thread = threading.Thread(target=self._work, name="cache", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        moved, pause = time.monotonic(), _PAUSE
        while True:
            ids = sorted(one.name for one in self.waiting.iterdir())
            sent = sum(self._uploaded(ids))
            if sent:
                moved = time.monotonic()
            if self._closing and (sent == len(ids) or time.monotonic() - moved > PATIENCE):
                if sent == len(ids) and any(self.waiting.iterdir()):
                    continue  # put since we looked
                return
            pause = _PAUSE if sent == len(ids) else min(2 * pause, _LONGEST_PAUSE)
            if self._closing:
                time.sleep(min(pause, 5.0))
            elif self._wake.wait(pause):
                moved, pause = time.monotonic(), _PAUSE

    def _uploaded(self, ids: list[str]) -> list[bool]:
        faults: list[RemoteFault] = []

        def send(job_id: str) -> bool:
            if faults:
                return False
            try:
                for suffix in (".png", ".json"):
                    path = self._path(job_id, suffix)
                    if path.is_file():
                        self.remote.put(path, f"images/{job_id[:2]}/{job_id}{suffix}")
            except RemoteFault as fault:
                faults.append(fault)
                return False
            (self.waiting / job_id).unlink(missing_ok=True)
            return True

        with ThreadPoolExecutor(AT_ONCE // 2) as pool:
            done = list(pool.map(send, ids))
        if faults:
            self._note(f"the cache cannot be written to ({faults[0]}); its images wait and are tried again")
        return done

    def _note(self, line: str) -> None:
        """Say the first trouble, and what is left at the end."""
        if not self._noted or self._closing:
            print(f"note: {line}", file=sys.stderr)
        self._noted = True
