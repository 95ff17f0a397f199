"""FD-DINOv2 (Stein et al. 2023, 2306.04675): FID's distance in the features of DINOv2 ViT-L/14, as dgm-eval takes them.

Inception's features are of ImageNet's classes and judge diffusion models worse than people do; these agree better.
"""

from __future__ import annotations

from bench import kinship
from bench.metrics.backbones import DINO_L
from bench.metrics.base import MetricEntry
from bench.metrics.distances import frechet
from bench.metrics.features import DinoFeatures, dino, set_entry
from bench.registry import add_plugin

_ROW = MetricEntry(
    "fd_dinov2",
    title="FD-DINOv2",
    unit="squared distance",
    load=None,
    identify=str,
    higher_is_better=False,
    kind="set",
    value=frechet,
    fewest=1024,  # the number of features, as for FID
    scale="0 to some thousands",
    about="Fréchet distance to a reference in DINOv2's features",
    license="Apache-2.0",
    blind_to="the prompt, and a single image; detail below 224 pixels",
    unfit_for="methods trained on the reference's images; rows with another number of images than their neighbours",
    made_of=(kinship.DINOV2_L,),
    ms=DINO_L.ms,
    gib=DINO_L.gib,
)
add_plugin(
    "metrics",
    "fd_dinov2",
    set_entry(_ROW, DinoFeatures, dino("fd_dinov2"), against=lambda s: s.gaussian()),
    "bench",
)
