"""The catalogue of samplers: data, not code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.registry import add_plugin

if TYPE_CHECKING:
    from bench.sampling.records import Sampling


def _n(n: int) -> int:
    return n


def _two_per_step(n: int) -> int:
    return 2 * n - 1


def _every(scheduler: Any, entries: Sequence[float]) -> list[float]:
    """One call a step; Karras sigmas, rounded to timesteps, may have one twice."""
    return list(entries)


def _distinct(scheduler: Any, entries: Sequence[float]) -> list[float]:
    """Heun and PNDM call twice at one timestep."""
    return list(dict.fromkeys(entries))


def _every_second(scheduler: Any, entries: Sequence[float]) -> list[float]:
    """KDPM2 interleaves each step with its midpoint."""
    return list(entries[::2])


def _without_midpoints(scheduler: Any, entries: Sequence[float]) -> list[float]:
    """PNDM's first steps are Runge-Kutta ones with midpoints; whole steps are those of its linear multistep."""
    kept = scheduler.__class__.from_config(scheduler.config, skip_prk_steps=True)
    kept.set_timesteps(scheduler.num_inference_steps)
    return list(dict.fromkeys(kept.timesteps.tolist()))


@lru_cache(maxsize=64)
def _made(scheduler: str, config: str) -> Any:
    """A scheduler as it is before its first use. KDPM2 takes 0.3 s for it, as much as a batch of a small model."""
    import diffusers

    return getattr(diffusers, scheduler).from_config(json.loads(config))


@dataclass(frozen=True)
class Sampler:
    """A diffusers scheduler, what is set on top of the model's own scheduler config, and its cost."""

    name: str
    scheduler: str
    """Class name in diffusers."""
    calls: Callable[[int], int] = _n
    """Denoiser calls for n steps; guidance doubles the batch, not the calls."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    stochastic: bool = False
    """Whether steps draw noise; each image then has a generator of its own."""
    fewest_steps: int = 1
    most_steps: int = 1000
    """Step counts at which the scheduler works and keeps to `calls`."""
    memoryless: bool = False
    """Whether a step depends on its own input alone: such a step may be taken again, or from other latents."""
    first_order: bool = False
    """Whether a step is DDIM's deterministic move; Euler's is the same one in other coordinates."""
    takes_timesteps: bool = False
    """Whether it works on a given list of timesteps."""
    variance_exploding: bool = False
    """Whether it keeps latents as x_0 + s e, which is what diffusers' schedulers of the Euler kind do."""
    nodes: Callable[[Any, Sequence[float]], list[float]] = _every
    """(scheduler, timestep of every call) to the timesteps of whole steps."""

    def build(self, config: Mapping[str, Any]) -> Any:
        """The scheduler, from the model's scheduler config; the sampler's own settings win over the model's."""
        # `trained_betas` may be an array.
        given = json.dumps({**config, **self.settings}, default=lambda array: array.tolist())
        return deepcopy(_made(self.scheduler, given))

    def check_steps(self, steps: int) -> None:
        """UserError for a step count that the scheduler cannot do."""
        if not self.fewest_steps <= steps <= self.most_steps:
            raise UserError(
                f"sampler {self.name!r} takes {self.fewest_steps} to {self.most_steps} steps, not {steps}; "
                "give other steps, or another sampler"
            )

    def check(self, p: Sampling) -> None:
        """UserError where the sampler cannot do what is asked."""
        self.check_steps(p.steps)
        if p.timesteps is not None and not self.takes_timesteps:
            able = ", ".join(s.name for s in _SAMPLERS if s.takes_timesteps)
            raise UserError(f"sampler {self.name!r} takes no list of timesteps; give one of {able}")

    def identity(self) -> dict[str, Any]:
        """What enters the job id."""
        how = {"stochastic": self.stochastic, "variance_exploding": self.variance_exploding}
        return {"scheduler": self.scheduler, "settings": dict(self.settings), **how}


# DPMSolverSDE is not here: its Brownian tree is one for the whole batch, so the batch would decide pixels.
# clip_sample's class default True would clamp latents; leading spacing and offset 1 come from the model's config.
_PLAIN = {"clip_sample": False}
# A model's config may ask for sigmas of its own; a sampler's name says which it has.
_SIGMAS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_LU = {**_SIGMAS, "use_lu_lambdas": False, "use_flow_sigmas": False}
_FLOW = {**_SIGMAS, "use_flow_sigmas": False}
_DPMPP = {"algorithm_type": "dpmsolver++", "solver_order": 2, **_LU}

_SAMPLERS = (
    Sampler(
        "ddim",
        "DDIMScheduler",
        settings={**_PLAIN, "set_alpha_to_one": False},
        memoryless=True,
        first_order=True,
    ),
    Sampler("ddpm", "DDPMScheduler", settings=_PLAIN, stochastic=True, memoryless=True, takes_timesteps=True),
    Sampler("dpmpp_2m", "DPMSolverMultistepScheduler", settings=_DPMPP, takes_timesteps=True),
    Sampler("dpmpp_2m_karras", "DPMSolverMultistepScheduler", settings={**_DPMPP, "use_karras_sigmas": True}),
    Sampler("unipc", "UniPCMultistepScheduler", settings=_FLOW),
    Sampler("deis", "DEISMultistepScheduler", settings=_FLOW),
    # Its steps draw noise at eta > 0 only, and the pipelines pass eta = 0.
    Sampler("tcd", "TCDScheduler", settings=_PLAIN, most_steps=50, memoryless=True, takes_timesteps=True),
    Sampler(
        "lcm", "LCMScheduler", settings=_PLAIN, stochastic=True, most_steps=50, memoryless=True, takes_timesteps=True
    ),
    Sampler("sa_solver", "SASolverScheduler", stochastic=True, settings=_FLOW),
    Sampler(
        "euler",
        "EulerDiscreteScheduler",
        settings=_SIGMAS,
        memoryless=True,
        first_order=True,
        takes_timesteps=True,
        variance_exploding=True,
    ),
    Sampler("euler_a", "EulerAncestralDiscreteScheduler", stochastic=True, memoryless=True, variance_exploding=True),
    Sampler("lms", "LMSDiscreteScheduler", settings=_SIGMAS, variance_exploding=True),
    Sampler(
        "pndm",
        "PNDMScheduler",
        lambda n: n + 1,
        {"skip_prk_steps": True, "set_alpha_to_one": False},
        fewest_steps=2,
        nodes=_distinct,
    ),
    Sampler(
        "pndm_prk",
        "PNDMScheduler",
        lambda n: n + 9,
        {"skip_prk_steps": False, "set_alpha_to_one": False},
        fewest_steps=4,
        nodes=_without_midpoints,
    ),
    Sampler("heun", "HeunDiscreteScheduler", _two_per_step, settings=_SIGMAS, variance_exploding=True, nodes=_distinct),
    Sampler(
        "kdpm2",
        "KDPM2DiscreteScheduler",
        _two_per_step,
        settings=_SIGMAS,
        variance_exploding=True,
        nodes=_every_second,
    ),
    Sampler(
        "kdpm2_a",
        "KDPM2AncestralDiscreteScheduler",
        _two_per_step,
        settings=_SIGMAS,
        stochastic=True,
        variance_exploding=True,
        nodes=_every_second,
    ),
)
for _sampler in _SAMPLERS:
    add_plugin("samplers", _sampler.name, _sampler, "bench")
