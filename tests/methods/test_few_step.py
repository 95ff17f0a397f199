"""Few-step models: their weights, sampler, steps, guidance and scheduler settings, and diffusers' own images."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_unet
import torch
from analytic import session

from bench import registry
from bench.methods.base import Method, check_chain
from bench.methods.few_step import FewStep
from bench.methods.lcm import LCM
from bench.methods.lightning import Lightning
from bench.methods.pcm import PCM
from bench.methods.turbo import Turbo
from bench.models.base import Family, ModelEntry
from bench.sampling import noise
from bench.sampling.records import LORA, NETWORK, Sampling

from .wearing import PROMPTS, planned, refused

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
P = Sampling("dpmpp_2m", 50, 5.5, (1024, 1024))
TRAILING = (("timestep_spacing", "trailing"),)


def sdxl() -> ModelEntry:
    found: ModelEntry = registry.get("models", "sdxl")
    return found


# What belongs together -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "kind", "place", "expected"),
    [
        (LCM(), LORA, "latent-consistency/lcm-lora-sdxl", ("lcm", 4, 1.0, ())),
        (LCM(guidance=5.5, steps=8), LORA, "latent-consistency/lcm-lora-sdxl", ("lcm", 8, 5.5, ())),
        (
            PCM(),
            LORA,
            "wangfuyun/PCM_Weights",
            ("ddim", 8, 5.5, (("clip_sample", False), ("set_alpha_to_one", False), *TRAILING)),
        ),
        (Lightning(), NETWORK, "ByteDance/SDXL-Lightning", ("euler", 4, 1.0, TRAILING)),
        (Turbo(), NETWORK, "stabilityai/sdxl-turbo", ("euler_a", 4, 1.0, TRAILING)),
    ],
    ids=["lcm", "lcm-guided", "pcm", "lightning", "turbo"],
)
def test_weights_sampler_steps_and_guidance_belong_together(
    method: FewStep, kind: str, place: str, expected: tuple[Any, ...]
) -> None:
    """PROTOCOL 1.7, whatever the suite's sampler, steps and guidance are."""
    if kind == LORA:
        pytest.importorskip("peft")
    chosen = method.for_model(sdxl())
    sampler, steps, guidance, settings = expected
    ays = replace(P, timesteps=(999, 1))
    for p in (P, ays):
        assert chosen.sampling(p) == replace(
            P, sampler=sampler, steps=steps, guidance=guidance, settings=settings, timesteps=None
        )
    (weights,) = chosen.adapters()
    assert (weights.kind, weights.source) == (kind, place)
    assert chosen.identity().keys() == {"version"}


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_lightning_has_a_network_for_each_step_count(steps: int) -> None:
    (weights,) = Lightning(steps=steps).for_model(sdxl()).adapters()
    assert weights.file == f"sdxl_lightning_{steps}step_unet.safetensors"


def test_trailing_steps_are_the_published_timesteps() -> None:
    """Lightning's four steps begin at 999, 749, 499 and 249; PCM's eight at 999, 874, ..., 124."""
    for method, expected in ((Lightning(), [999, 749, 499, 249]), (PCM(), list(range(999, 0, -125)))):
        if isinstance(method, PCM):
            pytest.importorskip("peft")
        p = method.for_model(sdxl()).sampling(P)
        sampler = registry.get("samplers", p.sampler)
        scheduler = sampler.build({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
                                   "timestep_spacing": "leading", "steps_offset": 1, **dict(p.settings)})  # fmt: skip
        scheduler.set_timesteps(p.steps)
        assert scheduler.timesteps.tolist() == expected


# diffusers' images ---------------------------------------------------------------------------------------------------


def ours(family: Family, method: Method, *, links: tuple[Method, ...] = ()) -> torch.Tensor:
    s = session([method, *links], prompts=PROMPTS, family=family, steps=30, guidance=7)
    try:
        family.wear(s.method.adapters())
        s.meter.rebind(family.modules())
        with torch.no_grad():
            return s.sample(s.method.noise(s, s.draw()))
    finally:
        s.meter.close()
        family.wear(())


@pytest.mark.parametrize("kind", ["lcm", "pcm", "lightning", "turbo"])
def test_images_are_the_pipelines_with_those_weights_and_that_scheduler(worn: Path, own: Family, kind: str) -> None:
    """Networks bit for bit; a LoRA, which the pipeline computes beside its layers, to 2e-5, which guidance multiplies.

    Fresh noise comes from the images' own generators.
    """
    import diffusers

    theirs = tiny_unet.entry(worn / "own").load("cpu")
    pipeline: Any = theirs.pipeline  # type: ignore[attr-defined]
    if kind in ("lcm", "pcm"):
        pipeline.load_lora_weights(worn / "lora")
    else:
        pipeline.unet = diffusers.UNet2DConditionModel.from_pretrained(worn / "other" / "unet").eval()
    schedulers: dict[str, tuple[Any, dict[str, Any]]] = {
        "lcm": (diffusers.LCMScheduler, {}),
        "pcm": (
            diffusers.DDIMScheduler,
            {"timestep_spacing": "trailing", "clip_sample": False, "set_alpha_to_one": False},
        ),
        "lightning": (diffusers.EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
        "turbo": (diffusers.EulerAncestralDiscreteScheduler, {"timestep_spacing": "trailing"}),
    }
    scheduler, settings = schedulers[kind]
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **settings)
    cond = theirs.encode(PROMPTS)
    negative = {f"negative_{k}": v.expand_as(cond[k]).contiguous() for k, v in theirs.encode_negative("").items()}
    weights = str(worn / ("lora" if kind in ("lcm", "pcm") else "other/unet"))
    for guidance in (1.0, 5.5):
        found = ours(own, registry.get("methods", kind)(weights=weights, guidance=guidance, steps=4))
        with torch.no_grad():
            expected = pipeline(
                **cond,
                **negative,
                latents=noise.draw_batch(PROMPTS, range(2), theirs.entry.latent),
                generator=[noise.generator(text, seed, "sampler") for seed, text in enumerate(PROMPTS)],
                num_inference_steps=4,
                guidance_scale=guidance,
                height=32,
                width=32,
                output_type="latent",
                return_dict=False,
            )[0]
        if kind in ("lcm", "pcm"):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5 * guidance)
        else:
            assert torch.equal(found, expected)


