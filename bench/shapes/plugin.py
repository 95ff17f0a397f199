"""The embedded world's entries in the registry, found through the project's own entry points. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.metrics.base import MetricEntry, Scorer
from bench.models.base import ModelEntry, folder_digest
from bench.prompts.base import Prompt, PromptSet

if TYPE_CHECKING:
    from bench.shapes.captions import Caption

WEIGHTS = Path(__file__).parent / "weights"

sdxl = ModelEntry(
    name="shapes-sdxl",
    adapter="bench.models.sdxl:SDXL",
    source=str(WEIGHTS / "shapes-sdxl"),
    revision=None,
    steps=20,
    guidance=5.0,
    size=(64, 64),
    latent=(4, 8, 8),
    twin_of=("sdxl",),
    call_ms=2.0,
    call_ms_on="two CPU cores",
)


def _prompts(captions: list[Caption]) -> list[Prompt]:
    return [Prompt(i, c.prompt, c.tag, c.metadata()) for i, c in enumerate(captions)]


MIX = {"single_object": 10, "two_object": 18, "counting": 18, "colors": 14, "position": 20, "color_attr": 20}
"""Captions of each task in a set of 100."""


def _split(split: str, counts: dict[str, int]) -> Callable[[], list[Prompt]]:
    def read() -> list[Prompt]:
        from bench.shapes.captions import distinct

        captions = distinct(np.random.default_rng(2026), split, counts)
        # Shuffled, so that the first N of a set (--limit) hold every task.
        order = np.random.default_rng(2027).permutation(len(captions))
        return _prompts([captions[i] for i in order])

    return read


def _held_out() -> list[Prompt]:
    from bench.shapes.captions import distinct_held_out

    return _prompts(distinct_held_out(np.random.default_rng(2028), 120))


_SOURCE = "bench.shapes.captions, seeded"
_COMPBENCH = ("color", "shape", "texture", "spatial", "3d_spatial", "non_spatial", "numeracy", "complex")

pickapic = PromptSet("shapes-pickapic", 100, _split("pick-a-pic", MIX), _SOURCE, twin_of=("pick-a-pic",))
drawbench = PromptSet(
    "shapes-drawbench",
    200,
    _split("drawbench", {k: 2 * v for k, v in MIX.items()}),
    _SOURCE,
    twin_of=("drawbench",),
)
hpd = PromptSet("shapes-hpd", 100, _split("hpd", MIX), _SOURCE, twin_of=("hpd", "hpd_full"))
geneval_prompts = PromptSet(
    "shapes-geneval",
    120,
    _split("geneval", dict.fromkeys(MIX, 20)),
    _SOURCE,
    twin_of=("geneval",),
    images_per_prompt=4,
    about="twenty captions of each of the six tasks, four images each",
)
compbench = PromptSet(
    "shapes-compbench",
    120,
    _held_out,
    _SOURCE,
    twin_of=("t2i-compbench", *(f"t2i-compbench_{c}" for c in _COMPBENCH)),
    about="captions that name a (shape, colour) pair no training scene has",
)


def _geneval(device: str) -> Scorer:
    from bench.metrics.geneval_rules import GenEval
    from bench.shapes.detector import ShapesDetector

    return GenEval(ShapesDetector())


def _clipscore(device: str) -> Scorer:
    from bench.metrics.clipscore import ClipSimilarity

    return ClipSimilarity(WEIGHTS / "shapes-clip", device)


def _preference(device: str) -> Scorer:
    from bench.shapes.scorers import PreferenceScorer

    return PreferenceScorer(WEIGHTS / "shapes-preference", device)


def _aesthetic(device: str) -> Scorer:
    from bench.shapes.scorers import AestheticScorer

    return AestheticScorer(WEIGHTS / "shapes-aesthetic", WEIGHTS / "shapes-clip", device)


@cache
def _folder(name: str) -> str:
    return folder_digest(WEIGHTS / name)


geneval = MetricEntry(
    "shapes-geneval",
    title="GenEval",
    unit="share of right images",
    load=_geneval,
    identify=lambda: "shapes-geneval-1",
    scale="0 to 1",
    needs_metadata=True,
    twin_of=("geneval",),
    about="the public rules on the exact detector's boxes",
)
clipscore = MetricEntry(
    "shapes-clipscore",
    title="CLIPScore",
    unit="2.5 cos",
    load=_clipscore,
    identify=lambda: "clipscore-1:" + _folder("shapes-clip"),
    twin_of=("clipscore",),
    about="2.5 max(cos, 0) of the embedded CLIP",
)
preference = MetricEntry(
    "shapes-preference",
    title="Preference",
    unit="utility",
    load=_preference,
    identify=lambda: "preference-1:" + _folder("shapes-preference"),
    twin_of=("hpsv2",),
    about="Bradley-Terry model of synthetic votes on (caption, two images); HPSv2's place",
)
aesthetic = MetricEntry(
    "shapes-aesthetic",
    title="Aesthetic",
    unit="1-10",
    load=_aesthetic,
    identify=lambda: "aesthetic-1:" + _folder("shapes-aesthetic") + _folder("shapes-clip"),
    twin_of=("aesthetic",),
    about="regression of synthetic ratings on the embedded CLIP's image features",
)
