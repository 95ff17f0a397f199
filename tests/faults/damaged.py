"""Images of a run that something altered, and whether any is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import Run
from PIL import Image as Pillow

from bench.store.images import pixel_digest


def swap(png: Path) -> None:
    """Another whole image in the place of one, in the very file: a hard link would share it."""
    pixels = np.asarray(Pillow.open(png).convert("RGB"))[::-1].copy()
    with png.open("r+b") as file:
        Pillow.fromarray(pixels).save(file, format="PNG")
        file.truncate()


def whole(run: Run) -> bool:
    """Whether every file of the run shows what the ledger says."""
    rows = run.rows("SELECT file, digest FROM images")
    return all(pixel_digest(np.asarray(Pillow.open(run.folder / f).convert("RGB"))) == d for f, d in rows)


def first_png(run: Run) -> Path:
    """An image of the baseline."""
    ((file,),) = run.rows("SELECT file FROM cells JOIN images USING (job_id) WHERE method = 'standard' AND "
                          "prompt_index = 0")  # fmt: skip
    return run.folder / file
