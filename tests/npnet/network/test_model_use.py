"""What a caller of the network relies on: shapes, precision, one line for what does not fit, and that it learns."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from small_npnets import disturbed, noise, small

from bench.errors import UserError
from npnet import NPNet, NPNetConfig
from npnet.network.model import decompose

X, PROMPT = noise(1, 3, 4, 8, 8), noise(2, 3, 24, 128)


@pytest.mark.parametrize("attention", [True, False])
def test_cached_factors_give_the_same_noise(attention: bool) -> None:
    for config in (small(attention=attention), NPNetConfig(latent=(4, 16, 16), residual=False, attention=attention)):
        network = disturbed(config)
        latents, prompt = noise(4, 2, *config.latent), noise(5, 2, *(config.prompt or ()))
        assert torch.equal(network(latents, prompt, svd=decompose(latents)), network(latents, prompt))


@pytest.mark.parametrize("latent", [(4, 8, 16), (4, 16, 8), (16, 8, 8), (3, 8, 12)])
def test_clean_latents_need_not_be_square(latent: tuple[int, int, int]) -> None:
    config = small(latent=latent, text="cross_attention")
    latents = noise(6, 2, *latent)
    assert torch.equal(NPNet(config).eval()(latents, PROMPT[:2]), latents)
    made = disturbed(config)(latents, PROMPT[:2])
    assert made.shape == latents.shape
    assert torch.isfinite(made).all()


def test_patches_cover_larger_latents() -> None:
    network = disturbed(small(latent=(4, 32, 16), patch=4))
    assert network(noise(7, 2, 4, 32, 16), PROMPT[:2]).shape == (2, 4, 32, 16)


def test_the_clean_swin_answers_in_the_latents_shape() -> None:
    pytest.importorskip("timm", reason="the backbone is timm's")
    network = NPNet(NPNetConfig(latent=(4, 16, 24), prompt=(24, 128), layout="clean", svd=False)).eval()
    assert network.branches(noise(8, 1, 4, 16, 24), PROMPT[:1])["residual"].shape == (1, 4, 16, 24)
    assert not any("head" in name for name in network.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_it_computes_in_fp32_and_answers_in_the_latents_dtype(dtype: torch.dtype) -> None:
    network = disturbed(small())
    made = network(X.to(dtype), PROMPT.to(dtype))
    assert made.dtype == dtype
    assert made.device == X.device
    assert torch.equal(made, network(X.to(dtype).float(), PROMPT.to(dtype).float()).to(dtype))


@pytest.mark.parametrize("text", ["modulation", "cross_attention"])
def test_one_prompt_serves_the_whole_batch(text: str) -> None:
    network = disturbed(small(text=text))
    each = torch.cat([network(X[i : i + 1], PROMPT[:1]) for i in range(3)])
    torch.testing.assert_close(network(X, PROMPT[:1]), each, atol=1e-5, rtol=0)


def test_wrong_inputs_are_one_line_that_says_what_to_do() -> None:
    network = NPNet(small()).eval()
    broken = X.clone()
    broken[0, 0, 0, 0] = float("nan")
    u, s, vh = decompose(X)
    for latents, prompt, svd, said in (
        (X[:, :, :4], PROMPT, None, r"latents \(3, 4, 4, 8\).*takes.*\(B, 4, 8, 8\); use"),
        (X[0], PROMPT, None, r"latents \(4, 8, 8\)"),
        (X.long(), PROMPT, None, "floating-point"),
        (X, None, None, r"no prompt_embeds; expected \(B, 24, 128\)"),
        (X, PROMPT[:2], None, r"prompt_embeds \(2, 24, 128\).*expected \(B, 24, 128\) with B 1 or 3"),
        (X, PROMPT[:, :, :64], None, r"prompt_embeds \(3, 24, 64\)"),
        (X, PROMPT[:, 0], None, r"prompt_embeds \(3, 128\)"),
        (broken, PROMPT, None, "latents hold NaN"),
        (X, PROMPT * float("inf"), None, "prompt_embeds hold NaN"),
        (X, PROMPT, (u[:2], s[:2], vh[:2]), "does not belong to latents"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            network(latents, prompt, svd=svd)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="look for NaN"):
        decompose(broken)
    with pytest.raises(UserError, match=r"call \.float\(\)"):
        NPNet(small()).half()(X, PROMPT)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"latent": (4, 96, 128)}, r"\(4, 96, 128\) is not square.*layout='clean'"),
        ({"latent": (16, 128, 128)}, r"\(4, n, n\)"),
        ({"prompt": None}, "text='modulation' needs prompt"),
        ({"backbone": "small"}, "use layout='clean'"),
        ({"text": "cross_attention"}, "backbone='small'"),
        ({"layout": "clean", "backbone": "small", "heads": 5}, "heads=5 does not divide width=96"),
        ({"layout": "clean", "backbone": "small", "patch": 3}, "patch=3 does not divide"),
    ],
)
def test_what_cannot_be_built_says_so(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        NPNetConfig(**changes)


def test_the_small_presets_stay_small() -> None:
    for text in ("none", "modulation", "cross_attention"):
        network = NPNet(NPNetConfig.small((4, 8, 8), (24, 128), text=text))
        assert sum(p.numel() for p in network.parameters()) <= 700_000


def test_a_configuration_is_json_both_ways() -> None:
    for config in (NPNetConfig.sdxl(), NPNetConfig.dit(attention=False), small(text="cross_attention")):
        assert NPNetConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("text", ["none", "modulation", "cross_attention"])
def test_every_parameter_of_a_clean_network_learns(text: str) -> None:
    """With every branch on or off: after a step away from the start, no parameter is without gradient."""
    for svd, residual, attention in itertools.product((True, False), repeat=3):
        if text == "cross_attention" and not residual:
            continue
        network = disturbed(small(text=text, svd=svd, residual=residual, attention=attention)).train()
        parameters = dict(network.named_parameters())
        if not parameters:
            continue
        ((network(X, PROMPT) - noise(9, 3, 4, 8, 8)) ** 2).mean().backward()
        silent = [name for name, p in parameters.items() if p.grad is None or not p.grad.abs().max() > 0]
        assert not silent, (svd, residual, attention, silent)


def test_a_fresh_network_learns_from_its_start() -> None:
    """Zero-initialised parts do not hold each other at zero: a few steps lower the error of every configuration."""
    target = X + 0.3 * torch.roll(X, 1, 3)
    for text in ("modulation", "cross_attention"):
        torch.manual_seed(0)
        network = NPNet(small(text=text)).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
        errors = []
        for _ in range(30):
            error = ((network(X, PROMPT) - target) ** 2).mean()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            errors.append(error.item())
        assert errors[-1] < 0.5 * errors[0]


def test_autocast_does_not_touch_the_noise_that_passes_through() -> None:
    """bf16 training: an untrained clean network still returns x_T bit by bit."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(NPNet(small()).train()(X, PROMPT), X)
