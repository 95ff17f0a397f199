"""ControlNet: diffusers' own images bit for bit, and what the other methods of a chain see of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from analytic import make, paid, priced, session
from covering import FULL

from bench import registry
from bench.methods.base import Method
from bench.methods.inversion import Inversion, coefficients
from bench.models.base import Embeddings, Family, to_uint8
from bench.prompts.base import Prompt
from bench.sampling import noise
from bench.sampling.schedule import move
from bench.sampling.session import Memory, Session

from . import controlled
from .controlled import control, loaded, ours

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
FAMILIES = ("sdxl", "sd", "velocity")
SAMPLERS = tuple(registry.names("samplers"))
HALF = {"scale": 0.7, "start": 0.25, "end": 0.75}
SETTINGS: tuple[tuple[float, dict[str, float]], ...] = ((1.0, {}), (6.0, HALF), (6.0, {}), (1.0, HALF))
"""Guidance, and the control's scale and window."""
CASES = [
    pytest.param(sampler, name, *settings, id=f"{sampler}-{name}-{settings[0]}-{'window' if settings[1] else 'whole'}")
    for i, sampler in enumerate(SAMPLERS)
    for j, name in enumerate(FAMILIES)
    for settings in (SETTINGS if FULL else [SETTINGS[i // len(FAMILIES) % len(SETTINGS)]])
    if FULL or i % len(FAMILIES) == j
]
"""Each sampler once, and each family with each setting: tests/models/test_equality.py has every sampler and family."""


@pytest.fixture(scope="module")
def prompts(home: Path) -> list[Prompt]:
    return controlled.prompts(home)


@cache
def controlnet(folder: Path) -> Any:
    """As diffusers loads it."""
    import diffusers

    return diffusers.ControlNetModel.from_pretrained(folder).eval()


def pipeline_of(family: Family, *folders: Path) -> Any:
    """diffusers' ControlNet pipeline of a family's own parts."""
    import diffusers

    plain: Any = family.pipeline  # type: ignore[attr-defined]
    kind = type(plain).__name__.replace("Pipeline", "ControlNetPipeline")
    nets = [controlnet(f) for f in folders]
    safety = {} if "safety_checker" not in plain.components else {"requires_safety_checker": False}
    made = getattr(diffusers, kind)(**plain.components, controlnet=nets if len(nets) > 1 else nets[0], **safety)
    made.set_progress_bar_config(disable=True)
    return made


def embedded(family: Family, texts: Sequence[str]) -> tuple[Embeddings, Embeddings]:
    cond = family.encode(texts)
    return cond, {k: v.expand_as(cond[k]).contiguous() for k, v in family.encode_negative("").items()}


def theirs(
    family: Family, folders: Sequence[Path], image: Any, sampler: str, guidance: float, steps: int = 4, **given: Any
) -> torch.Tensor:
    """Final latents by the pipeline's own call."""
    pipeline = pipeline_of(family, *folders)
    pipeline.scheduler = registry.get("samplers", sampler).build(family.scheduler_config)
    cond, uncond = embedded(family, controlled.TEXTS)
    seeds = range(len(controlled.TEXTS))
    height, width = family.entry.size
    with torch.no_grad():
        found: torch.Tensor = pipeline(
            **cond,
            **{f"negative_{k}": v for k, v in uncond.items()},
            image=image,
            latents=noise.draw_batch(controlled.TEXTS, seeds, family.entry.latent),
            generator=[noise.generator(t, k, "sampler") for k, t in enumerate(controlled.TEXTS)],
            num_inference_steps=steps,
            guidance_scale=guidance,
            height=height,
            width=width,
            output_type="latent",
            return_dict=False,
            **given,
        )[0]
    return found


# The images ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("sampler", "name", "guidance", "more"), CASES)
def test_it_is_diffusers_pipeline_bit_for_bit(
    home: Path, prompts: list[Prompt], name: str, sampler: str, guidance: float, more: dict[str, float]
) -> None:
    """In fp32, without guidance and with it, at the full scale, and at another within a window of the calls."""
    family, steps = loaded(home / name), max(4, registry.get("samplers", sampler).fewest_steps)
    of: dict[str, Any] = {"sampler": sampler, "guidance": guidance, "steps": steps}
    mine = ours(family, control(home, name, **more), prompts, **of)[1]
    given = {
        "controlnet_conditioning_scale": more.get("scale", 1.0),
        "control_guidance_start": more.get("start", 0.0),
        "control_guidance_end": more.get("end", 1.0),
    }
    expected = theirs(family, [home / f"{name}-canny"], controlled.images(prompts, "canny"), **of, **given)
    assert torch.equal(mine, expected), float((mine - expected).abs().max())
    assert torch.isfinite(mine).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_control_its_window_and_guidance_each_decide_something(home: Path, prompts: list[Prompt], name: str) -> None:
    """Without this, equal latents would say little."""
    family = loaded(home / name)
    made = [
        ours(family, method, prompts[:1], sampler="ddim", guidance=guidance)[1]
        for guidance in (1.0, 6.0)
        for method in ((), control(home, name), control(home, name, **HALF))
    ]
    assert min(float((a - b).abs().max()) for i, a in enumerate(made) for b in made[:i]) > 1e-3


@pytest.mark.parametrize("name", ["sdxl", "sd"])
def test_two_in_a_chain_are_diffusers_several_controlnets(home: Path, prompts: list[Prompt], name: str) -> None:
    family = loaded(home / name)
    both = [control(home, name, "canny", scale=0.7), control(home, name, "depth", scale=0.4, end=0.5)]
    # Several ControlNets take a tensor of all prompts' images each.
    prepare = pipeline_of(family, home / f"{name}-canny").control_image_processor.preprocess
    images = [prepare(controlled.images(prompts, kind)) for kind in controlled.KINDS]
    of = {"sampler": "ddim", "guidance": 5.0}
    s, mine = ours(family, both, prompts, **of)
    expected = theirs(
        family,
        [home / f"{name}-{kind}" for kind in controlled.KINDS],
        images,
        **of,
        controlnet_conditioning_scale=[0.7, 0.4],
        control_guidance_start=[0.0, 0.0],
        control_guidance_end=[1.0, 0.5],
    )
    assert torch.equal(mine, expected)
    assert paid(s).networks == priced(s).networks == 4 + 2


@pytest.mark.parametrize("name", ["sdxl", "sd"])
def test_a_batch_of_eight_is_eight_batches_of_one_to_a_grey_level(home: Path, tmp_path: Path, name: str) -> None:
    family, texts = loaded(home / name), [f"{a} {b}" for a in ("red", "a") for b in ("cat", "dog", "frog", "bench")]
    found, method = controlled.prompts(tmp_path, texts), control(home, name)

    def pixels(some: Sequence[Prompt], seeds: Sequence[int]) -> torch.Tensor:
        s = session(method, prompts=some, family=family, steps=2, seeds=seeds)
        try:
            return torch.from_numpy(to_uint8(make(s).pixels)).int()
        finally:
            s.meter.close()

    together = pixels(found, range(8))
    alone = torch.cat([pixels([one], [k]) for k, one in enumerate(found)])
    assert int((together - alone).abs().max()) <= 1
    assert all(int((together[0] - other).abs().max()) > 8 for other in together[1:])


def test_a_part_of_a_batch_has_its_own_images(home: Path, prompts: list[Prompt]) -> None:
    family = loaded(home / "sdxl")
    s = session(control(home, "sdxl"), prompts=prompts, family=family, steps=4)
    with torch.no_grad():
        x, t = s.draw(), s.timesteps[1]
        whole, part = s.predict(x, t).eps, s.take([1]).predict(x[1:], t).eps
        other = s.take([1])
        other.items = [s.items[0]]
    torch.testing.assert_close(part, whole[1:], rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert float((other.predict(x[1:], t).eps - part).abs().max()) > 1e-3, "another image, another prediction"
    s.meter.close()


# Chains --------------------------------------------------------------------------------------------------------------


def test_inversion_predicts_with_the_control(home: Path, prompts: list[Prompt]) -> None:
    """x' = A x + B e1 + C e2 with both predictions by diffusers' ControlNet and UNet, called here by hand."""
    family = loaded(home / "sdxl")
    s = session([control(home, "sdxl"), Inversion()], prompts=prompts, family=family, steps=4, guidance=5.0)
    pipeline = pipeline_of(family, home / "sdxl-canny")
    image = pipeline.prepare_image(controlled.images(prompts, "canny"), 32, 32, len(prompts), 1, "cpu", torch.float32)

    def eps(x: torch.Tensor, t: float, embeds: Embeddings) -> torch.Tensor:
        ids = torch.tensor([[32.0, 32, 0, 0, 32, 32]] * len(x))
        shared: dict[str, Any] = {
            "encoder_hidden_states": embeds["prompt_embeds"],
            "added_cond_kwargs": {"text_embeds": embeds["pooled_prompt_embeds"], "time_ids": ids},
            "return_dict": False,
        }
        down, middle = pipeline.controlnet(x, t, controlnet_cond=image, **shared)
        of: dict[str, Any] = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        found: torch.Tensor = pipeline.unet(x, t, **of, **shared)[0]
        return found

    with torch.no_grad():
        x, (t0, t1) = s.draw(), s.timesteps[:2]
        schedule = s.schedule
        down_x, down_e = move(schedule.alpha(t0), schedule.sigma(t0), schedule.alpha(t1), schedule.sigma(t1))
        u, c = eps(x, t0, s.uncond), eps(x, t0, s.cond)
        e1 = u + 5.0 * (c - u)
        e2 = eps(down_x * x + down_e * e1, t0, s.cond)
        a, b, k = coefficients(schedule)
        made = s.method.noise(s, x)
    s.meter.close()
    torch.testing.assert_close(made, a * x + b * e1 + k * e2, rtol=1e-4, atol=1e-4)
    plain = session(Inversion(), prompts=prompts, family=family, steps=4, guidance=5.0)
    with torch.no_grad():
        assert float((plain.method.noise(plain, x) - made).abs().max()) > 1e-3
    plain.meter.close()


class Mirror(Method):
    """Another noise of no cost, in the place of a trained network's."""

    def noise(self, s: Session, x: torch.Tensor) -> torch.Tensor:
        return -x


def test_after_other_noise_the_loop_is_controlled_still(home: Path, prompts: list[Prompt]) -> None:
    """`[controlnet, npnet]`: golden latents are passed and nothing else."""
    family = loaded(home / "sdxl")
    for chain in ([control(home, "sdxl"), Mirror()], [Mirror(), control(home, "sdxl")]):
        s = session(chain, prompts=prompts, family=family, steps=2)
        mirrored = make(s)
        assert torch.equal(mirrored.noise, -mirrored.drawn)
        plain = session(control(home, "sdxl"), prompts=prompts, family=family, steps=2)
        with torch.no_grad():
            assert torch.equal(plain.sample(-plain.draw()), mirrored.latents)
        s.meter.close()
        plain.meter.close()


def test_a_remembered_call_is_of_the_same_control(home: Path, prompts: list[Prompt]) -> None:
    """A call is answered from memory only where the residuals agree, too."""
    family, memory = loaded(home / "sdxl"), Memory()
    outputs = []
    for kind, reused in (("canny", 0), ("canny", 1), ("depth", 1)):
        s = session(control(home, "sdxl", kind), prompts=prompts, family=family, steps=4, memory=memory)
        with torch.no_grad():
            outputs.append(s.predict(s.draw(), s.timesteps[0]).eps)
        s.meter.close()
        assert memory.reused == reused
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[1], outputs[2])
