"""Image files as data URIs under one budget: as large and as good as all of them together allow."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.store.images import opened

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST = 320
"""Pixels of the longer side up to which a file is embedded as it is, where the budget allows."""

STEPS = ((320, 92), (320, 80), (256, 78), (192, 75), (160, 72), (128, 70), (96, 62))
"""(longer side in pixels, WebP quality), best first; the first two differ for images that are small already.

Below the last one files on disk are shown instead."""

SAMPLE = 24
"""Files, evenly spaced, whose sizes tell which step all of them can have."""

LOOK = 32
"""Pixels a side to which pictures are reduced before they are compared."""

BLOCK = 64
"""Files that are reduced at a time, so that little is made that no longer fits."""


@dataclass(frozen=True)
class Thumbnail:
    """A data URI, empty where the budget was spent; the file's own width in pixels, 0 where it was not opened."""

    source: str
    width: int
    readable: bool
    """False where there is no file, or one that is no whole image."""
    look: bytes = b""
    """The image reduced to LOOK x LOOK pixels of RGB; empty where it was not opened."""


def thumbnails(files: Sequence[Path | None], budget: int, *, twice: Collection[int] = ()) -> list[Thumbnail]:
    """One thumbnail a file, of at most `budget` characters together; files numbered in `twice` count double.

    All files get the best step of `STEPS` that the budget allows for all. Where not even the last does, the first
    files get theirs until the budget is spent.
    """
    present = [file for file in files if file is not None]
    extra = len(twice) / max(1, len(files))
    encode = _encoder(present, budget / (1 + extra))
    found, left = [], budget
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), BLOCK):
            block = files[start : start + BLOCK]
            # Opened only while there is room: thousands of large images would take minutes.
            made = pool.map(encode, block) if left > 0 else (Thumbnail("", 0, file is not None) for file in block)
            for number, thumbnail in enumerate(made, start):
                size = len(thumbnail.source) * (2 if number in twice else 1)
                if size > left:
                    left = 0  # later and smaller ones do not jump the queue
                    thumbnail = replace(thumbnail, source="")
                left -= size if thumbnail.source else 0
                found.append(thumbnail)
    return found


def changes_of(images: Sequence[int], found: Sequence[Thumbnail]) -> Iterator[float | None]:
    """How far each picture is from the first, by the images' numbers (-1: none): mean absolute difference in %."""
    import numpy as np

    looks = [np.frombuffer(found[at].look if at >= 0 else b"", np.uint8).astype(np.int16) for at in images]
    for look in looks:
        known = len(look) and len(looks[0])
        yield round(float(np.abs(look - looks[0]).mean()) / 2.55, 2) if known else None


def _encoder(files: Sequence[Path], budget: float) -> Callable[[Path | None], Thumbnail]:
    """How each file is embedded: as it is where all files fit so, else by the best step that fits."""
    sample = [files[i * len(files) // SAMPLE] for i in range(min(SAMPLE, len(files)))] if files else []
    whole = [len(thumbnail.source) for file in sample if (thumbnail := _embedded(file, None)).source]
    if len(files) * _typical(whole) <= budget:
        return lambda file: _embedded(file, None)
    copies = list(_copies(sample))
    for step in STEPS:
        if len(files) * _typical([len(_uri("webp", _webp(copy, *step))) for copy in copies]) <= budget:
            return lambda file, step=step: _embedded(file, step)  # type: ignore[misc]
    return lambda file: _embedded(file, STEPS[-1])


def _typical(sizes: list[int]) -> float:
    """The mean with a margin of two standard errors, and of 2 %: a step that nearly fits would leave files out."""
    if not sizes:
        return 0.0
    mean = sum(sizes) / len(sizes)
    spread = (sum((size - mean) ** 2 for size in sizes) / len(sizes)) ** 0.5
    return 1.02 * mean + 2 * spread / len(sizes) ** 0.5


def _copies(files: Sequence[Path]) -> Iterator[Image]:
    """Copies of no more than the largest step, so that every step is tried without opening the files again."""
    from PIL import Image

    for file in files:
        try:
            with opened(file) as image:
                yield _reduced(image, LONGEST)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue


def _embedded(file: Path | None, step: tuple[int, int] | None) -> Thumbnail:
    """One file by a step; None embeds small PNG, JPEG and WebP files as they are, and the others by the best step."""
    from PIL import Image

    nothing = Thumbnail("", 0, False)
    if file is None:
        return nothing
    try:
        with opened(file) as image:
            width, kind = image.width, str(image.format).lower()
            small = max(image.size) <= LONGEST and kind in ("png", "jpeg", "webp")
            image.load()  # a truncated file must not become a broken picture
            look = image.convert("RGB").resize((LOOK, LOOK), Image.Resampling.BOX).tobytes()
            if step is None and small:
                return Thumbnail(_uri(kind, file.read_bytes()), width, True, look)
            data = _webp(image, *(step or STEPS[0]))
            if small and step and max(image.size) <= step[0] and file.stat().st_size <= len(data):
                kind, data = kind, file.read_bytes()
            else:
                kind = "webp"
            return Thumbnail(_uri(kind, data), width, True, look)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return nothing


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _reduced(image: Image, longest: int) -> Image:
    """A copy in RGB whose longer side is `longest` pixels or less."""
    from PIL import Image

    copy = image.convert("RGB")
    copy.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return copy


def _webp(image: Image, longest: int, quality: int) -> bytes:
    buffer = io.BytesIO()
    _reduced(image, longest).save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()
