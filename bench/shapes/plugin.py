"""The embedded world's entries in the registry, found through the project's own entry points. Imports no torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bench.metrics.base import MetricEntry, Scorer
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
    guidance=7.5,
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
dpo_weights = NamedWeights("dpo", "shapes-sdxl", str(WEIGHTS / "shapes-dpo"), subfolder="unet", license="Apache-2.0")

controlnet_weights = NamedWeights(
    "controlnet",
    "shapes-sdxl",
    str(WEIGHTS / "shapes-controlnet"),
    kind=CONTROLNET,
    variant="canny",
    license="Apache-2.0",
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
    twin_of=("geneval", "geneval2"),
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
