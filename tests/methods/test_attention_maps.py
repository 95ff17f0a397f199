"""Maps of tokens and subjects, from attention to smoothed shares: closed forms on hand-made attention."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.methods.attention_losses import smooth, subject_maps, token_maps

from .hand_maps import TOKENS, attention, block

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