# Plans ---------------------------------------------------------------------------------------------------------------


def test_chains_with_methods_of_the_noise_are_planned_and_priced_by_its_steps(worn: Path, own: Family) -> None:
    lcm = f"{{use: lcm, weights: '{worn / 'lora'}'}}"
    plan = planned(worn / "own", lcm, f"{{chain: [{lcm}, inversion], name: a}}")
    few = [j for j in plan.jobs.values() if j.links]
    assert [(j.sampler, j.steps, j.guidance, plan.calls(j)) for j in few] == [("lcm", 4, 1.0, 4), ("lcm", 4, 1.0, 6)]
    from bench.methods.inversion import Inversion

    method = LCM(weights=str(worn / "lora"), guidance=5.5)
    assert not torch.equal(ours(own, method, links=(Inversion(),)), ours(own, method))


def test_steps_and_guidance_are_in_the_job_id_and_the_suites_are_not(worn: Path) -> None:
    def of(text: str) -> set[str]:
        return {j.id for j in planned(worn / "own", text).jobs.values() if j.links}

    weights = f"weights: '{worn / 'lora'}'"
    ids = {of(f"{{use: lcm, {weights}{more}}}").pop() for more in ("", ", steps: 8", ", guidance: 5.5")}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("links", "reason"),
    [
        (["lcm", "lightning"], "both set how the image is sampled"),
        (["lcm", "lcm"], "both set how the image is sampled"),
        (["ays", "lcm"], "both set how the image is sampled"),
        (["turbo", "dpo"], "both replace the denoiser's weights"),
        (["lcm", "dpo-lora"], "both add a LoRA to the denoiser"),
    ],
)
def test_what_cannot_stand_in_one_chain_is_refused_with_the_reason(worn: Path, links: list[str], reason: str) -> None:
    entry = tiny_unet.entry(worn / "own")
    lora, network = str(worn / "lora"), str(worn / "other")
    fields: dict[str, dict[str, Any]] = {
        "lcm": {"weights": lora},
        "dpo-lora": {"weights": lora},
        "ays": {"schedule": "sdxl"},
    }
    made = [
        registry.get("methods", n.partition("-")[0])(**fields.get(n, {"weights": network})).for_model(entry)
        for n in links
    ]
    first, second = links
    with pytest.raises(ValueError, match=re.escape(f"'{first}' and '{second}' cannot stand in one chain: {reason}")):
        check_chain(made, links, Sampling("euler", 10, 5.0, (32, 32)))


def test_a_preference_tuned_network_stands_with_a_few_step_lora(worn: Path, own: Family) -> None:
    """[dpo, lcm]: the LoRA is added to the tuned network."""
    from bench.methods.dpo import DPO

    lcm, dpo = LCM(weights=str(worn / "lora")), DPO(weights=str(worn / "other"))
    tuned = tiny_unet.entry(worn / "other").load("cpu")
    chained, expected = ours(own, dpo, links=(lcm,)), ours(tuned, lcm)
    assert not torch.equal(chained, ours(own, lcm))
    assert torch.equal(chained, expected)
    (swap,), (lora,) = dpo.for_model(own.entry).adapters(), lcm.for_model(own.entry).adapters()
    own.wear((swap, lora))
    tuned.wear((lora,))
    state, other = (f.modules()["denoiser"].state_dict() for f in (own, tuned))
    assert all(torch.equal(v, other[k]) for k, v in state.items())
    own.wear(())


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (LCM(steps=9), "lcm: 9 steps: its weights work in 1 to 8"),
        (PCM(steps=50), "pcm: 50 steps: its weights work in 1 to 8"),
        (Lightning(steps=1), "lightning: 1 steps: its weights work in 2, 4, 8"),
        (Lightning(steps=3), "lightning: 3 steps: its weights work in 2, 4, 8"),
        (Turbo(steps=5), "turbo: 5 steps: its weights work in 1 to 4"),
    ],
)
def test_step_counts_that_a_model_does_not_have_are_refused(method: FewStep, said: str) -> None:
    if isinstance(method, LCM | PCM):
        pytest.importorskip("peft")
    refused(lambda: method.for_model(sdxl()), re.escape(said))


def test_models_without_published_weights_are_refused_with_those_that_have_some() -> None:
    entry = registry.get("models", "hunyuan-dit")
    refused(lambda: LCM().for_model(entry), "lcm: no weights are known for model 'hunyuan-dit'; .* some for sd15, sdxl")
    refused(lambda: Turbo().for_model(registry.get("models", "sd15")), "turbo: no weights are known for model 'sd15'")
