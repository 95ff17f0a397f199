"""A control image: a file that a prompt carries, pinned by its content. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bench.digests import file_digest
from bench.errors import UserError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP")
"""Nothing that runs another program to be read."""
MODES = ("1", "L", "P", "RGB")
"""Of 8 bits and without transparency: diffusers clips 16-bit depth to white and shows the colours under an alpha."""


@dataclass(frozen=True)
class ControlImage:
    """An image file, and the digest that it must have where one was taken."""

    path: Path
    digest: str = ""
    """sha256 of the file as a plan found it, 32 hex digits."""

    def pinned(self) -> ControlImage:
        """With its digest; UserError where there is no such file."""
        self._stat()
        try:
            return replace(self, digest=file_digest(self.path)[:32])
        except OSError as error:
            raise UserError(f"control image {self.path}: cannot be read: {error.strerror or error}") from error

    def check(self, size: tuple[int, int] | None, *, of: str) -> None:
        """UserError where it is missing, broken or of another size (height, width) than `of` makes; None: any size."""
        found = _checked(self.path, *self._stat(), size)
        if size is not None and found != size:
            raise UserError(
                f"control image {self.path} is {found[0]}x{found[1]} (height x width), and {of} makes "
                f"{size[0]}x{size[1]}; give one of that size"
            )

    def read(self) -> Image:
        """The image in RGB; UserError where the file is not the one that was planned with."""
        if self.digest and self.pinned().digest != self.digest:
            raise UserError(f"control image {self.path} has changed since the run was planned; run it again")
        image = _opened(self.path)
        return _rgb(self.path, image)

    def _stat(self) -> tuple[int, int]:
        try:
            stat = self.path.stat()
        except (OSError, ValueError) as error:
            raise UserError(f"control image {self.path}: no such file; put the image there") from error
        return stat.st_mtime_ns, stat.st_size


@cache
def _checked(path: Path, changed: int, bytes_: int, size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width; pixels are read only where the size is right, for a small file may claim to be huge."""
    image = _opened(path)
    found = (image.height, image.width)
    if size is None or found == size:
        _rgb(path, image)
    return found


def _opened(path: Path) -> Image:
    from PIL import Image

    try:
        return Image.open(path, formats=FORMATS)
    except Exception as error:
        # Pillow raises whatever its decoders raise.
        raise UserError(f"control image {path}: not readable; expected one of {', '.join(FORMATS)}") from error


def _rgb(path: Path, image: Image) -> Image:
    if image.mode not in MODES:
        raise UserError(
            f"control image {path} is of Pillow's mode {image.mode}; save it with 8 bits a channel, in grey or RGB, "
            "without transparency"
        )
    try:
        return image.convert("RGB")
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"control image {path}: broken ({reason}); save it again") from error
