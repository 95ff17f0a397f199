"""Re-denoise sampling, "inversion": one guided DDIM step down, one step back up at weak guidance.

Golden Noise (Zhou et al. 2024, 2411.09502), eq. 2 and 3 with T_max = 1. The move up has a closed form and never
depends on a scheduler's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.errors import UserError
from bench.methods.base import Batch, Method
from bench.registry import register

if TYPE_CHECKING:
    import torch

    from bench.models.base import Denoiser


def move(alpha_from: float, sigma_from: float, alpha_to: float, sigma_to: float) -> tuple[float, float]:
    """DDIM move as coefficients (of x, of the noise prediction): x_to = c_x x_from + c_e e."""
    ratio = alpha_to / alpha_from
    return ratio, sigma_to - sigma_from * ratio


def first_two(denoiser: Denoiser) -> tuple[float, float]:
    """The timesteps between which the method moves; UserError where the sampler takes a single one."""
    if len(denoiser.timesteps) < 2:
        raise UserError("inversion moves between a sampler's first two timesteps; it needs at least two steps, got one")
    return denoiser.timesteps[0], denoiser.timesteps[1]


def coefficients(denoiser: Denoiser, *, as_released: bool = False) -> tuple[float, float, float]:
    """A, B, C of x' = A x_T + B e1 + C e2 over the sampler's first two timesteps.

    `as_released`: diffusers' `DDIMInverseScheduler.step(e, t, x)` takes t as the destination since pull request
    5145 (2023), so the released code moves up from t1 - stride to t1 instead of from t1 to t0. A source before
    the first timestep is timestep 0, as diffusers has it with `set_alpha_to_one=False`.
    """
    t0, t1 = first_two(denoiser)
    down_x, down_e = move(denoiser.alpha(t0), denoiser.sigma(t0), denoiser.alpha(t1), denoiser.sigma(t1))
    source, target = (max(t1 - (t0 - t1), 0), t1) if as_released else (t1, t0)
    up_x, up_e = move(denoiser.alpha(source), denoiser.sigma(source), denoiser.alpha(target), denoiser.sigma(target))
    return up_x * down_x, up_x * down_e, up_e


@register("methods", "inversion")
class Inversion(Method):
    """Both predictions are made at t0 (eq. 2); the second is the pure conditional one at guidance 1."""

    about: ClassVar[str] = "re-denoise sampling in closed form, T_max = 1 (2411.09502, eq. 2)"
    as_released: ClassVar[bool] = False

    guidance: float | None = Field(None, ge=0, le=100)
    """Guidance of the step down; None takes the sampling guidance."""
    inversion_guidance: float = Field(1.0, ge=0, le=100)

    def noise(self, batch: Batch, denoiser: Denoiser) -> torch.Tensor:
        t0, t1 = first_two(denoiser)
        a, b, c = coefficients(denoiser, as_released=self.as_released)
        down_x, down_e = move(denoiser.alpha(t0), denoiser.sigma(t0), denoiser.alpha(t1), denoiser.sigma(t1))
        guidance = denoiser.guidance if self.guidance is None else self.guidance
        e1 = denoiser.predict(batch.latents, t0, guidance)
        e2 = denoiser.predict(down_x * batch.latents + down_e * e1, t0, self.inversion_guidance)
        return a * batch.latents + b * e1 + c * e2

    def noise_calls(self, steps: int) -> int:
        return 2


@register("methods", "inversion_as_released")
class InversionAsReleased(Inversion):
    about: ClassVar[str] = "re-denoise sampling with the released code's scheduler shift (as coded, not as written)"
    as_released: ClassVar[bool] = True
