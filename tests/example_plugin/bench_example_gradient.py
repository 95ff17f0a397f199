"""A gradient method in a package of its own: one step of the initial noise up a metric's reward."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.methods.base import Method
from bench.registry import MetricName
from bench.sampling.records import GRADIENT, Nfe, Sampling, gradients

if TYPE_CHECKING:
    import torch

    from bench.sampling.session import Session


class Climb(Method):
    """The noise turned by `size` along the gradient of the reward of x_0 as one call estimates it."""

    about: ClassVar[str] = "one gradient step of the initial noise up a metric"
    cost: ClassVar[str] = "+1 call with its gradient, 1 decode, 1 metric"
    needs: ClassVar[frozenset[str]] = frozenset({GRADIENT})

    metric: MetricName
    size: float = Field(0.1, gt=0, le=1)

    def noise(self, s: Session, x: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.enable_grad():
            y = x.detach().requires_grad_()
            reward = s.reward(self.metric, s.decode(s.predict(y, s.timesteps[0], 1.0).x0))
            (g,) = torch.autograd.grad(reward.sum(), y)
        length = x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        moved = x + self.size * length * g / g.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
        return moved * length / moved.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    def noise_nfe(self, p: Sampling) -> Nfe:
        return gradients() + Nfe(decodes=1, rewards=1)
