"""The embedded world's metrics in the registry, found through the project's own entry points. Imports no torch."""

from __future__ import annotations

from functools import cache

from bench.digests import file_digest
from bench.kinship import GENEVAL_TASKS, Trait
from bench.metrics.base import MetricEntry, PairScorer, Scorer, SetScorer
from bench.metrics.distances import OverPrompts, frechet, spread, vendi
from bench.models.base import folder_digest
from bench.shapes.plugin import WEIGHTS


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


def _towers(device: str) -> Scorer:
    from bench.shapes.judge_twins import Towers

    return Towers(_preference(device))


def _stylist(device: str) -> Scorer:
    from bench.shapes.judge_twins import Stylist

    return Stylist()


def _crowd(device: str) -> PairScorer:
    from bench.shapes.judge_twins import Crowd

    return Crowd()


def _compbench(device: str) -> Scorer:
    from bench.shapes.judge_twins import CompBench

    return CompBench()


def _scenes(device: str) -> SetScorer:
    from bench.shapes import sets

    return sets.distance(WEIGHTS / "shapes-clip", device)


def _clip(device: str) -> SetScorer:
    from bench.shapes.sets import ClipFeatures

    return ClipFeatures(WEIGHTS / "shapes-clip", device)


@cache
def _folder(name: str) -> str:
    return folder_digest(WEIGHTS / name)


def _uses_clip() -> tuple[str, ...]:
    return (f"shapes-clip:{_folder('shapes-clip')}",)


def _uses_preference() -> tuple[str, ...]:
    return (f"shapes-preference:{_folder('shapes-preference')}",)


@cache
def _statistics() -> str:
    return file_digest(WEIGHTS / "shapes-fid" / "statistics.npz")[:16]


_DETECTOR = Trait("detector", "the exact detector of shapes")
_CLAUSES = Trait("rule", "GenEval's clauses")
"""What the detections are compared with, by the public rules, as shares, or as a voter does."""
_FAITHFUL = Trait("labels", "voters' faithfulness to the clauses")
_DRAWN = Trait("labels", "quality and cleanness of the drawing")
"""A part of both votes and ratings (`votes.drawing`)."""
_PREFERENCE = Trait("weights", "shapes-preference")
_CLIP = Trait("backbone", "shapes-clip")
_CAPTIONS = Trait("prompts", "training captions of shapes")
_VOTES = (_FAITHFUL, _DRAWN, _DETECTOR, _CLAUSES)
"""What a vote is drawn from."""
_LICENSE = "Apache-2.0"
_RULE = "no weights"

