"""The embedded world's models, weights and prompt sets, found through the project's own entry points. No torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bench.models.base import ModelEntry
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
    compile_s=290.0,
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
    return list(_drawn())


@cache
def _drawn() -> tuple[Prompt, ...]:
    """More than a second's work: once a process."""
    import numpy as np

    from bench.shapes.captions import sample

    rng = np.random.default_rng(2029)
    # Drawn, not made distinct: of the 28,774 training captions four in five are of one task, while the evaluation
    # sets hold every task in MIX's shares. A caption that comes again gets another seed wherever pairs are collected.
    tags = rng.permutation([tag for tag, n in prompt_sets.MIX.items() for _ in range(n * TRAINING // 100)])
    captions = [sample(rng, "train", str(tag)) for tag in tags]
    return tuple(Prompt(i, c.prompt, c.tag, c.metadata()) for i, c in enumerate(captions))


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
