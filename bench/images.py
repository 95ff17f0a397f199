"""Images: what their pixels are called, and reading them back from disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


def pixel_digest(pixels: np.ndarray) -> str:
    """sha256 over shape and bytes of an (H, W, 3) uint8 image, so that the PNG encoder does not matter."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def rgb(picture: Image) -> np.ndarray:
    """An opened image of any mode as (H, W, 3) uint8, which is what every scorer is given.

    Transparency is dropped, not laid on a colour, for the public scorers differ there; 16-bit grey is scaled, where
    Pillow alone cuts it off at 255.
    """
    import numpy as np

    if picture.mode.startswith("I"):
        wide = np.asarray(picture).astype(np.int64).clip(0, 65535)
        grey = ((wide + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    return np.asarray(picture.convert("RGB"))


def read_png(path: Path, *, mend: str, missing: str | None = None) -> np.ndarray:
    """An (H, W, 3) uint8 image; UserError where there is none, or not a whole one.

    `mend` is what the message advises; `missing` stands in the place of all that is said of a file that is not there.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            return rgb(opened)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # a broken PNG is a SyntaxError to Pillow
        if isinstance(error, FileNotFoundError) and missing:
            raise UserError(f"{path}: missing; {missing}") from None
        raise UserError(f"{path}: not a whole PNG ({error}); {mend}") from error
