"""A teacher that climbs: gradient ascent of a differentiable metric with respect to the source noise.

The gradient runs backwards through the scorer, the VAE's decoder and a short DDIM sampling. So do DOODL (Wallace et
al. 2023, 2303.13703), which sets the noise back to its old length after each step, ReNO (Eyring et al. 2024,
2406.04312), which climbs preference models through a one-step generator and holds the length near a Gaussian's by a
penalty, and D-Flow (Ben-Hamu et al. 2024, 2402.14017) for any cost. Here the length is kept exactly: every step is a
rotation, along the great circle through the noise and its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench.errors import UserError
from bench.metrics.base import Differentiable
from bench.moved import by_former_names, by_todays_names
from bench.sampling.schedule import move

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.metrics.base import Scorer
    from bench.sampling.session import Session
    from npnet.teachers.work import Work


class Ascent(BaseModel):
    """The target is the source noise after `steps` rotations of `size` radians, each towards a metric's gradient.

    The gradient is that of one pair's own image, so the rest of the batch does not matter, and only its direction
    counts, so neither does the metric's unit. A pair whose gradient vanishes, or is not finite, stays where it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: ClassVar[str] = "1"
    renamed: ClassVar[Mapping[str, str]] = {"through": "backprop_steps"}
    """Former names of parameters; the protocols of collections keep them."""

    metric: str = "hpsv2"
    """What is climbed; its scorer has to be `bench.metrics.base.Differentiable`."""
    steps: int = Field(default=5, ge=1, le=1000)
    """Gradients taken for a pair."""
    size: float = Field(default=0.05, gt=0, le=math.pi / 2)
    """Radians a step."""
    backprop_steps: int = Field(default=4, ge=1, le=1000)
    """Denoiser calls from noise to image, at most the collection's steps; 1 is the estimate of x_0 in one step."""

    @property
    def judge(self) -> str | None:
        return self.metric

    @model_validator(mode="before")
    @classmethod
    def _by_todays_names(cls, given: Any) -> Any:
        return by_todays_names(given, cls.renamed)

    def identity(self) -> dict[str, Any]:
        """What enters the collection's protocol."""
        return {**by_former_names(self.model_dump(mode="json"), self.renamed), "version": self.version}

    def check_steps(self, steps: int) -> None:
        """UserError where a collection of so many sampling steps is too short."""
        if self.backprop_steps > steps:
            raise UserError(
                f"teacher 'ascent': backprop_steps is {self.backprop_steps}, and the collection samples in {steps} "
                f"steps; give at most {steps}"
            )

    def check_scorer(self, scorers: Mapping[str, Scorer]) -> None:
        """UserError where the metric has no gradient."""
        if not isinstance(scorers[self.metric], Differentiable):
            raise UserError(
                f"teacher 'ascent' climbs by a gradient, and metric {self.metric!r} has none (its scorer has no "
                "`differentiable`); give another metric, or teach with best_nearby, which needs scores only"
            )

    def teach(self, work: Work, images: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        """Target noise (B, C, h, w) and its images, sampled in full."""
        import torch

        with torch.enable_grad():
            session, target = work.session(), work.source
            for _ in range(self.steps):
                target = _rotated(target, self.gradient(session, target), self.size)
        return target, work.images(target, work.seeds, work.steps)

    def gradient(self, session: Session, noise: torch.Tensor) -> torch.Tensor:
        """d metric / d noise (B, C, h, w), uphill where less is better too."""
        import torch

        noise = noise.detach().requires_grad_()
        final = sampled(session, noise, self.backprop_steps)
        value = session.reward(self.metric, session.decode(final)).sum()
        (found,) = torch.autograd.grad(value, noise)
        return found


def sampled(session: Session, noise: torch.Tensor, calls: int) -> torch.Tensor:
    """x_0 (B, C, h, w) by DDIM over `calls` of the sampler's timesteps, the first among them, evenly spaced."""
    schedule, n = session.schedule, len(session.timesteps)
    taken = [session.timesteps[i * n // calls] for i in range(calls)]
    x = noise
    for i, t in enumerate(taken):
        to = (schedule.alpha(taken[i + 1]), schedule.sigma(taken[i + 1])) if i + 1 < calls else (1.0, 0.0)
        of_x, of_e = move(schedule.alpha(t), schedule.sigma(t), *to)
        x = of_x * x + of_e * session.predict(x, t).eps
    return x


def _rotated(noise: torch.Tensor, gradient: torch.Tensor, angle: float) -> torch.Tensor:
    """Each noise turned by `angle` towards its gradient, its length kept; where there is no direction, as it was."""
    import torch

    x, g = noise.detach().flatten(1).double(), gradient.detach().flatten(1).double()
    g = g / g.abs().amax(1, keepdim=True)  # a gradient in half precision may be tiny
    square = (x * x).sum(1, keepdim=True)
    g = g - x * (x * g).sum(1, keepdim=True) / square
    length = g.norm(dim=1, keepdim=True)
    turned = math.cos(angle) * x + math.sin(angle) * g * square.sqrt() / length
    sound = torch.isfinite(turned).all(1, keepdim=True) & (length > 0)
    return torch.where(sound, turned, x).float().reshape(noise.shape)
