"""Attention losses: closed forms on hand-made maps, where their gradients flow, and the published schedules."""

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
    otsu_level,
    round_scores,
    running_maps,
    self_loss,
    step_sizes,
    token_maps,
)

from .hand_maps import attention, block, flat_map, own_region

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
    # Between two values that occur every level has the same classes.
    assert within(level) == pytest.approx(min(within(t) for t in set(values)), abs=1e-6)
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