geneval = MetricEntry(
    "shapes-geneval",
    title="GenEval",
    unit="accuracy",
    load=_geneval,
    identify=lambda: "shapes-geneval-1",
    scale="0 to 1",
    bounds=(0, 1),
    needs_metadata=True,
    metadata_key="include",
    categories=GENEVAL_TASKS,
    overall="categories",
    twin_of=("geneval",),
    about="the public rules on the exact detector's boxes",
    license=_RULE,
    blind_to="quality and style; how well a shape is formed once it counts",
    unfit_for="methods that ask the exact detector while they draw",
    made_of=(_DETECTOR, _CLAUSES),
)
clipscore = MetricEntry(
    "shapes-clipscore",
    title="CLIPScore",
    unit="2.5 cos",
    load=_clipscore,
    networks=_uses_clip,
    identify=lambda: "clipscore-1:" + _folder("shapes-clip"),
    twin_of=("clipscore",),
    about="2.5 max(cos, 0) of the embedded CLIP",
    license=_LICENSE,
    blind_to="how well a scene is drawn; it learnt some evaluation captions as wrong ones",
    unfit_for="methods that follow the second text encoder of shapes-sdxl, which is its text tower",
    made_of=(_CLIP, _CAPTIONS),
)
preference = MetricEntry(
    "shapes-preference",
    title="Preference",
    unit="utility",
    load=_preference,
    networks=_uses_preference,
    identify=lambda: "preference-1:" + _folder("shapes-preference"),
    twin_of=("hpsv2", "hpsv3"),
    about="Bradley-Terry model of synthetic votes on (caption, two images); HPSv2's place",
    license=_LICENSE,
    blind_to="what a vote does not weigh, such as style",
    unfit_for="methods tuned on the same votes whose description does not say so",
    made_of=(_PREFERENCE, *_VOTES, _CAPTIONS),
)
aesthetic = MetricEntry(
    "shapes-aesthetic",
    title="Aesthetic",
    unit="1-10",
    load=_aesthetic,
    networks=_uses_clip,
    identify=lambda: "aesthetic-1:" + _folder("shapes-aesthetic") + _folder("shapes-clip"),
    twin_of=("aesthetic",),
    about="regression of synthetic ratings on the embedded CLIP's image features",
    license=_LICENSE,
    blind_to="the caption",
    unfit_for="methods tuned on the same ratings whose description does not say so",
    made_of=(Trait("labels", "raters' balance, coverage and variety"), _DRAWN, _DETECTOR, _CLIP),
)
pickscore = MetricEntry(
    "shapes-pickscore",
    title="PickScore",
    unit="utility",
    load=_towers,
    networks=_uses_preference,
    identify=lambda: "towers-1:" + _folder("shapes-preference"),
    twin_of=("pickscore",),
    about="the two towers of the preference model alone, its first glance; shares its weights and votes",
    license=_LICENSE,
    blind_to="where things are and small differences, which take a second look",
    unfit_for="methods tuned on the same votes whose description does not say so",
    made_of=(_PREFERENCE, *_VOTES, _CAPTIONS),
)
imagereward = MetricEntry(
    "shapes-imagereward",
    title="ImageReward",
    unit="log odds",
    load=_stylist,
    identify=lambda: "stylist-1",
    twin_of=("imagereward",),
    about="contrast and vivid colours of the pixels, by a rule; shares neither labels nor detector with any other, "
    "and cannot judge the dpo weights, which were tuned by it",
    license=_RULE,
    blind_to="the caption and every shape: it sees contrast and vividness of pixels",
    unfit_for="methods that set contrast or colours, such as guidance far from the baseline's",
    made_of=(Trait("rule", "the stylist's rule on pixels"),),
)
mps = MetricEntry(
    "shapes-mps",
    title="MPS",
    unit="probability against standard",
    load=_crowd,
    identify=lambda: "crowd-1",
    scale="0.5 is the baseline",
    needs_metadata=True,
    metadata_key="include",
    twin_of=("mps",),
    kind="pair",
    about="share of a crowd that prefers the image, by the rule its votes are drawn from; uses the exact detector, and "
    "is what the preference model learnt from",
    license=_RULE,
    blind_to="style; whatever the exact detector does not see",
    unfit_for="methods tuned on the same votes whose description does not say so",
    made_of=_VOTES,
)
compbench_score = MetricEntry(
    "shapes-compbench-score",
    title="T2I-CompBench",
    unit="share",
    load=_compbench,
    identify=lambda: "compbench-1",
    scale="0 to 1",
    bounds=(0, 1),
    needs_metadata=True,
    metadata_key="include",
    categories=GENEVAL_TASKS,
    overall="categories",
    twin_of=("t2i_compbench",),
    about="soft scores of attributes, counts and places on the exact detector, which it shares with shapes-geneval",
    license=_RULE,
    blind_to="quality and style beyond the detector's confidence",
    unfit_for="methods that ask the exact detector while they draw",
    made_of=(_DETECTOR, _CLAUSES),
)
fid = MetricEntry(
    "shapes-fid",
    title="FID",
    unit="squared distance",
    load=_scenes,
    networks=_uses_clip,
    identify=lambda: "shapes-fid-1:" + _statistics() + _folder("shapes-clip"),
    higher_is_better=False,
    twin_of=("fid", "kid", "fd_dinov2", "cmmd"),
    kind="set",
    value=frechet,
    fewest=100,
    resamples=400,
    about="Fréchet distance to 8,000 exactly drawn scenes in the features of the embedded CLIP, as shapes-clipscore",
    license=_LICENSE,
    blind_to="the caption, and a single image",
    unfit_for="rows with another number of images than their neighbours",
    made_of=(_CLIP,),
)
diversity = MetricEntry(
    "shapes-diversity",
    title="Diversity",
    unit="1 - cos",
    load=_clip,
    networks=_uses_clip,
    identify=lambda: "shapes-diversity-1:" + _folder("shapes-clip"),
    scale="0 (identical) to 1",
    twin_of=("diversity", "lpips_diversity"),
    kind="set",
    value=OverPrompts(spread),
    by_prompt=True,
    about="mean distance between a prompt's images over its seeds, in the embedded CLIP's features",
    license=_LICENSE,
    blind_to="the caption and quality: noise in the images counts as diversity",
    unfit_for="methods that use one noise for all seeds on purpose",
    made_of=(_CLIP,),
)
vendi_score = MetricEntry(
    "shapes-vendi",
    title="Vendi score",
    unit="images",
    load=_clip,
    networks=_uses_clip,
    identify=lambda: "shapes-vendi-1:" + _folder("shapes-clip"),
    scale="1 (identical) to the seeds a prompt",
    twin_of=("vendi",),
    kind="set",
    value=OverPrompts(vendi),
    by_prompt=True,
    about="effective number of different images over a prompt's seeds, in the embedded CLIP's features",
    license=_LICENSE,
    blind_to="the caption and quality: noise in the images counts as diversity",
    unfit_for="methods that use one noise for all seeds on purpose",
    made_of=(_CLIP,),
)
