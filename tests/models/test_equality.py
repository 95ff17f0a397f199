"""Standard goes through the harness's own loop, and is the diffusers pipeline's image, for every family and sampler."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny_dit
import tiny_unet
import torch
from covering import chosen, met

from bench import registry
from bench.models.base import Embeddings, Family, ModelEntry
from bench.prompts.base import Prompt
from bench.sampling import noise
from bench.sampling.records import Item, Sampling
from bench.sampling.session import Session

# diffusers calls numpy in ways that numpy 2 deprecates.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
PROMPTS = ("a red cat", "a photo of a dog and a frog")
NEGATIVE = "a bench"
SETTINGS = ((1.0, ""), (0.5, ""), (6.0, ""), (6.0, NEGATIVE))
"""Guidance and negative prompt: none, below that (none too, as the pipelines have it), and some."""
FAMILIES = ("sdxl", "sd", "sd-velocity", "hunyuan")
SAMPLERS = tuple(registry.names("samplers"))


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelEntry]:
    home = tmp_path_factory.mktemp("families")
    small: Any = {"sharpness": 1.0, "levels": 0}
    return {
        "sdxl": tiny_unet.entry(tiny_unet.save_sdxl(home / "sdxl", **small)),
        "sd": tiny_unet.entry(tiny_unet.save_sd(home / "sd", **small)),
        "sd-velocity": tiny_unet.entry(tiny_unet.save_sd(home / "velocity", prediction="v_prediction", **small)),
        "hunyuan": tiny_dit.entry(tiny_dit.save(home / "hunyuan")),
    }


@cache
def loaded(entry: ModelEntry, dtype: str) -> Family:
    return entry.load("cpu", dtype)


@cache
def embedded(family: Family, negative: str) -> tuple[Embeddings, Embeddings]:
    """Both halves' embeddings in batches of their own."""
    cond = family.encode(PROMPTS)
    return cond, {k: v.expand_as(cond[k]).contiguous() for k, v in family.encode_negative(negative).items()}


def steps_of(sampler: str) -> int:
    return max(3, registry.get("samplers", sampler).fewest_steps)


@cache
def ours(family: Family, sampler: str, steps: int, guidance: float, negative: str, kind: str) -> torch.Tensor:
    """Final latents (`latent`) or images (B, 3, H, W) (`pt`) by a session without a method; no test changes them."""
    cond, uncond = embedded(family, negative)
    items = [Item(Prompt(0, text), seed) for seed, text in enumerate(PROMPTS)]
    p = Sampling(sampler, steps, guidance, family.entry.size, family.dtype)
    with torch.no_grad():
        s = Session(family, items, p, cond=cond, uncond=uncond)
        made = s.sample(s.draw())
        if kind == "pt":
            made = s.decode(made)
    s.meter.close()
    assert s.cost.nfe(0).forwards == registry.get("samplers", sampler).calls(steps)
    assert s.cost.nfe(0).rows == s.cost.nfe(0).forwards * (2 if guidance > 1 else 1)
    return made


def diffusers(family: Family, sampler: str, steps: int, guidance: float, negative: str, kind: str) -> torch.Tensor:
    """The same by the pipeline's own call: its loop, its scheduler, its decoding."""
    pipeline: Any = family.pipeline  # type: ignore[attr-defined]
    cond, uncond = embedded(family, negative)
    pipeline.scheduler = registry.get("samplers", sampler).build(family.scheduler_config)
    height, width = family.entry.size
    more = {"use_resolution_binning": False} if type(pipeline).__name__ == "HunyuanDiTPipeline" else {}
    # Where a VAE is kept in fp32 for its overflows, the pipeline's own decoding wants fp32 latents too.
    decodes = pipeline.vae.dtype == family.latent_dtype
    with torch.no_grad():
        made: torch.Tensor = pipeline(
            **cond,
            **{f"negative_{k}": v for k, v in uncond.items()},
            latents=noise.draw_batch(PROMPTS, range(len(PROMPTS)), family.entry.latent).to(family.latent_dtype),
            generator=[noise.generator(text, seed, "sampler") for seed, text in enumerate(PROMPTS)],
            num_inference_steps=steps,
            guidance_scale=guidance,
            height=height,
            width=width,
            output_type=kind if decodes else "latent",
            return_dict=False,
            **more,
        )[0]
        if kind == "latent":
            return made
        return made.float() if decodes else family.pixels(made)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", FAMILIES)
