"""CMMD (Jayasumana et al. 2024, 2401.09603): a kernel distance in CLIP's image embeddings, times 1000.

As the published code: CLIP ViT-L/14 at 336 pixels, a Gaussian kernel with σ = 10, pairs of an image with itself
included. It assumes no Gaussian features and needs fewer images than FID.
"""

from __future__ import annotations

from bench import kinship
from bench.metrics.backbones import CLIP_L_336
from bench.metrics.base import MetricEntry
from bench.metrics.distances import KernelDistance, Kernelled, radial
from bench.metrics.features import ClipFeatures, clip, set_entry
from bench.registry import add_plugin

_ROW = MetricEntry(
    "cmmd",
    title="CMMD",
    unit="1000 MMD²",
    load=None,
    identify=str,
    higher_is_better=False,
    kind="set",
    value=KernelDistance(radial, unbiased=False, scale=1000),
    fewest=100,
    scale="0 to 5",
    about="kernel distance to a reference in CLIP's embeddings",
    license="MIT",
    blind_to="the prompt, and a single image; what lies outside the middle square, detail below 336 pixels",
    unfit_for="methods trained on the reference's images",
    made_of=(kinship.Trait("backbone", "CLIP ViT-L/14 at 336 pixels of OpenAI"), kinship.OPENAI_PAIRS),
    ms=CLIP_L_336.ms,
    gib=CLIP_L_336.gib,
)
add_plugin(
    "metrics",
    "cmmd",
    set_entry(_ROW, ClipFeatures, clip("cmmd"), against=lambda s: Kernelled(s.every(), radial, unbiased=False)),
    "bench",
)
