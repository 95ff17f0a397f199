"""RePaint without a mask: the forward process, and what the methods make in closed form."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from analytic import ALPHAS_CUMPROD, Analytic, Mixture, gaussian, make, session

from bench.methods.base import Method
from bench.methods.repaint import RepaintEvery, RepaintFirst, RepaintJump
from bench.sampling import noise
from bench.sampling.session import Session

from .repainted import walk

MANY, SIDE = 125, 8
"""Images, and the side of each: 8,000 independent numbers, of few images, for each draws its noise by itself."""


def leading(steps: int) -> list[int]:
    """SDXL's timesteps: leading spacing, offset 1."""
    return [1000 // steps * k + 1 for k in reversed(range(steps))]


def coefficients(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """alpha and sigma at every place; DDIM's last step goes to timestep 1 - 1000 / N, which is timestep 0's."""
    abar = ALPHAS_CUMPROD[[*leading(steps), 0]]
    return abar**0.5, (1 - abar) ** 0.5


def shrink(steps: int, variance: float) -> np.ndarray:
    """(N,): DDIM's step i on a Gaussian takes x - a_i m to k_i (x - a_i m), k = a'/a + (s' - s a'/a) s / S."""
    a, s = coefficients(steps)
    ratio = a[1:] / a[:-1]
    found: np.ndarray = ratio + (s[1:] - s[:-1] * ratio) * s[:-1] / (a[:-1] ** 2 * variance + s[:-1] ** 2)
    return found


def batch_of(n: int, methods: object, side: int = 2, **more: object) -> Session:
    """n images of one Gaussian prompt at guidance 1."""
    mixtures = {"a": gaussian(0.5, 0.25, size=side**2), "": gaussian(0.0, 1.0, size=side**2)}
    family = Analytic(latent=(1, side, side), mixtures=mixtures)
    return session(methods, prompts=["a"] * n, seeds=range(n), guidance=1, family=family, **more)  # type: ignore[arg-type]


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")  # __array__ of numpy 2

# The forward process -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "weights"), [(50, ("0.8906", "0.4548")), (10, ("0.6190", "0.7854"))])
def test_the_weights_of_the_first_renoising_are_the_protocols(steps: int, weights: tuple[str, str]) -> None:
    """PROTOCOL 1.3: (sqrt w, sqrt(1 - w)) for w = abar_t0 / abar_t1."""
    one, none = (
        batch_of(1, (), steps=steps).renoise(x, 1, 0) for x in (torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    )
    z = torch.randn((1, 2, 2), generator=noise.generator("a", 0, "renoise"))
    assert f"{float((one - none).mean()):.4f}" == weights[0]
    assert f"{float((none / z).mean()):.4f}" == weights[1]


@pytest.mark.parametrize(("i", "j"), [(1, 0), (5, 4), (9, 2), (10, 0), (7, 7)])
def test_renoised_samples_of_one_place_are_samples_of_the_other(i: int, j: int) -> None:
    """x_i ~ N(a_i m, S_i) goes to x_j ~ N(a_j m, S_j): mean and variance within 4 standard errors."""
    s = batch_of(MANY, (), SIDE)
    (a, sigma), (to_a, to_sigma) = s.schedule.at(i), s.schedule.at(j)
    rng = torch.Generator().manual_seed(i)
    x0 = 0.5 + 0.5 * torch.randn((MANY, 1, SIDE, SIDE), generator=rng)
    up = s.renoise(a * x0 + sigma * torch.randn((MANY, 1, SIDE, SIDE), generator=rng), i, j).flatten().double()
    variance = to_a**2 * 0.25 + to_sigma**2
    assert float(up.mean()) == pytest.approx(to_a * 0.5, abs=4 * (variance / len(up)) ** 0.5)
    assert float(up.var()) == pytest.approx(variance, rel=4 * (2 / len(up)) ** 0.5)


def test_each_renoising_has_fresh_noise_and_each_pass_repeats_itself() -> None:
    s = batch_of(2, ())
    nothing = torch.zeros(2, 1, 2, 2)
    first, second = s.renoise(nothing, 1, 0), s.renoise(nothing, 1, 0)
    assert float((first - second).abs().min()) > 1e-4
    assert float((first[0] - first[1]).abs().min()) > 1e-4
    every = batch_of(2, RepaintEvery())
    x = every.draw()
    assert torch.equal(every.sample(x), every.sample(x))


def test_a_part_of_a_batch_has_the_noise_of_its_images() -> None:
    nothing = torch.zeros(3, 1, 2, 2)
    whole = batch_of(3, ()).renoise(nothing, 1, 0)
    s = batch_of(3, ())
    assert torch.equal(s.take([2]).renoise(nothing[:1], 1, 0), whole[2:])
    # The others' streams have not moved.
    assert torch.equal(s.take([0, 1]).renoise(nothing[:2], 1, 0), whole[:2])


# What the methods make -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 10, 50])
def test_repaint_first_on_a_gaussian_is_a_linear_formula(steps: int) -> None:
    """x' = sqrt(w) (a_1 m + k (x - a_0 m)) + sqrt(1 - w) z."""
    s = batch_of(2, RepaintFirst(), steps=steps)
    made = make(s)
    a, _ = coefficients(steps)
    w, k = (a[0] / a[1]) ** 2, shrink(steps, 0.25)[0]
    z = torch.stack([torch.randn((1, 2, 2), generator=noise.generator("a", i, "renoise")) for i in range(2)])
    expected = w**0.5 * (a[1] * 0.5 + k * (made.drawn - a[0] * 0.5)) + (1 - w) ** 0.5 * z
    torch.testing.assert_close(made.noise, expected.float(), rtol=0, atol=2e-5)


def moments(method: Method | None, steps: int) -> tuple[float, float]:
    """Mean and variance of the images of N(0.5, 0.25) in closed form.

    Down: the mean's error d goes to k d and the variance V to k^2 V; up: to sqrt(w) d and w V + 1 - w.
    """
    a, _ = coefficients(steps)
    k = shrink(steps, 0.25)
    if isinstance(method, RepaintJump):
        places = [steps - 1 - level for level in walk(steps, method.j, method.r)]
    else:
        places = [0, *([1, 0] if isinstance(method, RepaintFirst) else [])]
        for i in range(steps):
            places += [i + 1, i, i + 1] if isinstance(method, RepaintEvery) and i < steps - 1 else [i + 1]
    d, v = -a[0] * 0.5, 1.0
    for here, there in pairwise(places):
        if there > here:
            d, v = k[here] * d, k[here] ** 2 * v
        else:
            w = (a[there] / a[here]) ** 2
            d, v = w**0.5 * d, w * v + 1 - w
    return float(a[-1] * 0.5 + d), float(v)


METHODS = [None, RepaintFirst(), RepaintEvery(), RepaintJump(j=3, r=3)]
NAMES = ["standard", "first", "every", "jump"]


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_the_images_have_the_moments_of_the_recursion(method: Method | None, steps: int) -> None:
    """Within 4 standard errors."""
    x = make(batch_of(MANY, method or (), SIDE, steps=steps)).latents.flatten().double()
    mean, variance = moments(method, steps)
    assert float(x.mean()) == pytest.approx(mean, abs=4 * (variance / len(x)) ** 0.5)
    assert float(x.var()) == pytest.approx(variance, rel=4 * (2 / len(x)) ** 0.5)


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_the_images_keep_the_datas_distribution_up_to_the_steps_own_error(method: Method | None) -> None:
    """That error is of first order: ten times the steps leave between a fifth and a twentieth of it."""
    (_, coarse), (_, fine) = moments(method, 50), moments(method, 500)
    assert 0.05 < (fine - 0.25) / (coarse - 0.25) < 0.2
    if method is not None:
        # Noise put back on forgets that the first latent had mean 0; the steps' own error is made more often.
        assert abs(moments(method, 50)[0] - 0.5) < abs(moments(None, 50)[0] - 0.5)


def test_repaint_keeps_a_mixtures_shares() -> None:
    """Two components of weights 0.7 and 0.3 far apart: their shares among the images, within 4 standard errors."""
    two, many = Mixture((0.7, 0.3), ((1.0,) * 4, (-1.0,) * 4), (0.05, 0.05)), 2000
    s = session(
        RepaintEvery(),
        prompts=["a"] * many,
        seeds=range(many),
        guidance=1,
        steps=25,
        family=Analytic(mixtures={"a": two}),
    )
    x = make(s).latents.flatten(1).mean(1)
    assert float((x > 0).double().mean()) == pytest.approx(0.7, abs=4 * (0.7 * 0.3 / many) ** 0.5)
    assert float(x[x > 0].mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("method", [RepaintEvery(), RepaintJump(j=3, r=3)], ids=["every", "jump"])
@pytest.mark.parametrize(("one", "other", "within"), [("ddpm", "euler_a", 1e-5), ("ddim", "euler", 0.02)])
def test_samplers_that_are_one_in_other_coordinates_agree(method: Method, one: str, other: str, within: float) -> None:
    """DDPM's and Euler ancestral's step is the same; DDIM ends at timestep 0 and Euler at no noise at all."""
    a, b = (make(batch_of(4, method, sampler=sampler)).latents for sampler in (one, other))
    torch.testing.assert_close(a, b, rtol=0, atol=within)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "euler", "euler_a", "tcd", "lcm"])
def test_jumps_of_one_step_taken_twice_are_repaint_every(sampler: str) -> None:
    jump, every = (make(session(m, sampler)).latents for m in (RepaintJump(j=1, r=2), RepaintEvery()))
    assert torch.equal(jump, every)


@pytest.mark.parametrize("sampler", ["ddim", "euler_a"])
@pytest.mark.parametrize("method", [RepaintFirst(), RepaintEvery(), RepaintJump(j=4, r=2)], ids=["1", "every", "jump"])
def test_the_batch_decides_nothing(method: Method, sampler: str) -> None:
    prompts = [f"prompt {i % 3}" for i in range(8)]
    whole = make(session(method, sampler, prompts=prompts, seeds=range(8))).latents
    for i in (0, 3, 7):
        alone = make(session(method, sampler, prompts=[prompts[i]], seeds=[i])).latents
        assert torch.equal(alone[0], whole[i])
