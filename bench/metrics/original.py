"""Scores of the original GenEval and T2I-CompBench code: nothing here computes them, `bench import` takes them in.

Under names of their own, beside this project's scorers of the same benchmarks, so that a run may hold both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from bench import kinship
from bench.errors import UserError
from bench.metrics.base import MetricEntry
from bench.registry import add_plugin

GENEVAL = "original_geneval"
COMPBENCH = {
    "annotation_blip": "original_blip_vqa",
    "annotation_clip": "original_clip",
    "annotation_obj_detection_2d": "original_spatial_2d",
    "annotation_obj_detection_3d": "original_spatial_3d",
    "annotation_num": "original_numeracy",
    "annotation_3_in_1": "original_3_in_1",
}
"""By the folder in which T2I-CompBench's code leaves its vqa_result.json, the metric that this holds."""
_TITLES = {
    "original_blip_vqa": ("BLIP-VQA", "0 to 1", "colour, shape and texture"),
    "original_clip": ("CLIP similarity", "a cosine", "non-spatial relations"),
    "original_spatial_2d": ("UniDet 2D-spatial", "0 to 1", "spatial relations"),
    "original_spatial_3d": ("UniDet 3D-spatial", "0 to 1", "relations in depth"),
    "original_numeracy": ("UniDet numeracy", "0 to 1", "numbers of objects"),
    "original_3_in_1": ("3-in-1", "0 to 1", "complex prompts"),
}


def _refusal(name: str, layout: str) -> Callable[..., NoReturn]:
    def refuse(*_: object) -> NoReturn:
        raise UserError(
            f"metric {name!r} is not computed here: `python -m bench export RUN --layout {layout}`, score that folder "
            "with the original code, then `python -m bench import RUN FILE`"
        )

    return refuse


def _add(name: str, layout: str, title: str, scale: str, about: str, *, partial: bool) -> None:
    refuse = _refusal(name, layout)
    entry = MetricEntry(
        name,
        title=f"{title} (original)",
        unit="accuracy" if name == GENEVAL else scale,
        load=refuse,
        fetch=refuse,
        identify=lambda: f"{name}-1",
        scale=scale,
        needs_metadata=name == GENEVAL,
        metadata_key="include" if name == GENEVAL else "",
        categories=kinship.GENEVAL_TASKS if name == GENEVAL else (),
        overall="categories" if name == GENEVAL else "images",
        partial=partial,
        about=about,
        license="no weights here: those of the original code",
        blind_to="quality and style; what its rules do not ask for",
        unfit_for="methods that are steered by the networks that it is made of, or given the boxes",
        made_of=kinship.ORIGINAL[name],
    )
    add_plugin("metrics", name, entry, "bench")


_add(GENEVAL, "geneval", "GenEval", "0 to 1", "results.jsonl of the public evaluate_images.py", partial=False)
# Each is of the prompts of some categories only, so what lies elsewhere is not missing.
for _name, (_title, _scale, _of) in _TITLES.items():
    _add(_name, "compbench", _title, _scale, f"T2I-CompBench's vqa_result.json of {_of}", partial=True)
