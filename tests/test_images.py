"""A PNG is read as it was written, or it is said what is wrong with it and what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.errors import UserError
from bench.store.images import read_png, rgb


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_pixels_are_those_written(tmp_path: Path, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    written = Image.fromarray(pixels).convert(mode)
    written.save(tmp_path / "a.png")
    found = read_png(tmp_path / "a.png", advice="x")
    assert (found.shape, found.dtype) == ((5, 7, 3), np.uint8)
    np.testing.assert_array_equal(found, np.asarray(written.convert("RGB")))


@pytest.mark.parametrize("kept", [0, 4, 60])
def test_a_file_that_is_no_whole_png_is_named_with_what_to_do(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"a\.png: not a whole PNG \(.*\); make it again$"):
        read_png(path, advice="make it again")


def test_a_missing_file_is_reported_as_asked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.png: missing; collect it$"):
        read_png(tmp_path / "a.png", advice="make it again", missing="collect it")
    with pytest.raises(UserError, match=r"a\.png: not a whole PNG \(.*\); make it again$"):
        read_png(tmp_path / "a.png", advice="make it again")


GREY = np.array([[0, 1, 127], [128, 254, 255]], np.uint8)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(GREY), GREY),
        (Image.fromarray(GREY.astype(np.uint16) * 257), GREY),
        (Image.fromarray(np.minimum(GREY.astype(np.int64) * 257 + 100, 65535).astype(np.uint16)), GREY),
        (Image.fromarray(np.dstack([GREY, GREY, GREY, 255 - GREY])), GREY),
        (Image.fromarray(np.dstack([GREY, 255 - GREY]), "LA"), GREY),
        (Image.fromarray(np.dstack([255 - GREY] * 3 + [0 * GREY]), "CMYK"), GREY),
        (Image.fromarray(GREY).convert("P"), GREY),
        (Image.fromarray(GREY > 127), np.where(GREY > 127, 255, 0)),
    ],
    ids=["grey", "16 bits", "16 bits and a little", "RGBA", "grey and alpha", "CMYK", "palette", "1 bit"],
)
def test_an_image_of_any_mode_is_read_as_the_rgb_that_it_shows(picture: Image.Image, expected: np.ndarray) -> None:
    found = rgb(picture)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.repeat(expected[..., None], 3, -1))


def test_sixteen_bits_from_a_file_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_png(tmp_path / "deep.png", advice="")[..., 0], GREY)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"no picture"], ids=["empty", "a beginning", "text"])
def test_what_does_not_decode_is_one_line_that_names_the_file(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.png: not a whole PNG .*; do this") as caught:
        read_png(file, advice="do this")
    assert "\n" not in str(caught.value)
