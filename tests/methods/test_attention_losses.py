"""Attention losses: closed forms on hand-made maps, gradients against finite differences, images kept apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.methods.attention_losses import (
    THRESHOLDS,
    alignment_loss,
    clean_loss,
    cross_loss,
    kl_loss,
    noise_losses,
    otsu_level,
    refinement_losses,
    round_scores,
    running_maps,
    self_loss,
    smooth,
    step_sizes,
    subject_maps,
    token_maps,
)

SIDE, TOKENS = 6, 7


def attention(seed: int = 0, *, images: int = 2, sharpness: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random cross- and self-attention, (B, 36, 7) and (B, 36, 36), in double precision."""
    generator = torch.Generator().manual_seed(seed)
    kind = {"generator": generator, "dtype": torch.float64}
    cross = (sharpness * torch.randn((images, SIDE**2, TOKENS), **kind)).softmax(-1)
    return cross, (sharpness * torch.randn((images, SIDE**2, SIDE**2), **kind)).softmax(-1)


def flat_map(value: float = 0.0, side: int = 8) -> torch.Tensor:
    return torch.full((side, side), value, dtype=torch.float64)


def block(row: int, column: int, value: float = 1.0, size: int = 3, side: int = 8) -> torch.Tensor:
    """A square of `value` on nothing."""
    image = flat_map(side=side)
    image[row : row + size, column : column + size] = value
    return image


def own_region(side: int = 8) -> torch.Tensor:
    """Self-attention in which every pixel sees itself alone, (1, h*w, h*w)."""
    return torch.eye(side**2, dtype=torch.float64)[None]


# Token maps


def test_equal_attention_is_shared_by_all_tokens_but_the_first_and_the_last():
    maps = token_maps(torch.full((1, 9, 6), 1 / 6))
    assert maps.shape == (1, 3, 3, 4)
    assert torch.allclose(maps, torch.tensor(0.25))


def test_the_softmax_is_over_a_hundred_times_the_attention():
    probs = torch.tensor([[[0.5, 0.10, 0.11, 0.29]]])
    expected = 1 / (1 + math.exp(100 * -0.01))
    assert token_maps(probs)[0, 0, 0].tolist() == pytest.approx([1 - expected, expected], rel=1e-5)


def test_pixels_keep_their_rows_and_columns():
    probs = torch.zeros(1, 6, 4)
    probs[0, 1 * 3 + 2, 2] = 1
    maps = token_maps(probs, size=(2, 3))
    assert maps.shape == (1, 2, 3, 2)
    assert maps[0, 1, 2].tolist() == pytest.approx([0, 1])


def test_tokens_from_the_end_of_the_text_on_take_no_part():
    probs, _ = attention()
    maps = token_maps(probs, ends=[3, TOKENS - 1])
    assert torch.allclose(maps[0], torch.nn.functional.pad(token_maps(probs[:1, :, :4])[0], (0, 3)))
    assert torch.equal(maps[1], token_maps(probs)[1])


def test_half_precision_is_raised_to_single():
    probs, _ = attention()
    for kind in (torch.float16, torch.bfloat16, torch.float32):
        assert token_maps(probs.to(kind)).dtype == torch.float32
    assert token_maps(probs).dtype == torch.float64


@pytest.mark.parametrize(
    ("probs", "options", "message"),
    [
        ((1, 8, 5), {}, r"8 pixels of attention are not a square; give the map's size"),
        ((1, 8, 5), {"size": (3, 3)}, r"8 pixels of attention are not 3x3"),
        ((1, 9, 2), {}, r"attention over 2 tokens holds none between"),
        ((2, 9, 5), {"ends": [3]}, r"1 ends of text for 2 images"),
        ((1, 9, 5), {"ends": [1]}, r"end of text at position 1; expected 2 to 4"),
        ((1, 9, 5), {"ends": [5]}, r"end of text at position 5; expected 2 to 4"),
    ],
)
def test_attention_that_makes_no_maps_is_refused(probs, options, message):
    with pytest.raises(ValueError, match=message):
        token_maps(torch.ones(probs), **options)


# Smoothing


@pytest.mark.parametrize(("as_released", "sigma"), [(False, 0.5), (True, 0.5 * math.sqrt(2))])
def test_a_lone_pixel_becomes_the_gaussian(as_released, sigma):
    line = [math.exp(-(d**2) / (2 * sigma**2)) for d in (-1, 0, 1)]
    kernel = torch.tensor([[a * b for a in line] for b in line], dtype=torch.float64) / sum(line) ** 2
    smoothed = smooth(block(3, 3, size=1), as_released=as_released)
    assert torch.allclose(smoothed[2:5, 2:5], kernel)
    assert smoothed.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(("as_released", "centre"), [(False, 0.6193), (True, 0.3319)])
