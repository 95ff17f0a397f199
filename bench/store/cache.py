"""Images shared by runs, by job id: `DIR/images/ab/<job id>.png` with its record `<job id>.json` beside it.

The record is renamed into place after the image, so a record means that its image is whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from bench.store import Image, clone_or_copy, full_disk_is_said, write_atomically
from bench.store.kept import record_of, text_of
from bench.store.whole import damaged


def default_folder() -> Path:
    """`BENCH_CACHE`, else `~/.cache/bench`."""
    return Path(os.environ.get("BENCH_CACHE") or Path.home() / ".cache" / "bench")


class ImageCache:
    """Keep finished images and their records; safe for several processes, because renames are atomic."""

    def __init__(self, folder: Path):
        self.folder = folder / "images"
        self.place: Path | str = self.folder
        """Where it lies, for a person."""

    def _path(self, job_id: str, suffix: str) -> Path:
        return self.folder / job_id[:2] / f"{job_id}{suffix}"

    def near(self, ids: Iterable[str]) -> None:
        """Bring these images where `has` and `get` find them; those of a cache on this machine are there."""

    def has(self, job_id: str) -> bool:
        return self._path(job_id, ".json").is_file()

    def put(self, image: Image, source: Path) -> None:
        """Keep a run's image, as a file of its own; UserError, which names the cache, where its disk is full."""
        target = self._path(image.job_id, ".png")
        with full_disk_is_said(self.folder.parent, or_else="give --no-cache"):
            target.parent.mkdir(parents=True, exist_ok=True)
            clone_or_copy(source, target)
            write_atomically(self._path(image.job_id, ".json"), text_of(image).encode())

    def get(self, job_id: str, target: Path, file: str, *, by: str | None = None) -> Image | None:
        """Bring an image into a run as `target`; None where the cache has no whole one, or none made `by` an origin.

        Its pixels are compared with the digest in its record. One that was damaged is removed, so that the image that
        is made in its place is kept.
        """
        image = self.record(job_id)
        if image is None or (by is not None and image.origin != by):
            return None
        png = self._path(job_id, ".png")
        if damaged(png, image.digest):
            self.remove(job_id)
            return None
        try:
            clone_or_copy(png, target)
        except FileNotFoundError:
            return None  # another process has emptied the cache
        return replace(image, file=file, from_cache=1)

    def record(self, job_id: str) -> Image | None:
        """What is kept of an image; None where it is gone, cut short, altered, or written by another version."""
        try:
            image = record_of(self._path(job_id, ".json").read_bytes())
        except (OSError, ValueError):
            # Making the image again is always right.
            return None
        return image if image.job_id == job_id else None

    def remove(self, job_id: str) -> None:
        """Forget an image; its record goes first, so that what has a record is whole."""
        for suffix in (".json", ".png"):
            with contextlib.suppress(OSError):
                self._path(job_id, suffix).unlink()

    def records(self) -> Iterator[Path]:
        """Record files of all whole images."""
        return self.folder.glob("*/*.json")

    def size(self) -> tuple[int, int]:
        """(images, bytes on disk)."""
        n = total = 0
        for record in self.records():
            n += 1
            total += record.stat().st_size
            png = record.with_suffix(".png")
            total += png.stat().st_size if png.exists() else 0
        return n, total

    def clean(self) -> tuple[int, int]:
        """Remove everything; returns what `size` was. Runs keep their images: theirs are links or copies."""
        before = self.size()
        shutil.rmtree(self.folder, ignore_errors=True)
        return before
