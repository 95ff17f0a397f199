"""A picture of 4 by 4 pixels: its PNG, and the record of an image that shows it."""

from __future__ import annotations

import io

import numpy as np
from handmade import stored_image
from PIL import Image as Pillow

from bench.store import Image
from bench.store.images import pixel_digest

SHOWN = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def png(pixels: np.ndarray) -> bytes:
    """The PNG of pixels (H, W, 3)."""
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


PIXELS = png(SHOWN)


def image(job_id: str, **changed: object) -> Image:
    """The record of an image whose pixels are `SHOWN`."""
    return stored_image(job_id, digest=pixel_digest(SHOWN), **changed)
