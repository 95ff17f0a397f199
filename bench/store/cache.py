"""Images shared by runs, by job id: `DIR/images/ab/<job id>.png` with its record `<job id>.json` beside it.

The record is renamed into place after the image, so a record means that its image is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.store import Image, link_or_copy, write_atomically


def default_folder() -> Path:
    """`BENCH_CACHE`, else `~/.cache/bench`."""
    return Path(os.environ.get("BENCH_CACHE") or Path.home() / ".cache" / "bench")


class ImageCache:
    """Keep finished images and their records; safe for several processes, because renames are atomic."""

    def __init__(self, folder: Path):
        self.folder = folder / "images"

    def _path(self, job_id: str, suffix: str) -> Path:
        return self.folder / job_id[:2] / f"{job_id}{suffix}"

    def has(self, job_id: str) -> bool:
        return self._path(job_id, ".json").is_file()

    def put(self, image: Image, source: Path) -> None:
        """Keep a run's image; a link where the file system allows one, else a copy."""
        target = self._path(image.job_id, ".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(source, target)
        write_atomically(self._path(image.job_id, ".json"), json.dumps(asdict(image)).encode())

    def get(self, job_id: str, target: Path, file: str, *, by: str | None = None) -> Image | None:
        """Bring an image into a run as `target`; None where the cache has no whole one, or none made `by` an origin."""
        try:
            record: dict[str, Any] = json.loads(self._path(job_id, ".json").read_text())
            image = Image(**record)
            if by is not None and image.origin != by:
                return None
            link_or_copy(self._path(job_id, ".png"), target)
        except (OSError, ValueError, TypeError):
            # Gone, cut short, or written by another version: making the image again is always right.
            return None
        return replace(image, file=file, from_cache=1)

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