def test_how_much_of_a_lone_pixel_stays(as_released, centre):
    assert smooth(block(3, 3, size=1), as_released=as_released)[3, 3].item() == pytest.approx(centre, abs=1e-4)


def test_edges_are_reflected_without_repeating_them():
    row = torch.tensor([1.0, 0.0, 4.0])
    side = math.exp(-2)
    expected = (1 * row[0] + 2 * side * row[1]) / (1 + 2 * side)
    assert smooth(row.expand(3, 3))[:, 0].tolist() == pytest.approx([expected.item()] * 3)


@given(st.integers(0, 1000), st.booleans())
@settings(max_examples=20, deadline=None)
def test_smoothing_stays_within_the_map_and_leaves_a_constant_alone(seed, as_released):
    maps = torch.rand((2, 3, 5, 4), generator=torch.Generator().manual_seed(seed))
    smoothed = smooth(maps, as_released=as_released)
    assert smoothed.shape == maps.shape
    assert smoothed.min() >= maps.amin() - 1e-6
    assert smoothed.max() <= maps.amax() + 1e-6
    assert torch.allclose(smooth(torch.full((4, 4), 0.3), as_released=as_released), torch.tensor(0.3))


# Subjects' maps


def test_a_subject_is_the_map_of_its_token_counted_with_the_start_token():
    maps = token_maps(attention()[0])
    first, second = subject_maps(maps, [[1], [5, 2]])
    assert torch.allclose(first, smooth(maps[0, :, :, 0])[None])
    assert torch.allclose(second, smooth(torch.stack([maps[1, :, :, 4], maps[1, :, :, 1]])))


def test_a_word_of_several_tokens_has_the_sum_of_their_shares():
    maps = token_maps(attention(images=1)[0])
    (whole,) = subject_maps(maps, [[[2, 3], 5]])
    (parts,) = subject_maps(maps, [[2, 3, 5]])
    assert torch.allclose(whole, torch.stack([parts[0] + parts[1], parts[2]]))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[1]], "subject tokens of 1 images for the maps of 2"),
        ([[1], []], "an image without subject tokens"),
        ([[1], [0]], r"subject token at \[0\]; expected positions from 1 to 5"),
        ([[1], [[4, 6]]], r"subject token at \[4, 6\]; expected positions from 1 to 5"),
        ([[1], [[]]], r"subject token at \[\]"),
    ],
)
def test_tokens_that_have_no_map_are_refused(tokens, message):
    with pytest.raises(ValueError, match=message):
        subject_maps(token_maps(attention()[0]), tokens)


# Cross loss


def test_the_cross_loss_is_that_of_the_most_neglected_subject():
    images = [torch.stack([block(1, 1, 0.9), block(4, 4, 0.3)]), block(0, 0, 1.0)[None], flat_map()[None]]
    assert cross_loss(images).tolist() == pytest.approx([0.7, 0.0, 1.0])


def test_only_the_neglected_subjects_peak_has_a_gradient():
    maps = torch.stack([block(1, 1, 0.9), block(4, 4, 0.3, size=1)]).requires_grad_()
    cross_loss([maps]).sum().backward()
    assert maps.grad is not None
    assert torch.equal(maps.grad[0], flat_map())
    assert torch.equal(maps.grad[1], -block(4, 4, size=1))


# Self loss


def test_disjoint_regions_have_no_conflict_and_identical_ones_a_half():
    apart = torch.stack([block(0, 0, size=1), block(7, 7, size=1)])
    same = torch.stack([block(3, 3, size=1), block(3, 3, 0.5, size=1)])
    assert self_loss([apart], own_region()).tolist() == [0]
    assert self_loss([same], own_region()).tolist() == pytest.approx([0.5], abs=1e-6)


def test_neighbouring_pixels_share_what_the_gaussian_shares():
    line = torch.tensor([math.exp(-2), 1, math.exp(-2), 0], dtype=torch.float64) / (1 + 2 * math.exp(-2))
    shared = torch.minimum(line, line.flip(0)).sum().item()
    maps = torch.stack([block(3, 3, size=1), block(3, 4, size=1)])
    assert self_loss([maps], own_region()).item() == pytest.approx(shared / 2, abs=1e-6)


def test_the_conflict_is_the_mean_over_pairs():
    maps = torch.stack([block(0, 0, size=1), block(0, 0, size=1), block(7, 7, size=1)])
    assert self_loss([maps], own_region()).item() == pytest.approx(0.5 / 3, abs=1e-6)


def test_a_lone_subject_has_no_conflict_and_still_a_graph():
    rows = own_region().requires_grad_()
    loss = self_loss([block(0, 0)[None]], rows)
    loss.sum().backward()
    assert loss.tolist() == [0]
    assert rows.grad is not None
    assert not rows.grad.any()


