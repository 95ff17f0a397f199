"""A judge of its own for the preference-tuned denoiser: it looks at pixels alone and shares no label with any metric.

The stylist likes strong contrast and vivid colours. No detector, no caption and none of the voters', raters' or
detector's quantities enter. What is felt is an exact function of the image; a vote adds a voter's noise.
"""

from __future__ import annotations

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""

CONTRAST, VIVID = 30.0, 20.0
"""Weights in log odds for the whole range of each part."""


def contrast(images: np.ndarray) -> np.ndarray:
    """Standard deviation (N,) of the brightness, in [0, 0.5], of images (N, H, W, 3) uint8."""
    found: np.ndarray = (images / 255 @ LUMA).reshape(len(images), -1).std(1)
    return found


def vividness(images: np.ndarray) -> np.ndarray:
    """Mean (N,) of the spread between a pixel's strongest and weakest channel, in [0, 1]."""
    x = images / 255
    found: np.ndarray = (x.max(-1) - x.min(-1)).reshape(len(images), -1).mean(1)
    return found


def style(images: np.ndarray) -> np.ndarray:
    """What the stylist feels (N,): the logit scale of a vote."""
    return CONTRAST * contrast(images) + VIVID * vividness(images)


def votes(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whether each of (N,) pairs of images goes to the first: Bernoulli of the logistic difference."""
    odds = 1 / (1 + np.exp(style(second) - style(first)))
    return rng.random(len(odds)) < odds
