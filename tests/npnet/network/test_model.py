"""The network: equal to the released code, its ablations as formulas, and what a caller relies on."""

from __future__ import annotations

import itertools
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.errors import UserError
from npnet import NPNet, NPNetConfig
from npnet.network.model import decompose

PARITY = Path(__file__).parents[3] / "shared" / "parity"
PUBLISHED_NAME = {"svd": "unet_svd", "residual": "unet_embedding", "text": "embeeding"}
BRANCHES = ("text", "svd", "residual", "golden")  # the order of `stats` in the reference files


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def disturbed(config: NPNetConfig, seed: int = 0) -> NPNet:
    """A network whose every weight is away from its start, so that no branch is silent."""
    torch.manual_seed(seed)
    network = NPNet(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for scalar, value in ((network.alpha, 0.3), (network.beta, -0.4)):
            if scalar is not None:
                scalar.fill_(value)
    return network


def small(**changes: Any) -> NPNetConfig:
    return NPNetConfig.small(**{"width": 16, "depth": 1, **changes})


X, PROMPT = noise(1, 3, 4, 8, 8), noise(2, 3, 24, 128)


# The released code.


@pytest.mark.parametrize("case", ["sdxl", "dit"])
def test_every_branch_equals_the_released_inference_code(case: str) -> None:
    """Reference vectors of xie-lab-ml/Golden-Noise-for-Diffusion-Models @ aa7103e; the recipe is in their README.

    The released sum is SVD + (2 sigmoid(alpha) - 1) e + beta residual, with alpha 0.31 and beta 0.73.
    """
    pytest.importorskip("timm", reason="the published backbone is timm's")
    file = PARITY / f"npnet_{case}_a.npz"
    if not file.is_file():
        pytest.skip("the reference vectors are not beside this checkout")
    network = NPNet(getattr(NPNetConfig, case)()).eval()
    with torch.no_grad():
        for key, value in network.state_dict().items():
            branch, _, rest = key.partition(".")
            if not rest:
                value.fill_({"alpha": 0.31, "beta": 0.73}[key])
            elif value.is_floating_point():
                drawn = 0.02 * noise(zlib.crc32(f"{case}-a/{PUBLISHED_NAME[branch]}.{rest}".encode()), *value.shape)
                positive = (value.ndim == 1 and rest.endswith("weight")) or rest.endswith("running_var")
                value.copy_(drawn.abs() + 1 if positive else drawn)
        generator = torch.Generator().manual_seed(zlib.crc32(f"{case}-a/inputs".encode()))
        latents = torch.randn(2, 4, 128, 128, generator=generator)
        made = network.branches(latents, torch.randn(2, 77, 2048 if case == "sdxl" else 1024, generator=generator))
    reference = np.load(file)
    for row, branch in enumerate(BRANCHES):
        value = made[branch].numpy()
        difference = np.abs(value.reshape(-1)[reference["index"]] - reference[branch]).max()
        print(f"{case} {branch}: largest difference {difference:.1e}")
        # The text branch has values of up to 66, and another processor's kernels sum them in another order.
        assert difference < 1e-4 * max(1.0, reference["stats"][row][1])
        np.testing.assert_allclose(
            (value.mean(), value.std(ddof=0), np.abs(value).max()), reference["stats"][row], rtol=1e-4, atol=1e-4
        )


def test_parameters_of_the_released_parts() -> None:
    """PROTOCOL 1.6: 920,448 in the SVD branch, text weights (8, 157696) and (8, 78848) with bias 8, 30.47 M in all."""
    pytest.importorskip("timm", reason="the published backbone is timm's")
    sdxl = NPNet(NPNetConfig.sdxl())
    assert sdxl.svd is not None
    assert sdxl.text is not None
    assert sdxl.residual is not None
    assert sum(p.numel() for p in sdxl.svd.parameters()) == 920_448
    assert sum(p.numel() for p in sdxl.text.parameters()) == 8 * 157_696 + 8
    assert sum(p.numel() for p in sdxl.parameters()) == pytest.approx(30.47e6, rel=1e-3)
    dit = NPNet(NPNetConfig.dit(residual=False))
    assert dit.text is not None
    assert sum(p.numel() for p in dit.text.parameters()) == 8 * 78_848 + 8


def test_the_text_layer_is_diffusers_ada_group_norm() -> None:
    normalization = pytest.importorskip("diffusers.models.normalization")
    network = disturbed(small())
    theirs = normalization.AdaGroupNorm(24 * 128, 4, 1, eps=1e-6)
    assert network.text is not None
    theirs.load_state_dict(network.text.state_dict())
    torch.testing.assert_close(network.text(X, PROMPT), theirs(X, PROMPT.flatten(1)))


# Formulas.


@pytest.mark.parametrize("text", ["modulation", "cross_attention"])
def test_an_untrained_network_returns_its_noise(text: str) -> None:
    """alpha = beta = 0 at the start (PROTOCOL 1.6, Training), and the SVD branch starts as the identity."""
    network = NPNet(small(text=text)).eval()
    assert torch.equal(network(X, PROMPT), X)


def test_everything_off_is_the_identity() -> None:
    network = NPNet(small(text="none", svd=False, residual=False))
    assert torch.equal(network(X), X)
    assert list(network.branches(X)) == ["golden"]


def test_ablations_are_these_sums() -> None:
    """PROTOCOL, Ablations: w/o SVD = x_T + the rest; w/o residual = SVD + alpha e; w/o text = SVD + beta residual."""
    for svd, residual, text in itertools.product((True, False), (True, False), ("none", "modulation")):
        network = disturbed(small(svd=svd, residual=residual, text=text))
        made = network.branches(X, PROMPT)
        expected = made["svd"] if svd else X
        if text != "none":
            expected = expected + 0.3 * made["text"]
        if residual:
            assert network.residual is not None
            seen = X + made["text"] if text != "none" else X
            torch.testing.assert_close(made["residual"], network.residual(seen))
            expected = expected - 0.4 * made["residual"]
        torch.testing.assert_close(made["golden"], expected)
        assert set(made) == {"golden", *(["svd"] * svd), *(["residual"] * residual), *(["text"] * (text != "none"))}


def test_the_branch_changes_singular_values_and_keeps_singular_vectors() -> None:
    """Golden noise of the SVD branch is U diag(s') Vh: it is diagonal in the source's singular vectors."""
    network = disturbed(small(text="none", residual=False))
    u, s, vh = decompose(X)
    a, c = 2, 2
    golden = network(X).reshape(3, a, c, 8, 8).permute(0, 1, 3, 2, 4).reshape(3, 16, 16)
    inside = u.transpose(1, 2) @ golden @ vh.transpose(1, 2)
    changed = torch.diagonal(inside, dim1=1, dim2=2)
    torch.testing.assert_close(inside, torch.diag_embed(changed), atol=1e-4, rtol=0)
    assert (changed - s).abs().max() > 1e-3


def test_the_matrix_tiles_channels_two_by_two() -> None:
    """Released code: "b (a c) h w -> b (a h) (c w)", a = c = 2, so channels 0 and 1 lie side by side."""
    u, s, vh = decompose(X)
    matrix = u @ torch.diag_embed(s) @ vh
    tiled = torch.cat([torch.cat([X[:, 0], X[:, 1]], 2), torch.cat([X[:, 2], X[:, 3]], 2)], 1)
    torch.testing.assert_close(matrix, tiled, atol=1e-5, rtol=0)


def test_signs_of_singular_vectors_do_not_matter_to_the_clean_layout() -> None:
    network = disturbed(small())
    u, s, vh = decompose(X)
    flip = torch.where(noise(3, 3, 16) > 0, 1.0, -1.0)
    flipped = (u * flip[:, None, :], s, vh * flip[:, :, None])
    torch.testing.assert_close(network(X, PROMPT, svd=flipped), network(X, PROMPT), atol=1e-5, rtol=0)


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


def test_text_by_cross_attention_reads_the_tokens_and_modulation_sets_eight_numbers() -> None:
    """A change of one prompt token moves e within the span of the channels' normalised noise and constants only."""
    other = PROMPT.clone()
    other[:, 3] = noise(10, 128)
    crossed = disturbed(small(text="cross_attention"))
    assert (crossed(X, other) - crossed(X, PROMPT)).abs().max() > 1e-4
    modulated = disturbed(small(residual=False))
    moved = (modulated(X, other) - modulated(X, PROMPT)).flatten(2)
    for b, channel in itertools.product(range(3), range(4)):
        basis = torch.stack([X[b, channel].flatten(), torch.ones(64)], 1)
        left = moved[b, channel] - basis @ torch.linalg.lstsq(basis, moved[b, channel, :, None]).solution[:, 0]
        assert left.abs().max() < 1e-4 < moved[b, channel].abs().max()


# What a caller relies on.


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
        for _ in range(40):
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


def test_importing_the_package_loads_no_torch() -> None:
    modules = "npnet, npnet.network.checkpoint, npnet.network.convert"
    script = f"import sys, {modules}; npnet.NPNetConfig(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
