"""Rendering: exact, the same every time, and laid out so that objects are distinguished."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.shapes.captions import sample, scene
from bench.shapes.scenes import (
    BACKGROUNDS,
    COLORS,
    GAP,
    HELD_OUT,
    SHAPES,
    SIZE,
    Object,
    Scene,
    coverage,
    place,
    render,
)

# Share of its box that a shape covers. The star: five kites of tip 1 and notch 0.42 in a box of 2 sin 72° by
# 1 + cos 36°; the ring: radii 1 and 0.55; the cross: all but four corners of side 0.66 of a box of side 2.
SHARES = {
    "circle": math.pi / 4,
    "square": 1.0,
    "triangle": 0.5,
    "star": 5 * 0.42 * math.sin(math.pi / 5) / (2 * math.sin(math.radians(72)) * (1 + math.cos(math.pi / 5))),
    "cross": 1 - 0.66**2,
    "ring": math.pi / 4 * (1 - 0.55**2),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [12, 19, 26])
def test_anti_aliased_coverage_has_the_area_of_the_shape(shape: str, size: int) -> None:
    mask = coverage(shape, size, size)
    assert mask.shape == (size, size)
    assert 0 <= mask.min() <= mask.max() == 1
    assert float(mask.mean()) == pytest.approx(SHARES[shape], abs=0.012)
    # Every shape is its own mirror image.
    np.testing.assert_allclose(mask, mask[:, ::-1], atol=0.04)


def test_an_unknown_shape_is_named() -> None:
    with pytest.raises(ValueError, match="unknown shape 'hexagon'"):
        coverage("hexagon", 12, 12)


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("color", COLORS)
def test_full_pixels_have_the_exact_colors(background: str, color: str) -> None:
    image = render(Scene(background, (Object("square", color, 12, 5, 7),)))
    assert (image.shape, image.dtype) == ((SIZE, SIZE, 3), np.uint8)
    inside = np.zeros((SIZE, SIZE), bool)
    inside[7:19, 5:17] = True
    assert (image[inside] == COLORS[color]).all()
    assert (image[~inside] == BACKGROUNDS[background]).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_the_same_seed_draws_the_same_picture(seed: int) -> None:
    def drawn() -> np.ndarray:
        rng = np.random.default_rng(seed)
        return render(scene(sample(rng, "train"), rng))

    first = drawn()
    coverage.cache_clear()
    assert np.array_equal(first, drawn())


def test_rendering_leaves_the_cached_shapes_alone() -> None:
    one = Scene("white", (Object("star", "red", 20, 4, 4),))
    first = render(one)
    render(Scene("grey", (Object("star", "blue", 20, 30, 30),)))
    assert np.array_equal(render(one), first)
    with pytest.raises(ValueError, match="read-only"):
        coverage("star", 20, 20)[0, 0] = 1


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31), sizes=st.lists(st.integers(12, 18), min_size=1, max_size=4))
def test_objects_lie_apart_and_off_the_border(seed: int, sizes: list[int]) -> None:
    corners = place(sizes, np.random.default_rng(seed))
    # Four large ones may find no room in 200 tries; `scene` then draws other sizes.
    assume(corners is not None)
    assert corners is not None
    boxes = [(x, y, x + s, y + s) for (x, y), s in zip(corners, sizes, strict=True)]
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        assert min(x0, y0) >= 2
        assert max(x1, y1) <= SIZE - 2
        for a0, b0, a1, b1 in boxes[:i]:
            assert max(a0 - x1, x0 - a1, b0 - y1, y0 - b1) >= GAP


def test_a_layout_that_does_not_fit_is_given_up() -> None:
    assert place([40, 40], np.random.default_rng(0)) is None
    assert place([12], np.random.default_rng(0), lambda boxes: False) is None


def test_the_whole_canvas_is_used() -> None:
    rng = np.random.default_rng(0)
    corners = np.array([place([12], rng) for _ in range(3000)]).reshape(-1, 2)
    assert corners.min(0).tolist() == [2, 2]
    assert corners.max(0).tolist() == [SIZE - 2 - 12] * 2


def test_held_out_pairs_take_one_color_of_each_shape_and_leave_every_color_to_be_learnt() -> None:
    """Composition is measured on pairs never seen, of shapes and colours that both are seen."""
    assert sorted(shape for shape, _ in HELD_OUT) == sorted(SHAPES)
    assert len({color for _, color in HELD_OUT}) == len(HELD_OUT)
    assert {color for _, color in HELD_OUT} <= set(COLORS)
