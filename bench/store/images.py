"""Images: what their pixels are called, and reading them back from disk."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bench.errors import UserError, first_line

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
"""What is decoded, by content and not by name: Pillow reads EPS by running another program on the file."""
_ORIENTATION = 0x0112
"""The EXIF tag that says how a viewer should turn an image; the public scorers do not read it."""


def pixel_digest(pixels: np.ndarray) -> str:
    """sha256 over shape and bytes of an (H, W, 3) uint8 image, so that the PNG encoder does not matter."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def opened(path: Path | IO[bytes]) -> Image:
    """Pillow's image of a file in one of FORMATS, its pixels not decoded yet; Pillow's errors otherwise."""
    from PIL import Image

    if not set(FORMATS) <= Image.OPEN.keys():
        Image.init()  # an older Pillow has no AVIF after it either
    return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])


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


def decode(path: Path) -> tuple[np.ndarray, str]:
    """Anyone's image file as (H, W, 3) uint8, and what was changed for that: empty for 8-bit RGB.

    UserError with the reason, the path left out, for what is no whole image or shows nothing certain as RGB.
    """
    from PIL import UnidentifiedImageError

    try:
        if not path.stat().st_size:
            raise UserError("an empty file (0 bytes)")
        with opened(path) as picture:
            if picture.mode in ("F", "I"):
                mode = picture.mode
                raise UserError(f"32 bits a pixel (mode {mode}), whose range is not known; save it with 8 or 16")
            changed = _changed(picture)
            return rgb(picture), changed
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError("does not decode: no image format that is known") from error
    except Exception as error:  # the decoders raise anything at broken bytes
        raise UserError(f"does not decode: {first_line(error)}") from error


def _changed(picture: Image) -> str:
    """What `rgb` does to an opened image that is not plain 8-bit RGB, in words."""
    said = []
    if (frames := getattr(picture, "n_frames", 1)) > 1:
        said.append(f"the first of {frames} frames")
    raw = str(picture.tile[0][3]) if picture.tile else ""
    if picture.mode.startswith("I") or ";16" in raw:
        said.append("16 bits to 8")
    if picture.mode in ("L", "1", "LA", "La") or picture.mode.startswith("I"):
        said.append("grey to RGB")
    elif picture.mode == "CMYK":
        said.append("CMYK to RGB without a colour profile")
    elif picture.mode not in ("RGB", "RGBA", "RGBX"):
        said.append(f"{'palette' if picture.mode in ('P', 'PA') else picture.mode} to RGB")
    if "A" in picture.mode.upper().removesuffix("LAB") or "transparency" in picture.info:
        said.append("transparency dropped")
    if picture.getexif().get(_ORIENTATION, 1) != 1:
        said.append("its EXIF orientation left aside")
    return ", ".join(said)


def read_png(path: Path, *, advice: str, missing: str | None = None, data: bytes | None = None) -> np.ndarray:
    """An (H, W, 3) uint8 image; UserError where there is none, or not a whole one.

    `advice` is the message's last part; `missing` stands in the place of all that is said of a file that is not there.
    `data` is the file's content where it was read before.
    """
    try:
        with opened(path if data is None else io.BytesIO(data)) as picture:
            return rgb(picture)
    except FileNotFoundError as error:
        said = f"missing; {missing}" if missing else f"not a whole PNG ({error}); {advice}"
        raise UserError(f"{path}: {said}") from None
    except Exception as error:  # Pillow raises anything at broken bytes: SyntaxError, struct.error, ValueError
        raise UserError(f"{path}: not a whole PNG ({first_line(error)}); {advice}") from error
