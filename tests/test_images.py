"""A PNG is read as it was written, or it is said what is wrong with it and what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.errors import UserError
from bench.images import read_png


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_pixels_are_those_written(tmp_path: Path, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    written = Image.fromarray(pixels).convert(mode)
    written.save(tmp_path / "a.png")
    found = read_png(tmp_path / "a.png", mend="x")
    assert (found.shape, found.dtype) == ((5, 7, 3), np.uint8)
    np.testing.assert_array_equal(found, np.asarray(written.convert("RGB")))


@pytest.mark.parametrize("kept", [0, 4, 60])
def test_a_file_that_is_no_whole_png_is_named_with_what_to_do(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"a\.png: not a whole PNG \(.*\); make it again$"):
        read_png(path, mend="make it again")


def test_a_missing_file_is_told_as_asked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.png: missing; collect it$"):
        read_png(tmp_path / "a.png", mend="make it again", missing="collect it")
    with pytest.raises(UserError, match=r"a\.png: not a whole PNG \(.*\); make it again$"):
        read_png(tmp_path / "a.png", mend="make it again")
