"""KID (Bińkowski et al. 2018, 1801.01401): FID's features compared by a cubic kernel, without bias.

clean-fid and torch-fidelity average it over random subsets of at most 1,000 images; this is the estimate on all images,
which is what those averages tend to. It may be below zero.
"""

from __future__ import annotations

from bench import kinship
from bench.metrics.backbones import INCEPTION
from bench.metrics.base import MetricEntry
from bench.metrics.distances import KernelDistance, Kernelled, cubic
from bench.metrics.features import InceptionFeatures, inception, set_entry
from bench.registry import add_plugin

_ROW = MetricEntry(
    "kid",
    title="KID",
    unit="MMD²",
    load=None,
    identify=str,
    higher_is_better=False,
    kind="set",
    value=KernelDistance(cubic, unbiased=True),
    fewest=100,
    scale="0 to 0.1, often printed times 1000",
    about="unbiased kernel distance to a reference in Inception's features, for sets too small for FID",
    license="Apache-2.0 (TensorFlow's Inception; NVIDIA's file states none)",
    blind_to="the prompt, and a single image; what ImageNet's classes do not need, such as faces and text in images",
    unfit_for="methods trained on the reference's images",
    made_of=(kinship.IMAGENET_INCEPTION,),
    ms=INCEPTION.ms,
    gib=INCEPTION.gib,
)
add_plugin(
    "metrics",
    "kid",
    set_entry(_ROW, InceptionFeatures, inception("kid"), against=lambda s: Kernelled(s.every(), cubic, unbiased=True)),
    "bench",
)
