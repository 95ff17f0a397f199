"""Re-denoise sampling: PROTOCOL 1.2's coefficients, theorem E.1, and diffusers' own schedulers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from analytic import Analytic, session
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UserError
from bench.methods.inversion import Inversion, InversionAsReleased, coefficients
from bench.sampling.schedule import move
from bench.sampling.session import Session

ALPHAS_CUMPROD = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
"""SDXL's: scaled_linear betas from 0.00085 to 0.012 (PROTOCOL 0)."""

Prediction = Callable[[torch.Tensor, float], torch.Tensor]


def leading(steps: int) -> list[int]:
    """SDXL's timesteps: leading spacing, offset 1."""
    return [1000 // steps * k + 1 for k in reversed(range(steps))]


class Given(Analytic):
    """A model that says what it is given: `u` unconditionally, `c` for every prompt; a half not given is refused."""

    def __init__(self, u: Prediction | None, c: Prediction | None):
        super().__init__(latent=(4, 8, 8))
        self.halves = (u, c)

    def encode(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        return {"conditional": torch.ones(len(prompts), dtype=torch.bool)}

    def encode_negative(self, prompt: str) -> dict[str, torch.Tensor]:
        return {"conditional": torch.zeros(1, dtype=torch.bool)}

    def network(self, x: torch.Tensor, t: Any, embeds: dict[str, torch.Tensor]) -> torch.Tensor:
        self.denoiser(x, t, torch.zeros(len(x), 1, 258))  # counted; what it says is not used
        found = torch.empty_like(x)
        for rows, half in zip((~embeds["conditional"], embeds["conditional"]), self.halves, strict=True):
            if rows.any():
                assert half is not None, "no prediction was expected"
                found[rows] = half(x[rows], float(t)).to(x.dtype)
        return found


def denoiser(
    steps: int,
    *,
    u: Prediction | None = None,
    c: Prediction | None = None,
    guidance: float = 5.5,
    timesteps: list[float] | None = None,
) -> Session:
    s = session((), steps=steps, guidance=guidance, prompts=["a bench"] * 2, family=Given(u, c))
    if timesteps is not None:
        s.schedule.timesteps = timesteps
    return s


def batch(seed: int = 0, n: int = 2) -> torch.Tensor:
    return torch.randn((n, 4, 8, 8), generator=torch.Generator().manual_seed(seed))


def constant(seed: int) -> Prediction:
    """A prediction that does not depend on the latent."""
    value = torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(seed))
    return lambda x, t: value.expand_as(x)


def tanh(scale: float) -> Prediction:
    """A prediction that depends on the latent and on the timestep."""
    return lambda x, t: torch.tanh(scale * x + t / 1000)


@pytest.mark.parametrize(("steps", "first"), [(10, [901, 801]), (20, [951, 901]), (50, [981, 961])])
def test_the_first_two_timesteps(steps: int, first: list[int]) -> None:
    """PROTOCOL 0, and diffusers' DDIM says the same: neither is 999."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(steps)
    assert leading(steps)[:2] == first
    assert scheduler.timesteps.tolist() == leading(steps)


def test_the_denoisers_alpha_and_sigma_are_sdxls() -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    d = denoiser(10)
    for t in (0, 1, 701, 999):
        assert d.schedule.alpha(t) ** 2 == pytest.approx(float(scheduler.alphas_cumprod[t]), rel=1e-4)
        assert d.schedule.alpha(t) ** 2 + d.schedule.sigma(t) ** 2 == pytest.approx(1, abs=1e-9)
    with pytest.raises(ValueError, match="timestep 1000 is outside"):
        d.schedule.alpha(1000)


@pytest.mark.parametrize(
    ("steps", "as_released", "printed"),
    [
        (10, False, ("1.0000", "-0.3854", "0.3854")),
        (10, True, ("1.0790", "-0.4158", "0.3416")),
        (50, False, ("1.0000", "-0.1098", "0.1098")),
        (50, True, ("1.0035", "-0.1101", "0.1068")),
    ],
)
def test_the_protocols_table_of_coefficients(steps: int, as_released: bool, printed: tuple[str, ...]) -> None:
    """x' = A x_T + B e1 + C e2, PROTOCOL 1.2, to the digits printed there."""
    assert tuple(f"{v:.4f}" for v in coefficients(denoiser(steps).schedule, as_released=as_released)) == printed


@given(st.integers(0, 999), st.integers(0, 999))
def test_a_ddim_move_and_its_reverse_cancel(p: int, q: int) -> None:
    """x_q = (a_q / a_p) x_p + (s_q - s_p a_q / a_p) e, and back with the same e."""
    d = denoiser(10)
    there = move(d.schedule.alpha(p), d.schedule.sigma(p), d.schedule.alpha(q), d.schedule.sigma(q))
    back = move(d.schedule.alpha(q), d.schedule.sigma(q), d.schedule.alpha(p), d.schedule.sigma(p))
    assert there[0] * back[0] == pytest.approx(1)
    assert back[0] * there[1] + back[1] == pytest.approx(0, abs=1e-9)


@given(st.integers(0, 999), st.integers(0, 999), st.floats(-3, 3), st.floats(-3, 3))
def test_a_ddim_move_with_the_true_noise_lands_on_the_same_image(p: int, q: int, x0: float, e: float) -> None:
    d = denoiser(10)
    of_x, of_e = move(d.schedule.alpha(p), d.schedule.sigma(p), d.schedule.alpha(q), d.schedule.sigma(q))
    landed = of_x * (d.schedule.alpha(p) * x0 + d.schedule.sigma(p) * e) + of_e * e
    assert landed == pytest.approx(d.schedule.alpha(q) * x0 + d.schedule.sigma(q) * e, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(steps=st.integers(2, 100), g_low=st.floats(0, 10), g_high=st.floats(0, 15), seed=st.integers(0, 2**31))
def test_theorem_e1(steps: int, g_low: float, g_high: float, seed: int) -> None:
    """x'_T - x_T = [(a_T s_{T-k} - a_{T-k} s_T) / a_{T-k}] (g_l - g_w) (c - u), exactly so where x plays no part."""
    u, c = constant(seed), constant(seed + 1)
    x = batch(seed)
    made = Inversion(guidance=g_high, inversion_guidance=g_low).noise(denoiser(steps, u=u, c=c), x)
    abar, (t0, t1) = ALPHAS_CUMPROD, leading(steps)[:2]
    a_T, s_T, a_k, s_k = abar[t0] ** 0.5, (1 - abar[t0]) ** 0.5, abar[t1] ** 0.5, (1 - abar[t1]) ** 0.5
    bracket = (a_T * s_k - a_k * s_T) / a_k
    assert bracket < 0
    difference = c(x, 0) - u(x, 0)
    torch.testing.assert_close(
        made - x, bracket * (g_high - g_low) * difference, rtol=1e-4, atol=2e-5 * (1 + g_high + g_low)
    )


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("guidance", [1.0, 5.5])
def test_equal_guidance_and_equal_predictions_leave_the_latent_as_it_was(steps: int, guidance: float) -> None:
    x = batch()
    d = denoiser(steps, u=constant(1), c=constant(2))
    made = Inversion(guidance=guidance, inversion_guidance=guidance).noise(d, x)
    torch.testing.assert_close(made, x, rtol=0, atol=2e-5)
    # The released code's move starts elsewhere, so it does not.
    released = InversionAsReleased(guidance=guidance, inversion_guidance=guidance).noise(d, x)
    assert float((released - x).abs().mean()) > 1e-3


def test_both_predictions_are_made_at_the_first_timestep() -> None:
    """PROTOCOL 1.2, step 2: the network is queried at t0, not at t1, and the second time at y."""
    asked: list[tuple[torch.Tensor, float]] = []

    def watched(x: torch.Tensor, t: float) -> torch.Tensor:
        asked.append((x, t))
        return constant(1)(x, t)

    x = batch()
    d = denoiser(10, u=constant(1), c=watched)
    Inversion().noise(d, x)
    assert [t for _, t in asked] == [901, 901]
    of_x, of_e = move(d.schedule.alpha(901), d.schedule.sigma(901), d.schedule.alpha(801), d.schedule.sigma(801))
    assert torch.equal(asked[0][0], x)
    torch.testing.assert_close(asked[1][0], of_x * x + of_e * constant(1)(x, 901))


@pytest.mark.parametrize("method", [Inversion(), InversionAsReleased(), Inversion(inversion_guidance=0.0)])
def test_it_costs_two_calls_whatever_the_steps(method: Inversion) -> None:
    """PROTOCOL 1.2: +2 G; guidance doubles the batch, not the calls."""
    for steps in (10, 50):
        d = denoiser(steps, u=tanh(0.3), c=tanh(0.5))
        method.noise(d, batch())
        assert d.cost.nfe(0).forwards == 2 == method.noise_nfe(d.sampling).forwards
        assert d.cost.nfe(0) == method.noise_nfe(d.sampling)


def test_the_sampling_guidance_is_used_down_and_the_pure_conditional_prediction_up() -> None:
    x = batch()
    by_default = Inversion().noise(denoiser(10, u=tanh(0.3), c=tanh(0.5), guidance=7.0), x)
    said = Inversion(guidance=7.0, inversion_guidance=1.0).noise(denoiser(10, u=tanh(0.3), c=tanh(0.5), guidance=2), x)
    torch.testing.assert_close(by_default, said)
    u, c = tanh(0.3), tanh(0.5)
    a, b, of_e2 = coefficients(denoiser(10).schedule)
    e1 = u(x, 901) + 7 * (c(x, 901) - u(x, 901))
    of_x, of_e = move(*(f(t) for t in (901, 801) for f in (denoiser(10).schedule.alpha, denoiser(10).schedule.sigma)))
    e2 = c(of_x * x + of_e * e1, 901)
    torch.testing.assert_close(by_default, a * x + b * e1 + of_e2 * e2)


def test_guidance_one_asks_for_the_conditional_half_only() -> None:
    """u + 1 (c - u) = c, so the unconditional prediction is not paid for."""
    d = denoiser(10, c=tanh(0.5))
    x = batch()
    assert torch.equal(d.predict(x, 901, 1.0).eps, tanh(0.5)(x, 901))
    guided = denoiser(10, u=tanh(0.3), c=tanh(0.5))
    torch.testing.assert_close(guided.predict(x, 901, 1.0 + 1e-9).eps, d.predict(x, 901, 1.0).eps, atol=1e-6, rtol=0)
    assert torch.equal(guided.predict(x, 901, 0.0).eps, tanh(0.3)(x, 901))


def sdxl_scheduler(name: str) -> Any:
    import diffusers

    return getattr(diffusers, name)(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="leading",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )


@pytest.mark.parametrize("steps", [2, 10, 20, 50])
def test_the_move_down_is_diffusers_ddim_step(steps: int) -> None:
    scheduler = sdxl_scheduler("DDIMScheduler")
    scheduler.set_timesteps(steps)
    d = denoiser(steps)
    t0, t1 = scheduler.timesteps[:2].tolist()
    x, e = batch(1), batch(2)
    of_x, of_e = move(d.schedule.alpha(t0), d.schedule.sigma(t0), d.schedule.alpha(t1), d.schedule.sigma(t1))
    torch.testing.assert_close(of_x * x + of_e * e, scheduler.step(e, t0, x).prev_sample, rtol=0, atol=1e-6 * 50)
    # In the scale of the latent the agreement is at the level of the scheduler's fp32 table.
    error = of_x * x + of_e * e - scheduler.step(e, t0, x).prev_sample
    assert float(error.abs().max() / x.abs().max()) < 1e-5


@pytest.mark.parametrize("steps", [2, 10, 20, 50])
def test_as_released_is_diffusers_inverse_step_with_the_second_timestep(steps: int) -> None:
    """`inv_scheduler.step(e2, timesteps[1], y)` of the released code, on the real DDIMInverseScheduler."""
    down, up = sdxl_scheduler("DDIMScheduler"), sdxl_scheduler("DDIMInverseScheduler")
    down.set_timesteps(steps)
    up.set_timesteps(steps)
    u, c, g = tanh(0.3), tanh(0.5), 5.5
    x = batch()
    t0, t1 = down.timesteps[:2].tolist()
    e1 = u(x, t0) + g * (c(x, t0) - u(x, t0))
    y = down.step(e1, t0, x).prev_sample
    expected = up.step(c(y, t0), t1, y).prev_sample
    made = InversionAsReleased().noise(denoiser(steps, u=u, c=c, guidance=g), batch())
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


def test_the_proper_move_is_diffusers_inverse_step_with_the_destination() -> None:
    """Since pull request 5145 the timestep of the inverse step is where it goes: with t0 it is the intended move."""
    down, up = sdxl_scheduler("DDIMScheduler"), sdxl_scheduler("DDIMInverseScheduler")
    down.set_timesteps(10)
    up.set_timesteps(10)
    x, e1, e2 = batch(1), batch(2), batch(3)
    expected = up.step(e2, 901, down.step(e1, 901, x).prev_sample).prev_sample
    a, b, c = coefficients(denoiser(10).schedule)
    torch.testing.assert_close(a * x + b * e1 + c * e2, expected, rtol=0, atol=1e-5)


@settings(max_examples=30)
@given(st.floats(801.0, 999.0), st.floats(500.0, 800.0))
def test_fractional_timesteps_cancel_as_whole_ones_do(t0: float, t1: float) -> None:
    """KDPM2's second timestep lies between two of the model's; the moves down and up must then agree on it."""
    d = denoiser(10, timesteps=[t0, t1])
    a, b, c = coefficients(d.schedule)
    assert a == pytest.approx(1)
    assert b + c == pytest.approx(0, abs=1e-9)
    x = batch()
    made = Inversion(inversion_guidance=5.5).noise(denoiser(10, u=constant(1), c=constant(2), timesteps=[t0, t1]), x)
    torch.testing.assert_close(made, x, rtol=0, atol=3e-5)
    down_x, down_e = move(d.schedule.alpha(t0), d.schedule.sigma(t0), d.schedule.alpha(t1), d.schedule.sigma(t1))
    up_x = d.schedule.alpha(t0) / d.schedule.alpha(t1)
    assert (up_x * down_x, up_x * down_e) == pytest.approx((a, b))


def test_one_step_leaves_nothing_to_go_down_to() -> None:
    with pytest.raises(UserError, match="two"):
        Inversion().noise(denoiser(1, u=tanh(0.3), c=tanh(0.5)), batch())
