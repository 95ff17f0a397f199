"""How different the images of one prompt are over its seeds: a method must not buy its score by making one image.

Both in DINOv2's features, and both the mean over prompts: `diversity` the mean of 1 - cos of all pairs, `vendi` the
Vendi score (Friedman & Dieng 2023, 2210.02410), the number of images that differ wholly which would be as diverse: 1 to
the number of seeds. Both grow with noise in the images too, so they are read beside a score of quality, never alone.
`bench.metrics.lpips` has the distance of how images look.
"""

from __future__ import annotations

from bench import kinship
from bench.metrics.backbones import DINO_L
from bench.metrics.base import MetricEntry
from bench.metrics.distances import OverPrompts, spread, vendi
from bench.metrics.features import DinoFeatures, dino, set_entry
from bench.registry import add_plugin

for _name, _title, _unit, _of, _scale, _about in (
    ("diversity", "Diversity", "1 - cos", spread, "0 (identical) to 1", "mean distance between a prompt's images"),
    (
        "vendi",
        "Vendi score",
        "images",
        vendi,
        "1 (identical) to the seeds a prompt",
        "effective number of different images",
    ),
):
    _row = MetricEntry(
        _name,
        title=_title,
        unit=_unit,
        load=None,
        identify=str,
        kind="set",
        value=OverPrompts(_of),
        by_prompt=True,
        scale=_scale,
        about=f"{_about} over its seeds, in DINOv2's features",
        license="Apache-2.0",
        blind_to="the prompt and quality: noise in the images counts as diversity; one seed a prompt has no value",
        unfit_for="methods that use one noise for all seeds on purpose",
        made_of=(kinship.DINOV2_L,),
        ms=DINO_L.ms,
        gib=DINO_L.gib,
    )
    add_plugin("metrics", _name, set_entry(_row, DinoFeatures, dino(_name)), "bench")
