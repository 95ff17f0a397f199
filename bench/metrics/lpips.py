"""How different the images of one prompt look over its seeds: the mean LPIPS distance of all pairs, mean over prompts.

LPIPS v0.1 on AlexNet (Zhang et al. 2018, 1801.03924), the default of the authors' package. An image is resized as a
whole to 64 x 64 pixels by Pillow's bicubic filter: the size of the patches that people judged, from which the weights
were learnt. With the published weights it has 20,762 features there, 83 kB of the ledger; at 256 pixels, a usual size
too, 434,858 and 1.7 MB, too much for every image of a run. Values at another size do not compare with these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench import kinship
from bench.metrics.backbones import Backbone
from bench.metrics.base import MetricEntry
from bench.metrics.checkpoint import Checkpoint, Part, tensors
from bench.metrics.distances import Floats, OverPrompts
from bench.metrics.features import FeatureScorer, set_entry
from bench.metrics.pixels import squashed
from bench.registry import add_plugin

if TYPE_CHECKING:
    import torch

SIDE = 64
_ALEXNET, _WEIGHTS = "alexnet-owt-7be5be79.pth", "alex.pth"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of levels from 0 to 1; the public code has the same of levels from -1 to 1."""
_BACKBONE = Backbone(2_469_696, 0.079)
"""AlexNet's convolutions at 64 pixels."""


def mean_squared_distance(features: Floats) -> float:
    """The mean of |x - y|² over all pairs of features (n, D); NaN for a single one.

    From the mean, where no digits cancel: the sum over pairs is n times the sum of squared distances to it.
    """
    n = len(features)
    if n < 2:
        return float("nan")
    wide = features.astype(np.float64)
    return 2 * float(((wide - wide.mean(axis=0)) ** 2).sum()) / (n - 1)


class LpipsFeatures(FeatureScorer):
    """Vectors whose squared distance is LPIPS."""

    shares = (_ALEXNET,)

    def load(self, checkpoint: Checkpoint) -> None:
        from bench.metrics.networks.alexnet import AlexNet, channel_weights

        place, weights = checkpoint.path(_ALEXNET), checkpoint.path(_WEIGHTS)
        self.backbone = self.shared(checkpoint, _ALEXNET, "alexnet", lambda: AlexNet.of(tensors(place), place))
        self.model = self.backbone.module
        self.weights = [row.to(self.device) for row in channel_weights(tensors(weights), weights)]

    def judge(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        from bench.metrics.networks.alexnet import vectors

        return vectors(self.model(self.placed(squashed(images, SIDE, _MEAN, _STD))), self.weights)


_CHECKPOINT = Checkpoint(
    "lpips_diversity",
    (
        Part(
            _ALEXNET,
            sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            url=f"https://download.pytorch.org/models/{_ALEXNET}",
            about_bytes=244_408_911,
        ),
        Part(
            _WEIGHTS,
            sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
            url="https://github.com/richzhang/PerceptualSimilarity/raw/"
            f"082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1/{_WEIGHTS}",
            about_bytes=6_009,
        ),
    ),
)
_ROW = MetricEntry(
    "lpips_diversity",
    title="LPIPS diversity",
    unit="LPIPS",
    load=None,
    identify=str,
    kind="set",
    value=OverPrompts(mean_squared_distance),
    by_prompt=True,
    scale="0 (equal images) and more; at 64 pixels, so no published value of another size compares",
    about="mean LPIPS distance (v0.1, AlexNet) between a prompt's images over its seeds, at 64 pixels",
    license="BSD-2-Clause (LPIPS), BSD-3-Clause (torchvision's AlexNet)",
    blind_to="the prompt and quality: noise in the images counts as diversity, as does another layout of one scene; "
    "detail below 64 pixels; one seed a prompt has no value",
    unfit_for="methods that use one noise for all seeds on purpose",
    made_of=(
        kinship.Trait("labels", "BAPPS judgements of patches"),
        kinship.Trait("backbone", "AlexNet of ImageNet's classes"),
    ),
    ms=_BACKBONE.ms,
    gib=_BACKBONE.gib,
)
add_plugin("metrics", "lpips_diversity", set_entry(_ROW, LpipsFeatures, _CHECKPOINT), "bench")
