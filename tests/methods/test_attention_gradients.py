"""All attention losses: gradients against finite differences, images kept apart, ranges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.methods.attention_losses import (
    alignment_loss,
    clean_loss,
    cross_loss,
    noise_losses,
    refinement_losses,
    running_maps,
    self_loss,
    subject_maps,
    token_maps,
)

from .hand_maps import attention


def all_losses(cross: torch.Tensor, rows: torch.Tensor, tokens: list[list[int | list[int]]]) -> dict[str, torch.Tensor]:
    maps = token_maps(cross)
    subjects = subject_maps(maps, tokens)
    averaged = subject_maps(running_maps(torch.full_like(maps, 0.2), maps), tokens)
    return {
        "cross": cross_loss(subjects),
        "self": self_loss(subjects, rows),
        "clean": clean_loss(subjects),
        "alignment": alignment_loss(subjects, averaged),
        "noise": noise_losses(subjects, rows).joint,
        "refinement": refinement_losses(subjects, rows, averaged).joint,
    }


NAMES = ["cross", "self", "clean", "alignment", "noise", "refinement"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_agree_with_finite_differences(name, seed):
    cross, rows = attention(seed, images=2)
    tokens = [[1, 3, 4], [[2, 3], 5]]

    def loss(cross: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        # The running mean is kept fixed: it has no gradient, and finite differences would give it one.
        if name == "alignment":
            maps = token_maps(cross)
            mean = subject_maps(running_maps(None, token_maps(attention(seed + 9)[0])), tokens)
            return alignment_loss(subject_maps(maps, tokens), mean) + 0 * rows.sum()
        if name == "refinement":
            maps = token_maps(cross)
            mean = subject_maps(running_maps(None, token_maps(attention(seed + 9)[0])), tokens)
            return refinement_losses(subject_maps(maps, tokens), rows, mean).joint
        return all_losses(cross, rows, tokens)[name] + 0 * (rows.sum() + cross.sum())

    assert torch.autograd.gradcheck(
        loss, (cross.requires_grad_(), rows.requires_grad_()), eps=1e-7, atol=1e-4, fast_mode=True
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_the_loss_and_the_gradient_that_it_has_alone(name):
    tokens: list[list[int | list[int]]] = [[1, 3, 4], [2], [[2, 3], 5]]
    cross, rows = attention(3, images=3, sharpness=2)
    cross.requires_grad_()
    rows.requires_grad_()
    together = all_losses(cross, rows, tokens)[name]
    gradients = torch.autograd.grad(together.sum(), [cross, rows], allow_unused=True, materialize_grads=True)
    for i in range(3):
        alone = all_losses(cross[i : i + 1], rows[i : i + 1], tokens[i : i + 1])[name]
        assert torch.equal(alone, together[i : i + 1])
        own = torch.autograd.grad(alone.sum(), [cross, rows], allow_unused=True, materialize_grads=True)
        for a, b in zip(own, gradients, strict=True):
            assert torch.equal(a[i], b[i])
            assert not a[:i].any()
            assert not a[i + 1 :].any()


@given(st.integers(0, 10_000), st.floats(0.1, 20), st.booleans())
@settings(max_examples=40, deadline=None)
def test_losses_stay_in_their_ranges(seed, sharpness, as_released):
    cross, rows = attention(seed, sharpness=sharpness)
    maps = token_maps(cross)
    assert torch.allclose(maps.sum(-1), torch.ones((), dtype=torch.float64))
    tokens = [[1, 2, 3], [[4, 5], 2]]
    subjects = subject_maps(maps, tokens, as_released=as_released)
    averaged = subject_maps(running_maps(torch.full_like(maps, 0.2), maps), tokens, as_released=as_released)
    noise = noise_losses(subjects, rows, as_released=as_released)
    refinement = refinement_losses(subjects, rows, averaged, as_released=as_released)
    counts = torch.tensor([len(t) for t in tokens])
    for losses in (noise, refinement):
        assert ((losses.cross >= 0) & (losses.cross <= 1)).all()
        assert ((losses.conflict >= 0) & (losses.conflict <= 0.5)).all()
        assert ((losses.clean >= 0) & (losses.clean <= counts)).all()
    assert torch.allclose(noise.joint, noise.cross + noise.conflict + noise.clean)
    bare = noise_losses(subjects, rows, clean=False, as_released=as_released)
    assert torch.allclose(bare.joint, bare.cross + bare.conflict)
    assert (refinement.joint >= refinement.cross + refinement.conflict).all()
