"""Seeded scenes of the embedded world and their exact rendering.

A scene is a plain background and one to four objects on a 64x64 canvas. Object sizes and centres are whole
pixels, so a shape's anti-aliased coverage depends only on (shape, width, height) and is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SIZE = 64
"""Side of an image in pixels."""

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (245, 215, 50),
    "green": (40, 160, 70),
    "blue": (45, 90, 215),
    "purple": (130, 60, 180),
    "pink": (245, 130, 190),
    "black": (30, 30, 30),
}

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (245, 245, 245),
    "grey": (165, 165, 165),
    "beige": (222, 205, 170),
    "mint": (185, 225, 205),
}

HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("circle", "purple"),
        ("square", "orange"),
        ("triangle", "blue"),
        ("star", "green"),
        ("cross", "pink"),
        ("ring", "yellow"),
    }
)
"""(shape, color) pairs in no scene that the denoiser, the VAE or the CLIP is trained on, captioned or not, so that
composition can be measured. Voters see some: a scorer must be able to judge them."""

SIZES: dict[str, tuple[int, int]] = {"small": (12, 15), "large": (22, 26)}
"""Diameter in pixels, both ends included, that a size word stands for."""

GAP = 3
"""Free pixels between the boxes of two objects, so that connected components are objects."""


Box = tuple[int, int, int, int]
"""Corners (x0, y0, x1, y1) in pixels, upper ends exclusive."""


@dataclass(frozen=True)
class Object:
    """One object; `size` is the side of its box and (x, y) the box's upper left corner, in pixels."""

    shape: str
    color: str
    size: int
    x: int
    y: int


@dataclass(frozen=True)
class Scene:
    background: str
    objects: tuple[Object, ...]


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Membership in the unit shape that fills the box [-1, 1]²; y points down."""
    if shape == "circle":
        return x * x + y * y <= 1
    if shape == "square":
        return np.ones_like(x, bool)
    if shape == "triangle":
        return np.abs(x) <= (y + 1) / 2
    if shape == "cross":
        return (np.abs(x) <= 0.34) | (np.abs(y) <= 0.34)
    if shape == "ring":
        r2 = x * x + y * y
        return (r2 <= 1) & (r2 >= 0.55**2)
    if shape == "star":
        # A five-pointed star stretched from its own box to [-1, 1]²: width 2·sin 72°, height 1 + cos 36°.
        px = x * np.sin(np.radians(72))
        py = (y + 1) * (1 + np.cos(np.radians(36))) / 2 - 1
        r, a = np.hypot(px, py), np.arctan2(px, -py)
        a = np.abs((a + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
        inner = 0.42
        # The edge from the tip (1, angle 0) to the notch (inner, angle 36°), as r·(cos a·ny - sin a·nx) <= const.
        nx, ny = inner * np.cos(np.pi / 5) - 1, inner * np.sin(np.pi / 5)
        return r * (np.cos(a) * ny - np.sin(a) * nx) <= ny
    raise ValueError(f"unknown shape {shape!r}; expected one of {SHAPES}")


@lru_cache(maxsize=8192)
def coverage(shape: str, width: int, height: int) -> np.ndarray:
    """Anti-aliased coverage in [0, 1] of `shape` stretched to a (height, width) box, by 8x8 supersampling."""
    k = 8
    x = ((np.arange(width * k) + 0.5) / (width * k) * 2 - 1)[None, :].repeat(height * k, 0)
    y = ((np.arange(height * k) + 0.5) / (height * k) * 2 - 1)[:, None].repeat(width * k, 1)
    mask = _inside(shape, x, y).reshape(height, k, width, k).mean((1, 3)).astype(np.float32)
    mask.setflags(write=False)
    return mask


def render(scene: Scene) -> np.ndarray:
    """The scene as (64, 64, 3) uint8 RGB."""
    canvas = np.empty((SIZE, SIZE, 3), np.float32)
    canvas[:] = BACKGROUNDS[scene.background]
    for o in scene.objects:
        a = coverage(o.shape, o.size, o.size)[..., None]
        patch = canvas[o.y : o.y + o.size, o.x : o.x + o.size]
        patch += a * (np.asarray(COLORS[o.color], np.float32) - patch)
    return np.rint(canvas).astype(np.uint8)


def place(
    sizes: list[int], rng: np.random.Generator, accept: Callable[[list[Box]], bool] | None = None
) -> list[tuple[int, int]] | None:
    """Draw boxes of the given sizes, `GAP` apart and 2 px off the border; None after 200 rejected layouts.

    `accept(boxes)` may reject a layout; boxes are (x0, y0, x1, y1).
    """
    for _ in range(200):
        corners: list[tuple[int, int]] = []
        for s in sizes:
            x, y = (int(v) for v in rng.integers(2, SIZE - 2 - s + 1, 2))
            if all(
                x + s + GAP <= a or a + t + GAP <= x or y + s + GAP <= b or b + t + GAP <= y
                for (a, b), t in zip(corners, sizes, strict=False)
            ):
                corners.append((x, y))
            else:
                break
        if len(corners) == len(sizes):
            boxes = [(x, y, x + s, y + s) for (x, y), s in zip(corners, sizes, strict=True)]
            if accept is None or accept(boxes):
                return corners
    return None
