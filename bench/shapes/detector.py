"""The exact detector of the embedded world: connected components, colour, and shape from geometry.

It answers as GenEval's Mask2Former would: class, confidence, box and mask for every object it sees. Its
confidence is the overlap of the object's mask with the named shape stretched to the same box.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import ndimage

from bench.metrics.geneval_rules import Detection
from bench.shapes.scenes import BACKGROUNDS, COLORS, SHAPES, coverage

_COLOR_NAMES = list(COLORS)
_PALETTE = np.array(list(COLORS.values()), np.float32)
_GROUNDS = np.array(list(BACKGROUNDS.values()), np.float32)

CONTRAST = 34.0
"""Largest channel difference to the background, in grey levels, from which a pixel belongs to an object."""

MIN_AREA = 24
"""Pixels under which a component is dirt; the smallest scene object (a 12 px star) covers about 50."""


def background(image: np.ndarray) -> tuple[str, np.ndarray]:
    """Nearest background name and the measured background colour: the median of the border pixels."""
    border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]]).astype(np.float32)
    measured = np.median(border, 0)
    return list(BACKGROUNDS)[int(((_GROUNDS - measured) ** 2).sum(1).argmin())], measured


def _confidence(iou: float) -> float:
    """Overlap to a confidence on Mask2Former's scale: 0.9, GenEval's bar for counting, at an IoU of 0.72.

    That is where the shapes' own autoencoder leaves 99.6 % of the objects of true counting scenes above the bar.
    """
    return float(np.interp(iou, (0.5, 0.72, 1.0), (0.0, 0.9, 1.0)))


@lru_cache(maxsize=8192)
def _templates(shape: str, width: int, height: int) -> tuple[np.ndarray, ...]:
    """Binary masks of `shape` whose tight box is (height, width).

    Half-covered pixels are cut away, so a star's tight box is up to two pixels smaller than the drawn one.
    """
    found = []
    for dw in range(4):
        for dh in range(4):
            full = coverage(shape, width + dw, height + dh) >= 0.5
            ys, xs = np.flatnonzero(full.any(1)), np.flatnonzero(full.any(0))
            tight = full[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
            if tight.shape == (height, width):
                found.append(tight)
    return tuple(found)


def match_shape(mask: np.ndarray) -> tuple[str, float]:
    """The shape that overlaps a tightly boxed (h, w) bool mask best, and its intersection over union."""
    best = ("", -1.0)
    h, w = mask.shape
    for shape in SHAPES:
        for template in _templates(shape, w, h):
            iou = float((mask & template).sum() / (mask | template).sum())
            if iou > best[1]:
                best = (shape, iou)
    return best


def _split_by_color(image: np.ndarray, difference: np.ndarray, blob: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(colour, mask) of every object in one component; touching objects of other colours come apart."""
    # Pixels within the blob are named, for those on its rim are mixed with the background. By distance from it
    # only where the blob is too thin: a strong colour would hide a weak one beside it (purple and pink on white).
    inner = ndimage.binary_erosion(blob)
    if inner.sum() < MIN_AREA:
        inner = blob & (difference >= 0.75 * np.percentile(difference[blob], 80))
    names = ((image[inner][:, None] - _PALETTE) ** 2).sum(-1).argmin(1)
    counts = np.bincount(names, minlength=len(_PALETTE))
    if counts.max() >= 0.8 * counts.sum():
        return [(_COLOR_NAMES[int(counts.argmax())], blob)]
    nearest = ((image[..., None, :] - _PALETTE) ** 2).sum(-1).argmin(-1)
    parts = []
    for i in np.flatnonzero(counts >= MIN_AREA):
        # Opening removes the one-pixel seams of mixed colour between two objects.
        part = ndimage.binary_opening(blob & (nearest == i), iterations=1)
        labels, n = ndimage.label(part)
        parts += [(_COLOR_NAMES[int(i)], labels == k) for k in range(1, n + 1)]
    return parts


def detect(image: np.ndarray) -> list[Detection]:
    """Objects of one (H, W, 3) uint8 image, by falling confidence, with colour and mask."""
    pixels = image.astype(np.float32)
    ground = background(image)[1]
    difference = np.abs(pixels - ground).max(-1)
    labels, n = ndimage.label(difference > CONTRAST, structure=np.ones((3, 3)))
    found = []
    for k in range(1, n + 1):
        blob = labels == k
        if blob.sum() < MIN_AREA:
            continue
        for color, part in _split_by_color(pixels, difference, blob):
            mask = _half_covered(pixels - ground, difference, part)
            if mask.sum() < MIN_AREA:
                continue
            ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1)
            shape, iou = match_shape(mask[box[1] : box[3], box[0] : box[2]])
            found.append(Detection(shape, _confidence(iou), box, mask, color))
    return sorted(found, key=lambda d: -d.confidence)


def _half_covered(offset: np.ndarray, difference: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The pixels of a part that its object covers by half or more.

    Coverage is measured along the line from the background to the object's own colour; `offset` is the image
    less its background.
    """
    if part.sum() < MIN_AREA:
        return part
    core = np.median(offset[part & (difference >= np.median(difference[part]))], 0)
    covered: np.ndarray = part & ((offset @ core) / max(float(core @ core), 1.0) >= 0.5)
    return covered


class ShapesDetector:
    """The detector as GenEval's rules want one."""

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [detect(i) for i in images]

    def colors(self, image: np.ndarray, detections: Sequence[Detection]) -> list[str]:
        return [d.color or "" for d in detections]
