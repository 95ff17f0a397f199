"""Whether image files show what was recorded of them: their pixels are compared with the digest when they are read.

Decoding takes 20 ms for an image of 1024 pixels, so a run keeps the time and the size that a compared file had
(`checked` in the ledger): one that has not changed since is not decoded again when the run resumes. Whoever scores an
image decodes it anyway, and always compares.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

from bench.errors import UserError
from bench.store.files import inside, stamp
from bench.store.images import pixel_digest, read_png
from bench.store.ledger import Ledger
from bench.store.rows import Image

AGAIN = "run the suite again, which makes it again"
"""What heals a damaged image of a run: it is not taken from the folder, nor from a cache that has the same damage."""


def damaged(path: Path, digest: str) -> str | None:
    """Why a file does not show the image of a digest, in a few words; None where it does."""
    try:
        pixels = read_png(path, advice=AGAIN)
    except UserError as error:
        return "missing" if not path.exists() else str(error).removeprefix(f"{path}: ").removesuffix(f"; {AGAIN}")
    return None if pixel_digest(pixels) == digest else "its pixels are not those that were recorded"


def whole_images(ledger: Ledger, jobs: Collection[str] | None = None, *, quiet: bool = False) -> dict[str, Image]:
    """By job id, the images of a ledger, or of these jobs, whose files are there and show what was recorded.

    What changed since it was compared is decoded; that some of it is damaged is said on standard error, if not `quiet`.
    """
    images = {job: one for job, one in ledger.images().items() if jobs is None or job in jobs}
    known = ledger.checked()
    good: dict[tuple[str, str], bool] = {}
    compared: list[Image] = []
    lost: list[str] = []
    for image in images.values():
        key = image.file, image.digest
        if key in good:
            continue
        seen = stamp(ledger.folder / image.file)
        good[key] = seen is not None and known.get(image.file) == (image.digest, *seen)
        if seen is None or good[key]:
            continue
        why = damaged(inside(ledger.folder, image.file), image.digest)
        good[key] = why is None
        if why is None:
            compared.append(image)
        else:
            lost.append(f"{image.file}: {why}")
    if compared and not ledger.read_only:
        ledger.put_checked(compared)
    if lost and not quiet:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        print(f"note: {ledger.folder}: {lost[0]}{more}; made again", file=sys.stderr)
    return {job: one for job, one in images.items() if good[one.file, one.digest]}