def test_in_fp32_the_latents_are_the_pipelines_bit_for_bit(
    entries: dict[str, ModelEntry], kind: str, sampler: str
) -> None:
    family, steps = loaded(entries[kind], "fp32"), steps_of(sampler)
    for guidance, negative in chosen(SETTINGS, FAMILIES.index(kind), SAMPLERS.index(sampler)):
        mine, theirs = (f(family, sampler, steps, guidance, negative, "latent") for f in (ours, diffusers))
        assert torch.equal(mine, theirs), (guidance, negative, float((mine - theirs).abs().max()))
        assert torch.isfinite(mine).all()


@pytest.mark.parametrize("kind", FAMILIES)
def test_guidance_and_the_negative_prompt_decide_something(entries: dict[str, ModelEntry], kind: str) -> None:
    """Without this, equal latents would say little."""
    family = loaded(entries[kind], "fp32")
    none, below, some, negative = (ours(family, "ddim", 3, *setting, "latent") for setting in SETTINGS)
    assert torch.equal(none, below), "guidance below 1 is none, in the loop as in the pipeline"
    assert not torch.equal(none, some)
    assert not torch.equal(some, negative)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("sampler", "kind"), met(SAMPLERS, FAMILIES))
def test_in_bf16_the_images_differ_by_one_grey_level_at_most(
    entries: dict[str, ModelEntry], kind: str, sampler: str
) -> None:
    family, steps = loaded(entries[kind], "bf16"), steps_of(sampler)
    for guidance in chosen((0.5, 6.0), SAMPLERS.index(sampler) // len(FAMILIES)):
        mine, theirs = (f(family, sampler, steps, guidance, NEGATIVE, "pt") for f in (ours, diffusers))
        assert float((mine * 255 - theirs * 255).abs().max()) <= 1.0
        assert mine.std() > 0.01, "images of one colour would compare equal to any"


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_loop_that_methods_could_wrap_but_do_not_is_the_same_loop(entries: dict[str, ModelEntry], kind: str) -> None:
    """Methods see canonical latents; a step that hands them on unchanged moves no bit."""
    from bench.methods.base import Method

    class Idle(Method):
        def step(self, s: Any, x: Any, i: int, following: Any) -> Any:
            return following(x)

    family = loaded(entries[kind], "fp32")
    cond, uncond = embedded(family, "")
    items = [Item(Prompt(0, text), seed) for seed, text in enumerate(PROMPTS)]
    for sampler in SAMPLERS:
        # Of each sampler the family where the test above has made the same latents without a method.
        if (6.0, "") not in chosen(SETTINGS, FAMILIES.index(kind), SAMPLERS.index(sampler)):
            continue
        steps = steps_of(sampler)
        with torch.no_grad():
            s = Session(
                family, items, Sampling(sampler, steps, 6.0, family.entry.size), cond=cond, uncond=uncond, method=Idle()
            )
            made = s.sample(s.draw())
        s.meter.close()
        assert torch.equal(made, ours(family, sampler, steps, 6.0, "", "latent")), sampler


def test_the_embedded_twins_are_families_like_any_other() -> None:
    entry = replace(registry.get("models", "shapes-sdxl"))
    assert Path(entry.source).is_dir()
    family = loaded(entry, "fp32")
    mine, theirs = (f(family, "ddim", 4, 5.0, "", "latent") for f in (ours, diffusers))
    assert torch.equal(mine, theirs)
