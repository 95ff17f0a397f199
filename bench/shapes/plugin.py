"""The embedded world's entries in the registry, found through the project's own entry points. Imports no torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bench.digests import file_digest
from bench.kinship import GENEVAL_TASKS, Trait
from bench.metrics.base import MetricEntry, PairScorer, Scorer, SetScorer
from bench.metrics.distances import OverPrompts, frechet, spread, vendi
from bench.models.base import ModelEntry, folder_digest
from bench.prompts import own
from bench.prompts.base import Prompt, PromptSet
from bench.sampling.records import CONTROLNET, LORA
from bench.shapes import prompt_sets
from bench.weights.base import NamedWeights

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
    twin_of=("sdxl", "hunyuan-dit"),
    call_ms=2.0,
    call_ms_on="two CPU cores",
)

sd = ModelEntry(
    name="shapes-sd",
    adapter="bench.models.sd:StableDiffusion",
    source=str(WEIGHTS / "shapes-sd"),
    revision=None,
    steps=20,
    guidance=5.0,
    size=(64, 64),
    latent=(4, 16, 16),
    twin_of=("sd14", "sd15", "sd21"),
    call_ms=4.0,
    call_ms_on="two CPU cores",
)

turbo = ModelEntry(
    name="shapes-turbo",
    adapter="bench.models.sdxl:SDXL",
    source=str(WEIGHTS / "shapes-turbo"),
    revision=None,
    steps=4,
    guidance=1.0,
    size=(64, 64),
    latent=(4, 8, 8),
    twin_of=("dreamshaper",),
    call_ms=1.0,
    call_ms_on="two CPU cores",
)
turbo_weights = NamedWeights(
    "turbo",
    "shapes-sdxl",
    str(WEIGHTS / "shapes-turbo"),
    subfolder="unet",
    steps=(4,),
    sampler="ddim",
    settings={"timestep_spacing": "trailing"},
    license="Apache-2.0",
)
lcm_weights = NamedWeights(
    "lcm",
    "shapes-sdxl",
    str(WEIGHTS / "shapes-lcm"),
    file="pytorch_lora_weights.safetensors",
    kind=LORA,
    steps=(4,),
    license="Apache-2.0",
)
dpo_weights = NamedWeights(
    "dpo",
    "shapes-sdxl",
    str(WEIGHTS / "shapes-dpo"),
    subfolder="unet",
    license="Apache-2.0",
    tuned_by=("shapes-imagereward",),
)

controlnet_weights = NamedWeights(
    "controlnet",
    "shapes-sdxl",
    str(WEIGHTS / "shapes-controlnet"),
    kind=CONTROLNET,
    variant="canny",
    license="Apache-2.0",
    made_by="python -m bench.shapes train controlnet",
)

TRAINING = 20_000


def _training() -> list[Prompt]:
    import numpy as np

    from bench.shapes.captions import sample

    rng = np.random.default_rng(2029)
    # Drawn, not made distinct: of the 28,774 training captions four in five are of one task, while the evaluation
    # sets hold every task in MIX's shares. A caption that comes again gets another seed wherever pairs are collected.
    tags = rng.permutation([tag for tag, n in prompt_sets.MIX.items() for _ in range(n * TRAINING // 100)])
    captions = [sample(rng, "train", str(tag)) for tag in tags]
    return [Prompt(i, c.prompt, c.tag, c.metadata()) for i, c in enumerate(captions)]


_SOURCE = "bench.shapes.captions, seeded"
_COMPBENCH = ("color", "shape", "texture", "spatial", "3d_spatial", "non_spatial", "numeracy", "complex")

pickapic = PromptSet("shapes-pickapic", 100, prompt_sets.reader("pick-a-pic"), _SOURCE, twin_of=("pick-a-pic",))
drawbench = PromptSet(
    "shapes-drawbench",
    200,
    prompt_sets.reader("drawbench"),
    _SOURCE,
    twin_of=("drawbench",),
)
hpd = PromptSet("shapes-hpd", 100, prompt_sets.reader("hpd"), _SOURCE, twin_of=("hpd", "hpd_full", "hpd_all", "dpg"))
geneval_prompts = PromptSet(
    "shapes-geneval",
    120,
    prompt_sets.reader("geneval"),
    _SOURCE,
    twin_of=("geneval", "geneval2", "imagenet-fish"),
    images_per_prompt=4,
    about="twenty captions of each of the six tasks, four images each",
)
compbench = PromptSet(
    "shapes-compbench",
    120,
    prompt_sets.reader("held-out"),
    _SOURCE,
    twin_of=tuple(f"t2i-compbench{c}{split}" for split in ("", "_train") for c in ("", *(f"_{c}" for c in _COMPBENCH))),
    about="captions that name a (shape, colour) pair no training scene has",
)

controlled = PromptSet(
    "shapes-controlnet",
    50,
    lambda: own.read(prompt_sets.CONTROLLED / "prompts.jsonl"),
    _SOURCE,
    twin_of=("controlnet",),
    about="evaluation captions with the edges of a scene of each, for the kind canny",
)

training = PromptSet(
    "shapes-train",
    TRAINING,
    _training,
    _SOURCE,
    twin_of=("pick-a-pic-train",),
    about="training captions in the mix of the evaluation sets, for collecting noise pairs; no evaluation set has any",
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
    unit="share of right images",
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
    scale="0 (alike) to 1",
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
    scale="1 (alike) to the seeds a prompt",
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
