"""alpha(t) and sigma(t) of a sampler's timesteps, and the two scales that latents come in.

Methods see canonical latents: x = alpha x_0 + sigma e with alpha^2 + sigma^2 = 1 (Ho et al. 2020, 2006.11239, eq. 4).
Schedulers of the Euler kind keep x_0 + s e with s = sigma / alpha (Karras et al. 2022, 2206.00364); the network reads
canonical latents in both cases.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.sampling.records import VELOCITY, check_prediction

if TYPE_CHECKING:
    import torch

    from bench.samplers.diffusers_schedulers import Sampler
    from bench.sampling.records import Sampling


class Schedule:
    """A sampler's timesteps at one step count. Places are counted from 0, the noisiest, to `len(self)`, the image."""

    def __init__(self, sampler: Sampler, config: Mapping[str, Any], p: Sampling, *, device: str = "cpu"):
        """`config` is the scheduler config that the model came with; UserError where the sampler cannot do `p`."""
        self.sampler, self.device = sampler, device
        sampler.check(p)
        self._scheduler = sampler.build({**config, **dict(p.settings)})
        self.prediction = check_prediction(self._scheduler.config, of=f"sampler {sampler.name!r}")
        if p.timesteps is None:
            self._scheduler.set_timesteps(p.steps, device=device)
        else:
            self._scheduler.set_timesteps(timesteps=list(p.timesteps), device=device)
        self.entries: list[float] = self._scheduler.timesteps.tolist()
        """Timestep of every denoiser call of the loop; a sampler of two calls a step has each step twice."""
        self.alphas_cumprod: list[float] = self._scheduler.alphas_cumprod.tolist()
        self.timesteps: list[float] = sampler.nodes(self._scheduler, self.entries)
        """Timesteps of whole steps, falling."""
        self._ratios = self._own_sigmas()

    def __len__(self) -> int:
        return len(self.timesteps)

    def _own_sigmas(self) -> dict[float, float]:
        """sigma / alpha by timestep where the scheduler keeps them; Karras sigmas lie between whole timesteps."""
        sigmas = getattr(self._scheduler, "sigmas", None)
        if sigmas is None or len(sigmas) != len(self.entries) + 1:
            return {}
        found: dict[float, float] = {}
        for t, sigma in zip(self.entries, sigmas.tolist(), strict=False):
            found.setdefault(t, sigma)
        return found

    def alpha(self, t: float) -> float:
        """Weight of the image at timestep t; a timestep of the network's own range."""
        if t in self._ratios:
            return 1.0 / math.sqrt(1.0 + self._ratios[t] ** 2)
        return float(self.alphas_cumprod[self._index(t)]) ** 0.5

    def sigma(self, t: float) -> float:
        """Weight of the noise at timestep t."""
        if t in self._ratios:
            return self._ratios[t] / math.sqrt(1.0 + self._ratios[t] ** 2)
        return (1.0 - float(self.alphas_cumprod[self._index(t)])) ** 0.5

    def _index(self, t: float) -> int:
        i = round(float(t))
        if not 0 <= i < len(self.alphas_cumprod):
            raise ValueError(f"timestep {t} is outside the model's [0, {len(self.alphas_cumprod) - 1}]")
        return i

    def at(self, i: int) -> tuple[float, float]:
        """(alpha, sigma) at place i; place `len(self)` is where the sampler's last step ends."""
        if i < len(self):
            return self.alpha(self.timesteps[i]), self.sigma(self.timesteps[i])
        last = getattr(self._scheduler, "final_alpha_cumprod", None)
        if last is None:
            return 1.0, 0.0
        return float(last) ** 0.5, (1.0 - float(last)) ** 0.5

    def stretch(self, i: int) -> float:
        """The scheduler's latents over canonical ones at place i, before that step."""
        if not self.sampler.variance_exploding or i >= len(self):
            return 1.0
        return 1.0 / self.alpha(self.timesteps[i])

    def scheduler(self) -> Any:
        """A scheduler of its own for one pass of the loop, at its first step."""
        return copy.deepcopy(self._scheduler)

    # What a network's output says -----------------------------------------------------------------------------------

    def noise_of(self, output: torch.Tensor, x: torch.Tensor, t: float) -> torch.Tensor:
        """The noise e in canonical x by a network's output; of a velocity, e = alpha v + sigma x (2202.00512, D)."""
        if self.prediction == VELOCITY:
            return self.alpha(t) * output + self.sigma(t) * x
        return output

    def output_of(self, eps: torch.Tensor, x: torch.Tensor, t: float) -> torch.Tensor:
        """What the network would have said for the noise to be `eps`: the inverse of `noise_of`."""
        if self.prediction == VELOCITY:
            return (eps - self.sigma(t) * x) / self.alpha(t)
        return eps


def move(alpha_from: float, sigma_from: float, alpha_to: float, sigma_to: float) -> tuple[float, float]:
    """DDIM move as coefficients (of x, of the noise prediction): x_to = c_x x_from + c_e e (2010.02502, eq. 13)."""
    ratio = alpha_to / alpha_from
    return ratio, sigma_to - sigma_from * ratio
