"""The network's formulas: equal to the released code, its ablations as sums, and singular values and vectors."""

from __future__ import annotations

import itertools
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from small_npnets import disturbed, noise, small

from npnet import NPNet, NPNetConfig
from npnet.network.model import decompose

PARITY = next((one for up in Path(__file__).parents if (one := up / "shared" / "parity").is_dir()), Path("none"))
"""Reference vectors, where they lie beside this checkout."""

PUBLISHED_NAME = {"svd": "unet_svd", "residual": "unet_embedding", "text": "embeeding"}

BRANCHES = ("text", "svd", "residual", "golden")  # the order of `stats` in the reference files

X, PROMPT = noise(1, 3, 4, 8, 8), noise(2, 3, 24, 128)


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
    with torch.device("meta"):  # shapes without numbers
        sdxl, dit = NPNet(NPNetConfig.sdxl()), NPNet(NPNetConfig.dit(residual=False))
    assert sdxl.svd is not None
    assert sdxl.text is not None
    assert sdxl.residual is not None
    assert sum(p.numel() for p in sdxl.svd.parameters()) == 920_448
    assert sum(p.numel() for p in sdxl.text.parameters()) == 8 * 157_696 + 8
    assert sum(p.numel() for p in sdxl.parameters()) == pytest.approx(30.47e6, rel=1e-3)
    assert dit.text is not None
    assert sum(p.numel() for p in dit.text.parameters()) == 8 * 78_848 + 8


def test_the_text_layer_is_diffusers_ada_group_norm() -> None:
    normalization = pytest.importorskip("diffusers.models.normalization")
    network = disturbed(small())
    theirs = normalization.AdaGroupNorm(24 * 128, 4, 1, eps=1e-6)
    assert network.text is not None
    theirs.load_state_dict(network.text.state_dict())
    torch.testing.assert_close(network.text(X, PROMPT), theirs(X, PROMPT.flatten(1)))


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


def test_importing_the_package_loads_no_torch() -> None:
    modules = "npnet, npnet.network.checkpoint, npnet.network.convert"
    script = f"import sys, {modules}; npnet.NPNetConfig(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
