"""Re-denoise sampling, "inversion": one guided DDIM step down, one step back up at weak guidance.

Golden Noise (Zhou et al. 2024, 2411.09502), eq. 2 and 3 with T_max = 1. The move up has a closed form and never
depends on a scheduler's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.errors import UserError
from bench.methods.base import Method
from bench.registry import register
from bench.sampling.records import Nfe, Sampling, calls_at
from bench.sampling.schedule import Schedule, move

if TYPE_CHECKING:
    import torch

    from bench.sampling.session import Session


def first_two(schedule: Schedule) -> tuple[float, float]:
    """The timesteps between which the method moves; UserError where the sampler takes a single one."""
    if len(schedule.timesteps) < 2:
        raise UserError("inversion moves between a sampler's first two timesteps; it needs at least two steps, got one")
    return schedule.timesteps[0], schedule.timesteps[1]


def coefficients(schedule: Schedule, *, as_released: bool = False) -> tuple[float, float, float]:
    """A, B, C of x' = A x_T + B e1 + C e2 over the sampler's first two timesteps.

    `as_released`: diffusers' `DDIMInverseScheduler.step(e, t, x)` takes t as the destination since pull request
    5145 (2023), so the released code moves up from t1 - stride to t1 instead of from t1 to t0. A source before
    the first timestep is timestep 0, as diffusers has it with `set_alpha_to_one=False`.
    """
    t0, t1 = first_two(schedule)
    down_x, down_e = move(schedule.alpha(t0), schedule.sigma(t0), schedule.alpha(t1), schedule.sigma(t1))
    source, target = (max(t1 - (t0 - t1), 0), t1) if as_released else (t1, t0)
    up_x, up_e = move(schedule.alpha(source), schedule.sigma(source), schedule.alpha(target), schedule.sigma(target))
    return up_x * down_x, up_x * down_e, up_e


@register("methods", "inversion")
class Inversion(Method):
    """Both predictions are made at t0 (eq. 2); the second is the pure conditional one at guidance 1."""

    about: ClassVar[str] = "re-denoise sampling in closed form, T_max = 1"
    source: ClassVar[str] = "2411.09502, eq. 2"
    cost: ClassVar[str] = "+2 calls"
    as_released: ClassVar[bool] = False

    guidance: float | None = Field(None, ge=0, le=100)
    """Guidance of the step down; None takes the sampling guidance."""
    inversion_guidance: float = Field(1.0, ge=0, le=100)

    def noise(self, s: Session, x: torch.Tensor) -> torch.Tensor:
        t0, t1 = first_two(s.schedule)
        a, b, c = coefficients(s.schedule, as_released=self.as_released)
        down_x, down_e = move(s.schedule.alpha(t0), s.schedule.sigma(t0), s.schedule.alpha(t1), s.schedule.sigma(t1))
        e1 = s.predict(x, t0, self.guidance).eps
        e2 = s.predict(down_x * x + down_e * e1, t0, self.inversion_guidance).eps
        return a * x + b * e1 + c * e2

    def noise_nfe(self, p: Sampling) -> Nfe:
        return calls_at(p.scale if self.guidance is None else self.guidance) + calls_at(self.inversion_guidance)


@register("methods", "inversion_as_released")
class InversionAsReleased(Inversion):
    about: ClassVar[str] = "re-denoise sampling with the released code's scheduler shift (as coded, not as written)"
    source: ClassVar[str] = "xie-lab-ml/Golden-Noise-for-Diffusion-Models @ aa7103e"
    as_released: ClassVar[bool] = True