def test_the_conflict_counts_where_the_cross_loss_is_at_most_a_half():
    maps = torch.stack([block(3, 3, size=1)] * 2)
    rows = own_region().expand(3, -1, -1).clone().requires_grad_()
    loss = self_loss([maps] * 3, rows, cross=torch.tensor([0.4, 0.5, 0.51]))
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0.5, 0.5, 0], abs=1e-6)
    assert rows.grad is not None
    assert not rows.grad[2].any()


# Clean loss


def test_attention_in_one_place_is_clean():
    assert clean_loss([block(2, 2, 0.8)[None], flat_map(0.2)[None], flat_map()[None]]).tolist() == [0, 0, 0]


def test_a_second_region_above_the_peaks_own_edge_counts_by_its_maximum():
    image = block(0, 0, 0.9) + block(5, 5, 0.7)
    image[0, 0] = 0.6
    assert clean_loss([image[None]]).tolist() == pytest.approx([0.7])


def test_a_second_region_below_the_first_ones_minimum_does_not_count():
    image = block(0, 0, 0.9) + block(5, 5, 0.7)
    assert clean_loss([image[None]]).tolist() == [0]


def test_as_released_the_thresholds_own_level_belongs_to_the_region():
    image = block(0, 0, 0.9) + block(5, 5, 0.7)
    image[0, 0] = 0.6
    background = image == 0
    assert clean_loss([image[None]], as_released=True).tolist() == [0]  # the level is 0, so all is one region
    image[background] = 0.1
    assert clean_loss([image[None]], as_released=True).tolist() == [0]  # so it is wherever no value lies between
    image[7, 7] = 0.2
    assert clean_loss([image[None]], as_released=True).tolist() == pytest.approx([0.7])


def test_regions_that_touch_at_a_corner_are_two():
    image = block(0, 0, 0.9) + block(3, 3, 0.7)
    image[0, 0] = 0.6
    assert clean_loss([image[None]]).tolist() == pytest.approx([0.7])
    image[3, 2] = 0.8
    assert clean_loss([image[None]]).tolist() == [0]


def test_subjects_are_summed_and_only_the_maximum_outside_has_a_gradient():
    image = block(0, 0, 0.9) + block(5, 5, 0.7)
    image[0, 0], image[6, 6] = 0.6, 0.75
    maps = torch.stack([image, image, block(2, 2)]).requires_grad_()
    loss = clean_loss([maps])
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([1.5])
    assert maps.grad is not None
    assert torch.equal(maps.grad, torch.stack([block(6, 6, size=1), block(6, 6, size=1), flat_map()]))


@given(st.lists(st.integers(0, 255), min_size=1, max_size=60))
@settings(deadline=None)
def test_otsus_level_leaves_the_least_variance_within_its_classes(values):
    levels = np.array(values)

    def within(t: int) -> float:
        low, high = levels[levels <= t], levels[levels > t]
        return sum(((part - part.mean()) ** 2).sum() for part in (low, high) if len(part))

    level = otsu_level(levels)
    assert within(level) == pytest.approx(min(within(t) for t in range(256)), abs=1e-6)
    if len(set(values)) > 1:
        assert level in values  # the lowest of equal levels is one that occurs


# Alignment, KL, schedules


def test_the_running_mean_takes_a_tenth_of_the_new_maps_and_no_gradient():
    maps = token_maps(attention()[0]).requires_grad_()
    first = running_maps(None, maps)
    assert torch.equal(first, maps)
    assert not first.requires_grad
    assert torch.allclose(running_maps(first, torch.zeros_like(maps)), 0.9 * maps.detach())


def test_alignment_is_the_mean_difference_summed_over_subjects():
    now, mean = torch.stack([flat_map(0.5), flat_map(0.25)]), torch.stack([flat_map(0.25), flat_map(0.75)])
    assert alignment_loss([now, now], [mean, now]).tolist() == pytest.approx([0.75, 0])


def test_kl_is_that_of_normal_distributions():
    mu, log_var = torch.randn(3, 4, 2, 2, dtype=torch.float64), torch.randn(3, 4, 2, 2, dtype=torch.float64)
    normal = torch.distributions.Normal
    known = torch.distributions.kl_divergence(normal(mu, (log_var / 2).exp()), normal(0.0, 1.0))
    assert torch.allclose(kl_loss(mu, log_var), known.flatten(1).mean(1))
    assert kl_loss(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)).tolist() == [0]


def test_steps_shrink_as_published():
    sizes = step_sizes(50)
    assert np.allclose(sizes, 20 * np.sqrt(np.linspace(1, 0.5, 50)))
    assert (step_sizes(1), step_sizes(0)) == ([20], [])
    assert THRESHOLDS == {0: 0.05, 10: 0.5, 20: 0.8}


def test_rounds_without_a_conflict_term_rank_behind():
    scores = round_scores(torch.tensor([0.3, 0.3, 0.6]), torch.tensor([0.2, 0.0, 1e-6]))
    assert scores.tolist() == pytest.approx([0.5, 1.3, 1.6], abs=1e-5)


# All of them


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
