"""Hunyuan-DiT's adapter, on a folder of random weights: it is the plain pipeline, in steps that methods may take."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_dit
import torch
from hunyuan_sessions import PROMPTS, STEPS, embedded, latents, loaded, plain, sampled, session_of, stepped
from hunyuan_sessions import folder as folder
from hunyuan_sessions import model as model
from hunyuan_sessions import version as version

from bench import registry
from bench.models.base import Family
from bench.sampling import noise
from bench.sampling.session import Memory

# diffusers calls numpy in ways that numpy 2 deprecates.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]


# The same images as the plain pipeline ------------------------------------------------------------------------------


@pytest.mark.parametrize(("guidance", "negative"), [(5.0, None), (5.0, "blurred"), (1.0, None)])
def test_steps_by_the_denoiser_end_at_the_plain_pipelines_images(
    version: Path, guidance: float, negative: str | None
) -> None:
    expected, model = plain(version, guidance=guidance, negative=negative), loaded(version)
    session = session_of(model, guidance=guidance, negative=negative or "")
    with torch.no_grad():
        by_hand = model.pixels(stepped(session, latents()))
        assert session.cost.nfe(0).forwards == STEPS
        by_loop = model.pixels(session.sample(latents()))
    torch.testing.assert_close(by_loop, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(by_hand, expected, rtol=0, atol=2e-5)
    assert session.cost.nfe(0).forwards == 2 * STEPS
    assert expected.std() > 0.05, "images of one colour would all be equal"


def test_guidance_and_the_negative_prompt_decide_the_image(folder: Path) -> None:
    images = [plain(folder, guidance=g, negative=n) for g, n in ((5.0, None), (5.0, "blurred"), (1.0, None))]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (images[a] - images[b]).abs().max() > 1e-2


def test_the_networks_first_inputs_are_the_pipelines_to_the_last_bit(version: Path) -> None:
    """So a collection computes the step that its two arms share once."""
    model, memory = loaded(version), Memory()
    with torch.no_grad():
        one = session_of(model, memory=memory)
        one.predict(latents(), one.timesteps[0])
        sampled(model, memory=memory)
    assert (memory.calls, memory.reused) == (STEPS, 1)


def test_a_prediction_is_of_the_noise_though_the_network_says_velocity(model: Family) -> None:
    """v = alpha e - sigma x_0, so e = alpha v + sigma x (2202.00512, appendix D); half of the channels are variance."""
    x, t = latents(), 501
    said: list[torch.Tensor] = []
    hook = model.modules()["denoiser"].register_forward_hook(lambda module, given, output: said.append(output[0]))
    try:
        with torch.no_grad():
            e = session_of(model).predict(x, t, 1.0).eps
    finally:
        hook.remove()
    assert said[0].shape == (2, 8, 8, 8)
    betas = torch.linspace(0.00085**0.5, 0.018**0.5, 1000, dtype=torch.float64) ** 2
    kept = float(torch.cumprod(1 - betas, 0)[t])
    torch.testing.assert_close(e, kept**0.5 * said[0][:, :4] + (1 - kept) ** 0.5 * x, rtol=0, atol=1e-5)


def test_neither_the_batch_nor_its_order_changes_an_image(model: Family) -> None:
    prompts = (*PROMPTS, "a ring")
    together = sampled(model, prompts)
    for i, prompt in enumerate(prompts):
        with torch.no_grad():
            alone = session_of(model, [prompt]).sample(latents(prompts)[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_a_prompt_is_two_embeddings_with_their_masks(model: Family) -> None:
    cond = model.encode(PROMPTS)
    shapes = {name: tuple(value.shape) for name, value in cond.items()}
    assert shapes == {
        "prompt_embeds": (2, 77, tiny_dit.WIDTH),
        "prompt_attention_mask": (2, 77),
        "prompt_embeds_2": (2, 256, tiny_dit.WIDTH_2),
        "prompt_attention_mask_2": (2, 256),
    }
    lengths = [len("".join(p.split())) for p in PROMPTS]
    assert cond["prompt_attention_mask"].sum(1).tolist() == [n + 2 for n in lengths], "letters, a beginning and an end"
    alone = model.encode(PROMPTS[1:])
    for name, value in alone.items():
        torch.testing.assert_close(value[0], cond[name][1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["prompt_embeds", "prompt_attention_mask", "prompt_embeds_2", "prompt_attention_mask_2"]
)
def test_every_part_of_a_prompt_plays_its_part(model: Family, name: str) -> None:
    cond, uncond = embedded(model)
    other = {**cond, name: cond[name].flip(1)}
    with torch.no_grad():
        a, b = (
            session_of(model, cond=given, uncond=uncond).predict(latents(), 501, 1.0).eps for given in (cond, other)
        )
    assert (a - b).abs().max() > 1e-4


CALLS = {registry.get("samplers", name).calls(50): name for name in registry.names("samplers")}
"""A sampler of each number of calls; that every sampler is the pipeline's, calls and all, is in test_equality.py."""


