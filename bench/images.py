"""Images: what their pixels are called, and reading them back from disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def pixel_digest(pixels: np.ndarray) -> str:
    """sha256 over shape and bytes of an (H, W, 3) uint8 image, so that the PNG encoder does not matter."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def read_png(path: Path, *, mend: str, missing: str | None = None) -> np.ndarray:
    """An (H, W, 3) uint8 image; UserError where there is none, or not a whole one.

    `mend` is what the message advises; `missing` stands in the place of all that is said of a file that is not there.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert("RGB"))
    except (OSError, SyntaxError) as error:  # Pillow's word for a broken PNG is SyntaxError
        if isinstance(error, FileNotFoundError) and missing:
            raise UserError(f"{path}: missing; {missing}") from None
        raise UserError(f"{path}: not a whole PNG ({error}); {mend}") from error
