"""A run for who looks at a job's summary: the strip of its first screen as one picture, and its report as Markdown."""

from __future__ import annotations

import re
from pathlib import Path

from bench.errors import UserError
from bench.records import Results
from bench.report import markdown
from bench.report.browsed import image_file
from bench.report.strip import strip
from bench.site.layout import seen
from bench.store.images import opened

SIDE = 160
"""Pixels of an image in the picture."""
LABEL, GAP = 18, 6
_IMAGE = re.compile(r"!\[[^\]]*\]\((?!https?://)[^)]*\)")
"""An image by a relative path, which a summary cannot show."""


def picture(results: Results, folder: Path, file: Path) -> bool:
    """Write a few prompts by every method as one PNG; False where the report has no images.

    UserError where the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    found = strip(seen(results, folder))
    if found is None:
        return False
    width = len(found.methods) * (SIDE + GAP) + GAP
    height = LABEL + len(found.rows) * (SIDE + LABEL + GAP) + GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    shown = 0
    for column, name in enumerate(found.methods):
        x = GAP + column * (SIDE + GAP)
        draw.text((x, 3), _cut(name, SIDE), fill="black", font=font)
        for number, row in enumerate(found.rows):
            y = LABEL + number * (SIDE + LABEL + GAP)
            if column == 0:
                said = f"{row.why}: {row.pair.prompt}" if row.why else row.pair.prompt
                draw.text((x, y + 2), _cut(said, width - 2 * GAP), fill="black", font=font)
            shown += _paste(sheet, image_file(results, row.pair, name, folder), (x, y + LABEL))
    if not shown:
        return False
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(file, "PNG")
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror or error})") from error
    return True


def _cut(text: str, pixels: int) -> str:
    """Text that fits; the built-in font has letters of at most 7 pixels and no others than Latin-1's."""
    plain = text.encode("latin-1", "replace").decode("latin-1")
    most = pixels // 7
    return plain if len(plain) <= most else plain[: most - 3] + "..."


def _paste(sheet: object, file: Path | None, at: tuple[int, int]) -> int:
    """Put an image at a place; 1 where there was one that can be read."""
    from PIL import Image

    assert isinstance(sheet, Image.Image)
    if file is None:
        return 0
    try:
        with opened(file) as image:
            copy = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0
    scale = SIDE / max(copy.size)
    size = (max(1, round(copy.width * scale)), max(1, round(copy.height * scale)))
    # A small image is enlarged pixel by pixel: it is shown as it is.
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    sheet.paste(copy.resize(size, how), at)
    return 1


def summary(results: Results, *, address: str = "") -> str:
    """The report as Markdown for a job's summary, with the picture at `address` below its headline."""
    text = _IMAGE.sub("", markdown.render(results))
    if not address:
        return text
    if not re.fullmatch(r"https?://[^\s()<>\"]+", address):
        raise UserError(
            f"--address {address}: expected the address of a picture, such as https://example.org/strip.png"
        )
    head, gap, rest = text.partition("\n\n")
    return f"{head}{gap}![Images of the run]({address})\n\n{rest}"