@pytest.mark.parametrize("name", CALLS.values())
def test_every_sampler_runs_with_as_many_calls_as_it_says(model: Family, name: str) -> None:
    calls: list[int] = []
    steps = max(STEPS, registry.get("samplers", name).fewest_steps)
    hook = model.modules()["denoiser"].register_forward_pre_hook(lambda module, given: calls.append(len(given[0])))
    try:
        made = sampled(model, sampler=name, steps=steps)
    finally:
        hook.remove()
    assert calls == [4] * registry.get("samplers", name).calls(steps)
    assert torch.isfinite(made).all()


def test_a_latent_of_another_shape_is_refused(model: Family) -> None:
    with pytest.raises(ValueError, match=r"latents of shape \(2, 4, 16, 16\); hunyuan-dit expects \(2, 4, 8, 8\)"):
        session_of(model, steps=2).sample(torch.zeros(2, 4, 16, 16))


def test_an_image_need_not_be_square(version: Path) -> None:
    """Positions are stretched over the longer side, as the pipeline has it."""
    wide = replace(tiny_dit.entry(version), size=(64, 96), latent=(4, 8, 12)).load("cpu")
    x = noise.draw_batch([PROMPTS[0]], [0], (4, 8, 12))
    with torch.no_grad():
        session = session_of(wide, PROMPTS[:1], steps=2)
        looped, by_hand = session.sample(x), stepped(session, x)
    torch.testing.assert_close(by_hand, looped, rtol=0, atol=1e-4)
    assert wide.decode(looped).shape == (1, 64, 96, 3)


# From latents to pixels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", ["by a factor", "and shifted", "by statistics"])
def test_latents_are_unscaled_as_the_autoencoders_config_says(folder: Path, tmp_path: Path, scaled: str) -> None:
    """z / s, z / s + shift, or z std / s + mean by channel: what diffusers' pipelines of such autoencoders do."""
    copied = shutil.copytree(folder, tmp_path / "dit")
    path = copied / "vae" / "config.json"
    config = json.loads(path.read_text())
    mean, std = [0.5, -1.0, 0.25, 2.0], [1.5, 0.5, 2.0, 1.0]
    changes: dict[str, dict[str, Any]] = {
        "by a factor": {"scaling_factor": 0.5},
        "and shifted": {"scaling_factor": 0.5, "shift_factor": 0.75},
        "by statistics": {"scaling_factor": 0.5, "latents_mean": mean, "latents_std": std},
    }
    path.write_text(json.dumps({**config, **changes[scaled]}))
    model = tiny_dit.entry(copied).load("cpu")
    vae: Any = model.modules()["vae"]
    z = latents()
    unscaled = 2 * z
    if scaled == "and shifted":
        unscaled = unscaled + 0.75
    if scaled == "by statistics":
        unscaled = torch.stack([unscaled[:, c] * std[c] + mean[c] for c in range(4)], 1)
    with torch.no_grad():
        expected = (vae.decode(unscaled).sample / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(model.pixels(z), expected, rtol=0, atol=1e-6)
        if scaled != "by a factor":
            plainly = (vae.decode(2 * z).sample / 2 + 0.5).clamp(0, 1)
            assert (model.pixels(z) - plainly).abs().max() > 1e-3
        grey = model.decode(z)
    assert (grey.shape, grey.dtype.name) == ((2, 64, 64, 3), "uint8")
    assert abs(torch.from_numpy(grey).permute(0, 3, 1, 2) / 255 - expected).max() <= 0.5 / 255 + 1e-6
