"""The latent of a (prompt, seed) pair: the same everywhere, and like no other pair's."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.sampling import noise

SDXL = (4, 128, 128)
PAIRS = st.tuples(st.text(max_size=40), st.integers(0, 2**31 - 1))


@settings(max_examples=30, deadline=None)
@given(pairs=st.lists(PAIRS, min_size=2, max_size=6, unique=True), state=st.integers(0, 2**31))
def test_a_latent_depends_on_its_pair_alone(pairs: list[tuple[str, int]], state: int) -> None:
    """Neither the order of the draws nor torch's global generator has a say, so a batch may be cut anywhere."""
    torch.manual_seed(state)
    first = [noise.draw(*pair, (4, 8, 8)) for pair in pairs]
    again = [noise.draw(*pair, (4, 8, 8)) for pair in reversed(pairs)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({noise.digest(latent) for latent in first}) == len(pairs)


def test_drawing_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    noise.draw("a photo of a bench", 0, (4, 8, 8))
    assert torch.equal(torch.randn(3), expected)


def test_latents_are_drawn_on_the_cpu_in_fp32() -> None:
    """PROTOCOL 1.1: draws differ between devices and may differ between dtypes; one recipe is fixed."""
    latent = noise.draw("a photo of a bench", 0, SDXL)
    assert (latent.shape, latent.dtype, latent.device.type) == (SDXL, torch.float32, "cpu")
    seed = noise.stream("a photo of a bench", 0)
    by_hand = torch.randn(SDXL, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32, device="cpu")
    assert torch.equal(latent, by_hand)


def test_a_default_dtype_of_the_caller_changes_nothing() -> None:
    expected = noise.draw("a", 0, (4, 8, 8))
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(noise.draw("a", 0, (4, 8, 8)), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_seed_and_prompt_cannot_be_mistaken_for_one_another() -> None:
    """The key of a stream keeps its parts apart: ("2 cats", 1) is not ("cats", 12)."""
    streams = [noise.stream(p, s, u) for p in ("", "1", "a", "a b") for s in (0, 1, 11) for u in ("latent", "sampler")]
    assert len(set(streams)) == len(streams)
    assert noise.stream("x\0y", 1) != noise.stream("y", 1, "latent\0001\0x")
    assert all(0 <= s < 2**63 for s in streams)


def test_the_samplers_noise_is_not_the_latents() -> None:
    sampler = torch.randn((4, 8, 8), generator=noise.generator("a", 0, "sampler"))
    latent = noise.draw("a", 0, (4, 8, 8))
    assert abs(float(torch.corrcoef(torch.stack([latent.flatten(), sampler.flatten()]))[0, 1])) < 5 / math.sqrt(256)


def test_latents_have_unit_variance_and_are_independent() -> None:
    """Mean, variance and correlation of n normal draws lie within five standard errors of 0, 1 and 0."""
    latents = torch.stack([noise.draw("a photo of a bench", seed, SDXL).flatten() for seed in range(8)])
    n = latents.numel()
    assert abs(float(latents.mean())) < 5 / math.sqrt(n)
    assert abs(float(latents.double().var()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float((latents.double() ** 4).mean()) - 3) < 5 * math.sqrt(96 / n)
    correlation = torch.corrcoef(latents) - torch.eye(8)
    assert float(correlation.abs().max()) < 5 / math.sqrt(latents.shape[1])


def test_a_digest_is_of_the_fp32_bytes_in_reading_order() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = hashlib.sha256(values.tobytes()).hexdigest()[:16]
    assert noise.digest(torch.from_numpy(values)) == expected
    assert noise.digest(torch.from_numpy(values.T.copy()).T) == expected
    assert noise.digest(torch.from_numpy(values).double().requires_grad_()) == expected


def test_a_digest_tells_the_last_bit() -> None:
    latent = noise.draw("a", 0, (4, 8, 8))
    other = latent.clone()
    other[3, 7, 7] = torch.nextafter(other[3, 7, 7], torch.tensor(10.0))
    assert noise.digest(latent) != noise.digest(other)


def test_a_batch_is_its_draws_one_by_one() -> None:
    made = noise.draw_batch(["a", "b", "a"], [1, 1, 2], (4, 8, 8))
    assert made.shape == (3, 4, 8, 8)
    for row, prompt, seed in zip(made, "aba", (1, 1, 2), strict=True):
        assert torch.equal(row, noise.draw(prompt, seed, (4, 8, 8)))
    with pytest.raises(ValueError, match="longer"):
        noise.draw_batch(["a"], [1, 2], (4, 8, 8))
