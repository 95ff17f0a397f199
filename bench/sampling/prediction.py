"""What a denoiser says, and what a step is: the words that the loop and the methods share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch

    from bench.sampling.schedule import Schedule


class Prediction:
    """What the network says of canonical latents x (B, C, h, w) at timestep t, as noise; each part when asked for."""

    def __init__(
        self, schedule: Schedule, x: torch.Tensor, t: float, cond: torch.Tensor, uncond: torch.Tensor | None, g: float
    ):
        """`cond` and `uncond` are the network's own outputs, `g` the guidance of `eps`."""
        self._schedule, self._x, self._t, self._g = schedule, x, t, g
        self._cond, self._uncond = cond, uncond

    @property
    def cond(self) -> torch.Tensor:
        """The conditional noise prediction, fp32."""
        return self._schedule.noise_of(self._cond.float(), self._x, self._t)

    @property
    def uncond(self) -> torch.Tensor:
        """The unconditional noise prediction, fp32; ValueError where it was not computed."""
        if self._uncond is None:
            raise ValueError("no unconditional prediction at guidance 1; a method that reads it needs UNCONDITIONAL")
        return self._schedule.noise_of(self._uncond.float(), self._x, self._t)

    @property
    def eps(self) -> torch.Tensor:
        """The guided noise prediction u + g (c - u)."""
        if self._uncond is None or self._g == 1.0:
            return self.cond
        u, c = self.uncond, self.cond
        return u + self._g * (c - u)

    @property
    def x0(self) -> torch.Tensor:
        """The image that the guided prediction points to: (x - sigma e) / alpha."""
        return (self._x - self._schedule.sigma(self._t) * self.eps) / self._schedule.alpha(self._t)


class Step(NamedTuple):
    """Where a step ends, in canonical latents, and the prediction that it was taken by."""

    x: torch.Tensor
    pred: Prediction


class Next(Protocol):
    """The rest of a step: what the methods further in, and at last the sampler, make of canonical latents."""

    def __call__(self, x: torch.Tensor, i: int | None = None, /) -> Step:
        """Call i of the loop on x, by default the call that the step is for; another i needs MEMORYLESS."""
