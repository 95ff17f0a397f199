"""Two metrics in a package of their own: one of a pair of images, one of a set of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.metrics.base import MetricEntry, Value

if TYPE_CHECKING:
    import numpy as np

    from bench.prompts.base import Prompt


class Brighter:
    """The probability that somebody who likes bright images prefers the method's, by a logistic in grey levels."""

    def score_pairs(
        self, baseline_images: Sequence[np.ndarray], method_images: Sequence[np.ndarray], prompts: Sequence[Prompt]
    ) -> list[Value]:
        pairs = zip(baseline_images, method_images, strict=True)
        return [Value(1 / (1 + math.exp((float(theirs.mean()) - float(ours.mean())) / 10))) for theirs, ours in pairs]


class Colour:
    """The mean red, green and blue of an image, each in 0 to 1."""

    def features(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> np.ndarray:
        import numpy as np

        return np.stack([image.mean(axis=(0, 1)) / 255 for image in images])


def spread(features: np.ndarray, weights: np.ndarray) -> float:
    """The mean squared distance of features (n, D) to their mean, each counted as often as its weight (n,) says."""
    centred = features - weights @ features / weights.sum()
    return float(weights @ (centred**2).sum(axis=1) / weights.sum())


brighter = MetricEntry(
    "brighter",
    title="Brighter",
    unit="2p - 1",
    kind="pair",
    both_orders=True,
    load=lambda device: Brighter(),
    identify=lambda: "brighter-1",
    about="whether the image is brighter than the baseline's",
)
colours = MetricEntry(
    "colours",
    title="Spread of colours",
    unit="squared distance",
    kind="set",
    value=spread,
    fewest=4,
    load=lambda device: Colour(),
    identify=lambda: "colours-1",
    about="how different the mean colours of a method's images are",
)
