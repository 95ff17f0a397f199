"""FID (Heusel et al. 2017, 1706.08500), as clean-fid computes it in its mode `clean` (Parmar et al. 2022, 2104.11222).

The paper's Fig. 6 and 12 give it of 5,000 images of ImageNet's fishes, against those of ImageNet; both are figures
without numbers, and how the photographs were cropped is not said. Values at different numbers of images do not compare:
the bias falls with their number (Chong & Forsyth 2020).
"""

from __future__ import annotations

from bench import kinship
from bench.metrics.backbones import INCEPTION
from bench.metrics.base import MetricEntry
from bench.metrics.distances import frechet
from bench.metrics.features import InceptionFeatures, inception, set_entry
from bench.registry import add_plugin

_ROW = MetricEntry(
    "fid",
    title="FID",
    unit="squared distance",
    load=None,
    identify=str,
    higher_is_better=False,
    kind="set",
    value=frechet,
    fewest=2048,  # Inception's features: of fewer images the covariance is singular and the value mostly bias
    resamples=200,  # one of 5,000 images takes seconds
    scale="0 and more; the paper's is a figure without numbers",
    about="Fréchet distance to a reference in Inception's features, by clean-fid's resizing",
    license="Apache-2.0 (TensorFlow's Inception; NVIDIA's file states none)",
    blind_to="the prompt, and a single image; what ImageNet's classes do not need, such as faces and text in images",
    unfit_for="methods trained on the reference's images; rows with another number of images than their neighbours",
    made_of=(kinship.IMAGENET_INCEPTION,),
    ms=INCEPTION.ms,
    gib=INCEPTION.gib,
)
add_plugin(
    "metrics", "fid", set_entry(_ROW, InceptionFeatures, inception("fid"), against=lambda s: s.gaussian()), "bench"
)
