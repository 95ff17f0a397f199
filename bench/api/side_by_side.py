"""Images of one prompt and seed side by side, for a notebook or as one picture."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("PNG", "JPEG", "WEBP")
"""What a run's images are: Pillow reads other formats, EPS among them, by running another program on the file."""
SIDE = 192
"""Pixels that an image is shown at, at least."""


@dataclass(frozen=True)
class SideBySide:
    """What `Run.show` gives: a notebook shows it, `picture` and `save` make one image of it."""

    title: str
    """The prompt, its place and the seed."""
    files: Mapping[str, Path | None]
    """By method, its image; None where there is none."""
    notes: Mapping[str, str]
    """By method, its scores, or why it has no image."""

    def picture(self) -> Image:
        """The images in a row, in the order of `files`; UserError where there are none."""
        from PIL import Image

        shown = [Image.open(path, formats=_FORMATS).convert("RGB") for path in self.files.values() if path]
        if not shown:
            raise UserError(f"{self.title}: no image of it was made")
        whole = Image.new("RGB", (sum(one.width for one in shown), max(one.height for one in shown)), "white")
        left = 0
        for one in shown:
            whole.paste(one, (left, 0))
            left += one.width
        return whole

    def save(self, path: str | Path) -> Path:
        """Write `picture` to a file, in the format of its ending."""
        self.picture().save(path)
        return Path(path)

    def __repr__(self) -> str:
        said = (f"{method} ({', '.join(self.notes[method].splitlines())})" for method in self.files)
        return f"{self.title}: {'; '.join(said)}"

    def _repr_html_(self) -> str:
        cards = "".join(
            f'<figure style="margin: 0">{_image(path, method)}<figcaption><b>{html.escape(method)}</b><br>'
            f"<small>{html.escape(self.notes[method]).replace(chr(10), '<br>')}</small></figcaption></figure>"
            for method, path in self.files.items()
        )
        row = f'<div style="display: flex; flex-wrap: wrap; gap: 12px">{cards}</div>'
        return f"<div><p>{html.escape(self.title)}</p>{row}</div>"


def _image(path: Path | None, method: str) -> str:
    if path is None:
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    style = f"min-width: {SIDE}px; max-width: 100%"
    return f'<img alt="{html.escape(method, quote=True)}" style="{style}" src="data:image/png;base64,{data}">'
